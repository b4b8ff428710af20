//! A loaded model: its networks on a device, in one class of arithmetic.

use std::path::Path;

use rayon::ThreadPool;
use seedfarm_core::{ModelManifest, Numerics, PromptSyntax, Recipe};

use crate::adapters::{Adapters, ModelShape};
use crate::clip::{ClipTextEncoder, Encoded, TextRole, text_roles};
use crate::config::clip::ClipConfig;
use crate::config::unet::UnetConfig;
use crate::config::vae::VaeConfig;
use crate::device::DeviceSpec;
use crate::embeddings::Embeddings;
use crate::fit::{self, UnetInput};
use crate::manifest::read_manifest;
use crate::ops::Ops;
use crate::prompt::{self, LearnedWords, TextPart};
use crate::render::{Observer, Rendered, Run, StageSeconds, check_batch, time_stages};
use crate::source::{ModelSource, Part};
use crate::tokenizer::{PromptTokenizer, PromptTokens};
use crate::unet::Unet;
use crate::vae::VaeDecoder;
use crate::{Error, Result};

/// The networks, apart from the threads that run them.
pub(crate) struct Networks {
    pub ops: Ops,
    /// In the order of [`text_roles`]; there is at least one.
    pub texts: Vec<TextPart>,
    /// Whether an empty negative prompt is shown to the UNet as zeros.
    pub zero_empty_negative: bool,
    pub embeddings: Embeddings,
    pub unet: Unet,
    /// What the UNet wants to see.
    pub input: UnetInput,
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
        let networks = Networks::load(&ModelSource::open(folder)?, &Adapters::default(), ops)?;
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
        self.networks.texts[0].tokenizer.tokenize(prompt)
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
        if self.networks.input != UnetInput::Latents {
            return Err(Error::Recipe(
                "the model changes pictures, and the recipe brings none: choose a model that makes pictures \
                 from text alone"
                    .to_owned(),
            ));
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
    /// Loads every part, changed as `adapters` say, and holds them against one another.
    pub fn load(source: &ModelSource, adapters: &Adapters, ops: Ops) -> Result<Self> {
        let roles = text_roles(source.family());
        let read = |role: &TextRole| ClipConfig::read(&source.config(role.encoder)?);
        let clips = roles.iter().map(read).collect::<Result<Vec<_>>>()?;
        let unet_file = source.config(Part::Unet)?;
        let unet = UnetConfig::read(&unet_file)?;
        let vae = VaeConfig::read(&source.config(Part::Vae)?)?;
        let input = fit::check(&unet_file, roles, &clips, &unet, vae.latent_channels)?;
        let text_widths: Vec<usize> = clips.iter().map(|clip| clip.width).collect();
        let adapted = adapters.open(&ModelShape { unet: &unet, text_widths: &text_widths })?;
        let mut texts = Vec::with_capacity(roles.len());
        for (((role, clip), patches), words) in roles.iter().zip(clips).zip(adapted.texts).zip(adapted.words)
        {
            let tokenizer = PromptTokenizer::load(&source.tokenizer(role.tokenizer), &clip)?;
            let weights = source.weights(role.encoder)?.with_patches(patches);
            texts.push(TextPart {
                learned: LearnedWords::new(&tokenizer, words)?,
                tokenizer,
                encoder: ClipTextEncoder::load(&weights, &ops, clip, *role)?,
            });
        }
        prompt::check_windows(&texts)?;
        Ok(Self {
            texts,
            zero_empty_negative: source.zeros_for_empty_prompt()?,
            embeddings: Embeddings::default(),
            unet: Unet::load(&source.weights(Part::Unet)?.with_patches(adapted.unet), &ops, unet)?,
            input,
            vae: VaeDecoder::load(&source.weights(Part::Vae)?, &ops, vae)?,
            ops,
        })
    }

    /// Encodes a plain text of one window as every encoder reads it.
    pub fn encode(&self, text: &str) -> Result<Encoded> {
        prompt::encode(&self.texts, &prompt::read(&self.texts, text, PromptSyntax::Plain)?, 1, 0)
    }
}

fn thread_pool(threads: usize) -> Result<ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("render-{index}"))
        .build()
        .map_err(|source| Error::Threads { threads, source })
}
