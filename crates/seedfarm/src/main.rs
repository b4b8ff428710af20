//! The one executable: a subcommand per role.
fn main() {}
