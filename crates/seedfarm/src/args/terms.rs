//! What a job asks of the farm besides pictures.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use seedfarm_core::owner::ByteSize;
use seedfarm_core::terms::{Caps, Requirements, Tag, TenantName, Urgency};
use seedfarm_core::{JobId, JobTerms};

/// The terms of a job.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Terms")]
pub struct TermsArgs {
    /// Whose job it is; tenants share the farm by their weights ('seedfarm tenants')
    #[arg(long, value_name = "NAME", default_value_t)]
    pub tenant: TenantName,

    /// Somebody waits for it: it goes before the tenant's other jobs
    #[arg(long)]
    pub interactive: bool,

    /// -100 to 100; higher goes first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i32,

    /// When it should be finished: a time such as 2027-01-31T18:00:00Z, or from now, such as '2h 30m'
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub deadline: Option<i64>,

    /// Render on workers that bear this tag alone; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<Tag>,

    /// Render on devices with at least this much memory alone, such as '10 GiB'
    #[arg(long, value_name = "SIZE")]
    pub min_memory: Option<ByteSize>,

    /// Render on at most this many devices at once
    #[arg(long, value_name = "N")]
    pub max_devices: Option<u32>,

    /// Pause it when its images have taken so much device time, such as 3h
    #[arg(long, value_name = "DURATION", value_parser = milliseconds)]
    pub budget: Option<u64>,

    /// Pause it when more than so many images were given up
    #[arg(long, value_name = "N")]
    pub max_failures: Option<u64>,

    /// Take an image that was rendered in less device time, such as 50ms, for none
    #[arg(long, value_name = "DURATION", value_parser = milliseconds)]
    pub min_image_time: Option<u64>,

    /// Begin when this job is finished; may be repeated
    #[arg(long, value_name = "JOB")]
    pub after: Vec<JobId>,

    /// Begin each image when the same image of this job is settled; may be repeated
    #[arg(long, value_name = "JOB")]
    pub after_images: Vec<JobId>,
}

impl TermsArgs {
    /// In the form in which they are submitted.
    pub fn terms(&self) -> JobTerms {
        let mut tags = self.tags.clone();
        tags.sort_unstable();
        tags.dedup();
        JobTerms {
            tenant: self.tenant.clone(),
            urgency: if self.interactive { Urgency::Interactive } else { Urgency::Bulk },
            priority: self.priority,
            deadline_ms: self.deadline,
            requirements: Requirements { tags, memory_bytes: self.min_memory.map_or(0, |size| size.0) },
            max_devices: self.max_devices,
            caps: Caps {
                budget_ms: self.budget,
                max_failures: self.max_failures,
                min_image_ms: self.min_image_time,
            },
            after: self.after.clone(),
            after_images: self.after_images.clone(),
        }
    }
}

/// A new value for a term, or `none` to be without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<T>(pub Option<T>);

/// Reads a value with `parse`, or `none`.
///
/// # Errors
/// What `parse` says of the text.
pub fn change<T, E: ToString>(text: &str, parse: impl Fn(&str) -> Result<T, E>) -> Result<Change<T>, String> {
    if text == "none" {
        return Ok(Change(None));
    }
    parse(text).map(|value| Change(Some(value))).map_err(|fault| fault.to_string())
}

/// Reads a moment: absolute, or from now on; in milliseconds since 1970-01-01 UTC.
///
/// # Errors
/// If the text is neither, or out of range.
pub fn moment(text: &str) -> Result<i64, String> {
    let absolute = humantime::parse_rfc3339_weak(text).ok();
    let relative =
        || humantime::parse_duration(text).ok().and_then(|ahead| SystemTime::now().checked_add(ahead));
    let moment = absolute.or_else(relative).and_then(|moment| moment.duration_since(UNIX_EPOCH).ok());
    moment.and_then(|since| i64::try_from(since.as_millis()).ok()).ok_or_else(|| {
        format!("'{text}' is no moment: give a time such as 2027-01-31T18:00:00Z, or one from now such as '2h 30m'")
    })
}

/// Reads a duration; in milliseconds.
///
/// # Errors
/// If the text is none.
pub fn milliseconds(text: &str) -> Result<u64, String> {
    let read = humantime::parse_duration(text).ok().map(|duration: Duration| duration.as_millis());
    read.and_then(|ms| u64::try_from(ms).ok())
        .ok_or_else(|| format!("'{text}' is no duration: give one such as 3h, '1h 30m' or 50ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_absolute_or_from_now() {
        assert_eq!(moment("1970-01-02T00:00:00Z"), Ok(86_400_000));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        assert!(moment("2h").unwrap() >= now + 7_200_000);
        assert!(moment("soon").unwrap_err().contains("'soon'"));
    }

    #[test]
    fn durations_have_units_and_a_change_can_take_a_term_away() {
        assert_eq!(milliseconds("1h 30m"), Ok(5_400_000));
        assert!(milliseconds("3").is_err());
        assert_eq!(change("none", milliseconds), Ok(Change(None)));
        assert_eq!(change("50ms", milliseconds), Ok(Change(Some(50))));
    }
}
