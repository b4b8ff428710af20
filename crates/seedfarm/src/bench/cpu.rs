//! Processor time of this process, and of the database beside it.

use std::fs;
use std::time::Duration;

/// What `/proc/*/stat` counts in, on every Linux: hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// Processor time, in user and system mode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    /// This process: coordinator and clients.
    pub(super) process: Duration,
    /// The private database's processes that are alive.
    pub(super) database: Duration,
}

impl Used {
    /// What each process used since it began; `server` is the database's first process.
    pub(super) fn now(server: Option<u32>) -> Self {
        let process = stat("self").map(|stat| stat.used).unwrap_or_default();
        Self { process, database: server.map(tree).unwrap_or_default() }
    }

    /// What was used since `before`.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            process: self.process.saturating_sub(before.process),
            database: self.database.saturating_sub(before.database),
        }
    }
}

struct Stat {
    parent: u32,
    used: Duration,
}

/// A process and its children.
fn tree(root: u32) -> Duration {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let stats = names.filter_map(|name| Some((name.parse::<u32>().ok()?, stat(&name)?)));
    stats.filter(|(pid, stat)| *pid == root || stat.parent == root).map(|(_, stat)| stat.used).sum()
}

/// Reads `/proc/<name>/stat`; the second field, the program's name, may hold anything but ends at the
/// last parenthesis.
fn stat(name: &str) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{name}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field)?.parse::<u32>().ok();
    Some(Stat { parent: number(1)?, used: TICK * (number(11)? + number(12)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_with_its_parent() {
        let own = stat("self").unwrap();
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        assert!(tree(std::process::id()) >= own.used);
    }
}
