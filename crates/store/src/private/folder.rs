//! The data folder: where its parts lie, who may use them, and that one process holds it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::account::{Account, create_folders, set_mode};
use super::error::{ClusterError, failed};

/// The port number that names the socket file. No TCP port is opened.
pub(super) const PORT: u16 = 5432;

/// Longest path of a Unix socket that Linux takes, in bytes, without the closing zero.
const LONGEST_SOCKET_PATH: usize = 107;

/// Logs larger than this are put aside at the next start.
const LONGEST_LOG: u64 = 16 << 20;

/// Where the parts of a private cluster lie.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// The data folder as the caller named it, made absolute.
    pub(super) data_dir: PathBuf,
    /// `postgres` in the data folder: all that the server's user owns, mode 0700.
    pub(super) home: PathBuf,
    /// The cluster.
    pub(super) pgdata: PathBuf,
    /// A cluster being made; an interrupted `initdb` leaves it behind.
    pub(super) unfinished: PathBuf,
    /// What the server writes.
    pub(super) log: PathBuf,
    /// The folder of the socket: in `home`, or below /tmp where that path would be too long.
    pub(super) socket: PathBuf,
}

impl Layout {
    /// Creates the data folder if need be and lays out a cluster in it.
    pub(super) fn below(data_dir: &Path) -> Result<Self, ClusterError> {
        let absolute = std::path::absolute(data_dir).map_err(failed("resolve", data_dir))?;
        create_folders(&absolute)?;
        let data_dir = fs::canonicalize(&absolute).map_err(failed("resolve", &absolute))?;
        Ok(Self::of(&data_dir))
    }

    /// Where things would lie in `data_dir`, which need not exist.
    pub(super) fn of(data_dir: &Path) -> Self {
        let home = data_dir.join("postgres");
        Self {
            pgdata: home.join("pgdata"),
            unfinished: home.join("pgdata.new"),
            log: home.join("server.log"),
            socket: socket_folder(&home),
            home,
            data_dir: data_dir.to_path_buf(),
        }
    }

    /// Creates what `account` must own, with the modes that PostgreSQL insists on.
    pub(super) fn prepare(&self, account: &Account) -> Result<(), ClusterError> {
        account.check_reaches(&self.data_dir)?;
        own_folder(&self.home, account)?;
        if self.pgdata.exists() {
            account.give_tree(&self.pgdata)?;
            set_mode(&self.pgdata, 0o700)?;
        }
        self.prepare_socket(account)
    }

    /// Names below /tmp can be taken by others beforehand, so the owner is checked.
    fn prepare_socket(&self, account: &Account) -> Result<(), ClusterError> {
        match fs::symlink_metadata(&self.socket) {
            Ok(found) if !found.is_dir() || found.uid() != account.uid() => {
                Err(ClusterError::SocketFolderTaken { folder: self.socket.clone(), owner: found.uid() })
            }
            Ok(_) => set_mode(&self.socket, 0o700),
            Err(_) => own_folder(&self.socket, account),
        }
    }

    /// Opens the log for appending, after putting a very long one aside.
    pub(super) fn open_log(&self, account: &Account) -> Result<File, ClusterError> {
        if fs::metadata(&self.log).is_ok_and(|found| found.len() > LONGEST_LOG) {
            let aside = self.log.with_extension("log.1");
            fs::rename(&self.log, &aside).map_err(failed("rename", &self.log))?;
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.log)
            .map_err(failed("open", &self.log))?;
        account.give(&self.log)?;
        Ok(log)
    }

    /// The major version that made the cluster, or `None` where there is none yet.
    pub(super) fn cluster_major(&self) -> Result<Option<u32>, ClusterError> {
        if !self.pgdata.exists() {
            return Ok(None);
        }
        fs::read_to_string(self.pgdata.join("PG_VERSION"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .map(Some)
            .ok_or_else(|| ClusterError::NotACluster { pgdata: self.pgdata.clone() })
    }

    /// Removes the socket folder if it lies below /tmp; the server has removed its socket.
    pub(super) fn clear_socket(&self) {
        if !self.socket.starts_with(&self.home) {
            // A folder left over is empty, private and found again by the next start.
            let _ = fs::remove_dir(&self.socket);
        }
    }
}

/// `home/socket`, unless the socket's path would be too long or not be text, as sqlx needs it.
fn socket_folder(home: &Path) -> PathBuf {
    let beside = home.join("socket");
    let socket = beside.join(format!(".s.PGSQL.{PORT}"));
    if socket.as_os_str().len() <= LONGEST_SOCKET_PATH && socket.to_str().is_some() {
        return beside;
    }
    let mut hasher = DefaultHasher::new();
    home.as_os_str().as_bytes().hash(&mut hasher);
    PathBuf::from(format!("/tmp/seedfarm-{:016x}", hasher.finish()))
}

fn own_folder(folder: &Path, account: &Account) -> Result<(), ClusterError> {
    if !folder.exists() {
        fs::create_dir(folder).map_err(failed("create", folder))?;
    }
    set_mode(folder, 0o700)?;
    account.give(folder)
}

/// The lock on a data folder; the kernel releases it when this process ends, however it ends.
#[derive(Debug)]
pub(super) struct Hold {
    _file: File,
}

impl Hold {
    /// Takes the folder, or says which process has it.
    pub(super) fn take(data_dir: &Path) -> Result<Self, ClusterError> {
        let path = data_dir.join("postgres.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(failed("read", &path))?;
                return Err(ClusterError::FolderInUse {
                    data_dir: data_dir.to_path_buf(),
                    holder: match holder.trim() {
                        "" => "unknown".to_owned(),
                        pid => pid.to_owned(),
                    },
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
        }
        file.set_len(0).map_err(failed("write", &path))?;
        writeln!(file, "{}", std::process::id()).map_err(failed("write", &path))?;
        Ok(Self { _file: file })
    }
}

/// The folder for Seedfarm's data where the user names none: `/var/lib/seedfarm` for root, else
/// `$XDG_DATA_HOME/seedfarm`, else `~/.local/share/seedfarm`.
///
/// # Errors
/// [`ClusterError::NoHome`] if an ordinary user's environment holds neither path.
pub fn default_data_dir() -> Result<PathBuf, ClusterError> {
    data_dir_for(rustix::process::geteuid().is_root(), |name| std::env::var_os(name).map(PathBuf::from))
}

fn data_dir_for(root: bool, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, ClusterError> {
    if root {
        return Ok(PathBuf::from("/var/lib/seedfarm"));
    }
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|folder| folder.join("seedfarm"))
        .ok_or(ClusterError::NoHome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_folder_follows_the_user_and_the_environment() {
        let with = |root, pairs: &[(&str, &str)]| {
            let pairs: Vec<(String, String)> =
                pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            data_dir_for(root, move |wanted| {
                let found = pairs.iter().find(|(name, _)| name == wanted);
                found.map(|(_, value)| PathBuf::from(value))
            })
        };
        let path = |text: &str| PathBuf::from(text);
        assert_eq!(with(true, &[("HOME", "/root")]).expect("root"), path("/var/lib/seedfarm"));
        assert_eq!(
            with(false, &[("HOME", "/home/a"), ("XDG_DATA_HOME", "/big")]).expect("xdg"),
            path("/big/seedfarm")
        );
        assert_eq!(
            with(false, &[("HOME", "/home/a"), ("XDG_DATA_HOME", "relative")]).expect("home"),
            path("/home/a/.local/share/seedfarm")
        );
        assert!(matches!(with(false, &[]), Err(ClusterError::NoHome)));
    }

    #[test]
    fn a_socket_path_fits_the_kernel_s_limit_for_any_folder() {
        let limit_of = |home: &str| {
            let folder = socket_folder(Path::new(home));
            (folder.as_os_str().len() + "/.s.PGSQL.5432".len(), folder)
        };
        assert_eq!(limit_of("/data/postgres").1, Path::new("/data/postgres/socket"));
        let exactly = format!("/{}", "d".repeat(107 - 1 - "/socket/.s.PGSQL.5432".len()));
        assert_eq!(limit_of(&exactly).0, 107);
        let longer = format!("{exactly}d");
        let (length, folder) = limit_of(&longer);
        assert!(length <= 107 && folder.starts_with("/tmp"), "{}", folder.display());
        assert_ne!(folder, limit_of(&format!("{longer}e")).1);
    }
}
