//! Pictures from files that people have: read, brought to the size of the image, and named by digest.

mod fit;
mod read;
mod resolve;

pub use fit::Prepared;
pub use read::read;
pub use resolve::{Destination, Resolver, names_a_path};
