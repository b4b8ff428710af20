//! A bearer token on every request.

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::RuntimeError;

/// Adds `authorization: Bearer <token>` to every request; the token is never printed.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    /// Wraps a token.
    ///
    /// # Errors
    /// [`RuntimeError::NotAToken`] if no header may hold it.
    pub fn new(token: &str) -> Result<Self, RuntimeError> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(RuntimeError::NotAToken);
        }
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {token}").parse().map_err(|_| RuntimeError::NotAToken)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer(…)")
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_carries_the_token_and_no_print_shows_it() {
        let mut bearer = Bearer::new("s3cret").unwrap();
        let request = bearer.call(Request::new(())).unwrap();
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer s3cret");
        assert!(!format!("{bearer:?}{request:?}").contains("s3cret"));
    }

    #[test]
    fn a_token_that_no_header_may_hold_is_refused() {
        for token in ["", "two words", "line\nbreak", "schlüssel"] {
            assert!(matches!(Bearer::new(token), Err(RuntimeError::NotAToken)), "{token:?}");
        }
    }
}
