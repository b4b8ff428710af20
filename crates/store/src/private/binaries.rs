//! Finding PostgreSQL's programs, and saying how to install them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::Account;
use super::error::ClusterError;
use super::launch;

/// The oldest PostgreSQL that Seedfarm's statements are written for.
pub const MINIMUM_MAJOR: u32 = 15;

/// A folder that holds `postgres` and `initdb` of one version.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    folder: PathBuf,
    version: String,
    major: u32,
}

impl Binaries {
    /// Reads the version of the programs in `folder`, or in `folder/bin`.
    fn inspect(folder: &Path, account: &Account) -> Result<Self, String> {
        let holds = |folder: &Path| ["postgres", "initdb"].map(|name| folder.join(name).is_file());
        let folder = match (holds(folder), holds(&folder.join("bin"))) {
            ([true, true], _) => folder.to_path_buf(),
            (_, [true, true]) => folder.join("bin"),
            _ => return Err("it does not hold both postgres and initdb".to_owned()),
        };
        let program = folder.join("postgres");
        let mut command = Command::new(&program);
        launch::isolate(&mut command, account, Path::new("/"));
        let output = command
            .arg("--version")
            .output()
            .map_err(|error| format!("{} does not run: {error}", program.display()))?;
        let answer = String::from_utf8_lossy(&output.stdout);
        let (version, major) = parse_version(&answer)
            .ok_or_else(|| format!("`{} --version` says {answer:?}", program.display()))?;
        Ok(Self { folder, version, major })
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl From<Binaries> for super::Programs {
    fn from(found: Binaries) -> Self {
        Self { folder: found.folder, version: found.version }
    }
}

/// `postgres (PostgreSQL) 15.18 (Debian ...)` -> `("15.18", 15)`.
fn parse_version(answer: &str) -> Option<(String, u32)> {
    let version = answer.split("(PostgreSQL)").nth(1)?.split_whitespace().next()?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    Some((version.to_owned(), version[..digits].parse().ok()?))
}

/// Where to look when no folder is given.
#[derive(Debug)]
struct Places {
    /// Versioned installations, any order.
    installed: Vec<PathBuf>,
    /// The folders of PATH, in order.
    path: Vec<PathBuf>,
}

impl Places {
    fn of_this_machine() -> Self {
        let below = |parent: &str| -> Vec<PathBuf> {
            fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        let mut installed: Vec<PathBuf> = below("/usr/lib/postgresql");
        installed.extend(
            below("/usr").into_iter().filter(|folder| folder.to_string_lossy().starts_with("/usr/pgsql-")),
        );
        let path = env::var_os("PATH").unwrap_or_default();
        Self {
            installed: installed.into_iter().map(|folder| folder.join("bin")).collect(),
            path: env::split_paths(&path).filter(|folder| folder.is_absolute()).collect(),
        }
    }
}

/// Finds programs: `explicit` if given, else those of `cluster_major`, else the newest installed
/// of [`MINIMUM_MAJOR`] or later, else PATH.
pub(super) fn find(
    explicit: Option<&Path>,
    cluster: Option<(&Path, u32)>,
    account: &Account,
) -> Result<Binaries, ClusterError> {
    match explicit {
        Some(folder) => check_explicit(folder, cluster, account),
        None => search(&Places::of_this_machine(), cluster.map(|(_, major)| major), account),
    }
}

fn check_explicit(
    folder: &Path,
    cluster: Option<(&Path, u32)>,
    account: &Account,
) -> Result<Binaries, ClusterError> {
    let bad = |reason| ClusterError::BadBinaries { folder: folder.to_path_buf(), reason };
    let found = Binaries::inspect(folder, account).map_err(bad)?;
    match cluster {
        Some((pgdata, major)) if major != found.major => Err(ClusterError::WrongMajor {
            pgdata: pgdata.to_path_buf(),
            cluster: major,
            folder: found.folder,
            programs: found.version,
        }),
        None if found.major < MINIMUM_MAJOR => {
            Err(bad(format!("they are version {}, and {MINIMUM_MAJOR} or newer is needed", found.version)))
        }
        _ => Ok(found),
    }
}

fn search(places: &Places, cluster_major: Option<u32>, account: &Account) -> Result<Binaries, ClusterError> {
    let inspect = |folders: &[PathBuf]| -> Vec<Binaries> {
        folders.iter().filter_map(|folder| Binaries::inspect(folder, account).ok()).collect()
    };
    let mut found = inspect(&places.installed);
    found.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
    found.extend(inspect(&places.path));
    let fits = |binaries: &Binaries| match cluster_major {
        Some(major) => binaries.major == major,
        None => binaries.major >= MINIMUM_MAJOR,
    };
    match found.iter().position(fits) {
        Some(index) => Ok(found.swap_remove(index)),
        None => Err(not_found(&found, cluster_major)),
    }
}

fn not_found(found: &[Binaries], cluster_major: Option<u32>) -> ClusterError {
    let found: Vec<String> = found
        .iter()
        .map(|binaries| format!("{} in {}", binaries.version, binaries.folder.display()))
        .collect();
    let found = match found.as_slice() {
        [] => String::new(),
        some => format!("; found only {}", some.join(", ")),
    };
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    ClusterError::NoBinaries {
        needed: match cluster_major {
            Some(major) => format!("{major} (which made this database)"),
            None => format!("{MINIMUM_MAJOR} or newer"),
        },
        searched: "/usr/lib/postgresql/*/bin, /usr/pgsql-*/bin or PATH".to_owned(),
        found,
        install: install_line(&system, rustix::process::geteuid().is_root(), cluster_major),
    }
}

/// The command that installs PostgreSQL on the system that `os_release` describes.
fn install_line(os_release: &str, root: bool, major: Option<u32>) -> String {
    let family: Vec<&str> = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches('"').split_whitespace())
        .collect();
    let is = |names: &[&str]| names.iter().any(|name| family.contains(name));
    let sudo = if root { "" } else { "sudo " };
    let package = |base: &str| match major {
        Some(major) => format!("{base}-{major}"),
        None => base.to_owned(),
    };
    if is(&["fedora", "rhel", "centos"]) {
        format!("{sudo}dnf install -y postgresql-server")
    } else if is(&["arch"]) {
        format!("{sudo}pacman -S --noconfirm postgresql")
    } else if is(&["alpine"]) {
        format!("{sudo}apk add {}", package("postgresql").replace('-', ""))
    } else if is(&["suse", "opensuse"]) {
        format!("{sudo}zypper install -y postgresql-server")
    } else {
        format!("{sudo}apt-get update && {sudo}apt-get install -y {}", package("postgresql"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn account() -> Account {
        Account::Own { uid: rustix::process::geteuid().as_raw() }
    }

    /// A folder with programs that answer `--version` as PostgreSQL does.
    fn pretend(parent: &Path, version: &str) -> PathBuf {
        let folder = parent.join(version).join("bin");
        fs::create_dir_all(&folder).expect("folders");
        for name in ["postgres", "initdb"] {
            let script = format!("#!/bin/sh\necho '{name} (PostgreSQL) {version} (Test 1)'\n");
            fs::write(folder.join(name), script).expect("script");
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).expect("mode");
        }
        folder
    }

    #[test]
    fn versions_are_read_from_the_program_s_answer() {
        let read = |answer| parse_version(answer);
        assert_eq!(
            read("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some(("15.18".to_owned(), 15))
        );
        assert_eq!(read("postgres (PostgreSQL) 19beta2\n"), Some(("19beta2".to_owned(), 19)));
        assert_eq!(read("bash: postgres: not found"), None);
    }

    #[test]
    fn the_newest_is_taken_unless_a_database_names_its_version() {
        let root = tempfile::tempdir().expect("temporary folder");
        let places = Places {
            installed: ["9.6.24", "15.3", "18.1", "16.2"]
                .map(|version| pretend(root.path(), version))
                .to_vec(),
            path: vec![pretend(root.path(), "17.5")],
        };
        let major = |wanted| search(&places, wanted, &account()).map(|found| found.major);
        assert_eq!(major(None).expect("newest"), 18);
        assert_eq!(major(Some(15)).expect("the same"), 15);
        assert_eq!(major(Some(17)).expect("from PATH"), 17);
        let refusal = major(Some(14)).expect_err("not installed").to_string();
        assert!(refusal.contains("PostgreSQL 14"), "{refusal}");
        assert!(refusal.contains("found only 18.1"), "{refusal}");
        assert!(refusal.contains("install"), "{refusal}");
    }

    #[test]
    fn programs_that_are_too_old_are_not_taken() {
        let root = tempfile::tempdir().expect("temporary folder");
        let old = pretend(root.path(), "13.9");
        let places = Places { installed: vec![old.clone()], path: vec![] };
        assert!(search(&places, None, &account()).is_err());
        assert!(find(Some(&old), None, &account()).is_err());
    }

    #[test]
    fn programs_given_for_another_major_version_are_refused() {
        let root = tempfile::tempdir().expect("temporary folder");
        let newer = pretend(root.path(), "18.1");
        let cluster = Some((Path::new("/data/pgdata"), 15));
        let refusal = find(Some(&newer), cluster, &account()).expect_err("mismatch");
        assert!(matches!(refusal, ClusterError::WrongMajor { cluster: 15, .. }), "{refusal}");
        let prefix = newer.parent().expect("has a parent");
        find(Some(prefix), None, &account()).expect("the folder above bin is understood");
    }

    #[test]
    fn the_install_line_fits_the_system_and_the_user() {
        let debian = "PRETTY_NAME=\"Debian\"\nID=debian\n";
        let rocky = "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n";
        assert_eq!(install_line(debian, true, None), "apt-get update && apt-get install -y postgresql");
        assert_eq!(
            install_line(debian, false, Some(15)),
            "sudo apt-get update && sudo apt-get install -y postgresql-15"
        );
        assert_eq!(install_line(rocky, false, None), "sudo dnf install -y postgresql-server");
        assert_eq!(install_line("ID=alpine", true, Some(16)), "apk add postgresql16");
    }
}
