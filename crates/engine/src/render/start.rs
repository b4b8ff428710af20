//! Where an image starts: noise, a variation of it, or a picture with as much noise as its first step wants.
//!
//! Reference: the pipelines `StableDiffusionImg2ImgPipeline` and `StableDiffusionInpaintPipeline` of
//! diffusers, whose order of draws this follows, so that images of theirs can be made again.

use candle_core::Tensor;
use seedfarm_core::Recipe;
use seedfarm_core::recipe::Source;

use super::pictures::{Picture, Pictures};
use super::variation::turn;
use crate::fit::UnetInput;
use crate::networks::Networks;
use crate::noise::NoiseStream;
use crate::samplers::Sampling;
use crate::{Error, Result};

/// Numbers of the draws that sample a picture's latents; see docs/DETERMINISM.md.
const SOURCE_DRAW: u32 = u32::MAX;
const MASKED_DRAW: u32 = u32::MAX - 1;
/// From this luma on a mask's pixel is drawn anew: half of 255, as diffusers cuts it.
const MASK_FROM: u8 = 128;

/// A picture that an image starts from, as latents.
pub(super) struct Anchor {
    /// The picture; empty where nothing needs it.
    clean: Vec<f32>,
    /// The noise of the first draw.
    noise: Vec<f32>,
    /// For each latent position, 1 where it is drawn anew and 0 where the picture is kept.
    mask: Option<Vec<f32>>,
    /// The picture with the masked part blanked, for UNets that look at it.
    masked: Vec<f32>,
}

/// Everything that is needed to start one image.
pub(super) struct Starter<'a> {
    pub networks: &'a Networks,
    pub sampler: &'a dyn Sampling,
    pub pictures: &'a Pictures,
    /// Channels, height and width of the latents.
    pub shape: (usize, usize, usize),
}

impl Starter<'_> {
    /// The first latents of an image, and what has to be remembered of its picture.
    pub fn start(&self, recipe: &Recipe, stream: &mut NoiseStream) -> Result<(Vec<f32>, Option<Anchor>)> {
        match &recipe.template.extras.source {
            None => {
                let noise = self.noise(recipe, stream)?;
                Ok((self.scaled(&noise), None))
            }
            Some(source) => self.start_from(source, recipe, stream),
        }
    }

    fn start_from(
        &self,
        source: &Source,
        recipe: &Recipe,
        stream: &mut NoiseStream,
    ) -> Result<(Vec<f32>, Option<Anchor>)> {
        let (width, height) = (recipe.template.width, recipe.template.height);
        let picture = self.pictures.get("source picture", source.image, width, height)?;
        let mask = source.mask.map(|mask| self.pictures.get("mask", mask, width, height)).transpose()?;
        let blends = self.networks.input == UnetInput::Latents;
        // With a mask and nothing left of the picture's own noise, the start is noise alone.
        let from_noise = mask.is_some() && source.first_step == 0;
        let mut anchor = Anchor { clean: Vec::new(), noise: Vec::new(), mask: None, masked: Vec::new() };
        if !from_noise || blends {
            anchor.clean = self.encode(&picture.planes(signed), stream, SOURCE_DRAW)?;
        }
        anchor.noise = self.noise(recipe, stream)?;
        if let Some(mask) = mask {
            anchor.mask = Some(self.latent_mask(mask));
            if blends {
                // Nobody looks at it, but PyTorch's generators move on.
                self.draw(stream, MASKED_DRAW)?;
            } else {
                anchor.masked = self.encode(&blanked(picture, mask), stream, MASKED_DRAW)?;
            }
        }
        let latents = if from_noise {
            self.scaled(&anchor.noise)
        } else {
            self.sampler.noised(0, &anchor.clean, &anchor.noise)
        };
        Ok((latents, Some(anchor)))
    }

    fn scaled(&self, noise: &[f32]) -> Vec<f32> {
        let scale = self.sampler.initial_scale();
        noise.iter().map(|unit| unit * scale).collect()
    }

    /// The noise of the first draw, turned towards a second seed's where the recipe says so.
    fn noise(&self, recipe: &Recipe, stream: &mut NoiseStream) -> Result<Vec<f32>> {
        let own = self.draw(stream, 0)?;
        let Some(variation) = recipe.template.extras.variation else { return Ok(own) };
        let (_, height, width) = self.shape;
        let other = self.draw(&mut NoiseStream::new(recipe.template.noise, variation.seed), 0)?;
        Ok(turn(&own, &other, variation.strength, height, width))
    }

    fn draw(&self, stream: &mut NoiseStream, number: u32) -> Result<Vec<f32>> {
        let (channels, height, width) = self.shape;
        let mut noise = vec![0.0; channels * height * width];
        stream.draw(number, &mut noise)?;
        Ok(noise)
    }

    /// Pixels `[3, H, W]` from -1 to 1 as latents of the scale that the UNet knows.
    fn encode(&self, pixels: &[f32], stream: &mut NoiseStream, draw: u32) -> Result<Vec<f32>> {
        let Some(encoder) = &self.networks.encoder else {
            return Err(Error::Recipe("the model was loaded without its picture encoder".to_owned()));
        };
        let config = encoder.config();
        let (_, height, width) = self.shape;
        let side = config.pixels_per_latent();
        let pixels =
            Tensor::from_slice(pixels, (1, 3, height * side, width * side), self.networks.ops.device())?;
        let latents = encoder.encode(&pixels)?.sample(&self.draw(stream, draw)?);
        let (scaling, shift) = (config.scaling as f32, config.shift as f32);
        Ok(latents.into_iter().map(|value| (value - shift) * scaling).collect())
    }

    /// The mask at the size of the latents: the pixel at the top left of each square counts.
    fn latent_mask(&self, mask: &Picture) -> Vec<f32> {
        let (_, height, width) = self.shape;
        let side = mask.height() as usize / height;
        let luma: Vec<u8> = mask.luma().collect();
        let at = |row: usize, column: usize| luma[row * side * mask.width() as usize + column * side];
        let value = |luma: u8| if luma >= MASK_FROM { 1.0 } else { 0.0 };
        (0..height * width).map(|place| value(at(place / width, place % width))).collect()
    }
}

/// A byte as the encoder reads it: 0 to -1, 255 to 1, in the order in which diffusers rounds.
fn signed(byte: u8) -> f32 {
    2.0 * (f32::from(byte) / 255.0) - 1.0
}

/// The picture's planes with zeros where the mask is drawn anew.
fn blanked(picture: &Picture, mask: &Picture) -> Vec<f32> {
    let keep: Vec<bool> = mask.luma().map(|luma| luma < MASK_FROM).collect();
    let planes = picture.planes(signed);
    planes.iter().zip(keep.iter().cycle()).map(|(value, keep)| if *keep { *value } else { 0.0 }).collect()
}

impl Anchor {
    /// What stands behind the latents in the input of a UNet that fills in pictures: the mask, then the
    /// masked picture's latents. For other UNets nothing.
    pub fn input(&self) -> impl Iterator<Item = f32> + '_ {
        let mask = self.mask.iter().filter(|_| !self.masked.is_empty());
        mask.flatten().chain(&self.masked).copied()
    }

    /// Puts the picture back where the mask keeps it, with the noise that there is when call `call` begins.
    pub fn blend(&self, sampler: &dyn Sampling, call: usize, latents: &mut [f32]) {
        let Some(mask) = &self.mask else { return };
        let kept = sampler.noised(call, &self.clean, &self.noise);
        for (place, (latent, kept)) in latents.iter_mut().zip(kept).enumerate() {
            let anew = mask[place % mask.len()];
            *latent = (1.0 - anew) * kept + anew * *latent;
        }
    }
}
