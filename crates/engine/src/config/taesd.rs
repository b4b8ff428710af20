//! `config.json` of an `AutoencoderTiny`: a small decoder for previews, and its encoder.

use serde_json::json;

use super::{CHANNELS, ConfigFile, LAYERS};
use crate::Result;

/// The shape of one half of the autoencoder: a stage for each size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stages {
    pub channels: Vec<usize>,
    /// Blocks of each stage.
    pub blocks: Vec<usize>,
}

/// The shape of encoder and decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaesdConfig {
    pub latent_channels: usize,
    /// From the full size to the smallest.
    pub encoder: Stages,
    /// From the smallest to the full size.
    pub decoder: Stages,
}

impl TaesdConfig {
    /// Reads and bounds the file. Defaults are those of diffusers' `AutoencoderTiny`.
    pub fn read(file: &ConfigFile) -> Result<Self> {
        file.only("_class_name", &[json!("AutoencoderTiny")])?;
        file.only("act_fn", &[json!("relu")])?;
        file.only("upsample_fn", &[json!("nearest")])?;
        file.only("upsampling_scaling_factor", &[json!(2)])?;
        file.only("in_channels", &[json!(3)])?;
        file.only("out_channels", &[json!(3)])?;
        // Latents would have to be rescaled for it, and no published one asks for that.
        file.only("scaling_factor", &[json!(1), json!(1.0)])?;
        file.only("shift_factor", &[json!(0), json!(0.0)])?;
        Ok(Self {
            latent_channels: file.count("latent_channels", Some(4), CHANNELS)?,
            encoder: stages(file, "encoder_block_out_channels", "num_encoder_blocks", [1, 3, 3, 3])?,
            decoder: stages(file, "decoder_block_out_channels", "num_decoder_blocks", [3, 3, 3, 1])?,
        })
    }

    /// The shape that the original files have, with `width` channels in every layer and latents of
    /// `latent_channels`.
    pub fn original(latent_channels: usize, width: usize) -> Self {
        let stages = |blocks: [usize; 4]| Stages { channels: vec![width; 4], blocks: blocks.to_vec() };
        Self { latent_channels, encoder: stages([1, 3, 3, 3]), decoder: stages([3, 3, 3, 1]) }
    }
}

fn stages(file: &ConfigFile, channels_key: &str, blocks_key: &str, blocks: [usize; 4]) -> Result<Stages> {
    let channels = match file.get(channels_key) {
        Some(_) => file.block_channels(channels_key)?,
        None => vec![64; 4],
    };
    // One convolution of a stage has as many channels before it as after it.
    if let Some(odd) = channels.iter().find(|count| **count != channels[0]) {
        let reason = format!("holds {} and {odd}: equal counts are supported", channels[0]);
        return Err(file.fault(channels_key, reason));
    }
    let told = channels.len() != blocks.len() || file.get(blocks_key).is_some();
    let blocks = if told { file.counts(blocks_key, None, channels.len(), LAYERS)? } else { blocks.to_vec() };
    Ok(Stages { channels, blocks })
}
