//! Between the database's types and core's.

use seedfarm_core::{ImageRange, WorkerId};
use uuid::Uuid;

use crate::error::{Result, StoreError};

/// A number that the schema keeps at 0 or above.
pub(crate) fn natural(value: i64) -> Result<u64> {
    u64::try_from(value).map_err(|_| StoreError::unreadable("the number", value))
}

/// A small number that the schema keeps at 0 or above.
pub(crate) fn small(value: i32) -> Result<u32> {
    u32::try_from(value).map_err(|_| StoreError::unreadable("the number", value))
}

/// A range that the schema keeps from being empty.
pub(crate) fn range(lo: i64, hi: i64) -> Result<ImageRange> {
    ImageRange::new(natural(lo)?, natural(hi)?)
        .ok_or_else(|| StoreError::unreadable("the range", format!("{lo}..{hi}")))
}

/// A size or duration; what does not fit is cut to what does.
pub(crate) fn saturate(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// An index of a planned image.
///
/// # Panics
/// Never: a job is limited to far fewer than 2^63 images.
pub(crate) fn index(value: u64) -> i64 {
    i64::try_from(value).expect("limits::MAX_IMAGES_A_JOB bounds every planned index")
}

/// A count that admission let pass; what does not fit is cut to what does.
pub(crate) fn whole(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

pub(crate) fn worker_ids(ids: Vec<Uuid>) -> Vec<WorkerId> {
    ids.into_iter().map(WorkerId::from_uuid).collect()
}

/// A PostgreSQL array literal, because `unnest` would flatten an array of arrays.
pub(crate) fn array_literal(ids: &[WorkerId]) -> String {
    let texts: Vec<String> = ids.iter().map(|id| id.as_uuid().to_string()).collect();
    format!("{{{}}}", texts.join(","))
}

/// Text from outside as PostgreSQL can store it: without NUL, and cut to `most` bytes.
pub(crate) fn storable(text: &str, most: usize) -> String {
    let mut text = text.replace('\0', "\u{fffd}");
    if text.len() > most {
        let cut = (0..=most).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(cut);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_is_cut_between_characters_and_loses_nul() {
        assert_eq!(storable("a\0b", 100), "a\u{fffd}b");
        assert_eq!(storable("aé", 2), "a");
        assert_eq!(storable("aé", 3), "aé");
    }
}
