//! The coordinator over real gRPC and real PostgreSQL, with workers that do everything but diffuse.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod adapters;
mod control;
mod distribution;
mod hostile;
mod leases;
mod logs;
mod pictures;
mod refusals;
mod replays;
mod replicas;
mod restarts;
mod support;
mod why;
mod worker;
