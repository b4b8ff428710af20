//! FarmService.

mod explain;
mod logs;

use std::collections::HashMap;
use std::sync::Arc;

use seedfarm_core::WorkerId;
use seedfarm_proto::v1::{self, farm_service_server::FarmService};
use seedfarm_store::{CoordinatorRow, Totals, WorkerRow};
use tonic::{Request, Response, Status};

use crate::board::WorkerView;
use crate::farm::{Farm, now_ms};
use crate::faults;
use crate::upkeep::PRESENCE;

use super::{read, tenants};

/// See [`FarmService`].
pub(crate) struct Operator(pub(crate) Arc<Farm>);

#[tonic::async_trait]
impl FarmService for Operator {
    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let store = &self.0.store;
        let totals = store.totals().await.map_err(faults::of_store)?;
        let coordinators = store.coordinators().await.map_err(faults::of_store)?;
        let status = v1::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            database: self.0.database.clone(),
            images: totals.images,
            coordinators: coordinators.into_iter().map(coordinator).collect(),
            ..v1::GetStatusResponse::default()
        };
        let status = if self.0.is_active() {
            self.as_active(status)
        } else {
            let workers = store.workers().await.map_err(faults::of_store)?;
            as_standby(status, &totals, &workers)
        };
        Ok(Response::new(status))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let rows = self.0.store.workers().await.map_err(faults::of_store)?;
        let mut connected: HashMap<WorkerId, WorkerView> = self.0.board().workers().collect();
        let now = now_ms();
        let is_active = self.0.is_active();
        let workers = rows.into_iter().map(|row| {
            let view = connected.remove(&row.id);
            let connected = view.is_some() || (!is_active && was_there(&row, now));
            let refusals = self.0.refusals.of(row.id);
            v1::Worker { refusals, ..worker(row, view, connected, now) }
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

    async fn list_tenants(
        &self,
        _: Request<v1::ListTenantsRequest>,
    ) -> Result<Response<v1::ListTenantsResponse>, Status> {
        tenants::list(&self.0).await.map(Response::new)
    }

    async fn set_tenant(
        &self,
        request: Request<v1::SetTenantRequest>,
    ) -> Result<Response<v1::SetTenantResponse>, Status> {
        tenants::set(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn remove_tenant(
        &self,
        request: Request<v1::RemoveTenantRequest>,
    ) -> Result<Response<v1::RemoveTenantResponse>, Status> {
        tenants::remove(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn set_limit(
        &self,
        request: Request<v1::SetLimitRequest>,
    ) -> Result<Response<v1::SetLimitResponse>, Status> {
        tenants::set_limit(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn remove_limit(
        &self,
        request: Request<v1::RemoveLimitRequest>,
    ) -> Result<Response<v1::RemoveLimitResponse>, Status> {
        tenants::remove_limit(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn list_limits(
        &self,
        _: Request<v1::ListLimitsRequest>,
    ) -> Result<Response<v1::ListLimitsResponse>, Status> {
        tenants::limits(&self.0).await.map(Response::new)
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        explain::explain(&self.0, &request.into_inner().id).await.map(Response::new)
    }

    async fn list_logs(
        &self,
        request: Request<v1::ListLogsRequest>,
    ) -> Result<Response<v1::ListLogsResponse>, Status> {
        logs::list(&self.0, &request.into_inner()).await.map(Response::new)
    }
}

impl Operator {
    fn as_active(&self, status: v1::GetStatusResponse) -> v1::GetStatusResponse {
        let board = self.0.board();
        let workers: Vec<WorkerView> = board.workers().map(|(_, view)| view).collect();
        let devices = workers.iter().map(|worker| worker.devices.len()).sum();
        v1::GetStatusResponse {
            role: v1::CoordinatorRole::Active.into(),
            epoch: self.0.epoch().0,
            workers: count(workers.len()),
            devices: count(devices),
            active_jobs: count(board.active_jobs()),
            leases: count(board.lease_count()),
            ..status
        }
    }
}

/// What a standby knows of the farm is what the active one has stored.
fn as_standby(
    status: v1::GetStatusResponse,
    totals: &Totals,
    workers: &[WorkerRow],
) -> v1::GetStatusResponse {
    let now = now_ms();
    let connected = workers.iter().filter(|row| was_there(row, now)).count();
    v1::GetStatusResponse {
        role: v1::CoordinatorRole::Standby.into(),
        epoch: status.coordinators.first().map_or(0, |first| first.epoch),
        workers: count(connected),
        active_jobs: u32::try_from(totals.active_jobs).unwrap_or(u32::MAX),
        leases: u32::try_from(totals.leases).unwrap_or(u32::MAX),
        ..status
    }
}

/// Whether the active coordinator noted lately that a worker is connected.
fn was_there(row: &WorkerRow, now_ms: i64) -> bool {
    now_ms.saturating_sub(row.last_seen_ms) <= 2 * PRESENCE.as_millis() as i64
}

fn coordinator(row: CoordinatorRow) -> v1::Coordinator {
    let role = if row.is_active { v1::CoordinatorRole::Active } else { v1::CoordinatorRole::Standby };
    let epoch = row.announced.epoch.filter(|_| row.is_active).map_or(0, |epoch| epoch.0);
    v1::Coordinator {
        id: row.announced.id.to_string(),
        address: row.announced.address,
        role: role.into(),
        epoch,
        seen_ms: row.seen_ms,
    }
}

fn worker(row: WorkerRow, view: Option<WorkerView>, connected: bool, now_ms: i64) -> v1::Worker {
    let is_here = view.is_some();
    let draining = view.as_ref().is_some_and(|view| view.draining);
    let tags = view.as_ref().map(|view| view.tags.clone()).unwrap_or_default();
    v1::Worker {
        id: row.id.to_string(),
        name: row.name,
        version: row.version,
        connected,
        draining,
        devices: view.map(|view| view.devices).unwrap_or_default(),
        last_seen_ms: if is_here { now_ms } else { row.last_seen_ms },
        images: row.images,
        tags,
        refusals: Vec::new(),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
