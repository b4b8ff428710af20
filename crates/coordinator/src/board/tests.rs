use std::collections::BTreeMap;

use seedfarm_core::completion::Fence;
use seedfarm_core::digest::ComponentDigest;
use seedfarm_core::model::ModelDefaults;
use seedfarm_core::owner::Acceptance;
use seedfarm_core::placement::Retry;
use seedfarm_core::plan::SeedPlan;
use seedfarm_core::sampling::{BetaCurve, Prediction, Spacing};
use seedfarm_core::{
    Epoch, Fingerprint, ImageRange, JobTerms, ModelManifest, NoiseSchedule, Numerics, Sampler, SeedPolicy,
};
use seedfarm_proto::v1;
use seedfarm_store::{Progress, RangeRow};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use super::*;

const TTL: Duration = Duration::from_secs(30);

type Inbox = mpsc::Receiver<Result<v1::SessionResponse, Status>>;

fn board() -> Board {
    Board::new(Pace { lease_ttl: TTL, target: Duration::from_secs(20) })
}

fn manifest() -> ModelManifest {
    ModelManifest {
        name: "m".into(),
        family: "stable-diffusion".into(),
        components: BTreeMap::from([("unet".to_owned(), ComponentDigest::of_bytes(b"unet"))]),
        noise_schedule: NoiseSchedule {
            train_steps: 1000,
            beta_start: 0.00085,
            beta_end: 0.012,
            beta_curve: BetaCurve::ScaledLinear,
            prediction: Prediction::Epsilon,
            spacing: Spacing::Leading,
            steps_offset: 1,
            set_alpha_to_one: false,
            ..NoiseSchedule::default()
        },
        defaults: ModelDefaults { width: 8, height: 8, steps: 4, guidance: 3.0, sampler: Sampler::Ddim },
        size_multiple: 8,
        max_side: 512,
        inpainting: false,
        weights_bytes: 1,
        licence: None,
    }
}

fn job(n: u128, total: u64) -> JobRow {
    JobRow {
        id: JobId::from_uuid(Uuid::from_u128(n)),
        name: String::new(),
        state: JobState::Active,
        is_replay: false,
        model_name: "m".into(),
        model_digest: manifest().digest(),
        numerics: Numerics::Strict,
        needs: Vec::new(),
        total,
        cursor: 0,
        seeds: SeedPlan { seed: 1, policy: SeedPolicy::Sequential, count: 1 },
        terms: JobTerms::default(),
        demand: Default::default(),
        hold: None,
        created_at_ms: 0,
        finished_at_ms: None,
        done: 0,
        failed: 0,
        device_ms: 0,
    }
}

fn worker(n: u128) -> WorkerId {
    WorkerId::from_uuid(Uuid::from_u128(n))
}

fn introduction(n: u128, held: Vec<Fence>) -> Introduction {
    let fingerprint = Fingerprint {
        numerics: Numerics::Strict,
        engine_revision: 1,
        backend: "cpu".into(),
        architecture: "any".into(),
        precision: "f32".into(),
        libraries: BTreeMap::new(),
        device_name: "d".into(),
    };
    let (name, backend, fingerprints) = ("d".to_owned(), "cpu".to_owned(), vec![fingerprint]);
    let memory_bytes = 0;
    Introduction {
        worker: worker(n),
        name: String::new(),
        version: String::new(),
        instance: "a process".into(),
        devices: vec![DeviceIntroduction { index: 0, name, backend, memory_bytes, fingerprints }],
        acceptance: Acceptance::default(),
        manifests: vec![manifest()],
        adapters: Vec::new(),
        held,
        fetches_bytes: 0,
    }
}

/// Connects a worker whose queue holds `room` messages, and gives it credit.
fn connect(board: &mut Board, n: u128, room: usize, credit: u32) -> (SessionId, Inbox) {
    let (outbox, inbox) = mpsc::channel(room);
    let who = introduction(n, Vec::new());
    let (id, _) = board.connect(&who, outbox, CancellationToken::new(), Instant::now());
    board.credit(worker(n), id, 0, credit);
    (id, inbox)
}

fn fence(lease: i64) -> Fence {
    Fence { lease: LeaseId(lease), attempt: seedfarm_core::Attempt(1), epoch: Epoch(1) }
}

/// Chooses all there is and makes it durable as leases 1, 2, ...
fn grant_all(board: &mut Board) -> Vec<PendingGrant> {
    let (chosen, _) = board.choose(100, 0);
    for (lease, grant) in (1..).zip(&chosen) {
        assert_eq!(board.granted(grant, fence(lease), Instant::now()), Grantee::Waiting(fence(lease)));
    }
    chosen
}

#[test]
fn the_device_that_holds_least_is_served_first() {
    let mut board = board();
    let _inboxes = [connect(&mut board, 1, 8, 2), connect(&mut board, 2, 8, 2)];
    board.add_job(job(1, 40), JobContext::default(), Vec::new(), Instant::now());
    let chosen = grant_all(&mut board);
    let workers: Vec<WorkerId> = chosen.iter().map(|grant| grant.pick.device.worker).collect();
    assert_eq!(workers[..2], [worker(1), worker(2)], "one each, though the first had credit for both");
    assert_eq!(board.leases_of(job(1, 40).id), (4, 2));
}

#[test]
fn credit_is_spent_by_grants_and_never_by_more() {
    let mut board = board();
    let (id, _inbox) = connect(&mut board, 1, 8, 2);
    board.add_job(job(1, 10), JobContext::default(), Vec::new(), Instant::now());
    assert_eq!(grant_all(&mut board).len(), 2);
    assert_eq!(board.choose(100, 0).0.len(), 0);
    board.credit(worker(1), id, 0, 1);
    board.credit(worker(1), id, 7, 1);
    assert_eq!(board.choose(100, 0).0.len(), 1, "an unknown device gets nothing");
}

#[test]
fn a_grant_whose_worker_left_meanwhile_goes_back() {
    let mut board = board();
    let (id, inbox) = connect(&mut board, 1, 8, 1);
    board.add_job(job(1, 1), JobContext::default(), Vec::new(), Instant::now());
    let (chosen, _) = board.choose(100, 0);
    board.disconnect(worker(1), id);
    drop(inbox);
    let (_, _inbox) = connect(&mut board, 1, 8, 0);
    assert_eq!(board.granted(&chosen[0], fence(1), Instant::now()), Grantee::Gone(LeaseId(1)));
    assert_eq!(board.expire(Instant::now() + TTL), [], "it is on its way back already");
}

#[test]
fn what_the_store_refused_is_chosen_again() {
    let mut board = board();
    let (_, _inbox) = connect(&mut board, 1, 8, 2);
    board.add_job(job(1, 2), JobContext::default(), Vec::new(), Instant::now());
    let (chosen, _) = board.choose(100, 0);
    chosen.iter().rev().for_each(|grant| board.not_granted(grant));
    let (again, _) = board.choose(100, 0);
    let picks = |grants: &[PendingGrant]| grants.iter().map(|g| g.pick.clone()).collect::<Vec<_>>();
    assert_eq!(picks(&again), picks(&chosen));
}

#[test]
fn a_lease_expires_once_unless_it_is_renewed() {
    let mut board = board();
    let (_, _inbox) = connect(&mut board, 1, 8, 2);
    board.add_job(job(1, 2), JobContext::default(), Vec::new(), Instant::now());
    grant_all(&mut board);
    let later = Instant::now() + TTL / 2;
    let other = Fence { epoch: Epoch(2), ..fence(2) };
    assert_eq!(board.renew(worker(1), &[fence(1), other], later), [other]);
    assert_eq!(board.renew(worker(2), &[fence(1)], later), [fence(1)], "another's lease is held in vain");
    let end = Instant::now() + TTL;
    assert_eq!(board.expire(end), [LeaseId(2)]);
    assert_eq!(board.expire(end), []);
    assert_eq!(board.renew(worker(1), &[fence(2)], end), [fence(2)]);
}

#[test]
fn settling_a_lease_gives_its_rest_back_and_the_last_image_ends_the_job() {
    let mut board = board();
    let (id, _inbox) = connect(&mut board, 1, 8, 1);
    let row = job(1, 1);
    board.add_job(row.clone(), JobContext::default(), Vec::new(), Instant::now());
    grant_all(&mut board);
    let range = ImageRange::new(0, 1).unwrap();
    let retry = Retry { row: 5, range, spent: 0, not_before_ms: 0, avoid: Vec::new() };
    let retries = vec![RangeRow { job: row.id, retry }];
    board.settle(Settlement { lease: Some(LeaseId(1)), retries, timing: None });
    board.credit(worker(1), id, 0, 1);
    assert_eq!(grant_all(&mut board)[0].pick.range, range);
    let progress = Progress { job: row.id, done: 1, failed: 0, total: 1, finished: true, held: None };
    board.settle(Settlement { lease: Some(LeaseId(1)), retries: Vec::new(), timing: None });
    board.count(&progress, Instant::now());
    assert!(board.job(row.id).is_none());
    assert_eq!(board.lease_count(), 0);
}

#[test]
fn a_worker_that_does_not_read_loses_its_session() {
    let mut board = board();
    let (_, mut inbox) = connect(&mut board, 1, 1, 1);
    let drain = || v1::session_response::Message::Drain(v1::Drain {});
    assert!(board.send(worker(1), drain()));
    assert!(!board.send(worker(1), drain()));
    assert_eq!(board.connected(), []);
    assert!(inbox.try_recv().is_ok());
    assert!(matches!(inbox.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
}

#[test]
fn a_drained_worker_is_told_and_gets_nothing_more() {
    let mut board = board();
    let (_, mut inbox) = connect(&mut board, 1, 8, 1);
    assert!(board.drain(worker(1)));
    assert!(!board.drain(worker(2)));
    board.add_job(job(1, 1), JobContext::default(), Vec::new(), Instant::now());
    assert_eq!(board.choose(100, 0).0.len(), 0);
    let message = inbox.try_recv().unwrap().unwrap().message;
    assert!(matches!(message, Some(v1::session_response::Message::Drain(_))));
}

#[test]
fn speed_counts_from_the_first_lease_and_not_from_submission() {
    let start = Instant::now();
    let mut card = JobCard::new(job(1, 100), start);
    let leased = start + Duration::from_secs(1000);
    card.lease_out(leased);
    card.count(10, 0, leased + Duration::from_secs(5));
    assert!((card.images_per_second(leased + Duration::from_secs(5)) - 2.0).abs() < 1e-9);
    assert!(card.images_per_second(leased + Duration::from_secs(10)) < 2.0, "it fades while nothing comes");
}

#[test]
fn a_device_that_found_nothing_is_asked_again_when_there_is_something() {
    let mut board = board();
    let _inboxes = [connect(&mut board, 1, 8, 1), connect(&mut board, 2, 8, 1)];
    let mut other = job(9, 1);
    other.model_digest = seedfarm_core::ModelDigest::of_bytes(b"other");
    board.add_job(other, JobContext::default(), Vec::new(), Instant::now());
    assert_eq!(board.choose(100, 0).0.len(), 0);
    board.add_job(job(1, 40), JobContext::default(), Vec::new(), Instant::now());
    assert_eq!(grant_all(&mut board).len(), 2);
}

#[test]
fn a_late_lease_is_given_to_a_second_worker_and_both_may_end() {
    let mut board = board();
    let (_, _first) = connect(&mut board, 1, 8, 1);
    board.add_job(job(1, 1), JobContext::default(), Vec::new(), Instant::now());
    grant_all(&mut board);
    let (_, _second) = connect(&mut board, 2, 8, 1);
    let (none, due) = board.choose(100, 0);
    assert!(none.is_empty());
    let (twins, _) = board.choose(100, due.expect("it says when the lease is late"));
    assert_eq!(twins[0].pick.source, seedfarm_core::placement::Source::Twin);
    board.granted(&twins[0], fence(2), Instant::now());
    assert_eq!(board.leases_of(job(1, 1).id), (2, 2));
    for lease in [1, 2] {
        board.settle(Settlement { lease: Some(LeaseId(lease)), retries: Vec::new(), timing: None });
    }
    assert_eq!(board.lease_count(), 0);
}

#[test]
fn a_job_that_nobody_may_render_says_so_and_why() {
    let mut board = board();
    let (_, _inbox) = connect(&mut board, 1, 8, 1);
    let mut needy = job(1, 1);
    needy.terms.requirements.tags = vec!["pool:night".parse().unwrap()];
    let id = needy.id;
    board.add_job(needy, JobContext::default(), Vec::new(), Instant::now());
    assert!(board.wants(id).unwrap().contains("none may render it"));
    let (_, outlook) = board.why_job(id, 0).unwrap();
    assert!(format!("{:?}", outlook.reasons).contains("Tags"), "{outlook:?}");
    let views = board.why_worker(worker(1), 0).unwrap();
    assert_eq!((views[0].credit, views[0].outlook.next), (1, None));
    assert!(board.why_worker(worker(2), 0).is_none());
}

#[test]
fn a_device_that_rests_gets_nothing_until_it_gives_credit_again() {
    let mut board = board();
    let (id, _inbox) = connect(&mut board, 1, 8, 2);
    board.add_job(job(1, 100), JobContext::default(), Vec::new(), Instant::now());
    board.rest(worker(1), id, BTreeMap::from([(0, "hot".to_owned()), (7, "not there".to_owned())]));
    assert!(board.choose(100, 0).0.is_empty());
    let shown: Vec<_> = board.workers().flat_map(|(_, view)| view.devices).map(|d| d.resting).collect();
    assert_eq!(shown, [Some("hot".to_owned())]);
    board.rest(worker(1), id, BTreeMap::new());
    assert!(board.choose(100, 0).0.is_empty());
    board.credit(worker(1), id, 0, 1);
    assert_eq!(grant_all(&mut board).len(), 1);
}

#[test]
fn a_model_that_an_owner_refuses_leaves_the_workers_offers_until_it_is_taken_again() {
    let mut board = board();
    let (id, _inbox) = connect(&mut board, 1, 8, 2);
    board.add_job(job(1, 100), JobContext::default(), Vec::new(), Instant::now());
    board.update(worker(1), id, Acceptance::default(), &[]);
    assert!(board.choose(100, 0).0.is_empty());
    assert_eq!(board.workers_with(manifest().digest()), 0);
    let tagged = Acceptance { tags: ["pool:night".parse().unwrap()].into(), ..Acceptance::default() };
    board.update(worker(1), id, tagged, &[manifest()]);
    let (_, view) = board.workers().next().unwrap();
    assert_eq!(view.tags, ["pool:night"]);
    assert!(!grant_all(&mut board).is_empty());
}

#[test]
fn a_worker_that_leaves_gets_no_work_by_an_update_and_an_old_stream_changes_nothing() {
    let mut board = board();
    let (old, _first) = connect(&mut board, 1, 8, 0);
    let (id, _second) = connect(&mut board, 1, 8, 2);
    board.add_job(job(1, 100), JobContext::default(), Vec::new(), Instant::now());
    board.update(worker(1), old, Acceptance::default(), &[]);
    assert_eq!(board.workers_with(manifest().digest()), 1);
    board.stop_worker(worker(1));
    board.update(worker(1), id, Acceptance::default(), &[manifest()]);
    board.credit(worker(1), id, 0, 1);
    assert!(board.choose(100, 0).0.is_empty());
}
