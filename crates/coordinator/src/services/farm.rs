//! FarmService.

use std::collections::HashMap;
use std::sync::Arc;

use seedfarm_core::WorkerId;
use seedfarm_proto::v1::{self, farm_service_server::FarmService};
use seedfarm_store::WorkerRow;
use tonic::{Request, Response, Status};

use crate::board::WorkerView;
use crate::farm::{Farm, now_ms};
use crate::faults;

use super::read;

/// See [`FarmService`].
pub(crate) struct Operator(pub(crate) Arc<Farm>);

#[tonic::async_trait]
impl FarmService for Operator {
    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let totals = self.0.store.totals().await.map_err(faults::of_store)?;
        let board = self.0.board();
        let workers: Vec<WorkerView> = board.workers().map(|(_, view)| view).collect();
        let devices = workers.iter().map(|worker| worker.devices.len()).sum();
        Ok(Response::new(v1::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: self.0.epoch().0,
            database: self.0.database.clone(),
            workers: count(workers.len()),
            devices: count(devices),
            active_jobs: count(board.active_jobs()),
            leases: count(board.lease_count()),
            images: totals.images,
        }))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let rows = self.0.store.workers().await.map_err(faults::of_store)?;
        let mut connected: HashMap<WorkerId, WorkerView> = self.0.board().workers().collect();
        let now = now_ms();
        let workers = rows.into_iter().map(|row| {
            let view = connected.remove(&row.id);
            worker(row, view, now)
        });
        Ok(Response::new(v1::ListWorkersResponse { workers: workers.collect() }))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerResponse>, Status> {
        let id: WorkerId = read(&request.into_inner().worker_id)?;
        if !self.0.board().drain(id) {
            let message = format!("{id} is not connected: list workers to see who is");
            return Err(faults::not_found("WORKER_NOT_CONNECTED", message));
        }
        self.0.wake.notify_one();
        Ok(Response::new(v1::DrainWorkerResponse {}))
    }
}

fn worker(row: WorkerRow, view: Option<WorkerView>, now_ms: i64) -> v1::Worker {
    let connected = view.is_some();
    let draining = view.as_ref().is_some_and(|view| view.draining);
    v1::Worker {
        id: row.id.to_string(),
        name: row.name,
        version: row.version,
        connected,
        draining,
        devices: view.map(|view| view.devices).unwrap_or_default(),
        last_seen_ms: if connected { now_ms } else { row.last_seen_ms },
        images: row.images,
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
