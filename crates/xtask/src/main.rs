//! Repository chores: layers, services for tests, query cache.
fn main() {}
