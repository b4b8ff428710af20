//! A job's states and what may follow what.

use serde::{Deserialize, Serialize};

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Its images may be leased.
    Active,
    /// No new lease is given; leases that are out may finish.
    Paused,
    /// Stopped for good by a person; results that exist stay.
    Cancelled,
    /// Every image has a result or was given up.
    Finished,
}

/// What a person or the farm wants of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobTransition {
    /// Give no new lease.
    Pause,
    /// Give leases again.
    Resume,
    /// Stop for good.
    Cancel,
    /// The last image was settled.
    Finish,
}

/// The transition is not possible from the job's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the job is {from}, so it cannot {verb}", from = .from.as_str(), verb = .transition.verb())]
pub struct InvalidTransition {
    /// The job's state.
    pub from: JobState,
    /// What was asked.
    pub transition: JobTransition,
}

impl JobTransition {
    const fn verb(self) -> &'static str {
        match self {
            Self::Pause => "be paused",
            Self::Resume => "be resumed",
            Self::Cancel => "be cancelled",
            Self::Finish => "finish",
        }
    }
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Active, Self::Paused, Self::Cancelled, Self::Finished];

    /// The state's name in the database, on the wire and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Finished => "finished",
        }
    }

    /// The state called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing more will happen to the job.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Cancelled | Self::Finished)
    }

    /// The state after a transition. Asking for what already holds is no error.
    pub fn after(self, transition: JobTransition) -> Result<Self, InvalidTransition> {
        match (self, transition) {
            (Self::Active | Self::Paused, JobTransition::Pause) => Ok(Self::Paused),
            (Self::Active | Self::Paused, JobTransition::Resume) => Ok(Self::Active),
            (Self::Active | Self::Paused | Self::Cancelled, JobTransition::Cancel) => Ok(Self::Cancelled),
            (Self::Active | Self::Paused | Self::Finished, JobTransition::Finish) => Ok(Self::Finished),
            (from, transition) => Err(InvalidTransition { from, transition }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_state_is_never_left() {
        use JobTransition::{Cancel, Finish, Pause, Resume};
        for from in JobState::ALL.into_iter().filter(|state| state.is_final()) {
            for transition in [Pause, Resume, Cancel, Finish] {
                assert_eq!(from.after(transition).unwrap_or(from), from);
            }
        }
    }

    #[test]
    fn a_finished_job_cannot_be_cancelled_and_says_so() {
        let error = JobState::Finished.after(JobTransition::Cancel).unwrap_err();
        assert_eq!(error.to_string(), "the job is finished, so it cannot be cancelled");
    }

    #[test]
    fn names_parse_back() {
        for state in JobState::ALL {
            assert_eq!(JobState::from_name(state.as_str()), Some(state));
        }
        assert_eq!(JobState::from_name("done"), None);
    }
}
