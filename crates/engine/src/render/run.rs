//! One run: texts to embeddings, noise to latents step by step, latents to pixels.

use std::ops::ControlFlow;

use candle_core::Tensor;
use seedfarm_core::{Recipe, RecipeTemplate};

use super::batch::is_guided;
use super::observer::{Observer, Progress};
use super::pictures::Pictures;
use super::piece::{Maker, Piece, PieceCall};
use super::pixels::{Rendered, interleave};
use super::start::{Anchor, Starter};
use super::texts::{self, ImageTexts};
use crate::fit::UnetInput;
use crate::networks::Networks;
use crate::noise::NoiseStream;
use crate::samplers::{Sampling, Settings, State, rescale, sampling};
use crate::vae::Tiling;
use crate::{Error, Result};

/// Samples of every call to the network where kernels depend on the batch's shape: batches are cut into
/// pieces of this many and the last piece is filled up. Not needed on the CPU.
pub(crate) const PADDED_BATCH: usize = 4;

/// The state of a run.
pub(crate) struct Run<'a> {
    networks: &'a Networks,
    recipes: &'a [Recipe],
    sampler: Box<dyn Sampling>,
    /// Whether the negative prompt is shown to the UNet as well.
    guided: bool,
    /// Channels, height and width of one image's latents.
    shape: (usize, usize, usize),
    /// One for each image, like all that follow.
    states: Vec<State>,
    noise: Vec<NoiseStream>,
    anchors: Vec<Option<Anchor>>,
    warnings: Vec<Vec<String>>,
    /// How the images go through the networks.
    pieces: Vec<Piece>,
}

impl<'a> Run<'a> {
    /// Prepares texts, pictures and noise. `recipes` are checked to share a batch and are not empty.
    pub fn new(networks: &'a Networks, recipes: &'a [Recipe], pictures: &Pictures) -> Result<Self> {
        let template = &recipes[0].template;
        let sampler = sampler_of(&recipes[0])?;
        let per_latent = networks.vae.config().pixels_per_latent();
        let (height, width) = (template.height as usize / per_latent, template.width as usize / per_latent);
        // Tiles that cannot be are told before the work, not after it.
        recipes.iter().try_for_each(|recipe| tiling(recipe, per_latent).map(drop))?;
        let mut run = Self {
            networks,
            recipes,
            guided: is_guided(&recipes[0]) && !networks.unet.config().takes_guidance(),
            shape: (networks.unet.config().out_channels, height, width),
            states: Vec::new(),
            noise: Vec::new(),
            anchors: Vec::new(),
            warnings: Vec::new(),
            pieces: Vec::new(),
            sampler,
        };
        run.start_images(pictures)?;
        run.prepare_pieces(pictures)?;
        Ok(run)
    }

    fn start_images(&mut self, pictures: &Pictures) -> Result<()> {
        let starter =
            Starter { networks: self.networks, sampler: &*self.sampler, pictures, shape: self.shape };
        for recipe in self.recipes {
            let mut stream = NoiseStream::new(recipe.template.noise, recipe.seed);
            let (latents, anchor) = starter.start(recipe, &mut stream)?;
            self.states.push(State::new(latents));
            self.noise.push(stream);
            self.anchors.push(anchor);
        }
        Ok(())
    }

    /// Encodes the texts and cuts the batch into pieces.
    fn prepare_pieces(&mut self, pictures: &Pictures) -> Result<()> {
        let mut texts = Vec::with_capacity(self.recipes.len());
        for recipe in self.recipes {
            let (encoded, warnings) = texts::encode(self.networks, recipe, self.guided)?;
            texts.push(encoded);
            self.warnings.push(warnings);
        }
        let lengths = texts.iter().map(ImageTexts::tokens).collect::<Result<Vec<_>>>()?;
        let maker = Maker { networks: self.networks, recipes: self.recipes, texts: &texts, pictures };
        let padded = !self.networks.ops.device().is_cpu();
        let groups = texts::groups(&lengths, padded.then_some(PADDED_BATCH));
        self.pieces = groups.into_iter().map(|images| maker.piece(images)).collect::<Result<_>>()?;
        Ok(())
    }

    /// Samples and decodes.
    pub fn finish(mut self, observer: &mut dyn Observer) -> Result<Vec<Rendered>> {
        let mut done = 0;
        for call in 0..self.sampler.calls().len() {
            let predictions = self.predict(call)?;
            if !self.sampler.calls()[call].ends_step {
                self.advance(call, &predictions)?;
                continue;
            }
            let of_image =
                |image: usize| self.sampler.denoised(call, &self.states[image].latents, &predictions[image]);
            let denoised: Vec<Vec<f32>> = (0..self.recipes.len()).map(of_image).collect();
            self.advance(call, &predictions)?;
            done += 1;
            self.report(done, &denoised, observer)?;
        }
        (0..self.recipes.len()).map(|image| self.decode(image, &self.states[image].latents)).collect()
    }

    /// One image's noise: a function of its source, its seed and the draw's number alone.
    fn draw(&mut self, image: usize, number: u32) -> Result<Vec<f32>> {
        let (channels, height, width) = self.shape;
        let mut noise = vec![0.0; channels * height * width];
        self.noise[image].draw(number, &mut noise)?;
        Ok(noise)
    }

    /// The network's predictions for every image, with guidance applied.
    fn predict(&self, call: usize) -> Result<Vec<Vec<f32>>> {
        let call = PieceCall {
            networks: self.networks,
            recipe: &self.recipes[0],
            sampler: &*self.sampler,
            call,
            states: &self.states,
            anchors: &self.anchors,
            shape: self.shape,
            guided: self.guided,
        };
        let mut predictions = vec![Vec::new(); self.recipes.len()];
        for piece in &self.pieces {
            let mut samples = call.predict(piece)?;
            let prompted = samples.split_off(samples.len() - piece.images.len());
            let mut unguided = samples.into_iter();
            for (image, prompted) in piece.images.iter().zip(prompted) {
                predictions[*image] = match unguided.next() {
                    Some(unguided) => guided(&self.recipes[*image].template, &unguided, &prompted),
                    None => prompted,
                };
            }
        }
        Ok(predictions)
    }

    fn advance(&mut self, call: usize, predictions: &[Vec<f32>]) -> Result<()> {
        let draw = self.sampler.calls()[call].draw;
        for (image, prediction) in predictions.iter().enumerate() {
            let noise = draw.map_or_else(|| Ok(Vec::new()), |number| self.draw(image, number))?;
            self.sampler.advance(call, &mut self.states[image], prediction, &noise);
            if let (Some(anchor), UnetInput::Latents) = (&self.anchors[image], self.networks.input) {
                anchor.blend(&*self.sampler, call + 1, &mut self.states[image].latents);
            }
        }
        Ok(())
    }

    /// Steps of the run: the calls that end one.
    fn steps(&self) -> usize {
        self.sampler.calls().iter().filter(|call| call.ends_step).count()
    }

    fn report(&self, step: usize, denoised: &[Vec<f32>], observer: &mut dyn Observer) -> Result<()> {
        let steps = self.steps();
        let progress = Progress {
            step,
            steps,
            images: self.recipes.len(),
            preview: &|image| self.preview(image, &denoised[image]),
            states: &self.states,
        };
        match observer.stepped(&progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled { step, steps }),
        }
    }

    /// A look at an image in the making, by the small decoder where there is one.
    fn preview(&self, image: usize, latents: &[f32]) -> Result<Rendered> {
        let Some(decoder) = &self.networks.preview else { return self.decode(image, latents) };
        let (channels, height, width) = self.shape;
        let input = Tensor::from_slice(latents, (1, channels, height, width), self.networks.ops.device())?;
        self.picture(image, &decoder.decode(&input)?)
    }

    /// Decodes one image's latents. Images are decoded one by one: it bounds memory, and the decoder's
    /// work on one image fills the device.
    fn decode(&self, image: usize, latents: &[f32]) -> Result<Rendered> {
        let (channels, height, width) = self.shape;
        let vae = &self.networks.vae;
        let (scaling, shift) = (vae.config().scaling as f32, vae.config().shift as f32);
        let scaled: Vec<f32> = latents.iter().map(|value| value / scaling + shift).collect();
        let input = Tensor::from_vec(scaled, (1, channels, height, width), self.networks.ops.device())?;
        let planes = match tiling(&self.recipes[image], vae.config().pixels_per_latent())? {
            None => vae.decode(&input)?,
            Some(tiling) => vae.decode_tiled(&input, tiling)?,
        };
        self.picture(image, &planes)
    }

    /// Planes of red, green and blue as the bytes of an image.
    fn picture(&self, image: usize, planes: &Tensor) -> Result<Rendered> {
        let planes = planes.flatten_all()?.to_vec1::<f32>()?;
        if planes.iter().any(|value| !value.is_finite()) {
            return Err(Error::NotFinite { stage: "decoded picture", index: image });
        }
        let template = &self.recipes[image].template;
        let warnings = self.warnings[image].clone();
        Ok(Rendered { width: template.width, height: template.height, rgb: interleave(&planes), warnings })
    }
}

/// The tiles in which a recipe is decoded, where it asks for some: neighbours share a quarter.
///
/// Errors: a side that is no whole number of latent elements, or of too few.
fn tiling(recipe: &Recipe, pixels_per_latent: usize) -> Result<Option<Tiling>> {
    let Some(side) = recipe.template.extras.decode_tile else { return Ok(None) };
    let pixels = side as usize;
    if !pixels.is_multiple_of(pixels_per_latent) {
        return Err(Error::Recipe(format!(
            "decode_tile {side} is not a multiple of the model's {pixels_per_latent} pixels"
        )));
    }
    let latents = pixels / pixels_per_latent;
    Tiling::new(latents, latents / 4).map(Some)
}

/// The sampler that recipes of one batch share.
fn sampler_of(recipe: &Recipe) -> Result<Box<dyn Sampling>> {
    let template = &recipe.template;
    sampling(&Settings {
        sampler: template.sampler,
        schedule: &template.noise_schedule,
        timesteps: &template.timesteps,
        sigmas: template.extras.sigmas.as_deref(),
        eta: template.extras.eta,
        start: template.extras.source.as_ref().map_or(0, |source| source.first_step as usize),
    })
}

/// A prediction with the recipe's guidance, and its rescale where there is one.
fn guided(template: &RecipeTemplate, unguided: &[f32], prompted: &[f32]) -> Vec<f32> {
    let guided = guide(unguided, prompted, template.guidance);
    match template.extras.guidance_rescale {
        0.0 => guided,
        amount => rescale(&guided, prompted, amount),
    }
}

/// Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598): away from the negative prompt's
/// prediction, through the prompt's.
fn guide(unguided: &[f32], prompted: &[f32], guidance: f64) -> Vec<f32> {
    let guidance = guidance as f32;
    unguided.iter().zip(prompted).map(|(away, towards)| away + guidance * (towards - away)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guidance_of_one_is_the_prompt_alone_and_of_zero_the_negative_prompt_alone() {
        assert_eq!(guide(&[1.0], &[3.0], 1.0), [3.0]);
        assert_eq!(guide(&[1.0], &[3.0], 0.0), [1.0]);
        assert_eq!(guide(&[1.0], &[3.0], 2.0), [5.0]);
    }
}
