//! The limits that a request is held against. One place, so that every surface refuses alike.

/// Most images one job may ask for.
pub const MAX_IMAGES_A_JOB: u64 = 10_000_000;
/// Most prompt lines one job may hold.
pub const MAX_PROMPTS_A_JOB: usize = 100_000;
/// Most bytes of one prompt or negative prompt.
pub const MAX_PROMPT_BYTES: usize = 10_000;
/// Most bytes of a job's name.
pub const MAX_NAME_BYTES: usize = 200;
/// Smallest width and height, in pixels.
pub const MIN_SIDE: u32 = 8;
/// Largest width and height that any model may be asked for, in pixels.
pub const MAX_SIDE: u32 = 4096;
/// Most sampling steps.
pub const MAX_STEPS: u32 = 1000;
/// Smallest guidance scale; 1 switches guidance off.
pub const MIN_GUIDANCE: f64 = 1.0;
/// Largest guidance scale.
pub const MAX_GUIDANCE: f64 = 100.0;
/// LoRA weights and ControlNet scales run from minus this to plus this.
pub const MAX_ADAPTER_WEIGHT: f64 = 10.0;
/// Most LoRAs of one image.
pub const MAX_LORAS: usize = 16;
/// Most textual inversions of one image.
pub const MAX_EMBEDDINGS: usize = 64;
/// Most ControlNets of one image.
pub const MAX_CONTROLS: usize = 4;
/// Most layers of a text encoder that may be left out.
pub const MAX_CLIP_SKIP: u32 = 11;
/// Smallest side of the tiles in which a picture is decoded, in pixels.
pub const MIN_DECODE_TILE: u32 = 64;
/// Priorities run from minus this to plus this.
pub const MAX_PRIORITY: i32 = 100;
/// Most bytes of one stored picture file.
pub const MAX_ARTIFACT_BYTES: usize = 64 << 20;
/// Attempts of a range, by distinct grants that the task's own fault ended, before its images are given up.
pub const MAX_ATTEMPTS: i32 = 3;
/// Most bytes of one file of a model that the farm distributes.
pub const MAX_MODEL_FILE_BYTES: u64 = 64 << 30;
/// Most bytes of all files of such a model.
pub const MAX_PACKAGE_BYTES: u64 = 256 << 30;
/// Most files of such a model.
pub const MAX_PACKAGE_FILES: usize = 1000;
/// Most bytes of the path of one of its files.
pub const MAX_MODEL_PATH_BYTES: usize = 240;
/// Most names in such a path.
pub const MAX_MODEL_PATH_DEPTH: usize = 8;
/// Bytes of one part in which such a file is handed over; its last part may be shorter.
pub const MODEL_PART_BYTES: u64 = 8 << 20;
/// Most bytes of a tenant's or a tag's name.
pub const MAX_SHORT_NAME_BYTES: usize = 64;
/// Most images that one call gives up on purpose.
pub const MAX_SKIP: u64 = 100_000;
/// Most tags that a job may ask for, or a worker may bear.
pub const MAX_TAGS: usize = 16;
/// Most tenants whose jobs may go first on a worker.
pub const MAX_TENANTS_FIRST: usize = 32;
/// Most jobs that one job may wait for.
pub const MAX_DEPENDENCIES: usize = 100;
/// Largest weight of a tenant.
pub const MAX_WEIGHT: u32 = 1000;
/// Distinct workers that a range may fail on through a fault of theirs; from then on the fault counts as the
/// range's own.
pub const MAX_WORKER_FAULTS: usize = 3;
/// Most bytes of what a worker tells of one attempt.
pub const MAX_LOG_BYTES: usize = 64 << 10;
