//! The engine as its callers see it: real weights, real pictures.

mod hostile;
mod invariance;
mod parity;
mod pictures;
mod pinned;
mod requests;
mod support;
