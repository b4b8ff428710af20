//! The log writer: what workers tell of their attempts goes into the store, a batch a statement. It stands
//! beside the commit lanes and nothing waits for it: what comes faster than it is written is dropped, and
//! what waits here is lost when the coordinator is killed.

use std::error::Error;
use std::sync::Arc;

use seedfarm_store::AttemptLog;
use tokio::sync::mpsc;

use crate::farm::Farm;

/// Logs that may wait; each has at most 64 KiB.
pub(crate) const WAITING: usize = 512;
/// Most logs of one statement.
const BATCH: usize = 128;

/// Writes until the coordinator stops, and then what is there already.
pub(crate) async fn run(farm: Arc<Farm>, mut logs: mpsc::Receiver<AttemptLog>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            biased;
            _ = logs.recv_many(&mut batch, BATCH) => {}
            () = farm.stopping.cancelled() => return,
        }
        if let Err(fault) = farm.store.put_logs(&batch).await {
            let lost = batch.len();
            tracing::warn!(lost, error = &fault as &dyn Error, "logs of attempts are lost");
        }
        batch.clear();
    }
}
