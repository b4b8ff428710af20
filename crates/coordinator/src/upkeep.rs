//! What happens by the clock: leases expire, who is connected is noted, and old logs are removed.

use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::completion::FailureClass;
use seedfarm_proto::v1::{self, session_response::Message};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::farm::Farm;
use crate::lanes::Ending;

/// How often the store is told who is connected.
pub(crate) const PRESENCE: Duration = Duration::from_secs(30);

/// How often old logs of attempts are looked for.
const LOGS: Duration = Duration::from_secs(600);

/// Takes leases back whose time is over, until the coordinator stops. They are looked for ten times in
/// each term.
pub(crate) async fn expire(farm: Arc<Farm>) {
    let mut ticks = interval((farm.timing.lease_ttl / 10).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = farm.stopping.cancelled() => return,
        }
        let expired = take_expired(&farm);
        for lease in expired {
            let ending = Ending::Release { lease, class: FailureClass::Worker };
            if farm.endings.send(ending).await.is_err() {
                return;
            }
        }
    }
}

fn take_expired(farm: &Farm) -> Vec<seedfarm_core::LeaseId> {
    let mut board = farm.board();
    let expired = board.expire(Instant::now());
    for &lease in &expired {
        if let Some((worker, fence)) = board.holder(lease) {
            tracing::warn!(worker.id = %worker, lease.id = %lease, "a lease expired; its images go to another");
            let reason = "the lease was not renewed in time".to_owned();
            board.send(worker, Message::Revoke(v1::Revoke { fence: Some(fence.into()), reason }));
        }
    }
    expired
}

/// Notes who is connected, until the coordinator stops.
pub(crate) async fn note_presence(farm: Arc<Farm>) {
    let mut ticks = interval(PRESENCE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = farm.stopping.cancelled() => return,
        }
        let connected = farm.board().connected();
        if let Err(fault) = farm.store.touch_workers(&connected).await {
            tracing::debug!(error = &fault as &dyn std::error::Error, "presence was not noted");
        }
    }
}

/// Removes old logs of attempts, some at a time, until the coordinator stops.
pub(crate) async fn remove_logs(farm: Arc<Farm>) {
    let mut ticks = interval(LOGS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut more = false;
    loop {
        if !more {
            tokio::select! {
                _ = ticks.tick() => {}
                () = farm.stopping.cancelled() => return,
            }
        }
        more = !farm.stopping.is_cancelled() && remove_some_logs(&farm).await;
    }
}

/// Says whether there may be more to remove.
async fn remove_some_logs(farm: &Farm) -> bool {
    farm.store.remove_old_logs().await.unwrap_or_else(|fault| {
        tracing::debug!(error = &fault as &dyn std::error::Error, "old logs were not removed");
        false
    })
}
