//! A LoRA's file: which layers it changes, and the product that each change is.
//!
//! A change is `scale * (up @ down)`, where `scale` is alpha over the rank, and 1 without an alpha. Nothing
//! but names and shapes is read before a layer asks for its change.

use std::collections::BTreeMap;
use std::path::Path;

use seedfarm_numerics::matmul::{Strided, batched_matmul, batched_matmul_strided};

use super::keys::{self, Network, Role, Target};
use super::metadata::Metadata;
use crate::weights::WeightsFile;
use crate::{Error, Result};

/// Largest rank.
const MOST_RANK: usize = 2048;
/// Most tensors of one file; a LoRA of every layer of SDXL has about 6,000.
const MOST_TENSORS: usize = 100_000;

/// An open LoRA with every name understood and every shape held against the others.
pub(super) struct LoraFile {
    file: WeightsFile,
    layers: BTreeMap<Target, Factors>,
}

/// The tensors of one layer's change.
#[derive(Debug)]
struct Factors {
    down: Factor,
    up: Factor,
    mid: Option<Factor>,
    rank: usize,
    /// Alpha over the rank.
    scale: f64,
}

/// One tensor by its name, with its shape filled up to four dimensions.
#[derive(Debug, Clone)]
struct Factor {
    key: String,
    stored: Vec<usize>,
    shape: [usize; 4],
}

/// The names that one layer's tensors have.
#[derive(Default)]
struct Named {
    roles: BTreeMap<Role, String>,
    dotted: Option<String>,
}

impl LoraFile {
    /// Opens a file.
    ///
    /// Errors: a pickle; a tensor that is no LoRA's, by name; shapes that do not fit one another; a layer
    /// with half of its tensors or with two sets of them.
    pub fn open(path: &Path) -> Result<Self> {
        let file = WeightsFile::open(path)?;
        let metadata = Metadata::read(path)?;
        let mut named: BTreeMap<Target, Named> = BTreeMap::new();
        for (count, key) in file.names().enumerate() {
            if count == MOST_TENSORS {
                let reason = format!("holds more than {MOST_TENSORS} tensors");
                return Err(Error::Malformed { path: path.to_owned(), reason });
            }
            let parsed = keys::parse(key).map_err(|reason| file.fault(key, reason))?;
            let entry = named.entry(parsed.target).or_default();
            entry.dotted = entry.dotted.take().or(parsed.dotted);
            if let Some(other) = entry.roles.insert(parsed.role, key.to_owned()) {
                return Err(file.fault(key, format!("changes the same layer as '{other}'")));
            }
        }
        let mut layers = BTreeMap::new();
        for (target, named) in named {
            let factors = Factors::new(&file, &metadata, &target, &named)?;
            layers.insert(target, factors);
        }
        Ok(Self { file, layers })
    }

    /// The layers that it changes.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.layers.keys()
    }

    /// Width of the text that its UNet looks at, where it changes such a layer.
    pub fn text_width(&self) -> Option<usize> {
        let looks = |target: &Target| {
            target.network == Network::Unet
                && ["attn2_to_k", "attn2_to_v"].iter().any(|end| target.layer.ends_with(end))
        };
        self.layers.iter().find(|(target, _)| looks(target)).map(|(_, factors)| factors.down.shape[1])
    }

    /// Width of a text encoder, where it changes one of its queries.
    pub fn encoder_width(&self, encoder: usize) -> Option<usize> {
        let query = |target: &Target| {
            target.network == Network::Text(encoder) && target.layer.ends_with("self_attn_q_proj")
        };
        self.layers.iter().find(|(target, _)| query(target)).map(|(_, factors)| factors.down.shape[1])
    }

    /// An error about a layer's change, at one of its tensors.
    pub fn fault(&self, target: &Target, reason: String) -> Error {
        let key = self.layers.get(target).map_or(target.layer.as_str(), |factors| &factors.down.key);
        self.file.fault(key, reason)
    }

    /// An error about the file as a whole.
    pub fn whole_fault(&self, reason: String) -> Error {
        Error::Malformed { path: self.file.path().to_owned(), reason }
    }

    /// Adds the layer's change times `weight` to `values`, the layer's weight of this shape.
    ///
    /// Errors: a weight of another shape; a tensor that cannot be read or is not finite; a sum that is not.
    pub fn add_to(&self, target: &Target, weight: f64, shape: &[usize], values: &mut [f32]) -> Result<()> {
        let Some(factors) = self.layers.get(target) else { return Ok(()) };
        factors.check_layer(shape).map_err(|reason| self.fault(target, reason))?;
        let change = factors.product(&self.file)?;
        let scale = (weight * factors.scale) as f32;
        for (value, change) in values.iter_mut().zip(&change) {
            *value += scale * change;
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(self.fault(target, format!("with a factor of {scale} leaves the finite numbers")));
        }
        Ok(())
    }
}

impl Factor {
    fn new(file: &WeightsFile, key: &str) -> Result<Self> {
        let stored = file.shape(key).unwrap_or_default().to_vec();
        let shape = match stored[..] {
            [a, b] => [a, b, 1, 1],
            [a, b, c, d] => [a, b, c, d],
            _ => {
                return Err(
                    file.fault(key, format!("has shape {stored:?}: two or four dimensions are needed"))
                );
            }
        };
        if shape.contains(&0) {
            return Err(file.fault(key, format!("has shape {stored:?}, which is empty")));
        }
        Ok(Self { key: key.to_owned(), stored, shape })
    }

    fn values(&self, file: &WeightsFile) -> Result<Vec<f32>> {
        file.values(&self.key, &self.stored)
    }

    fn kernel(&self) -> [usize; 2] {
        [self.shape[2], self.shape[3]]
    }
}

impl Factors {
    fn new(file: &WeightsFile, metadata: &Metadata, target: &Target, named: &Named) -> Result<Self> {
        let any = named.roles.values().next().map_or("", String::as_str);
        let factor = |role| named.roles.get(&role).map(|key| Factor::new(file, key)).transpose();
        let missing = |what: &str| file.fault(any, format!("stands without its '{what}' tensor"));
        let down = factor(Role::Down)?.ok_or_else(|| missing("down"))?;
        let up = factor(Role::Up)?.ok_or_else(|| missing("up"))?;
        let mid = factor(Role::Mid)?;
        let rank = check_ranks(file, &down, &up, mid.as_ref())?;
        let scale = match named.roles.get(&Role::Alpha) {
            Some(key) => read_alpha(file, key)? / rank as f64,
            None => metadata.scale(target.network, named.dotted.as_deref(), rank),
        };
        Ok(Self { down, up, mid, rank, scale })
    }

    /// Whether the change has the shape of a layer's weight.
    fn check_layer(&self, shape: &[usize]) -> Result<(), String> {
        let outputs = self.up.shape[0];
        let inputs = self.down.shape[1];
        let kernel = self.mid.as_ref().unwrap_or(&self.down).kernel();
        let fits = match *shape {
            [o, i] => [o, i, 1, 1] == [outputs, inputs, kernel[0], kernel[1]],
            [o, i, h, w] => [o, i, h, w] == [outputs, inputs, kernel[0], kernel[1]],
            _ => false,
        };
        if fits {
            return Ok(());
        }
        let [h, w] = kernel;
        Err(format!(
            "makes a change of shape [{outputs}, {inputs}, {h}, {w}], but the model's layer has shape {shape:?}"
        ))
    }

    /// `up @ down`, with the kernel between them where there is one: `[outputs, inputs * kernel]`.
    fn product(&self, file: &WeightsFile) -> Result<Vec<f32>> {
        let up = self.up.values(file)?;
        let down = match &self.mid {
            Some(mid) => self.through(mid, file)?,
            None => self.down.values(file)?,
        };
        let (outputs, columns) = (self.up.shape[0], down.len() / self.rank);
        let mut change = vec![0.0; outputs * columns];
        batched_matmul(&up, &down, &mut change, 1, outputs, self.rank, columns)
            .map_err(candle_core::Error::wrap)?;
        Ok(change)
    }

    /// `mid @ down` for each place of the kernel, `[rank, inputs, height, width]`.
    fn through(&self, mid: &Factor, file: &WeightsFile) -> Result<Vec<f32>> {
        let (rank, inputs, taps) = (self.rank, self.down.shape[1], mid.shape[2] * mid.shape[3]);
        let (kernel, down) = (mid.values(file)?, self.down.values(file)?);
        let left = Strided { data: &kernel, batch_stride: 1, row_stride: rank * taps, column_stride: taps };
        let right = Strided { data: &down, batch_stride: 0, row_stride: inputs, column_stride: 1 };
        let mut planes = vec![0.0; taps * rank * inputs];
        batched_matmul_strided(&left, &right, &mut planes, taps, rank, rank, inputs)
            .map_err(candle_core::Error::wrap)?;
        let element = |index: usize| planes[(index % taps) * rank * inputs + index / taps];
        Ok((0..planes.len()).map(element).collect())
    }
}

/// The rank on which all of a layer's tensors agree.
fn check_ranks(file: &WeightsFile, down: &Factor, up: &Factor, mid: Option<&Factor>) -> Result<usize> {
    let rank = down.shape[0];
    if rank > MOST_RANK {
        return Err(file.fault(&down.key, format!("has rank {rank}, more than the limit of {MOST_RANK}")));
    }
    if up.shape[1] != rank || up.kernel() != [1, 1] {
        let reason =
            format!("has shape {:?}, which does not fit the rank {rank} of '{}'", up.stored, down.key);
        return Err(file.fault(&up.key, reason));
    }
    let Some(mid) = mid else { return Ok(rank) };
    if mid.shape[..2] != [rank, rank] || down.kernel() != [1, 1] {
        let reason = format!(
            "has shape {:?}, which does not fit '{}' of shape {:?}",
            mid.stored, down.key, down.stored
        );
        return Err(file.fault(&mid.key, reason));
    }
    Ok(rank)
}

fn read_alpha(file: &WeightsFile, key: &str) -> Result<f64> {
    let shape = file.shape(key).unwrap_or_default().to_vec();
    if shape.iter().any(|dim| *dim != 1) {
        return Err(file.fault(key, format!("has shape {shape:?}: one number is needed")));
    }
    Ok(f64::from(file.values(key, &shape)?[0]))
}
