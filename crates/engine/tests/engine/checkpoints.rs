//! Checkpoints in one file and weights in several: they give the model that they hold, and hostile ones an
//! error that names the file and the key.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{recipe, repository, sampled, tiny, traces};
use candle_core::{DType, Device, Tensor};
use seedfarm_core::sampling::Prediction;
use seedfarm_core::{Numerics, Sampler};
use seedfarm_engine::{DeviceSpec, Error, Model, check_checkpoint, read_manifest};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The words of CLIP's vocabulary, which small models have not.
const VOCABULARY: usize = 49_408;
const CONV_IN: &str = "model.diffusion_model.input_blocks.0.0.bias";

/// A copy of a small checkpoint with what stands beside it.
struct Checkpoint(TempDir);

impl Checkpoint {
    fn new(kind: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let from = repository().join("tests/parity/models").join(format!("single-{kind}"));
        for ending in ["safetensors", "toml"] {
            let to = folder.path().join("model").with_extension(ending);
            fs::copy(from.with_extension(ending), to).expect("it can be copied");
        }
        Self(folder)
    }

    /// With rows for every word of CLIP in the embeddings called `keys`.
    fn with_all_words(kind: &str, keys: &[&str]) -> Self {
        let checkpoint = Self::new(kind);
        let mut tensors = candle_core::safetensors::load(checkpoint.path(), &Device::Cpu).expect("it loads");
        for key in keys {
            let few = &tensors[*key];
            let (words, width) = few.dims2().expect("a matrix");
            let more = Tensor::zeros((VOCABULARY - words, width), DType::F16, &Device::Cpu).expect("zeros");
            let all = Tensor::cat(&[few, &more], 0).expect("they fit");
            tensors.insert((*key).to_owned(), all);
        }
        candle_core::safetensors::save(&tensors, checkpoint.path()).expect("it can be written");
        checkpoint
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("model.safetensors")
    }

    fn say(&self, more: &str) {
        let path = self.0.path().join("model.toml");
        let text = fs::read_to_string(&path).expect("it is there");
        fs::write(path, text + more).expect("it can be written");
    }

    fn edit(&self, change: impl FnOnce(&mut Value)) {
        edit_header(&self.path(), change);
    }

    #[track_caller]
    fn refuses(&self, parts: &[&str]) -> Error {
        let error = Model::load(&self.path(), &DeviceSpec::Cpu, Numerics::Strict, 1).err();
        let error = error.unwrap_or_else(|| panic!("a checkpoint without {parts:?} was loaded"));
        assert_holds(&error.to_string(), parts);
        error
    }
}

#[track_caller]
fn assert_holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "'{text}' lacks '{part}'");
    }
}

/// Changes the header of a weights file and leaves its data.
fn edit_header(path: &Path, change: impl FnOnce(&mut Value)) {
    let bytes = fs::read(path).expect("the file is there");
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let mut header = serde_json::from_slice(&bytes[8..end]).expect("the header is JSON");
    change(&mut header);
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    fs::write(path, [&length, header.as_bytes(), &bytes[end..]].concat()).expect("it can be written");
}

/// Gives one tensor another name.
fn rename(header: &mut Value, from: &str, to: &str) {
    let entry = header.as_object_mut().and_then(|tensors| tensors.remove(from));
    header[to] = entry.expect("the tensor was there");
}

/// An empty tensor at the end of the data.
fn add_empty(header: &mut Value, name: &str) {
    let tensors = header.as_object().into_iter().flat_map(|tensors| tensors.values());
    let end = tensors.filter_map(|tensor| tensor["data_offsets"][1].as_u64()).max();
    header[name] = json!({"dtype": "F16", "shape": [0], "data_offsets": [end, end]});
}

const SD1_WORDS: &str = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight";
const XL_WORDS: [&str; 2] = [
    "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight",
    "conditioner.embedders.1.model.token_embedding.weight",
];

#[test]
fn a_checkpoint_in_one_file_renders() {
    for (kind, words, family) in
        [("sd1", &[SD1_WORDS][..], "stable-diffusion"), ("sdxl", &XL_WORDS, "stable-diffusion-xl")]
    {
        let checkpoint = Checkpoint::with_all_words(kind, words);
        let model = Model::load(&checkpoint.path(), &DeviceSpec::Cpu, Numerics::Strict, 1).expect("it loads");
        let manifest = model.manifest();
        assert_eq!(
            (manifest.name.as_str(), manifest.family.as_str()),
            (format!("single-{kind}").as_str(), family)
        );
        assert_eq!(manifest.weights_bytes, fs::metadata(checkpoint.path()).expect("it is there").len());
        let mut recipe = sampled(recipe(manifest, Numerics::Strict, "a red apple", 1), Sampler::Ddim, 2);
        (recipe.template.width, recipe.template.height) = (64, 64);
        assert_eq!(traces(&model, &[recipe.clone()]), traces(&model, &[recipe]));
    }
}

#[test]
fn the_manifest_of_a_checkpoint_has_the_published_settings_and_the_digest_of_the_file() {
    let checkpoint = Checkpoint::new("sd2");
    let before = read_manifest(&checkpoint.path()).expect("it is whole");
    assert_eq!(before.components.keys().collect::<Vec<_>>(), ["checkpoint", "tokenizer"]);
    assert_eq!(before.licence.as_deref(), Some("CC0-1.0"));
    assert_eq!(before.noise_schedule.prediction, Prediction::VPrediction);
    // Latents of 96, and three sizes of the VAE.
    assert_eq!((before.defaults.width, before.size_multiple, before.inpainting), (384, 4, false));

    checkpoint.say("\n[config.scheduler]\nprediction_type = \"epsilon\"\n");
    let told = read_manifest(&checkpoint.path()).expect("it is whole");
    assert_eq!(told.noise_schedule.prediction, Prediction::Epsilon);
    assert_eq!(told.digest(), before.digest());

    checkpoint.say("[config.vae2]\n");
    checkpoint.refuses(&["model.toml", "config.vae2"]);

    let checkpoint = Checkpoint::new("sd2");
    checkpoint.say("scaling_factor = 0.5\n".replace("scaling", "\n[defaults]\nscaling").as_str());
    checkpoint.refuses(&["model.toml", "scaling_factor"]);
    let checkpoint = Checkpoint::new("sd2");
    let path = checkpoint.0.path().join("model.toml");
    let text =
        fs::read_to_string(&path).expect("it is there").replace("norm_num_groups = 4", "norm_num_groups = 2");
    fs::write(path, text).expect("it can be written");
    assert_ne!(read_manifest(&checkpoint.path()).expect("it is whole").digest(), before.digest());
}

#[test]
fn nine_channels_make_a_checkpoint_one_for_inpainting() {
    let checkpoint = Checkpoint::new("sd1");
    let mut tensors = candle_core::safetensors::load(checkpoint.path(), &Device::Cpu).expect("it loads");
    let nine = Tensor::zeros((4, 9, 3, 3), DType::F16, &Device::Cpu).expect("zeros");
    tensors.insert("model.diffusion_model.input_blocks.0.0.weight".to_owned(), nine);
    candle_core::safetensors::save(&tensors, checkpoint.path()).expect("it can be written");
    assert!(read_manifest(&checkpoint.path()).expect("it is whole").inpainting);
    assert!(!read_manifest(&Checkpoint::new("sd1").path()).expect("it is whole").inpainting);
}

#[test]
fn a_file_that_is_not_the_one_that_is_listed_beside_it_is_refused() {
    let checkpoint = Checkpoint::new("sd1");
    let path = checkpoint.0.path().join("model.toml");
    let text = fs::read_to_string(&path).expect("it is there");
    fs::write(&path, format!("{text}\n[files]\n\"model.safetensors\" = \"{}\"\n", "0".repeat(64)))
        .expect("written");
    checkpoint.refuses(&["model.safetensors", "SHA-256", "model.toml"]);
}

#[test]
fn tensors_that_no_part_or_layer_has_are_refused_by_name() {
    let cases = [
        ("surprise.weight", "no part"),
        ("model.diffusion_model.surprise.weight", "no layer"),
        ("model.diffusion_model.input_blocks.1.0.in_layers.1.weight", "no layer"),
        ("model.diffusion_model.input_blocks.99999999999999999999.0.op.weight", "no layer"),
        ("model.diffusion_model.output_blocks.0.3.conv.weight", "no layer"),
        ("model.diffusion_model.middle_block.3.in_layers.0.weight", "no layer"),
        ("first_stage_model.encoder.up.0.block.0.norm1.weight", "no layer"),
        ("first_stage_model.decoder.mid.block_3.norm1.weight", "no layer"),
    ];
    for (name, reason) in cases {
        let checkpoint = Checkpoint::with_all_words("sd1", &[SD1_WORDS]);
        checkpoint.edit(|header| add_empty(header, name));
        checkpoint.refuses(&["model.safetensors", name, reason]);
    }
}

#[test]
fn a_missing_and_a_misshapen_tensor_of_a_checkpoint_are_refused_by_name() {
    let checkpoint = Checkpoint::with_all_words("sd1", &[SD1_WORDS]);
    checkpoint.edit(|header| rename(header, CONV_IN, "model_ema.moved"));
    checkpoint.refuses(&["model.safetensors", "conv_in.bias", "is missing"]);
    let checkpoint = Checkpoint::with_all_words("sd1", &[SD1_WORDS]);
    checkpoint.edit(|header| header[CONV_IN]["shape"] = json!([2, 2]));
    checkpoint.refuses(&["model.safetensors", CONV_IN, "[2, 2]", "[4]"]);
}

#[test]
fn shapes_that_make_no_model_are_refused_by_key() {
    let cases = [
        ("model.diffusion_model.input_blocks.0.0.weight", json!([4, 0, 3, 3]), "in_channels"),
        ("model.diffusion_model.out.2.weight", json!([]), "out_channels"),
        ("first_stage_model.decoder.conv_in.weight", json!([0]), "latent_channels"),
        (SD1_WORDS, json!([0, 12]), "vocab_size"),
    ];
    for (key, shape, config) in cases {
        let checkpoint = Checkpoint::new("sd1");
        checkpoint.edit(|header| {
            rename(header, key, "model_ema.moved");
            add_empty(header, key);
            // An empty tensor may have any dimensions beside its zero; one without dimensions is a number.
            header[key]["shape"] = if shape == json!([]) { json!([0]) } else { shape.clone() };
        });
        checkpoint.refuses(&["model.safetensors", config]);
    }
}

#[test]
fn blocks_without_numbers_and_with_gaps_are_refused() {
    for (name, missing) in [
        (
            "model.diffusion_model.input_blocks.99.0.in_layers.0.weight",
            "model.diffusion_model.input_blocks.12.*",
        ),
        ("model.diffusion_model.output_blocks.13.0.x", "model.diffusion_model.output_blocks.12.*"),
        ("first_stage_model.decoder.up.9.block.0.norm1.weight", "first_stage_model.decoder.up.4.*"),
    ] {
        let checkpoint = Checkpoint::new("sd1");
        checkpoint.edit(|header| add_empty(header, name));
        checkpoint.refuses(&["model.safetensors", missing]);
    }
    let checkpoint = Checkpoint::new("sd1");
    checkpoint.edit(|header| {
        let tensors = header.as_object().cloned().unwrap_or_default();
        let renamed = |key: String| key.replace("input_blocks.", "input_blocks.x");
        *header = tensors.into_iter().map(|(key, entry)| (renamed(key), entry)).collect();
    });
    checkpoint.refuses(&["model.safetensors", "model.diffusion_model.input_blocks.0.*"]);
}

#[test]
fn other_files_are_refused_with_what_they_seem_to_be() {
    let cases = [
        ("lora_unet_down_blocks_0.lora_up.weight", "is a LoRA"),
        ("double_blocks.0.img_attn.norm.key_norm.scale", "is FLUX"),
        ("model.diffusion_model.joint_blocks.0.x", "Stable Diffusion 3"),
        ("control_model.time_embed.0.weight", "a ControlNet"),
        ("edm_mean", "Playground 2.5"),
    ];
    for (name, reason) in cases {
        let checkpoint = Checkpoint::new("sd1");
        checkpoint.edit(|header| add_empty(header, name));
        checkpoint.refuses(&["model.safetensors", reason, "1, 2 and XL"]);
    }
    let refiner = Checkpoint::new("sdxl");
    refiner.edit(|header| {
        let tensors = header.as_object().cloned().unwrap_or_default();
        let kept = tensors.into_iter().filter(|(key, _)| !key.contains("embedders.0."));
        let renamed = kept.map(|(key, entry)| (key.replace("embedders.1.", "embedders.0."), entry));
        *header = renamed.collect();
        // What was left out leaves no hole behind.
        let mut at = 0;
        let mut entries: Vec<&mut Value> =
            header.as_object_mut().into_iter().flat_map(|all| all.values_mut()).collect();
        entries.sort_by_key(|entry| entry["data_offsets"][0].as_u64());
        for entry in entries {
            let length = entry["data_offsets"][1].as_u64().unwrap_or(0)
                - entry["data_offsets"][0].as_u64().unwrap_or(0);
            entry["data_offsets"] = json!([at, at + length]);
            at += length;
        }
    });
    let bytes = fs::read(refiner.path()).expect("it is there");
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let text: Value = serde_json::from_slice(&bytes[8..8 + header]).expect("JSON");
    let data = text.as_object().into_iter().flat_map(|all| all.values());
    let data = data.filter_map(|entry| entry["data_offsets"][1].as_u64()).max().unwrap_or(0) as usize;
    fs::write(refiner.path(), &bytes[..8 + header + data]).expect("it can be written");
    refiner.refuses(&["model.safetensors", "the refiner"]);
}

#[test]
fn pickles_and_files_that_only_call_themselves_safetensors_are_refused_with_the_reason() {
    let folder = TempDir::new().expect("a temporary folder");
    let at = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("it can be written");
        path
    };
    let zip = [b"PK\x03\x04".as_slice(), &[0; 64]].concat();
    let old = [b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46".as_slice(), &[0; 64]].concat();
    for path in
        [at("model.ckpt", b""), at("model.PT", b""), at("zip.safetensors", &zip), at("old.safetensors", &old)]
    {
        let error = read_manifest(&path).expect_err("it is refused");
        assert!(matches!(error, Error::Pickle { .. }), "{error}");
        assert!(matches!(check_checkpoint(&path), Err(Error::Pickle { .. })));
    }
    let error = read_manifest(&at("model.gguf", b"GGUF")).expect_err("it is refused").to_string();
    assert_holds(&error, &["model.gguf", "not .safetensors"]);
    let error = read_manifest(&at("page.safetensors", b"<!DOCTYPE html><html>")).expect_err("it is refused");
    assert_holds(&error.to_string(), &["page.safetensors", "header"]);
    let error = read_manifest(&at("empty.safetensors", b"\x02\0\0\0\0\0\0\0{}")).expect_err("it is refused");
    assert_holds(&error.to_string(), &["empty.safetensors", "model.diffusion_model."]);
}

/// A small model whose UNet lies in two files.
struct Sharded(TempDir);

const INDEX: &str = "unet/diffusion_pytorch_model.safetensors.index.json";

impl Sharded {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        copy_folder(&tiny("tiny-sd1"), folder.path());
        let whole = folder.path().join("unet/diffusion_pytorch_model.safetensors");
        let tensors = candle_core::safetensors::load(&whole, &Device::Cpu).expect("it loads");
        fs::remove_file(whole).expect("it was there");
        let mut shards: [HashMap<String, Tensor>; 2] = Default::default();
        let mut map = BTreeMap::new();
        for (place, (key, tensor)) in tensors.into_iter().collect::<BTreeMap<_, _>>().into_iter().enumerate()
        {
            map.insert(key.clone(), shard_name(place % 2));
            shards[place % 2].insert(key, tensor);
        }
        for (index, shard) in shards.iter().enumerate() {
            let path = folder.path().join("unet").join(shard_name(index));
            candle_core::safetensors::save(shard, path).expect("it can be written");
        }
        let sharded = Self(folder);
        sharded.write(&json!({"metadata": {"total_size": 1}, "weight_map": map}));
        sharded
    }

    fn index(&self) -> Value {
        serde_json::from_slice(&fs::read(self.0.path().join(INDEX)).expect("it is there")).expect("JSON")
    }

    fn write(&self, index: &Value) {
        fs::write(self.0.path().join(INDEX), index.to_string()).expect("it can be written");
    }

    #[track_caller]
    fn refuses(&self, parts: &[&str]) {
        let error = Model::load(self.0.path(), &DeviceSpec::Cpu, Numerics::Strict, 1).err();
        assert_holds(&error.expect("it is refused").to_string(), parts);
    }
}

fn shard_name(index: usize) -> String {
    format!("diffusion_pytorch_model-0000{}-of-00002.safetensors", index + 1)
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("a folder can be read") {
        let entry = entry.expect("an entry can be read");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("it can be copied");
        }
    }
}

#[test]
fn weights_in_several_files_are_the_same_model() {
    let sharded = Sharded::new();
    let render = |folder: &Path| {
        let model = Model::load(folder, &DeviceSpec::Cpu, Numerics::Strict, 1).expect("it loads");
        let recipe = sampled(recipe(model.manifest(), Numerics::Strict, "a red apple", 1), Sampler::Ddim, 2);
        (traces(&model, &[recipe]), model.manifest().clone())
    };
    let (traces, manifest) = render(sharded.0.path());
    let (whole_traces, whole) = render(&tiny("tiny-sd1"));
    assert_eq!(traces, whole_traces);
    assert_ne!(manifest.components["unet"], whole.components["unet"]);
    // The index is counted with its files, which have headers of their own.
    assert!(manifest.weights_bytes > whole.weights_bytes);
}

#[test]
fn an_index_that_leaves_its_folder_is_refused_by_key() {
    let outside = ["../unet.safetensors", "/etc/passwd.safetensors", "a/b.safetensors", "model.bin", "", "."];
    for name in outside {
        let sharded = Sharded::new();
        let mut index = sharded.index();
        index["weight_map"][KEY] = json!(name);
        sharded.write(&index);
        sharded.refuses(&["index.json", KEY, "beside the index"]);
    }
}

const KEY: &str = "conv_in.bias";

#[test]
fn an_index_that_does_not_fit_its_files_is_refused_by_key() {
    let sharded = Sharded::new();
    let mut index = sharded.index();
    let other = if index["weight_map"][KEY] == shard_name(0) { shard_name(1) } else { shard_name(0) };
    index["weight_map"][KEY] = json!(other);
    sharded.write(&index);
    sharded.refuses(&["index.json", KEY, &other]);

    let sharded = Sharded::new();
    let mut index = sharded.index();
    index["weight_map"].as_object_mut().map(|map| map.remove(KEY));
    sharded.write(&index);
    sharded.refuses(&[KEY, "not listed"]);

    let sharded = Sharded::new();
    fs::remove_file(sharded.0.path().join("unet").join(shard_name(1))).expect("it was there");
    sharded.refuses(&[&shard_name(1), "missing"]);

    for (index, reason) in [
        (json!({"weight_map": {}}), "names 0 files"),
        (json!({"weight_map": 3}), "not an index"),
        (json!({}), "not an index"),
        (
            json!({"weight_map": (0..300).map(|i| (format!("k{i}"), format!("{i}.safetensors"))).collect::<BTreeMap<_, _>>()}),
            "names 300 files",
        ),
    ] {
        let sharded = Sharded::new();
        sharded.write(&index);
        sharded.refuses(&["index.json", reason]);
    }
}

#[cfg(unix)]
#[test]
fn links_in_a_circle_and_things_that_are_no_files_are_refused() {
    let sharded = Sharded::new();
    let shard = sharded.0.path().join("unet").join(shard_name(0));
    fs::remove_file(&shard).expect("it was there");
    std::os::unix::fs::symlink(&shard, &shard).expect("a link can be made");
    sharded.refuses(&[&shard_name(0)]);
    fs::remove_file(&shard).expect("it was there");
    fs::create_dir(&shard).expect("a folder can be made");
    sharded.refuses(&[&shard_name(0)]);
}
