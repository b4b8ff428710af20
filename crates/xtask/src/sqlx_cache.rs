//! The query cache in `.sqlx`: what sqlx found out about every checked query, so that the
//! workspace compiles without a database.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};

use crate::postgres::Server;
use crate::process::{Scratch, cargo, root, run};

/// File name and content of each cached query.
type Cache = BTreeMap<String, Vec<u8>>;

/// Replaces `.sqlx` by what the statements say now.
///
/// # Errors
/// If the migrations fail or the store crate does not compile against the database they make.
pub fn renew() -> anyhow::Result<()> {
    let fresh = prepare()?;
    let folder = cache_folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for name in read(&folder)?.keys().filter(|name| !fresh.contains_key(*name)) {
        fs::remove_file(folder.join(name)).with_context(|| format!("cannot remove {name}"))?;
    }
    for (name, content) in &fresh {
        fs::write(folder.join(name), content).with_context(|| format!("cannot write {name}"))?;
    }
    eprintln!("{} queries in {}", fresh.len(), folder.display());
    Ok(())
}

/// Fails if `.sqlx` is not what [`renew`] would make.
///
/// # Errors
/// The differences, and what [`renew`] can fail with.
pub fn check() -> anyhow::Result<()> {
    let fresh = prepare()?;
    let differences = differences(&read(&cache_folder())?, &fresh);
    if !differences.is_empty() {
        bail!(
            ".sqlx is not current; run `cargo xtask sqlx` and commit the result:\n  {}",
            differences.join("\n  ")
        );
    }
    eprintln!("{} queries, all current", fresh.len());
    Ok(())
}

fn cache_folder() -> PathBuf {
    root().join(".sqlx")
}

/// Compiles the store crate against a database that the migrations have just made.
fn prepare() -> anyhow::Result<Cache> {
    let server = Server::start()?;
    for migration in migrations()? {
        server.apply(&migration)?;
    }
    let folder = Scratch::create("sqlx")?;
    // Queries are checked while they are compiled, so the crate must be compiled anew.
    let library = root().join("crates/store/src/lib.rs");
    File::options()
        .write(true)
        .open(&library)
        .and_then(|file| file.set_modified(SystemTime::now()))
        .with_context(|| format!("cannot touch {}", library.display()))?;
    let mut check = cargo(&["check", "--release", "--package", "seedfarm-store"]);
    check
        .args(["--all-targets", "--all-features"])
        .env("DATABASE_URL", server.url())
        .env("SQLX_OFFLINE", "false")
        .env("SQLX_OFFLINE_DIR", folder.path());
    for name in ["PGHOST", "PGHOSTADDR", "PGPORT", "PGPASSWORD", "PGSSLMODE", "PGOPTIONS"] {
        check.env_remove(name);
    }
    run(&mut check)?;
    read(folder.path())
}

/// `migrations/*.sql` in the order of their numbers.
fn migrations() -> anyhow::Result<Vec<PathBuf>> {
    let folder = root().join("migrations");
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The cache in a folder, empty if there is none.
fn read(folder: &Path) -> anyhow::Result<Cache> {
    if !folder.exists() {
        return Ok(Cache::new());
    }
    let mut cache = Cache::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("query-") && name.ends_with(".json") {
            cache.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(cache)
}

fn differences(committed: &Cache, fresh: &Cache) -> Vec<String> {
    let outdated = committed
        .keys()
        .filter(|name| !fresh.contains_key(*name))
        .map(|name| format!("{name} belongs to no query"));
    let wrong = fresh.iter().filter_map(|(name, content)| match committed.get(name) {
        None => Some(format!("{name} is missing")),
        Some(old) if old != content => Some(format!("{name} differs")),
        Some(_) => None,
    });
    outdated.chain(wrong).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_difference_is_told() {
        let cache = |entries: &[(&str, &str)]| -> Cache {
            let own = |(name, text): &(&str, &str)| ((*name).to_owned(), text.as_bytes().to_vec());
            entries.iter().map(own).collect()
        };
        let committed = cache(&[("a", "1"), ("b", "2"), ("d", "4")]);
        let fresh = cache(&[("a", "1"), ("b", "other"), ("c", "3")]);
        assert_eq!(differences(&committed, &fresh), ["d belongs to no query", "b differs", "c is missing"]);
        assert!(differences(&fresh, &fresh).is_empty());
    }
}
