//! Processor time of a coordinator, its database, and this process, which plays its workers.

use std::fs;
use std::time::Duration;

/// What `/proc/*/stat` counts in, on every Linux: hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// Processor time, in user and system mode.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    /// The coordinator.
    pub(super) coordinator: Duration,
    /// The private database's processes that are alive.
    pub(super) database: Duration,
    /// This process: the workers.
    pub(super) workers: Duration,
}

impl Used {
    /// What each process used since it began; the database's first process is the coordinator's child.
    pub(super) fn now(coordinator: Option<u32>) -> Self {
        let used = |name: &str| stat(name).map(|stat| stat.used).unwrap_or_default();
        let Some(pid) = coordinator else {
            return Self { workers: used("self"), ..Self::default() };
        };
        let database = children(pid).into_iter().map(tree).sum();
        Self { coordinator: used(&pid.to_string()), database, workers: used("self") }
    }

    /// What was used since `before`.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            coordinator: self.coordinator.saturating_sub(before.coordinator),
            database: self.database.saturating_sub(before.database),
            workers: self.workers.saturating_sub(before.workers),
        }
    }
}

struct Stat {
    parent: u32,
    used: Duration,
}

/// A process and its children.
fn tree(root: u32) -> Duration {
    all().filter(|(pid, stat)| *pid == root || stat.parent == root).map(|(_, stat)| stat.used).sum()
}

fn children(parent: u32) -> Vec<u32> {
    all().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| pid).collect()
}

fn all() -> impl Iterator<Item = (u32, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| Some((name.parse::<u32>().ok()?, stat(&name)?)))
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
        assert!(children(own.parent).contains(&std::process::id()));
    }
}
