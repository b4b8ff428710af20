//! Models as people read them.

use seedfarm_core::ModelManifest;
use seedfarm_proto::v1;

use crate::args::models::LocalModel;
use crate::human;
use crate::table::Table;

/// The farm's models, a row each.
pub fn farm_table(models: &[v1::Model], packages: &[v1::ListedPackage]) -> String {
    let mut table = Table::new(["MODEL", "WORKERS", "FROM FARM", "SIZE", "WEIGHTS", "DIGEST"]);
    for model in models {
        let manifest: Option<ModelManifest> = serde_json::from_str(&model.manifest_json).ok();
        let size = manifest.as_ref().map_or_else(|| "-".to_owned(), size);
        let weights =
            manifest.map_or_else(|| "-".to_owned(), |manifest| human::bytes(manifest.weights_bytes));
        let handed_out = handed_out(&model.digest, packages);
        table.row([
            model.name.clone(),
            model.workers.to_string(),
            handed_out,
            size,
            weights,
            model.digest.clone(),
        ]);
    }
    table.render()
}

/// The farm's LoRAs, embeddings and ControlNets, a row each below the models; nothing where there is none.
pub fn adapter_table(adapters: &[v1::Adapter], packages: &[v1::ListedPackage]) -> String {
    if adapters.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["ADAPTER", "KIND", "WORKERS", "FROM FARM", "FAMILY", "SIZE", "DIGEST"]);
    for adapter in adapters {
        table.row([
            adapter.name.clone(),
            adapter.kind.clone(),
            adapter.workers.to_string(),
            handed_out(&adapter.digest, packages),
            adapter.family.clone().unwrap_or_else(|| "-".to_owned()),
            human::bytes(adapter.bytes),
            adapter.digest.clone(),
        ]);
    }
    format!("\n\n{}", table.render())
}

/// Whether the farm hands it out, and how many workers are fetching it.
fn handed_out(digest: &str, packages: &[v1::ListedPackage]) -> String {
    match packages.iter().find(|package| package.digest == digest) {
        None => "-".to_owned(),
        Some(package) if package.fetching_worker_ids.is_empty() => "yes".to_owned(),
        Some(package) => format!("yes, {} fetching", package.fetching_worker_ids.len()),
    }
}

/// Models on this machine, a row each.
pub fn local_table(models: &[LocalModel]) -> String {
    let mut table = Table::new(["MODEL", "SIZE", "WEIGHTS", "LICENCE", "DIGEST", "FOLDER"]);
    for LocalModel { folder, manifest } in models {
        table.row([
            manifest.name.clone(),
            size(manifest),
            human::bytes(manifest.weights_bytes),
            manifest.licence.clone().unwrap_or_else(|| "unknown".to_owned()),
            manifest.digest().short(),
            folder.display().to_string(),
        ]);
    }
    table.render()
}

fn size(manifest: &ModelManifest) -> String {
    format!("{}x{}", manifest.defaults.width, manifest.defaults.height)
}
