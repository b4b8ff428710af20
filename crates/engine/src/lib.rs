//! Diffusion on candle: (Recipe, device) to pixels and fingerprint, synchronous.
//!
//! A model is a folder in the layout that diffusers writes. [`Model::load`] puts it on a device for one
//! class of arithmetic, [`Model::render`] turns recipes into pixels, [`read_manifest`] tells what a folder
//! holds without loading it. The engine knows no farm: no network, no database, no clock.
//!
//! Where things are: `weights` and `config` read the folder and trust none of it; `ops` holds the two
//! classes of arithmetic; `clip`, `unet`, `vae` and `resnet` are the networks, written in `ops` alone;
//! `samplers` has one file a sampler; `noise` draws what they start from; `render` runs a batch.

mod adapters;
mod checkpoint;
mod clip;
mod config;
mod controlnet;
mod device;
mod embeddings;
mod error;
mod files;
mod fingerprint;
mod fit;
mod folder;
mod manifest;
mod model;
#[cfg(test)]
mod network_tests;
mod networks;
mod noise;
mod ops;
#[cfg(test)]
mod parity_tests;
mod prompt;
mod render;
mod resnet;
mod samplers;
mod sidecar;
mod source;
mod taesd;
mod tokenizer;
mod unet;
mod vae;
mod vocabulary;
mod weights;

pub use adapters::describe_adapter;
pub use checkpoint::check_checkpoint;
pub use device::{DeviceInfo, DeviceSpec, devices};
pub use error::{Error, Result};
pub use files::{FileList, adapter_files, model_files};
pub use fingerprint::{ENGINE_REVISION, fingerprint};
pub use manifest::{read_manifest, sha256_of_file};
pub use model::Model;
pub use render::{Observer, Picture, Pictures, Progress, Rendered, StageSeconds, Unobserved, group};
pub use tokenizer::PromptTokens;
