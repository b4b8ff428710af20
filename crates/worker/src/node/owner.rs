//! What the owner's limits change of the node: what it says of itself, which devices rest, what it hands back.

use std::sync::Arc;

use seedfarm_core::owner::{Acceptance, Haste, Verdict};
use seedfarm_core::{ModelManifest, WorkerId, canonical};
use seedfarm_proto::v1::session_request::Message;
use seedfarm_proto::{PROTOCOL, v1};

use super::Node;
use crate::lease::{Lease, Stop};
use crate::owner::{Allowance, Ruling, accepts};

/// What the owner wants rendered of the model that a grant names.
pub(super) struct Wanted {
    pub worker: WorkerId,
    acceptance: Acceptance,
    /// The model's name, where the owner refuses it.
    refused_model: Option<String>,
}

impl Wanted {
    /// Why a lease is not wanted.
    pub(super) fn refuses(&self, lease: &Lease) -> Option<String> {
        if let Some(name) = &self.refused_model {
            return Some(format!("the worker's owner refuses the model '{name}'"));
        }
        lease.images.iter().find_map(|image| self.acceptance.refuses(&image.recipe.template))
    }
}

impl Node {
    /// Takes a ruling over, and tells the coordinator what it changes.
    pub(super) fn ruled(&mut self, ruling: Ruling) {
        let (limits, resting) = (Arc::clone(&self.limits), self.resting());
        self.rule(ruling);
        if !self.talk.is_welcome() {
            return;
        }
        if self.limits != limits {
            let update = self.update();
            self.talk.say(Message::Update(update));
        }
        if self.resting() != resting {
            self.beat();
        }
    }

    /// Takes a ruling over.
    pub(super) fn rule(&mut self, ruling: Ruling) {
        self.limits = ruling.limits;
        self.config.allowance.set(Allowance::of(&self.limits));
        if let Some(shelf) = &self.shelf {
            shelf.rule(&self.limits);
        }
        self.outbox.set_limit(self.limits.outbox_bytes().unwrap_or(self.config.outbox_limit_bytes));
        for (device, verdict) in ruling.verdicts {
            self.follow(device, &verdict);
        }
    }

    fn follow(&mut self, device: u32, verdict: &Verdict) {
        let Some(slot) = self.slots.get_mut(&device) else { return };
        let before = slot.resting().map(str::to_owned);
        if before.as_deref() != verdict.reason() {
            match verdict.reason() {
                Some(reason) => {
                    tracing::info!(worker.id = %self.worker, gpu.index = device, reason, "the device rests")
                }
                None => {
                    tracing::info!(worker.id = %self.worker, gpu.index = device, "the device works again")
                }
            }
            slot.rest(verdict.reason());
        }
        let Verdict::Rest { reason, haste } = verdict else { return };
        let stop = match haste {
            Haste::AfterImage => Stop::AfterBatch,
            Haste::AtOnce => Stop::AtNextStep,
        };
        let of_device = self.held.values().filter(|held| held.device == Some(device));
        of_device.filter_map(|held| held.lease.as_ref()).for_each(|l| l.ask_to_stop_because(stop, reason));
    }

    /// The devices that rest.
    pub(super) fn resting(&self) -> Vec<v1::Resting> {
        let resting = |(&device, slot): (&u32, &super::Slot)| {
            slot.resting().map(|reason| v1::Resting { device, reason: reason.to_owned() })
        };
        self.slots.iter().filter_map(resting).collect()
    }

    /// Who this is, what it holds, and what it takes.
    pub(super) fn hello(&self) -> v1::Hello {
        v1::Hello {
            worker_id: self.worker.to_string(),
            name: self.config.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            devices: self.slots.values().map(|slot| slot.description.clone()).collect(),
            model_manifests_json: self.accepted_manifests(&self.stock.models),
            adapters_json: self.stock.adapters.iter().map(canonical::to_string).collect(),
            held: self.fences(),
            acceptance: Some(self.limits.acceptance().into()),
            protocol: PROTOCOL,
            instance: self.instance.clone(),
            fetches_bytes: self
                .shelf
                .as_ref()
                .and_then(|shelf| shelf.fetched())
                .map_or(0, |f| f.limit_bytes()),
        }
    }

    fn update(&self) -> v1::Update {
        v1::Update {
            acceptance: Some(self.limits.acceptance().into()),
            model_manifests_json: self.accepted_manifests(&self.stock.models),
        }
    }

    /// The manifests of those models that the owner accepts: nothing else of them is announced.
    pub(super) fn accepted_manifests(&self, models: &[ModelManifest]) -> Vec<String> {
        let accepted = models.iter().filter(|model| accepts(&self.limits, model));
        accepted.map(canonical::to_string).collect()
    }

    /// What the owner wants rendered of a model.
    pub(super) fn wanted(&self, digest: &str) -> Wanted {
        let named = |model: &&ModelManifest| model.digest().to_string() == digest;
        let refused = self.stock.models.iter().find(named).filter(|model| !accepts(&self.limits, model));
        Wanted {
            worker: self.worker,
            acceptance: self.limits.acceptance(),
            refused_model: refused.map(|model| model.name.clone()),
        }
    }
}
