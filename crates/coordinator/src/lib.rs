//! Admission, planning, placement, leases, completion, replay: the one process that decides.
//!
//! [`serve`] takes the farm's lock, rebuilds the board from the store and serves the gRPC services until
//! it is told to stop or another coordinator takes over. What is decided lives in core; what must survive
//! lives in the store; what is here connects the two and keeps nothing that cannot be rebuilt.

mod auth;
mod board;
mod catalogue;
mod config;
mod error;
mod farm;
mod faults;
mod hub;
mod lanes;
mod recipes;
mod reign;
mod replays;
mod serve;
mod services;
mod upkeep;
mod wire;

pub use auth::Tokens;
pub use config::CoordinatorConfig;
pub use error::CoordinatorError;
pub use serve::serve;
