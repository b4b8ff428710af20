//! What can go wrong around the work, each with the value and the way out.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A fault of the process's surroundings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The port is taken.
    #[error(
        "cannot listen on {address}: the port is in use by another program; stop that program or choose another port"
    )]
    PortInUse {
        /// What was asked for.
        address: SocketAddr,
    },
    /// The address belongs to no interface of this machine.
    #[error(
        "cannot listen on {address}: this machine has no such address; 127.0.0.1 is always there, 0.0.0.0 means every address"
    )]
    NoSuchAddress {
        /// What was asked for.
        address: SocketAddr,
    },
    /// Ports under 1024 are for privileged users.
    #[error("cannot listen on {address}: this user may not take port {}; choose one from 1024 on", address.port())]
    PortForbidden {
        /// What was asked for.
        address: SocketAddr,
    },
    /// The system refused to listen for another reason.
    #[error("cannot listen on {address}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
    /// Not an address to listen on.
    #[error("'{given}' is not an address to listen on: write host:port, such as 127.0.0.1:7740")]
    NotAnAddress {
        /// What was given.
        given: String,
    },
    /// Not an address to connect to.
    #[error("'{given}' is not an address to connect to: write http://host:port or https://host:port")]
    NotAUrl {
        /// What was given.
        given: String,
    },
    /// A certificate authority was given for a connection without TLS.
    #[error("a certificate authority was given, but {url} is without TLS: write https://")]
    AuthorityWithoutTls {
        /// The address.
        url: String,
    },
    /// The file holds no PEM block of the kind that is needed.
    #[error("{} holds no {wanted}: a PEM file with '-----BEGIN ...-----' is needed", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
    },
    /// TLS could not be set up.
    #[error("TLS cannot be set up for {what}")]
    Tls {
        /// The address or file.
        what: String,
        /// The transport's own words.
        #[source]
        source: tonic::transport::Error,
    },
    /// A file could not be read or written.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
    /// A secret file holds no secret.
    #[error("{} holds no token of {least} or more printable characters without spaces: delete it, and a new one is made at the next start", path.display())]
    NotASecret {
        /// The file.
        path: PathBuf,
        /// The shortest secret.
        least: usize,
    },
    /// A token that no header may hold.
    #[error("the token is not one: only printable ASCII characters without spaces may stand in it")]
    NotAToken,
    /// A log filter that cannot be read.
    #[error(
        "{variable}='{given}' is not a log filter: write a level (error, warn, info, debug, trace) or target=level, separated by commas"
    )]
    NotAFilter {
        /// The environment variable.
        variable: String,
        /// Its value.
        given: String,
    },
    /// Signals cannot be waited for.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness")]
    Entropy(#[source] io::Error),
}

/// Turns an error of the file system into ours: `.map_err(failed("read", path))`.
pub(crate) fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RuntimeError {
    let path = path.to_owned();
    move |source| RuntimeError::File { verb, path, source }
}
