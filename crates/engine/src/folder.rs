//! The layout of a model folder as diffusers writes it: which file is which part.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::ConfigFile;
use crate::source::{Family, Part};
use crate::weights::listed_files;
use crate::{Error, Result};

/// The pipelines whose parts are computed here. What is done with the parts, the recipe says.
const PIPELINES: [(&str, Family); 8] = [
    ("StableDiffusionPipeline", Family::StableDiffusion),
    ("StableDiffusionImg2ImgPipeline", Family::StableDiffusion),
    ("StableDiffusionInpaintPipeline", Family::StableDiffusion),
    ("LatentConsistencyModelPipeline", Family::StableDiffusion),
    ("LatentConsistencyModelImg2ImgPipeline", Family::StableDiffusion),
    ("StableDiffusionXLPipeline", Family::StableDiffusionXl),
    ("StableDiffusionXLImg2ImgPipeline", Family::StableDiffusionXl),
    ("StableDiffusionXLInpaintPipeline", Family::StableDiffusionXl),
];
/// Small files beside the vocabulary, which may be absent.
const TOKENIZER_OPTIONS: [&str; 2] = ["special_tokens_map.json", "tokenizer_config.json"];

/// The classes of a part that are computed here.
const fn classes(part: Part) -> &'static [&'static str] {
    match part {
        Part::TextEncoder => &["CLIPTextModel"],
        Part::TextEncoder2 => &["CLIPTextModelWithProjection"],
        Part::Tokenizer | Part::Tokenizer2 => &["CLIPTokenizer", "CLIPTokenizerFast"],
        Part::Unet => &["UNet2DConditionModel"],
        Part::Vae => &["AutoencoderKL"],
        Part::Scheduler => &[],
    }
}

/// How the weights of a part are called, before `.safetensors`.
const fn stem(part: Part) -> &'static str {
    match part {
        Part::TextEncoder | Part::TextEncoder2 => "model",
        _ => "diffusion_pytorch_model",
    }
}

/// A model folder whose parts have been found.
pub(crate) struct ModelFolder {
    root: PathBuf,
    index: ConfigFile,
    family: Family,
    weights: BTreeMap<Part, String>,
}

impl ModelFolder {
    /// Finds the parts of a folder.
    ///
    /// Errors: a missing part, weights that are pickles, a pipeline or a class that is not computed here.
    pub fn open(root: &Path) -> Result<Self> {
        let index = ConfigFile::read(&root.join("model_index.json"))?;
        let family = family(&index)?;
        for part in family.weighted_parts().iter().chain(family.tokenizers()) {
            check_class(&index, *part)?;
        }
        // Refiners and some fine-tuned models ask for one more number beside the picture's sizes.
        index.only("requires_aesthetics_score", &[Value::Bool(false)])?;
        let find = |part: &Part| Ok((*part, find_weights(&root.join(part.name()), stem(*part))?));
        let weights = family.weighted_parts().iter().map(find).collect::<Result<_>>()?;
        Ok(Self { root: root.to_owned(), index, family, weights })
    }

    /// The architecture, as the pipeline's name tells it.
    pub fn family(&self) -> Family {
        self.family
    }

    /// A file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A part's folder.
    pub fn part(&self, part: Part) -> PathBuf {
        self.root.join(part.name())
    }

    /// A part's weights, or their index where they lie in several files.
    pub fn weights(&self, part: Part) -> PathBuf {
        self.part(part).join(&self.weights[&part])
    }

    /// A part's configuration.
    pub fn config(&self, part: Part) -> Result<ConfigFile> {
        let name = if part == Part::Scheduler { "scheduler_config.json" } else { "config.json" };
        ConfigFile::read(&self.part(part).join(name))
    }

    /// What `force_zeros_for_empty_prompt` says; Stable Diffusion XL alone has it.
    pub fn zeros_for_empty_prompt(&self) -> Result<bool> {
        let xl = self.family == Family::StableDiffusionXl;
        Ok(self.index.flag("force_zeros_for_empty_prompt", xl)? && xl)
    }

    /// The files of each component, by the component's folder.
    pub fn components(&self) -> Result<BTreeMap<&'static str, Vec<String>>> {
        let mut components = BTreeMap::new();
        for part in self.weights.keys() {
            let files = std::iter::once("config.json".to_owned()).chain(self.weights_files(*part)?);
            components.insert(part.name(), files.collect());
        }
        for part in self.family.tokenizers() {
            components.insert(part.name(), self.tokenizer_files(*part));
        }
        Ok(components)
    }

    /// Bytes of all weights.
    pub fn weights_bytes(&self) -> Result<u64> {
        let mut bytes = 0_u64;
        for part in self.weights.keys() {
            for file in self.weights_files(*part)? {
                let path = self.part(*part).join(file);
                let data = std::fs::metadata(&path).map_err(|source| Error::Io { path, source })?;
                bytes = bytes.saturating_add(data.len());
            }
        }
        Ok(bytes)
    }

    /// The names of the files with a part's weights, their index first.
    fn weights_files(&self, part: Part) -> Result<Vec<String>> {
        let name = self.weights[&part].clone();
        let listed = if is_index(&name) { listed_files(&self.weights(part))? } else { Vec::new() };
        Ok(std::iter::once(name).chain(listed).collect())
    }

    fn tokenizer_files(&self, part: Part) -> Vec<String> {
        let there = |name: &&'static str| self.part(part).join(name).is_file();
        let vocabulary =
            if there(&"tokenizer.json") { vec!["tokenizer.json"] } else { vec!["vocab.json", "merges.txt"] };
        let options = TOKENIZER_OPTIONS.into_iter().filter(there);
        vocabulary.into_iter().chain(options).map(str::to_owned).collect()
    }
}

/// Whether the name is that of a file which can run code when it is read.
pub(crate) fn is_pickle(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["bin", "ckpt", "pt", "pth", "pkl"].contains(&extension.to_ascii_lowercase().as_str())
}

fn is_index(name: &str) -> bool {
    name.ends_with(".json")
}

fn family(index: &ConfigFile) -> Result<Family> {
    let name = index.text("_class_name", "")?;
    let known = PIPELINES.iter().find(|(known, _)| *known == name);
    known.map(|(_, family)| *family).ok_or_else(|| {
        let known: Vec<&str> = PIPELINES.iter().map(|(known, _)| *known).collect();
        index.fault("_class_name", format!("is '{name}': {} are supported", known.join(", ")))
    })
}

/// `model_index.json` names a library and a class for each part.
fn check_class(index: &ConfigFile, part: Part) -> Result<()> {
    let classes = classes(part);
    let class = index.get(part.name()).and_then(|value| value.get(1)).and_then(Value::as_str);
    match class {
        Some(class) if classes.contains(&class) => Ok(()),
        Some(class) => {
            Err(index.fault(part.name(), format!("is a {class}: only {} is supported", classes.join(" or "))))
        }
        None => Err(index.fault(part.name(), "is missing")),
    }
}

/// The name of a part's weights in its folder, or of their index where they lie in several files. Weights
/// in full precision are preferred to the variant `fp16`.
///
/// Errors: no weights, or only pickles.
pub(crate) fn find_weights(folder: &Path, stem: &str) -> Result<String> {
    let names = ["safetensors", "safetensors.index.json", "fp16.safetensors", "safetensors.index.fp16.json"]
        .map(|ending| format!("{stem}.{ending}"));
    if let Some(name) = names.iter().find(|name| folder.join(name).is_file()) {
        return Ok(name.clone());
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    match entries.map(|entry| entry.path()).find(|path| is_pickle(path)) {
        Some(path) => Err(Error::Pickle { path }),
        None => Err(Error::Missing { path: folder.join(&names[0]) }),
    }
}
