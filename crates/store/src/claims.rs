//! The claims lane: ranges become leases, durably, before any worker hears of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use seedfarm_core::placement::Source;
use seedfarm_core::{Attempt, Epoch, ImageRange, JobId, LeaseId, WorkerId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::Store;
use crate::error::Result;
use crate::reign::Lane;
use crate::twins::{Place, mark_twinned};
use crate::value::{array_literal, index, natural, worker_ids};

/// A range that placement has chosen for a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The job.
    pub job: JobId,
    /// The images.
    pub range: ImageRange,
    /// Which attempt this is, from 1.
    pub attempt: Attempt,
    /// Who is to render it.
    pub worker: WorkerId,
    /// On which of its devices.
    pub device: u32,
    /// Workers that the range passes over if it comes back.
    pub avoid: Vec<WorkerId>,
    /// Where the range comes from.
    pub source: Source,
}

impl Store {
    /// Stores leases for a batch of claims, in one transaction; an id for each, in the same order.
    ///
    /// Claims may follow one another on one job or one stored range, in any order. `None` says that
    /// nothing was stored for a claim: its job is not active any more, or its images are not where the
    /// caller thinks (then its picture of the job is wrong: take a new [`Store::snapshot`]). Claims of
    /// one job's fresh images, and claims of one stored range, stand and fall together. The claim of a twin
    /// is refused, too, when its first lease is over or has a twin already.
    pub async fn claim(&self, epoch: Epoch, claims: &[Claim]) -> Result<Vec<Option<LeaseId>>> {
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let mut lane = self.begin_lane(Lane::Claims, epoch).await?;
        let twins: Vec<&Claim> = claims.iter().filter(|claim| claim.source == Source::Twin).collect();
        let mut taken = take(lane.connection(), &advances(claims), &cuts(claims), &twins).await?;
        taken.twins = mark_twinned(lane.connection(), &twins).await?;
        let held: Vec<&Claim> = claims.iter().filter(|claim| taken.holds(claim)).collect();
        let leases = insert_leases(lane.connection(), epoch, &held, &taken).await?;
        lane.commit().await?;
        let granted = |claim: &Claim| leases.get(&key(claim)).copied();
        Ok(claims.iter().map(granted).collect())
    }
}

/// What a batch takes off one job's cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Advance {
    job: JobId,
    from: u64,
    to: u64,
}

/// What a batch takes off the front of one stored range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    row: i64,
    job: JobId,
    /// The range as it is stored.
    whole: ImageRange,
    spent: i32,
    /// Where it begins afterwards; its end if nothing is left.
    rest: u64,
}

/// Claims of fresh images, added up by job. Jobs whose claims do not fit together are left out.
fn advances(claims: &[Claim]) -> Vec<Advance> {
    let mut by_job: BTreeMap<JobId, Vec<ImageRange>> = BTreeMap::new();
    for claim in claims.iter().filter(|claim| claim.source == Source::Fresh) {
        by_job.entry(claim.job).or_default().push(claim.range);
    }
    let joined = by_job.into_iter().map(|(job, ranges)| Some((job, join(ranges)?)));
    joined.flatten().map(|(job, whole)| Advance { job, from: whole.lo(), to: whole.hi() }).collect()
}

/// Ranges that follow one another, in whatever order, as one; `None` if they overlap or leave a gap.
fn join(mut ranges: Vec<ImageRange>) -> Option<ImageRange> {
    ranges.sort_unstable();
    let mut ranges = ranges.into_iter();
    let first = ranges.next()?;
    ranges.try_fold(first, |whole, next| {
        if whole.hi() == next.lo() { ImageRange::new(whole.lo(), next.hi()) } else { None }
    })
}

/// Claims of stored ranges, added up by range. Ranges whose claims do not fit together are left out.
fn cuts(claims: &[Claim]) -> Vec<Cut> {
    let mut by_row: BTreeMap<i64, Vec<(&Claim, u64)>> = BTreeMap::new();
    for claim in claims {
        if let Source::Retry { row, rest } = claim.source {
            let end = rest.map_or(claim.range.hi(), ImageRange::hi);
            by_row.entry(row).or_default().push((claim, end));
        }
    }
    by_row.into_iter().filter_map(|(row, claims)| cut(row, &claims)).collect()
}

fn cut(row: i64, claims: &[(&Claim, u64)]) -> Option<Cut> {
    let taken = join(claims.iter().map(|(claim, _)| claim.range).collect())?;
    let (first, end) = claims.first()?;
    let alike = |(claim, e): &(&Claim, u64)| {
        claim.job == first.job && claim.attempt == first.attempt && e == end && claim.range.hi() <= *end
    };
    let whole = ImageRange::new(taken.lo(), *end).filter(|_| claims.iter().all(alike))?;
    Some(Cut { row, job: first.job, whole, spent: first.attempt.0 - 1, rest: taken.hi() })
}

/// What tells the leases of a batch apart: the job, the first image, and whether it is a twin.
type Key = (JobId, u64, bool);

fn key(claim: &Claim) -> Key {
    (claim.job, claim.range.lo(), claim.source == Source::Twin)
}

/// What a batch could take, by job for fresh images, by row for stored ranges, by place for twins.
#[derive(Default)]
struct Taken {
    fresh: HashSet<JobId>,
    /// With the workers that failed each.
    ranges: HashMap<i64, Vec<WorkerId>>,
    twins: BTreeSet<Place>,
}

impl Taken {
    fn holds(&self, claim: &Claim) -> bool {
        match claim.source {
            Source::Fresh => self.fresh.contains(&claim.job),
            Source::Retry { row, .. } => self.ranges.contains_key(&row),
            Source::Twin => self.twins.contains(&(claim.job, claim.range)),
        }
    }

    /// Workers that failed a claim's images through a fault of their own.
    fn faulted(&self, claim: &Claim) -> &[WorkerId] {
        match claim.source {
            Source::Fresh | Source::Twin => &[],
            Source::Retry { row, .. } => self.ranges.get(&row).map_or(&[], Vec::as_slice),
        }
    }
}

/// Moves cursors and shortens stored ranges of active jobs, where they are as the batch thinks. Locks the jobs
/// of twins, too: all at once, in order.
async fn take(
    connection: &mut PgConnection,
    advances: &[Advance],
    cuts: &[Cut],
    twins: &[&Claim],
) -> Result<Taken> {
    let jobs: BTreeSet<Uuid> = advances
        .iter()
        .map(|advance| advance.job)
        .chain(cuts.iter().map(|cut| cut.job))
        .chain(twins.iter().map(|claim| claim.job))
        .map(|job| job.as_uuid())
        .collect();
    let take = sqlx::query!(
        r#"-- take
        WITH active AS MATERIALIZED (
            SELECT id FROM jobs WHERE id = ANY($1) AND state = 'active' ORDER BY id FOR SHARE
        ), advanced AS (
            UPDATE job_cursors SET next = a.upto
            FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) AS a (job, since, upto)
            JOIN active ON active.id = a.job
            WHERE job_id = a.job AND next = a.since
            RETURNING job_id
        ), cut AS (
            SELECT c.* FROM unnest($5::bigint[], $6::uuid[], $7::bigint[], $8::bigint[], $9::int[], $10::bigint[])
                AS c (id, job, lo, hi, spent, rest)
            JOIN active ON active.id = c.job
        ), shortened AS (
            UPDATE ranges SET lo = cut.rest FROM cut
            WHERE ranges.id = cut.id AND ranges.job_id = cut.job AND ranges.lo = cut.lo
                AND ranges.hi = cut.hi AND ranges.spent = cut.spent AND cut.rest < cut.hi
            RETURNING ranges.id, ranges.faulted
        ), emptied AS (
            DELETE FROM ranges USING cut
            WHERE ranges.id = cut.id AND ranges.job_id = cut.job AND ranges.lo = cut.lo
                AND ranges.hi = cut.hi AND ranges.spent = cut.spent AND cut.rest = cut.hi
            RETURNING ranges.id, ranges.faulted
        )
        SELECT job_id AS job, NULL::bigint AS row, NULL::uuid[] AS faulted FROM advanced
        UNION ALL SELECT NULL, id, faulted FROM shortened UNION ALL SELECT NULL, id, faulted FROM emptied"#,
        &jobs.into_iter().collect::<Vec<_>>(),
        &advances.iter().map(|advance| advance.job.as_uuid()).collect::<Vec<_>>(),
        &advances.iter().map(|advance| index(advance.from)).collect::<Vec<_>>(),
        &advances.iter().map(|advance| index(advance.to)).collect::<Vec<_>>(),
        &cuts.iter().map(|cut| cut.row).collect::<Vec<_>>(),
        &cuts.iter().map(|cut| cut.job.as_uuid()).collect::<Vec<_>>(),
        &cuts.iter().map(|cut| index(cut.whole.lo())).collect::<Vec<_>>(),
        &cuts.iter().map(|cut| index(cut.whole.hi())).collect::<Vec<_>>(),
        &cuts.iter().map(|cut| cut.spent).collect::<Vec<_>>(),
        &cuts.iter().map(|cut| index(cut.rest)).collect::<Vec<_>>()
    );
    let mut taken = Taken::default();
    for row in take.fetch_all(connection).await? {
        taken.fresh.extend(row.job.map(JobId::from_uuid));
        let faulted = worker_ids(row.faulted.unwrap_or_default());
        taken.ranges.extend(row.row.map(|id| (id, faulted)));
    }
    Ok(taken)
}

/// Stores a lease for each claim, by its key.
async fn insert_leases(
    connection: &mut PgConnection,
    epoch: Epoch,
    claims: &[&Claim],
    taken: &Taken,
) -> Result<HashMap<Key, LeaseId>> {
    let insert = sqlx::query!(
        "-- insert_leases
        INSERT INTO leases (job_id, lo, hi, attempt, epoch, worker_id, device, avoid, twin, faulted)
        SELECT job, lo, hi, attempt, $1, worker, device, avoid::uuid[], twin, faulted::uuid[]
        FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::int[], $6::uuid[], $7::int[], $8::text[],
            $9::boolean[], $10::text[]) AS c (job, lo, hi, attempt, worker, device, avoid, twin, faulted)
        RETURNING id, job_id, lo, twin",
        epoch.0,
        &claims.iter().map(|claim| claim.job.as_uuid()).collect::<Vec<_>>(),
        &claims.iter().map(|claim| index(claim.range.lo())).collect::<Vec<_>>(),
        &claims.iter().map(|claim| index(claim.range.hi())).collect::<Vec<_>>(),
        &claims.iter().map(|claim| claim.attempt.0).collect::<Vec<_>>(),
        &claims.iter().map(|claim| claim.worker.as_uuid()).collect::<Vec<_>>(),
        &claims.iter().map(|claim| claim.device.cast_signed()).collect::<Vec<_>>(),
        &claims.iter().map(|claim| array_literal(&claim.avoid)).collect::<Vec<_>>(),
        &claims.iter().map(|claim| claim.source == Source::Twin).collect::<Vec<_>>(),
        &claims.iter().map(|claim| array_literal(taken.faulted(claim))).collect::<Vec<_>>()
    );
    let rows = insert.fetch_all(connection).await?.into_iter().map(|row| {
        let key = (JobId::from_uuid(row.job_id), natural(row.lo)?, row.twin);
        Ok((key, LeaseId(row.id)))
    });
    rows.collect()
}
