//! What workers were refused, counted by worker and reason. It is kept in memory, and starts anew with the
//! coordinator.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use seedfarm_core::WorkerId;
use seedfarm_proto::v1;

/// Most workers that are counted.
const MOST_WORKERS: usize = 10_000;

/// Why something of a worker was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// Its Hello cannot be read, or passes a limit.
    Hello,
    /// It speaks another version of the protocol.
    Protocol,
    /// Another process with its identity is connected.
    SecondProcess,
    /// It sent more messages than a session may.
    TooManyMessages,
    /// A digest, a fence or a document cannot be read.
    Malformed,
    /// A lease that it does not hold, or not any more.
    NotHeld,
    /// A lease that another worker holds.
    Foreign,
    /// An image that the lease does not have.
    OutsideLease,
    /// An image twice in one completion.
    ImageTwice,
    /// Images are missing, without a reason.
    TooFewImages,
    /// Images of another recipe than was leased.
    WrongRecipe,
    /// Images in another class of arithmetic.
    WrongNumerics,
    /// A file that was not uploaded.
    NoFile,
    /// A file of other length than told.
    WrongLength,
    /// A file that is no picture.
    NotAPicture,
    /// A picture of another size than its recipe's.
    WrongSize,
    /// A picture with other pixels than told.
    WrongPixels,
    /// An image that came sooner than its job believes.
    TooFast,
    /// A picture that says itself that it is of another recipe.
    WrongMetadata,
}

impl Reason {
    /// The name for programs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "HELLO_REFUSED",
            Self::Protocol => "PROTOCOL_MISMATCH",
            Self::SecondProcess => "WORKER_CONNECTED",
            Self::TooManyMessages => "TOO_MANY_MESSAGES",
            Self::Malformed => "MALFORMED",
            Self::NotHeld => "LEASE_NOT_HELD",
            Self::Foreign => "LEASE_OF_ANOTHER",
            Self::OutsideLease => "IMAGE_NOT_LEASED",
            Self::ImageTwice => "IMAGE_TWICE",
            Self::TooFewImages => "TOO_FEW_IMAGES",
            Self::WrongRecipe => "WRONG_RECIPE",
            Self::WrongNumerics => "WRONG_NUMERICS",
            Self::NoFile => "FILE_NOT_STORED",
            Self::WrongLength => "WRONG_FILE_LENGTH",
            Self::NotAPicture => "NOT_A_PICTURE",
            Self::WrongSize => "WRONG_PICTURE_SIZE",
            Self::WrongPixels => "WRONG_PIXELS",
            Self::TooFast => "IMAGE_TOO_FAST",
            Self::WrongMetadata => "WRONG_METADATA",
        }
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<WorkerId, BTreeMap<Reason, u64>>>);

impl Refusals {
    /// Counts one.
    pub(crate) fn count(&self, worker: WorkerId, reason: Reason) {
        let mut counts = self.counts();
        if counts.len() < MOST_WORKERS || counts.contains_key(&worker) {
            *counts.entry(worker).or_default().entry(reason).or_default() += 1;
        }
    }

    /// What a worker was refused.
    pub(crate) fn of(&self, worker: WorkerId) -> Vec<v1::RefusalCount> {
        let counts = self.counts();
        let counted = counts.get(&worker).into_iter().flatten();
        let count = |(reason, &count): (&Reason, &u64)| v1::RefusalCount {
            reason: reason.as_str().to_owned(),
            count,
        };
        counted.map(count).collect()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<WorkerId, BTreeMap<Reason, u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
