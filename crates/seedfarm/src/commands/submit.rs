//! `submit`: a prompt file becomes a job.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use seedfarm_core::plan::{JobSpec, PromptLine, Settings};
use seedfarm_core::{ModelManifest, SeedPolicy, prompt_file};
use seedfarm_proto::{convert, json, v1};
use seedfarm_runtime::secret;
use serde_json::json;

use crate::args::settings::seed;
use crate::args::{ArithmeticArgs, ClientArgs, ExtraArgs, SettingsArgs, TermsArgs};
use crate::client::Farm;
use crate::commands::watch;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::pictures::{Destination, Resolver, names_a_path};

/// The longest prompt file that is read.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// How often a submission is sent again when its answer got lost.
const TRIES: u32 = 3;

/// Submit a job: a prompt file, or prompts on the command line
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
A prompt file has one prompt a line, as text or as JSON with these keys, of which only prompt must be
there. What a line leaves open is taken from the options, then from the model.

  prompt, negative_prompt, seed, width, height, steps, guidance, sampler, schedule, eta, guidance_rescale,
  clip_skip, decode_tile
  prompt_syntax   \"plain\" or \"weighted\"
  loras           [{\"name\": \"felt\", \"weight\": 0.8, \"text_weight\": 1}]
  embeddings      [\"mosaic\"]
  variation       {\"seed\": \"7\", \"strength\": 0.1}
  source          {\"image\": \"cat.png\", \"strength\": 0.6, \"mask\": \"mask.png\"}
  controls        [{\"name\": \"canny\", \"image\": \"edges.png\", \"scale\": 0.8, \"start\": 0, \"end\": 0.5}]

Pictures are paths (from the prompt file's folder; in options from the present one) or digests that
'seedfarm upload' printed. PNG, JPEG and WebP files are read. A picture of another size than its image
is cut to the image's proportions around the middle and scaled; where no size is asked for, the image
takes the size of its source, rounded down to what the model can do.

Examples:
  seedfarm submit prompts.jsonl --seed 42 --count 4 --watch
  seedfarm submit --prompt 'red apple on a yellow background' --count 16
  seedfarm submit --prompt 'a tiger' --source cat.jpg --strength 0.6
  seedfarm submit --prompt 'a hat' --source cat.png --mask head.png --lora felt:0.8
  seedfarm submit --prompt 'a house' --control canny:0.8:0:0.5=edges.png
  seedfarm submit prompts.txt --tenant research --deadline 6h --budget 20h --max-failures 10
  generate-prompts | seedfarm submit - --seed-policy derived --json")]
pub struct SubmitArgs {
    /// Prompt file; - reads standard input
    #[arg(value_name = "FILE", required_unless_present = "prompts")]
    pub file: Option<PathBuf>,

    /// A prompt; may be repeated
    #[arg(long = "prompt", value_name = "TEXT", conflicts_with = "file")]
    pub prompts: Vec<String>,

    /// Name or digest of the model; may be left out where the farm has only one
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,

    /// The job's seed, 0 to 18446744073709551615
    #[arg(long, value_name = "N", default_value = "0", value_parser = seed, allow_negative_numbers = true)]
    pub seed: u64,

    /// Images for each prompt
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub count: u32,

    /// How images get their seeds: sequential (seed + index), derived, fixed or explicit (from the file)
    #[arg(long, value_name = "POLICY", default_value = "sequential", value_parser = SeedPolicy::from_name)]
    pub seed_policy: SeedPolicy,

    /// A name for people; without it, the file's
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,

    /// Sending the same key again answers the first job instead of making a second
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,

    /// Watch the job until it is finished
    #[arg(long)]
    pub watch: bool,

    #[command(flatten)]
    pub settings: SettingsArgs,

    #[command(flatten)]
    pub extras: ExtraArgs,

    #[command(flatten)]
    pub terms: TermsArgs,

    #[command(flatten)]
    pub arithmetic: ArithmeticArgs,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// Submits, and watches if asked to.
///
/// # Errors
/// If the prompt file cannot be read, or the coordinator refuses the job: then nothing is stored.
pub async fn run(args: SubmitArgs, output: Output) -> Result<Exit> {
    let mut spec = spec(&args)?;
    let farm = Farm::connect(&args.client).await?;
    let model = match &args.model {
        Some(model) => model.clone(),
        None => only_model(&farm).await?,
    };
    let notes = match names_a_path(&spec) {
        true => upload_pictures(&args, &mut spec, &farm, &model).await?,
        false => Vec::new(),
    };
    notes.iter().for_each(|note| output.note(note));
    let key = match &args.idempotency_key {
        Some(key) => key.clone(),
        None => format!("cli-{}", secret::random_hex(16)?),
    };
    let sent = send(&farm, convert::submission(spec, model, key.clone())).await;
    let response = sent.map_err(|status| not_acknowledged(status, &key))?;
    let job = response.job.context("the coordinator's answer lacks the job")?;
    for warning in &response.warnings {
        output.note(&format!("warning: {warning}"));
    }
    if args.watch {
        output.note(&format!("{} submitted, {} images", job.id, job.total));
        return watch::follow(&farm, &job.id, None, output).await;
    }
    let document = json!({
        "job": json::job(&job),
        "repeated": response.repeated,
        "notes": notes,
        "warnings": response.warnings,
    });
    output.result(&document, || job.id.clone())?;
    let repeated = if response.repeated { "known by its idempotency key already" } else { "submitted" };
    output.note(&format!("{repeated}, {} images; next: seedfarm watch {}", job.total, job.id));
    Ok(Exit::Done)
}

/// Hands over the pictures that the request names by path; answers what was done to them.
async fn upload_pictures(
    args: &SubmitArgs,
    spec: &mut JobSpec,
    farm: &Farm,
    model: &str,
) -> Result<Vec<String>> {
    let manifest = manifest(farm, model).await?;
    let resize = !args.extras.no_resize;
    let mut resolver = Resolver::new(manifest, resize, Destination::Farm(farm.clone()));
    let folder = args.file.as_deref().filter(|file| !is_stdin(file)).and_then(Path::parent);
    resolver.resolve(spec, folder.unwrap_or(Path::new(""))).await?;
    Ok(resolver.notes())
}

/// What the farm knows of a model.
async fn manifest(farm: &Farm, wanted: &str) -> Result<ModelManifest> {
    let models = farm.models().list_models(v1::ListModelsRequest {}).await?.into_inner().models;
    let found = models.iter().find(|model| model.name == wanted || model.digest == wanted);
    let found = found.ok_or_else(|| {
        let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
        let message = format!("the model '{wanted}' is unknown; known are {}", names.join(", "));
        Failure::usage("UNKNOWN_MODEL", message)
    })?;
    serde_json::from_str(&found.manifest_json).context("the farm's model cannot be read")
}

/// Sends a submission; the key makes it safe to send it again when the answer got lost.
pub async fn send(
    farm: &Farm,
    request: v1::SubmitJobRequest,
) -> Result<v1::SubmitJobResponse, tonic::Status> {
    let mut tries = 1;
    loop {
        match farm.jobs().submit_job(request.clone()).await {
            Err(status) if status.code() == tonic::Code::Unavailable && tries < TRIES => {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                tries += 1;
            }
            answer => return answer.map(tonic::Response::into_inner),
        }
    }
}

/// Where the answer may have got lost, the key makes another try safe.
fn not_acknowledged(status: tonic::Status, key: &str) -> anyhow::Error {
    let lost = matches!(status.code(), tonic::Code::Unavailable | tonic::Code::DeadlineExceeded);
    let error = anyhow::Error::from(status);
    if !lost {
        return error.context("the job is refused");
    }
    error.context(format!("the job was not acknowledged; try again with --idempotency-key {key}"))
}

fn spec(args: &SubmitArgs) -> Result<JobSpec> {
    let prompts = match &args.file {
        Some(file) => {
            let bytes = read(file)?;
            prompt_file::parse(&bytes).with_context(|| format!("{} is refused", shown(file)))?
        }
        None => args.prompts.iter().enumerate().map(|(i, prompt)| line(i + 1, prompt)).collect(),
    };
    let stem = args.file.as_deref().filter(|file| !is_stdin(file)).and_then(Path::file_stem);
    let name = args.name.clone().or_else(|| stem.map(|stem| stem.to_string_lossy().into_owned()));
    Ok(JobSpec {
        name: name.unwrap_or_default(),
        prompts,
        count: args.count,
        seed: args.seed,
        seed_policy: args.seed_policy,
        terms: args.terms.terms(),
        numerics: args.arithmetic.numerics,
        noise: args.arithmetic.noise,
        settings: args.extras.onto(args.settings.settings()),
    })
}

fn line(number: usize, prompt: &str) -> PromptLine {
    PromptLine { line: number, prompt: prompt.to_owned(), seed: None, settings: Settings::default() }
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn shown(file: &Path) -> String {
    if is_stdin(file) { "standard input".to_owned() } else { file.display().to_string() }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = MAX_FILE_BYTES + 1;
    let read = if is_stdin(file) {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|error| {
        Failure::usage("NO_PROMPT_FILE", format!("the prompt file {} cannot be read: {error}", shown(file)))
    })?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("{} is larger than the limit of {MAX_FILE_BYTES} bytes: split it", shown(file));
        return Err(Failure::usage("PROMPT_FILE_TOO_LARGE", message).into());
    }
    Ok(bytes)
}

/// The farm's only model.
async fn only_model(farm: &Farm) -> Result<String> {
    let models = farm.models().list_models(v1::ListModelsRequest {}).await?.into_inner().models;
    match models.as_slice() {
        [model] => Ok(model.digest.clone()),
        [] => {
            Err(Failure::failed("NO_MODEL", "the farm knows no model yet: start a worker that has one")
                .into())
        }
        models => {
            let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
            let message =
                format!("the farm has several models: choose one with --model ({})", names.join(", "));
            Err(Failure::usage("MODEL_NOT_CHOSEN", message).into())
        }
    }
}
