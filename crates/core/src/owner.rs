//! What the owner of a machine allows a worker on it.
//!
//! Pure: [`Limits`] are what the owner wrote, [`Observations`] what was measured, and the local time comes in
//! as a value. A [`Judge`] says of one device whether it renders or rests, and why; [`Acceptance`] says which
//! work is taken at all. Reading files, sensors and clocks is the worker's.

mod acceptance;
mod hours;
mod judge;
mod limits;
mod pattern;
mod signs;
mod size;
#[cfg(test)]
mod tests;

pub(crate) use acceptance::features;
pub use acceptance::{Acceptance, Feature};
pub use hours::{ClockTime, LocalTime, Weekday, Window};
pub use judge::{Haste, Judge, Verdict};
pub use limits::{Cpu, Idle, Jobs, Limits, LimitsFault, Models, Power, Temperature, Watch};
pub use pattern::Pattern;
pub use signs::{DeviceObservations, Observations, Reading, Sign};
pub use size::ByteSize;
