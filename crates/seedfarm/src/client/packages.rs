//! Handing models over: only what the farm lacks, a part at a time, again while the farm is away or busy.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use seedfarm_core::limits::MODEL_PART_BYTES;
use seedfarm_core::{Package, canonical, package};
use seedfarm_proto::{CHUNK_BYTES, error, v1};
use tonic::{Code, Status};

use crate::client::Farm;

/// Tries of one part, when the farm is away or busy: two minutes in all.
const TRIES: u32 = 12;
/// The longest pause between two of them.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A file that the farm does not have as a whole.
#[derive(Debug, Clone)]
pub struct Missing {
    path: PathBuf,
    file: v1::ModelFile,
    parts: Vec<u64>,
}

impl Missing {
    /// Where it lies on this machine.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are to be sent.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|&part| package::part_bytes(self.file.bytes, part)).sum()
    }
}

/// What the farm lacks of a package whose files lie below `root`; each file once.
///
/// # Errors
/// If the farm fails.
pub async fn missing(farm: &Farm, package: &Package, root: &Path) -> Result<Vec<Missing>, Status> {
    let mut seen = std::collections::BTreeSet::new();
    let each: Vec<_> = package.files.iter().filter(|file| seen.insert(file.sha256)).collect();
    let files: Vec<v1::ModelFile> = each
        .iter()
        .map(|file| v1::ModelFile { sha256: file.sha256.to_string(), bytes: file.bytes })
        .collect();
    let request = v1::FindModelFilesRequest { files: files.clone() };
    let found = farm.models().find_model_files(request).await?.into_inner().files;
    let all = each.into_iter().zip(files).zip(found).filter(|(_, found)| !found.whole);
    let missing =
        |((of_package, file), found): ((&seedfarm_core::PackageFile, v1::ModelFile), v1::FoundModelFile)| {
            let lacks = |part: &u64| !found.parts.contains(part);
            let parts = (0..package::parts(file.bytes)).filter(lacks).collect();
            Missing { path: root.join(of_package.path.as_str()), file, parts }
        };
    Ok(all.map(missing).collect())
}

/// Sends what is missing of a file and has the farm put it together; `told` hears of every part's bytes.
///
/// # Errors
/// If the file cannot be read or has changed, or the farm refuses it.
pub async fn send(farm: &Farm, file: &Missing, told: &mut impl FnMut(u64)) -> Result<()> {
    for &part in &file.parts {
        let (path, bytes) = (file.path.clone(), package::part_bytes(file.file.bytes, part));
        let read = tokio::task::spawn_blocking(move || read_part(&path, part, bytes)).await?;
        let data = read.with_context(|| format!("cannot read {}", file.path.display()))?;
        patiently(|| put(farm, file, part, &data)).await?;
        told(bytes);
    }
    let sealed = patiently(|| seal(farm, file)).await;
    sealed.with_context(|| format!("the farm does not take {}", file.path.display()))
}

/// Makes a package visible, all of whose files are there.
///
/// # Errors
/// If the farm refuses it.
pub async fn add(farm: &Farm, package: &Package) -> Result<(), Status> {
    let request = v1::AddPackageRequest { package_json: canonical::to_string(package) };
    patiently(|| async { farm.models().add_package(request.clone()).await.map(drop) }).await
}

fn read_part(path: &Path, part: u64, bytes: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(part * MODEL_PART_BYTES))?;
    let mut data = Vec::new();
    file.take(bytes).read_to_end(&mut data)?;
    Ok(data)
}

async fn put(farm: &Farm, file: &Missing, part: u64, data: &[u8]) -> Result<(), Status> {
    let mut named = Some(file.file.clone());
    let message = |data: &[u8]| v1::PutModelPartRequest {
        file: named.take(),
        part,
        chunk: Some(v1::Chunk { data: data.to_vec() }),
    };
    let messages: Vec<_> = data.chunks(CHUNK_BYTES).map(message).collect();
    farm.models().put_model_part(tokio_stream::iter(messages)).await.map(drop)
}

async fn seal(farm: &Farm, file: &Missing) -> Result<(), Status> {
    let request = v1::SealModelFileRequest { file: Some(file.file.clone()) };
    let mut stream = farm.models().seal_model_file(request).await?.into_inner();
    while let Some(message) = stream.message().await? {
        if message.sealed {
            return Ok(());
        }
    }
    Err(Status::unavailable("the coordinator stopped while it checked the file"))
}

/// Does something again while the farm is away or busy.
async fn patiently<F>(mut act: impl FnMut() -> F) -> Result<(), Status>
where
    F: Future<Output = Result<(), Status>>,
{
    let mut tries = 1;
    loop {
        match act().await {
            Err(status) if passes(status.code()) && tries < TRIES => {
                let pause = Duration::from_secs(u64::from(tries)).min(LONGEST_PAUSE);
                tokio::time::sleep(error::retry_after(&status).unwrap_or(pause)).await;
                tries += 1;
            }
            answer => return answer,
        }
    }
}

const fn passes(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded)
}
