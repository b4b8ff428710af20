//! Secret tokens in files that only their owner may read.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::RuntimeError;
use crate::error::failed;

/// Random bytes of a new secret; it is written as twice as many hexadecimal digits.
const RANDOM_BYTES: usize = 32;
/// The shortest secret that a file may hold.
const LEAST_CHARACTERS: usize = 16;

/// The secret in the file `path`. Where there is no file, one is made with mode 0600 and 256 bits of the
/// operating system's randomness; of several processes that make it at once, all get the same.
///
/// # Errors
/// [`RuntimeError::File`] or [`RuntimeError::NotASecret`], naming the file and never what it holds.
pub fn load_or_create(path: &Path) -> Result<String, RuntimeError> {
    match load(path) {
        Err(RuntimeError::File { source, .. }) if source.kind() == ErrorKind::NotFound => create(path),
        loaded => loaded,
    }
}

/// The secret in the file `path`, which must exist.
///
/// # Errors
/// As [`load_or_create`].
pub fn load(path: &Path) -> Result<String, RuntimeError> {
    let text = fs::read_to_string(path).map_err(failed("read", path))?;
    let secret = text.trim();
    let fits = secret.len() >= LEAST_CHARACTERS && secret.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        return Ok(secret.to_owned());
    }
    Err(RuntimeError::NotASecret { path: path.to_owned(), least: LEAST_CHARACTERS })
}

/// Writes a new secret aside and links it into place, so that the file is never seen half-written and
/// the first of several writers wins.
fn create(path: &Path) -> Result<String, RuntimeError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed("create", folder))?;
    let aside = folder.join(format!(".secret-{}", random_hex(8)?));
    let written = write_new(&aside).and_then(|()| match fs::hard_link(&aside, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed("create", path)(error)),
        _ => Ok(()),
    });
    // Nothing is lost if the file aside stays: its name is random and nobody else reads it.
    fs::remove_file(&aside).unwrap_or_default();
    written?;
    load(path)
}

fn write_new(aside: &Path) -> Result<(), RuntimeError> {
    let secret = random_hex(RANDOM_BYTES)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(aside).map_err(failed("create", aside))?;
    writeln!(file, "{secret}").and_then(|()| file.sync_all()).map_err(failed("write", aside))
}

/// So many bytes of the operating system's randomness, in hexadecimal.
///
/// # Errors
/// [`RuntimeError::Entropy`] if it gives none.
pub fn random_hex(bytes: usize) -> Result<String, RuntimeError> {
    let mut buffer = vec![0_u8; bytes];
    let mut filled = 0;
    while filled < bytes {
        match rustix::rand::getrandom(&mut buffer[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(RuntimeError::Entropy(error.into())),
        }
    }
    Ok(hex::encode(buffer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/client.token");
        let first = load_or_create(&path).unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(load_or_create(&path).unwrap(), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn two_secrets_differ() {
        let folder = tempfile::tempdir().unwrap();
        let secret = |name: &str| load_or_create(&folder.path().join(name)).unwrap();
        assert_ne!(secret("a"), secret("b"));
    }

    #[test]
    fn processes_that_start_at_once_get_one_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let start = std::sync::Barrier::new(8);
        let secrets: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
            let one = || {
                start.wait();
                load_or_create(&path).unwrap()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(secrets.len(), 1);
    }

    #[test]
    fn a_file_without_a_secret_is_refused_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "short pass\n").unwrap();
        let text = load_or_create(&path).unwrap_err().to_string();
        assert!(text.contains("16 or more") && !text.contains("short pass"), "{text}");
    }
}
