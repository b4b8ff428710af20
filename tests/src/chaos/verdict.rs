//! What a round came to: everything that must not be, counted.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::path::Path;

use anyhow::{Context, Result};
use seedfarm_core::WorkerId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{Findings, Seen};
use super::journal::{self, Line};
use super::plan::WORKERS;

/// Counts that must all be 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Faulty {
    /// Images that were acknowledged and are gone.
    pub lost: u64,
    /// Images that are there twice or were accepted twice, and jobs that are.
    pub duplicated: u64,
    /// Images that were accepted of a lease that was over.
    pub stale_accepted: u64,
    /// Images of acknowledged jobs without a result in the end.
    pub unaccounted: u64,
    /// Images with other pixels than those of an undisturbed run.
    pub unequal: u64,
    /// What `seedfarm db check` finds.
    pub unsound: u64,
}

impl Faulty {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Faulty {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.stale_accepted += other.stale_accepted;
        self.unaccounted += other.unaccounted;
        self.unequal += other.unequal;
        self.unsound += other.unsound;
    }
}

/// Counts that say how hard it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Jobs that were acknowledged.
    pub jobs: u64,
    /// Images in them.
    pub images: u64,
    /// Images that workers drew.
    pub drawn: u64,
    /// Images that they drew more than once, because a lease was lost.
    pub wasted: u64,
    /// Completions that were sent when they must not count any more.
    pub resent: u64,
    /// Images of these that were refused or known.
    pub refused: u64,
    /// Leases that were taken away.
    pub revoked: u64,
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.jobs += other.jobs;
        self.images += other.images;
        self.drawn += other.drawn;
        self.wasted += other.wasted;
        self.resent += other.resent;
        self.refused += other.refused;
        self.revoked += other.revoked;
    }
}

/// A round's verdict.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// What must be 0.
    pub faulty: Faulty,
    /// How hard it was.
    pub work: Work,
    /// What was wrong, in words.
    pub notes: Vec<String>,
    /// Every image that is there.
    pub images: Vec<Seen>,
}

/// Reads what client and workers left in a round's folder.
///
/// # Errors
/// If the client left nothing.
pub fn read(folder: &Path, seed: u64, unsound: &[String]) -> Result<Verdict> {
    let findings: Findings = document(folder, "findings.json")?;
    let images: Vec<Seen> = document(folder, "images.json")?;
    let mut verdict = Verdict {
        faulty: Faulty {
            lost: findings.lost,
            duplicated: findings.duplicated,
            unaccounted: findings.unaccounted,
            unequal: findings.unequal,
            unsound: unsound.len() as u64,
            stale_accepted: 0,
        },
        work: Work { jobs: findings.jobs, images: findings.images, ..Work::default() },
        notes: findings.notes,
        images: Vec::new(),
    };
    verdict.notes.extend(unsound.iter().cloned());
    let mut accepted = Vec::new();
    for number in 0..WORKERS as u64 {
        let lines = journal::read(&folder.join(format!("worker-{number}.journal")))?;
        let worker = worker_id(seed, number);
        lines.into_iter().for_each(|line| verdict.hear(line, &worker, &mut accepted));
    }
    verdict.work.wasted = verdict.work.drawn.saturating_sub(verdict.work.images);
    verdict.compare(accepted, &images);
    verdict.images = images;
    Ok(verdict)
}

/// The id of a worker that draws.
pub fn worker_id(seed: u64, number: u64) -> WorkerId {
    WorkerId::from_uuid(uuid::Uuid::from_u128(u128::from(seed) << 64 | u128::from(number + 1)))
}

fn document<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<T> {
    let path = folder.join(name);
    let bytes = std::fs::read(&path).with_context(|| format!("the client left no {name}"))?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// An image that a worker was told is accepted.
struct Accepted {
    image: (String, u64),
    worker: String,
    attempt: i32,
}

impl Verdict {
    fn hear(&mut self, line: Line, worker: &WorkerId, accepted: &mut Vec<Accepted>) {
        match line {
            Line::Settled { job, index, attempt, reception } => match reception.as_str() {
                "accepted" => {
                    accepted.push(Accepted { image: (job, index), worker: worker.to_string(), attempt });
                }
                "divergent" => self.faulty.unequal += 1,
                _ => self.work.refused += 1,
            },
            Line::Drawn(images) => self.work.drawn += images,
            Line::Resent => self.work.resent += 1,
            Line::Revoked => self.work.revoked += 1,
            Line::StaleAccepted(what) => {
                self.faulty.stale_accepted += 1;
                self.notes
                    .push(format!("{worker} was told that {what} were accepted, of a lease that was over"));
            }
        }
    }

    /// What workers were told, held against what is there.
    fn compare(&mut self, accepted: Vec<Accepted>, images: &[Seen]) {
        let stored: BTreeMap<(&str, u64), &Seen> =
            images.iter().map(|seen| ((seen.job.as_str(), seen.index), seen)).collect();
        let mut told = BTreeMap::new();
        for Accepted { image, worker, attempt } in accepted {
            let shown = format!("{}/{}", image.0, image.1);
            match stored.get(&(image.0.as_str(), image.1)) {
                None => {
                    self.faulty.lost += 1;
                    self.notes.push(format!("{shown} was accepted from {worker} and is not there"));
                }
                Some(seen) if (&seen.worker, seen.attempt) != (&worker, attempt) => {
                    self.faulty.stale_accepted += 1;
                    let kept = format!("attempt {} of {}", seen.attempt, seen.worker);
                    self.notes.push(format!("{shown} was accepted from {worker}, and {kept} is there"));
                }
                Some(_) => {}
            }
            if told.insert(image, worker).is_some() {
                self.faulty.duplicated += 1;
                self.notes.push(format!("{shown} was accepted twice"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::journal::Journal;

    const SEED: u64 = 9;

    fn seen(index: u64, number: u64, attempt: i32) -> Seen {
        let worker = worker_id(SEED, number).to_string();
        Seen { job: "job_a".into(), index, seed: index, pixels: "p".into(), worker, attempt }
    }

    fn told(index: u64, attempt: i32, reception: &str) -> Line {
        Line::Settled { job: "job_a".into(), index, attempt, reception: reception.into() }
    }

    fn verdict(images: &[Seen], journals: &[&[Line]]) -> Faulty {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: Vec<u8>| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("findings.json", serde_json::to_vec(&Findings::default()).unwrap());
        write("images.json", serde_json::to_vec(images).unwrap());
        for (number, lines) in journals.iter().enumerate() {
            let path = folder.path().join(format!("worker-{number}.journal"));
            Journal::open(&path).unwrap().write(lines).unwrap();
        }
        read(folder.path(), SEED, &[]).unwrap().faulty
    }

    #[test]
    fn what_was_accepted_and_is_there_is_right() {
        let lines = [told(0, 1, "accepted"), told(0, 1, "repeated"), told(1, 1, "stale")];
        assert!(verdict(&[seen(0, 0, 1)], &[&lines]).is_clean());
    }

    #[test]
    fn an_accepted_image_that_is_gone_counts_as_lost() {
        assert_eq!(verdict(&[], &[&[told(0, 1, "accepted")]]).lost, 1);
    }

    #[test]
    fn an_image_accepted_from_two_workers_counts() {
        let faulty = verdict(&[seen(0, 0, 1)], &[&[told(0, 1, "accepted")], &[told(0, 2, "accepted")]]);
        assert_eq!((faulty.duplicated, faulty.stale_accepted), (1, 1));
    }

    #[test]
    fn other_pixels_and_a_lease_that_was_over_count() {
        let lines = [told(0, 1, "divergent"), Line::StaleAccepted("1 images".into())];
        let faulty = verdict(&[seen(0, 0, 1)], &[&lines]);
        assert_eq!((faulty.unequal, faulty.stale_accepted), (1, 1));
    }
}
