//! Limits on devices: most that render at once for a model or under a licence. What devices hold is counted
//! as leases go out and end; nothing is searched when work is chosen.

use std::collections::HashMap;

use super::class::Class;
use super::fleet::DeviceId;
use super::tenants::TenantId;
use crate::id::JobId;
use crate::terms::LimitKey;

/// A model or a licence by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ScopeId(u32);

/// The limits that a class is under: its model's, and its licence's.
pub(super) type Scopes = [Option<ScopeId>; 2];

#[derive(Debug)]
struct Scope {
    key: LimitKey,
    most: Option<u32>,
    devices: u32,
}

/// Models and licences, with the devices that render for them.
#[derive(Debug, Default)]
pub(super) struct Limits {
    numbers: HashMap<LimitKey, ScopeId>,
    scopes: Vec<Scope>,
}

impl Limits {
    /// The limits that a class is under.
    pub(super) fn of(&mut self, class: &Class) -> Scopes {
        let licence = class.licence.clone().map(LimitKey::Licence);
        [Some(self.number(LimitKey::Model(class.model_name.clone()))), licence.map(|key| self.number(key))]
    }

    pub(super) fn set(&mut self, key: LimitKey, most: Option<u32>) {
        let id = self.number(key);
        self.scopes[id.0 as usize].most = most;
    }

    fn number(&mut self, key: LimitKey) -> ScopeId {
        let next = ScopeId(u32::try_from(self.scopes.len()).unwrap_or(u32::MAX));
        let id = *self.numbers.entry(key.clone()).or_insert(next);
        if id == next {
            self.scopes.push(Scope { key, most: None, devices: 0 });
        }
        id
    }

    /// The first of these limits that is reached, with its number of devices.
    pub(super) fn reached(&self, scopes: Scopes) -> Option<(&LimitKey, u32)> {
        self.reached_for(scopes, None)
    }

    /// The same for a device that may go on with what it holds already.
    pub(super) fn reached_for(&self, scopes: Scopes, held: Option<&Held>) -> Option<(&LimitKey, u32)> {
        let scopes = scopes.into_iter().flatten();
        let others = scopes.filter(|scope| !held.is_some_and(|held| held.has_scope(*scope)));
        let scopes = others.map(|scope| &self.scopes[scope.0 as usize]);
        scopes
            .filter_map(|scope| Some((&scope.key, scope.most?, scope.devices)))
            .find_map(|(key, most, devices)| (devices >= most).then_some((key, most)))
    }

    /// A device renders under this limit from now on, or does no more.
    pub(super) fn set_devices(&mut self, scope: ScopeId, more: bool) {
        let devices = &mut self.scopes[scope.0 as usize].devices;
        *devices = if more { *devices + 1 } else { *devices - 1 };
    }
}

/// A lease as its device holds it.
#[derive(Debug, Clone)]
pub(super) struct HeldLease {
    pub(super) job: JobId,
    /// Its first image.
    pub(super) lo: u64,
    pub(super) tenant: TenantId,
    pub(super) scopes: Scopes,
    /// What its tenant was charged, in milliseconds of device time.
    pub(super) charged_ms: f64,
    /// Whether the device had to load something for it.
    pub(super) swapped: bool,
}

/// What a device holds. A worker asks for few leases at once, so this is searched.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) leases: Vec<HeldLease>,
    /// When it is expected to be through with them, in milliseconds since 1970-01-01 UTC.
    pub(super) busy_until_ms: i64,
}

impl Held {
    pub(super) fn has_job(&self, job: JobId) -> bool {
        self.leases.iter().any(|lease| lease.job == job)
    }

    pub(super) fn has_tenant(&self, tenant: TenantId) -> bool {
        self.leases.iter().any(|lease| lease.tenant == tenant)
    }

    pub(super) fn has_scope(&self, scope: ScopeId) -> bool {
        self.leases.iter().any(|lease| lease.scopes.contains(&Some(scope)))
    }

    /// Takes out the lease of these images.
    pub(super) fn remove(&mut self, job: JobId, lo: u64) -> Option<HeldLease> {
        let at = self.leases.iter().position(|lease| lease.job == job && lease.lo == lo)?;
        Some(self.leases.swap_remove(at))
    }
}

/// What every device holds.
pub(super) type Holdings = HashMap<DeviceId, Held>;
