//! The whole worker against a coordinator that the test plays: real gRPC, real files, real threads.
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod coordinator;
mod engine;
mod leases;
mod leaving;
mod outages;
mod owner;
mod painter;
mod pictures;
mod protocol;
mod recipes;
mod worker;
