//! ControlNets: a second way down beside a UNet's that looks at a picture and adds to what the UNet keeps.
//!
//! Reference: Zhang et al. 2023 (arXiv:2302.05543), diffusers' `ControlNetModel` without its guess mode.

use std::path::Path;

use candle_core::Tensor;

use crate::config::ConfigFile;
use crate::config::controlnet::ControlNetConfig;
use crate::config::unet::UnetConfig;
use crate::folder::find_weights;
use crate::ops::{Conv2d, Ops};
use crate::unet::{Added, AttentionKeys, Conditions, Residuals, Trunk, text_keys};
use crate::weights::{Weights, WeightsFile};
use crate::{Error, Result};

/// The file in a ControlNet's folder that describes it.
const CONFIG: &str = "config.json";
/// How its weights are called, before `.safetensors`.
const WEIGHTS: &str = "diffusion_pytorch_model";

/// A loaded ControlNet.
pub(crate) struct ControlNet {
    ops: Ops,
    file: ConfigFile,
    config: ControlNetConfig,
    trunk: Trunk,
    hint: HintEmbedding,
    /// One for each output that the way down keeps.
    down: Vec<Conv2d>,
    mid: Conv2d,
}

/// A picture as one ControlNet sees it, `[1 or batch, channels, h, w]` at the size of the latents.
#[derive(Debug, Clone)]
pub(crate) struct Hint(Tensor);

/// What is asked of one call.
pub(crate) struct Call<'a> {
    /// `[batch, channels, h, w]`.
    pub latents: &'a Tensor,
    /// One for all samples or one for each.
    pub timesteps: &'a [f64],
    /// Prepared by this ControlNet, as its conditions were.
    pub text_keys: &'a [AttentionKeys],
    pub added: Option<&'a Added>,
    pub hint: &'a Hint,
    /// Factor on all that is added to the UNet.
    pub scale: f64,
}

/// Whether a folder says that it holds a ControlNet.
pub(crate) fn is_folder(folder: &Path) -> bool {
    let class = ConfigFile::read(&folder.join(CONFIG)).ok();
    class.is_some_and(|file| {
        file.get("_class_name").and_then(|class| class.as_str()) == Some("ControlNetModel")
    })
}

/// The width of the texts that a ControlNet looks at, from its configuration alone.
pub(crate) fn text_width(folder: &Path) -> Result<usize> {
    Ok(ControlNetConfig::read(&ConfigFile::read(&folder.join(CONFIG))?)?.trunk.text_width)
}

/// The files that a ControlNet is made of.
pub(crate) fn files(folder: &Path) -> Result<Vec<String>> {
    Ok(vec![CONFIG.to_owned(), find_weights(folder, WEIGHTS)?])
}

impl ControlNet {
    /// Loads a ControlNet from its folder, as diffusers saves one: `config.json` and safetensors.
    ///
    /// Errors: a file that is missing, a pickle or malformed, a configuration that is not computed here, weights
    /// that do not fit it; by file and key.
    pub fn load(folder: &Path, ops: &Ops) -> Result<Self> {
        let file = ConfigFile::read(&folder.join(CONFIG))?;
        let config = ControlNetConfig::read(&file)?;
        let weights = WeightsFile::open(&folder.join(find_weights(folder, WEIGHTS)?))?;
        let root = weights.root(ops);
        let trunk = &config.trunk;
        let loaded = Self {
            ops: ops.clone(),
            trunk: Trunk::load(&root, trunk)?,
            hint: HintEmbedding::load(&root.at("controlnet_cond_embedding"), &config)?,
            down: kept_channels(&config)
                .enumerate()
                .map(|(index, channels)| pointwise(&root.at("controlnet_down_blocks").at(index), channels))
                .collect::<Result<_>>()?,
            mid: pointwise(&root.at("controlnet_mid_block"), trunk.last_channels())?,
            config,
            file,
        };
        weights.expect_all_read(&[])?;
        Ok(loaded)
    }

    /// Holds the ControlNet against the UNet that it is to be used with.
    ///
    /// Errors: the first size that differs, by its key.
    pub fn check_fit(&self, unet: &UnetConfig, pixels_per_latent: usize) -> Result<()> {
        self.config.check_fit(&self.file, unet, pixels_per_latent)
    }

    /// The keys and values of its cross-attentions for a batch of texts, `[batch, tokens, width]`.
    pub fn text_keys(&self, texts: &Tensor) -> Result<Vec<AttentionKeys>> {
        text_keys(self.trunk.transformers(), texts)
    }

    /// Prepares what the timestep is joined by, for a batch of samples; nothing where it takes nothing more.
    pub fn added(&self, samples: &[Conditions]) -> Result<Option<Added>> {
        self.trunk.added(samples)
    }

    /// Embeds pictures `[n, 3, h, w]`, red, green and blue from 0 to 1: once a run.
    pub fn hint(&self, pictures: &Tensor) -> Result<Hint> {
        let pictures = if self.config.blue_first {
            let plane = |index| pictures.narrow(1, index, 1);
            Tensor::cat(&[plane(2)?, plane(1)?, plane(0)?], 1)?
        } else {
            pictures.clone()
        };
        self.hint.forward(&self.ops, &pictures)
    }

    /// What is added to the UNet.
    ///
    /// Errors: a hint of another size than the latents, or of neither one picture nor one for each sample.
    pub fn forward(&self, call: &Call<'_>) -> Result<Residuals> {
        let hint = call.hint.for_latents(call.latents)?;
        let mut text = call.text_keys.iter();
        let descent = self.trunk.descend(call.latents, call.timesteps, call.added, Some(&hint), &mut text)?;
        let scaled = |conv: &Conv2d, x: &Tensor| self.ops.scale(&conv.forward(x)?, call.scale as f32);
        Ok(Residuals {
            down: self
                .down
                .iter()
                .zip(&descent.skips)
                .map(|(conv, x)| scaled(conv, x))
                .collect::<Result<_>>()?,
            mid: scaled(&self.mid, &descent.hidden)?,
        })
    }
}

/// The channels of each output that the way down keeps: of the first convolution, each layer, each downsampler.
fn kept_channels(config: &ControlNetConfig) -> impl Iterator<Item = usize> {
    let trunk = &config.trunk;
    let last = trunk.down.len() - 1;
    let of_block = move |(index, block): (usize, &crate::config::unet::BlockConfig)| {
        std::iter::repeat_n(block.channels, block.layers + usize::from(index < last))
    };
    std::iter::once(trunk.first_channels()).chain(trunk.down.iter().enumerate().flat_map(of_block))
}

/// A convolution with a kernel of 1 that keeps the channels.
fn pointwise(weights: &Weights<'_>, channels: usize) -> Result<Conv2d> {
    Conv2d::load(weights, channels, channels, 1, 1)
}

impl Hint {
    /// The hint for each sample of a batch.
    fn for_latents(&self, latents: &Tensor) -> Result<Tensor> {
        let (batch, _, height, width) = latents.dims4()?;
        let (pictures, channels, hint_height, hint_width) = self.0.dims4()?;
        if (hint_height, hint_width) != (height, width) || ![1, batch].contains(&pictures) {
            return Err(Error::Recipe(format!(
                "{pictures} control pictures of {hint_width} by {hint_height} latents do not fit {batch} samples \
                 of {width} by {height}"
            )));
        }
        Ok(self.0.broadcast_as((batch, channels, height, width))?.contiguous()?)
    }
}

/// The small network that brings a picture to the size of the latents.
struct HintEmbedding {
    conv_in: Conv2d,
    /// In pairs: one that keeps the size, one that halves it.
    blocks: Vec<Conv2d>,
    conv_out: Conv2d,
}

impl HintEmbedding {
    fn load(weights: &Weights<'_>, config: &ControlNetConfig) -> Result<Self> {
        let channels = &config.hint_channels;
        let block = |index: usize| {
            let (inputs, stride) = (channels[index / 2], index % 2 + 1);
            let outputs = channels[index.div_ceil(2)];
            Conv2d::load(&weights.at("blocks").at(index), inputs, outputs, 3, stride)
        };
        let last = channels.len() - 1;
        Ok(Self {
            conv_in: Conv2d::load(&weights.at("conv_in"), 3, channels[0], 3, 1)?,
            blocks: (0..2 * last).map(block).collect::<Result<_>>()?,
            conv_out: Conv2d::load(
                &weights.at("conv_out"),
                channels[last],
                config.trunk.first_channels(),
                3,
                1,
            )?,
        })
    }

    fn forward(&self, ops: &Ops, pictures: &Tensor) -> Result<Hint> {
        let mut hidden = ops.silu(&self.conv_in.forward(pictures)?)?;
        for block in &self.blocks {
            hidden = ops.silu(&block.forward(&hidden)?)?;
        }
        Ok(Hint(self.conv_out.forward(&hidden)?))
    }
}

#[cfg(test)]
mod tests;
