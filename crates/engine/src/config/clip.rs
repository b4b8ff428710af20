//! `text_encoder/config.json` and `text_encoder_2/config.json`: the sizes of a CLIP text encoder.

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

/// How the place is found whose state stands for the whole text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndOfText {
    /// The first place with the largest id. What `eos_token_id` 2 means: files from before transformers 4.31
    /// have it, and it was never the token's id.
    Largest,
    /// The first place with this id.
    Token(u32),
}

/// The `eos_token_id` that stands for [`EndOfText::Largest`].
const LEGACY_END: usize = 2;

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
    /// Width of the pooled text, where the encoder has a projection.
    pub projection_width: usize,
    pub end_of_text: EndOfText,
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
            projection_width: file.count("projection_dim", Some(512), CHANNELS)?,
            end_of_text: match file.count("eos_token_id", Some(49407), 0..=1_000_000)? {
                LEGACY_END => EndOfText::Largest,
                end => EndOfText::Token(end as u32),
            },
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
