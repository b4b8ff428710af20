//! Test executables: building them, and running them through something else.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::process;

/// Longer than the slowest run takes by far; an emulator that hangs must not hang us.
const LIMIT_S: &str = "1200";

/// Tells the tests which instruction sets they must find.
const ISAS: &str = "SEEDFARM_TEST_ISAS";

/// Some tests: what to build, and then what was built.
pub struct Suite {
    pub name: String,
    /// Arguments of `cargo test`.
    chosen: &'static [&'static str],
    /// More arguments of the executables.
    arguments: &'static [&'static str],
    executables: Vec<Executable>,
}

#[derive(Clone)]
struct Executable {
    name: String,
    path: PathBuf,
    /// The folder of its crate, where `cargo test` would run it.
    folder: PathBuf,
}

/// How many tests passed, or what went wrong.
pub enum Outcome {
    Passed(usize),
    Failed(String),
}

impl Outcome {
    pub fn passed(&self) -> bool {
        matches!(self, Self::Passed(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(tests) => write!(f, "{tests} tests passed"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl Suite {
    /// All tests of the kernels.
    pub fn numerics(name: &str) -> Self {
        let chosen = &["-p", "seedfarm-numerics", "--tests"];
        Self { name: name.to_owned(), chosen, arguments: &[], executables: Vec::new() }
    }

    /// The tests that hold whole images against committed digests.
    pub fn images(name: &str) -> Self {
        let chosen = &["-p", "seedfarm-engine", "--test", "engine"];
        Self { name: name.to_owned(), chosen, arguments: &["golden::"], executables: Vec::new() }
    }

    /// Builds the executables, with what `adapt` adds to the call of cargo.
    ///
    /// # Errors
    /// If it does not compile, or gives no executable.
    pub fn build(mut self, adapt: impl Fn(&mut Command) -> &mut Command) -> anyhow::Result<Self> {
        eprintln!("building {}", self.name);
        let mut cargo = process::cargo(&["test", "--quiet", "--no-run", "--message-format=json"]);
        let messages = process::output(adapt(cargo.args(self.chosen)))?;
        self.executables = messages.lines().filter_map(executable).collect();
        if self.executables.is_empty() {
            bail!("cargo built no test of {}", self.chosen.join(" "));
        }
        Ok(self)
    }

    /// The images of the smallest models alone: those of the built-in one take minutes in an emulator.
    pub fn of_small_models(&self) -> Self {
        let arguments = &["golden::", "--skip", "built_in_model"];
        Self {
            name: format!("{} of small models", self.name),
            executables: self.executables.clone(),
            arguments,
            ..*self
        }
    }

    /// All but the executables of these names.
    pub fn without(&self, names: &[&str]) -> Self {
        let left = self.executables.iter().filter(|executable| !names.contains(&executable.name.as_str()));
        let name = format!("{} without {}", self.name, names.join(", "));
        Self { name, executables: left.cloned().collect(), ..*self }
    }

    /// Runs all of it, each executable behind the words of `runner`, two at a time: the last test of
    /// an executable often runs alone.
    pub fn run(&self, runner: &[String], isas: Option<&str>) -> Outcome {
        let next = AtomicUsize::new(0);
        let take = || {
            let mut tests = 0;
            while let Some(executable) = self.executables.get(next.fetch_add(1, Ordering::Relaxed)) {
                let passed = executable.run(runner, isas, self.arguments);
                tests += passed.map_err(|error| format!("{}: {error:#}", executable.name))?;
            }
            Ok::<usize, String>(tests)
        };
        let (mine, other) = thread::scope(|scope| {
            let other = scope.spawn(take);
            (take(), other.join().expect("it does not panic"))
        });
        match mine.and_then(|mine| Ok(mine + other?)) {
            Ok(0) => Outcome::Failed("no test was run".to_owned()),
            Ok(tests) => Outcome::Passed(tests),
            Err(why) => Outcome::Failed(why),
        }
    }
}

/// The test executable that a message of cargo's speaks of.
fn executable(message: &str) -> Option<Executable> {
    let message: Value = serde_json::from_str(message).ok()?;
    let manifest = Path::new(message["manifest_path"].as_str()?);
    Some(Executable {
        name: message["target"]["name"].as_str()?.to_owned(),
        path: message["executable"].as_str()?.into(),
        folder: manifest.parent()?.to_owned(),
    })
}

impl Executable {
    /// Runs it; gives the number of tests that passed.
    fn run(&self, runner: &[String], isas: Option<&str>, arguments: &[&str]) -> anyhow::Result<usize> {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10", LIMIT_S]).args(runner).arg(&self.path).args(arguments);
        command.current_dir(&self.folder).stdin(Stdio::null()).env_remove(ISAS);
        command.envs(isas.map(|isas| (ISAS, isas)));
        let output = command.output().context("cannot run it")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if output.status.code() == Some(124) {
            bail!("not done after {LIMIT_S} s");
        }
        if !output.status.success() {
            eprint!("{text}{}", String::from_utf8_lossy(&output.stderr));
            bail!("{}", output.status);
        }
        passed(&text).context("it did not say how many tests passed")
    }
}

/// The number in `test result: ok. 6 passed; 0 failed; ...`.
fn passed(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("test result: ok. "))?;
    line.split_once(" passed")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_executable_is_read_from_what_cargo_says() {
        let message = r#"{"reason":"compiler-artifact","manifest_path":"/a/Cargo.toml",
            "target":{"name":"math"},"executable":"/a/target/math-1"}"#;
        let found = executable(message).unwrap();
        assert_eq!((found.name.as_str(), found.folder.as_path()), ("math", Path::new("/a")));
        let library = message.replace("\"/a/target/math-1\"", "null");
        assert!(executable(&library).is_none(), "a library is no test");
    }

    #[test]
    fn only_a_result_that_is_ok_counts() {
        let result = "running 6 tests\n\ntest result: ok. 6 passed; 0 failed; 0 ignored\n";
        assert_eq!(passed(result), Some(6));
        assert_eq!(passed(&result.replace("ok", "FAILED")), None);
        assert_eq!(passed(""), None);
    }
}
