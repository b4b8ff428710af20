//! The names of a checkpoint's tensors, and those under which diffusers has the same numbers.

use super::family::{CLIP, Kind, OPEN_CLIP, UNET, VAES, XL_CLIP, XL_OPEN_CLIP};
use crate::source::Part;
use crate::weights::{SafetensorsFile, Stored};
use crate::{Error, Result};

/// What training leaves in a checkpoint and no picture needs, by the start of its name: averages of the
/// weights over training, losses, and buffers of the noise schedule.
const LEFTOVERS: [&str; 13] = [
    "model_ema.",
    "embedding_manager.",
    "lr_scheduler",
    "optimizer",
    "callbacks",
    "denoiser.",
    "loss.",
    "first_stage_model.loss.",
    "first_stage_model.model_ema.",
    "cond_stage_model.transformer.vision_model.",
    "cond_stage_model.transformer.visual_projection.",
    "cond_stage_model.model.visual.",
    "conditioner.embedders.1.model.visual.",
];
/// The same by whole names.
const LEFTOVER_NAMES: [&str; 30] = [
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "betas",
    "cond_stage_model.logit_scale",
    "cond_stage_model.model.attn_mask",
    "cond_stage_model.model.logit_scale",
    "cond_stage_model.transformer.logit_scale",
    "cond_stage_model.transformer.text_model.embeddings.position_ids",
    "cond_stage_model.transformer.embeddings.position_ids",
    "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
    "conditioner.embedders.0.logit_scale",
    "conditioner.embedders.1.logit_scale",
    "conditioner.embedders.1.model.attn_mask",
    "conditioner.embedders.1.model.logit_scale",
    "global_step",
    "log_one_minus_alphas_cumprod",
    "logvar",
    "lvlb_weights",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "posterior_variance",
    "scale_factor",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "state_dict",
    "v_pred",
    "ztsnr",
];

/// Most numbered blocks of one kind; published checkpoints have 12.
const MAX_BLOCKS: usize = 256;

/// Whether a tensor is left over from training, or only a mark.
pub(super) fn is_leftover(key: &str) -> bool {
    LEFTOVER_NAMES.contains(&key) || LEFTOVERS.iter().any(|prefix| key.starts_with(prefix))
}

/// How the names of one checkpoint are read.
pub(super) struct Names {
    kind: Kind,
    /// What the VAE's names begin with.
    vae: &'static str,
    /// Residual layers of a UNet block on the way down.
    layers: usize,
    /// Sizes of the VAE.
    vae_levels: usize,
}

/// Two names of one thing: in a checkpoint, and in diffusers.
type Pair = (&'static str, &'static str);

/// Layers of the UNet by the start of their names.
const UNET_LAYERS: [Pair; 7] = [
    ("time_embed.0.", "time_embedding.linear_1."),
    ("time_embed.2.", "time_embedding.linear_2."),
    ("label_emb.0.0.", "add_embedding.linear_1."),
    ("label_emb.0.2.", "add_embedding.linear_2."),
    ("input_blocks.0.0.", "conv_in."),
    ("out.0.", "conv_norm_out."),
    ("out.2.", "conv_out."),
];
/// Layers of a residual layer of the UNet.
const UNET_RESIDUAL: [Pair; 6] = [
    ("in_layers.0.", "norm1."),
    ("in_layers.2.", "conv1."),
    ("emb_layers.1.", "time_emb_proj."),
    ("out_layers.0.", "norm2."),
    ("out_layers.3.", "conv2."),
    ("skip_connection.", "conv_shortcut."),
];
/// Layers of a residual layer of the VAE.
const VAE_RESIDUAL: [Pair; 5] = [
    ("norm1.", "norm1."),
    ("conv1.", "conv1."),
    ("norm2.", "norm2."),
    ("conv2.", "conv2."),
    ("nin_shortcut.", "conv_shortcut."),
];
/// Layers of the VAE's attention.
const VAE_ATTENTION: [Pair; 5] =
    [("norm.", "group_norm."), ("q.", "to_q."), ("k.", "to_k."), ("v.", "to_v."), ("proj_out.", "to_out.0.")];
/// Layers of OpenCLIP outside its blocks.
const OPEN_CLIP_LAYERS: [Pair; 3] = [
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("token_embedding.", "text_model.embeddings.token_embedding."),
    ("ln_final.", "text_model.final_layer_norm."),
];
/// Layers of one of its blocks.
const OPEN_CLIP_BLOCK: [Pair; 5] = [
    ("ln_1.", "layer_norm1."),
    ("ln_2.", "layer_norm2."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
    ("attn.out_proj.", "self_attn.out_proj."),
];

/// The name with its start exchanged, by the first pair that fits.
fn exchange(name: &str, pairs: &[Pair]) -> Option<String> {
    pairs.iter().find_map(|(old, new)| Some(format!("{new}{}", name.strip_prefix(old)?)))
}

/// A number and the rest of the name behind its dot.
fn number(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = name.split_once('.')?;
    let plain = number == "0" || !number.starts_with('0');
    let digits = number.len() < 5 && number.bytes().all(|byte| byte.is_ascii_digit());
    (plain && digits).then(|| Some((number.parse().ok()?, rest)))?
}

impl Names {
    /// Reads from the names what the translation depends on.
    pub fn of(file: &SafetensorsFile, kind: Kind) -> Result<Self> {
        let vae = VAES.into_iter().find(|prefix| file.keys().any(|key| key.starts_with(prefix)));
        let vae = vae.unwrap_or(VAES[0]);
        let blocks = without_gaps(file, &format!("{UNET}input_blocks."))?;
        without_gaps(file, &format!("{UNET}output_blocks."))?;
        let vae_levels = without_gaps(file, &format!("{vae}decoder.up."))?;
        let halves = |block: &usize| file.shape(&format!("{UNET}input_blocks.{block}.0.op.weight")).is_some();
        // The convolution that enters is block 0, and the first that halves stands behind the first layers.
        let layers = (0..blocks).find(halves).unwrap_or(blocks);
        if layers < 2 {
            let reason = format!("'{UNET}input_blocks.*' begin without a residual layer");
            return Err(Error::Malformed { path: file.path().to_owned(), reason });
        }
        Ok(Self { kind, vae, layers: layers - 1, vae_levels })
    }

    /// The part that a tensor belongs to.
    pub fn part(&self, key: &str) -> Option<Part> {
        let prefixes: &[(&str, Part)] = match self.kind {
            Kind::V1 => &[(CLIP, Part::TextEncoder)],
            Kind::V2 => &[(OPEN_CLIP, Part::TextEncoder)],
            Kind::Xl => &[(XL_CLIP, Part::TextEncoder), (XL_OPEN_CLIP, Part::TextEncoder2)],
        };
        let common = [(UNET, Part::Unet), (self.vae, Part::Vae)];
        prefixes.iter().chain(&common).find(|(prefix, _)| key.starts_with(prefix)).map(|(_, part)| *part)
    }

    /// A tensor under the names of diffusers: under none where it lies beyond the `layers` of a text encoder
    /// that are used, under three where it holds three projections. Nothing for a name that is not known.
    pub fn stored(&self, file: &SafetensorsFile, key: &str, layers: usize) -> Option<Vec<(String, Stored)>> {
        let whole = Stored::whole(0, file, key)?;
        match self.part(key)? {
            Part::Unet => Some(vec![(self.unet(key.strip_prefix(UNET)?)?, whole)]),
            Part::Vae => {
                let name = self.vae(key.strip_prefix(self.vae)?)?;
                let stored = if name.contains(".attentions.") { as_matrix(whole)? } else { whole };
                Some(vec![(name, stored)])
            }
            _ => match [OPEN_CLIP, XL_OPEN_CLIP].iter().find_map(|prefix| key.strip_prefix(prefix)) {
                // Version 2 was trained without the projection that its file has.
                Some("text_projection") if self.kind == Kind::V2 => Some(Vec::new()),
                Some(name) => open_clip(name, whole, layers),
                None => {
                    let name = [CLIP, XL_CLIP].iter().find_map(|prefix| key.strip_prefix(prefix))?;
                    Some(vec![(name.to_owned(), whole)])
                }
            },
        }
    }

    fn unet(&self, name: &str) -> Option<String> {
        if let Some(name) = exchange(name, &UNET_LAYERS) {
            return Some(name);
        }
        if let Some(rest) = name.strip_prefix("middle_block.") {
            return match number(rest)? {
                (1, rest) => Some(format!("mid_block.attentions.0.{rest}")),
                (place @ (0 | 2), rest) => {
                    Some(format!("mid_block.resnets.{}.{}", place / 2, exchange(rest, &UNET_RESIDUAL)?))
                }
                _ => None,
            };
        }
        if let Some(rest) = name.strip_prefix("input_blocks.") {
            let (block, rest) = number(rest)?;
            return self.unet_block("down", block.checked_sub(1)?, rest);
        }
        let (block, rest) = number(name.strip_prefix("output_blocks.")?)?;
        self.unet_block("up", block, rest)
    }

    /// A block on the way down or up: a layer of residual and attention, or a change of size, which on the
    /// way up stands behind the last layer and on the way down alone.
    fn unet_block(&self, way: &str, block: usize, rest: &str) -> Option<String> {
        let each = self.layers + 1;
        let (level, layer) = (block / each, block % each);
        let (place, rest) = number(rest)?;
        if let Some(rest) =
            rest.strip_prefix("op.").filter(|_| way == "down" && place == 0 && layer == self.layers)
        {
            return Some(format!("down_blocks.{level}.downsamplers.0.conv.{rest}"));
        }
        if let Some(rest) =
            rest.strip_prefix("conv.").filter(|_| way == "up" && place > 0 && layer == self.layers)
        {
            return (place <= 2).then(|| format!("up_blocks.{level}.upsamplers.0.conv.{rest}"));
        }
        match place {
            0 => Some(format!("{way}_blocks.{level}.resnets.{layer}.{}", exchange(rest, &UNET_RESIDUAL)?)),
            1 => Some(format!("{way}_blocks.{level}.attentions.{layer}.{rest}")),
            _ => None,
        }
    }

    fn vae(&self, name: &str) -> Option<String> {
        if name.starts_with("quant_conv.") || name.starts_with("post_quant_conv.") {
            return Some(name.to_owned());
        }
        let (half, rest) = name.split_once('.').filter(|(half, _)| ["encoder", "decoder"].contains(half))?;
        let ends: [Pair; 3] =
            [("conv_in.", "conv_in."), ("conv_out.", "conv_out."), ("norm_out.", "conv_norm_out.")];
        let rest =
            exchange(rest, &ends).or_else(|| vae_middle(rest)).or_else(|| self.vae_block(half, rest))?;
        Some(format!("{half}.{rest}"))
    }

    /// The decoder's blocks are numbered from the full size here, and from the smallest in diffusers.
    fn vae_block(&self, half: &str, rest: &str) -> Option<String> {
        let encoder = half == "encoder";
        let (level, rest) = number(rest.strip_prefix(if encoder { "down." } else { "up." })?)?;
        let block = if encoder {
            format!("down_blocks.{level}")
        } else {
            format!("up_blocks.{}", (self.vae_levels - 1).checked_sub(level)?)
        };
        if let Some(rest) = rest.strip_prefix("block.") {
            let (layer, rest) = number(rest)?;
            return Some(format!("{block}.resnets.{layer}.{}", exchange(rest, &VAE_RESIDUAL)?));
        }
        let resize: Pair = if encoder {
            ("downsample.conv.", "downsamplers.0.conv.")
        } else {
            ("upsample.conv.", "upsamplers.0.conv.")
        };
        Some(format!("{block}.{}", exchange(rest, &[resize])?))
    }
}

fn vae_middle(rest: &str) -> Option<String> {
    let (layer, rest) = rest.strip_prefix("mid.")?.split_once('.')?;
    match layer {
        "block_1" => Some(format!("mid_block.resnets.0.{}", exchange(rest, &VAE_RESIDUAL)?)),
        "block_2" => Some(format!("mid_block.resnets.1.{}", exchange(rest, &VAE_RESIDUAL)?)),
        "attn_1" => Some(format!("mid_block.attentions.0.{}", exchange(rest, &VAE_ATTENTION)?)),
        _ => None,
    }
}

/// A kernel of 1 as the matrix that it is.
fn as_matrix(stored: Stored) -> Option<Stored> {
    match stored.shape() {
        [rows, columns, 1] | [rows, columns, 1, 1] => {
            let shape = vec![*rows, *columns];
            stored.reshaped(shape)
        }
        _ => Some(stored),
    }
}

fn open_clip(name: &str, whole: Stored, layers: usize) -> Option<Vec<(String, Stored)>> {
    if let Some(name) = exchange(name, &OPEN_CLIP_LAYERS) {
        return Some(vec![(name, whole)]);
    }
    if name == "text_projection" {
        return Some(vec![("text_projection.weight".to_owned(), whole.transpose()?)]);
    }
    let (block, rest) = number(name.strip_prefix("transformer.resblocks.")?)?;
    if block >= layers {
        return Some(Vec::new());
    }
    let block = format!("text_model.encoder.layers.{block}");
    if let Some(rest) = exchange(rest, &OPEN_CLIP_BLOCK) {
        return Some(vec![(format!("{block}.{rest}"), whole)]);
    }
    let kind = rest.strip_prefix("attn.in_proj_").filter(|kind| ["weight", "bias"].contains(kind))?;
    let part = |(index, letter)| {
        Some((format!("{block}.self_attn.{letter}_proj.{kind}"), whole.clone().part(index, 3)?))
    };
    ["q", "k", "v"].into_iter().enumerate().map(part).collect()
}

/// How many numbers stand behind a prefix, of which there must be one at least, from 0 on and none left out.
fn without_gaps(file: &SafetensorsFile, prefix: &str) -> Result<usize> {
    let numbers = numbers(file, prefix);
    let malformed = |reason: String| Error::Malformed { path: file.path().to_owned(), reason };
    if numbers.is_empty() {
        return Err(malformed(format!("holds no tensor '{prefix}0.*'")));
    }
    if numbers.len() > MAX_BLOCKS {
        return Err(malformed(format!("holds {} of '{prefix}*', more than {MAX_BLOCKS}", numbers.len())));
    }
    match numbers.iter().enumerate().find(|(place, number)| place != *number) {
        Some((place, number)) => {
            Err(malformed(format!("holds '{prefix}{number}.*', but no '{prefix}{place}.*'")))
        }
        None => Ok(numbers.len()),
    }
}

/// The numbers that stand behind a prefix, in order and each once.
pub(super) fn numbers(file: &SafetensorsFile, prefix: &str) -> Vec<usize> {
    let behind = file.keys().filter_map(|key| Some(number(key.strip_prefix(prefix)?)?.0));
    let mut numbers: Vec<usize> = behind.collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}
