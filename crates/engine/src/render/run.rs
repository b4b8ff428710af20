//! One run: texts to embeddings, noise to latents step by step, latents to pixels.

use std::collections::HashMap;
use std::ops::ControlFlow;

use candle_core::Tensor;
use seedfarm_core::{PromptSyntax, Recipe};

use super::batch::is_guided;
use super::observer::{Observer, Progress};
use super::pixels::{Rendered, interleave};
use crate::clip::Encoded;
use crate::embeddings::TextKey;
use crate::model::Networks;
use crate::noise::NoiseStream;
use crate::prompt;
use crate::samplers::{Sampling, Settings, State, sampling};
use crate::unet::{Added, AttentionKeys, Conditions};
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
    /// One for each image.
    states: Vec<State>,
    /// Where each image's noise comes from.
    noise: Vec<NoiseStream>,
    pieces: Vec<Piece>,
    warnings: Vec<Vec<String>>,
}

/// Images that go through the network together.
struct Piece {
    /// Positions in the run; the last is repeated where the piece was filled up.
    images: Vec<usize>,
    /// For the unguided half first, where there is guidance.
    text_keys: Vec<AttentionKeys>,
    /// In the same order.
    added: Option<Added>,
}

impl<'a> Run<'a> {
    /// Prepares texts and noise. `recipes` are checked to share a batch and are not empty.
    pub fn new(networks: &'a Networks, recipes: &'a [Recipe]) -> Result<Self> {
        let template = &recipes[0].template;
        let sampler = sampling(&Settings {
            sampler: template.sampler,
            schedule: &template.noise_schedule,
            timesteps: &template.timesteps,
            sigmas: template.extras.sigmas.as_deref(),
            eta: template.extras.eta,
            start: 0,
        })?;
        let per_latent = networks.vae.config().pixels_per_latent();
        let (height, width) = (template.height as usize / per_latent, template.width as usize / per_latent);
        let mut run = Self {
            networks,
            recipes,
            guided: is_guided(&recipes[0]) && !networks.unet.config().takes_guidance(),
            shape: (networks.unet.config().out_channels, height, width),
            states: Vec::new(),
            noise: recipes
                .iter()
                .map(|recipe| NoiseStream::new(recipe.template.noise, recipe.seed))
                .collect(),
            pieces: Vec::new(),
            warnings: vec![Vec::new(); recipes.len()],
            sampler,
        };
        let first = |image| run.first_latents(image).map(State::new);
        run.states = (0..recipes.len()).map(first).collect::<Result<_>>()?;
        run.pieces = run.prepare_pieces()?;
        Ok(run)
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

    fn first_latents(&mut self, image: usize) -> Result<Vec<f32>> {
        let scale = self.sampler.initial_scale();
        Ok(self.draw(image, 0)?.into_iter().map(|unit| unit * scale).collect())
    }

    /// One image's noise: a function of its source, its seed and the draw's number alone.
    fn draw(&mut self, image: usize, number: u32) -> Result<Vec<f32>> {
        let (channels, height, width) = self.shape;
        let mut noise = vec![0.0; channels * height * width];
        self.noise[image].draw(number, &mut noise)?;
        Ok(noise)
    }

    /// Encodes each text once and cuts the batch into pieces.
    fn prepare_pieces(&mut self) -> Result<Vec<Piece>> {
        let mut texts = Texts { networks: self.networks, encoded: HashMap::new() };
        for (image, recipe) in self.recipes.iter().enumerate() {
            let warnings = &mut self.warnings[image];
            texts.encode("prompt", &recipe.template.prompt, warnings)?;
            if self.guided {
                texts.encode("negative prompt", &recipe.template.negative_prompt, warnings)?;
            }
        }
        let piece = |images: Vec<usize>| {
            let mut rows = Vec::new();
            if self.guided {
                for image in &images {
                    rows.push((*image, texts.negative(&self.recipes[*image].template.negative_prompt)?));
                }
            }
            for image in &images {
                rows.push((*image, texts.encoded[self.recipes[*image].template.prompt.as_str()].clone()));
            }
            self.prepare_piece(images, &rows)
        };
        let padded = !self.networks.ops.device().is_cpu();
        pieces(self.recipes.len(), padded.then_some(PADDED_BATCH)).into_iter().map(piece).collect()
    }

    /// Shows the network the texts of a piece: of each sample, its image and its text.
    fn prepare_piece(&self, images: Vec<usize>, samples: &[(usize, Encoded)]) -> Result<Piece> {
        let hidden: Vec<&Tensor> = samples.iter().map(|(_, text)| &text.hidden).collect();
        let conditions = |(image, text): &'_ (usize, Encoded)| self.conditions(*image, text.pooled.clone());
        let conditions: Vec<Conditions> = samples.iter().map(conditions).collect();
        let unet = &self.networks.unet;
        Ok(Piece {
            images,
            text_keys: unet.text_keys(&Tensor::cat(&hidden, 0)?)?,
            added: unet.added(&conditions)?,
        })
    }

    /// What an image is conditioned on beside its text: it is asked for whole, at its own size.
    fn conditions(&self, image: usize, pooled: Option<Tensor>) -> Conditions {
        let template = &self.recipes[image].template;
        let (height, width) = (f64::from(template.height), f64::from(template.width));
        Conditions { pooled, time_ids: [height, width, 0.0, 0.0, height, width], guidance: template.guidance }
    }

    /// The network's predictions for every image, with guidance applied.
    fn predict(&self, call: usize) -> Result<Vec<Vec<f32>>> {
        let mut predictions = vec![Vec::new(); self.recipes.len()];
        for piece in &self.pieces {
            let samples = self.predict_piece(piece, call)?;
            let (unguided, prompted) = samples.split_at(samples.len() - piece.images.len());
            for (slot, image) in piece.images.iter().enumerate() {
                predictions[*image] = match unguided.get(slot) {
                    Some(unguided) => {
                        guide(unguided, &prompted[slot], self.recipes[*image].template.guidance)
                    }
                    None => prompted[slot].clone(),
                };
            }
        }
        Ok(predictions)
    }

    fn predict_piece(&self, piece: &Piece, call: usize) -> Result<Vec<Vec<f32>>> {
        let (channels, height, width) = self.shape;
        let input = |image: &usize| self.sampler.model_input(call, &self.states[*image].latents);
        let inputs: Vec<f32> = piece.images.iter().flat_map(input).collect();
        let device = self.networks.ops.device();
        let mut batch = Tensor::from_vec(inputs, (piece.images.len(), channels, height, width), device)?;
        if self.guided {
            batch = Tensor::cat(&[&batch, &batch], 0)?;
        }
        let predicted = self.networks.unet.forward(
            &batch,
            &[self.sampler.calls()[call].timestep],
            &piece.text_keys,
            piece.added.as_ref(),
            None,
        )?;
        let flat = predicted.flatten_all()?.to_vec1::<f32>()?;
        Ok(flat.chunks_exact(channels * height * width).map(<[f32]>::to_vec).collect())
    }

    fn advance(&mut self, call: usize, predictions: &[Vec<f32>]) -> Result<()> {
        let draw = self.sampler.calls()[call].draw;
        for (image, prediction) in predictions.iter().enumerate() {
            let noise = draw.map_or_else(|| Ok(Vec::new()), |number| self.draw(image, number))?;
            self.sampler.advance(call, &mut self.states[image], prediction, &noise);
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
            preview: &|image| self.decode(image, &denoised[image]),
            states: &self.states,
        };
        match observer.stepped(&progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled { step, steps }),
        }
    }

    /// Decodes one image's latents. Images are decoded one by one: it bounds memory, and the decoder's
    /// work on one image fills the device.
    fn decode(&self, image: usize, latents: &[f32]) -> Result<Rendered> {
        let (channels, height, width) = self.shape;
        let vae = &self.networks.vae;
        let (scaling, shift) = (vae.config().scaling as f32, vae.config().shift as f32);
        let scaled: Vec<f32> = latents.iter().map(|value| value / scaling + shift).collect();
        let input = Tensor::from_vec(scaled, (1, channels, height, width), self.networks.ops.device())?;
        let planes = vae.decode(&input)?.flatten_all()?.to_vec1::<f32>()?;
        if planes.iter().any(|value| !value.is_finite()) {
            return Err(Error::NotFinite { stage: "decoded picture", index: image });
        }
        let template = &self.recipes[image].template;
        let warnings = self.warnings[image].clone();
        Ok(Rendered { width: template.width, height: template.height, rgb: interleave(&planes), warnings })
    }
}

/// Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598): away from the negative prompt's
/// prediction, through the prompt's.
fn guide(unguided: &[f32], prompted: &[f32], guidance: f64) -> Vec<f32> {
    let guidance = guidance as f32;
    unguided.iter().zip(prompted).map(|(away, towards)| away + guidance * (towards - away)).collect()
}

/// Positions 0 to `images`, all together or in pieces of one length, the last filled up by repetition.
fn pieces(images: usize, length: Option<usize>) -> Vec<Vec<usize>> {
    let all: Vec<usize> = (0..images).collect();
    let Some(length) = length else { return vec![all] };
    all.chunks(length)
        .map(|piece| {
            let mut piece = piece.to_vec();
            piece.resize(length, piece[piece.len() - 1]);
            piece
        })
        .collect()
}

/// The texts of a run, each encoded once.
struct Texts<'a> {
    networks: &'a Networks,
    encoded: HashMap<&'a str, Encoded>,
}

impl<'a> Texts<'a> {
    /// Encodes a text unless it has been, and warns of what does not fit the window.
    fn encode(&mut self, name: &str, text: &'a str, warnings: &mut Vec<String>) -> Result<()> {
        let read = prompt::read(&self.networks.texts, text, PromptSyntax::Plain)?;
        warnings.extend(read.warnings(name));
        if !self.encoded.contains_key(text) {
            let chunks = read.chunks();
            let key = TextKey { text: text.to_owned(), syntax: PromptSyntax::Plain, chunks, skip: 0 };
            let encode = || prompt::encode(&self.networks.texts, &read, chunks, 0);
            self.encoded.insert(text, self.networks.embeddings.of(&key, encode)?);
        }
        Ok(())
    }

    /// A negative prompt as the network is shown it.
    fn negative(&self, text: &str) -> Result<Encoded> {
        let encoded = &self.encoded[text];
        if text.is_empty() && self.networks.zero_empty_negative {
            return encoded.zeros_like();
        }
        Ok(encoded.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_one_length_are_filled_with_their_last_image() {
        assert_eq!(pieces(3, None), [vec![0, 1, 2]]);
        assert_eq!(pieces(5, Some(4)), [vec![0, 1, 2, 3], vec![4, 4, 4, 4]]);
    }

    #[test]
    fn guidance_of_one_is_the_prompt_alone_and_of_zero_the_negative_prompt_alone() {
        assert_eq!(guide(&[1.0], &[3.0], 1.0), [3.0]);
        assert_eq!(guide(&[1.0], &[3.0], 0.0), [1.0]);
        assert_eq!(guide(&[1.0], &[3.0], 2.0), [5.0]);
    }
}
