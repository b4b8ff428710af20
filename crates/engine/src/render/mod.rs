//! From recipes to pixels: one run over a batch of recipes that share everything but their texts,
//! guidance scales and seeds.

mod batch;
mod observer;
mod pictures;
mod piece;
mod pixels;
mod run;
mod stages;
mod start;
mod texts;
mod variation;

pub(crate) use self::batch::check_batch;
pub use self::batch::group;
pub use self::observer::{Observer, Progress, Unobserved};
pub use self::pictures::{Picture, Pictures};
pub use self::pixels::Rendered;
pub(crate) use self::run::{PADDED_BATCH, Run};
pub use self::stages::StageSeconds;
pub(crate) use self::stages::time_stages;
