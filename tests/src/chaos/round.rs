//! One round: a farm is started, broken as planned, mended, and held against its promises.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::abilities::Abilities;
use super::client::Kind;
use super::fault::Fault;
use super::plan::{self, Event};
use super::rig::{Rig, Wanted};
use super::servers::Postgres;
use super::verdict::{self, Verdict};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// How long the first acknowledgement may take.
const FIRST: Duration = Duration::from_secs(60);
/// How long the client may take after the load.
const PATIENCE: Duration = Duration::from_secs(180);

/// What is the same for every round of a run.
pub struct Setting<'a> {
    /// What may be broken here.
    pub abilities: &'a Abilities,
    /// PostgreSQL.
    pub postgres: &'a Postgres,
    /// What is to be broken.
    pub menu: Vec<Fault>,
    /// Faults in each round, at least and at most.
    pub faults: (u64, u64),
    /// Milliseconds of load.
    pub load_ms: u64,
    /// Whether there is a spare coordinator.
    pub standby: bool,
}

/// What a round came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// What was broken, how often.
    pub broken: BTreeMap<Fault, u64>,
    /// Processes that ended by themselves, how often.
    pub ended: BTreeMap<String, u64>,
    /// Seconds from the last fault's end until the client had everything.
    pub settled_s: f64,
}

impl Setting<'_> {
    /// Plays a round in `folder`; without faults if `undisturbed`.
    ///
    /// # Errors
    /// If the farm cannot be started, or the client leaves nothing.
    pub fn play(&self, folder: &Path, seed: u64, kind: Kind, undisturbed: bool) -> Result<Outcome> {
        let events = if undisturbed { Vec::new() } else { self.plan(seed, kind) };
        let wanted = Wanted { folder: folder.to_owned(), seed, kind, standby: self.standby, events: &events };
        let mut rig = Rig::start(self.abilities, self.postgres, &wanted)?;
        let mut outcome = Outcome::default();
        let mut client = rig.client(self.load_ms)?;
        client.start()?;
        wait(&mut rig, FIRST, "nothing was acknowledged", || {
            std::fs::metadata(folder.join("acknowledged")).is_ok_and(|data| data.len() > 0)
        })?;
        self.disturb(&mut rig, &events, &mut outcome)?;
        rig.mend()?;
        let mended = Instant::now();
        let patience = Duration::from_millis(self.load_ms) + PATIENCE;
        wait(&mut rig, patience, "the client did not end", || !client.runs())?;
        outcome.settled_s = mended.elapsed().as_secs_f64();
        outcome.ended = rig.ended_by_themselves();
        let unsound = rig.check()?;
        outcome.verdict = verdict::read(folder, seed, &unsound)?;
        Ok(outcome)
    }

    fn plan(&self, seed: u64, kind: Kind) -> Vec<Event> {
        let of_kind = |fault: &Fault| *fault != Fault::WorkerDiskFull || kind == Kind::Real;
        let menu: Vec<Fault> = self.menu.iter().copied().filter(of_kind).collect();
        let (least, most) = self.faults;
        let faults = crate::Random::new(seed ^ 0xfa17).between(least, most);
        plan::plan(seed, &menu, faults, self.load_ms)
    }

    fn disturb(&self, rig: &mut Rig<'_>, events: &[Event], outcome: &mut Outcome) -> Result<()> {
        let start = Instant::now();
        for event in events {
            let due = Duration::from_millis(event.at_ms);
            while start.elapsed() < due {
                rig.tend()?;
                std::thread::sleep(LOOK);
            }
            let done = rig.act(event.act).with_context(|| format!("{:?}", event.act))?;
            if let Some(fault) = event.fault.filter(|_| done) {
                *outcome.broken.entry(fault).or_default() += 1;
            }
        }
        Ok(())
    }
}

fn wait(rig: &mut Rig<'_>, patience: Duration, what: &str, mut enough: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !enough() {
        if start.elapsed() > patience {
            bail!("{what} within {} s", patience.as_secs());
        }
        rig.tend()?;
        std::thread::sleep(LOOK);
    }
    Ok(())
}
