//! Files that change a model without being one: LoRAs, textual inversions and ControlNets.

use serde::{Deserialize, Serialize};

use crate::digest::AdapterDigest;

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterKind {
    /// Low-rank changes of weights (Hu et al. 2021, arXiv:2106.09685).
    Lora,
    /// Learnt token embeddings (Gal et al. 2022, arXiv:2208.01618).
    Embedding,
    /// A network beside the UNet that follows a picture (Zhang et al. 2023, arXiv:2302.05543).
    Control,
}

impl AdapterKind {
    /// The kind's name in JSON and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lora => "lora",
            Self::Embedding => "embedding",
            Self::Control => "control",
        }
    }
}

/// What the farm knows of an adapter without its weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterManifest {
    /// The name under which people ask for it: the file's without its ending, or the folder's.
    pub name: String,
    /// What it is.
    pub kind: AdapterKind,
    /// SHA-256 of the file; of a folder, of the canonical JSON of its file names and their SHA-256.
    pub digest: AdapterDigest,
    /// The family of models it was made for, such as `stable-diffusion-xl`, where it can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Bytes on disk.
    pub bytes: u64,
}
