use super::*;
use crate::plan::{plan, tests as samples};

fn recipe() -> Recipe {
    let plan = plan(&samples::spec(&["a red apple, \"ripe\" \u{1f34e}"], 1), &samples::manifest()).unwrap();
    plan.recipe(0).unwrap()
}

// The digest below is Python's, over the same document written by an RFC 8785 writer of its own:
//   pip install rfc8785==0.1.4
//   python3 -c "import rfc8785,hashlib,json; print(hashlib.sha256(rfc8785.dumps(json.load(open(
//     'crates/core/src/recipe/golden_recipe.json')))).hexdigest())"
const GOLDEN_DIGEST: &str = "206ac44a7dbcc83dff21340c5896c0c64d180247eb261741022693b7d448c230";

#[test]
fn the_recipe_digest_is_the_one_that_pythons_rfc8785_gives() {
    let golden = Recipe::from_json(include_str!("golden_recipe.json")).unwrap();
    assert_eq!(golden, recipe());
    assert_eq!(golden.digest().to_string(), GOLDEN_DIGEST);
}

#[test]
fn a_recipe_survives_being_written_and_read() {
    let mut recipe = recipe();
    recipe.seed = u64::MAX;
    recipe.template.guidance = 7.300_000_000_000_001;
    let read = Recipe::from_json(&recipe.canonical()).unwrap();
    assert_eq!(read, recipe);
    assert_eq!(read.digest(), recipe.digest());
}

#[test]
fn an_unknown_field_is_refused_by_name() {
    let text = recipe().canonical().replacen('{', "{\"brightness\":2,", 1);
    let error = Recipe::from_json(&text).unwrap_err().to_string();
    assert!(error.contains("brightness"), "{error}");
}

#[test]
fn a_recipe_of_a_later_version_is_refused() {
    let text = recipe().canonical().replace("\"version\":1", "\"version\":2");
    assert!(Recipe::from_json(&text).unwrap_err().to_string().contains("version 2"));
}

#[test]
fn a_hostile_recipe_is_held_against_the_limits() {
    let text = recipe().canonical();
    for (from, to) in [
        ("\"width\":64", "\"width\":4294967295"),
        ("\"guidance\":3", "\"guidance\":1e300"),
        ("\"timesteps\":[951", "\"timesteps\":[1e9"),
        ("\"train_steps\":1000", "\"train_steps\":0"),
        ("\"seed\":\"42\"", "\"seed\":\"-1\""),
    ] {
        let spoilt = text.replacen(from, to, 1);
        assert_ne!(spoilt, text, "{from} is not in the recipe");
        assert!(Recipe::from_json(&spoilt).is_err(), "{to} was accepted");
    }
}

#[test]
fn everything_but_the_seed_moves_the_template_digest() {
    let recipe = recipe();
    let other_seed = Recipe { seed: 43, ..recipe.clone() };
    assert_eq!(other_seed.template.digest(), recipe.template.digest());
    assert_ne!(other_seed.digest(), recipe.digest());
    let other_width = RecipeTemplate { width: 128, ..recipe.template.clone() };
    assert_ne!(other_width.digest(), recipe.template.digest());
}
