//! A lease as the worker holds it.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use seedfarm_core::completion::{FailureClass, Fence};
use seedfarm_core::{AdapterDigest, JobId, ModelDigest, Recipe, RecipeTemplate};
use seedfarm_proto::v1;

use crate::diary::Diary;
use crate::fetched::Hold;
use crate::renderer::Fault;

/// Images of one job that this worker is to render, and how far it may go.
#[derive(Debug)]
pub(crate) struct Lease {
    /// What a completion must show.
    pub fence: Fence,
    /// The job.
    pub job: JobId,
    /// The model.
    pub model: ModelDigest,
    /// The images, in order.
    pub images: Vec<LeasedImage>,
    /// What happens to it.
    pub diary: Diary,
    /// Keep what it renders with on the disk.
    pub holds: Vec<Hold>,
    stop: AtomicU8,
    /// Why it stops, where there is something to say.
    reason: OnceLock<String>,
}

/// One image of a lease.
#[derive(Debug, Clone)]
pub(crate) struct LeasedImage {
    /// Its index in the job.
    pub index: u64,
    /// How it is made.
    pub recipe: Recipe,
}

/// When rendering of a lease stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// When every image is rendered.
    WhenDone,
    /// When the images in the making are rendered.
    AfterBatch,
    /// At the next step.
    AtNextStep,
}

/// A grant that cannot be rendered as it is, and what can still be said of it.
#[derive(Debug)]
pub(crate) struct BadGrant {
    pub fence: Fence,
    /// As it stands in the grant.
    pub job: String,
    pub fault: Fault,
}

impl Lease {
    /// Reads a grant.
    pub(crate) fn read(grant: v1::Grant) -> Result<Self, BadGrant> {
        let fence = Fence::from(grant.fence.unwrap_or_default());
        Self::read_images(fence, &grant).map_err(|error| BadGrant {
            fence,
            job: grant.job_id,
            fault: Fault::new(FailureClass::Task, error),
        })
    }

    fn read_images(fence: Fence, grant: &v1::Grant) -> Result<Self, String> {
        let job = grant.job_id.parse().map_err(text)?;
        let model = grant.model_digest.parse().map_err(text)?;
        let templates = grant.templates_json.iter().map(|json| RecipeTemplate::from_json(json));
        let templates = templates.collect::<Result<Vec<_>, _>>().map_err(text)?;
        let image = |image: &v1::LeasedImage| {
            let template = templates.get(image.template as usize);
            let template = template.ok_or_else(|| format!("the grant has no template {}", image.template))?;
            Ok(LeasedImage { index: image.index, recipe: template.clone().with_seed(image.seed) })
        };
        let images = grant.images.iter().map(image).collect::<Result<_, String>>()?;
        Ok(Self {
            fence,
            job,
            model,
            images,
            diary: Diary::begin(),
            holds: Vec::new(),
            stop: AtomicU8::new(0),
            reason: OnceLock::new(),
        })
    }

    /// The adapters that its images need, each once.
    pub(crate) fn adapters(&self) -> Vec<AdapterDigest> {
        let all = self.images.iter().flat_map(|image| image.recipe.template.adapters());
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Asks for an earlier stop; a later one than was asked for already changes nothing.
    pub(crate) fn ask_to_stop(&self, stop: Stop) {
        self.stop.fetch_max(stop as u8, Ordering::Relaxed);
    }

    /// Asks for an earlier stop, and says why; the first reason stays.
    pub(crate) fn ask_to_stop_because(&self, stop: Stop, reason: &str) {
        let _ = self.reason.set(reason.to_owned());
        self.ask_to_stop(stop);
    }

    /// Why it stops, where somebody said so.
    pub(crate) fn stop_reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// When to stop.
    pub(crate) fn stop(&self) -> Stop {
        match self.stop.load(Ordering::Relaxed) {
            0 => Stop::WhenDone,
            1 => Stop::AfterBatch,
            _ => Stop::AtNextStep,
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
