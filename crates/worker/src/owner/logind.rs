//! What the desktop tells systemd-logind: whether every session is idle, and since when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use seedfarm_core::owner::Reading;

/// The arguments of `busctl` that ask for both: one line each, as `b true` and `t 1764300000000000`.
pub(super) const ARGUMENTS: [&str; 6] = [
    "get-property",
    "org.freedesktop.login1",
    "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager",
    "IdleHint",
    "IdleSinceHint",
];

/// Milliseconds since the last sign of the owner, by what `busctl` printed.
pub(super) fn since_ms(printed: &str, now: SystemTime) -> Reading<Option<u64>> {
    let mut lines = printed.lines().map(|line| line.split_whitespace().next_back().unwrap_or_default());
    match (lines.next(), lines.next().and_then(|since| since.parse::<u64>().ok())) {
        (Some("false"), _) => Ok(Some(0)),
        (Some("true"), Some(0)) => Ok(None),
        (Some("true"), Some(since_us)) => {
            let since = UNIX_EPOCH + Duration::from_micros(since_us);
            let away = now.duration_since(since).unwrap_or_default();
            Ok(Some(u64::try_from(away.as_millis()).unwrap_or(u64::MAX)))
        }
        _ => Err("busctl answers otherwise than this program knows".to_owned()),
    }
}
