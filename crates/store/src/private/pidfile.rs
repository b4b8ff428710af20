//! `postmaster.pid`: which server runs on a cluster, and how far it has come.
//!
//! The file is PostgreSQL's; it is read here and never changed or removed, as it also guards
//! against processes that a dead server left behind.

use std::fs;
use std::path::Path;

/// The fields of `postmaster.pid` that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PidFile {
    /// Process id of the server that wrote the file.
    pub(super) pid: u32,
    /// Line 8: `starting`, `ready`, `stopping` or `standby`; empty before it is written.
    status: String,
}

impl PidFile {
    /// Reads the file of the cluster at `pgdata`; `None` where there is none or it is not whole.
    pub(super) fn read(pgdata: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(pgdata.join("postmaster.pid")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        let status = lines.nth(6).unwrap_or_default().trim().to_owned();
        Some(Self { pid, status })
    }

    pub(super) fn is_ready(&self) -> bool {
        self.status == "ready"
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.status == "stopping"
    }

    /// Whether the process that now bears the id is something other than PostgreSQL: ids start
    /// again after a reboot and in every container.
    pub(super) fn names_a_stranger(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/comm", self.pid))
            .is_ok_and(|name| !name.starts_with("postgres") && !name.starts_with("postmaster"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_read_whether_or_not_it_is_complete() {
        let whole = "4711\n/data\n1700000000\n5432\n/data/socket\n\n  8389  42\nready   \n";
        let read = PidFile::parse(whole).expect("whole");
        assert_eq!(read.pid, 4711);
        assert!(read.is_ready() && !read.is_stopping());
        let early = PidFile::parse("4711\n/data\n").expect("early");
        assert!(!early.is_ready());
        assert_eq!(PidFile::parse(""), None);
        assert_eq!(PidFile::parse("not a number\n"), None);
    }
}
