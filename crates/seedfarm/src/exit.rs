//! Exit codes: 0 done, 1 failed, 64 the request itself is wrong, 75 try again later.

use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked was done.
    Done,
    /// It was tried and failed, or what was checked does not hold.
    Failed,
    /// The request itself is wrong; asking again in the same way will never work.
    Usage,
    /// Something that should answer does not; asking again later may work.
    TryAgain,
}

impl Exit {
    /// The number that the shell sees, as in BSD's sysexits.h.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 64,
            Self::TryAgain => 75,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
