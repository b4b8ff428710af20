//! The layout of a model folder as diffusers writes it: which file is which part.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::ConfigFile;
use crate::{Error, Result};

/// The parts that enter the pixels, with the classes that are computed here.
const PARTS: [(&str, &[&str]); 4] = [
    ("text_encoder", &["CLIPTextModel"]),
    ("tokenizer", &["CLIPTokenizer", "CLIPTokenizerFast"]),
    ("unet", &["UNet2DConditionModel"]),
    ("vae", &["AutoencoderKL"]),
];
/// Names of weights, the preferred first, with the two stems that diffusers and transformers use.
const WEIGHTS: [(&str, &[&str]); 3] = [
    ("text_encoder", &["model.safetensors", "model.fp16.safetensors"]),
    ("unet", &["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"]),
    ("vae", &["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"]),
];
/// Small files beside the vocabulary, which may be absent.
const TOKENIZER_OPTIONS: [&str; 2] = ["special_tokens_map.json", "tokenizer_config.json"];

/// A model folder whose parts have been found.
pub(crate) struct ModelFolder {
    root: PathBuf,
    weights: BTreeMap<&'static str, &'static str>,
}

impl ModelFolder {
    /// Finds the parts of a folder.
    ///
    /// Errors: a missing part, weights that are pickles, a pipeline or a class that is not computed here.
    pub fn open(root: &Path) -> Result<Self> {
        refuse_single_file(root)?;
        let index = ConfigFile::read(&root.join("model_index.json"))?;
        index.only("_class_name", &[Value::from("StableDiffusionPipeline")])?;
        for (part, classes) in PARTS {
            check_class(&index, part, classes)?;
        }
        let find = |(part, names): &(&'static str, &[&'static str])| {
            Ok((*part, find_weights(&root.join(part), names)?))
        };
        Ok(Self { root: root.to_owned(), weights: WEIGHTS.iter().map(find).collect::<Result<_>>()? })
    }

    /// A part's weights.
    pub fn weights(&self, part: &str) -> PathBuf {
        self.root.join(part).join(self.weights[part])
    }

    pub fn text_encoder_config(&self) -> PathBuf {
        self.root.join("text_encoder/config.json")
    }

    pub fn unet_config(&self) -> PathBuf {
        self.root.join("unet/config.json")
    }

    pub fn vae_config(&self) -> PathBuf {
        self.root.join("vae/config.json")
    }

    pub fn scheduler_config(&self) -> PathBuf {
        self.root.join("scheduler/scheduler_config.json")
    }

    pub fn tokenizer(&self) -> PathBuf {
        self.root.join("tokenizer")
    }

    /// The files of each component, by the component's folder.
    pub fn components(&self) -> BTreeMap<&'static str, Vec<&'static str>> {
        let with_config =
            |(part, weights): (&&'static str, &&'static str)| (*part, vec!["config.json", *weights]);
        let mut components: BTreeMap<_, _> = self.weights.iter().map(with_config).collect();
        components.insert("tokenizer", self.tokenizer_files());
        components
    }

    /// Bytes of all weights.
    pub fn weights_bytes(&self) -> Result<u64> {
        let size = |part: &&'static str| {
            let path = self.weights(part);
            std::fs::metadata(&path).map(|data| data.len()).map_err(|source| Error::Io { path, source })
        };
        self.weights.keys().map(size).sum()
    }

    fn tokenizer_files(&self) -> Vec<&'static str> {
        let there = |name: &&'static str| self.tokenizer().join(name).is_file();
        let vocabulary =
            if there(&"tokenizer.json") { vec!["tokenizer.json"] } else { vec!["vocab.json", "merges.txt"] };
        vocabulary.into_iter().chain(TOKENIZER_OPTIONS.into_iter().filter(there)).collect()
    }
}

/// Checkpoints of one file are another layout; say so rather than that a folder is missing.
fn refuse_single_file(root: &Path) -> Result<()> {
    if !root.is_file() {
        return Ok(());
    }
    if is_pickle(root) {
        return Err(Error::Pickle { path: root.to_owned() });
    }
    let reason = "is a single file: give a folder in the layout that diffusers writes".to_owned();
    Err(Error::Malformed { path: root.to_owned(), reason })
}

fn is_pickle(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["bin", "ckpt", "pt", "pth", "pkl"].contains(&extension)
}

/// `model_index.json` names a library and a class for each part.
fn check_class(index: &ConfigFile, part: &str, classes: &[&str]) -> Result<()> {
    let class = index.get(part).and_then(|value| value.get(1)).and_then(Value::as_str);
    match class {
        Some(class) if classes.contains(&class) => Ok(()),
        Some(class) => {
            Err(index.fault(part, format!("is a {class}: only {} is supported", classes.join(" or "))))
        }
        None => Err(index.fault(part, "is missing")),
    }
}

fn find_weights(folder: &Path, names: &[&'static str]) -> Result<&'static str> {
    if let Some(name) = names.iter().find(|name| folder.join(name).is_file()) {
        return Ok(name);
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    match entries.map(|entry| entry.path()).find(|path| is_pickle(path)) {
        Some(path) => Err(Error::Pickle { path }),
        None => Err(Error::Missing { path: folder.join(names[0]) }),
    }
}
