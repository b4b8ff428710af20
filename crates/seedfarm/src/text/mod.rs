//! What the wire says, as texts for people. The JSON forms are `seedfarm_proto::json`.

pub mod job;
pub mod log;
pub mod model;
pub mod owner;
pub mod replay;
pub mod why;
pub mod worker;
