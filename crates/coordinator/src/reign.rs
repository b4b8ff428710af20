//! Keeping the right to write. The lock is lost with its connection, as when the database is restarted;
//! it is taken again unless another coordinator was quicker.

use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::Epoch;
use seedfarm_store::{Bid, Reign, StoreError};
use tokio_util::sync::CancellationToken;

use crate::CoordinatorError;
use crate::farm::Farm;

/// Pause between attempts to take the lock again.
const PAUSE: Duration = Duration::from_millis(200);

/// Keeps the reign until `last` is cancelled, then lets it go.
pub(crate) async fn keep(farm: Arc<Farm>, mut reign: Reign, last: CancellationToken) {
    loop {
        tokio::select! {
            () = reign.lost() => {}
            () = last.cancelled() => return reign.end().await,
        }
        tracing::warn!("the lock on the database is lost; taking it again");
        farm.doubt_reign();
        let again = tokio::select! {
            again = take_again(&farm) => again,
            () = last.cancelled() => return,
        };
        match again {
            Ok(taken) => {
                farm.renew_reign(taken.epoch());
                tracing::info!(epoch = %taken.epoch(), "the lock on the database is held again");
                reign = taken;
            }
            Err(why) => return farm.step_down(why),
        }
    }
}

/// Takes the lock again. Only if the epoch moves by our own step has nobody else written meanwhile, so
/// that what is in memory still holds.
async fn take_again(farm: &Farm) -> Result<Reign, CoordinatorError> {
    let before = farm.epoch();
    loop {
        match bid(farm).await {
            Ok(Some(reign)) if reign.epoch() == Epoch(before.0 + 1) => return Ok(reign),
            Ok(Some(_)) => return Err(CoordinatorError::TakenOver { epoch: before }),
            Ok(None) => still_ours(farm, before).await?,
            Err(fault) if fault.is_transient() => {}
            Err(fault) => return Err(CoordinatorError::of_store("take the lock again", fault)),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Tries once. The holder may be our own broken connection, which the database has not noticed yet; it shows
/// no pulse.
async fn bid(farm: &Farm) -> Result<Option<Reign>, StoreError> {
    match farm.store.candidate().await?.bid().await? {
        Bid::Taken(reign) => Ok(Some(reign)),
        Bid::Held(mut candidate) => {
            candidate.end_silent_holder().await?;
            Ok(None)
        }
    }
}

async fn still_ours(farm: &Farm, epoch: Epoch) -> Result<(), CoordinatorError> {
    match farm.store.snapshot(epoch).await {
        Err(fault @ StoreError::Deposed { .. }) => {
            Err(CoordinatorError::of_store("take the lock again", fault))
        }
        _ => Ok(()),
    }
}
