//! The configurations of a model folder, read as the engine reads them before it loads anything.

#![no_main]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

/// The files that are thrown at the engine; the first byte of the input chooses one.
const FILES: [&str; 6] = [
    "unet/config.json",
    "vae/config.json",
    "scheduler/scheduler_config.json",
    "model_index.json",
    "manifest.toml",
    "text_encoder/config.json",
];

/// A folder with the configurations of a small model and empty weights.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("seedfarm-fuzz-config-{}", std::process::id()));
    copy(&model(), &folder);
    folder
});

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/models/tiny-sd1")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the folder can be made");
    for entry in std::fs::read_dir(from).expect("the model is there") {
        let path = entry.expect("an entry").path();
        let name = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &name);
        } else if path.extension().is_some_and(|ending| ending == "safetensors") {
            std::fs::write(&name, b"").expect("it can be written");
        } else {
            std::fs::copy(&path, &name).expect("it can be copied");
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, text)) = bytes.split_first() else { return };
    let name = FILES[usize::from(*first) % FILES.len()];
    let file = FOLDER.join(name);
    std::fs::write(&file, text).expect("it can be written");
    // What is refused must be refused with words, and what is taken must hold what it promises.
    match seedfarm_engine::read_manifest(&FOLDER) {
        Ok(manifest) => {
            assert!(manifest.size_multiple > 0 && manifest.max_side > 0);
            drop(manifest.noise_schedule.resolve(manifest.defaults.sampler, manifest.defaults.steps));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match std::fs::copy(model().join(name), &file) {
        Ok(_) => {}
        Err(_) => std::fs::remove_file(&file).expect("it was written"),
    }
});
