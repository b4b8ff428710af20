//! A worker that does everything but diffuse: its pictures follow from the recipe's digest.

use std::collections::BTreeMap;

use seedfarm_core::completion::Reception;
use seedfarm_core::{
    ArtifactDigest, Fingerprint, ModelManifest, Numerics, PixelDigest, Recipe, RecipeTemplate, canonical,
};
use seedfarm_picture::Picture;
use seedfarm_proto::v1::session_request::Message as Ask;
use seedfarm_proto::v1::session_response::Message as Answer;
use seedfarm_proto::v1::worker_service_client::WorkerServiceClient;
use seedfarm_proto::{PROTOCOL, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::support::{Authorised, Bearer, Farm, WORKER_TOKEN, manifest, within};

pub struct Worker {
    pub id: String,
    pub client: WorkerServiceClient<Authorised>,
    pub asks: mpsc::Sender<v1::SessionRequest>,
    pub answers: Streaming<v1::SessionResponse>,
    /// Added to every pixel: another machine, or a liar.
    pub shift: u8,
}

/// How worker `n` introduces itself.
pub fn hello(n: u128) -> v1::Hello {
    v1::Hello {
        worker_id: format!("worker_{n:032x}"),
        name: format!("worker {n}"),
        version: "test".into(),
        devices: vec![device(0)],
        model_manifests_json: vec![json(&manifest("tiny"))],
        held: Vec::new(),
        adapters_json: Vec::new(),
        fetches_bytes: 0,
        acceptance: None,
        protocol: PROTOCOL,
        instance: "a process".into(),
    }
}

pub fn json(manifest: &ModelManifest) -> String {
    canonical::to_string(manifest)
}

fn device(index: u32) -> v1::Device {
    v1::Device {
        index,
        name: "a device".into(),
        backend: "cpu".into(),
        memory_bytes: 1 << 30,
        fingerprints_json: vec![fingerprint(Numerics::Strict)],
    }
}

pub fn fingerprint(numerics: Numerics) -> String {
    canonical::to_string(&Fingerprint {
        numerics,
        engine_revision: 1,
        backend: "cpu".into(),
        architecture: "any".into(),
        precision: "f32".into(),
        libraries: BTreeMap::new(),
        device_name: "a device".into(),
    })
}

/// The picture of a recipe.
pub fn picture(recipe: &Recipe, shift: u8) -> Picture {
    let (width, height) = (recipe.template.width, recipe.template.height);
    let bytes = (width * height * 3) as usize;
    let digest = recipe.digest();
    let rgb = digest.as_bytes().iter().cycle().take(bytes).map(|byte| byte.wrapping_add(shift));
    Picture::new(width, height, rgb.collect()).unwrap()
}

/// The recipes of a grant, by image index.
pub fn recipes(grant: &v1::Grant) -> Vec<(u64, Recipe)> {
    let template = |n: u32| RecipeTemplate::from_json(&grant.templates_json[n as usize]).unwrap();
    let images = grant.images.iter();
    images.map(|image| (image.index, template(image.template).with_seed(image.seed))).collect()
}

impl Worker {
    /// Connects, is welcomed and gives credit for two leases.
    pub async fn connect(farm: &Farm, n: u128) -> Self {
        let mut worker = Self::greet(farm, hello(n)).await;
        worker.welcome().await;
        worker.credit(2).await;
        worker
    }

    /// Says Hello; the answer is left unread.
    pub async fn greet(farm: &Farm, hello: v1::Hello) -> Self {
        let mut client =
            WorkerServiceClient::with_interceptor(farm.channel().await, Bearer::new(WORKER_TOKEN));
        let (asks, receiver) = mpsc::channel(64);
        let id = hello.worker_id.clone();
        asks.send(v1::SessionRequest { message: Some(Ask::Hello(hello)) }).await.unwrap();
        let answers = client.session(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { id, client, asks, answers, shift: 0 }
    }

    /// Says Hello to a coordinator that takes no workers; answers its refusal.
    pub async fn refused(farm: &Farm, hello: v1::Hello) -> Status {
        let mut client =
            WorkerServiceClient::with_interceptor(farm.channel().await, Bearer::new(WORKER_TOKEN));
        let hello = v1::SessionRequest { message: Some(Ask::Hello(hello)) };
        within(client.session(tokio_stream::iter([hello]))).await.unwrap_err()
    }

    pub async fn welcome(&mut self) -> v1::Welcome {
        match self.next().await {
            Answer::Welcome(welcome) => welcome,
            other => panic!("{other:?} instead of Welcome"),
        }
    }

    pub async fn say(&self, message: Ask) {
        self.asks.send(v1::SessionRequest { message: Some(message) }).await.unwrap();
    }

    /// Reports to a coordinator that may not listen any more.
    pub async fn report_in_vain(&self, complete: v1::Complete) {
        let _ = self.asks.send(v1::SessionRequest { message: Some(Ask::Complete(complete)) }).await;
    }

    /// Says one thing so many times, or until nobody listens.
    pub async fn shout(&self, message: &Ask, times: usize) {
        for _ in 0..times {
            let request = v1::SessionRequest { message: Some(message.clone()) };
            if self.asks.send(request).await.is_err() {
                return;
            }
        }
    }

    pub async fn credit(&self, leases: u32) {
        self.say(Ask::Credit(v1::Credit { device: 0, leases })).await;
    }

    pub async fn heartbeat(&self, held: Vec<v1::Fence>) {
        self.say(Ask::Heartbeat(v1::Heartbeat { held, resting: Vec::new() })).await;
    }

    pub async fn try_next(&mut self) -> Result<Option<Answer>, Status> {
        Ok(within(self.answers.message()).await?.and_then(|answer| answer.message))
    }

    pub async fn next(&mut self) -> Answer {
        self.try_next().await.unwrap().expect("the stream goes on")
    }

    pub async fn grant(&mut self) -> v1::Grant {
        match self.next().await {
            Answer::Grant(grant) => grant,
            other => panic!("{other:?} instead of a grant"),
        }
    }

    pub async fn revoke(&mut self) -> v1::Revoke {
        match self.next().await {
            Answer::Revoke(revoke) => revoke,
            other => panic!("{other:?} instead of Revoke"),
        }
    }

    pub async fn settled(&mut self) -> Vec<Reception> {
        match self.next().await {
            Answer::Settled(settled) => {
                settled.receptions().map(|reception| Reception::try_from(reception).unwrap()).collect()
            }
            other => panic!("{other:?} instead of Settled"),
        }
    }

    /// Renders every image of a grant and uploads it.
    pub async fn render(&mut self, grant: &v1::Grant) -> v1::Complete {
        let mut images = Vec::new();
        for (index, recipe) in recipes(grant) {
            let picture = picture(&recipe, self.shift);
            let png = seedfarm_picture::encode_plain(&picture).unwrap();
            images.push(v1::RenderedImage {
                index,
                recipe_digest: recipe.digest().to_string(),
                pixel_digest: picture.digest().to_string(),
                artifact_digest: self.upload(&png).await.unwrap(),
                artifact_bytes: png.len() as u64,
                duration_ms: 10_000,
                warnings: Vec::new(),
            });
        }
        v1::Complete {
            fence: grant.fence,
            job_id: grant.job_id.clone(),
            images,
            fingerprint_json: fingerprint(Numerics::Strict),
            failure: None,
            log: String::new(),
        }
    }

    pub async fn upload(&mut self, bytes: &[u8]) -> Result<String, Status> {
        let digest = ArtifactDigest::of_bytes(bytes).to_string();
        self.upload_as(&digest, bytes).await.map(|_| digest)
    }

    /// Sends bytes in chunks of half a mebibyte under a digest that may be wrong.
    pub async fn upload_as(&mut self, digest: &str, bytes: &[u8]) -> Result<bool, Status> {
        let digest = digest.to_owned();
        let chunks: Vec<v1::PutArtifactRequest> = bytes
            .chunks(512 << 10)
            .map(|data| v1::PutArtifactRequest {
                artifact_digest: digest.clone(),
                chunk: Some(v1::Chunk { data: data.to_vec() }),
            })
            .collect();
        let put = self.client.put_artifact(tokio_stream::iter(chunks));
        Ok(within(put).await?.into_inner().known)
    }

    /// Renders a grant and reports it.
    pub async fn complete(&mut self, grant: &v1::Grant) {
        let complete = self.render(grant).await;
        self.say(Ask::Complete(complete)).await;
    }

    /// Reports that nothing of a grant could be rendered.
    pub async fn fail(&mut self, grant: &v1::Grant, class: v1::FailureClass, why: &str) {
        let failure = v1::Failure { class: class.into(), error: why.to_owned() };
        self.say(Ask::Complete(v1::Complete {
            fence: grant.fence,
            job_id: grant.job_id.clone(),
            failure: Some(failure),
            ..v1::Complete::default()
        }))
        .await;
    }

    /// Takes whatever comes and renders it, until the stream ends.
    pub async fn work(mut self) {
        while let Ok(Some(answer)) = self.try_next().await {
            if let Answer::Grant(grant) = answer {
                self.complete(&grant).await;
                self.credit(1).await;
            }
        }
    }
}

/// The pixel digest of each image of a whole job, as a farm without faults gives it.
pub fn expected_pixels(manifest: &ModelManifest, spec: &seedfarm_core::plan::JobSpec) -> Vec<PixelDigest> {
    let plan = seedfarm_core::plan::plan(spec, manifest).unwrap();
    (0..plan.total).map(|index| picture(&plan.recipe(index).unwrap(), 0).digest()).collect()
}
