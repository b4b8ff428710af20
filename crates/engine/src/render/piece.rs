//! Images that go through the networks together, and what the networks say of them.

use candle_core::Tensor;
use seedfarm_core::{ArtifactDigest, Recipe};

use super::pictures::Pictures;
use super::start::Anchor;
use super::texts::ImageTexts;
use crate::clip::Encoded;
use crate::controlnet;
use crate::networks::Networks;
use crate::samplers::{Sampling, State};
use crate::unet::{Added, AttentionKeys, Conditions, Residuals};
use crate::{Error, Result};

/// Some images of a run, with everything that stays the same over the steps.
pub(super) struct Piece {
    /// Positions in the run; the last is repeated where the piece was filled up.
    pub images: Vec<usize>,
    /// For the unguided half first, where there is guidance.
    text_keys: Vec<AttentionKeys>,
    /// In the same order.
    added: Option<Added>,
    controls: Vec<PieceControl>,
}

/// One ControlNet's part of a piece.
struct PieceControl {
    text_keys: Vec<AttentionKeys>,
    added: Option<Added>,
    hint: controlnet::Hint,
}

/// What a piece is made from.
pub(super) struct Maker<'a> {
    pub networks: &'a Networks,
    pub recipes: &'a [Recipe],
    pub texts: &'a [ImageTexts],
    pub pictures: &'a Pictures,
}

impl Maker<'_> {
    /// Shows the networks what the images are to be.
    pub fn piece(&self, images: Vec<usize>) -> Result<Piece> {
        let samples = self.samples(&images);
        let hidden: Vec<&Tensor> = samples.iter().map(|(_, text)| &text.hidden).collect();
        let hidden = Tensor::cat(&hidden, 0)?;
        let conditions: Vec<Conditions> =
            samples.iter().map(|(image, text)| self.conditions(*image, text.pooled.clone())).collect();
        let unet = &self.networks.unet;
        let halves = samples.len() / images.len();
        let control = |(slot, net): (usize, &controlnet::ControlNet)| {
            Ok(PieceControl {
                text_keys: net.text_keys(&hidden)?,
                added: net.added(&conditions)?,
                hint: self.hint(net, slot, &images, halves)?,
            })
        };
        Ok(Piece {
            text_keys: unet.text_keys(&hidden)?,
            added: unet.added(&conditions)?,
            controls: self.nets().enumerate().map(control).collect::<Result<_>>()?,
            images,
        })
    }

    /// Each sample's image and text: the negative prompts first.
    fn samples(&self, images: &[usize]) -> Vec<(usize, &Encoded)> {
        let negative =
            images.iter().filter_map(|image| Some((*image, self.texts[*image].negative.as_ref()?)));
        negative.chain(images.iter().map(|image| (*image, &self.texts[*image].prompt))).collect()
    }

    /// What an image is conditioned on beside its text: it is asked for whole, at its own size.
    fn conditions(&self, image: usize, pooled: Option<Tensor>) -> Conditions {
        let template = &self.recipes[image].template;
        let (height, width) = (f64::from(template.height), f64::from(template.width));
        Conditions { pooled, time_ids: [height, width, 0.0, 0.0, height, width], guidance: template.guidance }
    }

    /// The ControlNets of the run, in the order of the recipes.
    fn nets(&self) -> impl Iterator<Item = &controlnet::ControlNet> {
        let controls = self.recipes.first().map_or(&[][..], |recipe| &recipe.template.extras.controls);
        controls.iter().filter_map(|control| self.networks.controls.get(&control.model))
    }

    fn hint(
        &self,
        net: &controlnet::ControlNet,
        slot: usize,
        images: &[usize],
        halves: usize,
    ) -> Result<controlnet::Hint> {
        let one = |image: &usize| {
            self.control_picture(*image, self.recipes[*image].template.extras.controls[slot].image)
        };
        let pictures: Vec<Tensor> = images.iter().map(one).collect::<Result<_>>()?;
        let pictures = Tensor::cat(&pictures, 0)?;
        net.hint(&Tensor::cat(&vec![&pictures; halves], 0)?)
    }

    fn control_picture(&self, image: usize, digest: ArtifactDigest) -> Result<Tensor> {
        let template = &self.recipes[image].template;
        let picture = self.pictures.get("control picture", digest, template.width, template.height)?;
        let planes = picture.planes(|byte| f32::from(byte) / 255.0);
        let shape = (1, 3, template.height as usize, template.width as usize);
        Ok(Tensor::from_vec(planes, shape, self.networks.ops.device())?)
    }
}

/// One call to the network for a piece.
pub(super) struct PieceCall<'a> {
    pub networks: &'a Networks,
    /// One of the run's recipes: what they share is read from it.
    pub recipe: &'a Recipe,
    pub sampler: &'a dyn Sampling,
    pub call: usize,
    pub states: &'a [State],
    pub anchors: &'a [Option<Anchor>],
    /// Channels, height and width of one image's latents.
    pub shape: (usize, usize, usize),
    pub guided: bool,
}

impl PieceCall<'_> {
    /// What the network predicts for each sample of the piece, the unguided half first.
    pub fn predict(&self, piece: &Piece) -> Result<Vec<Vec<f32>>> {
        let (channels, height, width) = self.shape;
        let latents = |image: &usize| self.sampler.model_input(self.call, &self.states[*image].latents);
        let inputs: Vec<Vec<f32>> = piece.images.iter().map(latents).collect();
        let timesteps = [self.sampler.calls()[self.call].timestep];
        let residuals = self.residuals(piece, &inputs, &timesteps)?;
        let behind = |image: &usize| self.anchors[*image].iter().flat_map(Anchor::input);
        let rows = inputs
            .iter()
            .zip(&piece.images)
            .flat_map(|(latents, image)| latents.iter().copied().chain(behind(image)));
        let batch = self.batch(rows.collect(), piece.images.len())?;
        let unet = &self.networks.unet;
        let predicted =
            unet.forward(&batch, &timesteps, &piece.text_keys, piece.added.as_ref(), residuals.as_ref())?;
        let flat = predicted.flatten_all()?.to_vec1::<f32>()?;
        Ok(flat.chunks_exact(channels * height * width).map(<[f32]>::to_vec).collect())
    }

    /// What the ControlNets that act at this step add, summed in the order of the recipe.
    fn residuals(&self, piece: &Piece, inputs: &[Vec<f32>], timesteps: &[f64]) -> Result<Option<Residuals>> {
        let step = self.sampler.calls()[self.call].step;
        let acts = |first: u32, end: u32| (first as usize..end as usize).contains(&step);
        let controls = &self.recipe.template.extras.controls;
        let mut sum: Option<Residuals> = None;
        for (asked, control) in controls.iter().zip(&piece.controls) {
            if !acts(asked.first_step, asked.end_step) {
                continue;
            }
            let net = self.networks.controls.get(&asked.model).ok_or_else(|| {
                Error::Recipe(format!("the ControlNet {} was not loaded with the model", asked.model))
            })?;
            let latents = self.batch(inputs.concat(), piece.images.len())?;
            let added = net.forward(&controlnet::Call {
                latents: &latents,
                timesteps,
                text_keys: &control.text_keys,
                added: control.added.as_ref(),
                hint: &control.hint,
                scale: asked.scale,
            })?;
            sum = Some(match sum {
                Some(sum) => sum.add(&self.networks.ops, &added)?,
                None => added,
            });
        }
        Ok(sum)
    }

    /// Rows of `samples` images as the networks take them: twice where there is guidance.
    fn batch(&self, rows: Vec<f32>, samples: usize) -> Result<Tensor> {
        let (_, height, width) = self.shape;
        let channels = rows.len() / (samples * height * width);
        let batch = Tensor::from_vec(rows, (samples, channels, height, width), self.networks.ops.device())?;
        Ok(if self.guided { Tensor::cat(&[&batch, &batch], 0)? } else { batch })
    }
}
