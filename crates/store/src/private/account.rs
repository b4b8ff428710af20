//! The user that the server runs as: ourselves, or, as PostgreSQL refuses root, a user to drop to.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{ClusterError, failed};

/// Users to drop to, best first.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// Who runs `initdb` and `postgres`, and owns their files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Account {
    /// This process's own user, which is not root.
    Own {
        /// Effective user id.
        uid: u32,
    },
    /// This process is root and drops to another user.
    Dropped {
        /// Name for messages, or the id in digits where there is none.
        name: String,
        /// User id, never 0.
        uid: u32,
        /// Primary group id. Supplementary groups are dropped.
        gid: u32,
    },
}

impl Account {
    /// Chooses for a cluster at `pgdata`, which need not exist.
    ///
    /// Root keeps to the owner of an existing cluster, so that a package installed later does
    /// not change hands under it.
    pub(super) fn choose(pgdata: &Path) -> Result<Self, ClusterError> {
        let ours = rustix::process::geteuid().as_raw();
        let owner = match fs::metadata(pgdata) {
            Ok(found) => Some((found.uid(), found.gid())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("read", pgdata)(error)),
        };
        match owner {
            Some((owner, _)) if ours != 0 && owner != ours => {
                Err(ClusterError::NotOwner { folder: pgdata.to_path_buf(), owner, ours })
            }
            _ if ours != 0 => Ok(Self::Own { uid: ours }),
            Some((uid, gid)) if uid != 0 => Ok(Self::Dropped { name: uid.to_string(), uid, gid }),
            _ => {
                let passwd = Path::new("/etc/passwd");
                let users = fs::read_to_string(passwd).map_err(failed("read", passwd))?;
                Self::from_passwd(&users).ok_or(ClusterError::NoServerUser)
            }
        }
    }

    fn from_passwd(users: &str) -> Option<Self> {
        CANDIDATES.iter().find_map(|wanted| {
            users.lines().find_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next()?;
                let uid = fields.nth(1)?.parse().ok()?;
                let gid = fields.next()?.parse().ok()?;
                (name == *wanted && uid != 0).then(|| Self::Dropped { name: name.to_owned(), uid, gid })
            })
        })
    }

    pub(super) fn uid(&self) -> u32 {
        match self {
            Self::Own { uid } | Self::Dropped { uid, .. } => *uid,
        }
    }

    /// Makes `command` run as this account. As root, std also clears the supplementary groups.
    pub(super) fn apply(&self, command: &mut Command) {
        if let Self::Dropped { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
    }

    /// Gives one file or folder to this account.
    pub(super) fn give(&self, path: &Path) -> Result<(), ClusterError> {
        match self {
            Self::Own { .. } => Ok(()),
            Self::Dropped { uid, gid, .. } => {
                chown(path, Some(*uid), Some(*gid)).map_err(failed("change the owner of", path))
            }
        }
    }

    /// Gives a whole cluster to this account if root owns it, as after a restore from a backup.
    pub(super) fn give_tree(&self, folder: &Path) -> Result<(), ClusterError> {
        let Self::Dropped { uid, gid, .. } = self else {
            return Ok(());
        };
        let is_roots = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.uid() == 0);
        if !is_roots(folder) {
            return Ok(());
        }
        let mut waiting = vec![folder.to_path_buf()];
        while let Some(path) = waiting.pop() {
            if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                for entry in fs::read_dir(&path).map_err(failed("list", &path))? {
                    waiting.push(entry.map_err(failed("list", &path))?.path());
                }
            }
            lchown(&path, Some(*uid), Some(*gid)).map_err(failed("change the owner of", &path))?;
        }
        Ok(())
    }

    /// Fails if this account cannot enter `folder`, naming the first folder that refuses it.
    pub(super) fn check_reaches(&self, folder: &Path) -> Result<(), ClusterError> {
        let Self::Dropped { name, uid, gid } = self else {
            return Ok(());
        };
        let mut way: Vec<&Path> = folder.ancestors().collect();
        way.reverse();
        let blocked = way.into_iter().find(|step| {
            fs::metadata(step).is_ok_and(|found| {
                let shift = match () {
                    () if found.uid() == *uid => 6,
                    () if found.gid() == *gid => 3,
                    () => 0,
                };
                (found.permissions().mode() >> shift) & 1 == 0
            })
        });
        match blocked {
            None => Ok(()),
            Some(blocked_at) => Err(ClusterError::Unreachable {
                folder: folder.to_path_buf(),
                user: name.clone(),
                blocked_at: blocked_at.to_path_buf(),
            }),
        }
    }
}

/// Creates `folder` and its missing parents, searchable by others when root makes them, so that
/// the server's user can reach what lies below whatever the umask.
pub(super) fn create_folders(folder: &Path) -> Result<(), ClusterError> {
    let missing: Vec<PathBuf> =
        folder.ancestors().take_while(|step| !step.exists()).map(Path::to_path_buf).collect();
    for step in missing.iter().rev() {
        match fs::create_dir(step) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(failed("create", step)(error)),
        }
        if rustix::process::geteuid().is_root() {
            set_mode(step, 0o755)?;
        }
    }
    Ok(())
}

/// Sets the permission bits of `path`.
pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), ClusterError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed("set the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_is_preferred_to_nobody_and_root_is_never_chosen() {
        let both =
            "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\npostgres:x:101:104::/:/bin/sh\n";
        let dropped = |name: &str, uid, gid| Some(Account::Dropped { name: name.to_owned(), uid, gid });
        assert_eq!(Account::from_passwd(both), dropped("postgres", 101, 104));
        assert_eq!(
            Account::from_passwd("nobody:x:65534:65533::/:/bin/false\n"),
            dropped("nobody", 65534, 65533)
        );
        assert_eq!(Account::from_passwd("postgres:x:0:0::/:/bin/sh\n"), None);
    }

    #[test]
    fn a_closed_parent_is_named() {
        let root = tempfile::tempdir().expect("temporary folder");
        let closed = root.path().join("closed");
        let inner = closed.join("inner");
        fs::create_dir_all(&inner).expect("folders");
        set_mode(root.path(), 0o755).expect("mode");
        set_mode(&closed, 0o700).expect("mode");
        let stranger = Account::Dropped { name: "stranger".to_owned(), uid: 4_000_001, gid: 4_000_001 };
        let refusal = stranger.check_reaches(&inner).expect_err("refused");
        assert!(
            matches!(&refusal, ClusterError::Unreachable { blocked_at, .. } if *blocked_at == closed),
            "{refusal}"
        );
        set_mode(&closed, 0o711).expect("mode");
        stranger.check_reaches(&inner).expect("now reachable");
    }
}
