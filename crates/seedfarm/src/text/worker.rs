//! Workers as people read them.

use seedfarm_proto::v1;

use crate::human;
use crate::table::Table;

/// Many workers, a row each.
pub fn table(workers: &[v1::Worker]) -> String {
    let mut table =
        Table::new(["WORKER", "STATE", "LEASES", "IMAGES", "SEEN", "REFUSED", "VERSION", "DEVICES", "NAME"]);
    for worker in workers {
        let state = match (worker.connected, worker.draining) {
            (true, true) => "draining",
            (true, false) => "connected",
            (false, _) => "away",
        };
        let devices: Vec<String> = worker.devices.iter().map(device).collect();
        table.row([
            worker.id.clone(),
            state.to_owned(),
            worker.devices.iter().map(|device| device.leases).sum::<u32>().to_string(),
            worker.images.to_string(),
            human::ago(worker.last_seen_ms),
            worker.refusals.iter().map(|refusal| refusal.count).sum::<u64>().to_string(),
            worker.version.clone(),
            devices.join(", "),
            worker.name.clone(),
        ]);
    }
    table.render()
}

/// A device's name, and why it rests if it does.
fn device(device: &v1::WorkerDevice) -> String {
    match &device.resting {
        Some(reason) => format!("{} (resting: {reason})", device.name),
        None => device.name.clone(),
    }
}
