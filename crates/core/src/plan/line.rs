//! One prompt line: its settings resolved into a recipe without its seed.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Catalogue, JobSpec, PictureSize, PlannedLine, PromptLine, Settings};
use crate::adapter::AdapterKind;
use crate::invalid::{Invalid, check_text};
use crate::limits;
use crate::model::ModelManifest;
use crate::recipe::{
    Control, Extras, Lora, RECIPE_VERSION, RecipeTemplate, Source, check_clip_skip, check_count,
    check_decode_tile, check_guidance, check_share, check_side, check_steps, check_weight,
};
use crate::sampling::Sampler;
use crate::seed::SeedPolicy;
use crate::settings::{ControlRequest, LoraRequest, SourceRequest};

/// How much of a source picture is drawn anew where a request does not say.
const DEFAULT_STRENGTH: f64 = 0.8;

/// Plans the lines of one job.
pub(super) struct Planner<'a> {
    pub spec: &'a JobSpec,
    pub manifest: &'a ModelManifest,
    pub catalogue: &'a Catalogue,
}

/// A line's settings where the line, or else the job, gives them.
struct Asked<'a> {
    line: &'a Settings,
    job: &'a Settings,
}

impl<'a> Asked<'a> {
    fn get<T>(&self, field: impl Fn(&'a Settings) -> Option<T>) -> Option<T> {
        field(self.line).or_else(|| field(self.job))
    }
}

impl Planner<'_> {
    pub fn line(&self, line: &PromptLine) -> Result<PlannedLine, Invalid> {
        match (self.spec.seed_policy, line.seed) {
            (SeedPolicy::Explicit, None) => return Err(Invalid::SeedMissing),
            (SeedPolicy::Explicit, Some(_)) | (_, None) => {}
            (policy, Some(_)) => return Err(Invalid::SeedIgnored { policy: policy.as_str() }),
        }
        let asked = Asked { line: &line.settings, job: &self.spec.settings };
        Ok(PlannedLine { template: self.template(&line.prompt, &asked)?, seed: line.seed })
    }

    fn template(&self, prompt: &str, asked: &Asked<'_>) -> Result<RecipeTemplate, Invalid> {
        let (manifest, defaults) = (self.manifest, &self.manifest.defaults);
        let negative_prompt = asked.get(|s| s.negative_prompt.clone()).unwrap_or_default();
        let steps = asked.get(|s| s.steps).unwrap_or(defaults.steps);
        let guidance = asked.get(|s| s.guidance).unwrap_or(defaults.guidance);
        let sampler = asked.get(|s| s.sampler).unwrap_or(defaults.sampler);
        let size = self.size(asked);
        check_text("prompt", prompt, limits::MAX_PROMPT_BYTES)?;
        check_text("negative_prompt", &negative_prompt, limits::MAX_PROMPT_BYTES)?;
        check_size("width", size.width, manifest)?;
        check_size("height", size.height, manifest)?;
        check_guidance(guidance)?;
        check_steps(steps as usize)?;
        let noise_schedule = manifest.noise_schedule.in_force(sampler, asked.get(|s| s.schedule));
        let resolved = noise_schedule.resolve(sampler, steps)?;
        Ok(RecipeTemplate {
            version: RECIPE_VERSION,
            model: manifest.components.clone(),
            prompt: prompt.to_owned(),
            negative_prompt,
            prompt_syntax: asked.get(|s| s.prompt_syntax).unwrap_or_default(),
            width: size.width,
            height: size.height,
            sampler,
            timesteps: resolved.timesteps,
            noise_schedule,
            guidance,
            noise: self.spec.noise,
            numerics: self.spec.numerics,
            extras: Extras { sigmas: resolved.sigmas, ..self.extras(asked, sampler, size, steps)? },
        })
    }

    fn size(&self, asked: &Asked<'_>) -> PictureSize {
        let defaults = &self.manifest.defaults;
        PictureSize {
            width: asked.get(|s| s.width).unwrap_or(defaults.width),
            height: asked.get(|s| s.height).unwrap_or(defaults.height),
        }
    }

    fn extras(
        &self,
        asked: &Asked<'_>,
        sampler: Sampler,
        size: PictureSize,
        steps: u32,
    ) -> Result<Extras, Invalid> {
        let source = asked.get(|s| s.source.as_ref());
        let source = source.map(|source| self.source(source, size, steps)).transpose()?;
        let sampled = source.as_ref().map_or(0, |source| source.first_step)..steps;
        let extras = Extras {
            eta: asked.get(|s| s.eta),
            guidance_rescale: asked.get(|s| s.guidance_rescale).unwrap_or_default(),
            clip_skip: asked.get(|s| s.clip_skip).unwrap_or_default(),
            loras: self.loras(asked.get(|s| s.loras.as_deref()).unwrap_or_default())?,
            embeddings: self.embeddings(asked.get(|s| s.embeddings.as_deref()).unwrap_or_default())?,
            variation: asked.get(|s| s.variation),
            source,
            controls: self.controls(
                asked.get(|s| s.controls.as_deref()).unwrap_or_default(),
                size,
                &sampled,
            )?,
            decode_tile: asked.get(|s| s.decode_tile),
            ..Extras::default()
        };
        sampler.eta(extras.eta)?;
        check_share("guidance_rescale", extras.guidance_rescale)?;
        check_clip_skip(extras.clip_skip)?;
        extras.variation.map_or(Ok(()), |v| check_share("variation strength", v.strength))?;
        extras.decode_tile.map_or(Ok(()), check_decode_tile)?;
        self.check_use(extras.source.as_ref())?;
        Ok(extras)
    }

    /// A model that fills in pictures needs one, with a mask.
    fn check_use(&self, source: Option<&Source>) -> Result<(), Invalid> {
        let masked = source.is_some_and(|source| source.mask.is_some());
        if self.manifest.inpainting && !masked {
            let name = &self.manifest.name;
            return Err(Invalid::WrongUse(format!(
                "the model '{name}' fills in pictures: give it a source picture and a mask, or choose another model"
            )));
        }
        Ok(())
    }

    fn loras(&self, requests: &[LoraRequest]) -> Result<Vec<Lora>, Invalid> {
        check_count("loras", requests.len(), limits::MAX_LORAS)?;
        let lora = |request: &LoraRequest| {
            let text_weight = request.text_weight.unwrap_or(request.weight);
            check_weight("a LoRA's weight", request.weight)?;
            check_weight("a LoRA's text_weight", text_weight)?;
            let digest = self.adapter(AdapterKind::Lora, &request.name)?.digest;
            Ok(Lora { digest, weight: request.weight, text_weight })
        };
        requests.iter().map(lora).collect()
    }

    fn embeddings(
        &self,
        names: &[String],
    ) -> Result<BTreeMap<String, crate::digest::AdapterDigest>, Invalid> {
        check_count("embeddings", names.len(), limits::MAX_EMBEDDINGS)?;
        let embedding = |name: &String| {
            let found = self.adapter(AdapterKind::Embedding, name)?;
            check_text("an embedding's word", &found.name, limits::MAX_NAME_BYTES)?;
            Ok((found.name.clone(), found.digest))
        };
        names.iter().map(embedding).collect()
    }

    fn source(&self, request: &SourceRequest, size: PictureSize, steps: u32) -> Result<Source, Invalid> {
        let default = if request.mask.is_some() { 1.0 } else { DEFAULT_STRENGTH };
        let strength = request.strength.unwrap_or(default);
        check_share("source strength", strength)?;
        // Whole steps, cut off, as diffusers' `get_timesteps` counts them.
        let sampled = (f64::from(steps) * strength) as u32;
        if sampled == 0 {
            let least = 1.0 / f64::from(steps);
            return Err(Invalid::NothingToSample { given: strength, steps, least });
        }
        let mask = request.mask.as_ref();
        Ok(Source {
            image: self.catalogue.picture("source", &request.image, size)?,
            strength,
            first_step: steps - sampled.min(steps),
            mask: mask.map(|mask| self.catalogue.picture("mask", mask, size)).transpose()?,
        })
    }

    fn controls(
        &self,
        requests: &[ControlRequest],
        size: PictureSize,
        sampled: &Range<u32>,
    ) -> Result<Vec<Control>, Invalid> {
        check_count("controls", requests.len(), limits::MAX_CONTROLS)?;
        requests.iter().map(|request| self.control(request, size, sampled)).collect()
    }

    fn control(
        &self,
        request: &ControlRequest,
        size: PictureSize,
        sampled: &Range<u32>,
    ) -> Result<Control, Invalid> {
        check_weight("a control's scale", request.scale)?;
        check_share("a control's start", request.start)?;
        check_share("a control's end", request.end)?;
        let (first_step, end_step) = acting_steps(request.start, request.end, sampled);
        Ok(Control {
            model: self.adapter(AdapterKind::Control, &request.name)?.digest,
            image: self.catalogue.picture("control picture", &request.image, size)?,
            scale: request.scale,
            first_step,
            end_step,
        })
    }

    fn adapter(&self, kind: AdapterKind, name: &str) -> Result<&crate::AdapterManifest, Invalid> {
        self.catalogue.adapter(kind, name, &self.manifest.family)
    }
}

/// Which of the sampled steps a ControlNet acts at: from the first to the one at which it acts no more.
///
/// As diffusers' `control_guidance_start` and `_end`: step `i` of `n` sampled ones counts where `i / n` is
/// not below the start and `(i + 1) / n` is not above the end.
fn acting_steps(start: f64, end: f64, sampled: &Range<u32>) -> (u32, u32) {
    let n = f64::from(sampled.end - sampled.start);
    let share = |step: u32| f64::from(step - sampled.start) / n;
    let acts = |step: &u32| share(*step) >= start && share(*step + 1) <= end;
    match sampled.clone().find(acts) {
        Some(first) => (first, (first..sampled.end).find(|step| !acts(step)).unwrap_or(sampled.end)),
        None => (sampled.start, sampled.start),
    }
}

fn check_size(field: &'static str, given: u32, manifest: &ModelManifest) -> Result<(), Invalid> {
    check_side(field, given, manifest.max_side.min(limits::MAX_SIDE))?;
    let multiple = manifest.size_multiple.max(1);
    if given.is_multiple_of(multiple) {
        return Ok(());
    }
    let below = given / multiple * multiple;
    Err(Invalid::NotAMultiple { field, given, multiple, below: below.max(multiple), above: below + multiple })
}
