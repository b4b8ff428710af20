//! The README's one command, in an empty folder.

use seedfarm_tests::{look, program};

#[test]
fn the_demo_makes_pictures_that_look_like_their_prompts_and_proves_them() {
    let dir = program::folder();
    let demo = program::seedfarm(dir.path(), ["demo", "--json"]).json();
    let images = demo["images"].as_array().unwrap();
    assert!(images.len() >= 6, "{demo}");
    for image in images {
        let picture = look::picture(&dir.path().join(image["path"].as_str().unwrap()));
        assert_eq!(look::pixel_digest(&picture), image["pixel_digest"].as_str().unwrap());
    }
    let replays = demo["replays"].as_array().unwrap();
    assert_eq!(replays.len(), 3);
    assert!(replays.iter().all(|replay| replay["outcome"]["verdict"] == "exact"), "{demo}");
    look::picture(&dir.path().join(demo["contact_sheet"].as_str().unwrap()));

    let mut paths = images.iter().map(|image| dir.path().join(image["path"].as_str().unwrap()));
    let cat = paths.find(|path| look::recipe(path).template.prompt == "cat face on a blue background");
    let cat = look::picture(&cat.expect("the demo draws a cat"));
    for [red, green, blue] in look::corners(&cat, 6) {
        let is_blue = blue > 150.0 && blue > red + 60.0 && blue > green + 40.0;
        assert!(is_blue, "a corner is {red:.0} {green:.0} {blue:.0}");
    }
    let [red, green, blue] = look::mean_colour(&cat, 24, 28, 16);
    assert!(red > blue + 60.0 && red > green, "the middle is {red:.0} {green:.0} {blue:.0}, not a cat's fur");
}
