//! Pictures that recipes start from or follow: fetched from the coordinator when first needed, and kept
//! while there is room.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seedfarm_core::completion::FailureClass;
use seedfarm_core::{ArtifactDigest, Recipe, WorkerId, limits};
use seedfarm_picture::Picture;
use seedfarm_proto::v1;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tonic::Status;

use crate::backoff::Backoff;
use crate::lease::{Lease, Stop};
use crate::link::{Client, is_permanent};
use crate::renderer::{Fault, Pictures, RenderFault, chain};

/// Bytes of decoded pictures that are kept: five of the largest, or some hundred of a usual size.
const KEPT_BYTES: usize = 256 << 20;

/// How often a picture is asked for before the lease is given back.
const TRIES: u32 = 5;

/// How long one try may take: 64 MiB at a mebibyte a second.
const DEADLINE: Duration = Duration::from_secs(64);

/// Pictures of a lease that are fetched before its device asks for them.
const AHEAD: usize = 16;

/// How often is looked whether the lease is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// The pictures of this worker, shared by its devices.
pub(crate) struct PictureStore {
    client: Client,
    runtime: Handle,
    worker: WorkerId,
    backoff: Backoff,
    kept: Mutex<Kept>,
    /// Held by whoever fetches.
    turn: tokio::sync::Mutex<()>,
}

/// Pictures that were used lately; the last used stands last.
#[derive(Default)]
struct Kept(Vec<(ArtifactDigest, Arc<Picture>)>);

impl PictureStore {
    /// Must be called within the runtime that is to fetch.
    pub(crate) fn new(client: Client, worker: WorkerId, backoff: Backoff) -> Self {
        Self {
            client,
            runtime: Handle::current(),
            worker,
            backoff,
            kept: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// All pictures that `recipes` name. Waits; for a device's thread, not for the runtime's.
    ///
    /// A picture that cannot be had is the surroundings' fault, one that is none the task's.
    pub(crate) fn of(
        self: &Arc<Self>,
        recipes: &[Recipe],
        lease: &Arc<Lease>,
    ) -> Result<Pictures, RenderFault> {
        let named: BTreeSet<ArtifactDigest> =
            recipes.iter().flat_map(|recipe| recipe.template.pictures()).collect();
        named.into_iter().map(|digest| Ok((digest, self.one(digest, lease)?))).collect()
    }

    /// Fetches the first pictures of a lease that waits, so that its device does not wait for them.
    pub(crate) fn prefetch(self: &Arc<Self>, lease: &Arc<Lease>) {
        let named = lease.images.iter().flat_map(|image| image.recipe.template.pictures());
        let named: BTreeSet<ArtifactDigest> = named.take(AHEAD).collect();
        if named.is_empty() {
            return;
        }
        let (store, lease) = (Arc::clone(self), Arc::clone(lease));
        self.runtime.spawn(async move {
            for digest in named {
                // What cannot be had is told when the device asks for it.
                if lease.stop() != Stop::WhenDone || store.get(digest).await.is_err() {
                    return;
                }
            }
        });
    }

    /// One picture; this thread waits while the runtime fetches it.
    fn one(
        self: &Arc<Self>,
        digest: ArtifactDigest,
        lease: &Arc<Lease>,
    ) -> Result<Arc<Picture>, RenderFault> {
        if let Some(picture) = self.kept().get(&digest) {
            return Ok(picture);
        }
        let (reply, answer) = oneshot::channel();
        let (store, lease) = (Arc::clone(self), Arc::clone(lease));
        self.runtime.spawn(async move {
            let got = tokio::select! {
                got = store.get(digest) => got.map_err(RenderFault::Failed),
                () = unwanted(&lease) => Err(RenderFault::Stopped),
            };
            // A thread that is gone waits for nothing.
            let _ = reply.send(got);
        });
        // Without a runtime there is no answer: the process is ending.
        answer.blocking_recv().unwrap_or(Err(RenderFault::Stopped))
    }

    /// One picture, kept or fetched. One is fetched at a time, so that none is fetched twice.
    async fn get(&self, digest: ArtifactDigest) -> Result<Arc<Picture>, Fault> {
        let _turn = self.turn.lock().await;
        if let Some(picture) = self.kept().get(&digest) {
            return Ok(picture);
        }
        let file = self.insist(digest).await.map_err(|status| environment(digest, &status))?;
        let decoded = tokio::task::spawn_blocking(move || decode(digest, &file)).await;
        let panicked = |panic| {
            let error = format!("the picture {digest} cannot be read: {panic}");
            Err(Fault::new(FailureClass::Task, error))
        };
        let picture = decoded.unwrap_or_else(panicked)?;
        self.kept().put(digest, Arc::clone(&picture));
        Ok(picture)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches a file, again and again while another try may help.
    async fn insist(&self, digest: ArtifactDigest) -> Result<Vec<u8>, Status> {
        let mut attempt = 0;
        loop {
            let fetched = tokio::time::timeout(DEADLINE, self.ask(digest)).await;
            let fetched =
                fetched.unwrap_or_else(|_| Err(Status::deadline_exceeded("the picture took too long")));
            match fetched {
                Err(status) if attempt + 1 < TRIES && !is_permanent(status.code()) => {
                    let delay = self.backoff.delay(attempt, self.worker);
                    tracing::debug!(picture.digest = %digest, attempt, error = chain(&status), "a picture is asked for again");
                    tokio::time::sleep(delay).await;
                    attempt += 1;
                }
                fetched => return fetched,
            }
        }
    }

    async fn ask(&self, digest: ArtifactDigest) -> Result<Vec<u8>, Status> {
        let request = v1::FetchPictureRequest { digest: digest.to_string() };
        let mut stream = self.client.clone().fetch_picture(request).await?.into_inner();
        let mut file = Vec::new();
        while let Some(message) = stream.message().await? {
            file.extend_from_slice(&message.chunk.unwrap_or_default().data);
            if file.len() > limits::MAX_ARTIFACT_BYTES {
                let most = limits::MAX_ARTIFACT_BYTES;
                return Err(Status::out_of_range(format!("it is larger than the limit of {most} bytes")));
            }
        }
        let actual = ArtifactDigest::of_bytes(&file);
        if actual != digest {
            return Err(Status::data_loss(format!("its digest is {actual}: it was damaged on its way")));
        }
        Ok(file)
    }
}

impl Kept {
    fn get(&mut self, digest: &ArtifactDigest) -> Option<Arc<Picture>> {
        let at = self.0.iter().position(|(kept, _)| kept == digest)?;
        let entry = self.0.remove(at);
        let picture = Arc::clone(&entry.1);
        self.0.push(entry);
        Some(picture)
    }

    /// Keeps a picture in place of those that were not used for longest; the newest is always kept.
    fn put(&mut self, digest: ArtifactDigest, picture: Arc<Picture>) {
        self.0.retain(|(kept, _)| *kept != digest);
        self.0.push((digest, picture));
        let bytes = |kept: &[(ArtifactDigest, Arc<Picture>)]| -> usize {
            kept.iter().map(|(_, picture)| picture.rgb().len()).sum()
        };
        while self.0.len() > 1 && bytes(&self.0) > KEPT_BYTES {
            self.0.remove(0);
        }
    }
}

/// Ends when a lease is not to be rendered any further.
async fn unwanted(lease: &Lease) {
    while lease.stop() == Stop::WhenDone {
        tokio::time::sleep(LOOK).await;
    }
}

fn decode(digest: ArtifactDigest, file: &[u8]) -> Result<Arc<Picture>, Fault> {
    seedfarm_picture::decode(file).map(Arc::new).map_err(|error| {
        let error = format!("the picture {digest} cannot be read: {}", chain(&error));
        Fault::new(FailureClass::Task, error)
    })
}

fn environment(digest: ArtifactDigest, status: &Status) -> Fault {
    let error = format!("the picture {digest} cannot be had: {}", status.message());
    Fault::new(FailureClass::Environment, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_not_used_for_longest_make_room_and_the_newest_is_always_kept() {
        let side = 4096;
        let picture = || Arc::new(Picture::new(side, side, vec![0; 3 * (side * side) as usize]).unwrap());
        let digest = |n: u8| ArtifactDigest::of_bytes(&[n]);
        let mut kept = Kept::default();
        (0..5).for_each(|n| kept.put(digest(n), picture()));
        assert!(kept.get(&digest(0)).is_some());
        kept.put(digest(5), picture());
        assert!(kept.get(&digest(1)).is_none(), "it was not used for longest");
        assert!(kept.get(&digest(0)).is_some() && kept.get(&digest(5)).is_some());
    }
}
