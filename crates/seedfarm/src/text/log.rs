//! Logs of attempts as people read them.

use seedfarm_proto::v1;

use crate::human;

/// Many attempts, one below the other.
pub fn text(answer: &v1::ListLogsResponse) -> String {
    if answer.logs.is_empty() {
        return "no log of such an attempt is kept".to_owned();
    }
    let mut parts: Vec<String> = answer.logs.iter().map(attempt).collect();
    if answer.next > 0 {
        parts.push(format!("older ones: --before {}", answer.next));
    }
    parts.join("\n\n")
}

fn attempt(log: &v1::AttemptLog) -> String {
    let images = match log.hi.saturating_sub(log.lo) {
        1 => format!("{}/{}", log.job_id, log.lo),
        _ => format!("{}/{} to {}", log.job_id, log.lo, log.hi.saturating_sub(1)),
    };
    let outcome = match log.outcome.as_str() {
        "completed" => "completed".to_owned(),
        "handed_back" => "handed back".to_owned(),
        class => format!("failed ({class})"),
    };
    let head = format!(
        "{images}  attempt {}  {outcome}  {}\n{} device {}",
        log.attempt,
        human::ago(log.created_at_ms),
        log.worker_id,
        log.device
    );
    let lines = log.text.lines().map(|line| format!("  {line}"));
    std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
}
