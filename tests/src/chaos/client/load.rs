//! Submitting jobs one after another, a few at a time, and noting what is acknowledged.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use seedfarm_proto::v1;
use tokio::time::Instant;

use super::calls::Calls;
use super::{Acknowledged, ClientArgs, Findings, Kind};
use crate::Random;
use crate::chaos::picture;

/// Jobs that are open at once.
const OPEN: usize = 4;
/// Images of a job for workers that draw.
const IMAGES: (u64, u64) = (100, 400);
/// Jobs for workers that render, and images of each: the same in every round.
const REAL: (u64, u64) = (4, 20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(150);

/// See the module's documentation.
pub(super) struct Load {
    kind: Kind,
    seed: u64,
    load: Duration,
    random: Random,
    notes: File,
    pub(super) jobs: Vec<Acknowledged>,
    /// Jobs that were final when looked at last.
    finished: usize,
    open: Vec<String>,
    /// Images that the farm has shown, by job and index, with their pixels.
    pub(super) shown: BTreeMap<(String, u64), String>,
}

impl Load {
    pub(super) fn begin(args: &ClientArgs) -> Result<Self> {
        let path = args.folder.join("acknowledged");
        Ok(Self {
            kind: args.kind,
            seed: args.seed,
            load: Duration::from_millis(args.load_ms),
            random: Random::new(args.seed ^ 0xc11e),
            notes: File::create(&path).with_context(|| format!("cannot write {}", path.display()))?,
            jobs: Vec::new(),
            finished: 0,
            open: Vec::new(),
            shown: BTreeMap::new(),
        })
    }

    /// Submits until the time is over, then waits until every job is final.
    pub(super) async fn run(&mut self, calls: &mut Calls, findings: &mut Findings) -> Result<()> {
        let start = Instant::now();
        while self.wants_more(start.elapsed()) || !self.open.is_empty() {
            if self.wants_more(start.elapsed()) && self.open.len() < OPEN {
                self.submit(calls, findings).await?;
            }
            self.look(calls).await?;
            if calls.is_late() {
                bail!("{} of {} jobs are not finished", self.open.len(), self.jobs.len());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn wants_more(&self, elapsed: Duration) -> bool {
        match self.kind {
            Kind::Cheap => elapsed < self.load,
            Kind::Real => (self.jobs.len() as u64) < REAL.0,
        }
    }

    async fn submit(&mut self, calls: &mut Calls, findings: &mut Findings) -> Result<()> {
        let (request, total) = self.request();
        let job = send(calls, &request).await?;
        let line = format!("{} {} {total}\n", job.id, request.idempotency_key);
        self.notes.write_all(line.as_bytes())?;
        self.notes.sync_data()?;
        if self.random.one_in(4) {
            let again = send(calls, &request).await?;
            if again.id != job.id {
                findings.duplicated += 1;
                findings.notes.push(format!("one key made {} and {}", job.id, again.id));
            }
        }
        let prompt = request.prompts[0].prompt.clone();
        self.open.push(job.id.clone());
        self.jobs.push(Acknowledged { id: job.id, seed: request.seed, total, prompt });
        Ok(())
    }

    fn request(&mut self) -> (v1::SubmitJobRequest, u64) {
        let number = self.jobs.len() as u64;
        let (total, seed, model) = match self.kind {
            Kind::Cheap => {
                let total = self.random.between(IMAGES.0, IMAGES.1);
                (total, self.random.below(1 << 40), picture::MODEL)
            }
            Kind::Real => (REAL.1, 1000 * (number + 1), "tiny-sd1"),
        };
        let settings = match self.kind {
            Kind::Cheap => v1::Settings::default(),
            Kind::Real => v1::Settings { steps: Some(2), ..v1::Settings::default() },
        };
        let prompt = match self.kind {
            Kind::Cheap => format!("job {number}"),
            Kind::Real => "red apple".to_owned(),
        };
        let line = v1::PromptLine { line: 1, prompt, seed: None, settings: Some(v1::Settings::default()) };
        let request = v1::SubmitJobRequest {
            idempotency_key: format!("chaos-{}-{number}", self.seed),
            name: format!("chaos {number}"),
            model: model.to_owned(),
            prompts: vec![line],
            count: u32::try_from(total).unwrap_or(u32::MAX),
            seed,
            seed_policy: v1::SeedPolicy::Sequential.into(),
            numerics: v1::Numerics::Strict.into(),
            noise: "philox".to_owned(),
            settings: Some(settings),
            terms: None,
        };
        (request, total)
    }

    /// Looks at what is open, and notes the images that one of them shows.
    async fn look(&mut self, calls: &mut Calls) -> Result<()> {
        let open = std::mem::take(&mut self.open);
        let mut rest = Vec::new();
        for id in open {
            let job = calls.job(&id).await?;
            let is_final = |job: &v1::Job| job.state() == v1::JobState::Finished;
            match job {
                Some(job) if is_final(&job) => self.finished += 1,
                Some(_) => rest.push(id),
                // Told apart when everything is read back.
                None => {}
            }
        }
        self.open = rest;
        if self.open.is_empty() || !self.random.one_in(4) {
            return Ok(());
        }
        let id = self.random.pick(&self.open).clone();
        for image in calls.images(&id).await? {
            let index = index_of(&image);
            self.shown.insert((id.clone(), index), image.pixel_digest);
        }
        Ok(())
    }
}

/// The index in an image's id.
pub(super) fn index_of(image: &v1::Image) -> u64 {
    image.id.rsplit('/').next().and_then(|index| index.parse().ok()).unwrap_or(u64::MAX)
}

async fn send(calls: &mut Calls, request: &v1::SubmitJobRequest) -> Result<v1::Job> {
    let answer = calls.ask(|mut jobs| {
        let request = request.clone();
        async move { jobs.submit_job(request).await }
    });
    answer.await?.and_then(|answer| answer.job).context("a submission was answered without a job")
}
