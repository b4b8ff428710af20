//! The digests of many recipes that differ in their seeds alone, without writing each as JSON.

use sha2::{Digest, Sha256};

use super::RecipeTemplate;
use crate::digest::RecipeDigest;

/// Two seeds of as many digits that differ in every digit.
const ONES: u64 = 1_111_111_111_111_111_111;
const TWOS: u64 = 2_222_222_222_222_222_222;

/// Digests recipes of one template.
///
/// In canonical JSON a recipe's seed stands at one place, as a string of digits; all before and after it is the
/// template's. What stands before is digested once.
#[derive(Debug, Clone)]
pub struct RecipeDigester {
    before: Sha256,
    after: String,
}

impl RecipeDigester {
    /// A digester of `template`.
    pub fn new(template: &RecipeTemplate) -> Self {
        let ones = template.clone().with_seed(ONES).canonical();
        let twos = template.clone().with_seed(TWOS).canonical();
        // Only the seed differs, and it differs from its first digit to its last.
        let same = |(a, b): &(u8, u8)| a == b;
        let start = ones.bytes().zip(twos.bytes()).take_while(same).count();
        let rest = ones.bytes().rev().zip(twos.bytes().rev()).take_while(same).count();
        Self {
            before: Sha256::new().chain_update(&ones[..start]),
            after: ones[ones.len() - rest..].to_owned(),
        }
    }

    /// The digest of the recipe with this seed.
    pub fn digest(&self, seed: u64) -> RecipeDigest {
        let digest = self.before.clone().chain_update(seed.to_string()).chain_update(&self.after).finalize();
        RecipeDigest::from_bytes(digest.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::plan;
    use crate::plan::tests::{manifest, spec};

    fn template(prompt: &str) -> RecipeTemplate {
        plan(&spec(&[prompt], 1), &manifest()).unwrap().lines.remove(0).template
    }

    proptest! {
        #[test]
        fn a_digest_is_that_of_the_whole_recipe(seed: u64, prompt in "[a-z0-9\"\\\\ ]{1,40}") {
            let template = template(&format!("x{prompt}"));
            let digester = RecipeDigester::new(&template);
            for seed in [seed, 0, 9, ONES, TWOS, u64::MAX] {
                prop_assert_eq!(digester.digest(seed), template.clone().with_seed(seed).digest());
            }
        }
    }

    #[test]
    fn a_prompt_and_a_variation_that_look_like_seeds_do_not_confuse_it() {
        let mut template = template(&format!("\"seed\":\"{ONES}\" or {TWOS}"));
        template.extras.variation = Some(crate::recipe::Variation { seed: ONES, strength: 0.5 });
        let digester = RecipeDigester::new(&template);
        assert_eq!(digester.digest(7), template.with_seed(7).digest());
    }
}
