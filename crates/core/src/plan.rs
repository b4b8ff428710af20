//! Admission: from a submission to the recipes of all its images, or a refusal of the whole.

mod catalogue;
mod line;

use crate::invalid::{Invalid, check_text};
use crate::limits;
use crate::model::ModelManifest;
use crate::range::ImageRange;
use crate::recipe::{NoiseSource, Numerics, Recipe, RecipeTemplate};
use crate::seed::SeedPolicy;
use crate::terms::JobTerms;

pub use crate::settings::Settings;
pub use catalogue::{Catalogue, PictureSize};
use line::Planner;

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
    /// What it asks of the farm.
    pub terms: JobTerms,
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

/// Resolves every parameter of a job that uses no adapter and no picture; see [`plan_with`].
pub fn plan(spec: &JobSpec, manifest: &ModelManifest) -> Result<JobPlan, Invalid> {
    plan_with(spec, manifest, &Catalogue::default())
}

/// Resolves every parameter of a job and holds each against its limit.
///
/// The first fault refuses the whole job; a fault in a line names the line.
pub fn plan_with(
    spec: &JobSpec,
    manifest: &ModelManifest,
    catalogue: &Catalogue,
) -> Result<JobPlan, Invalid> {
    check_text("name", &spec.name, limits::MAX_NAME_BYTES)?;
    spec.terms.check()?;
    let total = count_images(spec)?;
    let planner = Planner { spec, manifest, catalogue };
    let line = |line: &PromptLine| planner.line(line).map_err(|fault| fault.at_line(line.line));
    let lines = spec.prompts.iter().map(line).collect::<Result<_, _>>()?;
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

#[cfg(test)]
pub(crate) mod tests;
