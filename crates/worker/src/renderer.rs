//! What a device renders with: the engine, or something else that turns recipes into pictures.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::completion::FailureClass;
use seedfarm_core::{ArtifactDigest, ModelDigest, Recipe};
use seedfarm_picture::Picture;

/// Where a run stands, after each sampling step.
pub struct Step<'a> {
    /// Steps that are done, from 1.
    pub step: u32,
    /// Steps in all.
    pub steps: u32,
    /// What the first image of the run is becoming; costs something only when it is called.
    pub preview: &'a dyn Fn() -> Option<Picture>,
}

/// Told after every sampling step; `Break` stops the run.
pub type Watcher<'a> = dyn FnMut(&Step<'_>) -> ControlFlow<()> + Send + 'a;

/// Pictures that recipes start from or follow, by the digests of their files.
pub type Pictures = HashMap<ArtifactDigest, Arc<Picture>>;

/// What was made of one recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// The picture.
    pub picture: Picture,
    /// What whoever asked for it should know, such as the part of the prompt that was not read.
    pub warnings: Vec<String>,
}

impl From<Picture> for Drawn {
    fn from(picture: Picture) -> Self {
        Self { picture, warnings: Vec::new() }
    }
}

/// Turns recipes into pictures on one device. Lives on that device's thread.
pub trait Renderer: Send {
    /// Renders one picture for each recipe, in their order. The recipes can share a batch
    /// (`seedfarm_engine::group`) and belong to `model`; what is not loaded is loaded. `pictures` holds all
    /// that they name.
    fn render(
        &mut self,
        model: &ModelDigest,
        recipes: &[Recipe],
        pictures: &Pictures,
        watcher: &mut Watcher<'_>,
    ) -> Result<Vec<Drawn>, RenderFault>;

    /// How long the last call of [`Renderer::render`] took to load what was not loaded yet; `None` where there
    /// was nothing to load, or it is not known.
    fn loading_time(&mut self) -> Option<Duration> {
        None
    }

    /// Drops whatever is loaded: called after a panic, which may have left it in no good state, and when
    /// the device is to rest.
    fn forget(&mut self);
}

/// Why a run gave no pictures.
#[derive(Debug)]
pub enum RenderFault {
    /// The watcher stopped it.
    Stopped,
    /// It failed.
    Failed(Fault),
}

/// Whose fault it was, and what happened, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Whose fault.
    pub class: FailureClass,
    /// What happened, with its causes.
    pub error: String,
}

impl Fault {
    /// A fault with an error and its causes as text, cut to what a completion may carry.
    pub fn new(class: FailureClass, error: impl Into<String>) -> Self {
        const MOST_BYTES: usize = 2000;
        let mut error: String = error.into();
        if error.len() > MOST_BYTES {
            error.truncate(error.floor_char_boundary(MOST_BYTES));
            error.push('…');
        }
        Self { class, error }
    }
}

/// An error with its causes, as one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let fault = Fault::new(FailureClass::Task, "é".repeat(5000));
        assert!(fault.error.len() < 2010 && fault.error.ends_with("é…"));
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        let error = crate::WorkerError::DataFolder {
            path: "/data".into(),
            source: std::io::Error::from(std::io::ErrorKind::StorageFull),
        };
        assert!(chain(&error).starts_with("cannot use /data") && chain(&error).ends_with("no storage space"));
    }
}
