//! Workers as people read them.

use seedfarm_proto::v1;

use crate::human;
use crate::table::Table;

/// Many workers, a row each.
pub fn table(workers: &[v1::Worker]) -> String {
    let mut table = Table::new(["WORKER", "STATE", "LEASES", "IMAGES", "SEEN", "VERSION", "DEVICES", "NAME"]);
    for worker in workers {
        let state = match (worker.connected, worker.draining) {
            (true, true) => "draining",
            (true, false) => "connected",
            (false, _) => "away",
        };
        let devices: Vec<&str> = worker.devices.iter().map(|device| device.name.as_str()).collect();
        table.row([
            worker.id.clone(),
            state.to_owned(),
            worker.devices.iter().map(|device| device.leases).sum::<u32>().to_string(),
            worker.images.to_string(),
            human::ago(worker.last_seen_ms),
            worker.version.clone(),
            devices.join(", "),
            worker.name.clone(),
        ]);
    }
    table.render()
}
