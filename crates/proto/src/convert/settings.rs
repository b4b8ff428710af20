//! A request's settings, to the wire and back.

use seedfarm_core::plan::Settings;
use seedfarm_core::recipe::Variation;
use seedfarm_core::sampling::SigmaSchedule;
use seedfarm_core::settings::{ControlRequest, LoraRequest, PictureRef, SourceRequest};
use seedfarm_core::{PromptSyntax, Sampler};
use tonic::Status;

use crate::{error, v1};

impl From<Settings> for v1::Settings {
    fn from(settings: Settings) -> Self {
        let loras =
            |loras: Vec<LoraRequest>| v1::Loras { loras: loras.into_iter().map(Into::into).collect() };
        let controls = |controls: Vec<ControlRequest>| v1::Controls {
            controls: controls.into_iter().map(Into::into).collect(),
        };
        Self {
            negative_prompt: settings.negative_prompt,
            prompt_syntax: settings.prompt_syntax.map(|syntax| syntax.as_str().to_owned()),
            width: settings.width,
            height: settings.height,
            steps: settings.steps,
            guidance: settings.guidance,
            guidance_rescale: settings.guidance_rescale,
            sampler: settings.sampler.map(|sampler| sampler.as_str().to_owned()),
            schedule: settings.schedule.map(|schedule| schedule.as_str().to_owned()),
            eta: settings.eta,
            clip_skip: settings.clip_skip,
            loras: settings.loras.map(loras),
            embeddings: settings.embeddings.map(|names| v1::Embeddings { names }),
            variation: settings.variation.map(|v| v1::Variation { seed: v.seed, strength: v.strength }),
            source: settings.source.map(Into::into),
            controls: settings.controls.map(controls),
            decode_tile: settings.decode_tile,
        }
    }
}

impl TryFrom<v1::Settings> for Settings {
    type Error = Status;
    fn try_from(wire: v1::Settings) -> Result<Self, Status> {
        let sampler = wire.sampler.as_deref().map(Sampler::from_name).transpose();
        let schedule = wire.schedule.as_deref().map(SigmaSchedule::from_name).transpose();
        let syntax = wire.prompt_syntax.as_deref().map(PromptSyntax::from_name).transpose();
        let controls = |wire: v1::Controls| wire.controls.into_iter().map(Into::into).collect();
        Ok(Self {
            negative_prompt: wire.negative_prompt,
            prompt_syntax: syntax.map_err(|fault| error::invalid(&fault))?,
            width: wire.width,
            height: wire.height,
            steps: wire.steps,
            guidance: wire.guidance,
            guidance_rescale: wire.guidance_rescale,
            sampler: sampler.map_err(|fault| error::invalid(&fault))?,
            schedule: schedule.map_err(|fault| error::invalid(&fault))?,
            eta: wire.eta,
            clip_skip: wire.clip_skip,
            loras: wire.loras.map(|wire| wire.loras.into_iter().map(Into::into).collect()),
            embeddings: wire.embeddings.map(|wire| wire.names),
            variation: wire.variation.map(|v| Variation { seed: v.seed, strength: v.strength }),
            source: wire.source.map(Into::into),
            controls: wire.controls.map(controls),
            decode_tile: wire.decode_tile,
        })
    }
}

impl From<LoraRequest> for v1::Lora {
    fn from(lora: LoraRequest) -> Self {
        Self { name: lora.name, weight: lora.weight, text_weight: lora.text_weight }
    }
}

impl From<v1::Lora> for LoraRequest {
    fn from(wire: v1::Lora) -> Self {
        Self { name: wire.name, weight: wire.weight, text_weight: wire.text_weight }
    }
}

impl From<SourceRequest> for v1::Source {
    fn from(source: SourceRequest) -> Self {
        let mask = source.mask.map(|mask| mask.to_string());
        Self { image: source.image.to_string(), strength: source.strength, mask }
    }
}

impl From<v1::Source> for SourceRequest {
    fn from(wire: v1::Source) -> Self {
        let mask = wire.mask.map(PictureRef::from);
        Self { image: PictureRef::from(wire.image), strength: wire.strength, mask }
    }
}

impl From<ControlRequest> for v1::Control {
    fn from(control: ControlRequest) -> Self {
        let ControlRequest { name, image, scale, start, end } = control;
        Self { name, image: image.to_string(), scale, start, end }
    }
}

impl From<v1::Control> for ControlRequest {
    fn from(wire: v1::Control) -> Self {
        let v1::Control { name, image, scale, start, end } = wire;
        Self { name, image: PictureRef::from(image), scale, start, end }
    }
}
