//! Images can be seen while they are made.

use seedfarm_tests::{Farm, look};

#[test]
fn a_watcher_who_asks_sees_images_in_the_making() {
    let farm = Farm::start(1);
    let prompt = "pizza on a green background";
    let args = ["submit", "--prompt", prompt, "--model", "emoji-starter", "--count", "6", "--steps", "30"];
    let job = farm.json(args)["job"]["id"].as_str().unwrap().to_owned();
    let folder = farm.dir().join("previews");
    let watched = farm.json(["watch", &job, "--previews", folder.to_str().unwrap()]);
    assert_eq!(watched["job"]["state"], "finished", "{watched}");
    let kept: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!kept.is_empty(), "no preview came\n{}", farm.logs());
    for path in kept {
        let preview = look::picture(&path);
        assert!(preview.width() <= 64 && preview.height() <= 64);
    }
}
