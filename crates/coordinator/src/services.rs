//! The gRPC services. A handler turns the wire's types into core's, asks or tells the store and the
//! board, and turns the answer back; one verb a file where it is longer than a few lines.

pub(crate) mod farm;
pub(crate) mod jobs;
pub(crate) mod models;
pub(crate) mod replays;
pub(crate) mod workers;
