//! ControlNets that are broken, mean harm or belong to another model; what they add is in
//! `network_tests`.

use std::fs;
use std::path::{Path, PathBuf};

use seedfarm_core::Numerics;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::DeviceSpec;
use crate::source::{ModelSource, Part};

const FILES: [&str; 2] = ["config.json", "diffusion_pytorch_model.safetensors"];

fn models(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/models").join(name)
}

fn load(folder: &Path) -> Result<ControlNet> {
    ControlNet::load(folder, &Ops::new(Numerics::Fast, DeviceSpec::Cpu.open(Numerics::Fast)?))
}

/// A copy of a small ControlNet, with one key of its configuration changed.
fn with_key(key: &str, value: Value) -> TempDir {
    let copy = TempDir::new().unwrap();
    for file in FILES {
        fs::copy(models("tiny-control").join(file), copy.path().join(file)).unwrap();
    }
    let config = copy.path().join(FILES[0]);
    let mut values: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    values[key] = value;
    fs::write(config, values.to_string()).unwrap();
    copy
}

fn refuses(folder: &Path, parts: &[&str]) {
    let error = load(folder).err().expect("it is refused").to_string();
    for part in parts {
        assert!(error.contains(part), "'{error}' lacks '{part}'");
    }
}

#[test]
fn configurations_beyond_what_is_computed_are_refused_by_key() {
    for (key, value) in [
        ("_class_name", json!("ControlNetUnionModel")),
        ("conditioning_channels", json!(4)),
        ("global_pool_conditions", json!(true)),
        ("controlnet_conditioning_channel_order", json!("gbr")),
        ("conditioning_embedding_out_channels", json!([])),
        ("conditioning_embedding_out_channels", json!([4, 1_000_000_000_000u64])),
        ("conditioning_embedding_out_channels", json!([4, 4, 4, 4, 4, 4, 4, 4, 4])),
        ("mid_block_type", json!(null)),
        ("down_block_types", json!(["AttnDownBlock2D", "DownBlock2D"])),
        ("block_out_channels", json!([8, 13])),
        ("layers_per_block", json!(1e9)),
        ("transformer_layers_per_block", json!([1, 65])),
        ("class_embed_type", json!("projection")),
        ("encoder_hid_dim", json!(10)),
        ("addition_embed_type", json!("text")),
    ] {
        refuses(with_key(key, value).path(), &["config.json", key]);
    }
}

#[test]
fn weights_that_do_not_fit_their_configuration_are_refused_by_tensor() {
    let weights = FILES[1];
    for (key, value, parts) in [
        ("layers_per_block", json!(2), ["down_blocks.0.resnets.1", "is missing"]),
        ("conditioning_embedding_out_channels", json!([4, 6, 6, 9]), ["embedding.blocks.5", "[9, 6, 3, 3]"]),
        ("conditioning_embedding_out_channels", json!([4, 6, 8]), ["embedding.blocks.3", "[8, 6, 3, 3]"]),
        ("cross_attention_dim", json!(8192), ["attn2.to_k", "[8, 8192]"]),
        ("mid_block_type", json!("UNetMidBlock2D"), ["mid_block.attentions.0", "belongs to no layer"]),
    ] {
        refuses(with_key(key, value).path(), &[weights, parts[0], parts[1]]);
    }
}

#[test]
fn a_missing_part_and_a_pickle_are_refused_by_file() {
    let whole = || with_key("act_fn", json!("silu"));
    assert!(load(whole().path()).is_ok());
    for file in FILES {
        let folder = whole();
        fs::remove_file(folder.path().join(file)).unwrap();
        refuses(folder.path(), &[file, "is missing"]);
    }
    let folder = whole();
    let pickle = folder.path().join("diffusion_pytorch_model.bin");
    fs::rename(folder.path().join(FILES[1]), &pickle).unwrap();
    assert!(matches!(load(folder.path()), Err(Error::Pickle { path }) if path == pickle));
}

#[test]
fn a_controlnet_of_another_model_is_refused_by_key() {
    let base = |name: &str| {
        let source = ModelSource::open(&models(name)).unwrap();
        UnetConfig::read(&source.config(Part::Unet).unwrap()).unwrap()
    };
    let control = load(&models("tiny-control")).unwrap();
    let refuses = |unet: &UnetConfig, pixels: usize, parts: [&str; 2]| {
        let error = control.check_fit(unet, pixels).expect_err("it does not fit").to_string();
        assert!(error.contains("tiny-control/config.json"), "{error}");
        assert!(parts.iter().all(|part| error.contains(part)), "'{error}' lacks one of {parts:?}");
    };
    let own = base("tiny-inpaint");
    assert!(control.check_fit(&own, 8).is_ok());
    refuses(&base("tiny-sdxl"), 8, ["block_out_channels", "[8, 12, 16]"]);
    refuses(&own, 16, ["conditioning_embedding_out_channels", "16"]);
    let mut wide = own.clone();
    wide.trunk.text_width = 11;
    refuses(&wide, 8, ["cross_attention_dim", "11"]);
    let mut deep = own.clone();
    deep.trunk.down[0].layers = 2;
    refuses(&deep, 8, ["layers_per_block", "[2, 1]"]);
    let mut other = own;
    other.out_channels = 16;
    refuses(&other, 8, ["in_channels", "16"]);
}
