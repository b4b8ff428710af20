//! `bench latency`: how long workers wait, at a steady pace and when they idle.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use seedfarm_core::{ModelManifest, limits};
use seedfarm_proto::v1;
use seedfarm_proto::v1::session_request::Message as ToCoordinator;
use seedfarm_proto::v1::session_response::Message as FromCoordinator;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::latency::Latencies;
use super::process::Coordinator;
use super::session::{Counted, Terms, connect, hello, message};
use super::{session, workload};
use crate::args::ModelArgs;
use crate::client::Farm;
use crate::exit::Exit;
use crate::output::Output;
use crate::table::facts;

/// How long the pace is kept before anything is counted.
const WARM_UP: Duration = Duration::from_secs(2);
/// Milliseconds to reach: a lease at the asked pace (99 of 100), and the wake-up of an idle worker (half).
const GOALS: (f64, f64) = (50.0, 5.0);

/// How long a worker waits for a lease at a steady pace, and how soon an idle one is woken
///
/// At the pace: leases of one image; from a credit's sending to its grant. Idle: a job of one image is
/// submitted while a worker waits with credit; from the submission's sending to the grant. Ends with exit
/// code 1 where 99 of 100 leases take more than 50 ms, or half of the wake-ups more than 5 ms.
#[derive(Debug, Clone, Args)]
pub struct LatencyArgs {
    /// Leases a second
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub pace: u32,

    /// Workers that keep the pace together
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub sessions: u32,

    /// Seconds that the pace is kept
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,

    /// How often an idle worker is woken
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub wakes: u32,

    /// Folder of the programs postgres and initdb
    #[arg(long, value_name = "DIR", env = "SEEDFARM_PG_BIN", hide_env_values = true)]
    pub pg_bin: Option<PathBuf>,

    #[command(flatten)]
    pub models: ModelArgs,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Measured {
    database: String,
    asked_per_second: u32,
    leases_per_second: f64,
    lease_p50_ms: f64,
    lease_p99_ms: f64,
    lease_goal_ms: f64,
    wake_p50_ms: f64,
    wake_p99_ms: f64,
    /// Of which this much, half of the time, is the submission's own answer.
    submit_p50_ms: f64,
    wake_goal_ms: f64,
    met: bool,
}

/// Measures.
///
/// # Errors
/// If the coordinator cannot be started, or refuses anything.
pub async fn run(args: LatencyArgs, output: Output) -> Result<Exit> {
    let manifest = workload::manifest(&args.models).await?;
    let coordinator = Coordinator::start(args.pg_bin.as_ref()).await?;
    let measured = measure(&args, &manifest, &coordinator).await;
    coordinator.stop().await?;
    let measured = measured?;
    output.result(&measured, || text(&measured))?;
    Ok(if measured.met { Exit::Done } else { Exit::Failed })
}

async fn measure(
    args: &LatencyArgs,
    manifest: &ModelManifest,
    coordinator: &Coordinator,
) -> Result<Measured> {
    let farm = Farm::open(&coordinator.url, None, &coordinator.client_token).await?;
    let terms = workload::terms(coordinator, manifest, 1, 1).await?;
    let (mut wakes, mut submits) = wake(args.wakes, &farm, manifest, &terms).await?;
    let mut paced = keep_pace(args, &farm, manifest, terms).await?;
    let (lease_p99_ms, wake_p50_ms) = (paced.grant.quantile_ms(0.99), wakes.quantile_ms(0.5));
    let leases_per_second = paced.leases as f64 / args.seconds as f64;
    Ok(Measured {
        database: coordinator.database.clone(),
        asked_per_second: args.pace,
        leases_per_second,
        lease_p50_ms: paced.grant.quantile_ms(0.5),
        lease_p99_ms,
        lease_goal_ms: GOALS.0,
        wake_p50_ms,
        wake_p99_ms: wakes.quantile_ms(0.99),
        submit_p50_ms: submits.quantile_ms(0.5),
        wake_goal_ms: GOALS.1,
        // A pace that was not kept says nothing about what a lease takes at it.
        met: lease_p99_ms <= GOALS.0
            && wake_p50_ms <= GOALS.1
            && leases_per_second >= 0.98 * f64::from(args.pace),
    })
}

/// Keeps the pace: each worker asks for a lease whenever its turn comes, whatever became of the last.
async fn keep_pace(
    args: &LatencyArgs,
    farm: &Farm,
    manifest: &ModelManifest,
    terms: Terms,
) -> Result<Counted> {
    workload::submit(farm, manifest, limits::MAX_IMAGES_A_JOB).await?;
    let every = Duration::from_secs(1) * args.sessions / args.pace;
    let mut sessions: JoinSet<Result<Counted>> = JoinSet::new();
    for number in 0..args.sessions {
        let delay = every * number / args.sessions;
        sessions.spawn(session::run_paced(terms.clone(), workload::worker_id()?, every, delay));
    }
    workload::wait(&mut sessions, WARM_UP).await?;
    terms.counting.store(true, std::sync::atomic::Ordering::Relaxed);
    workload::wait(&mut sessions, Duration::from_secs(args.seconds)).await?;
    terms.counting.store(false, std::sync::atomic::Ordering::Relaxed);
    terms.over.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut counted = Counted::default();
    while let Some(session) = sessions.join_next().await {
        counted.add(session.context("a session panicked")??);
    }
    Ok(counted)
}

/// Wakes one idle worker again and again; from each submission's sending to the grant, and to its own answer.
async fn wake(
    times: u32,
    farm: &Farm,
    manifest: &ModelManifest,
    terms: &Terms,
) -> Result<(Latencies, Latencies)> {
    let (requests, waiting) = mpsc::channel(16);
    requests.send(message(ToCoordinator::Hello(hello(terms, workload::worker_id()?)?))).await?;
    let mut client = connect(&terms.url, &terms.token).await?;
    let mut responses = client.session(ReceiverStream::new(waiting)).await?.into_inner();
    let (mut wakes, mut submits) = (Latencies::default(), Latencies::default());
    for _ in 0..times {
        requests.send(message(ToCoordinator::Credit(v1::Credit { device: 0, leases: 1 }))).await?;
        let start = Instant::now();
        let (submitted, grant) =
            tokio::join!(timed(workload::submit(farm, manifest, 1), start), granted(&mut responses));
        wakes.push(start.elapsed().min(grant.as_ref().map_or(Duration::MAX, |(_, at)| *at - start)));
        submits.push(submitted?);
        let (grant, _) = grant?;
        let complete = session::completion(grant, terms)?;
        requests.send(message(ToCoordinator::Complete(complete))).await?;
        settled(&mut responses).await?;
    }
    Ok((wakes, submits))
}

async fn timed(work: impl Future<Output = Result<v1::Job>>, start: Instant) -> Result<Duration> {
    work.await?;
    Ok(start.elapsed())
}

async fn granted(responses: &mut Streaming<v1::SessionResponse>) -> Result<(v1::Grant, Instant)> {
    while let Some(response) = responses.message().await? {
        if let Some(FromCoordinator::Grant(grant)) = response.message {
            return Ok((grant, Instant::now()));
        }
    }
    bail!("the session was closed by the coordinator")
}

async fn settled(responses: &mut Streaming<v1::SessionResponse>) -> Result<()> {
    while let Some(response) = responses.message().await? {
        if matches!(response.message, Some(FromCoordinator::Settled(_))) {
            return Ok(());
        }
    }
    bail!("the session was closed by the coordinator")
}

fn text(measured: &Measured) -> String {
    let verdict = if measured.met { "goals met" } else { "GOALS MISSED" };
    facts(&[
        ("pace", format!("{:.0} of {} leases/s", measured.leases_per_second, measured.asked_per_second)),
        (
            "lease",
            format!(
                "p50 {:.1} ms, p99 {:.1} ms (goal {} ms)",
                measured.lease_p50_ms, measured.lease_p99_ms, measured.lease_goal_ms
            ),
        ),
        (
            "wake-up",
            format!(
                "p50 {:.1} ms (goal {} ms), p99 {:.1} ms; the submission itself is answered after {:.1} ms",
                measured.wake_p50_ms, measured.wake_goal_ms, measured.wake_p99_ms, measured.submit_p50_ms
            ),
        ),
        ("database", measured.database.clone()),
        ("verdict", verdict.to_owned()),
    ])
}
