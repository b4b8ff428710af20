//! Replays and their verdicts as people and scripts read them.

use seedfarm_proto::{json, v1};
use serde_json::Value;

use crate::exit::Exit;
use crate::table::facts;

/// The replay's JSON with the verdict at the top, where scripts look first; null until there is one.
pub fn document(replay: &v1::Replay) -> Value {
    let mut document = json::replay(replay);
    document["verdict"] = verdict(replay).into();
    document
}

/// The verdict's name, if there is a verdict.
pub fn verdict(replay: &v1::Replay) -> Option<&str> {
    replay.outcome.as_ref().map(|outcome| outcome.verdict.as_str())
}

/// Success for what proves the original, failure for what does not.
pub fn exit(replay: &v1::Replay) -> Exit {
    match verdict(replay) {
        Some("different" | "unverifiable") => Exit::Failed,
        _ => Exit::Done,
    }
}

/// The verdict and its measure in one line.
pub fn line(outcome: &v1::Outcome) -> String {
    let measure = match (outcome.psnr_db, outcome.max_channel, outcome.pixels) {
        (Some(db), Some(channel), Some(pixels)) => {
            format!(" ({db:.1} dB, {pixels} pixels differ, by {channel} of 255 at most)")
        }
        _ => String::new(),
    };
    let missing = outcome.missing.as_ref().map(|part| format!(" ({part})")).unwrap_or_default();
    format!("{}{measure}{missing}", outcome.verdict)
}

/// All that is known of a replay.
pub fn text(replay: &v1::Replay) -> String {
    let outcome = replay.outcome.as_ref();
    let verdict = outcome.map_or_else(|| "not yet: it is being rendered".to_owned(), line);
    let mut lines = vec![
        ("verdict", verdict),
        ("replay", replay.id.clone()),
        ("recipe", replay.recipe_digest.clone()),
        ("original", replay.expected_pixel_digest.clone()),
    ];
    let mut more = |name, value: Option<String>| lines.extend(value.map(|value| (name, value)));
    more("again", outcome.and_then(|outcome| outcome.replay_pixel_digest.clone()));
    more("image", replay.image_id.clone());
    more("made by", replay.original_worker_id.clone());
    more("again by", outcome.and_then(|outcome| outcome.replay_worker_id.clone()));
    facts(&lines)
}
