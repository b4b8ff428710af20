//! What PEFT's configuration says of a LoRA, which diffusers writes beside its tensors.
//!
//! The safetensors header's `__metadata__` may hold `lora_adapter_metadata`: JSON whose keys begin with the
//! network, as in `unet.lora_alpha`. Files without it have an alpha of the rank, or tensors that say it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::Network;
use crate::{Error, Result};

/// The key in `__metadata__`.
const KEY: &str = "lora_adapter_metadata";
/// Longest header that is read, in bytes.
const MOST_HEADER_BYTES: u64 = 16 << 20;
/// PEFT's own default.
const DEFAULT_ALPHA: f64 = 8.0;
/// Alphas run from minus this to plus this.
const MOST_ALPHA: f64 = 1e6;
/// Marks of a regular expression, which a pattern of layers may be.
const EXPRESSION: &[char] = &['*', '+', '?', '[', ']', '(', ')', '{', '}', '|', '\\', '$'];

/// The alphas of each network.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    networks: BTreeMap<Network, Alphas>,
}

/// One network's configuration, as far as it scales.
#[derive(Debug)]
struct Alphas {
    alpha: f64,
    /// Alphas of layers by the end of their names.
    patterns: Vec<(String, f64)>,
    /// Whether the alpha is divided by the root of the rank.
    by_root: bool,
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: Option<BTreeMap<String, String>>,
}

impl Metadata {
    /// Reads the metadata of a file whose header has been validated.
    ///
    /// Errors: metadata that is not what PEFT writes, or asks for what is not supported.
    pub fn read(path: &Path) -> Result<Self> {
        let malformed = |reason: String| Error::Malformed { path: path.to_owned(), reason };
        let Some(text) = read_header(path)?.metadata.and_then(|mut metadata| metadata.remove(KEY)) else {
            return Ok(Self::default());
        };
        let values: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|error| malformed(format!("'{KEY}' in its metadata is not valid: {error}")))?;
        let mut networks = BTreeMap::new();
        for network in [Network::Unet, Network::Text(0), Network::Text(1)] {
            let prefix = format!("{}.", network.name());
            let own = |(key, value): (&String, &Value)| {
                Some((key.strip_prefix(&prefix)?.to_owned(), value.clone()))
            };
            let own: Map<String, Value> = values.iter().filter_map(own).collect();
            if !own.is_empty() {
                let alphas = Alphas::new(&own)
                    .map_err(|reason| malformed(format!("'{prefix}' in its metadata {reason}")))?;
                networks.insert(network, alphas);
            }
        }
        Ok(Self { networks })
    }

    /// The factor of a layer's change, for a layer without an alpha of its own.
    pub fn scale(&self, network: Network, layer: Option<&str>, rank: usize) -> f64 {
        let (Some(alphas), Some(layer)) = (self.networks.get(&network), layer) else { return 1.0 };
        let rank = rank as f64;
        alphas.of(layer) / if alphas.by_root { rank.sqrt() } else { rank }
    }
}

impl Alphas {
    fn new(values: &Map<String, Value>) -> Result<Self, String> {
        let on = |key: &str| values.get(key).and_then(Value::as_bool).unwrap_or(false);
        if on("use_dora") {
            return Err("asks for DoRA: only LoRA is supported".to_owned());
        }
        let alpha =
            values.get("lora_alpha").map_or(Ok(DEFAULT_ALPHA), |value| finite("lora_alpha", value))?;
        let patterns = match values.get("alpha_pattern") {
            Some(Value::Object(patterns)) => {
                patterns.iter().map(|(name, value)| pattern(name, value)).collect::<Result<_, _>>()?
            }
            None | Some(Value::Null) => Vec::new(),
            Some(other) => return Err(format!("has the alpha_pattern {other}: an object is needed")),
        };
        Ok(Self { alpha, patterns, by_root: on("use_rslora") })
    }

    /// The alpha of a layer: that of the first pattern which is its name or the end of it.
    fn of(&self, layer: &str) -> f64 {
        let fits = |(name, _): &&(String, f64)| match name.strip_prefix('^') {
            Some(whole) => layer == whole,
            None => {
                layer.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
        };
        self.patterns.iter().find(fits).map_or(self.alpha, |(_, alpha)| *alpha)
    }
}

fn pattern(name: &str, value: &Value) -> Result<(String, f64), String> {
    if name.contains(EXPRESSION) {
        return Err(format!("has the alpha_pattern '{name}': only names of layers are supported"));
    }
    Ok((name.strip_prefix("text_model.").unwrap_or(name).to_owned(), finite("alpha_pattern", value)?))
}

fn finite(key: &str, value: &Value) -> Result<f64, String> {
    match value.as_f64() {
        Some(number) if (-MOST_ALPHA..=MOST_ALPHA).contains(&number) => Ok(number),
        _ => Err(format!("has the {key} {value}: a number within {MOST_ALPHA} of zero is needed")),
    }
}

fn read_header(path: &Path) -> Result<Header> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(io)?;
    let mut json = Vec::new();
    file.take(u64::from_le_bytes(length).min(MOST_HEADER_BYTES)).read_to_end(&mut json).map_err(io)?;
    serde_json::from_slice(&json).map_err(|error| Error::Malformed {
        path: path.to_owned(),
        reason: format!("the header is not valid: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alphas(value: Value) -> Result<Alphas, String> {
        Alphas::new(value.as_object().unwrap())
    }

    #[test]
    fn the_first_pattern_that_ends_a_layers_name_gives_its_alpha() {
        let alphas =
            alphas(json!({"lora_alpha": 4, "alpha_pattern": {"attn1.to_q": 2, "^mid_block.to_q": 3}}))
                .unwrap();
        assert_eq!(alphas.of("down_blocks.0.attn1.to_q"), 2.0);
        assert_eq!(alphas.of("mid_block.to_q"), 3.0);
        assert_eq!(alphas.of("up.mid_block.to_q"), 4.0);
        assert_eq!(alphas.of("xattn1.to_q"), 4.0);
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for (value, reason) in [
            (json!({"use_dora": true}), "DoRA"),
            (json!({"lora_alpha": 1e300}), "1e+300"),
            (json!({"lora_alpha": "4"}), "lora_alpha"),
            (json!({"alpha_pattern": {".*to_q": 3}}), ".*to_q"),
            (json!({"alpha_pattern": 3}), "an object"),
        ] {
            assert!(alphas(value.clone()).unwrap_err().contains(reason), "{value}");
        }
    }

    #[test]
    fn the_alpha_is_divided_by_the_rank_or_its_root() {
        let plain =
            Metadata { networks: [(Network::Unet, alphas(json!({"lora_alpha": 6})).unwrap())].into() };
        assert_eq!(plain.scale(Network::Unet, Some("conv_in"), 4), 1.5);
        assert_eq!(plain.scale(Network::Text(0), Some("conv_in"), 4), 1.0);
        let root = alphas(json!({"lora_alpha": 6, "use_rslora": true})).unwrap();
        let root = Metadata { networks: [(Network::Unet, root)].into() };
        assert_eq!(root.scale(Network::Unet, Some("conv_in"), 4), 3.0);
    }
}
