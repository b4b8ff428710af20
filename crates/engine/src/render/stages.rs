//! Single stages of a run, for benchmarks: how long each part of a model takes on its own.

use std::time::Instant;

use candle_core::{D, Tensor};
use seedfarm_core::Recipe;

use super::batch::is_guided;
use crate::networks::Networks;
use crate::unet::Conditions;
use crate::{Error, Result};

/// The least of some calls of each stage, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StageSeconds {
    /// The text encoder on one prompt.
    pub text_encoder: f64,
    /// The UNet on one image, or on its guided pair; the text's keys are made before.
    pub unet: f64,
    /// The decoder on one image.
    pub decoder: f64,
}

/// Times `calls` calls of each stage on what `recipe` asks for.
pub(crate) fn time_stages(networks: &Networks, recipe: &Recipe, calls: usize) -> Result<StageSeconds> {
    let template = &recipe.template;
    let Some(timestep) = template.timesteps.get(template.timesteps.len() / 2) else {
        return Err(Error::Recipe("it has no steps".to_owned()));
    };
    let per_latent = networks.vae.config().pixels_per_latent();
    let (height, width) = (template.height as usize / per_latent, template.width as usize / per_latent);
    let channels = networks.unet.config().out_channels;
    let mut noise = vec![0.0; channels * height * width];
    seedfarm_numerics::philox::standard_normal(recipe.seed, 0, &mut noise);
    let device = networks.ops.device();
    let one = Tensor::from_vec(noise, (1, channels, height, width), device)?;
    let guided = is_guided(recipe) && !networks.unet.config().takes_guidance();
    let copies = if guided { 2 } else { 1 };
    let batch = Tensor::cat(&vec![&one; copies], 0)?;
    let text = networks.encode(&template.prompt)?;
    let keys = networks.unet.text_keys(&Tensor::cat(&vec![&text.hidden; copies], 0)?)?;
    let side = [f64::from(template.height), f64::from(template.width)];
    let conditions = Conditions {
        pooled: text.pooled,
        time_ids: [side[0], side[1], 0.0, 0.0, side[0], side[1]],
        guidance: template.guidance,
    };
    let added = networks.unet.added(&vec![conditions; copies])?;
    Ok(StageSeconds {
        text_encoder: least(calls, || Ok(networks.encode(&template.prompt)?.hidden))?,
        unet: least(calls, || networks.unet.forward(&batch, &[*timestep], &keys, added.as_ref(), None))?,
        decoder: least(calls, || networks.vae.decode(&one))?,
    })
}

fn least(calls: usize, mut stage: impl FnMut() -> Result<Tensor>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..calls.max(1) {
        let start = Instant::now();
        // A device may still be at work when a call returns: one number of the result waits for it.
        stage()?.narrow(D::Minus1, 0, 1)?.flatten_all()?.to_vec1::<f32>()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}
