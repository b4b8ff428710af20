//! Compiles `proto/seedfarm/v1` with protox, so that no protoc is needed.

use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 6] = ["types", "jobs", "workers", "replays", "models", "admin"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let files = FILES.map(|name| format!("seedfarm/v1/{name}.proto"));
    let descriptors = protox::compile(files, [&root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let set = protox::prost::Message::encode_to_vec(&descriptors);
    std::fs::write(out.join("descriptors.bin"), set)?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
