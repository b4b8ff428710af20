//! Building for arm64: this toolchain where it has the target, else Debian's.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// Debian's compiler, whose library for arm64 comes in a package.
const DEBIAN: &str = "/usr/bin/rustc";

/// What links for arm64.
pub const LINKER: &str = "aarch64-linux-gnu-gcc";

/// A compiler with a standard library for arm64.
pub struct Toolchain {
    /// Where it is not cargo's own.
    rustc: Option<&'static str>,
}

impl Toolchain {
    /// The one in use if it has the target (`rustup target add`), else Debian's.
    ///
    /// # Errors
    /// If there is neither, with what to do.
    pub fn find() -> anyhow::Result<Self> {
        if has_library("rustc") {
            Ok(Self { rustc: None })
        } else if has_library(DEBIAN) {
            Ok(Self { rustc: Some(DEBIAN) })
        } else {
            anyhow::bail!(
                "no Rust compiler here has a standard library for arm64; run: rustup target add {TARGET}"
            )
        }
    }

    /// Has a call of cargo build for arm64, into a folder of its own. Executables are static, so
    /// that the emulator needs no libraries, of which there may be several.
    pub fn adapt<'a>(&self, cargo: &'a mut Command) -> &'a mut Command {
        let built = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| process::root().join("target"), PathBuf::from);
        let variable = format!("CARGO_TARGET_{}", TARGET.to_uppercase().replace('-', "_"));
        cargo
            .args(["--release", "--target", TARGET])
            .env("CARGO_TARGET_DIR", built.join("everywhere"))
            .env(format!("{variable}_LINKER"), LINKER)
            .env(format!("{variable}_RUSTFLAGS"), "-C target-feature=+crt-static")
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .envs(self.rustc.map(|rustc| ("RUSTC", rustc)))
    }
}

/// Whether a compiler has the standard library for arm64.
fn has_library(rustc: &str) -> bool {
    let asked = Command::new(rustc).args(["--print", "sysroot"]).current_dir(process::root()).output();
    let Ok(output) = asked else { return false };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    let library = Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("lib");
    let files = std::fs::read_dir(library).into_iter().flatten().flatten();
    output.status.success()
        && files.into_iter().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
}
