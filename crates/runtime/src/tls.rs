//! A server's certificate and key from files.

use std::path::Path;

use tonic::transport::{Identity, ServerTlsConfig};

use crate::RuntimeError;
use crate::error::failed;

/// TLS for a server, from a PEM file with its certificate chain and one with its private key.
///
/// # Errors
/// [`RuntimeError::File`] or [`RuntimeError::NotPem`], each naming the file.
pub fn server(certificate: &Path, key: &Path) -> Result<ServerTlsConfig, RuntimeError> {
    let certificate = read_pem(certificate, "CERTIFICATE", "certificate")?;
    let key = read_pem(key, "PRIVATE KEY", "private key")?;
    Ok(ServerTlsConfig::new().identity(Identity::from_pem(certificate, key)))
}

/// Reads a file that must hold a PEM block whose label ends in `label`.
pub(crate) fn read_pem(path: &Path, label: &str, wanted: &'static str) -> Result<String, RuntimeError> {
    let text = std::fs::read_to_string(path).map_err(failed("read", path))?;
    let opens = |line: &str| {
        line.trim_end()
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.strip_suffix("-----"))
            .is_some_and(|found| found.ends_with(label))
    };
    if text.lines().any(opens) {
        return Ok(text);
    }
    Err(RuntimeError::NotPem { path: path.to_owned(), wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_the_place_of_a_certificate_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.pem");
        std::fs::write(&key, "-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n").unwrap();
        let text = server(&key, &key).unwrap_err().to_string();
        assert!(text.contains("key.pem holds no certificate"), "{text}");
        assert!(read_pem(&key, "PRIVATE KEY", "private key").is_ok());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = server(Path::new("/nowhere/cert.pem"), Path::new("/nowhere/key.pem")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nowhere/cert.pem");
    }
}
