//! Seedfarm's vocabulary and its pure decisions.
//!
//! Everything here is a value or a function of values: no IO, no async, no clock, no randomness.
//! Ids, the present time and entropy come in as arguments.

pub mod adapter;
pub mod canonical;
pub mod completion;
pub mod digest;
pub mod distribution;
pub mod fingerprint;
pub mod id;
pub mod invalid;
pub mod job;
pub mod limits;
pub mod model;
pub mod owner;
pub mod package;
pub mod placement;
pub mod plan;
pub mod prompt_file;
pub mod quota;
pub mod range;
pub mod recipe;
pub mod sampling;
pub mod seed;
pub mod settings;
pub mod skip;
pub mod terms;
pub mod verdict;

pub use adapter::{AdapterKind, AdapterManifest};
pub use digest::{
    AdapterDigest, ArtifactDigest, ComponentDigest, FileDigest, FingerprintDigest, ModelDigest, NumericClass,
    PackageDigest, PixelDigest, RecipeDigest, TemplateDigest,
};
pub use fingerprint::Fingerprint;
pub use id::{Attempt, CoordinatorId, Epoch, ImageId, JobId, LeaseId, ReplayId, WorkerId};
pub use invalid::Invalid;
pub use job::{JobState, JobTransition};
pub use model::ModelManifest;
pub use package::{Package, PackageFile, PackageManifest, PackagePath};
pub use range::ImageRange;
pub use recipe::{NoiseSource, Numerics, PromptSyntax, Recipe, RecipeTemplate};
pub use sampling::{NoiseSchedule, Sampler};
pub use seed::SeedPolicy;
pub use terms::{JobTerms, TenantName};
pub use verdict::{Difference, Verdict};
