//! Models that the farm hands out: taken in by ModelService, given to workers by WorkerService.

pub(crate) mod registry;
pub(crate) mod send;
pub(crate) mod upload;
pub(crate) mod verify;

use seedfarm_core::{FileDigest, PackageDigest, limits};
use seedfarm_proto::{error, v1};
use seedfarm_store::PackageRow;
use tonic::{Code, Status};

use crate::farm::Farm;
use crate::faults;
use crate::services::{check_short, read};

/// Reads which file is meant.
fn file(file: Option<v1::ModelFile>) -> Result<(FileDigest, u64), Status> {
    let file = file.ok_or_else(|| error::missing("a file"))?;
    if file.bytes > limits::MAX_MODEL_FILE_BYTES {
        let most = limits::MAX_MODEL_FILE_BYTES;
        let message = format!("a file has {} bytes, more than the limit of {most}", file.bytes);
        return Err(error::status(Code::InvalidArgument, "FILE_TOO_LARGE", message));
    }
    Ok((read(&file.sha256)?, file.bytes))
}

/// The one package of this name or digest.
async fn find(farm: &Farm, wanted: &str) -> Result<PackageRow, Status> {
    check_short("a package's name", wanted)?;
    let digest = wanted.parse::<PackageDigest>().ok();
    let all = farm.store.packages().await.map_err(faults::of_store)?;
    let fits = |row: &&PackageRow| row.name == wanted || digest == Some(row.digest);
    let found: Vec<&PackageRow> = all.iter().filter(fits).collect();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let message =
                format!("the farm hands out nothing called '{wanted}': `seedfarm models` lists what it does");
            Err(faults::not_found("PACKAGE_NOT_FOUND", message))
        }
        several => {
            let digests: Vec<String> = several.iter().map(|row| row.digest.to_string()).collect();
            let message = format!(
                "{} packages are called '{wanted}': give one by its digest ({})",
                several.len(),
                digests.join(", ")
            );
            Err(error::status(Code::InvalidArgument, "AMBIGUOUS_PACKAGE", message))
        }
    }
}
