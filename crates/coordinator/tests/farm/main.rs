//! The coordinator over real gRPC and real PostgreSQL, with workers that do everything but diffuse.

mod control;
mod leases;
mod support;
mod worker;
