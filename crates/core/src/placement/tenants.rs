//! Who shares the farm. A tenant's virtual time is the device time that it had for its weight; whoever has
//! least goes first. docs/adr/0009 says why this is deficit round robin with a small quantum.

use std::collections::HashMap;

use super::bits::Bits;
use crate::terms::{TenantName, TenantPolicy};

/// How much of the whole fleet's time a tenant may be owed, in milliseconds: what could not be rendered
/// for it for want of a device is not kept for ever.
const OWED_MS: f64 = 60_000.0;

/// A tenant by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TenantId(pub(super) u32);

impl TenantId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) name: TenantName,
    pub(super) policy: TenantPolicy,
    /// Device time over weight, in milliseconds.
    pub(super) virtual_ms: f64,
    /// Jobs with something to give, and leases that are out: without either it does not compete.
    pub(super) ready: usize,
    pub(super) leases: usize,
    /// Devices that render for it.
    pub(super) devices: u32,
}

impl Tenant {
    pub(super) fn competes(&self) -> bool {
        self.ready + self.leases > 0
    }

    /// Whether no further device may render for it.
    pub(super) fn is_full(&self) -> bool {
        self.policy.max_devices.is_some_and(|most| self.devices >= most)
    }
}

#[derive(Debug, Default)]
pub(super) struct Tenants {
    numbers: HashMap<TenantName, TenantId>,
    tenants: Vec<Tenant>,
    /// Those whose devices are at their limit.
    full: Bits,
    /// The largest virtual time that was the least of those served.
    clock_ms: f64,
}

impl Tenants {
    pub(super) fn find(&self, name: &TenantName) -> Option<TenantId> {
        self.numbers.get(name).copied()
    }

    /// The number of a tenant; an unknown one has the ordinary policy.
    pub(super) fn of(&mut self, name: &TenantName) -> TenantId {
        if let Some(id) = self.find(name) {
            return id;
        }
        let id = TenantId(u32::try_from(self.tenants.len()).unwrap_or(u32::MAX));
        self.numbers.insert(name.clone(), id);
        let policy = TenantPolicy::default();
        let virtual_ms = self.clock_ms;
        let name = name.clone();
        self.tenants.push(Tenant { name, policy, virtual_ms, ready: 0, leases: 0, devices: 0 });
        id
    }

    pub(super) fn get(&self, id: TenantId) -> &Tenant {
        &self.tenants[id.index()]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.iter()
    }

    pub(super) fn set_policy(&mut self, id: TenantId, policy: TenantPolicy) {
        self.tenants[id.index()].policy = policy;
        self.mark_full(id);
    }

    /// Whether the devices of a tenant are at their limit.
    pub(super) fn is_full(&self, id: TenantId) -> bool {
        self.full.contains(id.index())
    }

    /// Those whose devices are at their limit.
    pub(super) fn full(&self) -> &Bits {
        &self.full
    }

    /// The tenant of `among` that had least.
    pub(super) fn least(&self, among: &Bits) -> Option<TenantId> {
        self.least_of(among.iter())
    }

    /// The same of those that are in `both`, too.
    pub(super) fn least_in(&self, among: &Bits, both: &Bits) -> Option<TenantId> {
        self.least_of(both.iter().filter(|&index| among.contains(index)))
    }

    fn least_of(&self, indices: impl Iterator<Item = usize>) -> Option<TenantId> {
        let ids = indices.map(|index| TenantId(index as u32));
        ids.min_by(|&a, &b| {
            let (a, b) = (self.get(a), self.get(b));
            a.virtual_ms.total_cmp(&b.virtual_ms).then_with(|| a.name.cmp(&b.name))
        })
    }

    /// A job of the tenant has something to give from now on, or has no more.
    pub(super) fn set_ready(&mut self, id: TenantId, ready: bool) {
        if ready {
            self.come(id);
            self.tenants[id.index()].ready += 1;
        } else {
            self.tenants[id.index()].ready -= 1;
        }
    }

    /// A tenant that competes again begins at the least of the others: nobody saves time up.
    fn come(&mut self, id: TenantId) {
        if self.get(id).competes() {
            return;
        }
        let others = self.tenants.iter().filter(|tenant| tenant.competes());
        let least = others.map(|tenant| tenant.virtual_ms).min_by(f64::total_cmp);
        let floor = least.unwrap_or(self.clock_ms);
        let tenant = &mut self.tenants[id.index()];
        tenant.virtual_ms = tenant.virtual_ms.max(floor);
    }

    /// A lease goes out that is expected to take `ms`, while the fleet has `devices`.
    pub(super) fn charge(&mut self, id: TenantId, ms: f64, devices: usize) {
        self.come(id);
        let owed = OWED_MS * devices as f64 / f64::from(TenantPolicy::default().weight);
        let tenant = &mut self.tenants[id.index()];
        self.clock_ms = self.clock_ms.max(tenant.virtual_ms);
        let before = tenant.virtual_ms.max(self.clock_ms - owed);
        tenant.virtual_ms = before + ms / f64::from(tenant.policy.weight);
        tenant.leases += 1;
    }

    /// A lease is over that took `ms` more than was charged, or less.
    pub(super) fn correct(&mut self, id: TenantId, ms: f64) {
        let tenant = &mut self.tenants[id.index()];
        tenant.virtual_ms += ms / f64::from(tenant.policy.weight);
        tenant.leases -= 1;
    }

    /// A device renders for the tenant from now on, or does no more.
    pub(super) fn set_devices(&mut self, id: TenantId, more: bool) {
        let devices = &mut self.tenants[id.index()].devices;
        *devices = if more { *devices + 1 } else { *devices - 1 };
        self.mark_full(id);
    }

    fn mark_full(&mut self, id: TenantId) {
        if self.get(id).is_full() {
            self.full.insert(id.index());
        } else {
            self.full.remove(id.index());
        }
    }
}
