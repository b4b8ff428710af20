//! The configurations that diffusers keeps in files of its own, from the shapes of a checkpoint's tensors and
//! from what was published of its architecture.
//!
//! A value that shapes do not tell is that of the published models: norms of 32 groups, heads of 64 (8 heads
//! in the UNet of Stable Diffusion 1), the noise schedule. Where even that cannot be it is null, and the
//! file beside the checkpoint must tell it.

use serde_json::{Map, Value, json};

use super::family::{CLIP, Kind, OPEN_CLIP, UNET, VAES, XL_CLIP, XL_OPEN_CLIP};
use super::names::numbers;
use crate::Result;
use crate::config::unet::TIME_IDS;
use crate::source::Part;
use crate::weights::SafetensorsFile;

type Values = Map<String, Value>;

/// Width of a head in every published model but the UNet of Stable Diffusion 1.
const HEAD_WIDTH: usize = 64;
/// Heads there.
const V1_HEADS: usize = 8;
/// Blocks of the text encoder that Stable Diffusion 2 uses; the file has one more.
const V2_TEXT_LAYERS: usize = 23;
/// Steps of training of the model that was published as the base of Stable Diffusion 2, which predicts the
/// noise. The others of version 2 that make images from text alone predict the velocity.
const V2_BASE_STEPS: i64 = 875_000;
/// Channels of the latents beside a mask and the latents of the masked picture.
const INPAINTING_CHANNELS: usize = 9;

/// A part's configuration with the keys of diffusers.
pub(super) fn of(file: &SafetensorsFile, kind: Kind, part: Part) -> Result<Values> {
    let tensors = Tensors { file };
    let values = match part {
        Part::Unet => tensors.unet(kind, velocity(file, kind)?),
        Part::Vae => tensors.vae(kind),
        Part::TextEncoder2 => tensors.open_clip(XL_OPEN_CLIP, usize::MAX),
        Part::TextEncoder => match kind {
            Kind::V1 => tensors.clip(CLIP),
            Kind::V2 => tensors.open_clip(OPEN_CLIP, V2_TEXT_LAYERS),
            Kind::Xl => tensors.clip(XL_CLIP),
        },
        _ => scheduler(kind, velocity(file, kind)?, file.shape("ztsnr").is_some()),
    };
    Ok(match values {
        Value::Object(values) => values,
        _ => Values::new(),
    })
}

/// Whether the network predicts the velocity, which no shape tells: as diffusers takes it to be, or as a
/// mark in the file says.
fn velocity(file: &SafetensorsFile, kind: Kind) -> Result<bool> {
    if file.shape("v_pred").is_some() {
        return Ok(true);
    }
    let channels = Tensors { file }.dim(&format!("{UNET}input_blocks.0.0.weight"), 1);
    let text_alone = channels != Some(INPAINTING_CHANNELS);
    Ok(kind == Kind::V2 && text_alone && file.whole_number("global_step")? != Some(V2_BASE_STEPS))
}

/// The noise schedule that every published model was trained with, and the pipelines' own spacing.
fn scheduler(kind: Kind, velocity: bool, zero_snr: bool) -> Value {
    let class = match kind {
        Kind::V1 => "PNDMScheduler",
        Kind::V2 => "DDIMScheduler",
        Kind::Xl => "EulerDiscreteScheduler",
    };
    json!({
        "_class_name": class,
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": if velocity { "v_prediction" } else { "epsilon" },
        "timestep_spacing": if zero_snr { "trailing" } else { "leading" },
        "steps_offset": 1,
        "set_alpha_to_one": false,
        "clip_sample": false,
        "rescale_betas_zero_snr": zero_snr,
    })
}

/// The shapes of a checkpoint's tensors.
struct Tensors<'a> {
    file: &'a SafetensorsFile,
}

impl Tensors<'_> {
    /// One dimension of a tensor.
    fn dim(&self, key: &str, index: usize) -> Option<usize> {
        self.file.shape(key)?.get(index).copied()
    }

    /// The number of different numbers behind a prefix.
    fn count(&self, prefix: &str) -> usize {
        numbers(self.file, prefix).len()
    }

    fn unet(&self, kind: Kind, velocity: bool) -> Value {
        let down = self.down_blocks();
        let channels: Vec<_> = down.iter().map(|block| block.channels).collect();
        let mid_depth = self.count(&format!("{UNET}middle_block.1.transformer_blocks.")).max(1);
        let last = down.len().saturating_sub(1);
        let depth = |(index, block): (usize, &DownBlock)| {
            if index == last && block.depth == 0 { mid_depth } else { block.depth.max(1) }
        };
        let types = |way: &str, blocks: &mut dyn Iterator<Item = &DownBlock>| -> Vec<String> {
            let name = |block: &DownBlock| {
                if block.depth > 0 { format!("CrossAttn{way}Block2D") } else { format!("{way}Block2D") }
            };
            blocks.map(name).collect()
        };
        let mut values = json!({
            "_class_name": "UNet2DConditionModel",
            "sample_size": sample_size(kind, velocity),
            "in_channels": self.dim(&format!("{UNET}input_blocks.0.0.weight"), 1),
            "out_channels": self.dim(&format!("{UNET}out.2.weight"), 0),
            "block_out_channels": channels,
            "layers_per_block": down.first().map(|block| block.layers),
            "down_block_types": types("Down", &mut down.iter()),
            "up_block_types": types("Up", &mut down.iter().rev()),
            "cross_attention_dim": self.text_width(),
            "attention_head_dim": unet_heads(kind, &channels),
            "transformer_layers_per_block": down.iter().enumerate().map(depth).collect::<Vec<_>>(),
            "norm_num_groups": 32,
            "norm_eps": 1e-5,
            "flip_sin_to_cos": true,
            "freq_shift": 0,
        });
        if let (Kind::Xl, Value::Object(values)) = (kind, &mut values) {
            let width = self.dim(&format!("{UNET}label_emb.0.0.weight"), 1);
            let pooled = self.dim(&format!("{XL_OPEN_CLIP}text_projection"), 1);
            let time_width = width.zip(pooled).map(|(all, pooled)| all.saturating_sub(pooled) / TIME_IDS);
            values.insert("addition_embed_type".to_owned(), json!("text_time"));
            values.insert("addition_time_embed_dim".to_owned(), json!(time_width));
            values.insert("projection_class_embeddings_input_dim".to_owned(), json!(width));
        }
        values
    }

    /// The blocks on the way down, by what stands between the halvings.
    fn down_blocks(&self) -> Vec<DownBlock> {
        let mut blocks = vec![DownBlock::default()];
        for index in numbers(self.file, &format!("{UNET}input_blocks.")).into_iter().skip(1) {
            let at = |name: &str| format!("{UNET}input_blocks.{index}.{name}");
            if self.file.shape(&at("0.op.weight")).is_some() {
                blocks.push(DownBlock::default());
            } else if let Some(block) = blocks.last_mut() {
                block.layers += 1;
                block.channels = self.dim(&at("0.in_layers.2.weight"), 0);
                block.depth = self.count(&at("1.transformer_blocks."));
            }
        }
        blocks
    }

    /// The width of the text that the attention takes.
    fn text_width(&self) -> Option<usize> {
        let mut keys = self.file.keys().filter(|key| key.starts_with(UNET));
        self.dim(keys.find(|key| key.ends_with("attn2.to_k.weight"))?, 1)
    }

    fn vae(&self, kind: Kind) -> Value {
        let prefix = VAES.into_iter().find(|prefix| self.file.keys().any(|key| key.starts_with(prefix)));
        let prefix = prefix.unwrap_or(VAES[0]);
        let levels = numbers(self.file, &format!("{prefix}decoder.up."));
        let channels =
            |level: &usize| self.dim(&format!("{prefix}decoder.up.{level}.block.0.conv1.weight"), 0);
        let has = |name: &str| self.file.shape(&format!("{prefix}{name}")).is_some();
        json!({
            "_class_name": "AutoencoderKL",
            "in_channels": 3,
            "out_channels": 3,
            "latent_channels": self.dim(&format!("{prefix}decoder.conv_in.weight"), 1),
            "block_out_channels": levels.iter().map(channels).collect::<Vec<_>>(),
            "down_block_types": vec!["DownEncoderBlock2D"; levels.len()],
            "up_block_types": vec!["UpDecoderBlock2D"; levels.len()],
            "layers_per_block": self.count(&format!("{prefix}decoder.up.0.block.")).saturating_sub(1),
            "norm_num_groups": 32,
            "scaling_factor": if kind == Kind::Xl { 0.13025 } else { 0.18215 },
            "use_quant_conv": has("quant_conv.weight"),
            "use_post_quant_conv": has("post_quant_conv.weight"),
            "mid_block_add_attention": has("decoder.mid.attn_1.q.weight"),
        })
    }

    fn clip(&self, prefix: &str) -> Value {
        let wrapped = format!("{prefix}text_model.");
        let is_wrapped = self.file.keys().any(|key| key.starts_with(&wrapped));
        let at = if is_wrapped { wrapped.as_str() } else { prefix };
        let layers = format!("{at}encoder.layers.");
        text_encoder(TextEncoder {
            activation: "quick_gelu",
            tokens: self.file.shape(&format!("{at}embeddings.token_embedding.weight")),
            window: self.dim(&format!("{at}embeddings.position_embedding.weight"), 0),
            inner_width: self.dim(&format!("{layers}0.mlp.fc1.weight"), 0),
            layers: self.count(&layers),
            projection: None,
        })
    }

    fn open_clip(&self, prefix: &str, most_layers: usize) -> Value {
        let layers = format!("{prefix}transformer.resblocks.");
        text_encoder(TextEncoder {
            activation: "gelu",
            tokens: self.file.shape(&format!("{prefix}token_embedding.weight")),
            window: self.dim(&format!("{prefix}positional_embedding"), 0),
            inner_width: self.dim(&format!("{layers}0.mlp.c_fc.weight"), 0),
            layers: self.count(&layers).min(most_layers),
            projection: self.dim(&format!("{prefix}text_projection"), 1),
        })
    }
}

/// What stands between two halvings on the way down.
#[derive(Default)]
struct DownBlock {
    channels: Option<usize>,
    layers: usize,
    /// Transformer layers of each attention; 0 without one.
    depth: usize,
}

/// Latents a side of the pictures that a model was trained with.
fn sample_size(kind: Kind, velocity: bool) -> usize {
    match kind {
        Kind::Xl => 128,
        Kind::V2 if velocity => 96,
        Kind::V1 | Kind::V2 => 64,
    }
}

/// The number of heads of each block, under the name that diffusers has for it.
fn unet_heads(kind: Kind, channels: &[Option<usize>]) -> Option<Vec<usize>> {
    let heads = |channels: &Option<usize>| match kind {
        Kind::V1 => Some(V1_HEADS),
        Kind::V2 | Kind::Xl => heads_of(*channels),
    };
    channels.iter().map(heads).collect()
}

fn heads_of(width: Option<usize>) -> Option<usize> {
    width.filter(|width| *width > 0 && width % HEAD_WIDTH == 0).map(|width| width / HEAD_WIDTH)
}

/// What the shapes tell of a text encoder.
struct TextEncoder<'a> {
    activation: &'static str,
    tokens: Option<&'a [usize]>,
    window: Option<usize>,
    inner_width: Option<usize>,
    layers: usize,
    projection: Option<usize>,
}

fn text_encoder(sizes: TextEncoder<'_>) -> Value {
    let dim = |index: usize| sizes.tokens.and_then(|shape| shape.get(index).copied());
    let mut values = json!({
        "model_type": "clip_text_model",
        "vocab_size": dim(0),
        "hidden_size": dim(1),
        "intermediate_size": sizes.inner_width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": heads_of(dim(1)),
        "max_position_embeddings": sizes.window,
        "hidden_act": sizes.activation,
        "layer_norm_eps": 1e-5,
        "bos_token_id": 0,
        "eos_token_id": 2,
    });
    if let (Some(projection), Value::Object(values)) = (sizes.projection, &mut values) {
        values.insert("projection_dim".to_owned(), json!(projection));
    }
    values
}
