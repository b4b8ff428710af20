//! The engine as a renderer: this machine's devices and models, loaded when first needed.

use std::cell::Cell;
use std::fs;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use seedfarm_core::completion::FailureClass;
use seedfarm_core::{ArtifactDigest, ModelDigest, Numerics, Recipe, RecipeTemplate};
use seedfarm_engine::{
    DeviceInfo, DeviceSpec, Error, Model, Progress, Rendered, devices, fingerprint, read_manifest,
};
use seedfarm_picture::Picture;

use crate::config::WorkerConfig;
use crate::error::WorkerError;
use crate::fetched::{Fetched, Hold};
use crate::home::{self, at};
use crate::library::{Library, LocalModel};
use crate::node::RenderDevice;
use crate::owner::{Allowance, SharedAllowance};
use crate::renderer::{Drawn, Fault, Pictures, RenderFault, Renderer, Step, Watcher, chain};
use crate::shelf::{Shelf, Unload};

/// Images that a GPU renders together, where the owner says nothing.
const GPU_BATCH: usize = 4;

/// What weights take on a device, as a multiple of their bytes on disk: they may lie there in half the
/// precision in which they compute.
const LOADED_PER_STORED: u64 = 2;

/// Finds the models and devices that `config` asks for.
pub(crate) async fn find(config: &WorkerConfig) -> Result<(Arc<Shelf>, Vec<RenderDevice>), WorkerError> {
    let config = config.clone();
    // Hashing weights takes a while and must not hold up the runtime.
    let found = tokio::task::spawn_blocking(move || find_now(&config)).await;
    found.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

fn find_now(config: &WorkerConfig) -> Result<(Arc<Shelf>, Vec<RenderDevice>), WorkerError> {
    let infos = choose(&config.devices, devices())?;
    let shelf = Arc::new(shelf(config)?);
    let memory = config.model_memory_bytes.unwrap_or_else(|| machine_memory() / 2 / infos.len() as u64);
    let device = |info| render_device(config, info, &shelf, memory);
    let devices = infos.into_iter().map(device).collect();
    Ok((shelf, devices))
}

/// The owner's models, and those that were fetched earlier. A worker that fetches may begin without any.
fn shelf(config: &WorkerConfig) -> Result<Shelf, WorkerError> {
    let known = home::model_cache(&config.data_dir);
    let Some(limit_bytes) = config.model_cache_bytes.filter(|&bytes| bytes > 0) else {
        let own = Library::scan(&config.model_dirs, &known)?.into_own();
        return Shelf::new(own, None).map_err(at(&known));
    };
    let root = config.model_cache_dir.clone().unwrap_or_else(|| home::fetched(&config.data_dir));
    let own = Library::look(&config.model_dirs, &known).into_own();
    let fetched = Fetched::open(root.clone(), limit_bytes).map_err(at(&root))?;
    Shelf::new(own, Some(Arc::new(fetched))).map_err(at(&root))
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

fn render_device(config: &WorkerConfig, info: DeviceInfo, shelf: &Arc<Shelf>, memory: u64) -> RenderDevice {
    let is_cpu = info.spec == DeviceSpec::Cpu;
    let loaded = Arc::default();
    shelf.on_unload(unloader(&loaded));
    RenderDevice {
        backend: if is_cpu { "cpu" } else { "cuda" }.to_owned(),
        memory_bytes: if is_cpu { machine_memory() } else { 0 },
        fingerprints: info.numerics.iter().map(|&class| fingerprint(&info.spec, class)).collect(),
        batch: config.batch.unwrap_or(if is_cpu { 1 } else { GPU_BATCH }).max(1),
        spec: info.spec,
        name: info.name,
        renderer: Box::new(EngineRenderer {
            spec: info.spec,
            threads: config.threads,
            shelf: Arc::clone(shelf),
            memory,
            allowance: config.allowance.clone(),
            allowed: Allowance::default(),
            loaded,
            loading: Cell::new(None),
        }),
    }
}

/// Drops the fetched models that a device has loaded, unless it is rendering.
fn unloader(loaded: &Arc<Mutex<Vec<Loaded>>>) -> Unload {
    let loaded = Arc::downgrade(loaded);
    Box::new(move || {
        if let Some(loaded) = loaded.upgrade()
            && let Ok(mut loaded) = loaded.try_lock()
        {
            loaded.retain(|loaded| loaded.holds.is_empty());
        }
    })
}

/// Bytes of memory of this machine, where the system tells it.
fn machine_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(0, |kib| kib * 1024)
}

/// One device's engine, with the models that were used last.
struct EngineRenderer {
    spec: DeviceSpec,
    threads: usize,
    shelf: Arc<Shelf>,
    /// Bytes that loaded models may take; one is always kept.
    memory: u64,
    allowance: SharedAllowance,
    /// What the owner allowed at the last look.
    allowed: Allowance,
    /// The last used stands last. Locked while this device renders.
    loaded: Arc<Mutex<Vec<Loaded>>>,
    /// How long the last call took to load a model.
    loading: Cell<Option<Duration>>,
}

struct Loaded {
    digest: ModelDigest,
    numerics: Numerics,
    bytes: u64,
    model: Model,
    /// Keeps its files on the disk.
    holds: Vec<Hold>,
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
        let loaded = Arc::clone(&self.loaded);
        let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
        self.follow_owner(&mut loaded).map_err(fault)?;
        let model = self.model(&mut loaded, model, &first.template)?;
        let mut observer = |progress: &Progress<'_>| watch(progress, watcher);
        let rendered = model.render(recipes, &pictures, &mut observer).map_err(fault)?;
        rendered.into_iter().map(drawn).collect()
    }

    fn loading_time(&mut self) -> Option<Duration> {
        self.loading.take()
    }

    fn forget(&mut self) {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl EngineRenderer {
    /// Does as the owner allows now: threads that stay are started anew with what they may take.
    fn follow_owner(&mut self, all: &mut Vec<Loaded>) -> Result<(), Error> {
        let allowed = self.allowance.now();
        if allowed == self.allowed {
            return Ok(());
        }
        if allowed.nice != self.allowed.nice {
            be_nice(allowed.nice.unwrap_or(0));
        }
        self.allowed = allowed;
        let threads = self.threads();
        all.iter_mut().try_for_each(|loaded| loaded.model.set_threads(threads))?;
        self.make_room(all, 0);
        Ok(())
    }

    fn threads(&self) -> usize {
        self.allowed.threads.unwrap_or(self.threads)
    }

    /// The model with the template's adapters, loaded where it is not yet, in place of those that were not
    /// used for longest.
    fn model<'a>(
        &self,
        all: &'a mut Vec<Loaded>,
        digest: &ModelDigest,
        template: &RecipeTemplate,
    ) -> Result<&'a Model, RenderFault> {
        let same = |loaded: &Loaded| {
            loaded.digest == *digest && loaded.numerics == template.numerics && loaded.model.serves(template)
        };
        let loaded = match all.iter().position(same) {
            Some(position) => all.remove(position),
            None => {
                let begun = Instant::now();
                let loaded = self.load(all, digest, template)?;
                self.loading.set(Some(begun.elapsed()));
                loaded
            }
        };
        all.push(loaded);
        Ok(&all.last().expect("it was just put there").model)
    }

    fn load(
        &self,
        all: &mut Vec<Loaded>,
        digest: &ModelDigest,
        template: &RecipeTemplate,
    ) -> Result<Loaded, RenderFault> {
        let Some(local) = self.shelf.model(digest) else {
            return Err(environment(format!("this worker does not have the model {digest}")));
        };
        let holds = self.shelf.hold(digest, &template.adapters());
        let holds = holds.map_err(|gone| environment(format!("{gone} is not on this disk any more")))?;
        let bytes = local.manifest.weights_bytes.saturating_mul(LOADED_PER_STORED);
        self.make_room(all, bytes);
        let adapters = self.shelf.adapter_paths();
        let model = Model::load_for(&local.folder, &self.spec, template, &adapters, self.threads());
        let model = model.map_err(|error| self.load_fault(&local, digest, error))?;
        let actual = model.manifest().digest();
        if actual != *digest {
            self.shelf.condemn(digest);
            let folder = local.folder.display();
            return Err(environment(format!(
                "the model in {folder} was {digest} when this worker started and is {actual} now"
            )));
        }
        Ok(Loaded { digest: *digest, numerics: template.numerics, bytes, model, holds })
    }

    /// Whose fault it is when a model cannot be loaded. One whose files are not what they were is set aside,
    /// where it can be fetched again.
    fn load_fault(&self, local: &LocalModel, digest: &ModelDigest, error: Error) -> RenderFault {
        let of_the_files = matches!(
            error,
            Error::Io { .. }
                | Error::Missing { .. }
                | Error::Malformed { .. }
                | Error::Tensor { .. }
                | Error::Config { .. }
                | Error::OtherModel { .. }
        );
        let is_whole = || read_manifest(&local.folder).is_ok_and(|found| found.digest() == *digest);
        if of_the_files && !self.shelf.is_own((*digest).into()) && !is_whole() {
            self.shelf.condemn(digest);
        }
        load_fault(error)
    }

    fn make_room(&self, all: &mut Vec<Loaded>, bytes: u64) {
        let used = |loaded: &[Loaded]| loaded.iter().map(|loaded| loaded.bytes).sum::<u64>();
        let memory = self.allowed.model_memory_bytes.unwrap_or(self.memory);
        while !all.is_empty() && used(all).saturating_add(bytes) > memory {
            all.remove(0);
        }
    }
}

/// Sets the niceness of this thread and of those that it starts from now on.
fn be_nice(nice: i32) {
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        tracing::warn!(nice, %error, "threads stay nicer than the owner wants until the worker is started again");
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
