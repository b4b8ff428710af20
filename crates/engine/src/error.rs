//! What can go wrong between a model folder and the pixels.

use std::path::PathBuf;

use seedfarm_core::{AdapterDigest, Numerics};

/// Why the engine refused or failed. Messages name the file, the key and the value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's own words.
        #[source]
        source: std::io::Error,
    },
    /// A part of the model folder is not there.
    #[error("{} is missing: a model is a folder in the layout that diffusers writes, with weights in .safetensors files", path.display())]
    Missing {
        /// What was looked for.
        path: PathBuf,
    },
    /// Weights in a format that can run code when it is read.
    #[error("{} is a pickle, which can run code when it is read: convert the model to .safetensors", path.display())]
    Pickle {
        /// The refused file.
        path: PathBuf,
    },
    /// A file whose content breaks its format or its limits.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the value and the limit.
        reason: String,
    },
    /// One tensor of a weights file is missing, mis-shaped or of a kind that cannot be used.
    #[error("{}: tensor '{key}' {reason}", path.display())]
    Tensor {
        /// The weights file.
        path: PathBuf,
        /// The tensor's name in it.
        key: String,
        /// What is wrong, with the value and what was expected.
        reason: String,
    },
    /// A configuration value that the engine does not know or will not accept.
    #[error("{}: '{key}' {reason}", path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// The key in it.
        key: String,
        /// What is wrong, with the value and what is supported.
        reason: String,
    },
    /// The recipe was made with other weights than those that are loaded.
    #[error(
        "the recipe needs {component} {wanted}, but the loaded model has {loaded}: load the model that the recipe names"
    )]
    OtherModel {
        /// Which part of the model differs.
        component: String,
        /// Digest that the recipe names.
        wanted: String,
        /// Digest of what is loaded.
        loaded: String,
    },
    /// An adapter that is not on this machine.
    #[error("the {kind} {digest} is not on this machine: put its file among the models")]
    NoAdapter {
        /// `lora`, `embedding` or `control`.
        kind: &'static str,
        /// Its digest.
        digest: AdapterDigest,
    },
    /// The adapters that the recipe names do not fit the model.
    #[error("the model cannot be loaded with the recipe's adapters")]
    Adapters(#[source] Box<Error>),
    /// A recipe that this model or this version cannot render.
    #[error("the recipe cannot be rendered: {0}")]
    Recipe(String),
    /// Recipes in one call that cannot share a batch.
    #[error(
        "the recipes of one call must share {field}: recipe {index} differs from the first; group them first"
    )]
    MixedBatch {
        /// What differs.
        field: &'static str,
        /// Position in the call, from 0.
        index: usize,
    },
    /// A device that this build or this machine does not have.
    #[error("device '{name}' is not available: {reason}")]
    Device {
        /// The device as it was asked for.
        name: String,
        /// Why not, and what there is.
        reason: String,
    },
    /// A numeric class that the device has no kernels for.
    #[error("{numerics:?} numerics run on the cpu only: choose device cpu, or fast numerics")]
    NumericsOnDevice {
        /// The class that was asked for.
        numerics: Numerics,
    },
    /// The observer asked to stop.
    #[error("rendering was cancelled after step {step} of {steps}")]
    Cancelled {
        /// Steps that were done.
        step: usize,
        /// Steps in all.
        steps: usize,
    },
    /// Arithmetic left the finite numbers, so there is no picture.
    #[error(
        "the {stage} of image {index} holds a value that is not finite: the weights or the guidance are out of range"
    )]
    NotFinite {
        /// Where it was found.
        stage: &'static str,
        /// Position in the call, from 0.
        index: usize,
    },
    /// The tensor library failed, for example for want of memory.
    #[error("tensor operation failed")]
    Tensors(#[from] candle_core::Error),
    /// Threads could not be started.
    #[error("cannot start {threads} render threads")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// The pool's own words.
        #[source]
        source: rayon::ThreadPoolBuildError,
    },
}

impl Error {
    /// The same failure of a model that would load without its adapters.
    pub(crate) fn of_adapters(self) -> Self {
        match self {
            Self::Io { .. } | Self::Device { .. } | Self::NumericsOnDevice { .. } | Self::Tensors(_) => self,
            other => Self::Adapters(Box::new(other)),
        }
    }
}

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
