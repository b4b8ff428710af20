//! Names of tenants and tags: short, lower case, the same in every place that shows them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::invalid::Invalid;
use crate::limits;

macro_rules! short_name {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                if is_short_name(text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(Invalid::NotAName { field: $field, given: text.chars().take(SHOWN).collect() })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Most characters of a refused name that are shown.
const SHOWN: usize = 80;

short_name!(
    /// One of those who share the farm.
    TenantName, "tenant"
);
short_name!(
    /// A word that a worker bears and a job may ask for; a pool of workers is a tag such as `pool:night`.
    Tag, "tag"
);

impl Default for TenantName {
    /// The tenant of those who name none.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

fn is_short_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.:".contains(c);
    (1..=limits::MAX_SHORT_NAME_BYTES).contains(&text.len()) && text.chars().all(plain)
}
