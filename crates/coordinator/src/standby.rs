//! A term as standby: answers what reads, and waits for the right to write.

use std::time::Duration;

use seedfarm_store::{Bid, Reign, StoreError};

use crate::CoordinatorError;
use crate::farm::Farm;
use crate::replica::Replica;

/// Pause between two looks at the active coordinator.
const LOOK: Duration = Duration::from_millis(200);
/// Pause after a holder was ended, which takes the database a moment.
const MOMENT: Duration = Duration::from_millis(20);

/// Stands by until the right to write is to be had. `None` when the coordinator is to stop.
pub(crate) async fn wait(replica: &Replica) -> Result<Option<Reign>, CoordinatorError> {
    let farm = replica.standby();
    replica.turn_to(&farm).await;
    tokio::select! {
        reign = win(&farm) => Ok(Some(reign?)),
        () = replica.stop.cancelled() => Ok(None),
    }
}

/// Waits for the right to write through whatever passes.
async fn win(farm: &Farm) -> Result<Reign, CoordinatorError> {
    loop {
        match campaign(farm).await {
            Ok(reign) => return Ok(reign),
            Err(fault) if fault.is_transient() => {
                tracing::warn!(error = &fault as &dyn std::error::Error, "cannot look after the active one");
            }
            Err(fault) => return Err(CoordinatorError::of_store("stand by", fault)),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Tries on one connection until it has the right to write.
async fn campaign(farm: &Farm) -> Result<Reign, StoreError> {
    let mut candidate = farm.store.candidate().await?;
    loop {
        candidate = match candidate.bid().await? {
            Bid::Taken(reign) => return Ok(reign),
            Bid::Held(candidate) => candidate,
        };
        follow_active(farm).await?;
        let pause = if candidate.end_silent_holder().await? {
            tracing::warn!("the active coordinator shows no pulse: its connection is ended");
            MOMENT
        } else {
            LOOK
        };
        tokio::time::sleep(pause).await;
    }
}

/// Notes where the active coordinator is, and says so when it is news.
async fn follow_active(farm: &Farm) -> Result<(), StoreError> {
    let coordinators = farm.store.coordinators().await?;
    let active = coordinators.into_iter().find(|row| row.is_active).map(|row| row.announced.address);
    if let Some(address) = active
        && farm.note_active(&address)
    {
        tracing::info!("standing by: the coordinator at {address} is active");
    }
    Ok(())
}
