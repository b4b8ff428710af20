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

use std::path::PathBuf;
use std::rc::Rc;

pub use self::describe::{AdapterFile, AdapterFileKind, describe_adapter};
pub use self::family::AdapterFamily;
pub(crate) use self::patches::Patches;

use self::describe::refuse_pickle;
use self::embedding::EmbeddingFile;
use self::family::of_text;
use self::keys::Network;
use self::lora::LoraFile;
use self::old_names::Blocks;
use crate::Result;
use crate::config::unet::UnetConfig;

/// Files that change a model as it is loaded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Adapters {
    /// LoRAs, in the order in which they are merged.
    pub loras: Vec<Lora>,
    /// Textual inversions.
    pub embeddings: Vec<Embedding>,
}

/// A LoRA and how strongly it is merged.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// Its file.
    pub path: PathBuf,
    /// The factor of its changes to the UNet; 0 leaves them out.
    pub weight: f64,
    /// The factor of its changes to the text encoders; 0 leaves them out.
    pub text_weight: f64,
}

/// A textual inversion and the word that stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedding {
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
