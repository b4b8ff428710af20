//! Progress: bars on a terminal, plain lines elsewhere, nothing with `--json` off a terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{Output, to_stderr};

/// Off a terminal, a line at most this often.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// How a bar looks.
const TEMPLATE: &str = "{prefix:<12} {bar:30.green/white.dim} {pos}/{len}  {msg}";

/// The progress of one piece of work that has a known length.
#[derive(Debug)]
pub struct Progress {
    name: String,
    bar: ProgressBar,
    lines: bool,
    last_line: Option<Instant>,
    total: u64,
    done: u64,
}

impl Progress {
    /// Progress of `name` towards `total`.
    pub fn new(output: Output, name: &str, total: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target).with_prefix(name.to_owned());
        let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("━━─"));
        let lines = !terminal && !output.is_json();
        Self { name: name.to_owned(), bar, lines, last_line: None, total, done: 0 }
    }

    /// So much is done; `message` says more, such as speed and time left.
    pub fn set(&mut self, done: u64, message: &str) {
        self.bar.set_message(message.to_owned());
        self.bar.set_position(done);
        let due = self.last_line.is_none_or(|last| last.elapsed() >= LINE_INTERVAL);
        if self.lines && done != self.done && due {
            self.line(done, message);
        }
        self.done = done;
    }

    /// The work is over; the bar stays as it is, with a last message.
    pub fn finish(&mut self, done: u64, message: &str) {
        self.bar.set_position(done);
        self.bar.abandon_with_message(message.to_owned());
        if self.lines {
            self.line(done, message);
        }
    }

    fn line(&mut self, done: u64, message: &str) {
        self.last_line = Some(Instant::now());
        to_stderr(format!("{}: {done}/{}  {message}", self.name, self.total).trim_end());
    }
}
