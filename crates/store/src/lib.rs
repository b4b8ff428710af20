//! Every SQL statement, the private PostgreSQL cluster, and the progress bus.

pub mod bus;
pub mod private;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
