//! A loaded model: its networks on a device, in one class of arithmetic.

use std::path::Path;

use rayon::ThreadPool;
use seedfarm_core::{ModelManifest, Numerics, Recipe};

use crate::clip::ClipTextEncoder;
use crate::config::clip::ClipConfig;
use crate::config::unet::UnetConfig;
use crate::config::vae::VaeConfig;
use crate::device::DeviceSpec;
use crate::embeddings::Embeddings;
use crate::manifest::read_manifest;
use crate::ops::Ops;
use crate::render::{Observer, Rendered, Run, StageSeconds, check_batch, time_stages};
use crate::source::{ModelSource, Part};
use crate::tokenizer::{PromptTokenizer, PromptTokens};
use crate::unet::Unet;
use crate::vae::VaeDecoder;
use crate::{Error, Result};

/// The networks, apart from the threads that run them.
pub(crate) struct Networks {
    pub ops: Ops,
    pub tokenizer: PromptTokenizer,
    pub text: ClipTextEncoder,
    pub embeddings: Embeddings,
    pub unet: Unet,
    pub vae: VaeDecoder,
}

/// A model that is ready to render.
pub struct Model {
    manifest: ModelManifest,
    networks: Networks,
    threads: ThreadPool,
}

impl Model {
    /// Loads a model folder onto a device, for one class of arithmetic.
    ///
    /// `threads` is how many threads render; 0 is one for each processor. Pixels do not depend on it.
    ///
    /// Errors: everything that [`read_manifest`] refuses; weights that are damaged or do not fit their
    /// configuration, naming file and tensor; a device that is not there.
    pub fn load(folder: &Path, device: &DeviceSpec, numerics: Numerics, threads: usize) -> Result<Self> {
        let manifest = read_manifest(folder)?;
        let ops = Ops::new(numerics, device.open(numerics)?);
        let networks = Networks::load(&ModelSource::open(folder)?, ops)?;
        let threads = thread_pool(threads)?;
        tracing::debug!(model.name = manifest.name, device = %device, ?numerics, "model loaded");
        Ok(Self { manifest, networks, threads })
    }

    /// What the folder was found to hold.
    pub fn manifest(&self) -> &ModelManifest {
        &self.manifest
    }

    /// Changes the number of render threads; 0 is one for each processor.
    pub fn set_threads(&mut self, threads: usize) -> Result<()> {
        self.threads = thread_pool(threads)?;
        Ok(())
    }

    /// How the text encoder will read a prompt, and what of it will be cut off.
    pub fn check_prompt(&self, prompt: &str) -> Result<PromptTokens> {
        self.networks.tokenizer.tokenize(prompt)
    }

    /// Renders one image for each recipe, in their order.
    ///
    /// The recipes may differ in prompt, negative prompt, guidance scale and seed, and share everything
    /// else, guidance being on or off included; see [`crate::group`]. Each image is the same whatever
    /// stands beside it.
    ///
    /// Errors: recipes that do not share a batch, or were made for other weights or another class of
    /// arithmetic; cancellation; arithmetic that leaves the finite numbers.
    pub fn render(&self, recipes: &[Recipe], observer: &mut dyn Observer) -> Result<Vec<Rendered>> {
        let Some(first) = recipes.first() else { return Ok(Vec::new()) };
        check_batch(recipes)?;
        self.check_recipe(first)?;
        self.threads.install(|| Run::new(&self.networks, recipes)?.finish(observer))
    }

    /// Times text encoder, UNet and decoder alone on what a recipe asks for: the least of `calls` calls each.
    ///
    /// Errors: as [`Model::render`].
    pub fn time_stages(&self, recipe: &Recipe, calls: usize) -> Result<StageSeconds> {
        self.check_recipe(recipe)?;
        self.threads.install(|| time_stages(&self.networks, recipe, calls))
    }

    fn check_recipe(&self, recipe: &Recipe) -> Result<()> {
        let template = &recipe.template;
        self.check_components(recipe)?;
        if template.numerics != self.networks.ops.numerics() {
            let (wanted, loaded) = (template.numerics.as_str(), self.networks.ops.numerics().as_str());
            return Err(Error::Recipe(format!(
                "it needs {wanted} numerics, but the model is loaded for {loaded}"
            )));
        }
        let (multiple, most) = (self.manifest.size_multiple, self.manifest.max_side);
        for (name, side) in [("width", template.width), ("height", template.height)] {
            if side == 0 || !side.is_multiple_of(multiple) || side > most {
                return Err(Error::Recipe(format!(
                    "{name} {side} is not a multiple of {multiple} up to {most}"
                )));
            }
        }
        if template.timesteps.is_empty()
            || template.timesteps.len() > seedfarm_core::limits::MAX_STEPS as usize
        {
            let (steps, most) = (template.timesteps.len(), seedfarm_core::limits::MAX_STEPS);
            return Err(Error::Recipe(format!("{steps} steps are outside 1 to {most}")));
        }
        Ok(())
    }

    /// A recipe names the exact weights; others would give another image under its name.
    fn check_components(&self, recipe: &Recipe) -> Result<()> {
        let (wanted, loaded) = (&recipe.template.model, &self.manifest.components);
        let differs = |name: &&String| wanted.get(*name) != loaded.get(*name);
        let Some(component) = wanted.keys().chain(loaded.keys()).find(differs) else { return Ok(()) };
        let digest = |of: Option<&seedfarm_core::ComponentDigest>| {
            of.map_or_else(|| "nothing".to_owned(), ToString::to_string)
        };
        Err(Error::OtherModel {
            component: component.clone(),
            wanted: digest(wanted.get(component)),
            loaded: digest(loaded.get(component)),
        })
    }
}

impl Networks {
    /// Loads every part and holds them against one another.
    pub fn load(source: &ModelSource, ops: Ops) -> Result<Self> {
        let clip = ClipConfig::read(&source.config(Part::TextEncoder)?)?;
        let unet = UnetConfig::read(&source.config(Part::Unet)?)?;
        let vae = VaeConfig::read(&source.config(Part::Vae)?)?;
        check_fit(source, &clip, &unet, &vae)?;
        Ok(Self {
            tokenizer: PromptTokenizer::load(&source.tokenizer(Part::Tokenizer), &clip)?,
            text: ClipTextEncoder::load(&source.weights(Part::TextEncoder)?, &ops, clip)?,
            embeddings: Embeddings::default(),
            unet: Unet::load(&source.weights(Part::Unet)?, &ops, unet)?,
            vae: VaeDecoder::load(&source.weights(Part::Vae)?, &ops, vae)?,
            ops,
        })
    }
}

/// The parts of a model must fit one another.
fn check_fit(source: &ModelSource, clip: &ClipConfig, unet: &UnetConfig, vae: &VaeConfig) -> Result<()> {
    let fault = |key: &str, reason: String| Err(source.config(Part::Unet)?.fault(key, reason));
    if unet.text_width != clip.width {
        return fault(
            "cross_attention_dim",
            format!("is {}, but the text encoder gives {}", unet.text_width, clip.width),
        );
    }
    for (key, channels) in [("in_channels", unet.in_channels), ("out_channels", unet.out_channels)] {
        if channels != vae.latent_channels {
            return fault(
                key,
                format!("is {channels}, but the VAE has {} latent channels", vae.latent_channels),
            );
        }
    }
    Ok(())
}

fn thread_pool(threads: usize) -> Result<ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("render-{index}"))
        .build()
        .map_err(|source| Error::Threads { threads, source })
}
