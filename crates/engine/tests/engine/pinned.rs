//! Strict pixels, pinned: a change here is a change of every recipe's pixels. It raises the engine's
//! revision and is listed under Pixels in CHANGELOG.md, or it is a fault.

use seedfarm_core::{Numerics, Sampler};
use seedfarm_engine::{DeviceSpec, ENGINE_REVISION, Model, Unobserved};
use seedfarm_numerics::Isa;

use crate::support::{emoji_starter, recipe, sampled};

/// Made by this test on x86-64 with AVX-512. The pictures themselves are held against diffusers in
/// `parity`; these digests, which are our own, only say that the kernels of one processor agree and that nothing
/// moved since.
const PINNED: [(Sampler, f64, &str); 3] = [
    (Sampler::Ddim, 3.0, "9571ab88143dd331142acee99ff8eb6af4154c779cca63052f6706e3c1cd9bbb"),
    (Sampler::Euler, 1.0, "f1b515b6ff437674547b67dcc9b2cebd4c6cb94bdf60e71e202d1eccaa0b66b6"),
    (Sampler::EulerAncestral, 3.0, "c21d74f29251d518a4b5ccf8bacb99f1db6c192f27b0392e0def9eff1c03eec9"),
];

#[test]
fn strict_pixels_are_the_same_bits_on_every_instruction_set_and_for_ever() {
    assert_eq!(ENGINE_REVISION, 1, "a new revision pins new digests");
    let model =
        Model::load(&emoji_starter(), &DeviceSpec::Cpu, Numerics::Strict, 2).expect("the model loads");
    for (sampler, guidance, pinned) in PINNED {
        let recipe = recipe(model.manifest(), Numerics::Strict, "cat face on a blue background", u64::MAX);
        let mut recipe = sampled(recipe, sampler, 2);
        recipe.template.guidance = guidance;
        for isa in Isa::supported() {
            // The whole process changes over; the other tests beside this one must not notice.
            Isa::force(Some(isa)).expect("this processor has it");
            let images = model.render(std::slice::from_ref(&recipe), &mut Unobserved).expect("it renders");
            Isa::force(None).expect("the best is there");
            assert_eq!(images[0].pixel_digest().to_string(), pinned, "{sampler:?} on {isa}");
        }
    }
}
