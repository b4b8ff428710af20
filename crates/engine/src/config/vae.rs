//! `vae/config.json`: the shape of an `AutoencoderKL`.

use serde_json::json;

use super::{CHANNELS, ConfigFile, LAYERS};
use crate::Result;

/// The shape of encoder and decoder.
#[derive(Debug, Clone)]
pub(crate) struct VaeConfig {
    pub latent_channels: usize,
    /// From the full size to the smallest.
    pub channels: Vec<usize>,
    /// Residual layers of an encoder block; a decoder block has one more.
    pub layers: usize,
    pub norm_groups: usize,
    /// Latents are divided by it before decoding.
    pub scaling: f64,
    /// Added to the latents after the division.
    pub shift: f64,
    pub quant_conv: bool,
    pub post_quant_conv: bool,
    pub mid_attention: bool,
}

impl VaeConfig {
    /// Reads and bounds the file. Defaults are those of diffusers' `AutoencoderKL`.
    pub fn read(file: &ConfigFile) -> Result<Self> {
        file.only("_class_name", &[json!("AutoencoderKL")])?;
        file.only("act_fn", &[json!("silu"), json!("swish")])?;
        file.only("out_channels", &[json!(3)])?;
        file.only("in_channels", &[json!(3)])?;
        refuse_own_statistics(file)?;
        let channels = file.block_channels("block_out_channels")?;
        check_blocks(file, "down_block_types", "DownEncoderBlock2D", channels.len())?;
        check_blocks(file, "up_block_types", "UpDecoderBlock2D", channels.len())?;
        let norm_groups = file.count("norm_num_groups", Some(32), 1..=1024)?;
        if let Some(odd) = channels.iter().find(|count| *count % norm_groups != 0) {
            let reason = format!("holds {odd}, which is not a multiple of norm_num_groups {norm_groups}");
            return Err(file.fault("block_out_channels", reason));
        }
        Ok(Self {
            latent_channels: file.count("latent_channels", Some(4), CHANNELS)?,
            channels,
            layers: file.count("layers_per_block", Some(1), LAYERS)?,
            norm_groups,
            scaling: file.number("scaling_factor", 0.18215, 1e-6..=1e6)?,
            shift: file.number("shift_factor", 0.0, -1e6..=1e6)?,
            quant_conv: file.flag("use_quant_conv", true)?,
            post_quant_conv: file.flag("use_post_quant_conv", true)?,
            mid_attention: file.flag("mid_block_add_attention", true)?,
        })
    }

    /// Channels at the smallest size.
    pub fn smallest_channels(&self) -> usize {
        self.channels[self.channels.len() - 1]
    }

    /// Pixels a side of one latent element.
    pub fn pixels_per_latent(&self) -> usize {
        1 << (self.channels.len() - 1)
    }
}

/// Some models give their latents a mean and a deviation for each channel beside the scaling factor.
fn refuse_own_statistics(file: &ConfigFile) -> Result<()> {
    for key in ["latents_mean", "latents_std"] {
        if file.get(key).is_some() {
            let reason = "is set: latents with statistics for each channel, as those of Playground 2.5, are \
                          not computed; only null is supported";
            return Err(file.fault(key, reason));
        }
    }
    Ok(())
}

fn check_blocks(file: &ConfigFile, key: &str, supported: &str, length: usize) -> Result<()> {
    match file.texts(key, length)?.into_iter().find(|name| *name != supported) {
        Some(name) => Err(file.fault(key, format!("holds '{name}': {supported} is supported"))),
        None => Ok(()),
    }
}
