//! Reading stored files again. A damaged one is removed, so that handing the package over again mends it.

use std::sync::Arc;

use seedfarm_blob::Soundness;
use seedfarm_core::PackageFile;
use seedfarm_proto::v1::{self, FileState};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::super::jobs::Answers;
use crate::farm::Farm;
use crate::faults;

type Told = mpsc::Sender<Result<v1::VerifyPackageResponse, Status>>;

/// Verifies one package, or all of them where `wanted` is empty.
pub(crate) async fn verify(
    farm: &Arc<Farm>,
    wanted: &str,
) -> Result<Answers<v1::VerifyPackageResponse>, Status> {
    let rows = match wanted {
        "" => farm.store.packages().await.map_err(faults::of_store)?,
        wanted => vec![super::find(farm, wanted).await?],
    };
    let turn = farm.distribution.reading_turn().await?;
    let (told, answers) = mpsc::channel(16);
    let farm = Arc::clone(farm);
    let tasks = farm.tasks.clone();
    tasks.spawn(async move {
        let _turn = turn;
        for row in rows {
            let read = tokio::select! {
                read = package(&farm, row.digest, &told) => read,
                () = farm.stopping.cancelled() => Err(faults::stopping()),
                () = told.closed() => return,
            };
            if let Err(status) = read {
                // A caller that is gone needs no reason.
                let _ = told.send(Err(status)).await;
                return;
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(answers)))
}

async fn package(farm: &Farm, digest: seedfarm_core::PackageDigest, told: &Told) -> Result<(), Status> {
    let found = farm.store.package(&digest).await.map_err(faults::of_store)?;
    // It may have been removed a moment ago.
    let Some(package) = found else { return Ok(()) };
    for file in &package.files {
        let answer = look(farm, package.manifest.name(), file).await?;
        if told.send(Ok(answer)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn look(farm: &Farm, package: &str, file: &PackageFile) -> Result<v1::VerifyPackageResponse, Status> {
    let store = farm.blob.files();
    let found = store.verify(&file.sha256, |_| {}).await.map_err(faults::of_blob)?;
    let (state, actual) = match found {
        Soundness::Sound => (FileState::Sound, None),
        Soundness::Missing => (FileState::Missing, None),
        Soundness::Damaged { actual } => {
            tracing::error!(file.digest = %file.sha256, actual.digest = %actual, "a stored file is damaged and is removed");
            store.remove(&file.sha256).await.map_err(faults::of_blob)?;
            (FileState::Damaged, Some(actual))
        }
    };
    Ok(v1::VerifyPackageResponse {
        package: package.to_owned(),
        path: file.path.to_string(),
        file: Some(v1::ModelFile { sha256: file.sha256.to_string(), bytes: file.bytes }),
        state: state.into(),
        actual_sha256: actual.map(|actual| actual.to_string()).unwrap_or_default(),
    })
}
