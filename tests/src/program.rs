//! Running the executable as a user would.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The executable, built beside the tests.
///
/// # Panics
/// If it is not there; `cargo xtask test` and `cargo test --release --workspace` build it.
pub fn executable() -> PathBuf {
    let mut path = std::env::current_exe().expect("a test knows its own executable");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.push("seedfarm");
    assert!(path.is_file(), "{} is missing: run cargo build --release -p seedfarm", path.display());
    path
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the tests lie in the repository")
}

/// The built-in models.
pub fn models() -> PathBuf {
    root().join("models")
}

/// A new empty folder that also the user of a private PostgreSQL may enter.
pub fn folder() -> TempDir {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let mut builder = tempfile::Builder::new();
    builder.prefix("seedfarm-test-").permissions(mode).tempdir().expect("the temporary folder can be written")
}

/// The executable in `dir`, in an environment that names no other database, farm or model.
pub fn command(dir: &Path) -> Command {
    let mut command = Command::new(executable());
    let home = dir.join("home");
    command.current_dir(dir).env("SEEDFARM_DATA_DIR", dir.join("data")).env("HOME", home);
    command.env("SEEDFARM_MODELS", models());
    for name in [
        "DATABASE_URL",
        "SEEDFARM_COORDINATOR",
        "SEEDFARM_TOKEN",
        "XDG_DATA_HOME",
        "RUST_LOG",
        "SEEDFARM_LOG",
    ] {
        command.env_remove(name);
    }
    command
}

/// What a run of the program gave.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// The one JSON document on standard output.
    ///
    /// # Panics
    /// If the run failed or printed anything else.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "exit code of {self:#?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:#?}"))
    }
}

/// Runs the program in `dir` to its end.
pub fn seedfarm<I: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = I>) -> Outcome {
    seedfarm_reading(dir, args, b"")
}

/// Runs the program in `dir` to its end with `input` on standard input.
pub fn seedfarm_reading<I: AsRef<OsStr>>(
    dir: &Path,
    args: impl IntoIterator<Item = I>,
    input: &[u8],
) -> Outcome {
    run(command(dir).args(args), input)
}

/// Runs a prepared command to its end with `input` on standard input.
pub fn run(command: &mut Command, input: &[u8]) -> Outcome {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the executable starts");
    // A program that refuses its arguments need not read its input.
    let _ = child.stdin.take().expect("standard input is piped").write_all(input);
    let output = child.wait_with_output().expect("the executable ends");
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
