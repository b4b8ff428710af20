//! Admission, planning, placement, leases, completion, replay: the one process that decides.
//!
//! [`serve`] takes the farm's lock, rebuilds the board from the store and serves the gRPC services until
//! it is told to stop. While another coordinator holds the lock, it stands by: it answers what reads, and
//! takes over when the other one is gone. What is decided lives in core; what must survive
//! lives in the store; what is here connects the two and keeps nothing that cannot be rebuilt.

mod active;
mod auth;
mod board;
mod catalogue;
mod config;
mod distribution;
mod error;
mod farm;
mod faults;
mod health;
mod hub;
mod inspection;
mod lanes;
mod quotas;
mod recipes;
mod refusals;
mod reign;
mod replays;
mod replica;
mod serve;
mod services;
mod standby;
mod switch;
mod upkeep;
mod warm;
mod wire;

pub use auth::Tokens;
pub use config::{CoordinatorConfig, WhenHeld};
pub use error::CoordinatorError;
pub use serve::serve;
