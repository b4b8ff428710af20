//! Adding, listing and removing packages.

use seedfarm_core::Package;
use seedfarm_proto::{error, v1};
use seedfarm_store::PackageRow;
use tonic::{Code, Status};

use crate::farm::Farm;
use crate::faults;
use crate::services::read_json_within;

/// Most bytes of a package's description.
const MAX_JSON_BYTES: usize = 1 << 20;

/// Adds a package, every file of which must be there.
pub(crate) async fn add(
    farm: &Farm,
    request: v1::AddPackageRequest,
) -> Result<v1::AddPackageResponse, Status> {
    let refused = |why: String| error::status(Code::InvalidArgument, "PACKAGE_REFUSED", why);
    let package: Package =
        read_json_within(MAX_JSON_BYTES, "a package", &request.package_json).map_err(refused)?;
    package.check().map_err(|fault| refused(format!("the package is refused: {fault}")))?;
    let _turn = farm.distribution.registry.lock().await;
    expect_files(farm, &package).await?;
    farm.store.put_package(&package).await.map_err(faults::of_store)?;
    let digest = package.digest();
    farm.board().forgive(digest);
    tracing::info!(package.digest = %digest, files = package.files.len(), bytes = package.bytes(), "a package is added");
    Ok(v1::AddPackageResponse { digest: digest.to_string() })
}

async fn expect_files(farm: &Farm, package: &Package) -> Result<(), Status> {
    let store = farm.blob.files();
    for file in &package.files {
        let there = store.size(&file.sha256).await.map_err(faults::of_blob)?;
        if there != Some(file.bytes) {
            let (path, sha256) = (&file.path, file.sha256);
            let message = format!("the file '{path}' ({sha256}) is not on the farm yet: send it first");
            return Err(error::status(Code::FailedPrecondition, "FILES_MISSING", message));
        }
    }
    Ok(())
}

/// Every package, with who has it.
pub(crate) async fn list(farm: &Farm) -> Result<v1::ListPackagesResponse, Status> {
    let rows = farm.store.packages().await.map_err(faults::of_store)?;
    Ok(v1::ListPackagesResponse { packages: rows.iter().map(|row| describe(farm, row)).collect() })
}

/// Removes a package, and those of its files that no other has.
pub(crate) async fn remove(farm: &Farm, wanted: &str) -> Result<v1::RemovePackageResponse, Status> {
    let _turn = farm.distribution.registry.lock().await;
    let row = super::find(farm, wanted).await?;
    let listed = describe(farm, &row);
    let orphans = farm.store.remove_package(&row.digest).await.map_err(faults::of_store)?;
    let store = farm.blob.files();
    for sha256 in orphans.keys() {
        // What is left behind is found again when the package is added again.
        store.remove(sha256).await.map_err(faults::of_blob)?;
    }
    tracing::info!(package.digest = %row.digest, files = orphans.len(), "a package is removed");
    Ok(v1::RemovePackageResponse { package: Some(listed), freed_bytes: orphans.values().sum() })
}

fn describe(farm: &Farm, row: &PackageRow) -> v1::ListedPackage {
    let (has, fetching) = farm.board().holders(row.digest);
    let ids = |workers: Vec<seedfarm_core::WorkerId>| workers.iter().map(ToString::to_string).collect();
    v1::ListedPackage {
        kind: row.kind.clone(),
        name: row.name.clone(),
        digest: row.digest.to_string(),
        bytes: row.bytes,
        files: u32::try_from(row.files).unwrap_or(u32::MAX),
        worker_ids: ids(has),
        fetching_worker_ids: ids(fetching),
    }
}
