//! Encoders, tiles and tiny autoencoders against diffusers, and bit for bit against the specification;
//! `autoencoders.py` and `strict_autoencoders.py` in `tests/parity` wrote the references.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use seedfarm_core::Numerics;
use seedfarm_numerics::{Isa, philox};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Moments, Tiling, VaeDecoder, VaeEncoder};
use crate::DeviceSpec;
use crate::config::ConfigFile;
use crate::config::vae::VaeConfig;
use crate::ops::Ops;
use crate::taesd::{TaesdDecoder, TaesdEncoder};
use crate::weights::WeightsFile;

const LARGEST_RELATIVE_ERROR: f32 = 1e-4;

fn models() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/models")
}

fn ops(numerics: Numerics) -> Ops {
    Ops::new(numerics, DeviceSpec::Cpu.open(numerics).unwrap())
}

/// Noise of the seed that the references were made with.
fn noise(draw: u32, shape: &[usize]) -> Tensor {
    let mut values = vec![0.0; shape.iter().product()];
    philox::standard_normal(9, draw, &mut values);
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(x: &Tensor) -> Vec<u32> {
    values(x).into_iter().map(f32::to_bits).collect()
}

struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn load() -> Self {
        let path = models().join("../golden/autoencoders.safetensors");
        Self(candle_core::safetensors::load(path, &Device::Cpu).unwrap())
    }

    #[track_caller]
    fn check(&self, name: &str, ours: &[f32]) {
        let theirs = values(&self.0[name]);
        assert_eq!(ours.len(), theirs.len(), "{name}");
        let largest = theirs.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let apart = ours.iter().zip(&theirs).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(apart / largest < LARGEST_RELATIVE_ERROR, "{name}: {}", apart / largest);
    }
}

fn autoencoder(name: &str, ops: &Ops) -> (VaeEncoder, VaeDecoder) {
    let folder = models().join(name);
    let folder = if folder.join("vae").is_dir() { folder.join("vae") } else { folder };
    let config = VaeConfig::read(&ConfigFile::read(&folder.join("config.json")).unwrap()).unwrap();
    let file = || WeightsFile::open(&folder.join("diffusion_pytorch_model.safetensors")).unwrap();
    let encoder = VaeEncoder::load(&file(), ops, config.clone()).unwrap();
    (encoder, VaeDecoder::load(&file(), ops, config).unwrap())
}

#[test]
fn pictures_become_the_moments_of_diffusers_and_latents_its_pictures() {
    let golden = Golden::load();
    let cases = [("tiny-sd1", 4, [72, 56]), ("tiny-sd2", 4, [40, 64]), ("bare-vae", 3, [9, 14])];
    for ((name, latent, [height, width]), numerics) in
        cases.into_iter().flat_map(|case| Numerics::ALL.map(|numerics| (case, numerics)))
    {
        let (encoder, decoder) = autoencoder(name, &ops(numerics));
        let moments = encoder.encode(&noise(0, &[1, 3, height, width])).unwrap();
        golden.check(&format!("{name}/mean"), &moments.mean);
        golden.check(&format!("{name}/log_variance"), &moments.log_variance);
        let latents = noise(1, &[1, latent, 13, 9]).narrow(2, 0, 5).unwrap().narrow(3, 0, 7).unwrap();
        let decoded = decoder.decode(&latents.contiguous().unwrap()).unwrap();
        golden.check(&format!("{name}/decoded"), &values(&decoded));
    }
}

#[test]
fn a_picture_decoded_in_tiles_is_what_the_definition_says() {
    let golden = Golden::load();
    let tiling = Tiling::new(8, 2).unwrap();
    let latents = noise(1, &[1, 4, 13, 9]);
    for numerics in Numerics::ALL {
        let (_, decoder) = autoencoder("tiny-sd1", &ops(numerics));
        let ours = decoder.decode_tiled(&latents, tiling).unwrap();
        assert_eq!(ours.dims(), [1, 3, 104, 72]);
        golden.check("tiny-sd1/tiled", &values(&ours));
    }
}

#[test]
fn a_picture_that_fits_one_tile_is_decoded_at_once() {
    let (_, decoder) = autoencoder("tiny-sd1", &ops(Numerics::Strict));
    let latents = noise(1, &[1, 4, 8, 8]);
    let at_once = decoder.decode(&latents).unwrap();
    assert_eq!(bits(&decoder.decode_tiled(&latents, Tiling::new(8, 2).unwrap()).unwrap()), bits(&at_once));
}

#[test]
fn tiles_do_not_depend_on_threads() {
    let (_, decoder) = autoencoder("tiny-sd1", &ops(Numerics::Strict));
    let decode = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let tiling = Tiling::new(8, 2).unwrap();
        pool.install(|| bits(&decoder.decode_tiled(&noise(1, &[1, 4, 13, 9]), tiling).unwrap()))
    };
    let alone = decode(1);
    assert!([2, 3, 7].into_iter().all(|threads| decode(threads) == alone));
}

#[test]
fn latents_are_drawn_about_the_mean() {
    let moments = Moments { mean: vec![1.0, -2.0], log_variance: vec![0.0, -30.0] };
    let drawn = moments.sample(&[0.5, 4.0]);
    assert_eq!(drawn[0], 1.5);
    assert!((drawn[1] + 2.0).abs() < 1e-5);
}

#[test]
fn a_tiny_autoencoder_gives_what_diffusers_gives() {
    let (golden, folder) = (Golden::load(), models().join("tiny-taesd"));
    for numerics in Numerics::ALL {
        let ops = ops(numerics);
        let latents = (noise(1, &[1, 4, 5, 7]) * 3.0).unwrap();
        let decoded = TaesdDecoder::load(&folder, &ops).unwrap().decode(&latents).unwrap();
        golden.check("tiny-taesd/decoded", &values(&decoded));
        let encoded = TaesdEncoder::load(&folder, &ops).unwrap().encode(&noise(0, &[1, 3, 40, 56])).unwrap();
        golden.check("tiny-taesd/encoded", &values(&encoded));
    }
}

/// One half under the names of the program that TAESD was published with, in which the decoder's clamp counts
/// as a layer.
fn original(half: &str, offset: usize, prefix: &str, to: &std::path::Path) {
    let path = models().join("tiny-taesd/diffusion_pytorch_model.safetensors");
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let renamed: HashMap<String, Tensor> = tensors
        .into_iter()
        .filter_map(|(name, tensor)| {
            let (index, rest) = name.strip_prefix(&format!("{half}.layers."))?.split_once('.')?;
            Some((format!("{prefix}{}.{rest}", index.parse::<usize>().unwrap() + offset), tensor))
        })
        .collect();
    candle_core::safetensors::save(&renamed, to).unwrap();
}

#[test]
fn a_tiny_autoencoder_in_its_original_files_is_the_same() {
    let (ops, folder) = (ops(Numerics::Strict), models().join("tiny-taesd"));
    let (latents, pixels) = (noise(1, &[1, 4, 5, 7]), noise(0, &[1, 3, 40, 56]));
    let temporary = tempfile::TempDir::new().unwrap();
    let decoded = TaesdDecoder::load(&folder, &ops).unwrap().decode(&latents).unwrap();
    for prefix in ["", "decoder."] {
        let path = temporary.path().join("taesd_decoder.safetensors");
        original("decoder", 1, prefix, &path);
        let ours = TaesdDecoder::load(&path, &ops).unwrap().decode(&latents).unwrap();
        assert_eq!(bits(&ours), bits(&decoded));
    }
    let path = temporary.path().join("taesd_encoder.safetensors");
    original("encoder", 0, "", &path);
    let encoded = TaesdEncoder::load(&folder, &ops).unwrap().encode(&pixels).unwrap();
    assert_eq!(bits(&TaesdEncoder::load(&path, &ops).unwrap().encode(&pixels).unwrap()), bits(&encoded));
    // An encoder is no decoder, and says where it parts.
    let error = TaesdDecoder::load(&path, &ops).err().map_or_else(String::new, |error| error.to_string());
    assert!(error.contains("taesd_encoder.safetensors") && error.contains("tensor '"), "{error}");
}

/// SHA-256 of numbers as f32, lowest byte first.
fn digest(values: &[f32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn strict_results_have_the_bits_of_the_specification() {
    let path = models().join("../golden/strict_autoencoders.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let check = |name: &str, ours: &[f32]| assert_eq!(golden[name], digest(ours), "{name}");
    for isa in Isa::supported() {
        isa.scoped(|| check_bits(&check)).unwrap();
    }
}

fn check_bits(check: &dyn Fn(&str, &[f32])) {
    let ops = ops(Numerics::Strict);
    for (name, [height, width]) in [("tiny-sd1/vae", [72, 56]), ("bare-vae", [9, 14])] {
        let (encoder, _) = autoencoder(name, &ops);
        let moments = encoder.encode(&noise(0, &[1, 3, height, width])).unwrap();
        check(&format!("{name}/mean"), &moments.mean);
        check(&format!("{name}/log_variance"), &moments.log_variance);
        let unit = values(&noise(2, &[moments.mean.len()]));
        check(&format!("{name}/sample"), &moments.sample(&unit));
    }
    let (_, decoder) = autoencoder("tiny-sd1", &ops);
    let tiled = decoder.decode_tiled(&noise(1, &[1, 4, 13, 9]), Tiling::new(8, 2).unwrap()).unwrap();
    check("tiny-sd1/vae/tiled", &values(&tiled));
    let folder = models().join("tiny-taesd");
    let latents: Vec<f32> = values(&noise(1, &[1, 4, 5, 7])).iter().map(|value| value * 3.0).collect();
    let latents = Tensor::from_vec(latents, (1, 4, 5, 7), &Device::Cpu).unwrap();
    check(
        "tiny-taesd/decoded",
        &values(&TaesdDecoder::load(&folder, &ops).unwrap().decode(&latents).unwrap()),
    );
    let pixels = noise(0, &[1, 3, 40, 56]);
    check(
        "tiny-taesd/encoded",
        &values(&TaesdEncoder::load(&folder, &ops).unwrap().encode(&pixels).unwrap()),
    );
}

#[test]
fn a_picture_decoded_in_tiles_does_not_depend_on_its_neighbours() {
    let (_, decoder) = autoencoder("tiny-sd1", &ops(Numerics::Strict));
    let tiling = Tiling::new(8, 2).unwrap();
    let pair = noise(1, &[2, 4, 13, 9]);
    let both = values(&decoder.decode_tiled(&pair, tiling).unwrap());
    let alone = |index| {
        let one = pair.narrow(0, index, 1).unwrap().contiguous().unwrap();
        values(&decoder.decode_tiled(&one, tiling).unwrap())
    };
    assert_eq!(both, [alone(0), alone(1)].concat());
}
