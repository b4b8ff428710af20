//! Ids as types of their own. They print with a prefix, so that a person sees what an id names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The text is not an id of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {expected}")]
pub struct InvalidId {
    /// What was given.
    pub text: String,
    /// What would have been right, with an example.
    pub expected: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID made elsewhere.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID inside.
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|rest| rest.len() == 32)
                    .and_then(|rest| Uuid::try_parse(rest).ok())
                    .map(Self)
                    .ok_or_else(|| InvalidId { text: text.to_owned(), expected: $expected })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

uuid_id!(
    /// One submission.
    JobId, "job", "a job id (job_ and 32 hexadecimal digits)"
);
uuid_id!(
    /// One worker process; it keeps its id over restarts.
    WorkerId, "worker", "a worker id (worker_ and 32 hexadecimal digits)"
);
uuid_id!(
    /// One coordinator process, from its start to its end.
    CoordinatorId, "coordinator", "a coordinator id (coordinator_ and 32 hexadecimal digits)"
);
uuid_id!(
    /// One replay of one image.
    ReplayId, "replay", "a replay id (replay_ and 32 hexadecimal digits)"
);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// One grant of a range to a worker; given by the database.
    LeaseId(i64)
);
number!(
    /// How often a range has been granted, from 1; the fencing token of a lease.
    Attempt(i32)
);
number!(
    /// The reign of one coordinator; it grows with every takeover and fences every write.
    Epoch(i64)
);

/// One image of a job: the job and the image's index in it, printed as `job_…/17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId {
    /// The job.
    pub job: JobId,
    /// The image's index in the job, from 0.
    pub index: u64,
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.index)
    }
}

impl FromStr for ImageId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let parse = || {
            let (job, index) = text.split_once('/')?;
            Some(Self { job: job.parse().ok()?, index: index.parse().ok()? })
        };
        parse().ok_or_else(|| InvalidId {
            text: text.to_owned(),
            expected: "an image id (a job id, a slash and the image's index, such as job_…/17)",
        })
    }
}

impl Serialize for ImageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_with_their_prefix_and_parse_back() {
        let job = JobId::from_uuid(Uuid::from_u128(0x0192_0000_0000_0000_0000_0000_0000_002a));
        assert_eq!(job.to_string(), "job_0192000000000000000000000000002a");
        assert_eq!(job.to_string().parse::<JobId>().unwrap(), job);
        let image = ImageId { job, index: 17 };
        assert_eq!(image.to_string().parse::<ImageId>().unwrap(), image);
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let worker = WorkerId::from_uuid(Uuid::from_u128(1)).to_string();
        assert!(worker.parse::<JobId>().unwrap_err().to_string().contains("a job id"));
        assert!("job_12/3".parse::<ImageId>().is_err());
    }
}
