//! Repository chores: layers, services for tests, other processors, chaos, query cache.
//!
//! Kept light on purpose: it is compiled before everything else, and `sqlx` must work when the
//! store crate does not compile yet.

mod chaos;
mod everywhere;
mod layers;
mod postgres;
mod process;
mod redis;
mod setup;
mod sqlx_cache;

use std::process::ExitCode;

use anyhow::Context;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  setup            install what the tests need and is missing (PostgreSQL, Redis)
  test [ARGS...]   setup, then run all tests, or those of `-p CRATE`;
                   ARGS go to `cargo test`
  everywhere [--images]
                   run the tests of strict numerics in debug and release, on emulated
                   x86-64 and arm64 processors and with other caches; installs what that
                   needs; --images adds whole images on arm64
  chaos [ARGS...]  break a farm of real processes on purpose and count what must
                   not be; --help lists the arguments
  layers           check that every crate depends only on what ARCHITECTURE allows
  sqlx [--check]   renew the query cache in .sqlx, or check that it is current
";

/// Exit code for a command line that is not understood.
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["setup"] => setup::run(),
        ["test", rest @ ..] => test(rest),
        ["everywhere"] => everywhere::run(false),
        ["everywhere", "--images"] => everywhere::run(true),
        ["chaos", rest @ ..] => chaos::start(rest),
        ["layers"] => layers::run(),
        ["sqlx"] => sqlx_cache::renew(),
        ["sqlx", "--check"] => sqlx_cache::check(),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the tests, with a Redis server of their own. PostgreSQL they start themselves.
fn test(arguments: &[&str]) -> anyhow::Result<()> {
    setup::run()?;
    let server = match std::env::var(redis::TEST_URL) {
        Ok(given) if !given.is_empty() => None,
        _ => Some(redis::Server::start().context("no Redis server for the tests")?),
    };
    let mut command = process::cargo(&["test", "--release"]);
    let chosen = |word: &&str| word.starts_with("-p") || word.starts_with("--package");
    let own = arguments.iter().take_while(|word| **word != "--");
    if !own.into_iter().any(chosen) {
        command.arg("--workspace");
    }
    command.args(arguments).env("SQLX_OFFLINE", "true");
    if let Some(server) = &server {
        command.env(redis::TEST_URL, server.url());
    }
    process::run(&mut command)
}
