//! What happened during one lease, in lines for people, each with the seconds since the lease was taken.
//!
//! Prompts are people's words and never stand here, nor do warnings that may quote them.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use seedfarm_core::limits::MAX_LOG_BYTES;

/// Most bytes of one line.
const MAX_LINE_BYTES: usize = 4096;
/// Bytes of the first lines, which always stay, and of the last ones, of which the oldest go first.
const HALF_BYTES: usize = (MAX_LOG_BYTES - 256) / 2;

/// A lease's lines. Every thread may write.
#[derive(Debug)]
pub(crate) struct Diary {
    begun: Instant,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    first: String,
    last: VecDeque<String>,
    last_bytes: usize,
    /// Whether the first lines have no room any more.
    is_full: bool,
    dropped: u64,
}

impl Diary {
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now(), pages: Mutex::default() }
    }

    /// Adds a line.
    pub(crate) fn note(&self, what: impl Display) {
        self.note_at(self.begun.elapsed(), what);
    }

    fn note_at(&self, since: Duration, what: impl Display) {
        let mut line = format!("{:>9.3} s  {what}", since.as_secs_f64()).replace('\n', " ");
        line.truncate(line.floor_char_boundary(MAX_LINE_BYTES));
        line.push('\n');
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).add(line);
    }

    /// All lines that are left.
    pub(crate) fn text(&self) -> String {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).text()
    }
}

impl Pages {
    fn add(&mut self, line: String) {
        self.is_full |= self.first.len() + line.len() > HALF_BYTES;
        if !self.is_full {
            self.first.push_str(&line);
            return;
        }
        self.last_bytes += line.len();
        self.last.push_back(line);
        while self.last_bytes > HALF_BYTES
            && let Some(oldest) = self.last.pop_front()
        {
            self.last_bytes -= oldest.len();
            self.dropped += 1;
        }
    }

    fn text(&self) -> String {
        let mut text = self.first.clone();
        if self.dropped > 0 {
            text.push_str(&format!("            {} lines are left out here\n", self.dropped));
        }
        text.extend(self.last.iter().map(String::as_str));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_in_order_with_their_times() {
        let diary = Diary::begin();
        diary.note_at(Duration::ZERO, "lease taken");
        diary.note_at(Duration::from_millis(12_345), "one\nline");
        assert_eq!(diary.text(), "    0.000 s  lease taken\n   12.345 s  one line\n");
    }

    #[test]
    fn of_too_many_lines_those_in_the_middle_go_and_are_counted() {
        let diary = Diary::begin();
        for number in 0..10_000 {
            diary.note_at(Duration::ZERO, format!("line number {number}"));
        }
        diary.note_at(Duration::ZERO, "é".repeat(10_000));
        let text = diary.text();
        assert!(text.len() <= MAX_LOG_BYTES, "{} bytes", text.len());
        assert!(text.contains("line number 0\n") && text.contains("line number 9999\n"));
        let kept = text.lines().count() as u64 - 1;
        assert!(text.contains(&format!("{} lines are left out here", 10_001 - kept)));
    }
}
