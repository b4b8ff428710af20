//! Which worker should fetch which model, and what makes room for it.
//!
//! Pure: the coordinator says what waits and who is there ([`wishes`]), a worker what lies on its disk
//! ([`make_room`]). A worker that has nothing to do with what was decided for it simply does not follow.

mod room;
#[cfg(test)]
mod tests;
mod wish;

pub use room::{NoRoom, Shelved, make_room};
pub use wish::{Demand, IMAGES_A_WORKER, Provision, Wish, wishes};
