//! Waiting on a stream that the coordinator may drop: when it restarts, the wait goes on.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Result;
use seedfarm_proto::error::retry_after;
use seedfarm_proto::v1;
use tonic::{Code, Status, Streaming};

use crate::client::Farm;
use crate::text::job::is_final;

/// How long a coordinator may be away before a wait is given up.
const PATIENCE: Duration = Duration::from_secs(180);
/// First pause before another try; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest that a coordinator may ask to wait.
const LONGEST_WISH: Duration = Duration::from_secs(60);
/// Longest pause before another try.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Follows a job until nothing more will happen to it; `seen` is told of every change, and of previews
/// where `request` asks for them.
///
/// # Errors
/// If there is no such job, or the coordinator stays away for three minutes.
pub async fn job(
    farm: &Farm,
    request: &v1::WatchJobRequest,
    mut seen: impl FnMut(&v1::WatchJobResponse),
) -> Result<v1::Job> {
    let open = || async { farm.jobs().watch_job(request.clone()).await.map(tonic::Response::into_inner) };
    last(open, |event| {
        seen(event);
        event.job.clone().filter(is_final)
    })
    .await
}

/// Follows a replay until it has a verdict.
///
/// # Errors
/// If there is no such replay, or the coordinator stays away for three minutes.
pub async fn replay(farm: &Farm, replay_id: &str) -> Result<v1::Replay> {
    let open = || async {
        let request = v1::WatchReplayRequest { replay_id: replay_id.to_owned() };
        farm.replays().watch_replay(request).await.map(tonic::Response::into_inner)
    };
    last(open, |event: &v1::WatchReplayResponse| {
        event.replay.clone().filter(|replay| replay.outcome.is_some())
    })
    .await
}

/// Reads streams that `open` gives until `settled` finds what is waited for.
async fn last<T, F, R>(open: impl Fn() -> F, mut settled: impl FnMut(&T) -> Option<R>) -> Result<R>
where
    F: Future<Output = Result<Streaming<T>, Status>>,
{
    let mut pause = FIRST_PAUSE;
    let mut last_word = Instant::now();
    loop {
        let failure = match open().await {
            Err(status) => Some(status),
            Ok(mut stream) => loop {
                match stream.message().await {
                    Ok(Some(event)) => {
                        (pause, last_word) = (FIRST_PAUSE, Instant::now());
                        if let Some(found) = settled(&event) {
                            return Ok(found);
                        }
                    }
                    Ok(None) => break None,
                    Err(status) => break Some(status),
                }
            },
        };
        let asked = failure.as_ref().and_then(retry_after).unwrap_or_default().min(LONGEST_WISH);
        if let Some(status) = failure.filter(|status| !is_passing(status) || last_word.elapsed() > PATIENCE) {
            return Err(status.into());
        }
        tokio::time::sleep(pause.max(asked)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether another try may do better: the coordinator is away, or dropped a reader that was too slow.
fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Cancelled
            | Code::Unknown
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::DataLoss
    )
}
