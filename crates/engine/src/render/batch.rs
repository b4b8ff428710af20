//! Which recipes can be rendered together.

use seedfarm_core::Recipe;

use crate::{Error, Result};

/// Guidance of 1 leaves the negative prompt's half of the work out.
pub(super) fn is_guided(recipe: &Recipe) -> bool {
    recipe.template.guidance > 1.0
}

/// What keeps two recipes from sharing a batch, if anything does.
fn difference(a: &Recipe, b: &Recipe) -> Option<&'static str> {
    let (x, y) = (&a.template, &b.template);
    [
        ("model", x.model != y.model),
        ("prompt_syntax", x.prompt_syntax != y.prompt_syntax),
        ("size", (x.width, x.height) != (y.width, y.height)),
        ("sampler", x.sampler != y.sampler),
        ("noise_schedule", x.noise_schedule != y.noise_schedule),
        ("timesteps", x.timesteps != y.timesteps),
        ("guidance on or off", is_guided(a) != is_guided(b)),
        ("noise", x.noise != y.noise),
        ("numerics", x.numerics != y.numerics),
    ]
    .into_iter()
    .find_map(|(field, differs)| differs.then_some(field))
}

/// Refuses recipes that cannot share a batch.
pub(crate) fn check_batch(recipes: &[Recipe]) -> Result<()> {
    let Some(first) = recipes.first() else { return Ok(()) };
    for (index, recipe) in recipes.iter().enumerate().skip(1) {
        if let Some(field) = difference(first, recipe) {
            return Err(Error::MixedBatch { field, index });
        }
    }
    Ok(())
}

/// Sorts recipes into batches that [`crate::Model::render`] takes, of at most `largest` each.
///
/// Gives positions in `recipes`, in order within each batch; every position comes once.
pub fn group(recipes: &[Recipe], largest: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, recipe) in recipes.iter().enumerate() {
        let fits = |group: &&mut Vec<usize>| {
            group.len() < largest.max(1) && difference(&recipes[group[0]], recipe).is_none()
        };
        match groups.iter_mut().rev().find(fits) {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}
