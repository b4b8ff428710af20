//! Admission: from a submission to the recipes of all its images, or a refusal of the whole.

use serde::{Deserialize, Serialize};

use crate::invalid::{Invalid, check_text};
use crate::limits;
use crate::model::ModelManifest;
use crate::range::ImageRange;
use crate::recipe::{
    NoiseSource, Numerics, PromptSyntax, RECIPE_VERSION, Recipe, RecipeTemplate, check_guidance, check_side,
    check_steps,
};
use crate::sampling::Sampler;
use crate::seed::SeedPolicy;

/// Settings that a job gives for all its lines and a line may give for itself; what both leave open
/// comes from the model's defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// What to avoid.
    pub negative_prompt: Option<String>,
    /// Width in pixels.
    pub width: Option<u32>,
    /// Height in pixels.
    pub height: Option<u32>,
    /// Sampling steps.
    pub steps: Option<u32>,
    /// Classifier-free guidance scale; 1 is off.
    pub guidance: Option<f64>,
    /// The sampler.
    pub sampler: Option<Sampler>,
}

/// One line of a prompt file.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptLine {
    /// Where it stands in the file, from 1, for messages.
    pub line: usize,
    /// What to draw.
    pub prompt: String,
    /// Its own seed, used under [`SeedPolicy::Explicit`] alone.
    pub seed: Option<u64>,
    /// Its own settings.
    pub settings: Settings,
}

/// A submission as its sender wrote it, before any limit is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec {
    /// A name for people; may be empty.
    pub name: String,
    /// One line for each prompt.
    pub prompts: Vec<PromptLine>,
    /// Images for each prompt.
    pub count: u32,
    /// The job's seed.
    pub seed: u64,
    /// How images get their seeds from it.
    pub seed_policy: SeedPolicy,
    /// Higher goes first; 0 is ordinary.
    pub priority: i32,
    /// The class of arithmetic.
    pub numerics: Numerics,
    /// Where noise comes from.
    pub noise: NoiseSource,
    /// Settings for all lines.
    pub settings: Settings,
}

/// A line that passed admission: its recipe but for the seed.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedLine {
    /// What its images share.
    pub template: RecipeTemplate,
    /// The line's own seed.
    pub seed: Option<u64>,
}

/// How a job's images get their seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeedPlan {
    /// The job's seed.
    pub seed: u64,
    /// The policy.
    pub policy: SeedPolicy,
    /// Images for each prompt line.
    pub count: u32,
}

impl SeedPlan {
    /// The prompt line (from 0) to which image `index` belongs. Images of one line stand together.
    pub fn line_of(&self, index: u64) -> u64 {
        index / u64::from(self.count)
    }

    /// The lines (from 0, last excluded) that the images of `range` need.
    pub fn lines_of(&self, range: ImageRange) -> std::ops::Range<u64> {
        self.line_of(range.lo())..self.line_of(range.hi() - 1) + 1
    }

    /// The seed of image `index`, whose line has `line_seed`.
    pub fn seed_of(&self, index: u64, line_seed: Option<u64>) -> u64 {
        self.policy.seed_of(self.seed, index, index % u64::from(self.count), line_seed)
    }
}

/// A job that passed admission.
#[derive(Debug, Clone, PartialEq)]
pub struct JobPlan {
    /// Number of images: lines times count.
    pub total: u64,
    /// How images get their seeds.
    pub seeds: SeedPlan,
    /// The lines, in order.
    pub lines: Vec<PlannedLine>,
}

impl JobPlan {
    /// The recipe of image `index`, or `None` past the end.
    pub fn recipe(&self, index: u64) -> Option<Recipe> {
        let line = self.lines.get(usize::try_from(self.seeds.line_of(index)).ok()?)?;
        Some(line.template.clone().with_seed(self.seeds.seed_of(index, line.seed)))
    }
}

/// Resolves every parameter of a job and holds each against its limit.
///
/// The first fault refuses the whole job; a fault in a line names the line.
pub fn plan(spec: &JobSpec, manifest: &ModelManifest) -> Result<JobPlan, Invalid> {
    check_text("name", &spec.name, limits::MAX_NAME_BYTES)?;
    if spec.priority.abs() > limits::MAX_PRIORITY {
        return Err(Invalid::PriorityOutOfRange { given: spec.priority });
    }
    let total = count_images(spec)?;
    let lines = spec
        .prompts
        .iter()
        .map(|line| plan_line(spec, line, manifest).map_err(|fault| fault.at_line(line.line)))
        .collect::<Result<_, _>>()?;
    let seeds = SeedPlan { seed: spec.seed, policy: spec.seed_policy, count: spec.count };
    Ok(JobPlan { total, seeds, lines })
}

fn count_images(spec: &JobSpec) -> Result<u64, Invalid> {
    let lines = spec.prompts.len();
    if lines == 0 {
        return Err(Invalid::NoPrompts);
    }
    if lines > limits::MAX_PROMPTS_A_JOB {
        return Err(Invalid::TooManyPrompts { given: lines, limit: limits::MAX_PROMPTS_A_JOB });
    }
    if spec.count == 0 {
        return Err(Invalid::NoImages);
    }
    let total = lines as u64 * u64::from(spec.count);
    if total > limits::MAX_IMAGES_A_JOB {
        return Err(Invalid::TooManyImages { given: total, limit: limits::MAX_IMAGES_A_JOB });
    }
    Ok(total)
}

fn plan_line(spec: &JobSpec, line: &PromptLine, manifest: &ModelManifest) -> Result<PlannedLine, Invalid> {
    match (spec.seed_policy, line.seed) {
        (SeedPolicy::Explicit, None) => return Err(Invalid::SeedMissing),
        (SeedPolicy::Explicit, Some(_)) | (_, None) => {}
        (policy, Some(_)) => return Err(Invalid::SeedIgnored { policy: policy.as_str() }),
    }
    let settings = Resolved::new(&line.settings, &spec.settings, manifest);
    let template = settings.template(spec, &line.prompt, manifest)?;
    Ok(PlannedLine { template, seed: line.seed })
}

/// Settings with nothing left open.
struct Resolved {
    negative_prompt: String,
    width: u32,
    height: u32,
    steps: u32,
    guidance: f64,
    sampler: Sampler,
}

impl Resolved {
    fn new(line: &Settings, job: &Settings, manifest: &ModelManifest) -> Self {
        let defaults = &manifest.defaults;
        let negative = line.negative_prompt.as_ref().or(job.negative_prompt.as_ref());
        Self {
            negative_prompt: negative.cloned().unwrap_or_default(),
            width: line.width.or(job.width).unwrap_or(defaults.width),
            height: line.height.or(job.height).unwrap_or(defaults.height),
            steps: line.steps.or(job.steps).unwrap_or(defaults.steps),
            guidance: line.guidance.or(job.guidance).unwrap_or(defaults.guidance),
            sampler: line.sampler.or(job.sampler).unwrap_or(defaults.sampler),
        }
    }

    fn template(
        self,
        spec: &JobSpec,
        prompt: &str,
        manifest: &ModelManifest,
    ) -> Result<RecipeTemplate, Invalid> {
        check_text("prompt", prompt, limits::MAX_PROMPT_BYTES)?;
        check_text("negative_prompt", &self.negative_prompt, limits::MAX_PROMPT_BYTES)?;
        check_size("width", self.width, manifest)?;
        check_size("height", self.height, manifest)?;
        check_guidance(self.guidance)?;
        check_steps(self.steps as usize)?;
        Ok(RecipeTemplate {
            version: RECIPE_VERSION,
            model: manifest.components.clone(),
            prompt: prompt.to_owned(),
            negative_prompt: self.negative_prompt,
            prompt_syntax: PromptSyntax::Plain,
            width: self.width,
            height: self.height,
            sampler: self.sampler,
            timesteps: manifest.noise_schedule.timesteps(self.sampler, self.steps)?,
            noise_schedule: manifest.noise_schedule.clone(),
            guidance: self.guidance,
            noise: spec.noise,
            numerics: spec.numerics,
        })
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

#[cfg(test)]
pub(crate) mod tests;
