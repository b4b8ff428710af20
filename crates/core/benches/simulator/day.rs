//! What happens on a day: who is there, what is submitted when.

use crate::random::{Random, Zipf};

pub const DEVICES: usize = 60;
pub const MODELS: usize = 40;
const MODELS_A_DEVICE: usize = 16;
pub const WEIGHTS: [u32; 8] = [400, 200, 200, 100, 100, 100, 50, 50];
pub const DAY_MS: i64 = 24 * 3_600_000;
/// Single pictures that somebody waits for: mean time between two, in milliseconds, at the busiest hour.
const INTERACTIVE_GAP_MS: f64 = 4_000.0;
/// Bulk jobs: mean time between two bursts, in milliseconds, at the busiest hour.
const BURST_GAP_MS: f64 = 100_000.0;

pub struct Model {
    /// An image on an ordinary device.
    pub image_ms: f64,
    pub weights_bytes: u64,
}

impl Model {
    /// What loading it takes: half a gigabyte a second.
    pub fn swap_ms(&self) -> i64 {
        (self.weights_bytes / 500_000) as i64
    }
}

pub struct Device {
    /// How much longer than on an ordinary device an image takes.
    pub factor: f64,
    pub models: Vec<usize>,
}

#[derive(Clone, Copy)]
pub struct Submission {
    pub at_ms: i64,
    pub tenant: usize,
    pub model: usize,
    pub images: u64,
    pub interactive: bool,
}

pub struct Day {
    pub models: Vec<Model>,
    pub devices: Vec<Device>,
    pub jobs: Vec<Submission>,
}

impl Day {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let popular = Zipf::new(MODELS);
        let models: Vec<Model> = (0..MODELS).map(|_| model(&mut random)).collect();
        let devices = (0..DEVICES).map(|_| device(&mut random, &popular)).collect();
        let mut jobs = Vec::new();
        singles(&mut random, &popular, &mut jobs);
        bursts(&mut random, &popular, &mut jobs);
        jobs.sort_by_key(|job| job.at_ms);
        Self { models, devices, jobs }
    }

    pub fn describe(&self) -> String {
        let needed: f64 =
            self.jobs.iter().map(|job| job.images as f64 * self.models[job.model].image_ms).sum();
        let there = DAY_MS as f64 * self.devices.iter().map(|device| 1.0 / device.factor).sum::<f64>();
        let single = self.jobs.iter().filter(|job| job.interactive).count();
        format!(
            "{} devices, {MODELS} models, {} tenants, {single} interactive and {} bulk jobs, {} images, {:.0} % of \
             the device time",
            self.devices.len(),
            WEIGHTS.len(),
            self.jobs.len() - single,
            self.jobs.iter().map(|job| job.images).sum::<u64>(),
            needed / there * 100.0
        )
    }
}

fn model(random: &mut Random) -> Model {
    let image_ms = 800.0 + random.unit() * 5_000.0;
    Model { image_ms, weights_bytes: 2_000_000_000 + random.below(10_000_000_000) }
}

/// Every device has the ten most popular models and some others.
fn device(random: &mut Random, popular: &Zipf) -> Device {
    let mut models: Vec<usize> = (0..10).collect();
    while models.len() < MODELS_A_DEVICE {
        let other = popular.draw(random);
        if !models.contains(&other) {
            models.push(other);
        }
    }
    // Rare models are somewhere, too.
    models.push(10 + random.below(MODELS as u64 - 10) as usize);
    Device { factor: 0.7 + random.unit(), models }
}

/// How busy people are, from 0.2 at night to 1 in the afternoon.
fn busy(at_ms: i64) -> f64 {
    let hour = at_ms as f64 / 3_600_000.0;
    0.6 - 0.4 * ((hour - 3.0) / 24.0 * std::f64::consts::TAU).cos()
}

/// The times of a day at which something happens that happens every `gap_ms` at the busiest hour.
fn times(random: &mut Random, gap_ms: f64) -> Vec<i64> {
    let (mut times, mut at) = (Vec::new(), 0.0);
    while (at as i64) < DAY_MS {
        at -= gap_ms * (1.0 - random.unit()).ln();
        if random.unit() < busy(at as i64) {
            times.push(at as i64);
        }
    }
    times
}

fn singles(random: &mut Random, popular: &Zipf, jobs: &mut Vec<Submission>) {
    for at_ms in times(random, INTERACTIVE_GAP_MS) {
        let (tenant, model) = (random.below(WEIGHTS.len() as u64) as usize, popular.draw(random));
        jobs.push(Submission { at_ms, tenant, model, images: 1 + random.below(4), interactive: true });
    }
}

fn bursts(random: &mut Random, popular: &Zipf, jobs: &mut Vec<Submission>) {
    for at_ms in times(random, BURST_GAP_MS) {
        let (tenant, model) = (random.below(WEIGHTS.len() as u64) as usize, popular.draw(random));
        for _ in 0..1 + random.below(6) {
            let model = if random.below(3) == 0 { popular.draw(random) } else { model };
            let images = 50 + (2_000.0 * random.unit() * random.unit()) as u64;
            jobs.push(Submission { at_ms, tenant, model, images, interactive: false });
        }
    }
}
