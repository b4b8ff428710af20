//! A LoRA that one of two workers has: its jobs go there, and its images prove themselves like any other.

#![expect(clippy::unwrap_used, reason = "a test panics when something is not as it should be")]

use std::path::Path;

use seedfarm_core::{AdapterDigest, Recipe};
use seedfarm_tests::{Farm, program};
use serde_json::{Value, json};

/// Layers of the built-in model's UNet that the LoRA changes, and their widths.
const LAYERS: [(&str, usize); 3] = [
    ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", 64),
    ("mid_block.attentions.0.transformer_blocks.0.attn2.to_q", 128),
    ("up_blocks.1.attentions.2.transformer_blocks.0.attn1.to_k", 64),
];
const RANK: usize = 4;

/// Writes a LoRA of arbitrary numbers in the names of kohya's trainer.
fn write_lora(path: &Path) -> AdapterDigest {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    let mut state = 1_u32;
    let mut number = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    for (layer, width) in LAYERS {
        let layer = layer.replace('.', "_");
        for (part, shape) in [("lora_down", [RANK, width]), ("lora_up", [width, RANK])] {
            let from = data.len();
            data.extend((0..shape[0] * shape[1]).flat_map(|_| number().to_le_bytes()));
            let tensor = json!({ "dtype": "F32", "shape": shape, "data_offsets": [from, data.len()] });
            header.insert(format!("lora_unet_{layer}.{part}.weight"), tensor);
        }
    }
    let header = Value::from(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend(data);
    std::fs::write(path, &file).unwrap();
    AdapterDigest::of_bytes(&file)
}

/// A farm of two workers, of which the second has the LoRA `felt`.
fn farm_with_a_lora() -> (Farm, AdapterDigest) {
    let mut farm = Farm::start(1);
    let folder = farm.dir().join("loras");
    std::fs::create_dir(&folder).unwrap();
    let digest = write_lora(&folder.join("felt.safetensors"));
    farm.add_worker(&[&folder, &program::models()]);
    (farm, digest)
}

fn submit(farm: &Farm, more: &[&str]) -> Value {
    let args = ["submit", "--prompt", "red apple", "--seed", "7", "--steps", "4", "--model", "emoji-starter"];
    program::run(farm.command().args(args).args(more).arg("--json"), b"").json()
}

#[test]
fn a_job_with_a_lora_is_rendered_by_the_worker_that_has_it_and_its_replay_is_exact() {
    let (mut farm, digest) = farm_with_a_lora();
    let listed = farm.json(["models"])["adapters"][0].clone();
    assert_eq!(
        (&listed["name"], &listed["kind"], &listed["workers"]),
        (&"felt".into(), &"lora".into(), &1.into())
    );
    assert_eq!(listed["digest"], digest.to_string().as_str());

    let submitted = submit(&farm, &["--lora", "felt:0.75", "--count", "3"]);
    assert_eq!(submitted["warnings"], json!([]));
    let job = submitted["job"]["id"].as_str().unwrap().to_owned();
    let end = farm.wait_final(&job);
    assert_eq!(end["done"], 3, "{}\n{}", farm.json(["job", &job]), farm.logs());
    let plain = submit(&farm, &["--count", "3"])["job"]["id"].as_str().unwrap().to_owned();
    farm.wait_final(&plain);
    let (with, without) = (farm.digests(&job), farm.digests(&plain));
    (0..3).for_each(|index| assert_ne!(with[&index], without[&index], "image {index}"));

    let images = farm.json(["fetch", &job, "--out", farm.dir().join("out").to_str().unwrap()]);
    let workers: std::collections::BTreeSet<&str> = images["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["worker_id"].as_str().unwrap())
        .collect();
    assert_eq!(workers.len(), 1, "{images}");

    let file = images["images"][1]["path"].as_str().unwrap().to_owned();
    let metadata = seedfarm_picture::read_metadata(&std::fs::read(&file).unwrap()).unwrap();
    let recipe: Recipe = metadata.recipe.unwrap().unwrap();
    assert_eq!(recipe.template.adapters(), [digest]);
    assert_eq!(recipe.template.extras.loras[0].weight, 0.75);
    for original in [format!("{job}/1"), file] {
        let replay = farm.json(["replay", &original]);
        assert_eq!(replay["outcome"]["verdict"], "exact", "{replay}");
    }

    farm.stop_worker(1);
    farm.wait("the worker with the LoRA has left", |status| status["workers"] == 1);
    let warnings = submit(&farm, &["--lora", "felt"])["warnings"].to_string();
    assert!(warnings.contains("adapters that it needs"), "{warnings}");
}

#[test]
fn a_lora_by_its_path_gives_the_same_pixels_without_a_farm() {
    let (farm, _) = farm_with_a_lora();
    let job = submit(&farm, &["--lora", "felt:0.75"])["job"]["id"].as_str().unwrap().to_owned();
    farm.wait_final(&job);
    let pixels = farm.digests(&job)[&0].clone();
    let lora = format!("{}:0.75", farm.dir().join("loras/felt.safetensors").display());
    let out = farm.dir().join("here.png");
    let args = ["render", "--prompt", "red apple", "--seed", "7", "--steps", "4", "--model", "emoji-starter"];
    let mut render = farm.command();
    render.args(args).args(["--lora", &lora, "--json", "--out"]).arg(&out);
    let rendered = program::run(&mut render, b"").json();
    assert_eq!(rendered["images"][0]["pixel_digest"], pixels.as_str());
}
