//! Networks of Stable Diffusion XL, ControlNets and unusual UNets against diffusers, and samples at different
//! timesteps against each alone; `tests/parity/sdxl.py` and `tests/parity/controlnet.py` wrote the references.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use seedfarm_core::{Numerics, PromptSyntax};
use seedfarm_numerics::philox;
use serde_json::Value;

use crate::DeviceSpec;
use crate::adapters::Adapters;
use crate::clip::TokenRow;
use crate::config::ConfigFile;
use crate::config::unet::UnetConfig;
use crate::controlnet::{Call, ControlNet};
use crate::model::Networks;
use crate::ops::Ops;
use crate::prompt;
use crate::source::ModelSource;
use crate::unet::{Conditions, Residuals, Unet};
use crate::weights::WeightsFile;

const LARGEST_RELATIVE_ERROR: f32 = 1e-4;
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
fn unet(name: &str, numerics: Numerics) -> Unet {
    let config = UnetConfig::read(&ConfigFile::read(&folder(name).join("config.json")).unwrap()).unwrap();
    let weights = WeightsFile::open(&folder(name).join("diffusion_pytorch_model.safetensors")).unwrap();
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

    fn agrees(&self, name: &str, ours: &Tensor, what: &str) {
        let theirs = &self.tensors[name];
        assert_eq!(ours.dims(), theirs.dims(), "{what} {name}");
        let (ours, theirs) = (flat(ours), flat(theirs));
        let largest = theirs.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let apart = ours.iter().zip(&theirs).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(apart / largest < LARGEST_RELATIVE_ERROR, "{what} {name}: {}", apart / largest);
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

/// The batch agrees with diffusers, and each sample has the bits that it has alone.
fn agrees_together_and_alone(golden: &Golden, name: &str, unet: &Unet, input: &Input, what: Numerics) {
    let together = input.predict(unet);
    golden.agrees(name, &together, what.as_str());
    for index in 0..SAMPLES {
        let alone = input.alone(index).predict(unet);
        assert_eq!(bits(&sample(&together, index)), bits(&alone), "{what:?} {name}, sample {index}");
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

#[test]
fn both_encoders_give_what_the_pipeline_of_diffusers_takes_with_layers_left_out_and_without() {
    let golden = Golden::sdxl();
    for numerics in Numerics::ALL {
        let networks = networks("tiny-sdxl", numerics);
        for (index, prompt) in golden.prompts().into_iter().enumerate() {
            let read = prompt::read(&networks.texts, prompt, PromptSyntax::Plain).unwrap();
            for skip in 0..3 {
                let text = prompt::encode(&networks.texts, &read, 1, skip).unwrap();
                golden.agrees(&format!("text/{index}/skip_{skip}"), &text.hidden, numerics.as_str());
                golden.agrees(&format!("text/{index}/pooled"), &text.pooled.unwrap(), numerics.as_str());
            }
        }
    }
}

#[test]
fn prompts_become_the_tokens_of_both_tokenizers() {
    let golden = Golden::sdxl();
    let networks = networks("tiny-sdxl", Numerics::Fast);
    for (index, prompt) in golden.prompts().into_iter().enumerate() {
        for (place, part) in networks.texts.iter().enumerate() {
            let ours: Vec<f64> =
                part.tokenizer.tokenize(prompt).unwrap().ids.into_iter().map(f64::from).collect();
            assert_eq!(ours, golden.numbers(&format!("/tokens/{index}/{place}")), "{prompt}");
        }
    }
}

#[test]
fn layers_are_left_out_of_one_encoder_as_diffusers_does_it_and_never_more_than_there_are() {
    let golden = Golden::networks();
    for numerics in Numerics::ALL {
        let networks = networks("tiny-inpaint", numerics);
        let part = &networks.texts[0];
        for (index, prompt) in golden.prompts().into_iter().enumerate() {
            let row: TokenRow = part.tokenizer.tokenize(prompt).unwrap().ids.into();
            for skip in 0..=3 {
                let text = part.encoder.forward(&row, skip).unwrap();
                assert!(text.pooled.is_none());
                golden.agrees(&format!("inpaint/text/{index}/skip_{skip}"), &text.hidden, numerics.as_str());
            }
            let error = part.encoder.forward(&row, 4).unwrap_err().to_string();
            assert!(error.contains("clip skip 4") && error.contains("at most 3"), "{error}");
        }
    }
    let xl = networks("tiny-sdxl", Numerics::Fast);
    let row: TokenRow = xl.texts[0].tokenizer.tokenize("").unwrap().ids.into();
    let error = xl.texts[0].encoder.forward(&row, 3).unwrap_err().to_string();
    assert!(error.contains("clip skip 3") && error.contains("at most 2"), "{error}");
}

#[test]
fn a_learned_vector_stands_for_the_embedding_of_its_place() {
    let encoder = &networks("tiny-inpaint", Numerics::Strict).texts[0].encoder;
    let embedding =
        WeightsFile::open(&folder("tiny-inpaint").join("text_encoder/model.safetensors")).unwrap();
    let ops = ops(Numerics::Strict);
    let table = embedding.root(&ops).values("embeddings.token_embedding.weight", &[594, 10]).unwrap();
    let known = TokenRow::from(vec![592, 40, 41, 42, 593]);
    let learned =
        TokenRow { ids: vec![592, 40, 70_000, 42, 593], learned: vec![(2, table[410..420].to_vec())] };
    let hidden = |row: &TokenRow| bits(&encoder.forward(row, 0).unwrap().hidden);
    assert_eq!(hidden(&known), hidden(&learned));
    let other = TokenRow { learned: vec![(2, vec![0.5; 10])], ..known.clone() };
    assert_ne!(hidden(&known), hidden(&other));
}

#[test]
fn rows_that_do_not_fit_an_encoder_are_refused() {
    let encoder = &networks("tiny-inpaint", Numerics::Fast).texts[0].encoder;
    let learned = |place: usize, width: usize| TokenRow {
        ids: vec![592, 593],
        learned: vec![(place, vec![0.0; width])],
    };
    for (row, part) in [
        (TokenRow::default(), "0 tokens"),
        (TokenRow::from(vec![1; 12]), "12 tokens"),
        (TokenRow::from(vec![594]), "token 594"),
        (learned(2, 10), "place 2"),
        (learned(1, 9), "9 numbers"),
    ] {
        let error = encoder.forward(&row, 0).unwrap_err().to_string();
        assert!(error.contains(part), "'{error}' lacks '{part}'");
    }
}

#[test]
fn a_batch_of_stable_diffusion_xl_at_three_timesteps_agrees_with_diffusers_and_with_each_sample_alone() {
    let golden = Golden::sdxl();
    let input = Input {
        latents: latents(21, 4),
        timesteps: golden.numbers("/mixed/timesteps"),
        texts: golden.texts("text", "skip_0"),
        conditions: pooled(&golden, &golden, "/mixed/time_ids"),
        residuals: None,
    };
    for numerics in Numerics::ALL {
        let unet = networks("tiny-sdxl", numerics).unet;
        agrees_together_and_alone(&golden, "mixed/prediction", &unet, &input, numerics);
    }
}

#[test]
fn a_network_of_nine_channels_agrees_with_diffusers_with_a_controlnet_and_without() {
    let golden = Golden::networks();
    let mut input = Input {
        latents: latents(42, 9),
        timesteps: golden.numbers("/timesteps"),
        texts: golden.texts("inpaint/text", "skip_0"),
        conditions: none(),
        residuals: None,
    };
    for numerics in Numerics::ALL {
        let networks = networks("tiny-inpaint", numerics);
        input.residuals = None;
        agrees_together_and_alone(&golden, "inpaint/prediction", &networks.unet, &input, numerics);
        let control = ControlNet::load(&folder("tiny-control"), &ops(numerics)).unwrap();
        control.check_fit(networks.unet.config(), 8).unwrap();
        let added = residuals(&control, 43, 0.75, &input, numerics);
        agrees_by_place(&golden, "control", &added, numerics);
        input.residuals = Some(added);
        agrees_together_and_alone(&golden, "control/prediction", &networks.unet, &input, numerics);
    }
}

#[test]
fn what_two_controlnets_add_to_stable_diffusion_xl_is_summed() {
    let (xl, golden) = (Golden::sdxl(), Golden::networks());
    let mut input = Input {
        latents: latents(46, 4),
        timesteps: golden.numbers("/timesteps"),
        texts: xl.texts("text", "skip_0"),
        conditions: pooled(&xl, &golden, "/time_ids"),
        residuals: None,
    };
    for numerics in Numerics::ALL {
        let networks = networks("tiny-sdxl", numerics);
        let control = ControlNet::load(&folder("tiny-control-xl"), &ops(numerics)).unwrap();
        control.check_fit(networks.unet.config(), 8).unwrap();
        let one = residuals(&control, 44, 1.0, &input, numerics);
        agrees_by_place(&golden, "control_xl", &one, numerics);
        let two = residuals(&control, 45, -0.5, &input, numerics);
        input.residuals = Some(one.add(&ops(numerics), &two).unwrap());
        agrees_together_and_alone(&golden, "control_xl/prediction_of_two", &networks.unet, &input, numerics);
    }
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

fn agrees_by_place(golden: &Golden, name: &str, residuals: &Residuals, numerics: Numerics) {
    assert!(!golden.tensors.contains_key(&format!("{name}/down_{}", residuals.down.len())));
    for (index, term) in residuals.down.iter().enumerate() {
        golden.agrees(&format!("{name}/down_{index}"), term, numerics.as_str());
    }
    golden.agrees(&format!("{name}/mid"), &residuals.mid, numerics.as_str());
}

#[test]
fn networks_that_take_the_guidance_scale_or_have_uneven_depths_agree_with_diffusers() {
    let golden = Golden::networks();
    let mut input = Input {
        latents: latents(48, 4),
        timesteps: golden.numbers("/timesteps"),
        texts: normal(47, &[SAMPLES, 5, 10]),
        conditions: none(),
        residuals: None,
    };
    for (condition, guidance) in input.conditions.iter_mut().zip(golden.numbers("/guidance")) {
        condition.guidance = guidance;
    }
    for numerics in Numerics::ALL {
        let distilled = unet("unet-distilled", numerics);
        assert!(distilled.config().takes_guidance());
        agrees_together_and_alone(&golden, "distilled/prediction", &distilled, &input, numerics);
    }
    input.latents = latents(49, 8);
    for numerics in Numerics::ALL {
        let uneven = unet("unet-uneven", numerics);
        assert!(!uneven.config().takes_guidance());
        agrees_together_and_alone(&golden, "uneven/prediction", &uneven, &input, numerics);
    }
}

#[test]
fn one_timestep_for_all_has_the_bits_of_the_same_timestep_for_each() {
    let unet = networks("tiny-sd1", Numerics::Strict).unet;
    let latents = latents(50, 4);
    let keys = unet.text_keys(&normal(51, &[SAMPLES, 19, 30])).unwrap();
    let predict = |timesteps: &[f64]| unet.forward(&latents, timesteps, &keys, None, None);
    assert_eq!(bits(&predict(&[37.5]).unwrap()), bits(&predict(&[37.5; SAMPLES]).unwrap()));
    let error = predict(&[1.0, 2.0]).unwrap_err().to_string();
    assert!(error.contains("2 timesteps do not fit a batch of 3"), "{error}");
}

#[test]
fn conditions_and_residuals_that_do_not_fit_a_network_are_refused() {
    let golden = Golden::sdxl();
    let unet = networks("tiny-sdxl", Numerics::Fast).unet;
    let refused = |conditions: &[Conditions], part: &str| {
        let error = unet.added(conditions).unwrap_err().to_string();
        assert!(error.contains(part), "'{error}' lacks '{part}'");
    };
    refused(&none(), "needs a pooled text");
    let mut wide = none();
    wide[0].pooled = Some(normal(1, &[1, 11]));
    refused(&wide, "width 11");

    let conditions = pooled(&golden, &golden, "/mixed/time_ids");
    let keys = unet.text_keys(&golden.texts("text", "skip_0")).unwrap();
    let x = latents(21, 4);
    let fails = |added: &[Conditions], residuals: Option<&Residuals>, part: &str| {
        let added = unet.added(added).unwrap();
        let error = unet.forward(&x, &[5.0], &keys, added.as_ref(), residuals).unwrap_err().to_string();
        assert!(error.contains(part), "'{error}' lacks '{part}'");
    };
    fails(&conditions[..2], None, "2 conditions");
    let few = Residuals { down: vec![normal(1, &[1])], mid: normal(1, &[1]) };
    fails(&conditions, Some(&few), "with 1 outputs");
    let misshapen = Residuals { down: vec![normal(1, &[1]); 6], mid: normal(1, &[1]) };
    fails(&conditions, Some(&misshapen), "shape [1]");
    let error = unet.forward(&x, &[5.0], &keys, None, None).unwrap_err().to_string();
    assert!(error.contains("another network"), "{error}");
}

#[test]
fn a_hint_of_another_size_is_refused() {
    let control = ControlNet::load(&folder("tiny-control"), &ops(Numerics::Fast)).unwrap();
    let keys = control.text_keys(&normal(51, &[SAMPLES, 5, 10])).unwrap();
    let x = latents(41, 4);
    for shape in [[1, 3, 64, 56], [2, 3, 72, 56]] {
        let hint = control.hint(&normal(52, &shape)).unwrap();
        let call =
            Call { latents: &x, timesteps: &[1.0], text_keys: &keys, added: None, hint: &hint, scale: 1.0 };
        let error = control.forward(&call).unwrap_err().to_string();
        assert!(error.contains("do not fit 3 samples of 7 by 9"), "{error}");
    }
}
