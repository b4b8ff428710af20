//! Model folders that are old, broken or mean harm: the old load, the others give an error that names the
//! file and the key.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{emoji_starter, recipe, sampled, tiny};
use seedfarm_core::{Numerics, PixelDigest, Sampler};
use seedfarm_engine::{DeviceSpec, Error, Model, Pictures, Unobserved, read_manifest};
use serde_json::{Value, json};
use tempfile::TempDir;

const UNET: &str = "unet/diffusion_pytorch_model.safetensors";
const KEY: &str = "conv_in.bias";

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("a folder can be read") {
        let (path, name) =
            entry.map(|entry| (entry.path(), entry.file_name())).expect("an entry can be read");
        if path.is_dir() {
            copy_folder(&path, &to.join(name));
        } else {
            fs::write(to.join(name), fs::read(path).expect("a file can be read"))
                .expect("a file can be written");
        }
    }
}

/// A copy of a small model, to be broken.
struct Broken(TempDir);

impl Broken {
    fn copy_of(folder: &Path) -> Self {
        let copy = TempDir::new().expect("a temporary folder");
        copy_folder(folder, copy.path());
        Self(copy)
    }

    fn new() -> Self {
        Self::copy_of(&tiny("tiny-sd1"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("the file is there")
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).expect("the file can be written");
    }

    /// Changes a JSON file.
    fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&self.bytes(name)).expect("it is JSON");
        change(&mut value);
        self.write(name, value.to_string());
    }

    /// Changes the header of the UNet's weights and leaves its data.
    fn edit_header(&self, change: impl FnOnce(&mut Value)) {
        self.edit_header_of(UNET, change);
    }

    /// Changes the header of a weights file and leaves its data.
    fn edit_header_of(&self, file: &str, change: impl FnOnce(&mut Value)) {
        let bytes = self.bytes(file);
        let end = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        let mut header = serde_json::from_slice(&bytes[8..end]).expect("the header is JSON");
        change(&mut header);
        let header = header.to_string();
        let length = (header.len() as u64).to_le_bytes();
        self.write(file, [&length, header.as_bytes(), &bytes[end..]].concat());
    }

    /// Loads the model, which must fail with a message that holds every one of `parts`.
    fn refuses(&self, parts: &[&str]) -> Error {
        let error = Model::load(self.0.path(), &DeviceSpec::Cpu, Numerics::Strict, 1).err();
        let error = error.unwrap_or_else(|| panic!("a model without {parts:?} was loaded"));
        for part in parts {
            assert!(error.to_string().contains(part), "'{error}' lacks '{part}'");
        }
        error
    }
}

#[test]
fn the_copy_itself_loads() {
    Model::load(Broken::new().0.path(), &DeviceSpec::Cpu, Numerics::Strict, 1).expect("it is whole");
}

/// Gives every tensor of a header another name.
fn rename(header: &mut Value, name: impl Fn(&str) -> String) {
    let tensors = header.as_object().cloned().unwrap_or_default();
    *header = tensors.into_iter().map(|(key, entry)| (name(&key), entry)).collect();
}

fn pixels(folder: &Path) -> PixelDigest {
    let model = Model::load(folder, &DeviceSpec::Cpu, Numerics::Strict, 1).expect("it loads");
    let recipe = sampled(recipe(model.manifest(), Numerics::Strict, "a red apple", 1), Sampler::Ddim, 2);
    model.render(&[recipe], &Pictures::default(), &mut Unobserved).expect("it renders")[0].pixel_digest()
}

#[test]
fn names_that_older_versions_of_diffusers_and_transformers_wrote_load_the_same_model() {
    let model = Broken::new();
    model.edit_header_of("text_encoder/model.safetensors", |header| {
        rename(
            header,
            |key| if key.starts_with("__") { key.to_owned() } else { format!("text_model.{key}") },
        );
    });
    let names = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")];
    model.edit_header_of("vae/diffusion_pytorch_model.safetensors", |header| {
        rename(header, |key| names.iter().fold(key.to_owned(), |key, (new, old)| key.replace(new, old)));
    });
    fs::rename(model.path(UNET), model.path("unet/diffusion_pytorch_model.fp16.safetensors"))
        .expect("it was there");
    assert_eq!(pixels(model.0.path()), pixels(&tiny("tiny-sd1")));
}

#[test]
fn a_header_that_is_cut_off_or_claims_too_much_is_refused() {
    let model = Broken::new();
    let whole = model.bytes(UNET);
    for length in [0, 7, 8, 100] {
        model.write(UNET, &whole[..length]);
        model.refuses(&[UNET]);
    }
    for claim in [whole.len() as u64, 17 << 20, u64::MAX] {
        model.write(UNET, [&claim.to_le_bytes(), &whole[8..]].concat());
        model.refuses(&[UNET, &claim.to_string()]);
    }
    model.write(UNET, [&2u64.to_le_bytes()[..], b"[]"].concat());
    model.refuses(&[UNET, "header is not valid"]);
}

#[test]
fn data_that_is_cut_off_or_too_long_is_refused() {
    let model = Broken::new();
    let whole = model.bytes(UNET);
    model.write(UNET, &whole[..whole.len() - 1]);
    model.refuses(&[UNET, "outside"]);
    model.write(UNET, [&whole[..], b"x"].concat());
    model.refuses(&[UNET, "the tensors end at byte"]);
}

#[test]
fn overlapping_and_wandering_offsets_are_refused_by_tensor() {
    let model = Broken::new();
    model.edit_header(|header| header[KEY]["data_offsets"] = json!([4, 40]));
    model.refuses(&[UNET]);
    let model = Broken::new();
    let far = 1u64 << 60;
    model.edit_header(|header| header[KEY]["data_offsets"] = json!([far, far + 36]));
    model.refuses(&[UNET, KEY, "outside"]);
    let model = Broken::new();
    model.edit_header(|header| header[KEY] = header["conv_norm_out.bias"].clone());
    model.refuses(&[UNET]);
}

#[test]
fn a_stored_type_that_is_not_a_float_is_refused_by_tensor() {
    let model = Broken::new();
    model.edit_header(|header| header[KEY]["dtype"] = json!("I16"));
    model.refuses(&[UNET, KEY, "I16", "F16, BF16 or F32"]);
    let model = Broken::new();
    model.edit_header(|header| header[KEY]["dtype"] = json!("X3"));
    model.refuses(&[UNET, KEY, "unknown type 'X3'"]);
}

#[test]
fn a_missing_an_unknown_and_a_misshapen_tensor_are_refused_by_name() {
    let model = Broken::new();
    model.edit_header(|header| {
        let entry = header.as_object_mut().and_then(|tensors| tensors.remove(KEY));
        header["conv_in.other"] = entry.expect("the tensor was there");
    });
    model.refuses(&[UNET, KEY, "is missing"]);

    let model = Broken::new();
    model.edit_header(|header| {
        let end = header.as_object().into_iter().flat_map(|tensors| tensors.values());
        let end = end.filter_map(|tensor| tensor["data_offsets"][1].as_u64()).max();
        header["add_embedding.linear_1.weight"] =
            json!({"dtype": "F16", "shape": [0], "data_offsets": [end, end]});
    });
    model.refuses(&[UNET, "add_embedding.linear_1.weight", "belongs to no layer"]);

    let model = Broken::new();
    model.edit_header(|header| header[KEY]["shape"] = json!([9, 2]));
    model.refuses(&[UNET, KEY, "[9, 2]", "[18]"]);
}

#[test]
fn weights_that_are_not_finite_are_refused_by_tensor() {
    let model = Broken::new();
    let mut bytes = model.bytes(UNET);
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    // The tensor that comes first in the data gets the f16 infinity, 0x7c00.
    bytes[header..header + 2].copy_from_slice(&[0x00, 0x7c]);
    model.write(UNET, bytes);
    model.refuses(&[UNET, "not finite"]);
}

#[test]
fn pickles_are_refused_with_the_reason() {
    let model = Broken::new();
    let pickle = "unet/diffusion_pytorch_model.bin";
    fs::rename(model.path(UNET), model.path(pickle)).expect("it can be renamed");
    assert!(matches!(model.refuses(&[pickle, "can run code"]), Error::Pickle { .. }));
    let single = model.path("model.ckpt");
    fs::write(&single, b"\x80\x02").expect("it can be written");
    let error = read_manifest(&single).expect_err("a checkpoint is refused");
    assert!(matches!(error, Error::Pickle { .. }), "{error}");
}

#[test]
fn each_missing_part_is_named() {
    for part in [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        UNET,
        "vae/config.json",
    ] {
        let model = Broken::new();
        fs::remove_file(model.path(part)).expect("it was there");
        model.refuses(&[part, "is missing"]);
    }
    let model = Broken::new();
    fs::remove_file(model.path("tokenizer/tokenizer.json")).expect("it was there");
    model.refuses(&["tokenizer/vocab.json"]);
}

#[test]
fn configurations_beyond_what_is_computed_are_refused_by_key() {
    let cases: [(&str, &str, Value); 31] = [
        (
            "unet/config.json",
            "down_block_types",
            json!(["CrossAttnDownBlock2D", "AttnDownBlock2D", "DownBlock2D"]),
        ),
        ("unet/config.json", "up_block_types", json!(["UpBlock2D"])),
        ("unet/config.json", "block_out_channels", json!([18, 1_000_000_000_000u64, 30])),
        ("unet/config.json", "block_out_channels", json!([18, 31, 30])),
        ("unet/config.json", "block_out_channels", json!([])),
        ("unet/config.json", "layers_per_block", json!(0)),
        ("unet/config.json", "layers_per_block", json!(1e9)),
        ("unet/config.json", "attention_head_dim", json!(0)),
        ("unet/config.json", "attention_head_dim", json!(7)),
        ("unet/config.json", "norm_eps", json!("small")),
        ("unet/config.json", "addition_embed_type", json!("text_image")),
        ("unet/config.json", "class_embed_type", json!("timestep")),
        ("unet/config.json", "num_class_embeds", json!(1000)),
        ("unet/config.json", "mid_block_type", json!("UNetMidBlock2DSimpleCrossAttn")),
        ("unet/config.json", "transformer_layers_per_block", json!([1, 1])),
        ("unet/config.json", "transformer_layers_per_block", json!([1, [], 1])),
        ("unet/config.json", "transformer_layers_per_block", json!([1, [1_000_000], 1])),
        ("unet/config.json", "reverse_transformer_layers_per_block", json!([1, [1], 1])),
        ("unet/config.json", "cross_attention_dim", json!([30, 30, 31])),
        ("unet/config.json", "time_cond_proj_dim", json!(3)),
        ("unet/config.json", "cross_attention_dim", json!(32)),
        ("unet/config.json", "in_channels", json!(5)),
        ("unet/config.json", "act_fn", json!("mish")),
        ("text_encoder/config.json", "hidden_act", json!("relu")),
        ("text_encoder/config.json", "num_attention_heads", json!(7)),
        ("text_encoder/config.json", "max_position_embeddings", json!(-1)),
        ("vae/config.json", "up_block_types", json!(["A", "B", "C", "D"])),
        ("vae/config.json", "latents_mean", json!([0.0])),
        ("vae/config.json", "scaling_factor", json!(0)),
        ("scheduler/scheduler_config.json", "beta_schedule", json!("exp")),
        ("scheduler/scheduler_config.json", "num_train_timesteps", json!(1_000_000_000)),
    ];
    for (file, key, value) in cases {
        let model = Broken::new();
        model.edit(file, |config| config[key] = value.clone());
        model.refuses(&[file, key]);
    }
}

#[test]
fn parts_of_stable_diffusion_xl_that_do_not_fit_are_refused_by_key() {
    const UNET_CONFIG: &str = "unet/config.json";
    const POOLED: &str = "projection_class_embeddings_input_dim";
    let cases: [(&str, &str, Value, [&str; 2]); 9] = [
        (UNET_CONFIG, POOLED, json!(47), [POOLED, "second text encoder gives 10"]),
        (UNET_CONFIG, POOLED, json!(36), [POOLED, "leaves nothing"]),
        (UNET_CONFIG, POOLED, json!(null), [POOLED, "is missing"]),
        (
            UNET_CONFIG,
            "addition_time_embed_dim",
            json!(1_u64 << 40),
            ["addition_time_embed_dim", "1099511627776"],
        ),
        (UNET_CONFIG, "cross_attention_dim", json!(12), ["cross_attention_dim", "give 28"]),
        (UNET_CONFIG, "addition_embed_type", json!(null), ["add_embedding.linear_1", "belongs to no layer"]),
        ("text_encoder_2/config.json", "projection_dim", json!(11), [POOLED, "gives 11"]),
        ("text_encoder_2/config.json", "eos_token_id", json!(-2), ["eos_token_id", "-2"]),
        ("text_encoder_2/config.json", "num_hidden_layers", json!(3), ["layers.3", "belongs to no layer"]),
    ];
    for (file, key, value, parts) in cases {
        let model = Broken::copy_of(&tiny("tiny-sdxl"));
        model.edit(file, |config| config[key] = value);
        model.refuses(&parts);
    }
    let model = Broken::new();
    model.edit(UNET_CONFIG, |config| {
        config["addition_embed_type"] = json!("text_time");
        config["addition_time_embed_dim"] = json!(8);
        config[POOLED] = json!(80);
    });
    model.refuses(&[UNET_CONFIG, "addition_embed_type", "one text encoder"]);
}

#[test]
fn a_configuration_that_asks_for_terabytes_allocates_nothing() {
    let model = Broken::new();
    model.edit("text_encoder/config.json", |config| {
        config["vocab_size"] = json!(1_000_000);
        config["intermediate_size"] = json!(65_536);
    });
    model.refuses(&["text_encoder/model.safetensors", "token_embedding.weight", "[1000000, 30]"]);
}

#[test]
fn other_pipelines_and_classes_are_refused_by_name() {
    let model = Broken::new();
    model.edit("model_index.json", |index| index["_class_name"] = json!("StableDiffusion3Pipeline"));
    model.refuses(&["model_index.json", "StableDiffusion3Pipeline", "StableDiffusionPipeline"]);
    let model = Broken::new();
    model.edit("model_index.json", |index| index["unet"] = json!(["diffusers", "UNet3DConditionModel"]));
    model.refuses(&["model_index.json", "unet", "UNet3DConditionModel"]);
}

#[test]
fn files_that_are_not_json_or_far_too_large_are_refused() {
    let model = Broken::new();
    model.write("unet/config.json", "{\"act_fn\": ");
    model.refuses(&["unet/config.json", "not a JSON object"]);
    let model = Broken::new();
    model.write("vae/config.json", "[".repeat(100_000));
    model.refuses(&["vae/config.json"]);
    let model = Broken::new();
    model.write("scheduler/scheduler_config.json", vec![b' '; (1 << 20) + 1]);
    model.refuses(&["scheduler_config.json", "1048577", "1048576"]);
}

#[test]
fn a_tokenizer_that_does_not_fit_is_refused() {
    let model = Broken::new();
    model.write("tokenizer/tokenizer.json", "{}");
    model.refuses(&["tokenizer", "not a tokenizer"]);
    let model = Broken::new();
    model.edit("tokenizer/tokenizer.json", |tokenizer| tokenizer["model"]["vocab"]["extra"] = json!(5000));
    model.refuses(&["tokenizer", "'extra'", "5000", "594"]);
    let model = Broken::copy_of(&tiny("tiny-sd2"));
    model.write("tokenizer/merges.txt", "a b\nnot-a-merge\n");
    model.refuses(&["tokenizer"]);
    let model = Broken::copy_of(&tiny("tiny-sd2"));
    model.edit("tokenizer/vocab.json", |vocab| {
        vocab.as_object_mut().map(|vocab| vocab.remove("<|startoftext|>"));
    });
    model.refuses(&["tokenizer", "<|startoftext|>"]);
}

#[test]
fn a_file_that_is_not_the_one_that_the_manifest_lists_is_refused() {
    let model = Broken::copy_of(&emoji_starter());
    model.edit("unet/config.json", |config| config["sample_size"] = json!(9));
    let error = read_manifest(model.0.path()).expect_err("the file was changed").to_string();
    assert!(error.contains("unet/config.json") && error.contains("manifest.toml"), "{error}");

    for (line, part) in [("\"../secret\" = ", "../secret"), ("\"/etc/passwd\" = ", "/etc/passwd")] {
        let model = Broken::new();
        model.write("manifest.toml", format!("[files]\n{line}\"{}\"\n", "0".repeat(64)));
        model.refuses(&["manifest.toml", part]);
    }
    let model = Broken::new();
    model.write("manifest.toml", "nmae = \"typo\"\n");
    model.refuses(&["manifest.toml", "nmae"]);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let error = read_manifest(Path::new("/no/such/model")).expect_err("it is not there").to_string();
    assert!(error.contains("/no/such/model/model_index.json"), "{error}");
}
