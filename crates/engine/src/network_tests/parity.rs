//! Against diffusers, in both classes of arithmetic.

use seedfarm_core::{Numerics, PromptSyntax};

use super::*;
use crate::prompt;

const LARGEST_RELATIVE_ERROR: f32 = 1e-4;

impl Golden {
    fn agrees(&self, name: &str, ours: &Tensor, what: &str) {
        let theirs = &self.tensors[name];
        assert_eq!(ours.dims(), theirs.dims(), "{what} {name}");
        let (ours, theirs) = (flat(ours), flat(theirs));
        let largest = theirs.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let apart = ours.iter().zip(&theirs).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(apart / largest < LARGEST_RELATIVE_ERROR, "{what} {name}: {}", apart / largest);
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
        let distilled = networks("tiny-distilled", numerics).unet;
        assert!(distilled.config().takes_guidance());
        agrees_together_and_alone(&golden, "distilled/prediction", &distilled, &input, numerics);
    }
    input.latents = latents(49, 8);
    for numerics in Numerics::ALL {
        let uneven = uneven(numerics);
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
