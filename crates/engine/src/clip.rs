//! The CLIP text encoder of Stable Diffusion 1 and 2: token ids to one embedding a token.
//!
//! Reference: transformers' `CLIPTextModel`, whose `last_hidden_state` this is (the final norm included).

use candle_core::Tensor;

use crate::Result;
use crate::config::clip::{Activation, ClipConfig};
use crate::ops::{Attention, LayerNorm, Linear, Ops};
use crate::weights::{Weights, WeightsFile};

/// A loaded text encoder.
pub(crate) struct ClipTextEncoder {
    ops: Ops,
    config: ClipConfig,
    /// `[vocabulary, width]`.
    tokens: Tensor,
    /// `[window, width]`.
    positions: Tensor,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
}

impl ClipTextEncoder {
    /// Takes the encoder out of its weights, with or without the `text_model.` that older files have.
    pub fn load(file: &WeightsFile, ops: &Ops, config: ClipConfig) -> Result<Self> {
        let root = file.root(ops);
        let weights = if file.has_prefix("text_model.") { root.at("text_model") } else { root };
        let width = config.width;
        let embeddings = weights.at("embeddings");
        let encoder = Self {
            ops: ops.clone(),
            tokens: embeddings.tensor("token_embedding.weight", &[config.vocabulary, width])?,
            positions: embeddings.tensor("position_embedding.weight", &[config.window, width])?,
            layers: (0..config.layers)
                .map(|index| Layer::load(&weights.at("encoder.layers").at(index), &config))
                .collect::<Result<_>>()?,
            final_norm: LayerNorm::load(&weights.at("final_layer_norm"), width, config.norm_epsilon)?,
            config,
        };
        file.expect_all_read(&[
            "text_model.embeddings.position_ids",
            "embeddings.position_ids",
            "text_projection",
        ])?;
        Ok(encoder)
    }

    /// Embeds one text: ids `[window]` to `[1, window, width]`.
    pub fn forward(&self, ids: &[u32]) -> Result<Tensor> {
        let ids = Tensor::new(ids, self.ops.device())?;
        let tokens = self.tokens.index_select(&ids, 0)?;
        let mut hidden = self.ops.add(&tokens, &self.positions)?.unsqueeze(0)?;
        for layer in &self.layers {
            hidden = layer.forward(&self.ops, &hidden, self.config.activation)?;
        }
        self.final_norm.forward(&hidden)
    }
}

/// One pre-norm transformer layer with causal self-attention.
struct Layer {
    norm1: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    attention: Attention,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl Layer {
    fn load(weights: &Weights<'_>, config: &ClipConfig) -> Result<Self> {
        let (width, epsilon) = (config.width, config.norm_epsilon);
        let projection = |name: &str| Linear::load(&weights.at("self_attn").at(name), width, width, true);
        Ok(Self {
            norm1: LayerNorm::load(&weights.at("layer_norm1"), width, epsilon)?,
            q: projection("q_proj")?,
            k: projection("k_proj")?,
            v: projection("v_proj")?,
            attention: Attention { heads: config.heads, causal: true },
            out: projection("out_proj")?,
            norm2: LayerNorm::load(&weights.at("layer_norm2"), width, epsilon)?,
            fc1: Linear::load(&weights.at("mlp.fc1"), width, config.inner_width, true)?,
            fc2: Linear::load(&weights.at("mlp.fc2"), config.inner_width, width, true)?,
        })
    }

    fn forward(&self, ops: &Ops, hidden: &Tensor, activation: Activation) -> Result<Tensor> {
        let normed = self.norm1.forward(hidden)?;
        let (q, k, v) = (self.q.forward(&normed)?, self.k.forward(&normed)?, self.v.forward(&normed)?);
        let attended = self.out.forward(&ops.attention(&q, &k, &v, self.attention)?)?;
        let hidden = ops.add_into(attended, hidden)?;
        let inner = self.fc1.forward(&self.norm2.forward(&hidden)?)?;
        let inner = match activation {
            Activation::QuickGelu => ops.quick_gelu(&inner)?,
            Activation::Gelu => ops.gelu(&inner)?,
        };
        ops.add_into(self.fc2.forward(&inner)?, &hidden)
    }
}
