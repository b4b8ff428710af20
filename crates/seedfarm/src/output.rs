//! Where words go: data to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

/// Whether this process has printed its document: there is exactly one, so an error that comes after it,
/// as to a server that had started, is told on standard error alone.
static PRINTED: AtomicBool = AtomicBool::new(false);

/// How results are printed.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    /// With `json`, exactly one JSON document goes to standard output, and text for people none.
    pub const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether the caller asked for JSON.
    pub const fn is_json(self) -> bool {
        self.json
    }

    /// The result: `document` as JSON, or `text` for people.
    ///
    /// # Errors
    /// If standard output cannot be written, unless its reader has gone away.
    pub fn result<T: Serialize>(self, document: &T, text: impl FnOnce() -> String) -> io::Result<()> {
        if !self.json {
            return to_stdout(&text());
        }
        if PRINTED.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let written = if io::stdout().is_terminal() {
            serde_json::to_string_pretty(document)
        } else {
            serde_json::to_string(document)
        };
        to_stdout(&written.map_err(io::Error::other)?)
    }

    /// A remark on the way, for people: standard error, and nothing with `--json`.
    pub fn note(self, text: &str) {
        if !self.json {
            to_stderr(text);
        }
    }
}

/// Writes to standard error whatever was asked for; that nobody reads it is no error.
pub fn to_stderr(text: &str) {
    let mut stderr = io::stderr().lock();
    writeln!(stderr, "{}", text.trim_end()).unwrap_or_default();
}

fn to_stdout(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush());
    match written {
        // As with `seedfarm jobs | head -1`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
