//! The completions lane: leases end, images become results, what is left goes back.
//!
//! The fence decides: a lease is deleted by its id, attempt and epoch, and only what that deleted lets
//! results in. core::completion says what each image is worth and what becomes of the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use seedfarm_core::completion::{FailureClass, Fence, Outcome, Reception, blame, receive, settle};
use seedfarm_core::{Attempt, Epoch, ImageId, ImageRange, JobId, LeaseId, WorkerId};
use sqlx::PgConnection;

use crate::aftermath::{Beaten, DeadImage, NewRange, insert_dead, insert_divergences, insert_ranges};
use crate::database::Store;
use crate::error::Result;
use crate::fingerprints::StoredFingerprint;
use crate::progress::{Bump, Progress, bump_progress, finish_jobs, hold_jobs};
use crate::reign::{Lane, LaneTransaction};
use crate::results::{FreshResult, NewResult, insert_results, settled_in, stored_outcomes};
use crate::snapshot::RangeRow;
use crate::twins::{is_taken, still_out};
use crate::value::{range, worker_ids};
use crate::warnings::insert_warnings;
use crate::workers::{Tally, bump_tallies};

/// Why images of a lease were not rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whose fault it was.
    pub class: FailureClass,
    /// In words.
    pub error: String,
    /// How long the images stay unleased.
    pub defer: Duration,
}

/// A worker's report that a lease is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// What the worker shows.
    pub fence: Fence,
    /// The job, which must be the lease's.
    pub job: JobId,
    /// The worker, which must be the lease's.
    pub worker: WorkerId,
    /// How the images were rendered.
    pub fingerprint: StoredFingerprint,
    /// The images that were rendered: some or all of the lease's.
    pub images: Vec<NewResult>,
    /// Why others were not.
    pub failure: Option<Failure>,
}

/// What a completion came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CompletionOutcome {
    /// Whether the fence matched a stored lease, which is gone now.
    pub lease_held: bool,
    /// One for each image of the completion, in its order.
    pub receptions: Vec<Reception>,
    /// Ranges to be leased again.
    pub retry: Vec<RangeRow>,
    /// Images given up.
    pub dead: Vec<ImageRange>,
}

/// What a batch came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// One for each completion, in the same order.
    pub outcomes: Vec<CompletionOutcome>,
    /// Jobs whose counters moved, as they stand now.
    pub progress: Vec<Progress>,
}

/// A lease that came back without a word from its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// The lease.
    pub lease: LeaseId,
    /// Its images, to be leased again.
    pub retry: Vec<RangeRow>,
}

impl Store {
    /// Stores a batch of completions, in one transaction: all of it or nothing.
    pub async fn complete(&self, epoch: Epoch, completions: &[Completion]) -> Result<Settled> {
        if completions.is_empty() {
            return Ok(Settled::default());
        }
        let mut lane = self.begin_lane(Lane::Completions, epoch).await?;
        let settled = complete(&mut lane, completions).await?;
        lane.commit().await?;
        Ok(settled)
    }

    /// Takes leases back whose workers are gone, in one transaction; leases that are over already are
    /// left out. `class` says whose fault it is: with [`FailureClass::Worker`], the ranges will pass
    /// over the workers that held them. No attempt is spent.
    pub async fn release(
        &self,
        epoch: Epoch,
        leases: &[LeaseId],
        class: FailureClass,
    ) -> Result<Vec<Released>> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let mut lane = self.begin_lane(Lane::Completions, epoch).await?;
        let released = release(lane.connection(), leases, class).await?;
        lane.commit().await?;
        Ok(released)
    }
}

/// A lease that was stored until now.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) lease: LeaseId,
    pub(crate) job: JobId,
    pub(crate) range: ImageRange,
    attempt: Attempt,
    worker: WorkerId,
    avoid: Vec<WorkerId>,
    /// Whether it was the second lease of its images.
    pub(crate) twin: bool,
    /// Whether there is or was another lease of its images.
    pub(crate) paired: bool,
    /// Who failed the range before through a fault of its own.
    faulted: Vec<WorkerId>,
}

impl Held {
    fn covers(&self, image: &NewResult) -> bool {
        self.range.contains(image.index)
    }

    /// Whom the rest of the range passes over from now on: with a fault of task or worker, this worker
    /// too, so that another tries next.
    fn avoid_after(&self, class: Option<FailureClass>) -> Vec<WorkerId> {
        let mut avoid = self.avoid.clone();
        let faulty = matches!(class, Some(FailureClass::Task | FailureClass::Worker));
        if faulty && !avoid.contains(&self.worker) {
            avoid.push(self.worker);
        }
        avoid
    }
}

async fn complete(lane: &mut LaneTransaction, completions: &[Completion]) -> Result<Settled> {
    let connection = lane.connection();
    let held = delete_leases(connection, completions).await?;
    let fresh = fresh_results(completions, &held);
    let accepted = insert_results(connection, &fresh).await?;
    insert_warnings(connection, &fresh, &accepted).await?;
    let stored = stored_outcomes(connection, others(completions, &accepted)).await?;
    let receptions = Receptions::of(completions, &held, accepted, stored);
    insert_divergences(connection, &receptions.divergent).await?;
    bump_tallies(connection, receptions.tallies.iter().map(|(&worker, &tally)| (worker, tally))).await?;
    let mut outcomes = receptions.outcomes;
    let dead = settle_rests(connection, completions, &held, &mut outcomes).await?;
    let progress = count(connection, completions, &outcomes, &dead).await?;
    Ok(Settled { outcomes, progress })
}

/// The lease that each completion ends: each lease once, whatever the batch repeats.
async fn delete_leases(
    connection: &mut PgConnection,
    completions: &[Completion],
) -> Result<Vec<Option<Held>>> {
    macro_rules! column {
        ($completion:ident => $value:expr) => {
            completions.iter().map(|$completion| $value).collect::<Vec<_>>()
        };
    }
    let delete = sqlx::query!(
        "-- delete_leases
        DELETE FROM leases USING unnest($1::bigint[], $2::int[], $3::bigint[], $4::uuid[], $5::uuid[])
            AS f (id, attempt, epoch, job, worker)
        WHERE leases.id = f.id AND leases.attempt = f.attempt AND leases.epoch = f.epoch
            AND leases.job_id = f.job AND leases.worker_id = f.worker
        RETURNING leases.id, job_id, lo, hi, leases.attempt, worker_id, avoid, twin, twinned, faulted",
        &column!(completion => completion.fence.lease.0),
        &column!(completion => completion.fence.attempt.0),
        &column!(completion => completion.fence.epoch.0),
        &column!(completion => completion.job.as_uuid()),
        &column!(completion => completion.worker.as_uuid())
    );
    let mut gone = HashMap::new();
    for row in delete.fetch_all(connection).await? {
        let held = Held {
            lease: LeaseId(row.id),
            job: JobId::from_uuid(row.job_id),
            range: range(row.lo, row.hi)?,
            attempt: Attempt(row.attempt),
            worker: WorkerId::from_uuid(row.worker_id),
            avoid: worker_ids(row.avoid),
            twin: row.twin,
            paired: row.twin || row.twinned,
            faulted: worker_ids(row.faulted),
        };
        gone.insert(held.lease, held);
    }
    let fits = |held: &Held, completion: &Completion| {
        held.attempt == completion.fence.attempt
            && held.job == completion.job
            && held.worker == completion.worker
    };
    let mut take = |completion: &Completion| {
        let lease = completion.fence.lease;
        if gone.get(&lease).is_some_and(|held| fits(held, completion)) { gone.remove(&lease) } else { None }
    };
    Ok(completions.iter().map(&mut take).collect())
}

/// What may become a result: images of held leases, each once, in order of key.
fn fresh_results<'a>(completions: &'a [Completion], held: &[Option<Held>]) -> Vec<FreshResult<'a>> {
    let mut fresh = BTreeMap::new();
    for (completion, held) in completions.iter().zip(held) {
        let Some(held) = held else { continue };
        for image in completion.images.iter().filter(|image| held.covers(image)) {
            fresh.entry((held.job, image.index)).or_insert(FreshResult {
                job: held.job,
                image,
                fingerprint: completion.fingerprint.digest(),
                worker: held.worker,
                attempt: held.attempt,
            });
        }
    }
    fresh.into_values().collect()
}

fn id_of(completion: &Completion, image: &NewResult) -> ImageId {
    ImageId { job: completion.job, index: image.index }
}

/// Images that must be compared with what is stored: those that are not new, and all that the batch
/// offers twice.
fn others<'a>(
    completions: &'a [Completion],
    accepted: &'a HashSet<ImageId>,
) -> impl Iterator<Item = ImageId> + 'a {
    let mut seen = HashSet::new();
    let offered = completions
        .iter()
        .flat_map(|completion| completion.images.iter().map(move |image| id_of(completion, image)));
    offered.filter(move |id| !seen.insert(*id) || !accepted.contains(id))
}

/// How every image of a batch was received.
struct Receptions<'a> {
    outcomes: Vec<CompletionOutcome>,
    divergent: Vec<Beaten<'a>>,
    tallies: BTreeMap<WorkerId, Tally>,
}

impl<'a> Receptions<'a> {
    fn of(
        completions: &'a [Completion],
        held: &[Option<Held>],
        mut accepted: HashSet<ImageId>,
        stored: HashMap<ImageId, Outcome>,
    ) -> Self {
        let (mut divergent, mut tallies) = (Vec::new(), BTreeMap::<_, Tally>::new());
        let mut receive_one = |completion: &'a Completion, held: Option<&Held>, image: &'a NewResult| {
            let id = id_of(completion, image);
            let covered = held.is_some_and(|held| held.covers(image));
            let first = covered && accepted.remove(&id);
            let before = if first { None } else { stored.get(&id).copied() };
            let reception = receive(covered, before, offered(completion, image));
            match reception {
                Reception::Accepted => {
                    let tally = tallies.entry(completion.worker).or_default();
                    tally.images += 1;
                    tally.device_ms += image.stored_duration_ms();
                }
                Reception::Divergent => divergent.push(Beaten { completion, image }),
                Reception::Repeated | Reception::Stale => {}
            }
            reception
        };
        let outcomes = completions.iter().zip(held).map(|(completion, held)| CompletionOutcome {
            lease_held: held.is_some(),
            receptions: completion
                .images
                .iter()
                .map(|image| receive_one(completion, held.as_ref(), image))
                .collect(),
            ..CompletionOutcome::default()
        });
        let outcomes = outcomes.collect();
        Self { outcomes, divergent, tallies }
    }
}

fn offered(completion: &Completion, image: &NewResult) -> Outcome {
    Outcome { recipe: image.recipe, class: completion.fingerprint.class(), pixels: image.pixels }
}

/// Decides what becomes of the images without results of every lease that is over, stores it, and
/// writes it into `outcomes`. Returns the images that were given up.
async fn settle_rests(
    connection: &mut PgConnection,
    completions: &[Completion],
    held: &[Option<Held>],
    outcomes: &mut [CompletionOutcome],
) -> Result<HashSet<ImageId>> {
    let over: Vec<&Held> = held.iter().flatten().collect();
    let out = still_out(connection, &over).await?;
    let short = completions.iter().zip(held).enumerate().filter_map(|(at, (completion, held))| {
        let held = held.as_ref().filter(|held| !is_taken(held, &out, &over))?;
        let whole = outcomes[at].receptions.len() as u64 == held.range.len()
            && outcomes[at].receptions.iter().all(|&reception| reception == Reception::Accepted);
        (!whole).then_some((at, completion, held))
    });
    let short: Vec<_> = short.collect();
    let settled = settled_in(connection, short.iter().map(|(_, _, held)| (held.job, held.range))).await?;
    let (mut ranges, mut dead) = (Vec::new(), Vec::new());
    for (at, completion, held) in short {
        let failure = completion.failure.as_ref();
        let class = failure.map(|failure| failure.class);
        let (class, faulted) = blame(class, held.worker, held.faulted.clone());
        let aftermath = settle(held.range, held.attempt, &settled_of(&settled, held), class);
        ranges.extend(aftermath.retry.into_iter().map(|(range, spent)| NewRange {
            origin: at,
            job: held.job,
            range,
            spent,
            defer: failure.map_or(Duration::ZERO, |failure| failure.defer),
            avoid: held.avoid_after(class),
            faulted: faulted.clone(),
        }));
        let error = failure.map_or("", |failure| &failure.error);
        dead.extend(aftermath.dead.iter().flat_map(|range| range.indices()).map(|index| DeadImage {
            id: ImageId { job: held.job, index },
            attempts: held.attempt,
            error: error.to_owned(),
        }));
        outcomes[at].dead = aftermath.dead;
    }
    for (at, row) in insert_ranges(connection, ranges).await? {
        outcomes[at].retry.push(row);
    }
    insert_dead(connection, &dead).await
}

fn settled_of(settled: &BTreeSet<ImageId>, held: &Held) -> BTreeSet<u64> {
    let id = |index| ImageId { job: held.job, index };
    settled.range(id(held.range.lo())..id(held.range.hi())).map(|image| image.index).collect()
}

/// Bumps the counters by the rows that were really inserted, and finishes jobs that are done.
async fn count(
    connection: &mut PgConnection,
    completions: &[Completion],
    outcomes: &[CompletionOutcome],
    dead: &HashSet<ImageId>,
) -> Result<Vec<Progress>> {
    let mut bumps = BTreeMap::<JobId, Bump>::new();
    for (completion, outcome) in completions.iter().zip(outcomes) {
        let accepted = outcome.receptions.iter().filter(|&&reception| reception == Reception::Accepted);
        let accepted = accepted.count() as i64;
        let device_ms: i64 = completion.images.iter().map(NewResult::stored_duration_ms).sum();
        if outcome.lease_held && (accepted > 0 || device_ms > 0) {
            let bump = bumps.entry(completion.job).or_default();
            bump.done += accepted;
            bump.device_ms += device_ms;
        }
    }
    for image in dead {
        bumps.entry(image.job).or_default().failed += 1;
    }
    let mut progress = bump_progress(connection, &bumps).await?;
    finish_jobs(connection, &mut progress).await?;
    hold_jobs(connection, &mut progress).await?;
    Ok(progress)
}

async fn release(
    connection: &mut PgConnection,
    leases: &[LeaseId],
    class: FailureClass,
) -> Result<Vec<Released>> {
    let delete = sqlx::query!(
        "-- release_leases
        DELETE FROM leases WHERE id = ANY($1)
        RETURNING id, job_id, lo, hi, attempt, worker_id, avoid, twin, twinned, faulted",
        &leases.iter().map(|lease| lease.0).collect::<Vec<_>>()
    );
    let mut held = Vec::new();
    for row in delete.fetch_all(&mut *connection).await? {
        held.push(Held {
            lease: LeaseId(row.id),
            job: JobId::from_uuid(row.job_id),
            range: range(row.lo, row.hi)?,
            attempt: Attempt(row.attempt),
            worker: WorkerId::from_uuid(row.worker_id),
            avoid: worker_ids(row.avoid),
            twin: row.twin,
            paired: row.twin || row.twinned,
            faulted: worker_ids(row.faulted),
        });
    }
    let over: Vec<&Held> = held.iter().collect();
    let out = still_out(connection, &over).await?;
    let settled = settled_in(connection, held.iter().map(|held| (held.job, held.range))).await?;
    let left = held.iter().enumerate().filter(|(_, held)| !is_taken(held, &out, &over));
    let rests = left.flat_map(|(origin, held)| {
        held.range.without(&settled_of(&settled, held)).into_iter().map(move |range| NewRange {
            origin,
            job: held.job,
            range,
            spent: held.attempt.0 - 1,
            defer: Duration::ZERO,
            avoid: held.avoid_after(Some(class)),
            faulted: held.faulted.clone(),
        })
    });
    let mut released: Vec<Released> =
        held.iter().map(|held| Released { lease: held.lease, retry: Vec::new() }).collect();
    for (at, row) in insert_ranges(connection, rests.collect()).await? {
        released[at].retry.push(row);
    }
    Ok(released)
}
