//! What was measured: signs of the owner, heat and power.

use super::hours::LocalTime;

/// A measurement, or why there is none. Words of the reason stay the same while the fault does.
pub type Reading<T> = Result<T, String>;

/// One place where the owner's presence shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sign {
    /// The place, for people.
    pub source: String,
    /// Milliseconds since the last sign there; `None` where there has been none.
    pub since_ms: Reading<Option<u64>>,
}

/// What was measured of the whole machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observations {
    /// Milliseconds since any fixed moment.
    pub now_ms: i64,
    /// What the clock on the wall shows.
    pub time: LocalTime,
    /// Whether the pause file is there.
    pub paused: bool,
    /// Places that were looked at.
    pub signs: Vec<Sign>,
}

/// What was measured of one device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceObservations {
    /// Places that were looked at.
    pub signs: Vec<Sign>,
    /// Its temperature in degrees Celsius.
    pub temperature_c: Reading<f64>,
    /// The power that it draws in watts.
    pub watts: Reading<f64>,
}
