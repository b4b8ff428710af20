//! The CLIP text encoders of Stable Diffusion: token ids to one embedding a token, and to a pooled one.
//!
//! Reference: transformers' `CLIPTextModel` and `CLIPTextModelWithProjection`, and which of their hidden
//! states diffusers' pipelines take.

use candle_core::Tensor;

use crate::config::clip::{Activation, ClipConfig, EndOfText};
use crate::ops::{Attention, LayerNorm, Linear, Ops};
use crate::source::{Family, Part};
use crate::weights::{Weights, WeightsFile};
use crate::{Error, Result};

/// What a pipeline takes from one of its text encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TextRole {
    pub encoder: Part,
    pub tokenizer: Part,
    /// Which hidden state the UNet looks at.
    pub tap: Tap,
    /// Whether the encoder also gives a pooled text, through a projection.
    pub pooled: bool,
}

/// The hidden state of a text encoder that a UNet was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tap {
    /// The last layer's, through the final norm.
    LastNormed,
    /// The last layer's but one, as it is.
    Penultimate,
}

const ONE_ENCODER: [TextRole; 1] = [TextRole {
    encoder: Part::TextEncoder,
    tokenizer: Part::Tokenizer,
    tap: Tap::LastNormed,
    pooled: false,
}];
const TWO_ENCODERS: [TextRole; 2] = [
    TextRole { encoder: Part::TextEncoder, tokenizer: Part::Tokenizer, tap: Tap::Penultimate, pooled: false },
    TextRole {
        encoder: Part::TextEncoder2,
        tokenizer: Part::Tokenizer2,
        tap: Tap::Penultimate,
        pooled: true,
    },
];

/// The text encoders of a family, in the order in which their widths stand side by side.
pub(crate) fn text_roles(family: Family) -> &'static [TextRole] {
    match family {
        Family::StableDiffusion => &ONE_ENCODER,
        Family::StableDiffusionXl => &TWO_ENCODERS,
    }
}

/// One window of tokens.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TokenRow {
    /// Ids of the whole window, or of its beginning: begin, the text, end, padding.
    pub ids: Vec<u32>,
    /// Vectors, of the encoder's width, that stand at a place of the window instead of its token's embedding.
    /// The id at such a place is not looked up and may lie beyond the vocabulary.
    pub learned: Vec<(usize, Vec<f32>)>,
}

impl From<Vec<u32>> for TokenRow {
    fn from(ids: Vec<u32>) -> Self {
        Self { ids, learned: Vec::new() }
    }
}

/// A text as the UNet is shown it.
#[derive(Debug, Clone)]
pub(crate) struct Encoded {
    /// One embedding a token, `[1, tokens, width]`.
    pub hidden: Tensor,
    /// One embedding of the whole, `[1, width of the projection]`, where the encoder has a projection.
    pub pooled: Option<Tensor>,
}

impl Encoded {
    /// What several encoders say of one text: their widths side by side, and the one pooled text.
    pub fn join(parts: Vec<Self>) -> Result<Self> {
        let hidden: Vec<&Tensor> = parts.iter().map(|part| &part.hidden).collect();
        let hidden = Tensor::cat(&hidden, 2)?;
        Ok(Self { hidden, pooled: parts.into_iter().find_map(|part| part.pooled) })
    }

    /// The same shapes, all zeros: what Stable Diffusion XL is shown for an empty negative prompt.
    pub fn zeros_like(&self) -> Result<Self> {
        let pooled = self.pooled.as_ref().map(Tensor::zeros_like);
        Ok(Self { hidden: self.hidden.zeros_like()?, pooled: pooled.transpose()? })
    }
}

/// A loaded text encoder.
pub(crate) struct ClipTextEncoder {
    ops: Ops,
    config: ClipConfig,
    tap: Tap,
    /// `[vocabulary, width]`.
    tokens: Tensor,
    /// `[window, width]`.
    positions: Tensor,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
    /// To the pooled embedding.
    projection: Option<Linear>,
}

impl ClipTextEncoder {
    /// Takes the encoder out of its weights, with or without the `text_model.` that older files have.
    pub fn load(file: &WeightsFile, ops: &Ops, config: ClipConfig, role: TextRole) -> Result<Self> {
        let root = file.root(ops);
        let weights = if file.has_prefix("text_model.") { root.at("text_model") } else { root.clone() };
        let width = config.width;
        let embeddings = weights.at("embeddings");
        let projection = role
            .pooled
            .then(|| Linear::load(&root.at("text_projection"), width, config.projection_width, false));
        let encoder = Self {
            ops: ops.clone(),
            tap: role.tap,
            tokens: embeddings.tensor("token_embedding.weight", &[config.vocabulary, width])?,
            positions: embeddings.tensor("position_embedding.weight", &[config.window, width])?,
            layers: (0..config.layers)
                .map(|index| Layer::load(&weights.at("encoder.layers").at(index), &config))
                .collect::<Result<_>>()?,
            final_norm: LayerNorm::load(&weights.at("final_layer_norm"), width, config.norm_epsilon)?,
            projection: projection.transpose()?,
            config,
        };
        file.expect_all_read(&[
            "text_model.embeddings.position_ids",
            "embeddings.position_ids",
            "text_projection",
        ])?;
        Ok(encoder)
    }

    /// Embeds one window. `skip` more layers are left out at the end, of the embeddings and not of the pooled
    /// text: diffusers' `clip_skip`.
    ///
    /// Errors: a row that does not fit this encoder; a `skip` that leaves less than no layer.
    pub fn forward(&self, row: &TokenRow, skip: usize) -> Result<Encoded> {
        let taken = self.layers_taken(skip)?;
        let mut hidden = self.embed(row)?;
        let mut tapped = (taken == 0).then(|| hidden.clone());
        let run = if self.projection.is_some() { self.layers.len() } else { taken };
        for (index, layer) in self.layers[..run].iter().enumerate() {
            hidden = layer.forward(&self.ops, &hidden, self.config.activation)?;
            if index + 1 == taken {
                tapped = Some(hidden.clone());
            }
        }
        let tapped = tapped.expect("as many layers run as are taken, or more");
        let pooled = self.projection.as_ref().map(|projection| self.pool(&hidden, row, projection));
        let hidden = match self.tap {
            Tap::LastNormed => self.final_norm.forward(&tapped)?,
            Tap::Penultimate => tapped,
        };
        Ok(Encoded { hidden, pooled: pooled.transpose()? })
    }

    /// The number of layers that the embeddings go through.
    fn layers_taken(&self, skip: usize) -> Result<usize> {
        let most = self.layers.len() - usize::from(self.tap == Tap::Penultimate);
        most.checked_sub(skip).ok_or_else(|| {
            Error::Recipe(format!(
                "clip skip {skip} leaves no layer of a text encoder: at most {most} can be left out"
            ))
        })
    }

    /// Tokens and learned vectors with their positions, `[1, tokens, width]`.
    fn embed(&self, row: &TokenRow) -> Result<Tensor> {
        let ids = Tensor::new(self.known_ids(row)?, self.ops.device())?;
        let mut tokens = self.tokens.index_select(&ids, 0)?;
        for (place, vector) in &row.learned {
            let vector = Tensor::from_slice(vector, (1, vector.len()), self.ops.device())?;
            tokens = tokens.slice_scatter0(&vector, *place)?;
        }
        let positions = self.positions.narrow(0, 0, row.ids.len())?;
        Ok(self.ops.add(&tokens, &positions)?.unsqueeze(0)?)
    }

    /// The row's ids, with any known id where a learned vector stands.
    fn known_ids(&self, row: &TokenRow) -> Result<Vec<u32>> {
        let ClipConfig { window, vocabulary, width, .. } = self.config;
        let fault = |reason: String| Err(Error::Recipe(reason));
        if row.ids.is_empty() || row.ids.len() > window {
            let given = row.ids.len();
            return fault(format!("{given} tokens do not fit a text encoder's window of {window}"));
        }
        let mut ids = row.ids.clone();
        for (place, vector) in &row.learned {
            match ids.get_mut(*place) {
                Some(id) if vector.len() == width => *id = 0,
                Some(_) => {
                    let given = vector.len();
                    return fault(format!(
                        "a learned embedding of {given} numbers does not fit a text encoder of width {width}"
                    ));
                }
                None => return fault(format!("place {place} is outside a row of {} tokens", row.ids.len())),
            }
        }
        match ids.iter().find(|id| **id as usize >= vocabulary) {
            Some(id) => fault(format!("token {id} is beyond the text encoder's vocabulary of {vocabulary}")),
            None => Ok(ids),
        }
    }

    /// The projection of the last layer's state, through the final norm, at the end of the text.
    fn pool(&self, hidden: &Tensor, row: &TokenRow, projection: &Linear) -> Result<Tensor> {
        let state = hidden.narrow(1, end_of_text(&row.ids, self.config.end_of_text), 1)?.contiguous()?;
        Ok(projection.forward(&self.final_norm.forward(&state)?)?.squeeze(1)?)
    }
}

/// The place that stands for the whole text, as transformers finds it: the first one where there is none.
fn end_of_text(ids: &[u32], rule: EndOfText) -> usize {
    match rule {
        EndOfText::Largest => {
            let largest = ids.iter().max();
            ids.iter().position(|id| Some(id) == largest).unwrap_or(0)
        }
        EndOfText::Token(end) => ids.iter().position(|id| *id == end).unwrap_or(0),
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

#[cfg(test)]
mod tests {
    use super::*;

    // transformers 5.23: eos_token_id 2 takes `argmax` of the ids, any other the first place that equals it;
    // both give the first place where several or none fit.
    #[test]
    fn the_end_of_a_text_is_where_transformers_finds_it() {
        let ids = [5, 9, 3, 7, 9, 7];
        assert_eq!(end_of_text(&ids, EndOfText::Largest), 1);
        assert_eq!(end_of_text(&ids, EndOfText::Token(7)), 3);
        assert_eq!(end_of_text(&ids, EndOfText::Token(8)), 0);
    }
}
