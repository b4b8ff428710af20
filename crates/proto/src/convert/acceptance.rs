//! Which work a worker takes, on the wire.

use std::str::FromStr;

use seedfarm_core::Invalid;
use seedfarm_core::owner::{Acceptance, Feature};
use seedfarm_core::terms::{Tag, TenantName};
use tonic::Status;

use crate::{error, v1};

impl From<Acceptance> for v1::Acceptance {
    fn from(acceptance: Acceptance) -> Self {
        let wire = |feature: Feature| v1::Feature::from(feature).into();
        Self {
            max_pixels: acceptance.max_pixels,
            max_steps: acceptance.max_steps,
            refused: acceptance.refused.into_iter().map(wire).collect(),
            prefer_tenants: acceptance.prefer_tenants.iter().map(TenantName::to_string).collect(),
            tags: acceptance.tags.iter().map(Tag::to_string).collect(),
        }
    }
}

impl TryFrom<v1::Acceptance> for Acceptance {
    type Error = Status;

    /// Kinds of work that only a later version knows are passed over: this farm has none of them.
    fn try_from(wire: v1::Acceptance) -> Result<Self, Status> {
        let refused = wire.refused().filter_map(|feature| Feature::try_from(feature).ok()).collect();
        Ok(Self {
            max_pixels: wire.max_pixels,
            max_steps: wire.max_steps,
            refused,
            prefer_tenants: names(&wire.prefer_tenants)?,
            tags: names::<Tag, _>(&wire.tags)?,
        })
    }
}

fn names<T: FromStr<Err = Invalid>, C: FromIterator<T>>(texts: &[String]) -> Result<C, Status> {
    let names = texts.iter().map(|text| text.parse());
    names.collect::<Result<C, Invalid>>().map_err(|fault| error::invalid(&fault))
}
