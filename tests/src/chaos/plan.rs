//! What breaks when in a round: a function of the round's seed and of what may break, and of nothing else.

use super::fault::Fault;
use crate::Random;

/// Workers of a farm.
pub const WORKERS: usize = 3;
/// A lease's term in milliseconds.
pub const LEASE_TTL_MS: u64 = 2000;
/// Nothing breaks before this, in milliseconds: the first jobs are on their way then.
const QUIET_MS: u64 = 300;

/// A process of the farm that can be killed, stopped and started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The coordinator.
    Coordinator,
    /// The spare coordinator, where there is one.
    Standby,
    /// A worker, from 0.
    Worker(usize),
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
}

/// Where a process runs, for the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// The coordinator's.
    Coordinator,
    /// The spare coordinator's.
    Standby,
    /// A worker's, from 0.
    Worker(usize),
    /// PostgreSQL's and Redis's.
    Database,
    /// The client's.
    Client,
}

/// What is wrong with the way from one host to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// Nothing passes.
    Cut,
    /// This many in a hundred packets are lost.
    Loss(u64),
    /// It is slow.
    Delay,
}

/// Something that is done at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// SIGKILL.
    Kill(Part),
    /// Start again; with a clock that is so many seconds off, if given.
    Start(Part, Option<i64>),
    /// SIGQUIT: PostgreSQL stops at once.
    Quit(Part),
    /// SIGKILL for a process that serves a connection to PostgreSQL.
    KillBackend,
    /// SIGSTOP.
    Stop(Part),
    /// SIGCONT.
    Continue(Part),
    /// The way from one host to another becomes bad.
    Break(Host, Host, Trouble),
    /// It becomes good again.
    Heal(Host, Host, Trouble),
    /// Fills the volume of PostgreSQL or of a worker.
    Fill(Part),
    /// Makes room there again.
    Empty(Part),
    /// Opens a transaction that holds its snapshot for so many milliseconds.
    Snapshot(u64),
    /// Redis forgets everything.
    Flush,
}

/// An act and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Milliseconds after the load began.
    pub at_ms: u64,
    /// The fault that begins with it; absent for what heals one.
    pub fault: Option<Fault>,
    /// The act.
    pub act: Act,
}

/// Draws `faults` faults out of `menu` for a load of `load_ms`, in order of time.
pub fn plan(seed: u64, menu: &[Fault], faults: u64, load_ms: u64) -> Vec<Event> {
    let mut random = Random::new(seed);
    let mut events = Vec::new();
    for _ in 0..if menu.is_empty() { 0 } else { faults } {
        let fault = *random.pick(menu);
        let at_ms = random.between(QUIET_MS, load_ms.max(QUIET_MS + 1));
        let mut drawing = Drawing { random: &mut random, fault, at_ms, load_ms, events: &mut events };
        drawing.draw();
    }
    events.sort_by_key(|event| event.at_ms);
    events
}

/// One fault while it is drawn.
struct Drawing<'a> {
    random: &'a mut Random,
    fault: Fault,
    at_ms: u64,
    load_ms: u64,
    events: &'a mut Vec<Event>,
}

impl Drawing<'_> {
    fn draw(&mut self) {
        let worker = Part::Worker(self.random.below(WORKERS as u64) as usize);
        match self.fault {
            Fault::KillCoordinator => self.down(Act::Kill(Part::Coordinator), Part::Coordinator, None),
            Fault::KillStandby => self.down(Act::Kill(Part::Standby), Part::Standby, None),
            Fault::KillWorker => self.down(Act::Kill(worker), worker, None),
            Fault::KillPostgres => self.down(Act::Kill(Part::Postgres), Part::Postgres, None),
            Fault::KillRedis => self.down(Act::Kill(Part::Redis), Part::Redis, None),
            Fault::RestartPostgres => self.down(Act::Quit(Part::Postgres), Part::Postgres, None),
            Fault::KillBackend => self.begin(Act::KillBackend),
            Fault::FlushRedis => self.begin(Act::Flush),
            Fault::Snapshot => self.begin(Act::Snapshot(self.load_ms.saturating_sub(self.at_ms) + 1000)),
            Fault::StopCoordinator => self.stop(Part::Coordinator),
            Fault::StopWorker => self.stop(worker),
            Fault::PostgresDiskFull => self.fill(Part::Postgres),
            Fault::WorkerDiskFull => self.fill(Part::Worker(0)),
            Fault::Clock => {
                let part = *self.random.pick(&[Part::Coordinator, worker]);
                let seconds = *self.random.pick(&[3600, -3600]);
                self.down(Act::Kill(part), part, Some(seconds));
            }
            Fault::Cut => self.network(Trouble::Cut, true),
            Fault::OneWay => self.network(Trouble::Cut, false),
            Fault::Loss => {
                let percent = self.random.between(5, 40);
                self.network(Trouble::Loss(percent), true);
            }
            Fault::Delay => self.network(Trouble::Delay, true),
        }
    }

    fn begin(&mut self, act: Act) {
        self.events.push(Event { at_ms: self.at_ms, fault: Some(self.fault), act });
    }

    fn later(&mut self, after_ms: u64, act: Act) {
        self.events.push(Event { at_ms: self.at_ms + after_ms, fault: None, act });
    }

    fn down(&mut self, act: Act, part: Part, clock: Option<i64>) {
        self.begin(act);
        let down_ms = self.random.between(0, 1200);
        self.later(down_ms, Act::Start(part, clock));
    }

    fn stop(&mut self, part: Part) {
        self.begin(Act::Stop(part));
        let still_ms = self.random.between(LEASE_TTL_MS + 300, 2 * LEASE_TTL_MS);
        self.later(still_ms, Act::Continue(part));
    }

    fn fill(&mut self, part: Part) {
        self.begin(Act::Fill(part));
        let full_ms = self.random.between(300, 2000);
        self.later(full_ms, Act::Empty(part));
    }

    fn network(&mut self, trouble: Trouble, both_ways: bool) {
        let worker = Host::Worker(self.random.below(WORKERS as u64) as usize);
        let (a, b) = *self.random.pick(&[
            (Host::Coordinator, worker),
            (worker, Host::Coordinator),
            (Host::Coordinator, Host::Database),
            (Host::Database, Host::Coordinator),
            (Host::Client, Host::Coordinator),
        ]);
        let bad_ms = self.random.between(500, 2 * LEASE_TTL_MS);
        self.begin(Act::Break(a, b, trouble));
        self.later(bad_ms, Act::Heal(a, b, trouble));
        if both_ways {
            self.events.push(Event { at_ms: self.at_ms, fault: None, act: Act::Break(b, a, trouble) });
            self.later(bad_ms, Act::Heal(b, a, trouble));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_alone_decides_what_breaks_when() {
        let drawn = plan(7, &Fault::ALL, 20, 5000);
        assert_eq!(drawn, plan(7, &Fault::ALL, 20, 5000));
        assert_ne!(drawn, plan(8, &Fault::ALL, 20, 5000));
        assert_eq!(drawn.iter().filter(|event| event.fault.is_some()).count(), 20);
        assert!(drawn.is_sorted_by_key(|event| event.at_ms));
    }

    #[test]
    fn whatever_goes_down_comes_up_again() {
        for seed in 0..200 {
            let events = plan(seed, &Fault::ALL, 5, 4000);
            let count = |wanted: fn(&Act) -> bool| events.iter().filter(|event| wanted(&event.act)).count();
            let downs = count(|act| matches!(act, Act::Kill(_) | Act::Quit(_)));
            assert_eq!(downs, count(|act| matches!(act, Act::Start(..))), "seed {seed}");
            let stops = count(|act| matches!(act, Act::Stop(_)));
            assert_eq!(stops, count(|act| matches!(act, Act::Continue(_))), "seed {seed}");
            let breaks = count(|act| matches!(act, Act::Break(..)));
            assert_eq!(breaks, count(|act| matches!(act, Act::Heal(..))), "seed {seed}");
            let fills = count(|act| matches!(act, Act::Fill(_)));
            assert_eq!(fills, count(|act| matches!(act, Act::Empty(_))), "seed {seed}");
        }
    }
}
