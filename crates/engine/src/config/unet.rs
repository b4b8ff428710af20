//! `unet/config.json`: the shape of a `UNet2DConditionModel`, whose way down a ControlNet repeats.

use serde_json::{Value, json};

use super::{CHANNELS, ConfigFile, EPSILON, LAYERS};
use crate::Result;

/// Numbers that say how large a picture is and was: original size, crop and target size, two each.
pub(crate) const TIME_IDS: usize = 6;
/// Transformer layers behind one residual layer. None leaves the projections around them.
const DEPTH: std::ops::RangeInclusive<usize> = 0..=*LAYERS.end();
/// The narrowest sinusoids that the formula of the guidance embedding has a frequency for.
const GUIDANCE_WIDTH: std::ops::RangeInclusive<usize> = 4..=*CHANNELS.end();

/// Cross-attention of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttentionConfig {
    pub heads: usize,
    /// Transformer layers behind each residual layer, in their order.
    pub depths: Vec<usize>,
}

/// One block on the way down or up.
#[derive(Debug, Clone)]
pub(crate) struct BlockConfig {
    pub channels: usize,
    /// Residual layers.
    pub layers: usize,
    /// Absent in blocks without cross-attention.
    pub attention: Option<AttentionConfig>,
}

/// The block at the smallest size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MidConfig {
    /// There is none.
    Absent,
    /// One residual layer.
    Plain,
    /// A transformer between two residual layers.
    Crossed(AttentionConfig),
}

/// How a timestep is embedded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeConfig {
    /// Cosines before sines.
    pub flip_sin_to_cos: bool,
    pub frequency_shift: f64,
    /// Width of the sinusoids of the guidance scale, in networks that were distilled to take it as an input.
    pub guidance_width: Option<usize>,
}

/// What is added to the timestep embedding in Stable Diffusion XL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AddedConfig {
    /// Width of the pooled text.
    pub pooled_width: usize,
    /// Width of the sinusoids of each of the [`TIME_IDS`].
    pub time_width: usize,
}

/// What a UNet and a ControlNet have in common: the way down to the smallest size.
#[derive(Debug, Clone)]
pub(crate) struct TrunkConfig {
    pub in_channels: usize,
    /// From the full size to the smallest.
    pub down: Vec<BlockConfig>,
    pub mid: MidConfig,
    /// Width of the text embeddings.
    pub text_width: usize,
    pub norm_groups: usize,
    pub norm_epsilon: f64,
    pub time: TimeConfig,
    pub added: Option<AddedConfig>,
}

/// The shape of the UNet.
#[derive(Debug, Clone)]
pub(crate) struct UnetConfig {
    pub trunk: TrunkConfig,
    pub out_channels: usize,
    /// From the smallest to the full size; each block has one residual layer more than its twin on the way
    /// down.
    pub up: Vec<BlockConfig>,
}

impl UnetConfig {
    /// Reads and bounds the file. Defaults are those of diffusers' `UNet2DConditionModel`.
    pub fn read(file: &ConfigFile) -> Result<Self> {
        file.only("_class_name", &[json!("UNet2DConditionModel")])?;
        let trunk = TrunkConfig::read(file)?;
        let up = up_blocks(file, &trunk)?;
        Ok(Self { trunk, out_channels: file.count("out_channels", Some(4), CHANNELS)?, up })
    }

    /// Whether the guidance scale is an input. Such a network was distilled from the guided pair of
    /// predictions and is not to be run on the negative prompt as well.
    pub fn takes_guidance(&self) -> bool {
        self.trunk.time.guidance_width.is_some()
    }
}

impl TrunkConfig {
    /// Reads and bounds what UNets and ControlNets share. Defaults are those of diffusers.
    pub fn read(file: &ConfigFile) -> Result<Self> {
        refuse_unsupported(file)?;
        let channels = file.block_channels("block_out_channels")?;
        let norm_groups = file.count("norm_num_groups", Some(32), 1..=1024)?;
        if let Some(odd) = channels.iter().find(|count| *count % norm_groups != 0) {
            let reason = format!("holds {odd}, which is not a multiple of norm_num_groups {norm_groups}");
            return Err(file.fault("block_out_channels", reason));
        }
        let heads = heads(file, &channels)?;
        let layers = file.counts("layers_per_block", Some(2), channels.len(), LAYERS)?;
        let depths = depths(file, "transformer_layers_per_block", &layers)?;
        Ok(Self {
            in_channels: file.count("in_channels", Some(4), CHANNELS)?,
            mid: mid(file, heads[heads.len() - 1], &depths)?,
            down: blocks(
                file,
                ("down_block_types", ["DownBlock2D", "CrossAttnDownBlock2D"]),
                &Sizes { channels, layers, heads, depths },
            )?,
            text_width: text_width(file)?,
            norm_groups,
            norm_epsilon: file.number("norm_eps", 1e-5, EPSILON)?,
            time: time(file)?,
            added: added(file)?,
        })
    }

    /// Channels at the full size.
    pub fn first_channels(&self) -> usize {
        self.down[0].channels
    }

    /// Channels at the smallest size.
    pub fn last_channels(&self) -> usize {
        self.down[self.down.len() - 1].channels
    }

    /// Width of the timestep embedding.
    pub fn embedding_width(&self) -> usize {
        4 * self.first_channels()
    }
}

/// Sizes of each block, in the order in which the blocks stand.
struct Sizes {
    channels: Vec<usize>,
    layers: Vec<usize>,
    heads: Vec<usize>,
    /// Of each layer.
    depths: Vec<Vec<usize>>,
}

/// In diffusers `attention_head_dim` is the *number* of heads whenever `num_attention_heads` is null, which it
/// is in every published model.
fn heads(file: &ConfigFile, channels: &[usize]) -> Result<Vec<usize>> {
    let key =
        if file.get("num_attention_heads").is_some() { "num_attention_heads" } else { "attention_head_dim" };
    let heads = file.counts(key, Some(8), channels.len(), 1..=256)?;
    for (channels, heads) in channels.iter().zip(&heads) {
        if channels % heads != 0 {
            return Err(
                file.fault(key, format!("gives {heads} heads, which do not divide {channels} channels"))
            );
        }
    }
    Ok(heads)
}

/// Transformer layers behind each residual layer of each block: one number for all, one for each block, or one
/// for each layer of a block.
fn depths(file: &ConfigFile, key: &str, layers: &[usize]) -> Result<Vec<Vec<usize>>> {
    let Some(Value::Array(values)) = file.get(key) else {
        let depth = file.count(key, Some(1), DEPTH)?;
        return Ok(layers.iter().map(|count| vec![depth; *count]).collect());
    };
    if values.len() != layers.len() {
        let reason = format!("has {} entries, but there are {} blocks", values.len(), layers.len());
        return Err(file.fault(key, reason));
    }
    let of_block = |(value, layers): (&Value, &usize)| match value {
        // diffusers leaves numbers beyond the block's layers unread.
        Value::Array(depths) if depths.len() >= *layers => {
            depths.iter().take(*layers).map(|depth| file.as_count(key, depth, DEPTH)).collect()
        }
        Value::Array(depths) => {
            let reason = format!("holds {} numbers for a block of {layers} layers", depths.len());
            Err(file.fault(key, reason))
        }
        one => Ok(vec![file.as_count(key, one, DEPTH)?; *layers]),
    };
    values.iter().zip(layers).map(of_block).collect()
}

fn mid(file: &ConfigFile, heads: usize, depths: &[Vec<usize>]) -> Result<MidConfig> {
    if file.is_null("mid_block_type") {
        return Ok(MidConfig::Absent);
    }
    match file.text("mid_block_type", "UNetMidBlock2DCrossAttn")? {
        "UNetMidBlock2D" => Ok(MidConfig::Plain),
        "UNetMidBlock2DCrossAttn" => {
            // It has one transformer, as deep as the first of the last block.
            let depth = depths.last().and_then(|of_block| of_block.first()).copied();
            Ok(MidConfig::Crossed(AttentionConfig { heads, depths: depth.into_iter().collect() }))
        }
        other => Err(file.fault(
            "mid_block_type",
            format!("is '{other}': UNetMidBlock2DCrossAttn, UNetMidBlock2D and null are supported"),
        )),
    }
}

fn blocks(
    file: &ConfigFile,
    (key, [plain, crossed]): (&str, [&str; 2]),
    sizes: &Sizes,
) -> Result<Vec<BlockConfig>> {
    let types = file.texts(key, sizes.channels.len())?;
    let block = |(index, name): (usize, &str)| {
        let attention = match name {
            name if name == plain => None,
            name if name == crossed => {
                Some(AttentionConfig { heads: sizes.heads[index], depths: sizes.depths[index].clone() })
            }
            other => {
                return Err(file.fault(key, format!("holds '{other}': {plain} and {crossed} are supported")));
            }
        };
        Ok(BlockConfig { channels: sizes.channels[index], layers: sizes.layers[index], attention })
    };
    types.into_iter().enumerate().map(block).collect()
}

/// The way up mirrors the way down, with one residual layer more in each block.
fn up_blocks(file: &ConfigFile, trunk: &TrunkConfig) -> Result<Vec<BlockConfig>> {
    const REVERSED: &str = "reverse_transformer_layers_per_block";
    const FORWARD: &str = "transformer_layers_per_block";
    let channels: Vec<usize> = trunk.down.iter().rev().map(|block| block.channels).collect();
    let layers: Vec<usize> = trunk.down.iter().rev().map(|block| block.layers + 1).collect();
    let mut heads = heads(file, &trunk.down.iter().map(|block| block.channels).collect::<Vec<_>>())?;
    heads.reverse();
    let depths = if file.get(REVERSED).is_some() {
        depths(file, REVERSED, &layers)?
    } else {
        let listed = file.get(FORWARD).and_then(Value::as_array);
        if listed.is_some_and(|blocks| blocks.iter().any(Value::is_array)) {
            return Err(file.fault(REVERSED, format!("is missing: the lists in {FORWARD} do not mirror")));
        }
        // One more layer than on the way down, as deep as the others.
        let down = file.counts(FORWARD, Some(1), layers.len(), DEPTH)?;
        down.iter().rev().zip(&layers).map(|(depth, layers)| vec![*depth; *layers]).collect()
    };
    let sizes = Sizes { channels, layers, heads, depths };
    blocks(file, ("up_block_types", ["UpBlock2D", "CrossAttnUpBlock2D"]), &sizes)
}

/// One number, or the same one for each block.
fn text_width(file: &ConfigFile) -> Result<usize> {
    const KEY: &str = "cross_attention_dim";
    let Some(Value::Array(widths)) = file.get(KEY) else { return file.count(KEY, Some(1280), CHANNELS) };
    match widths.as_slice() {
        [first, rest @ ..] if rest.iter().all(|width| width == first) => file.as_count(KEY, first, CHANNELS),
        _ => Err(file.fault(KEY, "is a list of different widths: one text has one width")),
    }
}

fn time(file: &ConfigFile) -> Result<TimeConfig> {
    const GUIDANCE: &str = "time_cond_proj_dim";
    let guidance = file.get(GUIDANCE).map(|value| file.as_count(GUIDANCE, value, GUIDANCE_WIDTH));
    Ok(TimeConfig {
        flip_sin_to_cos: file.flag("flip_sin_to_cos", true)?,
        frequency_shift: file.number("freq_shift", 0.0, 0.0..=1.0)?,
        guidance_width: guidance.transpose()?,
    })
}

fn added(file: &ConfigFile) -> Result<Option<AddedConfig>> {
    const INPUT: &str = "projection_class_embeddings_input_dim";
    file.only("addition_embed_type", &[json!("text_time")])?;
    if file.get("addition_embed_type").is_none() {
        return Ok(None);
    }
    let time_width = file.count("addition_time_embed_dim", None, CHANNELS)?;
    let input = file.count(INPUT, None, CHANNELS)?;
    match input.checked_sub(TIME_IDS * time_width) {
        Some(pooled_width) if pooled_width > 0 => Ok(Some(AddedConfig { pooled_width, time_width })),
        _ => Err(file.fault(
            INPUT,
            format!(
                "is {input}, which leaves nothing for the pooled text beside {TIME_IDS} times {time_width}"
            ),
        )),
    }
}

/// Keys that change what is computed and are not computed here.
fn refuse_unsupported(file: &ConfigFile) -> Result<()> {
    file.only("act_fn", &[json!("silu"), json!("swish")])?;
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
    refuse_class_labels(file)?;
    for key in [
        "cross_attention_norm",
        "encoder_hid_dim",
        "encoder_hid_dim_type",
        "time_embedding_act_fn",
        "time_embedding_dim",
        "timestep_post_act",
    ] {
        file.only(key, &[])?;
    }
    Ok(())
}

/// Upscalers and variations of pictures are conditioned on labels, which no request carries.
fn refuse_class_labels(file: &ConfigFile) -> Result<()> {
    for key in ["class_embed_type", "num_class_embeds"] {
        if let Some(value) = file.get(key) {
            return Err(file.fault(
                key,
                format!(
                    "is {value}: the network asks for class labels, as upscalers and variations of pictures \
                     do, and only networks without are supported"
                ),
            ));
        }
    }
    Ok(())
}
