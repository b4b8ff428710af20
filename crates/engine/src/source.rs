//! Where a model comes from: a folder in the layout that diffusers writes, or a checkpoint in one file.
//!
//! Both give the same things: for each part a configuration with the keys of diffusers and weights under
//! the names of diffusers. What loads a part never asks which of the two it was.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::checkpoint::{self, Checkpoint};
use crate::config::ConfigFile;
use crate::folder::ModelFolder;
use crate::weights::WeightsFile;

/// One part of a model, by its folder's name in a pipeline of diffusers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    TextEncoder,
    /// The second text encoder, of Stable Diffusion XL alone.
    TextEncoder2,
    Tokenizer,
    /// The second text encoder's.
    Tokenizer2,
    Unet,
    Vae,
    Scheduler,
}

impl Part {
    /// The folder's name, which names the component in a recipe too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TextEncoder => "text_encoder",
            Self::TextEncoder2 => "text_encoder_2",
            Self::Tokenizer => "tokenizer",
            Self::Tokenizer2 => "tokenizer_2",
            Self::Unet => "unet",
            Self::Vae => "vae",
            Self::Scheduler => "scheduler",
        }
    }
}

/// The architectures that are computed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Stable Diffusion 1 and 2: one text encoder.
    StableDiffusion,
    /// Stable Diffusion XL: two text encoders, a pooled text and the picture's sizes.
    StableDiffusionXl,
}

impl Family {
    /// The family's name in a manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StableDiffusion => "stable-diffusion",
            Self::StableDiffusionXl => "stable-diffusion-xl",
        }
    }

    /// The parts with weights.
    pub const fn weighted_parts(self) -> &'static [Part] {
        match self {
            Self::StableDiffusion => &[Part::TextEncoder, Part::Unet, Part::Vae],
            Self::StableDiffusionXl => &[Part::TextEncoder, Part::TextEncoder2, Part::Unet, Part::Vae],
        }
    }

    /// The parts that turn text into tokens.
    pub const fn tokenizers(self) -> &'static [Part] {
        match self {
            Self::StableDiffusion => &[Part::Tokenizer],
            Self::StableDiffusionXl => &[Part::Tokenizer, Part::Tokenizer2],
        }
    }
}

/// Where a tokenizer's vocabulary and settings are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenizerSource {
    /// A folder with `tokenizer.json`, or with `vocab.json` and `merges.txt`.
    Folder(PathBuf),
    /// CLIP's own vocabulary, which is built in, with the token that fills a window.
    BuiltIn { padding: &'static str },
}

/// A model whose parts have been found, and nothing loaded.
pub(crate) enum ModelSource {
    /// A folder in the layout of diffusers.
    Folder(ModelFolder),
    /// One file with the names of the program that trained it.
    Checkpoint(Box<Checkpoint>),
}

impl ModelSource {
    /// Finds the parts of a model, a folder or a file.
    ///
    /// Errors: a missing part, weights that are pickles, a pipeline or a class that is not computed here, a
    /// file that is no checkpoint.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_file() {
            checkpoint::check_name(path)?;
            return Ok(Self::Checkpoint(Box::new(Checkpoint::open(path)?)));
        }
        Ok(Self::Folder(ModelFolder::open(path)?))
    }

    /// The architecture.
    pub fn family(&self) -> Family {
        match self {
            Self::Folder(folder) => folder.family(),
            Self::Checkpoint(checkpoint) => checkpoint.family(),
        }
    }

    /// A part's configuration, with the keys of diffusers. Tokenizers have none.
    pub fn config(&self, part: Part) -> Result<ConfigFile> {
        match self {
            Self::Folder(folder) => folder.config(part),
            Self::Checkpoint(checkpoint) => checkpoint.config(part),
        }
    }

    /// A part's weights, under the names of diffusers. Tokenizers and schedulers have none.
    pub fn weights(&self, part: Part) -> Result<WeightsFile> {
        match self {
            Self::Folder(folder) => WeightsFile::open(&folder.weights(part)),
            Self::Checkpoint(checkpoint) => checkpoint.weights(part),
        }
    }

    /// What one of [`Family::tokenizers`] is read from.
    pub fn tokenizer(&self, part: Part) -> TokenizerSource {
        match self {
            Self::Folder(folder) => TokenizerSource::Folder(folder.part(part)),
            Self::Checkpoint(checkpoint) => TokenizerSource::BuiltIn { padding: checkpoint.padding(part) },
        }
    }

    /// A small decoder for previews, where one lies with the model: in a folder, `taesd/` as diffusers writes
    /// it or `taesd_decoder.safetensors`; beside `NAME.safetensors`, `NAME.taesd_decoder.safetensors`.
    pub fn preview_decoder(&self) -> Option<PathBuf> {
        let there = |path: PathBuf| path.exists().then_some(path);
        match self {
            Self::Folder(folder) => {
                there(folder.path("taesd")).or_else(|| there(folder.path("taesd_decoder.safetensors")))
            }
            Self::Checkpoint(checkpoint) => {
                there(checkpoint.path().with_extension("taesd_decoder.safetensors"))
            }
        }
    }

    /// Whether an empty negative prompt is shown to the UNet as zeros: `force_zeros_for_empty_prompt` of
    /// Stable Diffusion XL, which every published checkpoint of it was made with.
    pub fn zeros_for_empty_prompt(&self) -> Result<bool> {
        match self {
            Self::Folder(folder) => folder.zeros_for_empty_prompt(),
            Self::Checkpoint(checkpoint) => Ok(checkpoint.family() == Family::StableDiffusionXl),
        }
    }
}
