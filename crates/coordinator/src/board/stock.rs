//! What workers have to render with, as it changes while they are connected, and what they fetch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use seedfarm_core::distribution::{Demand, Provision, Wish};
use seedfarm_core::placement::Group;
use seedfarm_core::{AdapterDigest, ModelDigest, PackageDigest, WorkerId};
use seedfarm_proto::v1::{self, session_response::Message};
use tokio::time::Instant;

use super::sessions::{Introduction, SessionId};
use super::{Board, sessions::Session};

/// How long a worker is not asked again for what it could not fetch.
const SPARED: Duration = Duration::from_secs(60);

/// What a worker says has changed in what it has.
#[derive(Debug, Default)]
pub(crate) struct Restock {
    pub(crate) models: BTreeSet<ModelDigest>,
    pub(crate) adapters: BTreeSet<AdapterDigest>,
    pub(crate) removed: BTreeSet<PackageDigest>,
    pub(crate) declined: BTreeSet<PackageDigest>,
}

/// What a session knows of fetching.
#[derive(Debug)]
pub(super) struct Stock {
    /// Bytes that fetched models may take; 0 where the worker fetches none.
    room_bytes: u64,
    fetching: BTreeSet<PackageDigest>,
    declined: BTreeMap<PackageDigest, Instant>,
}

impl Stock {
    pub(super) fn of(who: &Introduction) -> Self {
        Self { room_bytes: who.fetches_bytes, fetching: BTreeSet::new(), declined: BTreeMap::new() }
    }
}

impl Session {
    fn has(&self) -> BTreeSet<PackageDigest> {
        let adapters = self.adapters.iter().map(|&adapter| adapter.into());
        self.models.iter().map(|&model| model.into()).chain(adapters).collect()
    }
}

impl Board {
    /// A worker has other models or adapters than before. What it offers changes at once.
    pub(crate) fn restock(&mut self, worker: WorkerId, id: SessionId, change: &Restock, now: Instant) {
        let Some(session) = self.sessions.get_mut(&worker).filter(|session| session.id == id) else { return };
        session.models.retain(|&model| !change.removed.contains(&model.into()));
        session.adapters.retain(|&adapter| !change.removed.contains(&adapter.into()));
        session.models.extend(&change.models);
        session.adapters.extend(&change.adapters);
        let has = session.has();
        session.stock.fetching.retain(|package| !has.contains(package) && !change.declined.contains(package));
        session.stock.declined.extend(change.declined.iter().map(|&package| (package, now + SPARED)));
        self.offer(worker);
    }

    /// Whether any connected worker fetches models.
    pub(crate) fn has_fetchers(&self) -> bool {
        self.sessions.values().any(|session| session.stock.room_bytes > 0)
    }

    /// What jobs wait for, and whom it would not help to have it.
    pub(crate) fn demands(&self) -> Vec<Demand> {
        let mut images = BTreeMap::<_, u64>::new();
        for (class, waiting) in self.queue.waiting_by_class() {
            let refusing = self.sessions.iter().filter(|(_, session)| session.refuses(class));
            let unfit: BTreeSet<WorkerId> = refusing.map(|(&worker, _)| worker).collect();
            let sum = images.entry((class.group, &class.adapters, unfit)).or_default();
            *sum = sum.saturating_add(waiting);
        }
        let demand = |((group, adapters, unfit), images): ((Group, &Vec<_>, _), _)| Demand {
            model: group.model,
            adapters: adapters.clone(),
            numerics: group.numerics,
            images,
            unfit,
        };
        images.into_iter().map(demand).collect()
    }

    /// What the workers have that take work.
    pub(crate) fn provisions(&self, now: Instant) -> Vec<Provision> {
        let staying = self.sessions.iter().filter(|(_, session)| !session.draining);
        let provision = |(&worker, session): (&WorkerId, &Session)| {
            let stock = &session.stock;
            let declined = stock.declined.iter().filter(|(_, until)| **until > now);
            Provision {
                worker,
                numerics: session.numerics(),
                room_bytes: stock.room_bytes,
                stock: session.has(),
                fetching: stock.fetching.clone(),
                declined: declined.map(|(&package, _)| package).collect(),
            }
        };
        staying.map(provision).collect()
    }

    /// Tells a worker what to fetch.
    pub(crate) fn tell_wish(&mut self, wish: &Wish) {
        if let Some(session) = self.sessions.get_mut(&wish.worker) {
            session.stock.fetching.extend(&wish.packages);
        }
        let package_digests = wish.packages.iter().map(ToString::to_string).collect();
        self.send(wish.worker, Message::Wanted(v1::Wanted { package_digests }));
    }

    /// A package was added, perhaps again: whoever could not have it may be asked at once.
    pub(crate) fn forgive(&mut self, package: PackageDigest) {
        for session in self.sessions.values_mut() {
            session.stock.declined.remove(&package);
        }
    }

    /// Connected workers that have a package, and those that are fetching it.
    pub(crate) fn holders(&self, package: PackageDigest) -> (Vec<WorkerId>, Vec<WorkerId>) {
        let those = |which: &dyn Fn(&Session) -> bool| {
            let found = self.sessions.iter().filter(|(_, session)| which(session));
            found.map(|(&worker, _)| worker).collect()
        };
        let has = those(&|session| session.has().contains(&package));
        (has, those(&|session| session.stock.fetching.contains(&package)))
    }
}
