//! What the whole-program tests share: running the executable as a user would, a farm of processes that
//! can be killed, looking at pictures, and the program that breaks everything on purpose.

pub mod chaos;
mod database;
pub mod farm;
pub mod http;
pub mod look;
pub mod program;
pub mod proxy;
pub mod random;

pub use farm::Farm;
pub use program::{Outcome, seedfarm};
pub use proxy::Proxy;
pub use random::Random;
