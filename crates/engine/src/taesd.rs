//! A tiny autoencoder: latents to pixels in a hundredth of the time, for previews, and back.
//!
//! Reference: diffusers' `AutoencoderTiny`, and the program it was made from, madebyollin's TAESD, whose
//! single files are read too. Latents are those of the sampler: no scaling factor stands between.

use std::path::Path;

use candle_core::Tensor;
use seedfarm_numerics::Padding;

use crate::config::ConfigFile;
use crate::config::taesd::{Stages, TaesdConfig};
use crate::folder::find_weights;
use crate::ops::{Conv2d, ConvConfig, Ops};
use crate::weights::{SafetensorsFile, Stored, Weights, WeightsFile};
use crate::{Error, Result};

/// Latents are bent towards plus and minus this before they are decoded.
const LATENT_LIMIT: f32 = 3.0;
/// Where the decoder's layers begin in an original file: its clamp counts as a layer there.
const ORIGINAL_DECODER_OFFSET: usize = 1;

/// A loaded decoder.
pub(crate) struct TaesdDecoder {
    ops: Ops,
    layers: Vec<Layer>,
    latent_channels: usize,
    pixels_per_latent: usize,
}

/// A loaded encoder.
pub(crate) struct TaesdEncoder {
    layers: Vec<Layer>,
    ops: Ops,
}

impl TaesdDecoder {
    /// Loads the decoder of a folder that diffusers wrote, or of an original `taesd_decoder.safetensors`.
    ///
    /// Errors: files that are missing, damaged or of another shape, naming file and tensor or key.
    pub fn load(path: &Path, ops: &Ops) -> Result<Self> {
        let (file, config) = open(path, "decoder", ORIGINAL_DECODER_OFFSET)?;
        let mut layers = Loader::new(&file, ops, "decoder");
        let Stages { channels, blocks } = &config.decoder;
        layers.conv(config.latent_channels, channels[0], 1, true)?;
        layers.function(Layer::Relu);
        for (stage, (&width, &count)) in channels.iter().zip(blocks).enumerate() {
            layers.blocks(width, count)?;
            let last = stage + 1 == channels.len();
            if !last {
                layers.function(Layer::Upsample);
            }
            layers.conv(width, if last { 3 } else { width }, 1, last)?;
        }
        file.expect_all_read(&["encoder."])?;
        let pixels_per_latent = 1 << (channels.len() - 1);
        let latent_channels = config.latent_channels;
        Ok(Self { ops: ops.clone(), layers: layers.layers, latent_channels, pixels_per_latent })
    }

    /// Holds the decoder, from `path`, against the latents that it is to show.
    ///
    /// Errors: another number of channels, or another size of pictures.
    pub fn check_fit(&self, path: &Path, latent_channels: usize, pixels_per_latent: usize) -> Result<()> {
        if (self.latent_channels, self.pixels_per_latent) == (latent_channels, pixels_per_latent) {
            return Ok(());
        }
        let reason = format!(
            "shows {} latent channels at {} pixels a side, but the model has {latent_channels} at {pixels_per_latent}",
            self.latent_channels, self.pixels_per_latent
        );
        Err(Error::Malformed { path: path.to_owned(), reason })
    }

    /// Latents `[batch, latent_channels, h, w]`, as the sampler has them, to pixels `[batch, 3, 8 h, 8 w]`
    /// with values about -1 to 1.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let hidden = run(&self.layers, &self.ops, self.ops.tanh_clamp(latents, LATENT_LIMIT)?)?;
        on_host(&hidden, |value| value * 2.0 - 1.0)
    }
}

#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "recipes encode their pictures with the model's own VAE; tests hold this half to diffusers"
    )
)]
impl TaesdEncoder {
    /// Loads the encoder of a folder that diffusers wrote, or of an original `taesd_encoder.safetensors`.
    ///
    /// Errors: as [`TaesdDecoder::load`].
    pub fn load(path: &Path, ops: &Ops) -> Result<Self> {
        let (file, config) = open(path, "encoder", 0)?;
        let mut layers = Loader::new(&file, ops, "encoder");
        let Stages { channels, blocks } = &config.encoder;
        for (stage, (&width, &count)) in channels.iter().zip(blocks).enumerate() {
            match stage {
                0 => layers.conv(3, width, 1, true)?,
                _ => layers.conv(width, width, 2, false)?,
            }
            layers.blocks(width, count)?;
        }
        layers.conv(channels[channels.len() - 1], config.latent_channels, 1, true)?;
        file.expect_all_read(&["decoder."])?;
        Ok(Self { ops: ops.clone(), layers: layers.layers })
    }

    /// Pixels `[batch, 3, H, W]` with values from -1 to 1 to latents `[batch, latent_channels, h, w]`.
    pub fn encode(&self, pixels: &Tensor) -> Result<Tensor> {
        run(&self.layers, &self.ops, on_host(pixels, |value| (value + 1.0) / 2.0)?)
    }
}

/// A formula on each element, which strict numerics leave to nobody else.
fn on_host(x: &Tensor, formula: fn(f32) -> f32) -> Result<Tensor> {
    let values: Vec<f32> = x.flatten_all()?.to_vec1::<f32>()?.into_iter().map(formula).collect();
    Ok(Tensor::from_vec(values, x.shape(), x.device())?)
}

/// The weights under diffusers' names, and the shape.
fn open(path: &Path, half: &str, offset: usize) -> Result<(WeightsFile, TaesdConfig)> {
    if path.is_dir() {
        let config = TaesdConfig::read(&ConfigFile::read(&path.join("config.json"))?)?;
        let name = find_weights(path, "diffusion_pytorch_model")?;
        return Ok((WeightsFile::open(&path.join(name))?, config));
    }
    let file = WeightsFile::view_of(SafetensorsFile::open(path)?, |file, key| {
        let layers = key.strip_prefix(half).and_then(|rest| rest.strip_prefix('.')).unwrap_or(key);
        let (index, rest) = layers.split_once('.')?;
        let index = index.parse::<usize>().ok()?.checked_sub(offset)?;
        Some((format!("{half}.layers.{index}.{rest}"), Stored::whole(0, file, key)?))
    })?;
    let latent = if half == "decoder" {
        file.shape("decoder.layers.0.weight").and_then(|shape| shape.get(1).copied())
    } else {
        file.shape("encoder.layers.14.weight").and_then(|shape| shape.first().copied())
    };
    let first = file.shape(&format!("{half}.layers.0.weight"));
    let width = first.and_then(|shape| shape.first().copied());
    Ok((file, TaesdConfig::original(bounded(latent, 4), bounded(width, 64))))
}

/// A count from a file, or the published one where it is absent or absurd: the layers will not fit then, and
/// say so.
fn bounded(count: Option<usize>, published: usize) -> usize {
    count.filter(|count| crate::config::CHANNELS.contains(count)).unwrap_or(published)
}

/// One layer of either half, in the order of diffusers' `Sequential`.
enum Layer {
    Conv(Conv2d),
    Relu,
    Upsample,
    Block(Box<Block>),
}

/// Three convolutions beside the input itself.
struct Block {
    convs: [Conv2d; 3],
}

impl Block {
    fn forward(&self, ops: &Ops, x: &Tensor) -> Result<Tensor> {
        let [first, second, third] = &self.convs;
        let hidden = ops.relu(&first.forward(x)?)?;
        let hidden = ops.relu(&second.forward(&hidden)?)?;
        ops.relu(&ops.add_into(third.forward(&hidden)?, x)?)
    }
}

fn run(layers: &[Layer], ops: &Ops, mut hidden: Tensor) -> Result<Tensor> {
    for layer in layers {
        hidden = match layer {
            Layer::Conv(conv) => conv.forward(&hidden)?,
            Layer::Relu => ops.relu(&hidden)?,
            Layer::Upsample => ops.upsample2x(&hidden)?,
            Layer::Block(block) => block.forward(ops, &hidden)?,
        };
    }
    Ok(hidden)
}

/// Collects layers, which are named by their place.
struct Loader<'a> {
    weights: Weights<'a>,
    layers: Vec<Layer>,
}

impl<'a> Loader<'a> {
    fn new(file: &'a WeightsFile, ops: &'a Ops, half: &str) -> Self {
        Self { weights: file.root(ops).at(half).at("layers"), layers: Vec::new() }
    }

    fn next(&self) -> Weights<'a> {
        self.weights.at(self.layers.len())
    }

    fn function(&mut self, layer: Layer) {
        self.layers.push(layer);
    }

    fn conv(&mut self, inputs: usize, outputs: usize, stride: usize, has_bias: bool) -> Result<()> {
        let config = ConvConfig { inputs, outputs, kernel: 3, stride, padding: Padding::all(1), has_bias };
        self.layers.push(Layer::Conv(Conv2d::load_as(&self.next(), config)?));
        Ok(())
    }

    fn blocks(&mut self, width: usize, count: usize) -> Result<()> {
        for _ in 0..count {
            let weights = self.next().at("conv");
            let conv = |index: usize| Conv2d::load(&weights.at(index), width, width, 3, 1);
            self.layers.push(Layer::Block(Box::new(Block { convs: [conv(0)?, conv(2)?, conv(4)?] })));
        }
        Ok(())
    }
}
