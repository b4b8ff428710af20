//! Networks of Stable Diffusion XL, ControlNets and unusual UNets: against diffusers, against the specification,
//! and samples at different timesteps against each alone.
//!
//! `sdxl.py`, `controlnet.py` and `strict_conditions.py` in `tests/parity` wrote the references.

mod parity;
mod refusals;
mod strict;

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use seedfarm_core::Numerics;
use seedfarm_numerics::philox;
use serde_json::Value;

use crate::DeviceSpec;
use crate::adapters::Adapters;
use crate::clip::TokenRow;
use crate::config::ConfigFile;
use crate::config::unet::UnetConfig;
use crate::controlnet::{Call, ControlNet};
use crate::networks::Networks;
use crate::ops::Ops;
use crate::source::ModelSource;
use crate::unet::{Conditions, Residuals, Unet};
use crate::weights::WeightsFile;

/// Three samples of latents of 9 by 7: odd at every level.
const SAMPLES: usize = 3;
const LATENTS: (usize, usize) = (9, 7);

fn parity() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity")
}

fn folder(name: &str) -> PathBuf {
    parity().join("models").join(name)
}

fn ops(numerics: Numerics) -> Ops {
    Ops::new(numerics, DeviceSpec::Cpu.open(numerics).unwrap())
}

fn networks(name: &str, numerics: Numerics) -> Networks {
    Networks::load(&ModelSource::open(&folder(name)).unwrap(), &Adapters::default(), ops(numerics)).unwrap()
}

/// A network that is not part of a pipeline.
fn uneven(numerics: Numerics) -> Unet {
    let folder = folder("unet-uneven");
    let config = UnetConfig::read(&ConfigFile::read(&folder.join("config.json")).unwrap()).unwrap();
    let weights = WeightsFile::open(&folder.join("diffusion_pytorch_model.safetensors")).unwrap();
    Unet::load(&weights, &ops(numerics), config).unwrap()
}

struct Golden {
    tensors: HashMap<String, Tensor>,
    values: Value,
}

impl Golden {
    fn read(tensors: &str, values: &str) -> Self {
        let path = |name: &str| parity().join("golden").join(name);
        Self {
            tensors: candle_core::safetensors::load(path(tensors), &Device::Cpu).unwrap(),
            values: serde_json::from_slice(&std::fs::read(path(values)).unwrap()).unwrap(),
        }
    }

    fn sdxl() -> Self {
        Self::read("tiny-sdxl.safetensors", "sdxl.json")
    }

    fn networks() -> Self {
        Self::read("networks.safetensors", "networks.json")
    }

    fn numbers(&self, pointer: &str) -> Vec<f64> {
        let list = self.values.pointer(pointer).unwrap().as_array().unwrap();
        list.iter().map(|number| number.as_f64().unwrap()).collect()
    }

    fn time_ids(&self, pointer: &str, sample: usize) -> [f64; 6] {
        self.numbers(&format!("{pointer}/{sample}")).try_into().unwrap()
    }

    fn prompts(&self) -> Vec<&str> {
        self.values["prompts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
    }

    /// The embeddings of all prompts, one after the other.
    fn texts(&self, prefix: &str, suffix: &str) -> Tensor {
        let texts: Vec<_> =
            (0..SAMPLES).map(|index| &self.tensors[&format!("{prefix}/{index}/{suffix}")]).collect();
        Tensor::cat(&texts, 0).unwrap()
    }
}

fn flat(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(x: &Tensor) -> Vec<u32> {
    flat(x).into_iter().map(f32::to_bits).collect()
}

fn normal(seed: u64, shape: &[usize]) -> Tensor {
    let mut values = vec![0.0; shape.iter().product()];
    philox::standard_normal(seed, 0, &mut values);
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn latents(seed: u64, channels: usize) -> Tensor {
    normal(seed, &[SAMPLES, channels, LATENTS.0, LATENTS.1])
}

/// A picture of 0 to 1, in the size of the latents times eight.
fn picture(seed: u64) -> Tensor {
    let values: Vec<f32> =
        flat(&normal(seed, &[1, 3, 72, 56])).iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
    Tensor::from_vec(values, (1, 3, 72, 56), &Device::Cpu).unwrap()
}

fn sample(of: &Tensor, index: usize) -> Tensor {
    of.narrow(0, index, 1).unwrap().contiguous().unwrap()
}

/// What a call is made of, for a batch or for one sample of it.
struct Input {
    latents: Tensor,
    timesteps: Vec<f64>,
    texts: Tensor,
    conditions: Vec<Conditions>,
    residuals: Option<Residuals>,
}

impl Input {
    fn alone(&self, index: usize) -> Self {
        let residuals = self.residuals.as_ref().map(|all| Residuals {
            down: all.down.iter().map(|term| sample(term, index)).collect(),
            mid: sample(&all.mid, index),
        });
        Self {
            latents: sample(&self.latents, index),
            timesteps: vec![self.timesteps[index]],
            texts: sample(&self.texts, index),
            conditions: vec![self.conditions[index].clone()],
            residuals,
        }
    }

    fn predict(&self, unet: &Unet) -> Tensor {
        let keys = unet.text_keys(&self.texts).unwrap();
        let added = unet.added(&self.conditions).unwrap();
        unet.forward(&self.latents, &self.timesteps, &keys, added.as_ref(), self.residuals.as_ref()).unwrap()
    }
}

/// Conditions of a network that takes none.
fn none() -> Vec<Conditions> {
    vec![Conditions { pooled: None, time_ids: [0.0; 6], guidance: 1.0 }; SAMPLES]
}

/// Conditions of Stable Diffusion XL.
fn pooled(xl: &Golden, sizes: &Golden, pointer: &str) -> Vec<Conditions> {
    let condition = |index: usize| Conditions {
        pooled: Some(xl.tensors[&format!("text/{index}/pooled")].clone()),
        time_ids: sizes.time_ids(pointer, index),
        guidance: 1.0,
    };
    (0..SAMPLES).map(condition).collect()
}

/// What a ControlNet adds to three samples, which must be what it adds to each alone.
fn residuals(control: &ControlNet, seed: u64, scale: f64, input: &Input, numerics: Numerics) -> Residuals {
    let hint = control.hint(&picture(seed)).unwrap();
    let call = |input: &Input| {
        let keys = control.text_keys(&input.texts).unwrap();
        let added = control.added(&input.conditions).unwrap();
        let latents = &input.latents;
        let (timesteps, added) = (&input.timesteps[..], added.as_ref());
        control.forward(&Call { latents, timesteps, text_keys: &keys, added, hint: &hint, scale }).unwrap()
    };
    // The ControlNet sees the four channels of the latents, whatever else the UNet sees.
    let shown = Input { latents: latents(41, 4), residuals: None, ..input.alone(0) };
    let shown = Input {
        timesteps: input.timesteps.clone(),
        texts: input.texts.clone(),
        conditions: input.conditions.clone(),
        ..shown
    };
    let together = call(&shown);
    for index in 0..SAMPLES {
        let alone = call(&shown.alone(index));
        assert_eq!(bits(&sample(&together.mid, index)), bits(&alone.mid), "{numerics:?}");
        for (together, alone) in together.down.iter().zip(&alone.down) {
            assert_eq!(bits(&sample(together, index)), bits(alone), "{numerics:?}");
        }
    }
    together
}
