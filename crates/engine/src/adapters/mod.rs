//! Files that change a model: LoRAs, which are merged into its weights while they load, and textual
//! inversions, which teach its text encoders words.
//!
//! The files are hostile. A LoRA is used whole or refused: a tensor that changes no layer of the model is an
//! error that names it.

mod describe;
mod embedding;
mod family;
mod keys;
mod lora;
mod metadata;
mod old_names;
#[cfg(test)]
mod parity_tests;
mod patches;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::rc::Rc;

use seedfarm_core::recipe::{self, Extras};
use seedfarm_core::{AdapterDigest, AdapterKind};

pub use self::describe::describe_adapter;
use self::describe::digest_of;
pub(crate) use self::patches::Patches;

use self::describe::refuse_pickle;
use self::embedding::EmbeddingFile;
use self::family::of_text;
use self::keys::Network;
use self::lora::LoraFile;
use self::old_names::Blocks;
use crate::config::unet::UnetConfig;
use crate::{Error, Result};

/// Files that change a model as it is loaded.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Adapters {
    /// LoRAs, in the order in which they are merged.
    pub loras: Vec<Lora>,
    /// Textual inversions.
    pub embeddings: Vec<Embedding>,
    /// Folders of ControlNets.
    pub controls: BTreeMap<AdapterDigest, PathBuf>,
}

/// A LoRA and how strongly it is merged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lora {
    /// Its file.
    pub path: PathBuf,
    /// The factor of its changes to the UNet; 0 leaves them out.
    pub weight: f64,
    /// The factor of its changes to the text encoders; 0 leaves them out.
    pub text_weight: f64,
}

/// A textual inversion and the word that stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Embedding {
    /// The word in prompts.
    pub trigger: String,
    /// Its file.
    pub path: PathBuf,
}

/// The sizes of a model that adapters must fit.
pub(crate) struct ModelShape<'a> {
    pub unet: &'a UnetConfig,
    /// Width of each text encoder.
    pub text_widths: &'a [usize],
}

/// What adapters do to the parts of one model.
pub(crate) struct OpenAdapters {
    /// Changes to the UNet's weights.
    pub unet: Patches,
    /// Changes to each text encoder's weights.
    pub texts: Vec<Patches>,
    /// Words with their vectors, for each text encoder.
    pub words: Vec<Vec<(String, Vec<Vec<f32>>)>>,
}

impl Adapters {
    /// The adapters that a recipe names, from where `paths` says they are.
    ///
    /// Errors: one that is not in `paths` or whose bytes have another digest.
    pub(crate) fn of(extras: &Extras, paths: &HashMap<AdapterDigest, PathBuf>) -> Result<Self> {
        let lora = |lora: &recipe::Lora| {
            let path = find(paths, AdapterKind::Lora, lora.digest)?;
            Ok(Lora { path, weight: lora.weight, text_weight: lora.text_weight })
        };
        let embedding = |(trigger, digest): (&String, &AdapterDigest)| {
            Ok(Embedding { trigger: trigger.clone(), path: find(paths, AdapterKind::Embedding, *digest)? })
        };
        let control = |control: &recipe::Control| {
            Ok((control.model, find(paths, AdapterKind::Control, control.model)?))
        };
        Ok(Self {
            loras: extras.loras.iter().map(lora).collect::<Result<_>>()?,
            embeddings: extras.embeddings.iter().map(embedding).collect::<Result<_>>()?,
            controls: extras.controls.iter().map(control).collect::<Result<_>>()?,
        })
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.loras.is_empty() && self.embeddings.is_empty() && self.controls.is_empty()
    }

    /// Opens every file and holds it against the model.
    ///
    /// Errors: a pickle; a file that is not what it is used as; one that was made for another family of models;
    /// a weight that is not finite.
    pub(crate) fn open(&self, model: &ModelShape<'_>) -> Result<OpenAdapters> {
        let encoders = model.text_widths.len();
        let mut open = OpenAdapters {
            unet: Patches::default(),
            texts: (0..encoders).map(|_| Patches::default()).collect(),
            words: vec![Vec::new(); encoders],
        };
        for lora in &self.loras {
            open.add_lora(lora, model)?;
        }
        for embedding in &self.embeddings {
            open.add_embedding(embedding, model)?;
        }
        Ok(open)
    }
}

/// Where an adapter is, held against its digest.
fn find(
    paths: &HashMap<AdapterDigest, PathBuf>,
    kind: AdapterKind,
    digest: AdapterDigest,
) -> Result<PathBuf> {
    let path = paths.get(&digest).ok_or(Error::NoAdapter { kind: kind.as_str(), digest })?;
    let found = digest_of(kind, path)?;
    if found == digest {
        return Ok(path.clone());
    }
    let reason = format!("has the digest {found}, but the recipe names {digest}: the file was changed");
    Err(Error::Malformed { path: path.clone(), reason })
}

impl OpenAdapters {
    fn add_lora(&mut self, lora: &Lora, model: &ModelShape<'_>) -> Result<()> {
        refuse_pickle(&lora.path)?;
        let file = Rc::new(LoraFile::open(&lora.path)?);
        for weight in [lora.weight, lora.text_weight] {
            if !weight.is_finite() {
                return Err(file.whole_fault(format!("has the weight {weight}: a finite number is needed")));
            }
        }
        check_family(&file, model)?;
        let down_layers: Vec<usize> = model.unet.trunk.down.iter().map(|block| block.layers).collect();
        let up_crossed: Vec<bool> = model.unet.up.iter().map(|block| block.attention.is_some()).collect();
        let blocks = Blocks { down_layers: &down_layers, up_crossed: &up_crossed };
        self.unet.push(&file, Network::Unet, lora.weight, blocks)?;
        for (index, patches) in self.texts.iter_mut().enumerate() {
            patches.push(&file, Network::Text(index), lora.text_weight, blocks)?;
        }
        Ok(())
    }

    fn add_embedding(&mut self, embedding: &Embedding, model: &ModelShape<'_>) -> Result<()> {
        refuse_pickle(&embedding.path)?;
        let file = EmbeddingFile::open(&embedding.path)?;
        let widths = file.widths();
        if widths != model.text_widths {
            let (made, is) = (of_text(widths.iter().sum()), of_text(model.text_widths.iter().sum()));
            return Err(file.fault(format!("was made for {made}; the model is {is}")));
        }
        for (words, vectors) in self.words.iter_mut().zip(file.vectors()?) {
            words.push((embedding.trigger.clone(), vectors));
        }
        Ok(())
    }
}

/// Refuses a LoRA for models of other widths, before a layer's shape would.
fn check_family(lora: &LoraFile, model: &ModelShape<'_>) -> Result<()> {
    let is = of_text(model.unet.trunk.text_width);
    if let Some(width) = lora.text_width().filter(|width| *width != model.unet.trunk.text_width) {
        return Err(lora.whole_fault(format!("was made for {}; the model is {is}", of_text(width))));
    }
    for target in lora.targets() {
        if let Network::Text(index) = target.network
            && index >= model.text_widths.len()
        {
            let reason = format!("changes a second text encoder, as SDXL has; the model is {is}");
            return Err(lora.fault(target, reason));
        }
    }
    for (index, own) in model.text_widths.iter().enumerate() {
        if let Some(width) = lora.encoder_width(index).filter(|width| width != own) {
            let reason =
                format!("was made for a text encoder {width} wide; the model is {is}, with one {own} wide");
            return Err(lora.whole_fault(reason));
        }
    }
    Ok(())
}
