//! The one executable: a subcommand per role.
//!
//! `cli` is the command line, `commands` has one file a subcommand, `args` the options that several
//! share, `client` what talks to a coordinator, `local` what runs one in this process, `pictures` reads
//! the files that people have, `text` and `output` are how results are printed, `failure` how errors are.

mod args;
mod bench;
mod cli;
mod client;
mod commands;
mod exit;
mod failure;
mod human;
mod local;
mod memory;
mod output;
mod pictures;
mod progress;
mod setup;
mod sheet;
mod table;
mod text;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use clap::error::ErrorKind;
use seedfarm_runtime::logging::{self, LogFormat};

use crate::cli::{Cli, LogChoice};
use crate::exit::Exit;
use crate::failure::{ErrorDocument, Report, report};
use crate::output::{Output, to_stderr};

/// How long threads that still work may take once the answer is given.
const WIND_DOWN: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    memory::keep_freed_memory();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match Cli::try_parse_from(&arguments) {
        Ok(cli) => {
            let output = Output::new(cli.global.json);
            start(cli, output).unwrap_or_else(|error| fail(output, report(&error)))
        }
        Err(error) => refuse(&error, arguments.iter().any(|argument| argument == "--json")),
    }
}

fn start(cli: Cli, output: Output) -> Result<ExitCode> {
    let format = match cli.global.log {
        LogChoice::Human => LogFormat::Human,
        LogChoice::Json => LogFormat::Json,
    };
    logging::init(format, &["SEEDFARM_LOG", "RUST_LOG"], cli.command.default_log())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the threads of this program cannot be started")?;
    let exit = runtime.block_on(commands::run(cli.command, output));
    runtime.shutdown_timeout(WIND_DOWN);
    exit.map(Into::into)
}

/// An error of the command line, or a call for help.
fn refuse(error: &clap::Error, json: bool) -> ExitCode {
    let wanted = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if wanted || !json {
        // A reader that went away is no error.
        error.print().unwrap_or_default();
        return if wanted { Exit::Done } else { Exit::Usage }.into();
    }
    let text = error.render().to_string();
    let message = text.split("\n\nUsage:").next().unwrap_or(&text).trim_start_matches("error: ");
    let words = message.split_whitespace().collect::<Vec<_>>().join(" ");
    fail(Output::new(true), Report { code: "USAGE".to_owned(), message: words, exit: Exit::Usage.code() })
}

fn fail(output: Output, error: Report) -> ExitCode {
    let exit = ExitCode::from(error.exit);
    let message = format!("error: {}", error.message);
    if output.is_json() {
        let printed = output.result(&ErrorDocument { error }, String::new);
        printed
            .unwrap_or_else(|fault| to_stderr(&format!("error: standard output cannot be written: {fault}")));
    }
    to_stderr(&message);
    exit
}
