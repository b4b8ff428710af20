//! Which recipes can be rendered together.

use seedfarm_core::Recipe;
use seedfarm_core::recipe::{Control, Extras};

use crate::{Error, Result};

/// Guidance of 1 leaves the negative prompt's half of the work out.
pub(super) fn is_guided(recipe: &Recipe) -> bool {
    recipe.template.guidance > 1.0
}

/// What keeps two recipes from sharing a batch, if anything does.
fn difference(a: &Recipe, b: &Recipe) -> Option<&'static str> {
    let (x, y) = (&a.template, &b.template);
    let (p, q) = (&x.extras, &y.extras);
    let acting =
        |control: &Control| (control.model, control.scale.to_bits(), control.first_step, control.end_step);
    [
        ("model", x.model != y.model),
        ("size", (x.width, x.height) != (y.width, y.height)),
        ("sampler", x.sampler != y.sampler),
        ("noise_schedule", x.noise_schedule != y.noise_schedule),
        ("timesteps", x.timesteps != y.timesteps),
        ("guidance on or off", is_guided(a) != is_guided(b)),
        ("numerics", x.numerics != y.numerics),
        ("sigmas", p.sigmas != q.sigmas),
        ("eta", p.eta != q.eta),
        ("loras", p.loras != q.loras),
        ("embeddings", p.embeddings != q.embeddings),
        ("controls", !p.controls.iter().map(acting).eq(q.controls.iter().map(acting))),
        ("the source's first step", first_step(p) != first_step(q)),
    ]
    .into_iter()
    .find_map(|(field, differs)| differs.then_some(field))
}

/// Where an image with a source picture starts; `None` where it has none.
fn first_step(extras: &Extras) -> Option<u32> {
    extras.source.as_ref().map(|source| source.first_step)
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
