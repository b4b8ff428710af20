//! Numbers and times as people say them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `48 s`, `12 min`, `3 h`, `5 d`: the largest unit that is not nought.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..100 => format!("{seconds} s"),
        100..6_000 => format!("{} min", seconds / 60),
        6_000..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long ago a moment in milliseconds since 1970 was.
pub fn ago(moment_ms: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let moment = Duration::from_millis(moment_ms.max(0).unsigned_abs());
    match now.checked_sub(moment) {
        Some(age) if age.as_secs() > 0 => format!("{} ago", span(age)),
        _ => "now".to_owned(),
    }
}

/// In how long a moment in milliseconds since 1970 will be, or how long ago it was.
pub fn ahead(moment_ms: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let moment = Duration::from_millis(moment_ms.max(0).unsigned_abs());
    match moment.checked_sub(now) {
        Some(left) => format!("in {}", span(left)),
        None => ago(moment_ms),
    }
}

/// Images a second, with as many digits as mean something; `-` where it cannot be told.
pub fn rate(images_per_second: f64) -> String {
    match images_per_second {
        rate if !rate.is_finite() || rate <= 0.0 => "-".to_owned(),
        rate if rate < 0.1 => format!("{:.1} images/min", rate * 60.0),
        rate if rate < 10.0 => format!("{rate:.2} images/s"),
        rate => format!("{rate:.0} images/s"),
    }
}

/// The time that `left` images take at this rate; `-` where it cannot be told.
pub fn eta(left: u64, images_per_second: f64) -> String {
    let seconds = left as f64 / images_per_second;
    if !seconds.is_finite() || !(0.0..1e9).contains(&seconds) {
        return "-".to_owned();
    }
    span(Duration::from_secs_f64(seconds.ceil()))
}

/// Bytes with a decimal unit.
pub fn bytes(bytes: u64) -> String {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    match units.into_iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", bytes as f64 / size as f64),
        None => format!("{bytes} B"),
    }
}

/// Reads a size as [`bytes()`] writes it: `500MB`, `1.5 TB`, or plain bytes.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let at = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        _ => return Err(format!("'{text}' is no size: give a number and B, kB, MB, GB or TB")),
    };
    match number.parse::<f64>().map(|number| number * factor) {
        Ok(bytes) if bytes < 1e18 => Ok(bytes as u64),
        _ => Err(format!("'{text}' is no size: give a number below 1000000 TB and its unit, such as 40GB")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        let read: Vec<u64> =
            ["0", "12", "1.5 kB", "40GB", "2tb"].iter().map(|text| parse_bytes(text).unwrap()).collect();
        assert_eq!(read, [0, 12, 1500, 40_000_000_000, 2_000_000_000_000]);
        for text in ["", "GB", "-1", "1.2.3", "4 gib", "1e30", "9999999TB"] {
            assert!(parse_bytes(text).unwrap_err().contains(&format!("'{text}'")), "{text}");
        }
    }

    #[test]
    fn spans_keep_one_unit() {
        let text = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(
            [text(0), text(99), text(600), text(7200), text(200_000)],
            ["0 s", "99 s", "10 min", "2 h", "2 d"]
        );
    }

    #[test]
    fn a_rate_that_is_not_known_gives_no_eta() {
        assert_eq!((rate(0.0).as_str(), eta(10, 0.0).as_str()), ("-", "-"));
        assert_eq!((rate(2.5).as_str(), eta(10, 2.5).as_str()), ("2.50 images/s", "4 s"));
        assert_eq!(eta(0, 0.0), "-");
    }

    #[test]
    fn sizes_have_decimal_units() {
        assert_eq!([bytes(999), bytes(1500), bytes(18_920_000)], ["999 B", "1.5 kB", "18.9 MB"]);
    }
}
