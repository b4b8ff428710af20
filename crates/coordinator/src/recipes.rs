//! The recipes behind leased ranges: read from the store a line at a time, kept while they are warm.

use std::collections::HashMap;
use std::sync::Arc;

use seedfarm_core::recipe::RecipeDigester;
use seedfarm_core::{ImageRange, Invalid, JobId, Recipe, RecipeDigest, RecipeTemplate, TemplateDigest};
use seedfarm_proto::v1;
use seedfarm_store::{JobRow, LineRow, Store, StoreError};

use crate::warm::Warm;

/// A stored template, read.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) digest: TemplateDigest,
    body: String,
    pub(crate) recipe: RecipeTemplate,
    digester: RecipeDigester,
}

/// One image of a lease.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlannedImage {
    pub(crate) index: u64,
    /// Which of the work's templates.
    template: usize,
    pub(crate) seed: u64,
}

/// All that a worker needs to render a range.
#[derive(Debug)]
pub(crate) struct LeasedWork {
    first: u64,
    images: Vec<PlannedImage>,
    templates: Vec<Arc<Template>>,
}

/// Why recipes cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecipeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the stored template {digest} cannot be read")]
    Unreadable { digest: TemplateDigest, source: Invalid },
    #[error("job {job} lacks prompt line {line} or its template")]
    Missing { job: JobId, line: u64 },
}

impl LeasedWork {
    /// The image at `index`, where the work holds it.
    pub(crate) fn image(&self, index: u64) -> Option<PlannedImage> {
        let offset = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.images.get(offset).copied()
    }

    /// What an image's images share.
    pub(crate) fn template(&self, image: PlannedImage) -> &Template {
        &self.templates[image.template]
    }

    /// The whole recipe of an image.
    pub(crate) fn recipe(&self, image: PlannedImage) -> Recipe {
        self.template(image).recipe.clone().with_seed(image.seed)
    }

    /// The digest of an image's recipe.
    pub(crate) fn recipe_digest(&self, image: PlannedImage) -> RecipeDigest {
        self.template(image).digester.digest(image.seed)
    }

    /// The images and templates as a grant carries them.
    pub(crate) fn to_wire(&self) -> (Vec<v1::LeasedImage>, Vec<String>) {
        let images = self.images.iter().map(|image| v1::LeasedImage {
            index: image.index,
            template: u32::try_from(image.template).expect("a lease has at most 256 images"),
            seed: image.seed,
        });
        (images.collect(), self.templates.iter().map(|template| template.body.clone()).collect())
    }
}

/// Lines and templates that were read lately.
#[derive(Debug, Default)]
pub(crate) struct Recipes {
    lines: Warm<(JobId, u64), LineRow>,
    templates: Warm<TemplateDigest, Arc<Template>>,
}

impl Recipes {
    /// The recipes of a range of a job.
    pub(crate) async fn of(
        &self,
        store: &Store,
        job: &JobRow,
        range: ImageRange,
    ) -> Result<LeasedWork, RecipeError> {
        let seeds = job.seeds;
        let lines = self.lines_of(store, job.id, seeds.lines_of(range)).await?;
        let templates = self.templates_of(store, job.id, &lines).await?;
        let position = |digest| templates.iter().position(|template| template.digest == digest);
        let image = |index| {
            let line = seeds.line_of(index);
            let row = &lines[&line];
            let template = position(row.template).ok_or(RecipeError::Missing { job: job.id, line })?;
            Ok(PlannedImage { index, template, seed: seeds.seed_of(index, row.seed) })
        };
        let images = range.indices().map(image).collect::<Result<_, RecipeError>>()?;
        Ok(LeasedWork { first: range.lo(), images, templates })
    }

    async fn lines_of(
        &self,
        store: &Store,
        job: JobId,
        wanted: std::ops::Range<u64>,
    ) -> Result<HashMap<u64, LineRow>, RecipeError> {
        let known = |line| Some((line, self.lines.get(&(job, line))?));
        let mut lines: HashMap<u64, LineRow> = wanted.clone().filter_map(known).collect();
        if wanted.clone().any(|line| !lines.contains_key(&line)) {
            for row in store.lines(job, wanted.clone()).await? {
                self.lines.put((job, row.line), row);
                lines.insert(row.line, row);
            }
        }
        match wanted.clone().find(|line| !lines.contains_key(line)) {
            Some(line) => Err(RecipeError::Missing { job, line }),
            None => Ok(lines),
        }
    }

    async fn templates_of(
        &self,
        store: &Store,
        job: JobId,
        lines: &HashMap<u64, LineRow>,
    ) -> Result<Vec<Arc<Template>>, RecipeError> {
        let mut wanted: Vec<TemplateDigest> = lines.values().map(|row| row.template).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut templates: Vec<_> = wanted.iter().filter_map(|digest| self.templates.get(digest)).collect();
        if templates.len() < wanted.len() {
            tracing::trace!(job.id = %job, templates = wanted.len(), "reading templates");
            templates.clear();
            for (digest, body) in store.templates(&wanted).await? {
                let template = Arc::new(read_template(digest, body)?);
                self.templates.put(digest, Arc::clone(&template));
                templates.push(template);
            }
        }
        Ok(templates)
    }
}

fn read_template(digest: TemplateDigest, body: String) -> Result<Template, RecipeError> {
    let recipe =
        RecipeTemplate::from_json(&body).map_err(|source| RecipeError::Unreadable { digest, source })?;
    let digester = RecipeDigester::new(&recipe);
    Ok(Template { digest, body, recipe, digester })
}
