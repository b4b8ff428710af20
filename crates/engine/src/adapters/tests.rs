//! Adapters that are broken, made for another model or mean harm: an error names the file and the tensor.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use seedfarm_core::{AdapterDigest, AdapterKind, Numerics};
use tempfile::TempDir;

use super::*;
use crate::DeviceSpec;
use crate::config::unet::UnetConfig;
use crate::networks::Networks;
use crate::ops::Ops;
use crate::source::{ModelSource, Part};

const CONV: &str = "lora_unet_down_blocks_0_resnets_0_conv1";
const QUERY: &str = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
const TEXT_KEYS: &str = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k";

fn parity() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity")
}

/// A safetensors file of tensors by name and shape, filled with one number.
struct Made {
    path: PathBuf,
    _folder: TempDir,
}

impl Made {
    fn new(tensors: &[(&str, &[usize], f32)]) -> Self {
        Self::named("made.safetensors", tensors)
    }

    fn named(name: &str, tensors: &[(&str, &[usize], f32)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let tensor = |(key, shape, value): &(&str, &[usize], f32)| {
            ((*key).to_owned(), Tensor::full(*value, *shape, &Device::Cpu).unwrap())
        };
        let tensors: HashMap<String, Tensor> = tensors.iter().map(tensor).collect();
        candle_core::safetensors::save(&tensors, &path).unwrap();
        Self { path, _folder: folder }
    }

    fn bytes(name: &str, bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Self { path, _folder: folder }
    }
}

/// The tensors of one layer's change.
fn pair<'a>(names: &'a [String; 2], down: &'a [usize], up: &'a [usize]) -> [(&'a str, &'a [usize], f32); 2] {
    [(&names[0], down, 0.1), (&names[1], up, 0.1)]
}

fn names(layer: &str) -> [String; 2] {
    [format!("{layer}.lora_down.weight"), format!("{layer}.lora_up.weight")]
}

fn load(adapters: &Adapters) -> Result<Networks> {
    let source = ModelSource::open(&parity().join("models/tiny-sd1")).unwrap();
    Networks::load(&source, adapters, Ops::new(Numerics::Fast, DeviceSpec::Cpu.open(Numerics::Fast).unwrap()))
}

fn with_lora(path: &Path, weight: f64) -> Adapters {
    let lora = Lora { path: path.to_owned(), weight, text_weight: weight };
    Adapters { loras: vec![lora], ..Adapters::default() }
}

fn with_embedding(trigger: &str, path: &Path) -> Adapters {
    let embedding = Embedding { trigger: trigger.to_owned(), path: path.to_owned() };
    Adapters { embeddings: vec![embedding], ..Adapters::default() }
}

fn refusal(adapters: &Adapters) -> String {
    load(adapters).map(drop).unwrap_err().to_string()
}

/// Why a LoRA of these tensors is refused.
fn lora_refusal(tensors: &[(&str, &[usize], f32)]) -> String {
    refusal(&with_lora(&Made::new(tensors).path, 1.0))
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let query = names(QUERY);
    let refused = |down: &[usize], up: &[usize]| lora_refusal(&pair(&query, down, up));
    let error = refused(&[2, 19], &[18, 2]);
    assert!(error.contains("made.safetensors") && error.contains(&query[0]), "{error}");
    assert!(error.contains("[18, 19, 1, 1], but the model's layer has shape [18, 18]"), "{error}");
    assert!(refused(&[2, 18], &[18, 3]).contains("does not fit the rank 2"));
    assert!(refused(&[2, 18, 3, 3], &[18, 2, 1, 1]).contains("[18, 18, 3, 3]"));
    assert!(refused(&[2, 18], &[18, 2, 3, 3]).contains("does not fit the rank 2"));
    assert!(refused(&[2], &[18, 2]).contains("two or four dimensions"));
    assert!(refused(&[0, 18], &[18, 0]).contains("which is empty"));
    assert!(refused(&[2049, 1], &[1, 2049]).contains("rank 2049, more than the limit of 2048"));
    let conv = names(CONV);
    let mut tensors = pair(&conv, &[2, 18, 1, 1], &[18, 2, 1, 1]).to_vec();
    let mid = format!("{CONV}.lora_mid.weight");
    tensors.push((&mid, &[2, 3, 3, 3], 0.1));
    assert!(lora_refusal(&tensors).contains("[2, 3, 3, 3], which does not fit"));
}

#[test]
fn numbers_that_are_not_finite_are_named() {
    let query = names(QUERY);
    let alpha = format!("{QUERY}.alpha");
    let with = |down: f32, alpha_value: f32| {
        lora_refusal(&[(&query[0], &[2, 18], down), (&query[1], &[18, 2], 0.1), (&alpha, &[1], alpha_value)])
    };
    assert!(with(f32::NAN, 1.0).contains(&format!("'{}' holds a value that is not finite", query[0])));
    assert!(with(0.1, f32::INFINITY).contains(&format!("'{alpha}' holds a value that is not finite")));
    assert!(with(3e38, 3e38).contains("leaves the finite numbers"));
    let tensors =
        [(query[0].as_str(), &[2_usize, 18][..], 0.1), (&query[1], &[18, 2], 0.1), (&alpha, &[2], 1.0)];
    assert!(lora_refusal(&tensors).contains("has shape [2]: one number is needed"));
    let made = Made::new(&tensors[..2]);
    assert!(refusal(&with_lora(&made.path, f64::NAN)).contains("has the weight NaN"));
}

#[test]
fn half_a_layer_two_of_one_and_none_of_the_models_are_named() {
    let query = names(QUERY);
    assert!(lora_refusal(&[(&query[0], &[2, 18], 0.1)]).contains("without its 'up' tensor"));
    assert!(lora_refusal(&[(&query[1], &[18, 2], 0.1)]).contains("without its 'down' tensor"));
    let same = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight";
    let mut twice = pair(&query, &[2, 18], &[18, 2]).to_vec();
    twice.push((same, &[2, 18], 0.1));
    let error = lora_refusal(&twice);
    assert!(error.contains(same) && error.contains(&query[0]), "{error}");
    let old = names("lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q");
    let mut twice = pair(&query, &[2, 18], &[18, 2]).to_vec();
    twice.extend(pair(&old, &[2, 18], &[18, 2]));
    assert!(lora_refusal(&twice).contains("under another name"));
    for layer in ["lora_unet_down_blocks_9_resnets_0_conv1", "lora_unet_input_blocks_44_0_in_layers_2"] {
        let error = lora_refusal(&pair(&names(layer), &[2, 18], &[18, 2]));
        assert!(error.contains(layer) && error.contains("does not have"), "{error}");
    }
    let text = names("lora_te_text_model_encoder_layers_7_mlp_fc1");
    assert!(
        lora_refusal(&pair(&text, &[2, 30], &[52, 2])).contains("the model's text_encoder does not have")
    );
}

#[test]
fn other_methods_and_other_things_are_named() {
    let hada = format!("{QUERY}.hada_w1_a");
    assert!(lora_refusal(&[(&hada, &[2, 18], 0.1)]).contains("belongs to LoHa"));
    let other = "model.diffusion_model.out.2.weight";
    let error = lora_refusal(&[(other, &[2, 18], 0.1)]);
    assert!(error.contains(other) && error.contains("is not a name"), "{error}");
}

#[test]
fn adapters_for_another_family_are_refused_by_its_name() {
    let keys = names(TEXT_KEYS);
    let error = lora_refusal(&pair(&keys, &[2, 2048], &[640, 2]));
    assert!(error.contains("was made for SDXL (texts 2048 wide); the model is texts 30 wide"), "{error}");
    let second = names("lora_te2_text_model_encoder_layers_0_mlp_fc1");
    assert!(
        lora_refusal(&pair(&second, &[2, 30], &[52, 2]))
            .contains("changes a second text encoder, as SDXL has")
    );
    let query = names("lora_te_text_model_encoder_layers_0_self_attn_q_proj");
    assert!(lora_refusal(&pair(&query, &[2, 768], &[768, 2])).contains("a text encoder 768 wide"));
    let words = Made::new(&[("clip_l", &[2, 768], 0.1), ("clip_g", &[2, 1280], 0.1)]);
    assert!(refusal(&with_embedding("cat", &words.path)).contains("was made for SDXL (texts 2048 wide)"));
    let words = Made::new(&[("emb_params", &[2, 1024], 0.1)]);
    assert!(refusal(&with_embedding("cat", &words.path)).contains("was made for SD2 (texts 1024 wide)"));
}

#[test]
fn embeddings_that_are_none_are_named() {
    for (tensors, reason) in [
        (&[("emb_params", &[76, 30][..], 0.1)][..], "'emb_params' has shape [76, 30]"),
        (&[("emb_params", &[2, 3, 5], 0.1)], "'emb_params' has shape [2, 3, 5]"),
        (&[("<cat>", &[0, 30], 0.1)], "'<cat>' has shape [0, 30]"),
        (&[("emb_params", &[1, 30], 0.1), ("step", &[1], 0.1)], "is no embedding"),
        (&[("clip_l", &[1, 30], 0.1)], "'clip_g' is missing"),
        (
            &[("clip_l", &[1, 30], 0.1), ("clip_g", &[2, 30], 0.1)],
            "'clip_g' has 2 vectors, but 'clip_l' has 1",
        ),
        (&[("clip_l", &[1, 30], 0.1), ("clip_g", &[1, 30], 0.1), ("x", &[1], 0.1)], "'x' is none of"),
        (&[("emb_params", &[1, 30], f32::NAN)], "'emb_params' holds a value that is not finite"),
    ] {
        let error = refusal(&with_embedding("cat", &Made::new(tensors).path));
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn words_that_cannot_be_told_apart_are_refused() {
    let words = Made::new(&[("emb_params", &[1, 30], 0.1)]);
    let two = |first: &str, second: &str| {
        let mut adapters = with_embedding(first, &words.path);
        adapters.embeddings.extend(with_embedding(second, &words.path).embeddings);
        load(&adapters).map(drop)
    };
    assert!(two("My Style", "my style").unwrap_err().to_string().contains("'My Style' and 'my style'"));
    assert!(two("my style", "my").is_ok());
    assert!(refusal(&with_embedding(" ", &words.path)).contains("must not be empty"));
}

#[test]
fn pickles_are_refused_with_the_reason() {
    for name in ["old.pt", "old.BIN", "old.ckpt"] {
        let made = Made::bytes(name, b"\x80\x02}q\x00.");
        for error in [
            refusal(&with_lora(&made.path, 1.0)),
            refusal(&with_embedding("cat", &made.path)),
            describe_adapter(&made.path).unwrap_err().to_string(),
        ] {
            assert!(error.contains(name) && error.contains("is a pickle"), "{error}");
        }
    }
}

#[test]
fn no_bytes_of_a_header_make_the_reader_panic() {
    let header = br#"{"__metadata__":{"lora_adapter_metadata":"[1]"},"unet.conv_in.lora_A.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}"#;
    let whole = |header: &[u8]| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(&[0; 4]);
        bytes
    };
    let made = Made::bytes("a.safetensors", &whole(header));
    assert!(
        refusal(&with_lora(&made.path, 1.0)).contains("'lora_adapter_metadata' in its metadata is not valid")
    );
    for at in 0..header.len() {
        for byte in [b'"', b'0', b'}', 0xff] {
            let mut spoilt = *header;
            spoilt[at] = byte;
            let made = Made::bytes("a.safetensors", &whole(&spoilt));
            let _ = describe_adapter(&made.path);
            let _ = LoraFile::open(&made.path);
            let _ = EmbeddingFile::open(&made.path);
        }
    }
}

#[test]
fn a_file_is_told_by_its_tensors() {
    const SDXL: &str = "stable-diffusion-xl";
    let keys = names(TEXT_KEYS);
    let lora = Made::new(&pair(&keys, &[2, 768], &[320, 2]));
    let described = describe_adapter(&lora.path).unwrap().unwrap();
    assert_eq!((described.kind, described.family.as_deref()), (AdapterKind::Lora, Some("stable-diffusion")));
    let bytes = std::fs::read(&lora.path).unwrap();
    assert_eq!((described.digest, described.bytes), (AdapterDigest::of_bytes(&bytes), bytes.len() as u64));
    let second = names("lora_te2_text_model_encoder_layers_0_self_attn_q_proj");
    let second = Made::new(&pair(&second, &[2, 1280], &[1280, 2]));
    assert_eq!(describe_adapter(&second.path).unwrap().unwrap().family.as_deref(), Some(SDXL));
    let embedding = |name: &str, tensors: &[(&str, &[usize], f32)]| {
        let described = describe_adapter(&Made::named(name, tensors).path).unwrap()?;
        assert_eq!(described.kind, AdapterKind::Embedding);
        Some((described.name, described.family.unwrap_or_default()))
    };
    let is = |name: &str, family: &str| Some((name.to_owned(), family.to_owned()));
    let params = embedding("My Style.v2.safetensors", &[("emb_params", &[2, 1024], 0.1)]);
    assert_eq!(params, is("My Style.v2", "stable-diffusion-2"));
    let named = embedding("x.safetensors", &[("<cat>", &[768], 0.1)]);
    assert_eq!(named, is("<cat>", "stable-diffusion"));
    let both = embedding("x.safetensors", &[("clip_l", &[1, 768], 0.1), ("clip_g", &[1, 1280], 0.1)]);
    assert_eq!(both, is("x", SDXL));
    assert_eq!(embedding("x.safetensors", &[("a", &[1, 768], 0.1), ("b", &[1, 1280], 0.1)]), None);
}

#[test]
fn loras_change_the_layers_of_a_checkpoint_in_one_file() {
    let source = ModelSource::open(&parity().join("models/single-sdxl.safetensors")).unwrap();
    let unet = UnetConfig::read(&source.config(Part::Unet).unwrap()).unwrap();
    let parts = [
        (Part::Unet, "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"),
        (Part::TextEncoder, "text_model.encoder.layers.0.self_attn.k_proj"),
        (Part::TextEncoder2, "text_model.encoder.layers.0.self_attn.v_proj"),
    ];
    let [in_unet, in_first, in_second] = [
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
        "lora_te1_text_model_encoder_layers_0_self_attn_k_proj",
        "lora_te2_text_model_encoder_layers_0_self_attn_v_proj",
    ]
    .map(names);
    let shape = |(part, layer): (Part, &str)| {
        source.weights(part).unwrap().shape(&format!("{layer}.weight")).unwrap().to_vec()
    };
    let [unet_shape, first, second] = parts.map(shape);
    let sides = |shape: &[usize]| ([2, shape[1]], [shape[0], 2]);
    let ((a, b), (c, d), (e, f)) = (sides(&unet_shape), sides(&first), sides(&second));
    let tensors = [pair(&in_unet, &a, &b), pair(&in_first, &c, &d), pair(&in_second, &e, &f)].concat();
    let made = Made::new(&tensors);
    let widths = [first[1], second[1]];
    let model = ModelShape { unet: &unet, text_widths: &widths };
    let mut open = with_lora(&made.path, 0.5).open(&model).unwrap();
    let patches = [open.unet, open.texts.remove(0), open.texts.remove(0)];
    for ((part, layer), (patches, shape)) in
        parts.into_iter().zip(patches.into_iter().zip([unet_shape, first, second]))
    {
        let name = format!("{layer}.weight");
        let ops = Ops::new(Numerics::Strict, Device::Cpu);
        let plain = source.weights(part).unwrap().values(&name, &shape).unwrap();
        let weights = source.weights(part).unwrap().with_patches(patches);
        let merged = weights.root(&ops).values(&name, &shape).unwrap();
        // A half of 0.1 * 0.1 + 0.1 * 0.1.
        let off = |(plain, merged): (&f32, &f32)| (merged - plain - 0.01).abs() > 1e-6;
        assert!(!plain.iter().zip(&merged).any(off), "{name}");
        weights.expect_all_read(&[""]).unwrap();
    }
}
