//! The built-in model draws what it is asked for.

use crate::support::{emoji_starter, recipe};
use seedfarm_core::Numerics;
use seedfarm_engine::{DeviceSpec, Model, Pictures, Rendered, Unobserved};

/// The mean colour of a corner of 8 x 8 pixels.
fn corner(image: &Rendered, right: bool, bottom: bool) -> [f64; 3] {
    let (width, height) = (image.width as usize, image.height as usize);
    let (left, top) = (if right { width - 8 } else { 0 }, if bottom { height - 8 } else { 0 });
    let mut sums = [0.0; 3];
    for (y, x) in (top..top + 8).flat_map(|y| (left..left + 8).map(move |x| (y, x))) {
        for (channel, sum) in sums.iter_mut().enumerate() {
            *sum += f64::from(image.rgb[(y * width + x) * 3 + channel]) / 64.0;
        }
    }
    sums
}

fn is_near(colour: [f64; 3], named: [f64; 3]) -> bool {
    colour.iter().zip(named).all(|(is, should)| (is - should).abs() < 40.0)
}

fn save(image: &Rendered, name: &str) {
    let Some(folder) = std::env::var_os("SEEDFARM_TEST_PICTURES") else { return };
    let path = std::path::Path::new(&folder).join(name);
    let file = std::fs::File::create(path).expect("the folder for pictures can be written");
    let mut encoder = png::Encoder::new(file, image.width, image.height);
    encoder.set_color(png::ColorType::Rgb);
    let written = encoder.write_header().and_then(|mut png| png.write_image_data(&image.rgb));
    written.expect("the picture fits its header");
}

// The colours are those on which the model was trained.
#[test]
fn a_cat_face_on_a_blue_background_has_blue_corners_and_a_face_in_the_middle() {
    for numerics in Numerics::ALL {
        let model = Model::load(&emoji_starter(), &DeviceSpec::Cpu, numerics, 0).unwrap();
        let recipes = [
            recipe(model.manifest(), numerics, "cat face on a blue background", 7),
            recipe(model.manifest(), numerics, "red apple on a yellow background", 7),
        ];
        let images = model.render(&recipes, &Pictures::default(), &mut Unobserved).unwrap();
        save(&images[0], &format!("cat-{}.png", numerics.as_str()));
        save(&images[1], &format!("apple-{}.png", numerics.as_str()));
        for (image, background) in images.iter().zip([[52.0, 120.0, 220.0], [250.0, 210.0, 70.0]]) {
            for (right, bottom) in [(false, false), (true, false), (false, true), (true, true)] {
                let colour = corner(image, right, bottom);
                assert!(is_near(colour, background), "{numerics:?} {colour:?} is not {background:?}");
            }
            let middle = (image.width as usize / 2) * 3 * (image.width as usize + 1);
            let middle = [0, 1, 2].map(|channel| f64::from(image.rgb[middle + channel]));
            assert!(!is_near(middle, background), "{numerics:?} {middle:?} is background");
        }
    }
}
