//! A worker that draws instead of rendering, over the real protocol: uploads, completions, heartbeats. It keeps
//! copies of what it completed and sends some again when it must not count any more.

mod copies;
mod render;
mod session;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use seedfarm_core::WorkerId;
use seedfarm_proto::v1;

use self::copies::Copies;
use super::journal::{Journal, Line};
use super::verdict;
use super::wire::Places;
use crate::Random;

/// Pause between two streams, in milliseconds.
const PAUSE_MS: (u64, u64) = (20, 200);

/// How a worker is started.
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    /// Addresses of the coordinators
    #[arg(long, value_delimiter = ',')]
    pub url: Vec<String>,
    /// The workers' token
    #[arg(long)]
    pub token: String,
    /// Which worker this is, from 0
    #[arg(long)]
    pub number: u64,
    /// Where its journal and its copies lie
    #[arg(long)]
    pub folder: PathBuf,
    /// The round's seed
    #[arg(long)]
    pub seed: u64,
    /// Milliseconds that an image takes
    #[arg(long, default_value_t = 2)]
    pub pace_ms: u64,
}

/// What a worker knows over its streams.
pub(super) struct Worker {
    id: WorkerId,
    token: String,
    places: Places<String>,
    pace: Duration,
    random: Random,
    journal: Journal,
    copies: Copies,
    /// Sent and not answered yet, by lease.
    open: BTreeMap<i64, v1::Complete>,
    /// Leases that were taken away.
    lost: HashSet<i64>,
    /// Leases that were settled: nothing of them may be accepted any more. Of a lost one it may, where the
    /// coordinator died before it stored the loss.
    settled: HashSet<i64>,
}

/// Works for ever; a coordinator that is away is tried again.
///
/// # Errors
/// If its folder cannot be written.
pub async fn run(args: WorkerArgs) -> Result<()> {
    let file = |kind: &str| args.folder.join(format!("worker-{}.{kind}", args.number));

    let mut worker = Worker {
        id: verdict::worker_id(args.seed, args.number),
        token: args.token.clone(),
        places: Places::new(args.url.clone())?,
        pace: Duration::from_millis(args.pace_ms),
        random: Random::new(args.seed ^ (args.number + 1) ^ u64::from(std::process::id())),
        journal: Journal::open(&file("journal"))?,
        copies: Copies::open(&file("copies"))?,
        open: BTreeMap::new(),
        lost: HashSet::new(),
        settled: HashSet::new(),
    };
    loop {
        if let Err(error) = session::run(&mut worker).await {
            eprintln!("worker {}: {error:#}", args.number);
        }
        worker.places.rotate();
        let pause = worker.random.between(PAUSE_MS.0, PAUSE_MS.1);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

impl Worker {
    /// Notes what became of a completion; true if the lease was open.
    fn settled(&mut self, settled: &v1::Settled) -> Result<bool> {
        let fence = settled.fence.unwrap_or_default();
        let open = self.open.remove(&fence.lease_id);
        let sent = open.as_ref().or_else(|| self.copies.get(fence.lease_id));
        let Some(complete) = sent else { return Ok(false) };
        let mut lines: Vec<Line> = settled
            .receptions()
            .zip(&complete.images)
            .map(|(reception, image)| Line::Settled {
                job: complete.job_id.clone(),
                index: image.index,
                attempt: fence.attempt,
                reception: name(reception).to_owned(),
            })
            .collect();
        let accepted = settled.receptions().filter(|r| *r == v1::Reception::Accepted).count();
        let is_over = !self.settled.insert(fence.lease_id);
        if accepted > 0 && is_over {
            let what = format!("{accepted} images of lease {} of {}", fence.lease_id, complete.job_id);
            lines.push(Line::StaleAccepted(what));
        }
        self.journal.write(&lines)?;
        Ok(open.is_some())
    }

    /// Notes that a lease is lost; true if it was open.
    fn revoked(&mut self, fence: &v1::Fence) -> Result<bool> {
        self.lost.insert(fence.lease_id);
        self.journal.write(&[Line::Revoked])?;
        Ok(self.open.remove(&fence.lease_id).is_some())
    }
}

fn name(reception: v1::Reception) -> &'static str {
    match reception {
        v1::Reception::Accepted => "accepted",
        v1::Reception::Repeated => "repeated",
        v1::Reception::Stale => "stale",
        v1::Reception::Divergent => "divergent",
        v1::Reception::Unspecified => "unspecified",
    }
}

/// Leases by id, for whoever holds them.
type Fences = HashMap<i64, v1::Fence>;
