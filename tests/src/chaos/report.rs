//! What a run came to, for people and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fault::Fault;
use super::round::Outcome;
use super::verdict::{Faulty, Work};

/// Sums over rounds.
#[derive(Debug, Default)]
pub struct Report {
    /// The seed of the first round; each next round's is one more.
    pub seed: u64,
    /// Rounds that were played.
    pub rounds: u64,
    /// Seeds of rounds that failed, with the reason.
    pub failed: Vec<(u64, String)>,
    faulty: Faulty,
    work: Work,
    broken: BTreeMap<Fault, u64>,
    missing: BTreeMap<Fault, String>,
    ended: BTreeMap<String, u64>,
    slowest_s: f64,
}

impl Report {
    /// An empty report of a run whose first round has `seed`; faults that cannot happen have their reason.
    pub fn new(seed: u64, missing: BTreeMap<Fault, String>) -> Self {
        Self { seed, missing, ..Self::default() }
    }

    /// Adds a round.
    pub fn add(&mut self, outcome: &Outcome) {
        self.faulty += outcome.verdict.faulty;
        self.work += outcome.verdict.work;
        for (&fault, &times) in &outcome.broken {
            *self.broken.entry(fault).or_default() += times;
        }
        for (name, &times) in &outcome.ended {
            *self.ended.entry(name.clone()).or_default() += times;
        }
        self.slowest_s = self.slowest_s.max(outcome.settled_s);
    }

    /// Whether everything that must be 0 is, and at least one round was played.
    pub fn is_clean(&self) -> bool {
        self.rounds > 0 && self.failed.is_empty() && self.faulty.is_clean()
    }

    fn kills(&self) -> u64 {
        self.broken.iter().filter(|(fault, _)| fault.is_kill()).map(|(_, times)| times).sum()
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let names = |fault: &Fault| fault.as_str().to_owned();
        json!({
            "seed": self.seed,
            "rounds": self.rounds,
            "clean": self.is_clean(),
            "must_be_0": self.faulty,
            "work": self.work,
            "kills": self.kills(),
            "faults": self.broken.iter().map(|(fault, times)| (names(fault), times)).collect::<BTreeMap<_, _>>(),
            "not_run": self.missing.iter().map(|(fault, why)| (names(fault), why)).collect::<BTreeMap<_, _>>(),
            "ended_by_themselves": self.ended,
            "slowest_settling_s": self.slowest_s,
            "failed_seeds": self.failed.iter().map(|(seed, _)| seed).collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |what: &str, value: String| text.push_str(&format!("{what:<28} {value}\n"));
        line("rounds", self.rounds.to_string());
        if self.rounds > 0 {
            line("seeds", format!("{} to {}", self.seed, self.seed + self.rounds - 1));
        }
        for fault in Fault::ALL {
            let times = self.broken.get(&fault).copied().unwrap_or_default();
            match self.missing.get(&fault) {
                Some(why) => line(fault.as_str(), format!("not run: {why}")),
                None => line(fault.as_str(), times.to_string()),
            }
        }
        line("processes killed -9", self.kills().to_string());
        line("jobs acknowledged", self.work.jobs.to_string());
        line("images acknowledged", self.work.images.to_string());
        line("images drawn", self.work.drawn.to_string());
        line("images drawn in vain", self.work.wasted.to_string());
        line("completions sent too late", self.work.resent.to_string());
        line("images of these not counted", self.work.refused.to_string());
        line("leases taken away", self.work.revoked.to_string());
        line("slowest settling, seconds", format!("{:.1}", self.slowest_s));
        for (name, times) in &self.ended {
            line("ended by itself", format!("{name} {times}"));
        }
        let Faulty { lost, duplicated, stale_accepted, unaccounted, unequal, unsound } = self.faulty;
        line("acknowledged and lost", lost.to_string());
        line("duplicated", duplicated.to_string());
        line("stale accepted", stale_accepted.to_string());
        line("unaccounted", unaccounted.to_string());
        line("unequal to undisturbed", unequal.to_string());
        line("findings of db check", unsound.to_string());
        for (seed, why) in &self.failed {
            line("FAILED", format!("seed {seed}: {why}"));
        }
        line("verdict", if self.is_clean() { "clean" } else { "NOT CLEAN" }.to_owned());
        text
    }
}
