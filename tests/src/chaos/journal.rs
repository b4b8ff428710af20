//! What a worker was told of each image, a line each, on the worker's own disk.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The coordinator answered for one image.
    Settled {
        /// The job.
        job: String,
        /// The image.
        index: u64,
        /// The attempt that was shown.
        attempt: i32,
        /// accepted, repeated, stale or divergent.
        reception: String,
    },
    /// So many images were drawn.
    Drawn(u64),
    /// A completion was sent once more on purpose.
    Resent,
    /// A lease was taken away.
    Revoked,
    /// A completion was accepted that was not to be.
    StaleAccepted(String),
}

impl Line {
    fn text(&self) -> String {
        match self {
            Self::Settled { job, index, attempt, reception } => {
                format!("settled {job} {index} {attempt} {reception}\n")
            }
            Self::Drawn(images) => format!("drawn {images}\n"),
            Self::Resent => "resent\n".to_owned(),
            Self::Revoked => "revoked\n".to_owned(),
            Self::StaleAccepted(what) => format!("stale-accepted {what}\n"),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut words = rest.split(' ');
        match word {
            "settled" => Some(Self::Settled {
                job: words.next()?.to_owned(),
                index: words.next()?.parse().ok()?,
                attempt: words.next()?.parse().ok()?,
                reception: words.next()?.to_owned(),
            }),
            "drawn" => Some(Self::Drawn(rest.parse().ok()?)),
            "resent" => Some(Self::Resent),
            "revoked" => Some(Self::Revoked),
            "stale-accepted" => Some(Self::StaleAccepted(rest.to_owned())),
            _ => None,
        }
    }
}

/// A journal that is written.
#[derive(Debug)]
pub struct Journal(File);

impl Journal {
    /// Goes on with the journal at `path`, or begins it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        Ok(Self(file.with_context(|| format!("cannot write {}", path.display()))?))
    }

    /// Adds lines, all in one write, so that `kill -9` cannot part them.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&mut self, lines: &[Line]) -> Result<()> {
        let text: String = lines.iter().map(Line::text).collect();
        Ok(self.0.write_all(text.as_bytes())?)
    }
}

/// Reads a journal; one that was never begun is empty. A line that was cut off at its end is passed over.
///
/// # Errors
/// If it cannot be read.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            Ok(text.split_inclusive('\n').filter_map(|line| Line::read(line.strip_suffix('\n')?)).collect())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_line_cut_off_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        assert_eq!(read(&path).unwrap(), Vec::new());
        let settled =
            Line::Settled { job: "job_1".into(), index: 3, attempt: 2, reception: "accepted".into() };
        let lines =
            [settled, Line::Drawn(7), Line::Resent, Line::Revoked, Line::StaleAccepted("of 3 images".into())];
        Journal::open(&path).unwrap().write(&lines).unwrap();
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"drawn 1").unwrap();
        assert_eq!(read(&path).unwrap(), lines);
    }
}
