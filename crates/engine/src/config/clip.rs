//! `text_encoder/config.json`: the sizes of a CLIP text encoder.

use serde_json::json;

use super::{CHANNELS, ConfigFile, EPSILON, LAYERS};
use crate::Result;

/// The function between the two linear layers of each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x * sigmoid(1.702 x)`, as in Stable Diffusion 1.
    QuickGelu,
    /// `x * normal_cdf(x)` by erf, as in Stable Diffusion 2.
    Gelu,
}

/// Sizes of the text encoder.
#[derive(Debug, Clone)]
pub(crate) struct ClipConfig {
    pub vocabulary: usize,
    pub width: usize,
    pub inner_width: usize,
    pub layers: usize,
    pub heads: usize,
    /// Tokens of the text window.
    pub window: usize,
    pub activation: Activation,
    pub norm_epsilon: f64,
}

impl ClipConfig {
    /// Reads and bounds the file. Defaults are those of transformers' `CLIPTextConfig`.
    pub fn read(file: &ConfigFile) -> Result<Self> {
        file.only("model_type", &[json!("clip_text_model")])?;
        file.only("use_attention_mask", &[json!(false)])?;
        let config = Self {
            vocabulary: file.count("vocab_size", Some(49408), 2..=1_000_000)?,
            width: file.count("hidden_size", Some(512), CHANNELS)?,
            inner_width: file.count("intermediate_size", Some(2048), 1..=65_536)?,
            layers: file.count("num_hidden_layers", Some(12), LAYERS)?,
            heads: file.count("num_attention_heads", Some(8), 1..=256)?,
            window: file.count("max_position_embeddings", Some(77), 3..=4096)?,
            activation: activation(file)?,
            norm_epsilon: file.number("layer_norm_eps", 1e-5, EPSILON)?,
        };
        if !config.width.is_multiple_of(config.heads) {
            let reason = format!("is {}, which does not divide hidden_size {}", config.heads, config.width);
            return Err(file.fault("num_attention_heads", reason));
        }
        Ok(config)
    }
}

fn activation(file: &ConfigFile) -> Result<Activation> {
    match file.text("hidden_act", "quick_gelu")? {
        "quick_gelu" => Ok(Activation::QuickGelu),
        "gelu" => Ok(Activation::Gelu),
        other => Err(file.fault("hidden_act", format!("is '{other}': quick_gelu and gelu are supported"))),
    }
}
