//! What uploaded files really hold: each is read as a picture once, off the runtime's threads, and what it
//! holds is remembered under the file's digest.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use seedfarm_core::{ArtifactDigest, PixelDigest, RecipeDigest};
use seedfarm_picture::PictureError;
use tokio::sync::Semaphore;

/// Files that are read at once; each holds at most one picture in memory besides its file.
const AT_ONCE: usize = 4;
/// Files of which is remembered what they hold: those of the last hours of a large farm, in some megabytes.
const REMEMBERED: usize = 65_536;

/// What a picture file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Absent where 8-bit RGB cannot hold the pixels.
    pub(crate) pixels: Option<PixelDigest>,
    /// Of the recipe in the file, if there is one.
    pub(crate) recipe: Option<RecipeDigest>,
}

/// What a file holds, or why it is no picture.
pub(crate) type Look = Result<Contents, String>;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Inspection {
    turns: Semaphore,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    looks: HashMap<ArtifactDigest, Look>,
    /// Oldest first.
    order: VecDeque<ArtifactDigest>,
}

impl Default for Inspection {
    fn default() -> Self {
        Self { turns: Semaphore::new(AT_ONCE), known: Mutex::default() }
    }
}

impl Inspection {
    /// What is remembered of a file.
    pub(crate) fn known(&self, digest: &ArtifactDigest) -> Option<Look> {
        self.lock().looks.get(digest).cloned()
    }

    /// Reads a file, whose digest must have been made sure of. `None` when the coordinator stops.
    pub(crate) async fn of(&self, digest: ArtifactDigest, file: Bytes) -> Option<Look> {
        if let Some(look) = self.known(&digest) {
            return Some(look);
        }
        let _turn = self.turns.acquire().await.ok()?;
        let look = tokio::task::spawn_blocking(move || look(&file)).await.ok()?;
        self.remember(digest, look.clone());
        Some(look)
    }

    fn remember(&self, digest: ArtifactDigest, look: Look) {
        let mut known = self.lock();
        if known.looks.insert(digest, look).is_none() {
            known.order.push_back(digest);
        }
        if known.order.len() > REMEMBERED
            && let Some(oldest) = known.order.pop_front()
        {
            known.looks.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look(file: &[u8]) -> Look {
    let metadata = seedfarm_picture::read_metadata(file).map_err(|fault| chain(&fault))?;
    Ok(Contents {
        width: metadata.width,
        height: metadata.height,
        pixels: metadata.pixel_digest,
        recipe: metadata.recipe_digest,
    })
}

/// A fault with its cause, as one line.
fn chain(fault: &PictureError) -> String {
    match std::error::Error::source(fault) {
        Some(cause) => format!("{fault}: {cause}"),
        None => fault.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_once_and_the_oldest_is_forgotten_first() {
        let inspection = Inspection::default();
        let digest = |n: usize| ArtifactDigest::of_bytes(&n.to_le_bytes());
        let look = inspection.of(digest(0), Bytes::from_static(b"no picture")).await.unwrap();
        assert!(look.is_err());
        for n in 1..=REMEMBERED {
            inspection.remember(digest(n), Err(String::new()));
        }
        assert_eq!(inspection.known(&digest(0)), None);
        assert!(inspection.known(&digest(1)).is_some() && inspection.known(&digest(REMEMBERED)).is_some());
    }
}
