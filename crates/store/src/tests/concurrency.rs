//! Lanes at once.

use std::sync::Arc;

use futures::future::join_all;
use seedfarm_core::completion::{FailureClass, Fence};
use seedfarm_core::{Attempt, JobState, LeaseId};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Farm, Planned, failure, fresh, new_job, plan_of, worker};
use crate::{Claim, Result};

const JOBS: u64 = 12;
const IMAGES: u64 = 60;
/// Images of a lease.
const CHUNK: u64 = 2;

/// A lease of `CHUNK` images: of which job, and from which image on.
type Leased = (LeaseId, usize, u64);

fn fence(farm: &Farm, lease: LeaseId) -> Fence {
    Fence { lease, attempt: Attempt(1), epoch: farm.epoch() }
}

/// Leases all images of all jobs, each batch beginning with another job. A job that is paused just
/// now refuses, and is asked again.
async fn claim_all(farm: &Farm, jobs: &[Planned], leased: UnboundedSender<Leased>) -> Result<()> {
    for lo in (0..IMAGES).step_by(CHUNK as usize) {
        let mut left: Vec<usize> = (0..jobs.len()).collect();
        left.rotate_left((lo / CHUNK) as usize % jobs.len());
        while !left.is_empty() {
            let claims: Vec<Claim> = left.iter().map(|&at| fresh(jobs[at].row.id, lo, lo + CHUNK)).collect();
            let leases = farm.store.claim(farm.epoch(), &claims).await?;
            for (lease, &at) in leases.iter().zip(&left) {
                lease.iter().for_each(|&lease| leased.send((lease, at, lo)).unwrap());
            }
            let mut leases = leases.iter();
            left.retain(|_| leases.next().is_some_and(Option::is_none));
        }
    }
    Ok(())
}

/// Completes every lease, the batches in the opposite order of the claims.
async fn complete_all(farm: &Farm, jobs: &[Planned], mut leased: UnboundedReceiver<Leased>) -> Result<()> {
    let mut batch = Vec::new();
    while leased.recv_many(&mut batch, 9).await > 0 {
        let completions: Vec<_> = batch
            .drain(..)
            .rev()
            .map(|(lease, at, lo)| farm.completion(&jobs[at], fence(farm, lease), lo..lo + CHUNK))
            .collect();
        farm.store.complete(farm.epoch(), &completions).await?;
    }
    Ok(())
}

async fn pause_and_resume(farm: &Farm, jobs: &[Planned], turn: usize) -> Result<()> {
    use JobState::{Active, Paused};
    for round in 0..40 {
        let job = jobs[(round * 5 + turn) % jobs.len()].row.id;
        if farm.store.set_state(farm.epoch(), job, Active, Paused).await? {
            farm.store.set_state(farm.epoch(), job, Paused, Active).await?;
        }
    }
    Ok(())
}

/// Submits jobs whose templates are the same in one order or the other.
async fn submit(farm: &Farm, turn: usize) -> Result<()> {
    let mut prompts = ["a", "b", "c", "d", "e", "f"];
    if turn == 1 {
        prompts.reverse();
    }
    for round in 0..20 {
        let job = new_job(1000 + (round * 2 + turn) as u128);
        farm.store.insert_job(farm.epoch(), &job, &plan_of(&prompts, 1)).await?;
        farm.store.touch_workers(&[worker(1), worker(2)]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lanes_that_are_hammered_at_once_never_deadlock() {
    let farm = Arc::new(Farm::new().await);
    let mut jobs = Vec::new();
    for number in 0..JOBS {
        jobs.push(farm.job(number.into(), IMAGES as u32).await);
    }
    let jobs = Arc::new(jobs);
    let (leased, granted) = unbounded_channel();
    let mut tasks = Vec::new();
    let (f, j) = (farm.clone(), jobs.clone());
    tasks.push(tokio::spawn(async move { claim_all(&f, &j, leased).await }));
    let (f, j) = (farm.clone(), jobs.clone());
    tasks.push(tokio::spawn(async move { complete_all(&f, &j, granted).await }));
    for turn in 0..2 {
        let (f, j) = (farm.clone(), jobs.clone());
        tasks.push(tokio::spawn(async move { pause_and_resume(&f, &j, turn).await }));
        let f = farm.clone();
        tasks.push(tokio::spawn(async move { submit(&f, turn).await }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for job in jobs.iter() {
        assert_eq!(farm.row(job.row.id).await.state, JobState::Finished);
    }
    farm.assert_sound().await;
}

#[tokio::test]
async fn what_is_asked_fifty_times_at_once_is_done_once() {
    let farm = Farm::new().await;
    let job = farm.job(1, 100).await;
    let claim = [fresh(job.row.id, 0, 2)];
    let granted = join_all((0..50).map(|_| farm.store.claim(farm.epoch(), &claim))).await;
    let granted: Vec<_> = granted.into_iter().filter_map(|leases| leases.unwrap()[0]).collect();
    assert_eq!(granted.len(), 1, "one of fifty equal claims is granted");

    let mut completion = farm.completion(&job, fence(&farm, granted[0]), [0]);
    completion.failure = failure(FailureClass::HandedBack);
    let batch = [completion];
    let settled = join_all((0..50).map(|_| farm.store.complete(farm.epoch(), &batch))).await;
    let held = settled.into_iter().filter(|settled| settled.as_ref().unwrap().outcomes[0].lease_held);
    assert_eq!(held.count(), 1, "one of fifty equal completions holds the lease");
    assert_eq!(farm.row(job.row.id).await.done, 1);
    farm.assert_sound().await;
}
