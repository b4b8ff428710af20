//! The engine as a renderer: this machine's devices and models, loaded when first needed.

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use seedfarm_core::completion::FailureClass;
use seedfarm_core::{AdapterDigest, ArtifactDigest, ModelDigest, Numerics, Recipe, RecipeTemplate};
use seedfarm_engine::{DeviceInfo, DeviceSpec, Error, Model, Progress, Rendered, devices, fingerprint};
use seedfarm_picture::Picture;

use crate::config::WorkerConfig;
use crate::error::WorkerError;
use crate::home;
use crate::library::{Library, LocalModel};
use crate::node::{RenderDevice, Stock};
use crate::renderer::{Drawn, Fault, Pictures, RenderFault, Renderer, Step, Watcher, chain};

/// Images that a GPU renders together, where the owner says nothing.
const GPU_BATCH: usize = 4;

/// What weights take on a device, as a multiple of their bytes on disk: they may lie there in half the
/// precision in which they compute.
const LOADED_PER_STORED: u64 = 2;

/// Finds the models and devices that `config` asks for.
pub(crate) async fn find(config: &WorkerConfig) -> Result<(Stock, Vec<RenderDevice>), WorkerError> {
    let config = config.clone();
    // Hashing weights takes a while and must not hold up the runtime.
    let found = tokio::task::spawn_blocking(move || find_now(&config)).await;
    found.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

fn find_now(config: &WorkerConfig) -> Result<(Stock, Vec<RenderDevice>), WorkerError> {
    let infos = choose(&config.devices, devices())?;
    let library = Library::scan(&config.model_dirs, &home::model_cache(&config.data_dir))?;
    let stock = Stock { models: library.manifests(), adapters: library.adapter_manifests() };
    let adapters = library.adapter_paths();
    let found = Arc::new(Found { adapters, models: library.into_models() });
    let memory = config.model_memory_bytes.unwrap_or_else(|| machine_memory() / 2 / infos.len() as u64);
    let device = |info| render_device(config, info, &found, memory);
    Ok((stock, infos.into_iter().map(device).collect()))
}

fn choose(wanted: &[DeviceSpec], found: Vec<DeviceInfo>) -> Result<Vec<DeviceInfo>, WorkerError> {
    if wanted.is_empty() {
        return Ok(found);
    }
    let pick = |spec: &DeviceSpec| {
        found.iter().find(|info| info.spec == *spec).cloned().ok_or_else(|| WorkerError::NoSuchDevice {
            given: spec.to_string(),
            found: found.iter().map(|info| info.spec.to_string()).collect::<Vec<_>>().join(", "),
        })
    };
    wanted.iter().map(pick).collect()
}

fn render_device(config: &WorkerConfig, info: DeviceInfo, found: &Arc<Found>, memory: u64) -> RenderDevice {
    let is_cpu = info.spec == DeviceSpec::Cpu;
    RenderDevice {
        backend: if is_cpu { "cpu" } else { "cuda" }.to_owned(),
        memory_bytes: if is_cpu { machine_memory() } else { 0 },
        fingerprints: info.numerics.iter().map(|&class| fingerprint(&info.spec, class)).collect(),
        batch: config.batch.unwrap_or(if is_cpu { 1 } else { GPU_BATCH }).max(1),
        name: info.name,
        renderer: Box::new(EngineRenderer {
            spec: info.spec,
            threads: config.threads,
            found: Arc::clone(found),
            memory,
            loaded: Vec::new(),
        }),
    }
}

/// Bytes of memory of this machine, where the system tells it.
fn machine_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(0, |kib| kib * 1024)
}

/// Where models and adapters lie.
struct Found {
    models: HashMap<ModelDigest, LocalModel>,
    adapters: HashMap<AdapterDigest, PathBuf>,
}

/// One device's engine, with the models that were used last.
struct EngineRenderer {
    spec: DeviceSpec,
    threads: usize,
    found: Arc<Found>,
    /// Bytes that loaded models may take; one is always kept.
    memory: u64,
    /// The last used stands last.
    loaded: Vec<Loaded>,
}

struct Loaded {
    digest: ModelDigest,
    numerics: Numerics,
    bytes: u64,
    model: Model,
}

impl Renderer for EngineRenderer {
    fn render(
        &mut self,
        model: &ModelDigest,
        recipes: &[Recipe],
        pictures: &Pictures,
        watcher: &mut Watcher<'_>,
    ) -> Result<Vec<Drawn>, RenderFault> {
        let Some(first) = recipes.first() else { return Ok(Vec::new()) };
        let pictures = pictures.iter().map(given).collect::<Result<_, _>>()?;
        let model = self.model(model, &first.template)?;
        let mut observer = |progress: &Progress<'_>| watch(progress, watcher);
        let rendered = model.render(recipes, &pictures, &mut observer).map_err(fault)?;
        rendered.into_iter().map(drawn).collect()
    }

    fn forget(&mut self) {
        self.loaded.clear();
    }
}

impl EngineRenderer {
    /// The model with the template's adapters, loaded where it is not yet, in place of those that were not
    /// used for longest.
    fn model(&mut self, digest: &ModelDigest, template: &RecipeTemplate) -> Result<&Model, RenderFault> {
        let same = |loaded: &Loaded| {
            loaded.digest == *digest && loaded.numerics == template.numerics && loaded.model.serves(template)
        };
        let loaded = match self.loaded.iter().position(same) {
            Some(position) => self.loaded.remove(position),
            None => self.load(digest, template)?,
        };
        self.loaded.push(loaded);
        Ok(&self.loaded.last().expect("it was just put there").model)
    }

    fn load(&mut self, digest: &ModelDigest, template: &RecipeTemplate) -> Result<Loaded, RenderFault> {
        let Some(local) = self.found.models.get(digest).cloned() else {
            return Err(environment(format!("this worker does not have the model {digest}")));
        };
        let bytes = local.manifest.weights_bytes.saturating_mul(LOADED_PER_STORED);
        self.make_room(bytes);
        let model = Model::load_for(&local.folder, &self.spec, template, &self.found.adapters, self.threads);
        let model = model.map_err(load_fault)?;
        let actual = model.manifest().digest();
        if actual != *digest {
            let folder = local.folder.display();
            return Err(environment(format!(
                "the model in {folder} was {digest} when this worker started and is {actual} now"
            )));
        }
        Ok(Loaded { digest: *digest, numerics: template.numerics, bytes, model })
    }

    fn make_room(&mut self, bytes: u64) {
        let used = |loaded: &[Loaded]| loaded.iter().map(|loaded| loaded.bytes).sum::<u64>();
        while !self.loaded.is_empty() && used(&self.loaded).saturating_add(bytes) > self.memory {
            self.loaded.remove(0);
        }
    }
}

fn watch(progress: &Progress<'_>, watcher: &mut Watcher<'_>) -> ControlFlow<()> {
    let preview = || progress.preview(0).ok().and_then(|rendered| picture(rendered).ok());
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    watcher(&Step { step: count(progress.step), steps: count(progress.steps), preview: &preview })
}

/// A picture as the engine takes it.
fn given(
    (digest, picture): (&ArtifactDigest, &Arc<Picture>),
) -> Result<(ArtifactDigest, seedfarm_engine::Picture), RenderFault> {
    let given = seedfarm_engine::Picture::new(picture.width(), picture.height(), picture.rgb());
    Ok((*digest, given.map_err(fault)?))
}

fn drawn(mut rendered: Rendered) -> Result<Drawn, RenderFault> {
    let warnings = std::mem::take(&mut rendered.warnings);
    Ok(Drawn { picture: picture(rendered)?, warnings })
}

fn picture(rendered: Rendered) -> Result<Picture, RenderFault> {
    let picture = Picture::new(rendered.width, rendered.height, rendered.rgb);
    picture.map_err(|error| failed(FailureClass::Worker, chain(&error)))
}

fn failed(class: FailureClass, error: String) -> RenderFault {
    RenderFault::Failed(Fault::new(class, error))
}

fn environment(error: String) -> RenderFault {
    failed(FailureClass::Environment, error)
}

/// Whose fault it is when rendering fails.
fn fault(error: Error) -> RenderFault {
    let class = match &error {
        Error::Cancelled { .. } => return RenderFault::Stopped,
        Error::Recipe(_) | Error::Adapters(_) | Error::MixedBatch { .. } | Error::NotFinite { .. } => {
            FailureClass::Task
        }
        Error::Device { .. } | Error::NumericsOnDevice { .. } | Error::Tensors(_) | Error::Threads { .. } => {
            FailureClass::Worker
        }
        _ => FailureClass::Environment,
    };
    failed(class, chain(&error))
}

/// Whose fault it is when a model cannot be loaded: never the images', but for adapters that do not fit it.
fn load_fault(error: Error) -> RenderFault {
    if matches!(error, Error::Adapters(_)) {
        return fault(error);
    }
    match fault(error) {
        RenderFault::Failed(Fault { class: FailureClass::Task, error }) => environment(error),
        other => other,
    }
}
