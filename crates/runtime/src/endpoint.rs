//! Where a client connects to, from a URL.

use std::path::Path;
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::RuntimeError;
use crate::tls::read_pem;

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without traffic is tried this often, so that a peer that vanished is noticed.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// How long such a try may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The endpoint at `url` (`http://` or `https://`, a host and a port, nothing after it).
///
/// `https://` trusts the certificate authorities of the web, or the one in the PEM file `authority`
/// alone.
///
/// # Errors
/// [`RuntimeError::NotAUrl`] and its neighbours, naming the value.
pub fn endpoint(url: &str, authority: Option<&Path>) -> Result<Endpoint, RuntimeError> {
    let not_a_url = || RuntimeError::NotAUrl { given: url.to_owned() };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| not_a_url())?;
    let uri = endpoint.uri();
    if uri.host().is_none_or(str::is_empty) || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(not_a_url());
    }
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(not_a_url()),
    };
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    match (tls, authority) {
        (false, None) => Ok(endpoint),
        (false, Some(_)) => Err(RuntimeError::AuthorityWithoutTls { url: url.to_owned() }),
        (true, authority) => with_tls(endpoint, url, authority),
    }
}

/// The endpoints at several urls, of which at least one is given; see [`endpoint`].
///
/// # Errors
/// As [`endpoint`], of the first url that is none.
pub fn endpoints(urls: &[String], authority: Option<&Path>) -> Result<Vec<Endpoint>, RuntimeError> {
    if urls.is_empty() {
        return Err(RuntimeError::NotAUrl { given: String::new() });
    }
    urls.iter().map(|url| endpoint(url.trim(), authority)).collect()
}

fn with_tls(endpoint: Endpoint, url: &str, authority: Option<&Path>) -> Result<Endpoint, RuntimeError> {
    let config = match authority {
        None => ClientTlsConfig::new().with_enabled_roots(),
        Some(path) => {
            let pem = read_pem(path, "CERTIFICATE", "certificate")?;
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
        }
    };
    endpoint.tls_config(config).map_err(|source| RuntimeError::Tls { what: url.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_with_and_without_tls_are_taken() {
        for url in ["http://127.0.0.1:7740", "https://farm.example.org:7740", "http://[::1]:7740/"] {
            endpoint(url, None).unwrap();
        }
    }

    #[test]
    fn what_is_no_url_is_named_with_an_example() {
        for url in
            ["", "localhost", "127.0.0.1:7740", "ftp://a:1", "http://a:1/path", "http://a:1?x", "http://"]
        {
            let text = endpoint(url, None).unwrap_err().to_string();
            assert!(text.contains(&format!("'{url}'")) && text.contains("http://host:port"), "{text}");
        }
    }

    #[test]
    fn an_authority_for_a_plain_connection_is_a_mistake() {
        let error = endpoint("http://127.0.0.1:7740", Some(Path::new("ca.pem"))).unwrap_err();
        assert!(matches!(error, RuntimeError::AuthorityWithoutTls { .. }));
    }
}
