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
