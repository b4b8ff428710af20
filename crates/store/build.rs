//! Builds again when a migration is added: the compiler sees only the ones it has read.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
