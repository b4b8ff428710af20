//! What this command needs besides cargo: emulators, a cross linker, Rust for arm64.

use std::path::Path;

use anyhow::bail;

use super::arm64;
use crate::{process, setup};

/// The static C library for arm64, which Debian does not install beside the compiler by itself.
const C_LIBRARY: &str = "/usr/aarch64-linux-gnu/lib/libc.a";

/// Debian's Rust for arm64, where the toolchain in use lacks the target.
const RUST: [&str; 2] = ["rustc-web", "libstd-rust-web-dev:arm64"];

/// Installs what is missing, and does nothing if nothing is.
///
/// # Errors
/// Where it cannot, with the line to run by hand.
pub fn install_missing() -> anyhow::Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let elsewhere = "sudo dnf install -y qemu-user gcc-aarch64-linux-gnu util-linux; for arm64 also \
        `rustup target add aarch64-unknown-linux-gnu` and a C library in /usr/aarch64-linux-gnu/lib";
    setup::install(&missing, "`cargo xtask everywhere` needs emulators and compilers", elsewhere)?;
    let still = self::missing();
    if !still.is_empty() {
        bail!("{} still missing after the installation", still.join(" and "));
    }
    Ok(())
}

/// Debian's names of the packages that are needed and absent.
fn missing() -> Vec<&'static str> {
    let program = |name| process::find_program(name).is_some();
    let needed = [
        ("qemu-user", program("qemu-x86_64") && program("qemu-aarch64")),
        ("util-linux", program("unshare")),
        ("gcc-aarch64-linux-gnu", program(arm64::LINKER)),
        ("libc6-dev-arm64-cross", Path::new(C_LIBRARY).exists()),
    ];
    let mut missing: Vec<_> =
        needed.iter().filter(|(_, there)| !there).map(|(package, _)| *package).collect();
    if arm64::Toolchain::find().is_err() {
        missing.extend(RUST);
    }
    missing
}
