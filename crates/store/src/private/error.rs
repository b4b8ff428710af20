//! What can go wrong with a private cluster, each with the way out.

use std::io;
use std::path::{Path, PathBuf};

/// A private cluster that could not be started, checked or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// No usable PostgreSQL programs were found.
    #[error(
        "no PostgreSQL {needed} programs (postgres, initdb) in {searched}{found}; \
         install them with: {install} (or give DATABASE_URL of a running server)"
    )]
    NoBinaries {
        /// The version asked for, such as `15 or newer`.
        needed: String,
        /// Where they were looked for.
        searched: String,
        /// What was found but does not fit, empty or starting with `; found only`.
        found: String,
        /// The one command line that installs them here.
        install: String,
    },

    /// The folder given for the programs lacks them, or they do not run.
    #[error("{} is not a folder of PostgreSQL programs: {reason}", folder.display())]
    BadBinaries {
        /// The folder that was given.
        folder: PathBuf,
        /// What is missing or failed.
        reason: String,
    },

    /// The database was made by another major version than the programs given.
    #[error(
        "the database in {} was made by PostgreSQL {cluster}, but the programs in {} are {programs}; \
         give those of {cluster}, as nothing is upgraded silently",
        pgdata.display(), folder.display()
    )]
    WrongMajor {
        /// The cluster folder.
        pgdata: PathBuf,
        /// Its major version.
        cluster: u32,
        /// The folder of programs.
        folder: PathBuf,
        /// Their version.
        programs: String,
    },

    /// Another Seedfarm process holds the data folder.
    #[error(
        "the data folder {} is in use by process {holder}; stop that process or give this one another folder",
        data_dir.display()
    )]
    FolderInUse {
        /// The data folder.
        data_dir: PathBuf,
        /// Process id of the holder, or `unknown`.
        holder: String,
    },

    /// A server that is not ours still runs on the cluster.
    #[error(
        "a PostgreSQL server (process {pid}) still runs on {}; stop it with: kill -INT {pid}",
        pgdata.display()
    )]
    ServerRuns {
        /// The cluster folder.
        pgdata: PathBuf,
        /// Process id of that server, or `unknown`.
        pid: String,
    },

    /// A server process was left behind by a dead server and holds its memory.
    #[error(
        "a process left over from a dead PostgreSQL server still uses {}; \
         find it with `ps -C postgres` and end it with `kill -QUIT`",
        pgdata.display()
    )]
    Orphan {
        /// The cluster folder.
        pgdata: PathBuf,
    },

    /// The server's user may not enter the folder.
    #[error(
        "PostgreSQL does not run as root and user `{user}` may not enter {}, so {} cannot hold the database; \
         use a folder below /var/lib or make the former searchable with: chmod o+x {}",
        blocked_at.display(), folder.display(), blocked_at.display()
    )]
    Unreachable {
        /// The folder wanted.
        folder: PathBuf,
        /// The user that the server runs as.
        user: String,
        /// The first folder on the way that refuses that user.
        blocked_at: PathBuf,
    },

    /// The cluster belongs to somebody else.
    #[error(
        "the database in {} belongs to user id {owner}, and this process runs as {ours}; \
         run it as that user or choose another data folder",
        folder.display()
    )]
    NotOwner {
        /// The folder.
        folder: PathBuf,
        /// Its owner.
        owner: u32,
        /// Our effective user id.
        ours: u32,
    },

    /// Running as root, and there is no user to drop to.
    #[error(
        "PostgreSQL does not run as root, and /etc/passwd has neither user `postgres` nor `nobody`; \
         make one with: useradd --system postgres"
    )]
    NoServerUser,

    /// `pgdata` exists and is not a cluster.
    #[error(
        "{} is not a PostgreSQL database folder (PG_VERSION is missing or unreadable); move it away",
        pgdata.display()
    )]
    NotACluster {
        /// The folder found.
        pgdata: PathBuf,
    },

    /// The folder for the socket below /tmp belongs to another user.
    #[error(
        "the socket folder {} exists and belongs to user id {owner} or is no folder; \
         remove it, or use a data folder with a shorter path",
        folder.display()
    )]
    SocketFolderTaken {
        /// The folder.
        folder: PathBuf,
        /// Who owns it.
        owner: u32,
    },

    /// No space is left.
    #[error("the disk of {} is full; free some space or choose another data folder", folder.display())]
    DiskFull {
        /// Where the write failed.
        folder: PathBuf,
    },

    /// Permission was refused to this process.
    #[error(
        "user id {ours} may not {action} {}; choose another data folder or change its owner",
        path.display()
    )]
    Forbidden {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Our effective user id.
        ours: u32,
        /// The cause.
        #[source]
        source: io::Error,
    },

    /// Shared memory is too small, as in a container without `--shm-size`.
    #[error(
        "/dev/shm is too small for PostgreSQL, which needs a few MB; \
         start the container with --shm-size=64m or more"
    )]
    SharedMemoryTooSmall,

    /// `initdb` failed.
    #[error("initdb could not make a database in {}:\n{output}", pgdata.display())]
    Initdb {
        /// The folder.
        pgdata: PathBuf,
        /// The last lines it wrote.
        output: String,
    },

    /// The server ended before it was ready.
    #[error("PostgreSQL did not start; the end of {}:\n{tail}", log.display())]
    Start {
        /// The server's log file.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },

    /// The server neither became ready nor ended.
    #[error("PostgreSQL was not ready after {limit_s} s; the end of {}:\n{tail}", log.display())]
    StartTimedOut {
        /// The limit, in seconds.
        limit_s: u64,
        /// The server's log file.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },

    /// The server did not stop.
    #[error(
        "PostgreSQL (process {pid}) did not stop within {limit_s} s; its data is safe, end it with: kill -QUIT {pid}"
    )]
    StopTimedOut {
        /// Its process id.
        pid: u32,
        /// The limit, in seconds.
        limit_s: u64,
    },

    /// The server acknowledges commits that are not on disk.
    #[error(
        "the database server runs with fsync = off, so a power cut can destroy acknowledged work; \
         set fsync = on in its postgresql.conf and reload it"
    )]
    NotDurable,

    /// The server is older than the oldest version supported.
    #[error("the database server is PostgreSQL {version}; {minimum} or newer is needed")]
    ServerTooOld {
        /// Its version.
        version: String,
        /// The oldest major version supported.
        minimum: u32,
    },

    /// PGOPTIONS would reach every session of the private cluster.
    #[error(
        "PGOPTIONS is set to `{value}` and would change every session of the private database; \
         unset it, or give DATABASE_URL"
    )]
    AmbientOptions {
        /// Its value.
        value: String,
    },

    /// Neither XDG_DATA_HOME nor HOME says where data belongs.
    #[error("neither XDG_DATA_HOME nor HOME holds an absolute path; give a data folder")]
    NoHome,

    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },

    /// The server was started, or given, and did not answer as expected.
    #[error("cannot query the database server")]
    Query(#[source] sqlx::Error),
}

/// Turns an error of the file system into ours: `.map_err(failed("create", &path))`.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    let path = path.to_path_buf();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ClusterError::DiskFull { folder: path },
        io::ErrorKind::PermissionDenied => {
            ClusterError::Forbidden { action, path, ours: rustix::process::geteuid().as_raw(), source }
        }
        _ => ClusterError::Io { action, path, source },
    }
}

/// Faults that PostgreSQL's own words give away, for which a clearer message exists.
///
/// All servers and `initdb` are run with `LC_ALL=C`, so these words are fixed.
pub(super) fn known_fault(output: &str, folder: &Path) -> Option<ClusterError> {
    if output.contains("could not resize shared memory segment") {
        return Some(ClusterError::SharedMemoryTooSmall);
    }
    output
        .contains("No space left on device")
        .then(|| ClusterError::DiskFull { folder: folder.to_path_buf() })
}
