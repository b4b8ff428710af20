//! Reading the end of what PostgreSQL wrote.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// How many lines a message quotes.
const QUOTED_LINES: usize = 12;

/// The last lines of `text`, indented for a message.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let kept = &lines[lines.len().saturating_sub(QUOTED_LINES)..];
    if kept.is_empty() {
        return "  (nothing was written)".to_owned();
    }
    kept.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// What was written to `log` after its first `offset` bytes; empty where it cannot be read.
pub(super) fn read_from(log: &Path, offset: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        file.read_to_end(&mut bytes)
    });
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("(the log cannot be read: {error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_quoted() {
        let text: String = (0..100).map(|n| format!("line {n}\n\n")).collect();
        let quoted = last_lines(&text);
        assert_eq!(quoted.lines().count(), QUOTED_LINES);
        assert!(quoted.starts_with("  line 88\n") && quoted.ends_with("  line 99"));
        assert_eq!(last_lines("\n\n"), "  (nothing was written)");
    }
}
