//! Patterns for names and digests.

use serde::Deserialize;

/// A name or digest in which `*` stands for any characters and `?` for one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Pattern(pub String);

impl Pattern {
    /// Whether the whole of `text` is what the pattern says. Takes time in the product of both lengths at
    /// most, whatever the pattern.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text): (Vec<char>, Vec<char>) = (self.0.chars().collect(), text.chars().collect());
        let (mut p, mut t) = (0, 0);
        // Where to go on after a mismatch: the last star, and how much it has swallowed.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some('*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some('?') => (p, t) = (p + 1, t + 1),
                Some(c) if *c == text[t] => (p, t) = (p + 1, t + 1),
                _ => {
                    let Some((at, swallowed)) = star else { return false };
                    star = Some((at, swallowed + 1));
                    (p, t) = (at + 1, swallowed + 1);
                }
            }
        }
        pattern[p..].iter().all(|c| *c == '*')
    }
}
