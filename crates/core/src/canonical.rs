//! The one canonical form of a JSON document: RFC 8785 (JSON Canonicalization Scheme).
//!
//! Digests are taken over these bytes, so two programs that agree on the values agree on the digest.

use serde::Serialize;

/// The canonical bytes of `value`.
///
/// # Panics
/// Never for the types of this crate: they hold no map with non-string keys, and their numbers are
/// checked to be finite before a document is built.
pub fn to_string<T: Serialize>(value: &T) -> String {
    serde_json_canonicalizer::to_string(value).expect("core's documents have string keys and finite numbers")
}
