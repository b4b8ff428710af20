//! The owner's limits as people and programs read them.

use std::time::Duration;

use seedfarm_core::owner::{DeviceObservations, Observations, Reading, Sign};
use seedfarm_worker::owner::{LimitsFile, OwnerState};
use serde_json::{Value, json};

use crate::human;

/// What is shown of a worker's limits.
pub struct Limits {
    /// The file.
    pub file: LimitsFile,
    /// Why it cannot be read.
    pub error: Option<String>,
    /// What the running worker does; `None` where none runs.
    pub worker: Option<OwnerState>,
    /// What the file says; no limits where it cannot be read.
    pub limits: seedfarm_core::owner::Limits,
    /// What was measured now.
    pub seen: Observations,
    /// The same, for each device.
    pub devices: Vec<(String, DeviceObservations)>,
}

/// As JSON.
pub fn document(shown: &Limits) -> Value {
    let sign = |sign: &Sign| {
        json!({
            "source": sign.source,
            "last_sign_ms_ago": sign.since_ms.as_ref().ok().copied().flatten(),
            "error": sign.since_ms.as_ref().err(),
        })
    };
    let device = |(name, here): &(String, DeviceObservations)| {
        json!({
            "device": name,
            "temperature_c": here.temperature_c.as_ref().ok(),
            "watts": here.watts.as_ref().ok(),
            "signs": here.signs.iter().map(sign).collect::<Vec<_>>(),
        })
    };
    json!({
        "path": shown.file.path().display().to_string(),
        "exists": shown.file.exists(),
        "error": shown.error,
        "worker": shown.worker,
        "paused": shown.seen.paused,
        "signs": shown.seen.signs.iter().map(sign).collect::<Vec<_>>(),
        "devices": shown.devices.iter().map(device).collect::<Vec<_>>(),
    })
}

/// For people.
pub fn text(shown: &Limits) -> String {
    let mut lines = vec![line("limits", &file(shown))];
    match &shown.worker {
        None => lines.push(line("worker", "not running")),
        Some(worker) => {
            lines.push(line("worker", &format!("running as process {}", worker.pid)));
            let fault = worker.fault.iter();
            lines.extend(fault.map(|fault| line("", &format!("keeps its old limits: {fault}"))));
            lines.extend(worker.devices.iter().map(|one| line(&one.device, &state(one))));
        }
    }
    lines.extend(shown.seen.signs.iter().map(watched));
    for (name, here) in &shown.devices {
        lines.extend(here.signs.iter().map(watched));
        lines.extend(measured(shown, name, here));
    }
    lines.join("\n")
}

fn line(subject: &str, words: &str) -> String {
    format!("{subject:<9} {words}")
}

fn file(shown: &Limits) -> String {
    let path = shown.file.path().display();
    match &shown.error {
        Some(error) => error.clone(),
        None if shown.file.exists() => format!("{path} is right"),
        None => format!("none: {path} is not there"),
    }
}

fn state(device: &seedfarm_worker::owner::DeviceState) -> String {
    let since = human::ago(i64::try_from(device.since_ms).unwrap_or(i64::MAX));
    match &device.resting {
        Some(reason) => format!("rests since {since}: {reason} ({})", device.name),
        None => format!("may work, since {since} ({})", device.name),
    }
}

fn watched(sign: &Sign) -> String {
    let words = match &sign.since_ms {
        Ok(Some(ms)) => format!("{}: last sign {} ago", sign.source, human::span(Duration::from_millis(*ms))),
        Ok(None) => format!("{}: no sign", sign.source),
        Err(why) => format!("{}: {why}", sign.source),
    };
    line("watched", &words)
}

fn measured(shown: &Limits, name: &str, here: &DeviceObservations) -> Option<String> {
    let heat = shown.limits.temperature.map(|cap| reading(&here.temperature_c, "°C", cap.max_c));
    let power = shown.limits.power.map(|cap| reading(&here.watts, "W", cap.max_watts));
    let words: Vec<String> = heat.into_iter().chain(power).collect();
    (!words.is_empty()).then(|| line("measured", &format!("{name}: {}", words.join("; "))))
}

fn reading(reading: &Reading<f64>, unit: &str, most: f64) -> String {
    match reading {
        Ok(value) => format!("{value:.0} {unit} of at most {most} {unit}"),
        Err(why) => why.clone(),
    }
}
