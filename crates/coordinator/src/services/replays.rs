//! ReplayService.

mod create;
mod original;

use std::sync::Arc;

use seedfarm_core::ReplayId;
use seedfarm_proto::v1::{self, replay_service_server::ReplayService};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::jobs::{Answers, limit_of};
use super::read;
use crate::farm::Farm;
use crate::{faults, wire};

/// Replays answered when a request names no limit.
const DEFAULT: u32 = 50;
/// Most replays of one answer.
const MOST: u32 = 1000;

/// See [`ReplayService`].
pub(crate) struct Replays(pub(crate) Arc<Farm>);

#[tonic::async_trait]
impl ReplayService for Replays {
    async fn create_replay(
        &self,
        request: Request<v1::CreateReplayRequest>,
    ) -> Result<Response<v1::CreateReplayResponse>, Status> {
        let replay = create::create(&self.0, request.into_inner()).await?;
        Ok(Response::new(v1::CreateReplayResponse { replay: Some(replay) }))
    }

    async fn get_replay(
        &self,
        request: Request<v1::GetReplayRequest>,
    ) -> Result<Response<v1::GetReplayResponse>, Status> {
        let id = read(&request.into_inner().replay_id)?;
        let replay = stored(&self.0, id).await?;
        Ok(Response::new(v1::GetReplayResponse { replay: Some(replay) }))
    }

    type WatchReplayStream = Answers<v1::WatchReplayResponse>;

    async fn watch_replay(
        &self,
        request: Request<v1::WatchReplayRequest>,
    ) -> Result<Response<Self::WatchReplayStream>, Status> {
        let id = read(&request.into_inner().replay_id)?;
        // Watching starts before the first look, so that no verdict falls between.
        let events = self.0.hub.replays.watch(id);
        stored(&self.0, id).await?;
        let (answers, receiver) = mpsc::channel(2);
        self.0.tasks.spawn(watch(Arc::clone(&self.0), id, events, answers));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list_replays(
        &self,
        request: Request<v1::ListReplaysRequest>,
    ) -> Result<Response<v1::ListReplaysResponse>, Status> {
        let limit = limit_of(request.into_inner().limit, DEFAULT, MOST);
        let rows = self.0.store.replays(limit).await.map_err(faults::of_store)?;
        Ok(Response::new(v1::ListReplaysResponse { replays: rows.iter().map(wire::replay).collect() }))
    }
}

async fn stored(farm: &Farm, id: ReplayId) -> Result<v1::Replay, Status> {
    let row = farm.store.replay(id).await.map_err(faults::of_store)?;
    let row = row.ok_or_else(|| faults::not_found("REPLAY_NOT_FOUND", format!("{id} is unknown")))?;
    Ok(wire::replay(&row))
}

type Answer = Result<v1::WatchReplayResponse, Status>;

/// The replay as it is, and again when its verdict is there.
async fn watch(farm: Arc<Farm>, id: ReplayId, mut events: Receiver<()>, answers: mpsc::Sender<Answer>) {
    loop {
        let (answer, over) = match stored(&farm, id).await {
            Ok(replay) => {
                let over = replay.outcome.is_some();
                (Ok(v1::WatchReplayResponse { replay: Some(replay) }), over)
            }
            Err(status) => (Err(status), true),
        };
        if answers.send(answer).await.is_err() || over {
            return;
        }
        tokio::select! {
            event = events.recv() => if matches!(event, Err(RecvError::Closed)) { return },
            () = farm.look_again() => {}
            () = answers.closed() => return,
            () = farm.stopping.cancelled() => {
                // A reader that is gone or slow learns it from the connection's end.
                let _ = answers.try_send(Err(faults::stopping()));
                return;
            }
        }
    }
}
