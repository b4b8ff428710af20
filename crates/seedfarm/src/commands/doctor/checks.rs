//! The single checks.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use seedfarm_core::Numerics;
use seedfarm_engine::DeviceSpec;
use seedfarm_proto::v1;
use seedfarm_store::bus::RedisBus;
use seedfarm_store::private::{ClusterError, find_programs, require_durable};
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tokio::time::timeout;

use super::{Check, DoctorArgs};
use crate::args::data::{CLIENT_TOKEN, WORKER_TOKEN};
use crate::client::Farm;
use crate::exit::Exit;
use crate::failure::{flatten, report};
use crate::human;

/// How long something on the network may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// With less room than this, work stops soon.
const LEAST_ROOM: u64 = 200_000_000;
/// With less room than this, a larger job may not fit.
const GOOD_ROOM: u64 = 5_000_000_000;

/// All checks, in the order in which a person would mend things.
pub(super) async fn all(args: &DoctorArgs) -> Vec<Check> {
    let data_dir = match args.client.data.resolve() {
        Ok(data_dir) => data_dir,
        Err(error) => {
            return vec![Check::missing("data folder", flatten(&error), "give one with --data-dir")];
        }
    };
    let mut checks = vec![folder(&data_dir)];
    checks.extend(tokens(&data_dir));
    checks.push(room(&data_dir));
    checks.push(database(args, &data_dir).await);
    checks.push(redis(args.storage.redis_url.as_deref()).await);
    checks.extend([processor(), cuda()]);
    checks.push(models(args));
    checks.push(coordinator(args).await);
    checks
}

fn folder(data_dir: &Path) -> Check {
    let name = "data folder";
    let shown = data_dir.display();
    let fix = "give a folder that this user may write to with --data-dir or SEEDFARM_DATA_DIR";
    let nearest = nearest(data_dir);
    if rustix::fs::access(&nearest, rustix::fs::Access::WRITE_OK).is_err() {
        return Check::missing(name, format!("{shown} cannot be written by this user"), fix);
    }
    match std::fs::metadata(data_dir) {
        Err(_) => Check::fine(name, format!("{shown} (will be made)")),
        Ok(found) if !found.is_dir() => Check::missing(name, format!("{shown} is not a folder"), fix),
        Ok(_) => Check::fine(name, shown.to_string()),
    }
}

/// The folder itself, or the nearest one above it that exists.
fn nearest(folder: &Path) -> PathBuf {
    folder.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn tokens(data_dir: &Path) -> Vec<Check> {
    let check = |file: &str| {
        let path = data_dir.join(file);
        let mode = std::fs::metadata(&path).ok()?.permissions().mode() & 0o777;
        if mode & 0o077 == 0 {
            return None;
        }
        let found = format!("{} can be read by others (mode {mode:o})", path.display());
        Some(Check::missing("tokens", found, format!("chmod 600 {}", path.display())))
    };
    [CLIENT_TOKEN, WORKER_TOKEN].into_iter().filter_map(check).collect()
}

fn room(data_dir: &Path) -> Check {
    let name = "disk";
    let Ok(found) = rustix::fs::statvfs(nearest(data_dir)) else {
        return Check::note(name, "free room cannot be told", "look with df");
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let text = format!("{} free for {}", human::bytes(free), data_dir.display());
    let fix = "free some room, or give another folder with --data-dir";
    match free {
        ..LEAST_ROOM => Check::missing(name, text, fix),
        LEAST_ROOM..GOOD_ROOM => Check::note(name, text, fix),
        _ => Check::fine(name, text),
    }
}

async fn database(args: &DoctorArgs, data_dir: &Path) -> Check {
    let name = "PostgreSQL";
    let Some(url) = &args.storage.database.database_url else {
        return match find_programs(data_dir, args.storage.database.pg_bin.as_deref()) {
            Ok(found) => Check::fine(name, format!("{} in {}", found.version, found.folder.display())),
            Err(ClusterError::NoBinaries { install, needed, .. }) => {
                Check::missing(name, format!("no programs of version {needed}"), install)
            }
            Err(error) => Check::missing(name, error.to_string(), "see docs/RUNBOOK.md"),
        };
    };
    let fix = "start that server, or mend DATABASE_URL (postgres://user:password@host:5432/database)";
    match timeout(PATIENCE, version_of(url)).await {
        Ok(Ok(version)) => {
            Check::fine(name, format!("{version} at DATABASE_URL, keeps what it acknowledges"))
        }
        Ok(Err(error)) => Check::missing(name, format!("DATABASE_URL: {}", flatten(&error)), fix),
        Err(_) => Check::missing(name, format!("DATABASE_URL: no answer in {} s", PATIENCE.as_secs()), fix),
    }
}

async fn version_of(url: &str) -> anyhow::Result<String> {
    let mut connection = PgConnectOptions::from_str(url)?.connect().await?;
    Ok(require_durable(&mut connection).await?)
}

async fn redis(url: Option<&str>) -> Check {
    let name = "Redis";
    let Some(url) = url else {
        return Check::fine(name, "not used (REDIS_URL is not set); one coordinator needs none");
    };
    let fix = "start it, or unset REDIS_URL; no result depends on it";
    let bus = match RedisBus::open(url) {
        Ok(bus) => bus,
        Err(error) => return Check::missing(name, error.to_string(), fix),
    };
    match timeout(PATIENCE, bus.connected()).await {
        Ok(()) => Check::fine(name, "answers at REDIS_URL"),
        Err(_) => Check::note(name, format!("REDIS_URL: no answer in {} s", PATIENCE.as_secs()), fix),
    }
}

fn processor() -> Check {
    let name = "processor";
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let devices = seedfarm_engine::devices();
    let model = devices.first().map(|device| device.name.clone()).unwrap_or_default();
    let features = features();
    let has = |wanted: &str| features.iter().any(|&(name, there)| name == wanted && there);
    let names = features.iter().filter(|(_, there)| *there).map(|(name, _)| (*name).to_owned());
    let text = [model, format!("{cores} threads")].into_iter().chain(names).collect::<Vec<_>>().join(", ");
    if !devices.iter().any(|device| device.numerics.contains(&Numerics::Strict)) {
        let fix =
            "strict numerics need a processor with FMA, from 2013 or later; this one renders --numerics fast";
        return Check::note(name, text, fix);
    }
    if cfg!(target_arch = "x86_64") && !has("AVX2") {
        let fix = "without AVX2 pictures are the same, and take several times as long";
        return Check::note(name, text, fix);
    }
    Check::fine(name, text)
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<(&'static str, bool)> {
    vec![
        ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
        ("FMA", std::arch::is_x86_feature_detected!("fma")),
        ("AVX-512", std::arch::is_x86_feature_detected!("avx512f")),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<(&'static str, bool)> {
    vec![("NEON", cfg!(target_arch = "aarch64"))]
}

fn cuda() -> Check {
    let name = "CUDA";
    if !cfg!(feature = "cuda") {
        return Check::fine(name, "not in this build; the processor renders (build with --features cuda)");
    }
    let gpus = seedfarm_engine::devices().into_iter().filter(|device| device.spec != DeviceSpec::Cpu);
    let gpus: Vec<String> = gpus.map(|gpu| format!("{} ({})", gpu.spec, gpu.name)).collect();
    if gpus.is_empty() {
        return Check::note(name, "in this build, but no GPU can be opened", "look with nvidia-smi");
    }
    Check::fine(name, gpus.join(", "))
}

fn models(args: &DoctorArgs) -> Check {
    let name = "models";
    match args.models.load() {
        Ok(models) => {
            let names: Vec<&str> = models.iter().map(|model| model.manifest.name.as_str()).collect();
            Check::fine(name, format!("{}; every file is whole", names.join(", ")))
        }
        Err(error) => Check::missing(name, flatten(&error), "give a model's folder with --models"),
    }
}

async fn coordinator(args: &DoctorArgs) -> Check {
    let name = "coordinator";
    let url = args.client.coordinator.join(", ");
    let fix = "start one with 'seedfarm up', or give its address with --coordinator";
    match timeout(PATIENCE, status(args)).await {
        Ok(Ok(status)) => {
            let text = format!("{url} answers, version {}, workers: {}", status.version, status.workers);
            Check::fine(name, text)
        }
        Err(_) => Check::note(name, format!("{url}: no answer in {} s", PATIENCE.as_secs()), fix),
        Ok(Err(error)) => {
            let told = report(&error);
            if told.code == "COORDINATOR_UNREACHABLE"
                || (told.code == "NO_TOKEN" && told.exit == Exit::Usage.code())
            {
                return Check::note(name, format!("none at {url} that this user has a token for"), fix);
            }
            Check::missing(
                name,
                told.message,
                "give the right token with --token, or the coordinator's folder with --data-dir",
            )
        }
    }
}

async fn status(args: &DoctorArgs) -> anyhow::Result<v1::GetStatusResponse> {
    let farm = Farm::connect(&args.client).await?;
    Ok(farm.farm().get_status(v1::GetStatusRequest {}).await?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_others_may_read_is_a_finding_with_its_fix() {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join(CLIENT_TOKEN);
        std::fs::write(&token, "x").unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
        let found = tokens(folder.path());
        assert_eq!(found.len(), 1);
        assert!(found[0].fix.as_deref().unwrap().starts_with("chmod 600 "));
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(tokens(folder.path()).is_empty());
    }

    #[test]
    fn the_room_of_a_folder_that_is_not_there_is_that_of_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(nearest(&folder.path().join("a/b")), folder.path());
    }
}
