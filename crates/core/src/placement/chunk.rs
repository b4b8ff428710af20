//! How many images go into one lease.

/// Most images of one lease, whatever the speed: a grant is one message and a completion one statement.
pub const MAX_CHUNK: u64 = 256;

/// Most images of one lease while the device's speed in the job is only guessed from other jobs of the
/// same model, whose pictures may be of another size.
const MAX_GUESSED: u64 = 4;

/// What is known of a device's speed in a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Speed {
    /// Nothing.
    Unknown,
    /// Milliseconds an image in other jobs of the same model and arithmetic.
    Guessed(f64),
    /// Milliseconds an image in this job.
    Measured(f64),
}

/// Images of the next lease, at least 1.
///
/// As many as the device renders in `target_ms`, but near the job's end no more than half of an even
/// share: `waiting` images are not leased yet, and `devices` are eligible.
pub(super) fn size(target_ms: u64, speed: Speed, waiting: u64, devices: usize) -> u64 {
    let by_speed = match speed {
        Speed::Unknown => 1,
        Speed::Guessed(ms) => in_time(target_ms, ms).min(MAX_GUESSED),
        Speed::Measured(ms) => in_time(target_ms, ms).min(MAX_CHUNK),
    };
    let share = waiting / (2 * devices.max(1) as u64);
    by_speed.min(share).max(1)
}

/// Whole images that fit `target_ms`; saturates for an image that takes no time.
fn in_time(target_ms: u64, ms_per_image: f64) -> u64 {
    (target_ms as f64 / ms_per_image.max(f64::MIN_POSITIVE)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_chunk_fills_the_target_time_and_shrinks_at_the_end() {
        assert_eq!(size(20_000, Speed::Measured(1000.0), 1_000_000, 4), 20);
        assert_eq!(size(20_000, Speed::Measured(1000.0), 80, 4), 10);
        assert_eq!(size(20_000, Speed::Measured(1000.0), 7, 4), 1);
        assert_eq!(size(20_000, Speed::Measured(0.0), 1_000_000, 4), MAX_CHUNK);
        assert_eq!(size(20_000, Speed::Measured(60_000.0), 1_000_000, 4), 1);
    }

    #[test]
    fn an_unknown_speed_is_tried_with_one_image_and_a_guess_with_few() {
        assert_eq!(size(20_000, Speed::Unknown, 1_000_000, 1), 1);
        assert_eq!(size(20_000, Speed::Guessed(1.0), 1_000_000, 1), MAX_GUESSED);
    }

    proptest! {
        #[test]
        fn a_chunk_is_never_empty_and_never_larger_than_what_waits(
            target in 0u64..100_000, ms in 0.0f64..1e9, waiting in 1u64..1_000_000, devices in 0usize..1000
        ) {
            let chunk = size(target, Speed::Measured(ms), waiting, devices);
            prop_assert!((1..=waiting.min(MAX_CHUNK)).contains(&chunk));
        }
    }
}
