//! `render`: the engine alone, without a farm.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use seedfarm_core::plan::{Catalogue, JobSpec, PromptLine, Settings, plan_with};
use seedfarm_core::{ArtifactDigest, Fingerprint, Invalid, JobTerms, Recipe, RecipeTemplate, SeedPolicy};
use seedfarm_engine::{DeviceSpec, Model, Pictures, Rendered};
use seedfarm_picture::{Caption, Picture};
use serde::Serialize;

use crate::args::adapters::LocalAdapters;
use crate::args::models::{LocalModel, choose};
use crate::args::settings::seed;
use crate::args::{ArithmeticArgs, ExtraArgs, ModelArgs, SettingsArgs};
use crate::client::download::write_whole;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;
use crate::output::Output;
use crate::pictures::{Destination, Prepared, Resolver};
use crate::progress::Progress;

/// Render pictures without a farm
///
/// The same recipe gives the same pixels as on a farm, in strict numerics on any machine.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  seedfarm render --prompt 'cat face on a blue background' --seed 42 --out cat.png
  seedfarm render --model ./my-model --prompt 'a red apple' --seed 1 --count 8 --out apple.png
  seedfarm render --prompt 'a tiger' --source cat.jpg --strength 0.6 --out tiger.png
  seedfarm render --prompt 'a hat' --lora ./felt.safetensors:0.8 --out hat.png

LoRAs, embeddings and ControlNets are named as their files beside the models, or by paths.")]
pub struct RenderArgs {
    /// What to draw
    #[arg(long, value_name = "TEXT")]
    pub prompt: String,

    /// File for the picture; with --count N: FILE-0001.png, FILE-0002.png, ...
    #[arg(long, value_name = "FILE.png")]
    pub out: PathBuf,

    /// Folder or name of the model; may be left out where there is only one
    #[arg(long, value_name = "FOLDER|NAME")]
    pub model: Option<String>,

    /// Seed of the first picture, 0 to 18446744073709551615; the next ones count up
    #[arg(long, value_name = "N", default_value = "0", value_parser = seed, allow_negative_numbers = true)]
    pub seed: u64,

    /// Number of pictures
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub count: u32,

    /// Device: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Rendering")]
    pub device: DeviceSpec,

    /// Threads that render on the processor; 0 is one for each core
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Rendering")]
    pub threads: usize,

    /// Most images in one batch; pixels do not depend on it
    #[arg(long, value_name = "N", default_value_t = 8, help_heading = "Rendering")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    pub batch: u32,

    #[command(flatten)]
    pub settings: SettingsArgs,

    #[command(flatten)]
    pub extras: ExtraArgs,

    #[command(flatten)]
    pub arithmetic: ArithmeticArgs,

    #[command(flatten)]
    pub models: ModelArgs,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document {
    images: Vec<Written>,
    model: String,
    model_digest: String,
    device: String,
    numeric_class: String,
    seconds: f64,
}

/// One picture that was written.
#[derive(Debug, Serialize)]
struct Written {
    path: String,
    /// A string, because a JSON number loses bits past 2^53.
    seed: String,
    recipe_digest: String,
    pixel_digest: String,
    artifact_digest: String,
    width: u32,
    height: u32,
    warnings: Vec<String>,
}

/// Renders.
///
/// # Errors
/// If the model cannot be loaded, a setting is out of its limits, or a file cannot be written.
pub async fn run(args: RenderArgs, output: Output) -> Result<Exit> {
    check_folder(&args.out)?;
    tokio::task::spawn_blocking(move || render(&args, output)).await?
}

fn render(args: &RenderArgs, output: Output) -> Result<Exit> {
    let local = choose(&args.models, args.model.as_deref())?;
    let mut spec = spec(args);
    let adapters = LocalAdapters::named_in(&mut spec.settings, &args.models.search_folders())?;
    let mut catalogue = Catalogue { adapters: adapters.manifests, ..Catalogue::default() };
    let pictures = pictures(args, &mut spec, &local, &mut catalogue, output)?;
    let recipes = recipes(&spec, &local, &catalogue)?;
    let template = &recipes.first().context("there is nothing to render")?.template;
    let model = Model::load_for(&local.folder, &args.device, template, &adapters.paths, args.threads)?;
    let start = Instant::now();
    let rendered = all(&model, &recipes, &pictures, args.batch as usize, output)?;
    let seconds = start.elapsed().as_secs_f64();
    let fingerprint = seedfarm_engine::fingerprint(&args.device, args.arithmetic.numerics);
    let mut images = Vec::new();
    for (index, (recipe, picture)) in recipes.iter().zip(rendered).enumerate() {
        let path = numbered(&args.out, index, recipes.len());
        images.push(write(&path, recipe, picture, &local.manifest.name, &fingerprint)?);
    }
    for warning in images.iter().flat_map(|image| &image.warnings) {
        output.note(&format!("warning: {warning}"));
    }
    let document = Document {
        images,
        model: local.manifest.name.clone(),
        model_digest: local.manifest.digest().to_string(),
        device: args.device.to_string(),
        numeric_class: fingerprint.numeric_class().to_string(),
        seconds,
    };
    output.result(&document, || text(&document))?;
    Ok(Exit::Done)
}

fn text(document: &Document) -> String {
    document.images.iter().map(|image| image.path.clone()).collect::<Vec<_>>().join("\n")
}

/// A folder that is missing is told before anything is rendered.
fn check_folder(out: &Path) -> Result<()> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() && !out.is_dir() {
        return Ok(());
    }
    let message = if out.is_dir() {
        format!("--out {} is a folder: give the name of a file", out.display())
    } else {
        format!("--out {}: there is no folder {}", out.display(), folder.display())
    };
    Err(Failure::usage("NO_FOLDER", message).into())
}

fn spec(args: &RenderArgs) -> JobSpec {
    let line = PromptLine { line: 1, prompt: args.prompt.clone(), seed: None, settings: Settings::default() };
    JobSpec {
        name: String::new(),
        prompts: vec![line],
        count: args.count,
        seed: args.seed,
        seed_policy: SeedPolicy::Sequential,
        terms: JobTerms::default(),
        numerics: args.arithmetic.numerics,
        noise: args.arithmetic.noise,
        settings: args.extras.onto(args.settings.settings()),
    }
}

/// The pictures that the request names by path, brought to size; in the request, paths become digests.
fn pictures(
    args: &RenderArgs,
    spec: &mut JobSpec,
    local: &LocalModel,
    catalogue: &mut Catalogue,
    output: Output,
) -> Result<Pictures> {
    let here = Destination::Here(BTreeMap::new());
    let mut resolver = Resolver::new(local.manifest.clone(), !args.extras.no_resize, here);
    tokio::runtime::Handle::current().block_on(resolver.resolve(spec, Path::new("")))?;
    resolver.notes().iter().for_each(|note| output.note(note));
    let decode = |(digest, prepared): (ArtifactDigest, Prepared)| {
        let picture = seedfarm_picture::decode(&prepared.png)?;
        let (width, height) = (picture.width(), picture.height());
        Ok((digest, seedfarm_engine::Picture::new(width, height, picture.into_rgb())?))
    };
    resolver.into_files(catalogue).into_iter().map(decode).collect()
}

fn recipes(spec: &JobSpec, local: &LocalModel, catalogue: &Catalogue) -> Result<Vec<Recipe>> {
    let plan = plan_with(spec, &local.manifest, catalogue).map_err(|fault| match fault {
        // There is one prompt and no file, so no line to speak of.
        Invalid::AtLine { fault, .. } => *fault,
        fault => fault,
    })?;
    Ok((0..plan.total).filter_map(|index| plan.recipe(index)).collect())
}

fn all(
    model: &Model,
    recipes: &[Recipe],
    pictures: &Pictures,
    batch: usize,
    output: Output,
) -> Result<Vec<Rendered>> {
    let steps: u64 = recipes.iter().map(|recipe| u64::from(sampled(&recipe.template))).sum();
    let mut progress = Progress::new(output, "steps", steps);
    let start = Instant::now();
    let mut rendered: Vec<Option<Rendered>> = vec![None; recipes.len()];
    let mut done = 0;
    for group in seedfarm_engine::group(recipes, batch) {
        let together: Vec<Recipe> = group.iter().map(|&index| recipes[index].clone()).collect();
        let before = done;
        let mut observer = |step: &seedfarm_engine::Progress<'_>| {
            done = before + (step.step * step.images) as u64;
            let rate = done as f64 / start.elapsed().as_secs_f64();
            progress.set(done, &format!("ETA {}", human::eta(steps - done, rate)));
            ControlFlow::Continue(())
        };
        for (index, picture) in group.iter().zip(model.render(&together, pictures, &mut observer)?) {
            rendered[*index] = Some(picture);
        }
    }
    let rate = recipes.len() as f64 / start.elapsed().as_secs_f64();
    progress.finish(done, &human::rate(rate));
    rendered.into_iter().collect::<Option<Vec<_>>>().context("the engine left an image out")
}

/// Steps that are sampled: with a source picture, those that its strength leaves.
fn sampled(template: &RecipeTemplate) -> u32 {
    template.steps() - template.extras.source.as_ref().map_or(0, |source| source.first_step)
}

fn write(
    path: &Path,
    recipe: &Recipe,
    rendered: Rendered,
    model_name: &str,
    fingerprint: &Fingerprint,
) -> Result<Written> {
    let warnings = rendered.warnings;
    let picture = Picture::new(rendered.width, rendered.height, rendered.rgb)?;
    let caption = Caption { recipe, model_name, fingerprint, version: env!("CARGO_PKG_VERSION") };
    let file = seedfarm_picture::encode(&picture, &caption)?;
    write_whole(path, &file)?;
    Ok(Written {
        path: path.display().to_string(),
        seed: recipe.seed.to_string(),
        recipe_digest: recipe.digest().to_string(),
        pixel_digest: picture.digest().to_string(),
        artifact_digest: ArtifactDigest::of_bytes(&file).to_string(),
        width: picture.width(),
        height: picture.height(),
        warnings,
    })
}

/// `out` itself for a single picture, else `out` with a number from 1 before its ending.
fn numbered(out: &Path, index: usize, count: usize) -> PathBuf {
    if count == 1 {
        return out.to_owned();
    }
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    let ending = out.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
    out.with_file_name(format!("{stem}-{:04}{ending}", index + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_picture_keeps_its_name_and_several_are_numbered() {
        let name = |out: &str, index, count| numbered(Path::new(out), index, count);
        assert_eq!(name("a/b.png", 0, 1), PathBuf::from("a/b.png"));
        assert_eq!(name("a/b.png", 11, 12), PathBuf::from("a/b-0012.png"));
        assert_eq!(name("b", 0, 2), PathBuf::from("b-0001"));
    }
}
