//! Cross-attention: image positions look at each other, then at the text.
//!
//! Reference: diffusers' `Transformer2DModel` over `BasicTransformerBlock` with GEGLU.

use candle_core::Tensor;

use crate::ops::{Attention, GroupNorm, LayerNorm, Linear, Ops};
use crate::weights::Weights;
use crate::{Error, Result};

/// Constants that diffusers fixes whatever the configuration says.
const GROUP_NORM_EPSILON: f64 = 1e-6;
const LAYER_NORM_EPSILON: f64 = 1e-5;

/// Keys and values of one cross-attention, each `[batch, window, channels]`.
pub(crate) struct AttentionKeys {
    k: Tensor,
    v: Tensor,
}

/// The keys and values of some transformers for a batch of texts, in the order in which they take them.
pub(crate) fn text_keys<'t>(
    transformers: impl Iterator<Item = &'t Transformer>,
    texts: &Tensor,
) -> Result<Vec<AttentionKeys>> {
    transformers.flat_map(|transformer| &transformer.layers).map(|layer| layer.text.keys(texts)).collect()
}

/// Sizes of one transformer.
#[derive(Debug, Clone, Copy)]
pub(super) struct TransformerConfig {
    pub channels: usize,
    pub heads: usize,
    /// Layers; there may be none.
    pub depth: usize,
    pub text_width: usize,
    pub norm_groups: usize,
}

/// A projection in, some transformer layers over the image's positions, a projection out.
pub(crate) struct Transformer {
    ops: Ops,
    norm: GroupNorm,
    proj_in: Linear,
    layers: Vec<Layer>,
    proj_out: Linear,
}

impl Transformer {
    pub(super) fn load(weights: &Weights<'_>, config: TransformerConfig) -> Result<Self> {
        let channels = config.channels;
        let projection = |name: &str| Linear::load(&weights.at(name), channels, channels, true);
        Ok(Self {
            ops: weights.ops().clone(),
            norm: GroupNorm::load(&weights.at("norm"), config.norm_groups, channels, GROUP_NORM_EPSILON)?,
            proj_in: projection("proj_in")?,
            layers: (0..config.depth)
                .map(|index| Layer::load(&weights.at("transformer_blocks").at(index), config))
                .collect::<Result<_>>()?,
            proj_out: projection("proj_out")?,
        })
    }

    /// `[batch, channels, h, w]` to the same shape.
    pub fn forward<'k>(
        &self,
        x: &Tensor,
        text: &mut impl Iterator<Item = &'k AttentionKeys>,
    ) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        let positions = self.norm.forward(x)?.reshape((batch, channels, height * width))?;
        let positions = self.ops.transpose(&positions)?;
        let mut hidden = self.proj_in.forward(&positions)?;
        for layer in &self.layers {
            let keys = text
                .next()
                .ok_or_else(|| Error::Recipe("the text was prepared for another UNet".to_owned()))?;
            hidden = layer.forward(&self.ops, &hidden, keys)?;
        }
        let out = self.ops.transpose(&self.proj_out.forward(&hidden)?)?;
        self.ops.add_into(out.reshape((batch, channels, height, width))?, x)
    }
}

/// Self-attention, cross-attention and a gated feed-forward, each behind a norm and beside a shortcut.
struct Layer {
    norm1: LayerNorm,
    image: Heads,
    norm2: LayerNorm,
    text: Heads,
    norm3: LayerNorm,
    gate: Linear,
    out: Linear,
}

impl Layer {
    fn load(weights: &Weights<'_>, config: TransformerConfig) -> Result<Self> {
        let channels = config.channels;
        let norm = |name: &str| LayerNorm::load(&weights.at(name), channels, LAYER_NORM_EPSILON);
        let heads = |name: &str, width| Heads::load(&weights.at(name), channels, width, config.heads);
        Ok(Self {
            norm1: norm("norm1")?,
            image: heads("attn1", channels)?,
            norm2: norm("norm2")?,
            text: heads("attn2", config.text_width)?,
            norm3: norm("norm3")?,
            gate: Linear::load(&weights.at("ff.net.0.proj"), channels, 8 * channels, true)?,
            out: Linear::load(&weights.at("ff.net.2"), 4 * channels, channels, true)?,
        })
    }

    fn forward(&self, ops: &Ops, hidden: &Tensor, text: &AttentionKeys) -> Result<Tensor> {
        let normed = self.norm1.forward(hidden)?;
        let keys = self.image.keys(&normed)?;
        let hidden = ops.add_into(self.image.forward(ops, &normed, &keys)?, hidden)?;
        let normed = self.norm2.forward(&hidden)?;
        let hidden = ops.add_into(self.text.forward(ops, &normed, text)?, &hidden)?;
        let gated = ops.geglu(&self.gate.forward(&self.norm3.forward(&hidden)?)?)?;
        ops.add_into(self.out.forward(&gated)?, &hidden)
    }
}

/// Multi-head attention with its four projections.
struct Heads {
    attention: Attention,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl Heads {
    fn load(weights: &Weights<'_>, channels: usize, key_width: usize, heads: usize) -> Result<Self> {
        Ok(Self {
            attention: Attention { heads, causal: false },
            q: Linear::load(&weights.at("to_q"), channels, channels, false)?,
            k: Linear::load(&weights.at("to_k"), key_width, channels, false)?,
            v: Linear::load(&weights.at("to_v"), key_width, channels, false)?,
            out: Linear::load(&weights.at("to_out.0"), channels, channels, true)?,
        })
    }

    fn keys(&self, source: &Tensor) -> Result<AttentionKeys> {
        Ok(AttentionKeys { k: self.k.forward(source)?, v: self.v.forward(source)? })
    }

    fn forward(&self, ops: &Ops, hidden: &Tensor, keys: &AttentionKeys) -> Result<Tensor> {
        let q = self.q.forward(hidden)?;
        self.out.forward(&ops.attention(&q, &keys.k, &keys.v, self.attention)?)
    }
}
