//! What owners change while their workers are connected: which work they take, which devices rest.

use std::collections::BTreeMap;

use seedfarm_core::owner::Acceptance;
use seedfarm_core::placement::DeviceId;
use seedfarm_core::{ModelManifest, WorkerId};

use super::Board;
use super::sessions::SessionId;

impl Board {
    /// A worker takes other work from now on, with the models of `manifests` alone. Leases that it holds
    /// stay its own: it hands back what it may not render.
    pub(crate) fn update(
        &mut self,
        worker: WorkerId,
        id: SessionId,
        acceptance: Acceptance,
        manifests: &[ModelManifest],
    ) {
        let Some(session) = self.sessions.get_mut(&worker).filter(|session| session.id == id) else { return };
        session.acceptance = acceptance;
        session.models = manifests.iter().map(ModelManifest::digest).collect();
        self.offer(worker);
    }

    /// Devices of a worker rest, and no others. The credit of one that begins to rest is void.
    pub(crate) fn rest(&mut self, worker: WorkerId, id: SessionId, resting: BTreeMap<u32, String>) {
        let Some(session) = self.sessions.get_mut(&worker).filter(|session| session.id == id) else { return };
        session.resting = resting;
        session.resting.retain(|device, _| session.devices.contains_key(device));
        let void: Vec<u32> = session.resting.keys().copied().collect();
        session.credit.retain(|device, _| !void.contains(device));
        void.into_iter().for_each(|device| self.set_hungry(DeviceId { worker, device }, false));
    }
}
