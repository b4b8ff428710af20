//! What the wire says, as texts for people. The JSON forms are `seedfarm_proto::json`.

pub mod job;
pub mod model;
pub mod replay;
pub mod worker;
