//! A loaded model: its networks on a device, in one class of arithmetic.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rayon::ThreadPool;
use seedfarm_core::recipe::{Extras, Lora};
use seedfarm_core::{AdapterDigest, ModelManifest, Numerics, Recipe, RecipeTemplate};

use crate::adapters::Adapters;
use crate::device::DeviceSpec;
use crate::fit::UnetInput;
use crate::manifest::read_manifest;
use crate::networks::Networks;
use crate::ops::Ops;
use crate::render::{Observer, Pictures, Rendered, Run, StageSeconds, check_batch, time_stages};
use crate::source::ModelSource;
use crate::tokenizer::PromptTokens;
use crate::{Error, Result};

/// A model that is ready to render.
pub struct Model {
    manifest: ModelManifest,
    networks: Networks,
    /// What was merged into the networks.
    loras: Vec<Lora>,
    /// What was taught to the text encoders.
    embeddings: BTreeMap<String, AdapterDigest>,
    threads: ThreadPool,
}

impl Model {
    /// Loads a model without adapters onto a device, for one class of arithmetic.
    ///
    /// `threads` is how many threads render; 0 is one for each processor. Pixels do not depend on it.
    ///
    /// Errors: everything that [`read_manifest`] refuses; weights that are damaged or do not fit their
    /// configuration, naming file and tensor; a device that is not there.
    pub fn load(model: &Path, device: &DeviceSpec, numerics: Numerics, threads: usize) -> Result<Self> {
        Self::load_with(model, device, numerics, (&Extras::default(), Adapters::default()), threads)
    }

    /// Loads a model with the adapters that a recipe names, in its class of arithmetic. `paths` says where
    /// adapters are; it may hold others as well.
    ///
    /// Errors: as [`Model::load`]; an adapter that is not in `paths` or whose bytes have another digest;
    /// [`Error::Adapters`] for one that does not fit the model.
    pub fn load_for(
        model: &Path,
        device: &DeviceSpec,
        template: &RecipeTemplate,
        paths: &HashMap<AdapterDigest, PathBuf>,
        threads: usize,
    ) -> Result<Self> {
        let adapters = Adapters::of(&template.extras, paths)?;
        Self::load_with(model, device, template.numerics, (&template.extras, adapters), threads)
    }

    fn load_with(
        model: &Path,
        device: &DeviceSpec,
        numerics: Numerics,
        (extras, adapters): (&Extras, Adapters),
        threads: usize,
    ) -> Result<Self> {
        let manifest = read_manifest(model)?;
        let ops = Ops::new(numerics, device.open(numerics)?);
        let loaded = Networks::load(&ModelSource::open(model)?, &adapters, ops);
        // The manifest of a model that is no good by itself was refused above.
        let networks =
            loaded.map_err(|error| if adapters.is_empty() { error } else { error.of_adapters() })?;
        let threads = thread_pool(threads)?;
        tracing::debug!(model.name = manifest.name, device = %device, ?numerics, "model loaded");
        let (loras, embeddings) = (extras.loras.clone(), extras.embeddings.clone());
        Ok(Self { manifest, networks, loras, embeddings, threads })
    }

    /// Whether recipes of this template can be rendered with the adapters that were loaded.
    pub fn serves(&self, template: &RecipeTemplate) -> bool {
        let extras = &template.extras;
        let has_control = |digest: &AdapterDigest| self.networks.controls.contains_key(digest);
        self.loras == extras.loras
            && self.embeddings == extras.embeddings
            && extras.controls.iter().all(|control| has_control(&control.model))
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
    /// Recipes that can go together are those of one of [`crate::group`]'s groups. Each image is the same
    /// whatever stands beside it. `pictures` holds those that the recipes start from or follow.
    ///
    /// Errors: recipes that do not share a batch, or were made for other weights, other adapters or another
    /// class of arithmetic; a picture that is missing or of another size; cancellation; arithmetic that leaves
    /// the finite numbers.
    pub fn render(
        &self,
        recipes: &[Recipe],
        pictures: &Pictures,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Rendered>> {
        let Some(first) = recipes.first() else { return Ok(Vec::new()) };
        check_batch(recipes)?;
        recipes.iter().try_for_each(|recipe| self.check_input(recipe))?;
        self.check_recipe(first)?;
        self.threads.install(|| Run::new(&self.networks, recipes, pictures)?.finish(observer))
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
        if !self.serves(template) {
            return Err(Error::Recipe("the model was loaded with other adapters than it names".to_owned()));
        }
        if template.timesteps.is_empty()
            || template.timesteps.len() > seedfarm_core::limits::MAX_STEPS as usize
        {
            let (steps, most) = (template.timesteps.len(), seedfarm_core::limits::MAX_STEPS);
            return Err(Error::Recipe(format!("{steps} steps are outside 1 to {most}")));
        }
        Ok(())
    }

    /// A model that changes pictures needs one.
    fn check_input(&self, recipe: &Recipe) -> Result<()> {
        let source = recipe.template.extras.source.as_ref();
        match self.networks.input {
            UnetInput::Latents => Ok(()),
            UnetInput::MaskedPicture if source.is_some_and(|source| source.mask.is_some()) => Ok(()),
            UnetInput::MaskedPicture => Err(Error::Recipe(
                "the model fills in pictures: the recipe must bring a source picture and a mask".to_owned(),
            )),
            UnetInput::Picture => Err(Error::Recipe(
                "the model edits pictures by instruction, which is not supported".to_owned(),
            )),
        }
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

fn thread_pool(threads: usize) -> Result<ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("render-{index}"))
        .build()
        .map_err(|source| Error::Threads { threads, source })
}
