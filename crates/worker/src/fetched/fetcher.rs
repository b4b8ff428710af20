//! The fetcher: follows what the farm wants, one package at a time, and tells the node what is there.
//!
//! It looks at the folder once a second, because another worker on this machine may have fetched something
//! into it, or made room.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::{Package, PackageDigest, WorkerId};
use seedfarm_proto::v1;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::download::{Downloader, blocking};
use super::fault::FetchFault;
use super::{Fetched, Kept, Turn};
use crate::backoff::Backoff;
use crate::event::{Event, StockChange};
use crate::link::Client;
use crate::renderer::chain;
use crate::shelf::Shelf;

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Wishes that may wait.
const WISHES: usize = 256;

/// See the module's documentation.
pub(crate) struct Fetcher {
    downloader: Downloader,
    shelf: Arc<Shelf>,
    events: mpsc::Sender<Event>,
    wishes: mpsc::Receiver<PackageDigest>,
    waiting: VecDeque<PackageDigest>,
    /// What the node was told of.
    told: BTreeSet<PackageDigest>,
}

impl Fetcher {
    /// A fetcher for what `fetched` holds, all of which the node knows already, and where it takes wishes.
    pub(crate) fn new(
        client: Client,
        worker: WorkerId,
        backoff: Backoff,
        fetched: Arc<Fetched>,
        shelf: Arc<Shelf>,
        events: mpsc::Sender<Event>,
    ) -> (Self, mpsc::Sender<PackageDigest>) {
        let (wish, wishes) = mpsc::channel(WISHES);
        let told = shelf.fetched_digests();
        let downloader = Downloader { client, worker, backoff, fetched };
        (Self { downloader, shelf, events, wishes, waiting: VecDeque::new(), told }, wish)
    }

    /// Fetches until the node is gone. May be dropped at any moment: what is half-done is taken up later.
    pub(crate) async fn run(mut self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                wish = self.wishes.recv() => match wish {
                    Some(package) => self.wish(package),
                    None => return,
                },
                _ = looks.tick() => {}
            }
            self.look().await;
            self.fetch_next().await;
        }
    }

    fn wish(&mut self, package: PackageDigest) {
        if self.told.contains(&package) {
            // The farm does not know yet: it is told again.
            self.told.remove(&package);
        } else if !self.waiting.contains(&package) {
            self.waiting.push_back(package);
        }
    }

    /// Tells the node what came and what went.
    async fn look(&mut self) {
        let fetched = Arc::clone(&self.downloader.fetched);
        let there = match blocking(move || fetched.digests()).await {
            Ok(there) => there,
            Err(error) => {
                tracing::warn!(%error, "the folder of fetched models cannot be read");
                return;
            }
        };
        let gone = self.told.difference(&there).copied();
        let removed: BTreeSet<PackageDigest> = gone.filter(|&digest| !self.shelf.is_own(digest)).collect();
        let new: Vec<PackageDigest> = there.difference(&self.told).copied().collect();
        let fetched = Arc::clone(&self.downloader.fetched);
        let added: Vec<Kept> = blocking(move || whole(&fetched, &new)).await;
        self.told.retain(|digest| there.contains(digest));
        self.told.extend(added.iter().map(|kept| kept.package.digest()));
        self.waiting.retain(|digest| !self.told.contains(digest));
        let added = self.shelf.restock(added, &removed);
        if !removed.is_empty() || !added.is_empty() {
            let removed = removed.into_iter().collect();
            self.tell(StockChange { added, removed, declined: None }).await;
        }
    }

    /// Fetches the first of what is wanted, if this process has its turn.
    async fn fetch_next(&mut self) {
        let Some(&digest) = self.waiting.front() else { return };
        let fetched = Arc::clone(&self.downloader.fetched);
        let turn = match blocking(move || fetched.turn()).await {
            Ok(Some(turn)) => turn,
            // Another worker on this machine fetches; what it brings is seen at the next look.
            Ok(None) => return,
            Err(error) => return tracing::warn!(%error, "the folder of fetched models cannot be locked"),
        };
        // Another worker may have brought it a moment ago.
        self.look().await;
        if !self.waiting.contains(&digest) {
            return;
        }
        let outcome = self.fetch(turn, digest).await;
        self.waiting.retain(|waiting| *waiting != digest);
        match outcome {
            Ok(package) => tracing::info!(
                package.digest = %digest, model = package.manifest.name(), bytes = package.bytes(), "a model was fetched"
            ),
            Err(fault) => {
                let reason = chain(&fault);
                tracing::warn!(package.digest = %digest, reason, "a model cannot be fetched now");
                self.tell(StockChange { declined: Some((digest, reason)), ..StockChange::default() }).await;
            }
        }
        self.look().await;
    }

    async fn fetch(&mut self, turn: Turn, digest: PackageDigest) -> Result<Package, FetchFault> {
        let package = self.describe(digest).await?;
        if !self.shelf.accepts(&package.manifest) {
            return Err(FetchFault::Unwanted(package.manifest.name().to_owned()));
        }
        let fetched = Arc::clone(&self.downloader.fetched);
        let (shelf, wanted) = (Arc::clone(&self.shelf), package.clone());
        let turn = blocking(move || make_room(&fetched, &shelf, &turn, &wanted).map(|()| turn)).await?;
        // What has left must not be granted any more while this is on its way.
        self.look().await;
        let fetched = Arc::clone(&self.downloader.fetched);
        let mut seen = BTreeSet::new();
        for file in package.files.iter().filter(|file| seen.insert(file.sha256)) {
            self.downloader.file(file).await?;
        }
        blocking(move || fetched.keep(&turn, &package).map(|()| package)).await
    }

    /// What the farm says a package is. It is a stranger's word, and what it names will lie on this disk.
    async fn describe(&self, digest: PackageDigest) -> Result<Package, FetchFault> {
        let request = v1::DescribePackageRequest { package_digest: digest.to_string() };
        let answer = self.downloader.client.clone().describe_package(request).await?.into_inner();
        let package: Package = serde_json::from_str(&answer.package_json)
            .map_err(|error| FetchFault::Unreadable(error.to_string()))?;
        package.check().map_err(FetchFault::Refused)?;
        if package.digest() == digest {
            return Ok(package);
        }
        Err(FetchFault::OtherModel { wanted: digest, found: package.digest().to_string() })
    }

    async fn tell(&self, change: StockChange) {
        // A node that is gone needs no telling.
        let _ = self.events.send(Event::Restocked(change)).await;
    }
}

/// Makes room; where models that only lie loaded are in the way, devices drop them first.
fn make_room(fetched: &Fetched, shelf: &Shelf, turn: &Turn, wanted: &Package) -> Result<(), FetchFault> {
    match fetched.make_room(turn, wanted) {
        Err(FetchFault::NoRoom(_)) => {
            shelf.unload();
            fetched.make_room(turn, wanted)
        }
        done => done,
    }
}

/// Those that are whole; others are set aside.
fn whole(fetched: &Fetched, digests: &[PackageDigest]) -> Vec<Kept> {
    let mut whole = Vec::new();
    for digest in digests {
        match fetched.package(digest) {
            Some(kept) => whole.push(kept),
            None => fetched.condemn(digest),
        }
    }
    whole
}
