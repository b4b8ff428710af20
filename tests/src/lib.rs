//! What the whole-program tests share: running the executable as a user would, a farm of processes that
//! can be killed, and looking at pictures.

pub mod farm;
pub mod http;
pub mod look;
pub mod program;

pub use farm::Farm;
pub use program::{Outcome, seedfarm};
