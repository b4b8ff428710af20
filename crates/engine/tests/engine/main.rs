//! The engine as its callers see it: real weights, real pictures.

mod checkpoints;
mod extras;
mod golden;
mod guided;
mod hostile;
mod invariance;
mod parity;
mod pictures;
mod requests;
mod support;
