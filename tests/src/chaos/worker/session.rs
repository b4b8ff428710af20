//! One stream of a worker, from Hello to its end.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use seedfarm_core::canonical;
use seedfarm_proto::v1::session_request::Message as Asked;
use seedfarm_proto::v1::session_response::Message as Answer;
use seedfarm_proto::v1::worker_service_client::WorkerServiceClient;
use seedfarm_proto::{PROTOCOL, v1};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::copies::lease_of;
use super::{Fences, Worker, render};
use crate::chaos::journal::Line;
use crate::chaos::picture;
use crate::chaos::wire::{self, CALL, Wire};

/// Messages that may wait to be sent.
const WAITING: usize = 256;
/// Leases held at once.
const CREDITS: u32 = 2;
/// A stream on which nothing is heard for so long, while an answer is due, is given up.
const SILENCE: Duration = Duration::from_secs(5);
/// After so many answers, one old completion is sent again.
const RESEND_ONE_IN: u64 = 4;

struct Session<'a> {
    worker: &'a mut Worker,
    client: WorkerServiceClient<Wire>,
    requests: mpsc::Sender<v1::SessionRequest>,
    drawing: Fences,
    renders: JoinSet<(i64, Result<v1::Complete>)>,
    heartbeat: Option<Interval>,
    heard: Instant,
}

/// Opens a stream and works on it until it ends.
pub(super) async fn run(worker: &mut Worker) -> Result<()> {
    let client = wire::worker(worker.places.now(), &worker.token)?;
    let (requests, waiting) = mpsc::channel(WAITING);
    let mut opening = client.clone();
    let mut session = Session {
        worker,
        client,
        requests,
        drawing: HashMap::new(),
        renders: JoinSet::new(),
        heartbeat: None,
        heard: Instant::now(),
    };
    session.send(Asked::Hello(session.hello()?))?;
    let opened = timeout(CALL, opening.session(ReceiverStream::new(waiting))).await;
    let mut responses = opened.context("the coordinator does not answer")??.into_inner();
    loop {
        tokio::select! {
            response = responses.message() => {
                let response = response?.context("the coordinator closed the stream")?;
                session.heard = Instant::now();
                session.hear(response)?;
            }
            Some(drawn) = session.renders.join_next() => {
                let (lease, complete) = drawn.context("a drawing panicked")?;
                session.drawn(lease, complete)?;
            }
            () = due(&mut session.heartbeat) => session.beat()?,
            () = tokio::time::sleep_until(session.heard + 2 * SILENCE) => bail!("the coordinator is silent"),
        }
    }
}

async fn due(heartbeat: &mut Option<Interval>) {
    match heartbeat {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

impl Session<'_> {
    /// Sends, or gives the stream up when what waits is not taken.
    fn send(&self, message: Asked) -> Result<()> {
        let request = v1::SessionRequest { message: Some(message) };
        self.requests.try_send(request).ok().context("the stream takes nothing more")
    }

    fn ask(&self, leases: u32) -> Result<()> {
        self.send(Asked::Credit(v1::Credit { device: 0, leases }))
    }

    fn hear(&mut self, response: v1::SessionResponse) -> Result<()> {
        match response.message {
            Some(Answer::Welcome(welcome)) => self.welcome(&welcome),
            Some(Answer::Grant(grant)) => self.draw(grant),
            Some(Answer::Settled(settled)) => {
                if self.worker.settled(&settled)? {
                    self.ask(1)?;
                }
                if self.worker.random.one_in(RESEND_ONE_IN) { self.resend() } else { Ok(()) }
            }
            Some(Answer::Revoke(revoke)) => {
                let open = self.worker.revoked(&revoke.fence.unwrap_or_default())?;
                if open { self.ask(1) } else { Ok(()) }
            }
            Some(Answer::Drain(_)) => bail!("the worker was told to leave"),
            // It fetches no models.
            Some(Answer::Wanted(_)) | None => Ok(()),
        }
    }

    /// Asks for work, and sends everything again that was not answered on an earlier stream.
    fn welcome(&mut self, welcome: &v1::Welcome) -> Result<()> {
        let ms = u64::from(welcome.heartbeat_interval_ms.max(1));
        self.heartbeat = Some(interval(Duration::from_millis(ms)));
        let open: Vec<v1::Complete> = self.worker.open.values().cloned().collect();
        for complete in open {
            self.send(Asked::Complete(complete))?;
        }
        self.resend()?;
        self.ask(CREDITS)
    }

    fn draw(&mut self, grant: v1::Grant) -> Result<()> {
        let fence = grant.fence.context("a grant lacks its fence")?;
        self.drawing.insert(fence.lease_id, fence);
        let (client, pace) = (self.client.clone(), self.worker.pace);
        let drawing = async move { (fence.lease_id, render::run(client, grant, pace).await) };
        self.renders.spawn(drawing);
        Ok(())
    }

    /// Completes a lease. One that was lost meanwhile is completed all the same.
    fn drawn(&mut self, lease: i64, complete: Result<v1::Complete>) -> Result<()> {
        self.drawing.remove(&lease);
        let complete = complete?;
        self.worker.journal.write(&[Line::Drawn(complete.images.len() as u64)])?;
        self.worker.copies.keep(&complete)?;
        if self.worker.lost.contains(&lease) {
            self.worker.journal.write(&[Line::Resent])?;
            self.ask(1)?;
        } else {
            self.worker.open.insert(lease, complete.clone());
        }
        self.send(Asked::Complete(complete))
    }

    /// Sends an old completion again.
    fn resend(&mut self) -> Result<()> {
        let Worker { copies, random, open, .. } = &mut *self.worker;
        let old = copies.any(random).filter(|old| !open.contains_key(&lease_of(old))).cloned();
        let Some(old) = old else { return Ok(()) };
        self.worker.journal.write(&[Line::Resent])?;
        self.send(Asked::Complete(old))
    }

    fn beat(&mut self) -> Result<()> {
        let waits = !self.worker.open.is_empty();
        ensure!(!waits || self.heard.elapsed() < SILENCE, "a completion is not answered");
        self.send(Asked::Heartbeat(v1::Heartbeat { held: self.held(), ..v1::Heartbeat::default() }))
    }

    fn held(&self) -> Vec<v1::Fence> {
        let drawing = self.drawing.values().filter(|fence| !self.worker.lost.contains(&fence.lease_id));
        let open = self.worker.open.values().filter_map(|complete| complete.fence);
        drawing.copied().chain(open).collect()
    }

    fn hello(&self) -> Result<v1::Hello> {
        Ok(v1::Hello {
            worker_id: self.worker.id.to_string(),
            name: "chaos".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            devices: vec![v1::Device {
                index: 0,
                name: "none".to_owned(),
                backend: "cpu".to_owned(),
                memory_bytes: 0,
                fingerprints_json: vec![canonical::to_string(&picture::fingerprint())],
            }],
            model_manifests_json: vec![serde_json::to_string(&picture::manifest())?],
            held: self.held(),
            protocol: PROTOCOL,
            instance: std::process::id().to_string(),
            ..v1::Hello::default()
        })
    }
}
