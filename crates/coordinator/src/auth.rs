//! Who may call what: a bearer token for workers, another for clients.

use std::fmt;

use seedfarm_core::digest::sha256;
use seedfarm_proto::error;
use tonic::service::Interceptor;
use tonic::{Code, Request, Status};

use crate::quotas::Caller;
use crate::switch::Closed;

/// The tokens that open the services.
#[derive(Clone)]
pub struct Tokens {
    /// Opens every service but the worker's.
    pub client: String,
    /// Opens the worker's service alone.
    pub worker: String,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(…)")
    }
}

/// Lets requests pass that carry `authorization: Bearer <token>`, unless the present term does not answer
/// them.
#[derive(Clone)]
pub(crate) struct Gate {
    /// SHA-256 of the token, so that comparing takes the same time whatever was sent.
    expected: [u8; 32],
    whose: &'static str,
}

impl Gate {
    pub(crate) fn for_clients(tokens: &Tokens) -> Self {
        Self { expected: sha256(tokens.client.as_bytes()), whose: "client" }
    }

    pub(crate) fn for_workers(tokens: &Tokens) -> Self {
        Self { expected: sha256(tokens.worker.as_bytes()), whose: "worker" }
    }

    fn refuse(&self, what: &str) -> Status {
        let whose = self.whose;
        let message = format!(
            "the {whose} token is {what}: pass the token that the coordinator keeps in {whose}.token in its data folder"
        );
        error::status(Code::Unauthenticated, "WRONG_TOKEN", message)
    }
}

impl Interceptor for Gate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let given = request.metadata().get("authorization").ok_or_else(|| self.refuse("missing"))?;
        let token = given.as_bytes().strip_prefix(b"Bearer ").ok_or_else(|| self.refuse("missing"))?;
        let unequal = sha256(token).iter().zip(&self.expected).fold(0, |sum, (a, b)| sum | (a ^ b));
        if unequal != 0 {
            return Err(self.refuse("wrong"));
        }
        if let Some(Closed(refusal)) = request.extensions().get::<Closed>() {
            return Err(refusal.clone());
        }
        request.extensions_mut().insert(Caller(self.expected));
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        if let Some(value) = value {
            request.metadata_mut().insert("authorization", value.parse().unwrap());
        }
        request
    }

    #[test]
    fn each_token_opens_its_own_door_alone() {
        let tokens = Tokens { client: "c".into(), worker: "w".into() };
        let (mut clients, mut workers) = (Gate::for_clients(&tokens), Gate::for_workers(&tokens));
        assert!(clients.call(with(Some("Bearer c"))).is_ok());
        assert!(workers.call(with(Some("Bearer w"))).is_ok());
        for wrong in [None, Some("Bearer w"), Some("Bearer cc"), Some("c"), Some("Bearer ")] {
            let status = clients.call(with(wrong)).unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated);
            assert_eq!(error::reason_of(&status).as_deref(), Some("WRONG_TOKEN"));
        }
        assert!(workers.call(with(Some("Bearer c"))).is_err());
    }

    #[test]
    fn tokens_are_never_printed() {
        let tokens = Tokens { client: "s3cret".into(), worker: "hidden".into() };
        let text = format!("{tokens:?}");
        assert!(!text.contains("s3cret") && !text.contains("hidden"));
    }
}
