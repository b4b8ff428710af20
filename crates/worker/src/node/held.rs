//! One lease, from its grant until the coordinator has stored its completion.

use std::sync::Arc;

use seedfarm_core::completion::{FailureClass, Fence};
use seedfarm_proto::v1;

use crate::lease::Lease;
use crate::outbox::{Leftover, StoredImage};
use crate::renderer::Fault;

/// A lease and what has become of it so far.
pub(super) struct Held {
    /// As it stands in the grant.
    pub job: String,
    /// The device that renders it; absent for what an earlier process left.
    pub device: Option<u32>,
    /// What the device holds; absent where there is nothing to render.
    pub lease: Option<Arc<Lease>>,
    /// Pictures in the outbox.
    pub images: Vec<StoredImage>,
    /// Pictures that the coordinator does not have yet.
    pub uploads: usize,
    /// Whether rendering is over.
    pub ended: bool,
    /// Why not every image is there.
    pub fault: Option<Fault>,
    /// How the pictures were rendered, as JSON.
    pub fingerprint_json: String,
    /// Whether the completion was sent on the present stream.
    pub offered: bool,
    /// What happened, once rendering is over; nothing is left of it after a restart.
    pub log: String,
}

impl Held {
    pub(super) fn granted(lease: Arc<Lease>, device: u32, fingerprint_json: String) -> Self {
        Self {
            job: lease.job.to_string(),
            device: Some(device),
            lease: Some(lease),
            images: Vec::new(),
            uploads: 0,
            ended: false,
            fault: None,
            fingerprint_json,
            offered: false,
            log: String::new(),
        }
    }

    /// A lease of which nothing will be rendered, to be completed with nothing but the reason.
    pub(super) fn over(job: String, fault: Fault, fingerprint_json: String) -> Self {
        Self {
            job,
            device: None,
            lease: None,
            images: Vec::new(),
            uploads: 0,
            ended: true,
            fault: Some(fault),
            fingerprint_json,
            offered: false,
            log: String::new(),
        }
    }

    /// What an earlier process left. Its pictures are sent again: nobody knows which of them arrived.
    pub(super) fn left_over(leftover: Leftover) -> Self {
        Self {
            job: leftover.note.job,
            device: None,
            lease: None,
            uploads: leftover.images.len(),
            images: leftover.images,
            ended: true,
            fault: leftover.fault,
            fingerprint_json: leftover.note.fingerprint_json,
            offered: false,
            log: String::new(),
        }
    }

    /// A picture lies at the coordinator.
    pub(super) fn uploaded(&mut self) {
        self.uploads = self.uploads.saturating_sub(1);
    }

    /// A picture will never be taken: the image is to be rendered by another worker.
    pub(super) fn upload_refused(&mut self, index: u64, reason: &str) {
        self.uploaded();
        self.images.retain(|image| image.index != index);
        let error = format!("the coordinator refused the picture of image {index}: {reason}");
        self.fault.get_or_insert_with(|| Fault::new(FailureClass::Worker, error));
    }

    /// Whether the completion can be sent.
    pub(super) fn is_ready(&self) -> bool {
        self.ended && self.uploads == 0
    }

    pub(super) fn completion(&self, fence: Fence) -> v1::Complete {
        v1::Complete {
            fence: Some(fence.into()),
            job_id: self.job.clone(),
            images: self.images.iter().map(rendered).collect(),
            fingerprint_json: self.fingerprint_json.clone(),
            failure: self.fault.as_ref().map(|fault| v1::Failure {
                class: v1::FailureClass::from(fault.class).into(),
                error: fault.error.clone(),
            }),
            log: self.log.clone(),
        }
    }
}

fn rendered(image: &StoredImage) -> v1::RenderedImage {
    v1::RenderedImage {
        index: image.index,
        recipe_digest: image.recipe.to_string(),
        pixel_digest: image.pixels.to_string(),
        artifact_digest: image.artifact.to_string(),
        artifact_bytes: image.bytes,
        duration_ms: image.duration_ms,
        warnings: image.warnings.clone(),
    }
}
