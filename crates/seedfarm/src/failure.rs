//! One clear message, a name for programs and an exit code for everything that can go wrong.

use std::error::Error as StdError;
use std::io;

use seedfarm_core::Invalid;
use seedfarm_proto::error::reason_of;
use seedfarm_runtime::RuntimeError;
use seedfarm_store::StoreError;
use seedfarm_store::bus::BusError;
use seedfarm_store::private::ClusterError;
use seedfarm_worker::WorkerError;
use seedfarm_worker::owner::LimitsError;
use serde::Serialize;
use tonic::{Code, Status};

use crate::exit::Exit;

/// A failure as this program itself finds it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    /// A short stable name in `UPPER_SNAKE_CASE`.
    pub code: &'static str,
    /// What was wrong, with the value, the limit and the way out.
    pub message: String,
}

impl Failure {
    /// The request itself is wrong.
    pub fn usage(code: &'static str, message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, code, message: message.into() }
    }

    /// It was tried and failed.
    pub fn failed(code: &'static str, message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, code, message: message.into() }
    }

    /// Asking again later may work.
    pub fn try_again(code: &'static str, message: impl Into<String>) -> Self {
        Self { exit: Exit::TryAgain, code, message: message.into() }
    }
}

/// What is told of an error.
#[derive(Debug, Serialize)]
pub struct Report {
    /// A short stable name in `UPPER_SNAKE_CASE`.
    pub code: String,
    /// For people.
    pub message: String,
    /// The exit code.
    pub exit: u8,
}

/// The document that `--json` prints in place of a result.
#[derive(Debug, Serialize)]
pub struct ErrorDocument {
    /// What went wrong.
    pub error: Report,
}

/// Sorts an error and puts its chain of causes into one line.
pub fn report(error: &anyhow::Error) -> Report {
    let (exit, code) = error.chain().find_map(classify).unwrap_or((Exit::Failed, "FAILED".to_owned()));
    let mut message = flatten(error);
    if code == "DISK_FULL" && !message.contains("free some") {
        message.push_str(": free some room, or choose another folder");
    }
    Report { code, message, exit: exit.code() }
}

fn classify(error: &(dyn StdError + 'static)) -> Option<(Exit, String)> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return Some((failure.exit, failure.code.to_owned()));
    }
    if let Some(status) = status_of(error) {
        return Some(classify_status(status));
    }
    if let Some(invalid) = error.downcast_ref::<Invalid>() {
        return Some((Exit::Usage, invalid.code().to_owned()));
    }
    let named = |exit, code: &str| Some((exit, code.to_owned()));
    match error.downcast_ref::<RuntimeError>() {
        Some(RuntimeError::PortInUse { .. }) => return named(Exit::Failed, "PORT_IN_USE"),
        Some(
            RuntimeError::NotAnAddress { .. }
            | RuntimeError::NotAUrl { .. }
            | RuntimeError::AuthorityWithoutTls { .. }
            | RuntimeError::NotAToken
            | RuntimeError::NotAFilter { .. },
        ) => return named(Exit::Usage, "BAD_ARGUMENT"),
        _ => {}
    }
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return classify_store(error);
    }
    if error.is::<BusError>() {
        return named(Exit::Usage, "BAD_ARGUMENT");
    }
    match error.downcast_ref::<WorkerError>() {
        Some(WorkerError::NoSuchDevice { .. }) => return named(Exit::Usage, "NO_SUCH_DEVICE"),
        Some(WorkerError::Limits(_)) => return named(Exit::Usage, "LIMITS"),
        _ => {}
    }
    if error.is::<LimitsError>() {
        return named(Exit::Usage, "LIMITS");
    }
    match error.downcast_ref::<ClusterError>() {
        Some(ClusterError::NoBinaries { .. }) => return named(Exit::Failed, "NO_POSTGRESQL"),
        Some(ClusterError::FolderInUse { .. }) => return named(Exit::Failed, "FOLDER_IN_USE"),
        Some(ClusterError::DiskFull { .. }) => return named(Exit::Failed, "DISK_FULL"),
        Some(_) => return named(Exit::Failed, "DATABASE"),
        None => {}
    }
    let io = error.downcast_ref::<io::Error>()?;
    match io.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => named(Exit::Failed, "DISK_FULL"),
        io::ErrorKind::PermissionDenied => named(Exit::Failed, "PERMISSION_DENIED"),
        _ => None,
    }
}

fn classify_store(error: &StoreError) -> Option<(Exit, String)> {
    let named = |exit, code: &str| Some((exit, code.to_owned()));
    match error {
        StoreError::Cluster(error) => classify(error),
        StoreError::Address(_) => named(Exit::Usage, "BAD_ARGUMENT"),
        StoreError::Held { .. } => named(Exit::Failed, "ANOTHER_COORDINATOR"),
        error if error.is_transient() => named(Exit::TryAgain, "DATABASE_DOWN"),
        _ => named(Exit::Failed, "DATABASE"),
    }
}

fn classify_status(status: &Status) -> (Exit, String) {
    let exit = match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted => {
            Exit::TryAgain
        }
        Code::InvalidArgument | Code::OutOfRange => Exit::Usage,
        _ => Exit::Failed,
    };
    let reason = reason_of(status).unwrap_or_else(|| code_name(status.code()).to_owned());
    // A model's name is a setting like any other.
    let exit = if reason == "UNKNOWN_MODEL" { Exit::Usage } else { exit };
    (exit, reason)
}

const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Unavailable => "UNAVAILABLE",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::NotFound => "NOT_FOUND",
        Code::Unauthenticated => "UNAUTHENTICATED",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        _ => "FAILED",
    }
}

/// The error and its causes in one line; a cause that repeats what was said is left out.
pub fn flatten(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = words(cause);
        if !text.is_empty() && !parts.iter().any(|said| said.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

/// The status that an error is, boxed or not.
fn status_of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Status> {
    error.downcast_ref::<Status>().or_else(|| error.downcast_ref::<Box<Status>>().map(AsRef::as_ref))
}

/// An error's own words; a status has a message for people inside.
fn words(error: &(dyn StdError + 'static)) -> String {
    match status_of(error) {
        Some(status) if status.message().is_empty() => code_name(status.code()).to_owned(),
        Some(status) if status.message().contains("h2 protocol error") => format!(
            "what answers there does not speak as a coordinator without TLS does ({}): is the address right, and \
             should it begin with https://?",
            status.message()
        ),
        Some(status) => status.message().to_owned(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn each_kind_of_error_ends_with_its_own_code() {
        let cases: [(anyhow::Error, u8, &str); 5] = [
            (Invalid::NoImages.into(), 64, "NO_IMAGES"),
            (Status::unavailable("down").into(), 75, "UNAVAILABLE"),
            (seedfarm_proto::error::invalid(&Invalid::NoPrompts).into(), 64, "NO_PROMPTS"),
            (io::Error::from(io::ErrorKind::StorageFull).into(), 1, "DISK_FULL"),
            (anyhow::anyhow!("other"), 1, "FAILED"),
        ];
        for (error, exit, code) in cases {
            let report = report(&error.context("while trying"));
            assert_eq!((report.exit, report.code.as_str()), (exit, code));
        }
    }

    #[test]
    fn a_chain_of_causes_is_one_line_without_repetition() {
        let inner = anyhow::anyhow!("no space left");
        let error = Err::<(), _>(inner).context("cannot write a.png: no space left").unwrap_err();
        assert_eq!(flatten(&error), "cannot write a.png: no space left");
        let status: anyhow::Error = Status::not_found("there is no job").into();
        assert_eq!(flatten(&status.context("cannot watch")), "cannot watch: there is no job");
    }
}
