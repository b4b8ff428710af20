//! How a coordinator times its workers.

use std::time::Duration;

use clap::Args;

/// Lease and heartbeat times.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Leases")]
pub struct TimingArgs {
    /// A lease that is not renewed for so long may be given to another worker
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub lease_ttl: Duration,

    /// How often workers renew their leases
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub heartbeat: Duration,

    /// How long the images of one lease should take to render
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = seconds)]
    pub target_lease: Duration,
}

impl Default for TimingArgs {
    /// What a farm of one machine is well served by, and what the options default to.
    fn default() -> Self {
        Self {
            lease_ttl: Duration::from_secs(30),
            heartbeat: Duration::from_secs(5),
            target_lease: Duration::from_secs(20),
        }
    }
}

/// Reads seconds, whole or not, from 0.01 to a day.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("give seconds from 0.01 to 86400".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_held_against_their_limits() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "NaN", "inf", "1e9", "5s", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
