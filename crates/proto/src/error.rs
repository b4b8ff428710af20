//! One place that maps faults to gRPC statuses, each with a `google.rpc.ErrorInfo`.

use std::collections::HashMap;
use std::time::Duration;

use seedfarm_core::Invalid;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "seedfarm";

/// A status with an `ErrorInfo`: `reason` is a short stable `UPPER_SNAKE_CASE` name for programs,
/// `message` is for people and says what was wrong, with the value, the limit and the way out.
pub fn status(code: Code, reason: &str, message: impl Into<String>) -> Status {
    detailed(code, reason, message, HashMap::new())
}

/// As [`status`], with named values.
pub fn detailed(
    code: Code,
    reason: &str,
    message: impl Into<String>,
    metadata: HashMap<String, String>,
) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    Status::with_error_details(code, message, details)
}

/// The caller should try again after `delay`: a queue is full, or the farm is starting.
pub fn try_again(reason: &str, message: impl Into<String>, delay: Duration) -> Status {
    refused_for_now(Code::ResourceExhausted, reason, message, delay)
}

/// As [`try_again`], with another code than that of a full queue.
pub fn refused_for_now(code: Code, reason: &str, message: impl Into<String>, delay: Duration) -> Status {
    let mut details = ErrorDetails::with_retry_info(Some(delay));
    details.set_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

/// How long a caller should wait before it tries again, where the status says so.
pub fn retry_after(status: &Status) -> Option<Duration> {
    status.get_error_details().retry_info()?.retry_delay
}

/// A refused request; the line of the prompt file, where there is one, is in the metadata.
pub fn invalid(fault: &Invalid) -> Status {
    let line = fault.line().map(|line| ("line".to_owned(), line.to_string()));
    detailed(Code::InvalidArgument, fault.code(), fault.to_string(), line.into_iter().collect())
}

/// An id, a digest or a document that cannot be read.
pub fn malformed(fault: impl std::fmt::Display) -> Status {
    status(Code::InvalidArgument, "MALFORMED", fault.to_string())
}

/// A message lacks a part that its meaning needs.
pub fn missing(field: &str) -> Status {
    status(Code::InvalidArgument, "MALFORMED", format!("the request lacks {field}"))
}

/// The reason in a status's `ErrorInfo`, if it has one.
pub fn reason_of(status: &Status) -> Option<String> {
    status.get_error_details().error_info().map(|info| info.reason.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_its_code_and_its_line() {
        let status = invalid(&Invalid::NoImages.at_line(3));
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("NO_IMAGES", "seedfarm"));
        assert_eq!(info.metadata["line"], "3");
        assert_eq!(status.code(), Code::InvalidArgument);
    }

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let status = try_again("QUEUE_FULL", "the queue is full", Duration::from_secs(2));
        assert_eq!(retry_after(&status), Some(Duration::from_secs(2)));
        assert_eq!(retry_after(&Status::unavailable("down")), None);
        assert_eq!(reason_of(&status).as_deref(), Some("QUEUE_FULL"));
    }
}
