//! `unet/config.json`: the shape of a `UNet2DConditionModel`.

use serde_json::{Value, json};

use super::{CHANNELS, ConfigFile, EPSILON, LAYERS};
use crate::Result;

/// Cross-attention of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttentionConfig {
    pub heads: usize,
    /// Transformer layers behind each residual layer.
    pub depth: usize,
}

/// One block on the way down or up.
#[derive(Debug, Clone)]
pub(crate) struct BlockConfig {
    pub channels: usize,
    /// Residual layers on the way down; there is one more on the way up.
    pub layers: usize,
    /// Absent in blocks without cross-attention.
    pub attention: Option<AttentionConfig>,
}

/// The shape of the UNet.
#[derive(Debug, Clone)]
pub(crate) struct UnetConfig {
    pub in_channels: usize,
    pub out_channels: usize,
    /// From the full size to the smallest.
    pub down: Vec<BlockConfig>,
    pub mid: AttentionConfig,
    /// From the smallest to the full size.
    pub up: Vec<BlockConfig>,
    /// Width of the text embeddings.
    pub text_width: usize,
    pub norm_groups: usize,
    pub norm_epsilon: f64,
    /// Cosines before sines in the timestep embedding.
    pub flip_sin_to_cos: bool,
    pub frequency_shift: f64,
}

impl UnetConfig {
    /// Reads and bounds the file. Defaults are those of diffusers' `UNet2DConditionModel`.
    pub fn read(file: &ConfigFile) -> Result<Self> {
        refuse_unsupported(file)?;
        let channels = file.block_channels("block_out_channels")?;
        let norm_groups = file.count("norm_num_groups", Some(32), 1..=1024)?;
        if let Some(odd) = channels.iter().find(|count| *count % norm_groups != 0) {
            let reason = format!("holds {odd}, which is not a multiple of norm_num_groups {norm_groups}");
            return Err(file.fault("block_out_channels", reason));
        }
        let attentions = attentions(file, &channels)?;
        let down = blocks(
            file,
            "down_block_types",
            ["DownBlock2D", "CrossAttnDownBlock2D"],
            &channels,
            &attentions,
        )?;
        let reversed = |list: &[usize]| list.iter().rev().copied().collect::<Vec<_>>();
        let up_attentions: Vec<_> = attentions.iter().rev().copied().collect();
        let mut up = blocks(
            file,
            "up_block_types",
            ["UpBlock2D", "CrossAttnUpBlock2D"],
            &reversed(&channels),
            &up_attentions,
        )?;
        for (up, down) in up.iter_mut().zip(down.iter().rev()) {
            up.layers = down.layers;
        }
        Ok(Self {
            in_channels: file.count("in_channels", Some(4), CHANNELS)?,
            out_channels: file.count("out_channels", Some(4), CHANNELS)?,
            mid: attentions[channels.len() - 1],
            down,
            up,
            text_width: file.count("cross_attention_dim", Some(1280), CHANNELS)?,
            norm_groups,
            norm_epsilon: file.number("norm_eps", 1e-5, EPSILON)?,
            flip_sin_to_cos: file.flag("flip_sin_to_cos", true)?,
            frequency_shift: file.number("freq_shift", 0.0, 0.0..=1.0)?,
        })
    }
}

/// Heads and depth of each block. In diffusers `attention_head_dim` is the *number* of heads whenever
/// `num_attention_heads` is null, which it is in Stable Diffusion 1 and 2.
fn attentions(file: &ConfigFile, channels: &[usize]) -> Result<Vec<AttentionConfig>> {
    let key =
        if file.get("num_attention_heads").is_some() { "num_attention_heads" } else { "attention_head_dim" };
    let heads = file.counts(key, Some(8), channels.len(), 1..=256)?;
    let depths = file.counts("transformer_layers_per_block", Some(1), channels.len(), LAYERS)?;
    for (channels, heads) in channels.iter().zip(&heads) {
        if channels % heads != 0 {
            return Err(
                file.fault(key, format!("gives {heads} heads, which do not divide {channels} channels"))
            );
        }
    }
    Ok(heads.into_iter().zip(depths).map(|(heads, depth)| AttentionConfig { heads, depth }).collect())
}

fn blocks(
    file: &ConfigFile,
    key: &str,
    [plain, crossed]: [&str; 2],
    channels: &[usize],
    attentions: &[AttentionConfig],
) -> Result<Vec<BlockConfig>> {
    let layers = file.counts("layers_per_block", Some(2), channels.len(), LAYERS)?;
    let types = file.texts(key, channels.len())?;
    types
        .into_iter()
        .enumerate()
        .map(|(index, name)| {
            let attention = match name {
                name if name == plain => None,
                name if name == crossed => Some(attentions[index]),
                other => {
                    return Err(
                        file.fault(key, format!("holds '{other}': {plain} and {crossed} are supported"))
                    );
                }
            };
            Ok(BlockConfig { channels: channels[index], layers: layers[index], attention })
        })
        .collect()
}

/// Keys that change what is computed and are not computed here.
fn refuse_unsupported(file: &ConfigFile) -> Result<()> {
    file.only("_class_name", &[json!("UNet2DConditionModel")])?;
    file.only("act_fn", &[json!("silu"), json!("swish")])?;
    file.only("mid_block_type", &[json!("UNetMidBlock2DCrossAttn")])?;
    file.only("time_embedding_type", &[json!("positional")])?;
    file.only("resnet_time_scale_shift", &[json!("default")])?;
    file.only("attention_type", &[json!("default")])?;
    for (key, value) in [("conv_in_kernel", 3), ("conv_out_kernel", 3), ("downsample_padding", 1)] {
        file.only(key, &[json!(value)])?;
    }
    for key in ["mid_block_scale_factor", "resnet_out_scale_factor"] {
        file.only(key, &[json!(1), json!(1.0)])?;
    }
    for key in [
        "center_input_sample",
        "only_cross_attention",
        "mid_block_only_cross_attention",
        "dual_cross_attention",
        "resnet_skip_time_act",
        "class_embeddings_concat",
    ] {
        file.only(key, &[Value::Bool(false)])?;
    }
    for key in [
        "addition_embed_type",
        "class_embed_type",
        "cross_attention_norm",
        "encoder_hid_dim",
        "encoder_hid_dim_type",
        "num_class_embeds",
        "reverse_transformer_layers_per_block",
        "time_cond_proj_dim",
        "time_embedding_act_fn",
        "time_embedding_dim",
        "timestep_post_act",
    ] {
        file.only(key, &[])?;
    }
    Ok(())
}
