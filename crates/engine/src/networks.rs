//! The networks of one model, with what adapters make of them.

use std::collections::BTreeMap;

use seedfarm_core::{AdapterDigest, PromptSyntax};

use crate::Result;
use crate::adapters::{Adapters, ModelShape};
use crate::clip::{ClipTextEncoder, Encoded, TextRole, text_roles};
use crate::config::clip::ClipConfig;
use crate::config::unet::UnetConfig;
use crate::config::vae::VaeConfig;
use crate::controlnet::ControlNet;
use crate::embeddings::Embeddings;
use crate::fit::{self, UnetInput};
use crate::ops::Ops;
use crate::prompt::{self, LearnedWords, TextPart};
use crate::source::{ModelSource, Part};
use crate::taesd::TaesdDecoder;
use crate::tokenizer::PromptTokenizer;
use crate::unet::Unet;
use crate::vae::{VaeDecoder, VaeEncoder};

/// The networks, apart from the threads that run them.
pub(crate) struct Networks {
    pub ops: Ops,
    /// In the order of [`text_roles`]; there is at least one.
    pub texts: Vec<TextPart>,
    /// Whether an empty negative prompt is shown to the UNet as zeros.
    pub zero_empty_negative: bool,
    pub embeddings: Embeddings,
    pub unet: Unet,
    /// What the UNet wants to see.
    pub input: UnetInput,
    pub vae: VaeDecoder,
    /// For pictures to start from; some models are published without it.
    pub encoder: Option<VaeEncoder>,
    /// For previews, where one lies beside the model.
    pub preview: Option<TaesdDecoder>,
    /// ControlNets that fit the UNet.
    pub controls: BTreeMap<AdapterDigest, ControlNet>,
}

impl Networks {
    /// Loads every part, changed as `adapters` say, and holds them against one another.
    pub fn load(source: &ModelSource, adapters: &Adapters, ops: Ops) -> Result<Self> {
        let roles = text_roles(source.family());
        let read = |role: &TextRole| ClipConfig::read(&source.config(role.encoder)?);
        let clips = roles.iter().map(read).collect::<Result<Vec<_>>>()?;
        let unet_file = source.config(Part::Unet)?;
        let unet = UnetConfig::read(&unet_file)?;
        let vae = VaeConfig::read(&source.config(Part::Vae)?)?;
        let input = fit::check(&unet_file, roles, &clips, &unet, vae.latent_channels)?;
        let text_widths: Vec<usize> = clips.iter().map(|clip| clip.width).collect();
        let adapted = adapters.open(&ModelShape { unet: &unet, text_widths: &text_widths })?;
        let mut texts = Vec::with_capacity(roles.len());
        for (((role, clip), patches), words) in roles.iter().zip(clips).zip(adapted.texts).zip(adapted.words)
        {
            let tokenizer = PromptTokenizer::load(&source.tokenizer(role.tokenizer), &clip)?;
            let weights = source.weights(role.encoder)?.with_patches(patches);
            texts.push(TextPart {
                learned: LearnedWords::new(&tokenizer, words)?,
                tokenizer,
                encoder: ClipTextEncoder::load(&weights, &ops, clip, *role)?,
            });
        }
        prompt::check_windows(&texts)?;
        let mut controls = BTreeMap::new();
        for (digest, folder) in &adapters.controls {
            let control = ControlNet::load(folder, &ops)?;
            control.check_fit(&unet, vae.pixels_per_latent())?;
            controls.insert(*digest, control);
        }
        let preview = source.preview_decoder().map(|path| {
            let decoder = TaesdDecoder::load(&path, &ops)?;
            decoder.check_fit(&path, vae.latent_channels, vae.pixels_per_latent())?;
            Ok::<_, crate::Error>(decoder)
        });
        let pixels = source.weights(Part::Vae)?;
        let encoder = pixels.has_prefix("encoder.").then(|| VaeEncoder::load(&pixels, &ops, vae.clone()));
        Ok(Self {
            texts,
            zero_empty_negative: source.zeros_for_empty_prompt()?,
            embeddings: Embeddings::default(),
            unet: Unet::load(&source.weights(Part::Unet)?.with_patches(adapted.unet), &ops, unet)?,
            input,
            encoder: encoder.transpose()?,
            vae: VaeDecoder::load(&source.weights(Part::Vae)?, &ops, vae)?,
            preview: preview.transpose()?,
            controls,
            ops,
        })
    }

    /// Encodes a plain text of one window as every encoder reads it.
    pub fn encode(&self, text: &str) -> Result<Encoded> {
        prompt::encode(&self.texts, &prompt::read(&self.texts, text, PromptSyntax::Plain)?, 1, 0)
    }
}
