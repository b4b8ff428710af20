//! Reading everything back: what was acknowledged must be there, once, and with the pixels that it must have.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use seedfarm_core::{PixelDigest, Recipe, RecipeDigest};
use seedfarm_proto::v1;

use super::calls::Calls;
use super::load::{Load, index_of};
use super::{Acknowledged, Findings, Kind, Seen};
use crate::chaos::picture;

/// Most notes of one kind of fault in one job.
const NOTED: usize = 3;
/// One image of so many has its file fetched and read.
const FETCH_ONE_IN: u64 = 50;

/// Reads every acknowledged job; what cannot be read counts as lost.
pub(super) async fn run(calls: &mut Calls, load: &Load, kind: Kind, findings: &mut Findings) -> Vec<Seen> {
    let mut seen = Vec::new();
    for job in &load.jobs {
        findings.jobs += 1;
        findings.images += job.total;
        let mut reading = Reading { calls, load, kind, job, findings };
        match reading.job().await {
            Ok(images) => seen.extend(images),
            Err(error) => {
                findings.lost += job.total;
                findings.notes.push(format!("{} cannot be read back: {error:#}", job.id));
            }
        }
    }
    if let Err(error) = count_jobs(calls, load, findings).await {
        findings.notes.push(format!("jobs cannot be listed: {error:#}"));
    }
    seen
}

/// There must be no more jobs than were submitted.
async fn count_jobs(calls: &mut Calls, load: &Load, findings: &mut Findings) -> Result<()> {
    let request = v1::ListJobsRequest { limit: 1000, with_replays: false };
    let listed = calls.ask(|mut jobs| async move { jobs.list_jobs(request).await }).await?;
    let listed = listed.unwrap_or_default().jobs.len().saturating_sub(load.jobs.len());
    if listed > 0 && load.jobs.len() < 1000 {
        findings.duplicated += listed as u64;
        findings.notes.push(format!("{listed} jobs are there that nobody submitted"));
    }
    Ok(())
}

struct Reading<'a> {
    calls: &'a mut Calls,
    load: &'a Load,
    kind: Kind,
    job: &'a Acknowledged,
    findings: &'a mut Findings,
}

impl Reading<'_> {
    async fn job(&mut self) -> Result<Vec<Seen>> {
        let Acknowledged { id, total, .. } = self.job;
        let job = self.calls.job(id).await?.context("the farm does not know it")?;
        if (job.done, job.failed) != (*total, 0) {
            let told = format!("{id} tells {} done and {} failed of {total}", job.done, job.failed);
            self.findings.notes.push(told);
        }
        let images = self.calls.images(id).await?;
        let by_index = self.once(&images);
        self.findings.unaccounted += total - by_index.len() as u64;
        self.acknowledged(&by_index);
        let recipe = self.recipe().await?;
        let wrong = self.unequal(&by_index, &recipe);
        self.findings.unequal += wrong;
        self.files(&by_index).await?;
        Ok(by_index.into_iter().map(|(index, image)| seen(id, index, image)).collect())
    }

    /// Every index once.
    fn once<'i>(&mut self, images: &'i [v1::Image]) -> BTreeMap<u64, &'i v1::Image> {
        let mut by_index = BTreeMap::new();
        for image in images {
            let index = index_of(image);
            if index >= self.job.total || by_index.insert(index, image).is_some() {
                self.findings.duplicated += 1;
                self.findings.notes.push(format!("{} is there twice, or is nobody's", image.id));
            }
        }
        by_index
    }

    /// Every image that was shown before is still there, as it was.
    fn acknowledged(&mut self, by_index: &BTreeMap<u64, &v1::Image>) {
        let first = (self.job.id.clone(), 0);
        let last = (self.job.id.clone(), u64::MAX);
        for ((_, index), pixels) in self.load.shown.range(first..=last) {
            if by_index.get(index).is_none_or(|image| image.pixel_digest != *pixels) {
                self.findings.lost += 1;
                self.findings
                    .notes
                    .push(format!("{}/{index} was shown, and is gone or another", self.job.id));
            }
        }
    }

    /// The recipe of the first image, which must be what was submitted.
    async fn recipe(&mut self) -> Result<Recipe> {
        let request = v1::GetRecipeRequest { image_id: format!("{}/0", self.job.id) };
        let answer = self.calls.ask(|mut jobs| {
            let request = request.clone();
            async move { jobs.get_recipe(request).await }
        });
        let recipe = Recipe::from_json(&answer.await?.context("it has no recipe")?.recipe_json)?;
        ensure!(recipe.seed == self.job.seed, "the recipe has seed {}, not {}", recipe.seed, self.job.seed);
        ensure!(recipe.template.prompt == self.job.prompt, "the recipe has another prompt");
        Ok(recipe)
    }

    /// Images whose recipe or pixels are not what they must be.
    fn unequal(&mut self, by_index: &BTreeMap<u64, &v1::Image>, first: &Recipe) -> u64 {
        let wrong: Vec<u64> = by_index
            .iter()
            .filter(|(index, image)| !self.is_right(first, **index, image))
            .map(|(index, _)| *index)
            .collect();
        for index in wrong.iter().take(NOTED) {
            self.findings.notes.push(format!("{}/{index} has a wrong recipe or wrong pixels", self.job.id));
        }
        wrong.len() as u64
    }

    fn is_right(&self, first: &Recipe, index: u64, image: &v1::Image) -> bool {
        let seed = self.job.seed.wrapping_add(index);
        let recipe = Recipe { seed, ..first.clone() }.digest();
        let pixels = match self.kind {
            Kind::Cheap => drawn(&recipe).is_some_and(|pixels| image.pixel_digest == pixels.to_string()),
            // The round compares them with those of an undisturbed farm.
            Kind::Real => true,
        };
        image.seed == seed && image.recipe_digest == recipe.to_string() && pixels
    }

    /// Some files are fetched: their pixels must be what the farm says.
    async fn files(&mut self, by_index: &BTreeMap<u64, &v1::Image>) -> Result<()> {
        for image in by_index.values().filter(|image| index_of(image).is_multiple_of(FETCH_ONE_IN)) {
            let bytes = self.file(&image.artifact_digest).await?;
            let pixels = seedfarm_picture::decode(&bytes).ok().map(|picture| picture.digest());
            if pixels != PixelDigest::from_str(&image.pixel_digest).ok() {
                self.findings.unequal += 1;
                self.findings.notes.push(format!("the file of {} holds other pixels", image.id));
            }
        }
        Ok(())
    }

    async fn file(&mut self, digest: &str) -> Result<Vec<u8>> {
        let request = v1::FetchArtifactRequest { artifact_digest: digest.to_owned() };
        let answer = self.calls.ask(|mut jobs| {
            let request = request.clone();
            async move { jobs.fetch_artifact(request).await }
        });
        let mut chunks = answer.await?.with_context(|| format!("the file {digest} is not there"))?;
        let mut bytes = Vec::new();
        while let Some(message) = chunks.message().await? {
            bytes.extend(message.chunk.unwrap_or_default().data);
        }
        Ok(bytes)
    }
}

fn drawn(recipe: &RecipeDigest) -> Option<PixelDigest> {
    picture::of(recipe).ok().map(|drawn| drawn.pixels)
}

fn seen(job: &str, index: u64, image: &v1::Image) -> Seen {
    Seen {
        job: job.to_owned(),
        index,
        seed: image.seed,
        pixels: image.pixel_digest.clone(),
        worker: image.worker_id.clone(),
        attempt: image.attempt,
    }
}
