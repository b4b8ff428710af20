//! The gRPC services. A handler turns the wire's types into core's, asks or tells the store and the
//! board, and turns the answer back; one verb a file where it is longer than a few lines.

mod chunks;
pub(crate) mod farm;
pub(crate) mod jobs;
pub(crate) mod models;
pub(crate) mod packages;
pub(crate) mod replays;
mod tenants;
pub(crate) mod workers;

use std::fmt::Display;
use std::str::FromStr;

use seedfarm_proto::error;
use serde::de::DeserializeOwned;
use tonic::Status;

/// Most bytes of an id, a digest or a model's name: longer ones are not repeated in a refusal.
const MAX_SHORT_BYTES: usize = 200;

/// Most bytes of a manifest or a fingerprint.
const MAX_JSON_BYTES: usize = 64 << 10;

/// Reads an id or a digest.
pub(crate) fn read<T: FromStr<Err: Display>>(text: &str) -> Result<T, Status> {
    check_short("an id or a digest", text)?;
    text.parse().map_err(error::malformed)
}

/// Holds a short text against its limit, and for NUL, which PostgreSQL cannot store.
pub(crate) fn check_short(what: &str, text: &str) -> Result<(), Status> {
    if text.len() > MAX_SHORT_BYTES || text.contains('\0') {
        let given = text.len();
        let message = format!("{what} has {given} bytes or holds NUL; at most {MAX_SHORT_BYTES} are allowed");
        return Err(error::malformed(message));
    }
    Ok(())
}

/// Reads a JSON document of at most 64 KiB; the error says in words what is wrong with `what`.
pub(crate) fn read_json<T: DeserializeOwned>(what: &str, json: &str) -> Result<T, String> {
    read_json_within(MAX_JSON_BYTES, what, json)
}

/// Reads a JSON document of at most `most` bytes; the error says in words what is wrong with `what`.
pub(crate) fn read_json_within<T: DeserializeOwned>(
    most: usize,
    what: &str,
    json: &str,
) -> Result<T, String> {
    if json.len() > most {
        return Err(format!("{what} has {} bytes, more than the limit of {most}", json.len()));
    }
    if json.contains("\\u0000") || json.contains('\0') {
        return Err(format!("{what} holds a NUL character"));
    }
    serde_json::from_str(json)
        .map_err(|fault| format!("{what} cannot be read: {}", short(&fault.to_string())))
}

/// The beginning of a text that repeats what a stranger wrote.
fn short(text: &str) -> String {
    text.chars().take(MAX_SHORT_BYTES).collect()
}
