//! `cargo xtask chaos`: real processes under load, broken on purpose, and what they promised held against
//! what they stored.
//!
//! A round is a farm of its own: PostgreSQL, Redis, a coordinator (and a spare), three workers and a client,
//! each a process. [`plan`] draws from the round's seed what breaks when; [`round`] does it; [`verdict`]
//! counts what must not be. Workers are the real executable with a tiny model, or [`worker`]: a worker that
//! speaks the whole protocol and draws its pictures from the recipe's digest instead of rendering, so that a
//! round has thousands of images. [`client`] notes every acknowledgement on its own disk.

pub mod abilities;
pub mod client;
pub mod fault;
pub mod journal;
pub mod network;
pub mod picture;
pub mod plan;
pub mod process;
pub mod report;
pub mod rig;
pub mod round;
pub mod run;
pub mod servers;
pub mod verdict;
pub mod wire;
pub mod worker;
