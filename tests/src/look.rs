//! Looking at pictures: what a person would see, in numbers.

use std::path::Path;

use seedfarm_core::Recipe;
use seedfarm_picture::Picture;

/// Reads a PNG.
///
/// # Panics
/// If it is none.
pub fn picture(path: &Path) -> Picture {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    seedfarm_picture::decode(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The recipe that a picture's file carries.
///
/// # Panics
/// If it carries none.
pub fn recipe(path: &Path) -> Recipe {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let metadata = seedfarm_picture::read_metadata(&bytes).expect("a picture of ours can be read");
    metadata.recipe.expect("it carries a recipe").expect("of this version")
}

/// The digest of a picture's pixels.
pub fn pixel_digest(picture: &Picture) -> String {
    picture.digest().to_string()
}

/// The mean colour of the square of `side` pixels at (`left`, `top`), red, green, blue, 0 to 255.
pub fn mean_colour(picture: &Picture, left: u32, top: u32, side: u32) -> [f64; 3] {
    let mut sums = [0.0; 3];
    for y in top..top + side {
        for x in left..left + side {
            let at = 3 * (y * picture.width() + x) as usize;
            for (sum, &value) in sums.iter_mut().zip(&picture.rgb()[at..at + 3]) {
                *sum += f64::from(value);
            }
        }
    }
    sums.map(|sum| sum / f64::from(side * side))
}

/// The mean colours of the four corners, each a square of `side` pixels.
pub fn corners(picture: &Picture, side: u32) -> [[f64; 3]; 4] {
    let (right, bottom) = (picture.width() - side, picture.height() - side);
    [(0, 0), (right, 0), (0, bottom), (right, bottom)].map(|(x, y)| mean_colour(picture, x, y, side))
}
