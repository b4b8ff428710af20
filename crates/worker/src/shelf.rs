//! Where the models and adapters lie that this worker renders with: the owner's own, and those that were
//! fetched from the farm. The latter come and go.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use seedfarm_core::owner::Limits;
use seedfarm_core::{
    AdapterDigest, AdapterManifest, ModelDigest, ModelManifest, PackageDigest, PackageManifest,
};

use crate::fetched::{Fetched, Hold, Kept};
use crate::library::LocalModel;
use crate::node::Stock;
use crate::owner::accepts;

/// See the module's documentation.
pub(crate) struct Shelf {
    own: Own,
    fetched: Option<Arc<Fetched>>,
    guests: RwLock<HashMap<PackageDigest, Kept>>,
    unloads: Mutex<Vec<Unload>>,
    /// The owner's.
    limits: RwLock<Arc<Limits>>,
}

/// Drops the fetched models that an idle device has loaded.
pub(crate) type Unload = Box<dyn Fn() + Send + Sync>;

/// What the owner put into the model folders.
#[derive(Debug, Default)]
pub(crate) struct Own {
    pub(crate) models: HashMap<ModelDigest, LocalModel>,
    pub(crate) adapters: HashMap<AdapterDigest, (PathBuf, AdapterManifest)>,
}

impl Own {
    fn has(&self, digest: PackageDigest) -> bool {
        self.models.keys().any(|&model| digest == model.into())
            || self.adapters.keys().any(|&adapter| digest == adapter.into())
    }
}

impl Shelf {
    /// With what was fetched earlier.
    pub(crate) fn new(own: Own, fetched: Option<Arc<Fetched>>) -> std::io::Result<Self> {
        let (guests, limits) = (RwLock::default(), RwLock::default());
        let shelf = Self { own, fetched, guests, unloads: Mutex::default(), limits };
        if let Some(fetched) = &shelf.fetched {
            let kept = fetched.digests()?.iter().filter_map(|digest| fetched.package(digest)).collect();
            shelf.restock(kept, &BTreeSet::new());
        }
        Ok(shelf)
    }

    /// Keeps to the owner's limits from now on.
    pub(crate) fn rule(&self, limits: &Arc<Limits>) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(limits);
        if let Some(fetched) = &self.fetched {
            fetched.allow(limits.model_cache_bytes());
        }
    }

    /// Whether the owner lets this be fetched.
    pub(crate) fn accepts(&self, manifest: &PackageManifest) -> bool {
        let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
        match manifest {
            PackageManifest::Model(model) => accepts(&limits, model),
            PackageManifest::Adapter(_) => true,
        }
    }

    /// How one device drops what it has loaded.
    pub(crate) fn on_unload(&self, unload: Unload) {
        self.unloads.lock().unwrap_or_else(PoisonError::into_inner).push(unload);
    }

    /// Has every device that does not render drop the fetched models that it has loaded, so that they may
    /// leave the disk.
    pub(crate) fn unload(&self) {
        self.unloads.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|unload| unload());
    }

    /// The folder of what is fetched, where anything is.
    pub(crate) fn fetched(&self) -> Option<&Arc<Fetched>> {
        self.fetched.as_ref()
    }

    /// All that there is to render with.
    pub(crate) fn stock(&self) -> Stock {
        let mut stock = Stock {
            models: self.own.models.values().map(|model| model.manifest.clone()).collect(),
            adapters: self.own.adapters.values().map(|(_, manifest)| manifest.clone()).collect(),
        };
        let guests = self.guests.read().unwrap_or_else(PoisonError::into_inner);
        guests.values().for_each(|kept| stock.add(kept.package.manifest.clone()));
        stock.models.sort_by(|a, b| a.name.cmp(&b.name));
        stock.adapters.sort_by(|a, b| a.name.cmp(&b.name));
        stock
    }

    /// What was fetched and is not the owner's as well.
    pub(crate) fn fetched_digests(&self) -> BTreeSet<PackageDigest> {
        self.guests.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Follows what came and what went. Answers what is new to this worker.
    pub(crate) fn restock(
        &self,
        added: Vec<Kept>,
        removed: &BTreeSet<PackageDigest>,
    ) -> Vec<PackageManifest> {
        let mut guests = self.guests.write().unwrap_or_else(PoisonError::into_inner);
        guests.retain(|digest, _| !removed.contains(digest));
        let mut new = Vec::new();
        for kept in added.into_iter().filter(|kept| !self.own.has(kept.package.digest())) {
            new.push(kept.package.manifest.clone());
            guests.insert(kept.package.digest(), kept);
        }
        new
    }

    /// Whether the owner has it.
    pub(crate) fn is_own(&self, digest: PackageDigest) -> bool {
        self.own.has(digest)
    }

    /// A model.
    pub(crate) fn model(&self, digest: &ModelDigest) -> Option<LocalModel> {
        if let Some(own) = self.own.models.get(digest) {
            return Some(own.clone());
        }
        let guests = self.guests.read().unwrap_or_else(PoisonError::into_inner);
        let kept = guests.get(&(*digest).into())?;
        let manifest: &ModelManifest = match &kept.package.manifest {
            PackageManifest::Model(manifest) => manifest,
            PackageManifest::Adapter(_) => return None,
        };
        Some(LocalModel { folder: kept.path.clone(), manifest: manifest.clone() })
    }

    /// Where each adapter lies.
    pub(crate) fn adapter_paths(&self) -> HashMap<AdapterDigest, PathBuf> {
        let own = self.own.adapters.iter().map(|(digest, (path, _))| (*digest, path.clone()));
        let guests = self.guests.read().unwrap_or_else(PoisonError::into_inner);
        let fetched = guests.values().filter_map(|kept| match &kept.package.manifest {
            PackageManifest::Adapter(manifest) => Some((manifest.digest, kept.path.clone())),
            PackageManifest::Model(_) => None,
        });
        own.chain(fetched).collect()
    }

    /// Keeps a model and adapters on the disk while the answer lives.
    ///
    /// # Errors
    /// What left the disk a moment ago.
    pub(crate) fn hold(
        &self,
        model: &ModelDigest,
        adapters: &[AdapterDigest],
    ) -> Result<Vec<Hold>, PackageDigest> {
        let Some(fetched) = &self.fetched else { return Ok(Vec::new()) };
        let all = adapters.iter().map(|&adapter| adapter.into()).chain([(*model).into()]);
        let guests = all.filter(|&digest| !self.own.has(digest));
        let hold = |digest: PackageDigest| match fetched.hold(&digest) {
            Ok(held) => held.ok_or(digest),
            Err(error) => {
                tracing::warn!(package.digest = %digest, %error, "a fetched model cannot be held");
                Err(digest)
            }
        };
        guests.map(hold).collect()
    }

    /// A model proved damaged when it was loaded: a fetched one is set aside.
    pub(crate) fn condemn(&self, digest: &ModelDigest) {
        let digest = PackageDigest::from(*digest);
        if let Some(fetched) = self.fetched.as_ref().filter(|_| !self.own.has(digest)) {
            fetched.condemn(&digest);
        }
    }
}
