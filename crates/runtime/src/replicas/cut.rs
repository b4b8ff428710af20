//! A call that ends when another server takes charge.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

use super::Several;

type Moved = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Ends a call that is under way.
pub(super) struct Cut(Moved);

/// An answer that ends with a status when its server is in charge no more.
pub(super) struct CutBody {
    body: Body,
    /// Absent once it has come to pass.
    moved: Option<Moved>,
    /// Keeps the servers listened to.
    _several: Arc<Several>,
}

/// What a call that was cut ends with.
pub(super) fn another_is_in_charge() -> Status {
    Status::unavailable("the call's server is not in charge any more: another one has taken over")
}

impl Cut {
    pub(super) fn new(moved: Moved) -> Self {
        Self(moved)
    }

    /// Waits until the call is to end.
    pub(super) async fn moved(&mut self) {
        self.0.as_mut().await;
    }

    /// Goes on to guard the call's answer.
    pub(super) fn over(self, body: Body, several: Arc<Several>) -> CutBody {
        CutBody { body, moved: Some(self.0), _several: several }
    }
}

impl http_body::Body for CutBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = http_body::Body::poll_frame(Pin::new(&mut self.body), context) {
            return Poll::Ready(frame);
        }
        let Some(moved) = &mut self.moved else { return Poll::Ready(None) };
        ready!(moved.as_mut().poll(context));
        self.moved = None;
        Poll::Ready(Some(Err(another_is_in_charge())))
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}
