//! A first-level data cache that the machine does not have: a mount namespace of our own, in which
//! made-up folders lie over what the kernel says of the caches.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::process::Scratch;

/// Where the kernel describes processors.
const PROCESSORS: &str = "/sys/devices/system/cpu";

/// Sizes that common processors have.
pub const GEOMETRIES: [Geometry; 2] = [Geometry { kib: 32, ways: 8 }, Geometry { kib: 48, ways: 12 }];

/// A first-level data cache.
pub struct Geometry {
    kib: usize,
    ways: usize,
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L1 {}K {}-way", self.kib, self.ways)
    }
}

/// Mounts the folder `$1` over the caches of every processor, checks that the file `$2` in it now
/// says `$3`, and runs the rest.
const SCRIPT: &str = r#"
set -e
for caches in /sys/devices/system/cpu/cpu[0-9]*/cache; do mount --bind "$1" "$caches"; done
[ "$(cat "/sys/devices/system/cpu/cpu0/cache/$2")" = "$3" ]
shift 3
exec "$@"
"#;

/// The words before a command that is to see such a cache, and the folder they need.
///
/// # Errors
/// If the kernel tells nothing of caches here, or files cannot be written.
pub fn runner(geometry: &Geometry) -> anyhow::Result<(Vec<String>, Scratch)> {
    let made_up = Scratch::create(&format!("cache-{}", geometry.kib))?;
    let first = make_up(geometry, made_up.path())?;
    // Without root, as the root of a user namespace.
    let unshare = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let size = format!("{}K", geometry.kib);
    let words = ["unshare", unshare, "sh", "-c", SCRIPT, "sh"].map(str::to_owned);
    let folder = made_up.path().display().to_string();
    let words = words.into_iter().chain([folder, format!("{first}/size"), size]).collect();
    Ok((words, made_up))
}

/// Copies the description of the first processor's caches to `to` with another first level; gives
/// the name of that cache.
fn make_up(geometry: &Geometry, to: &Path) -> anyhow::Result<String> {
    let from = PathBuf::from(PROCESSORS).join("cpu0/cache");
    let mut first = None;
    let caches = fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))?;
    for cache in caches.flatten().filter(|cache| cache.path().is_dir()) {
        let name = cache.file_name().to_string_lossy().into_owned();
        let copy = to.join(&name);
        fs::create_dir(&copy)?;
        for file in fs::read_dir(cache.path())?.flatten() {
            // Some of what lies there can only be written.
            if let Ok(text) = fs::read_to_string(file.path()) {
                fs::write(copy.join(file.file_name()), text)?;
            }
        }
        let says = |what: &str| fs::read_to_string(copy.join(what)).unwrap_or_default();
        if says("level").trim() == "1" && says("type").trim() == "Data" {
            fs::write(copy.join("size"), format!("{}K\n", geometry.kib))?;
            fs::write(copy.join("ways_of_associativity"), format!("{}\n", geometry.ways))?;
            fs::write(copy.join("coherency_line_size"), "64\n")?;
            fs::write(
                copy.join("number_of_sets"),
                format!("{}\n", geometry.kib * 1024 / 64 / geometry.ways),
            )?;
            first = Some(name);
        }
    }
    match first {
        Some(name) => Ok(name),
        None => bail!("{} describes no first-level data cache", from.display()),
    }
}
