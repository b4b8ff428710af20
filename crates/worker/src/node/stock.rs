//! What the node renders with, as it changes: told to the coordinator on the running stream, and at the next
//! Hello.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use seedfarm_core::{AdapterManifest, ModelDigest, ModelManifest, PackageDigest, PackageManifest, canonical};
use seedfarm_proto::v1;
use seedfarm_proto::v1::session_request::Message;

use super::Node;
use crate::event::StockChange;
use crate::fetched::Fetcher;
use crate::owner::accepts;

/// What devices render with.
#[derive(Debug, Clone, Default)]
pub struct Stock {
    /// Models.
    pub models: Vec<ModelManifest>,
    /// LoRAs, textual inversions and ControlNets.
    pub adapters: Vec<AdapterManifest>,
}

impl Stock {
    pub(crate) fn add(&mut self, manifest: PackageManifest) {
        match manifest {
            PackageManifest::Model(manifest) => self.models.push(manifest),
            PackageManifest::Adapter(manifest) => self.adapters.push(manifest),
        }
    }

    /// The models' names.
    pub(super) fn names(&self) -> HashMap<ModelDigest, String> {
        self.models.iter().map(|model| (model.digest(), model.name.clone())).collect()
    }
}

impl Node {
    /// What follows the farm's wishes, where this worker has room for models.
    pub(super) fn start_to_fetch(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let shelf = self.shelf.clone()?;
        let fetched = Arc::clone(shelf.fetched()?);
        let (client, events) = (self.client.clone(), self.events.clone());
        let (fetcher, wishes) =
            Fetcher::new(client, self.worker, self.config.backoff, fetched, shelf, events);
        self.wishes = Some(wishes);
        Some(fetcher.run())
    }

    /// Jobs wait for models that the farm can hand out.
    pub(super) fn asked_to_fetch(&mut self, wanted: &v1::Wanted) {
        for text in &wanted.package_digests {
            let digest = text.parse::<PackageDigest>();
            let asked = digest
                .ok()
                .zip(self.wishes.as_ref())
                .is_some_and(|(digest, wishes)| self.leaving.is_none() && wishes.try_send(digest).is_ok());
            if !asked {
                let reason = "this worker fetches nothing more now".to_owned();
                let declined = vec![v1::Declined { package_digest: text.clone(), reason }];
                self.talk.say(Message::Stocked(v1::Stocked { declined, ..v1::Stocked::default() }));
            }
        }
    }

    /// Models came or went: Hello says so from now on, and so does the running stream. One that the owner
    /// refuses is declined: it may have been fetched before the owner said so.
    pub(super) fn restocked(&mut self, change: StockChange) {
        let mut new = Stock::default();
        change.added.into_iter().for_each(|manifest| new.add(manifest));
        self.names.write().unwrap_or_else(PoisonError::into_inner).extend(new.names());
        let refused = new.models.iter().filter(|model| !accepts(&self.limits, model)).map(|model| {
            let reason = format!("the worker's owner refuses the model '{}'", model.name);
            (PackageDigest::from(model.digest()), reason)
        });
        let stocked = v1::Stocked {
            model_manifests_json: self.accepted_manifests(&new.models),
            adapters_json: new.adapters.iter().map(canonical::to_string).collect(),
            removed_digests: change.removed.iter().map(ToString::to_string).collect(),
            declined: change.declined.into_iter().chain(refused).map(declined).collect(),
        };
        if let Some(shelf) = &self.shelf {
            self.stock = shelf.stock();
        }
        // A Hello that is on its way said what was there before.
        self.talk.say(Message::Stocked(stocked));
    }
}

fn declined((digest, reason): (PackageDigest, String)) -> v1::Declined {
    v1::Declined { package_digest: digest.to_string(), reason }
}
