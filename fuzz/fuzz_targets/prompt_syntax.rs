//! The weighted prompt syntax: every text is read or refused, and weights are finite.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// What the engine's module needs of its crate.
#[derive(Debug)]
pub enum Error {
    /// A prompt that is refused, and why.
    Recipe(String),
}

/// The engine's result.
pub type Result<T> = std::result::Result<T, Error>;

#[path = "../../crates/engine/src/prompt/syntax.rs"]
mod syntax;

fuzz_target!(|prompt: &str| {
    if let Ok(parsed) = syntax::parse(prompt) {
        for piece in parsed.pieces {
            if let syntax::Piece::Text { weight, .. } = piece {
                assert!(weight.is_finite());
            }
        }
    }
});
