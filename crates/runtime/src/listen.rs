//! Taking a port, with a plain word where that fails.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::{TcpListener, lookup_host};

use crate::RuntimeError;

/// Resolves `host:port`; the first address counts.
///
/// # Errors
/// [`RuntimeError::NotAnAddress`] if it is none, or its host is unknown.
pub async fn resolve(given: &str) -> Result<SocketAddr, RuntimeError> {
    let not_an_address = || RuntimeError::NotAnAddress { given: given.to_owned() };
    let mut addresses = lookup_host(given).await.map_err(|_| not_an_address())?;
    addresses.next().ok_or_else(not_an_address)
}

/// Listens on `address`; port 0 takes a free one.
///
/// # Errors
/// One of the listening errors of [`RuntimeError`], with the address and the way out.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, RuntimeError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => RuntimeError::PortInUse { address },
        ErrorKind::AddrNotAvailable => RuntimeError::NoSuchAddress { address },
        ErrorKind::PermissionDenied => RuntimeError::PortForbidden { address },
        _ => RuntimeError::Listen { address, source },
    })
}

/// An address under which this machine reaches a listener on `address`: a wildcard becomes loopback.
#[must_use]
pub fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_way_out() {
        let first = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = first.local_addr().unwrap();
        let text = bind(address).await.unwrap_err().to_string();
        assert!(text.contains(&address.to_string()), "{text}");
        assert!(text.contains("in use by another program") && text.contains("choose another port"), "{text}");
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_refused() {
        // 192.0.2.0/24 is set aside for documentation (RFC 5737), so no machine has it.
        let error = bind("192.0.2.1:9".parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, RuntimeError::NoSuchAddress { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_word_without_a_port_is_no_address() {
        let error = resolve("localhost").await.unwrap_err();
        assert!(error.to_string().contains("'localhost'"));
        assert!(resolve("127.0.0.1:7740").await.is_ok());
    }

    #[test]
    fn a_wildcard_is_reached_over_loopback() {
        assert_eq!(reachable("0.0.0.0:7".parse().unwrap()), "127.0.0.1:7".parse().unwrap());
        assert_eq!(reachable("[::]:7".parse().unwrap()), "[::1]:7".parse().unwrap());
        assert_eq!(reachable("192.0.2.1:7".parse().unwrap()), "192.0.2.1:7".parse().unwrap());
    }
}
