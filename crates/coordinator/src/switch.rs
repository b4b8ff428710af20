//! What answers calls at present: a replica is now active, now standby, and the connections of its callers
//! outlive both.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tonic::Status;
use tonic::codegen::{Body, Bytes, Service, StdError, http};
use tonic::service::Routes;

use crate::farm::Farm;
use crate::faults;

/// How the names of calls begin that only read.
const READS: [&str; 4] = ["Get", "List", "Watch", "Fetch"];
/// The service that a standby does not offer at all.
const WORKERS_ALONE: &str = "WorkerService";

/// Rides with a call that is not to be answered, to be told to whoever shows a token.
#[derive(Debug, Clone)]
pub(crate) struct Closed(pub(crate) Status);

/// Passes calls on to the farm of the present term.
#[derive(Clone)]
pub(crate) struct Switch(Arc<Mutex<Term>>);

/// A farm and the services that are in front of it.
#[derive(Clone)]
struct Term {
    farm: Arc<Farm>,
    routes: Routes,
}

impl Switch {
    pub(crate) fn new(farm: Arc<Farm>, routes: Routes) -> Self {
        Self(Arc::new(Mutex::new(Term { farm, routes })))
    }

    /// From now on calls go to this farm. Streams of the one before are ended, so that their readers come
    /// back to this one.
    pub(crate) fn turn_to(&self, farm: Arc<Farm>, routes: Routes) {
        let before = std::mem::replace(&mut *self.term(), Term { farm, routes });
        before.farm.stopping.cancel();
    }

    /// The farm of the present term.
    pub(crate) fn farm(&self) -> Arc<Farm> {
        Arc::clone(&self.term().farm)
    }

    fn term(&self) -> MutexGuard<'_, Term> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Service<http::Request<B>> for Switch
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = <Routes as Service<http::Request<B>>>::Response;
    type Error = <Routes as Service<http::Request<B>>>::Error;
    type Future = <Routes as Service<http::Request<B>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Routes of gRPC services are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let Term { farm, mut routes } = self.term().clone();
        if !farm.is_active() && !is_read(request.uri().path()) {
            let refusal = faults::not_active(farm.active_address().as_deref());
            request.extensions_mut().insert(Closed(refusal));
        }
        routes.call(request)
    }
}

/// Whether a standby answers the call at this path.
fn is_read(path: &str) -> bool {
    let (service, method) = path.rsplit_once('/').unwrap_or_default();
    !service.ends_with(WORKERS_ALONE) && READS.iter().any(|verb| method.starts_with(verb))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_answers_what_reads_and_nothing_of_workers() {
        for path in ["JobService/GetJob", "JobService/WatchJob", "FarmService/ListWorkers"] {
            assert!(is_read(&format!("/seedfarm.v1.{path}")), "{path}");
        }
        for path in ["JobService/SubmitJob", "WorkerService/Session", "WorkerService/FetchPicture", "x", ""] {
            assert!(!is_read(&format!("/seedfarm.v1.{path}")), "{path}");
        }
    }
}
