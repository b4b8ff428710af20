//! Reading a worker's Hello. What it says is a stranger's word: everything is held against a limit.

use seedfarm_core::{AdapterManifest, ModelManifest};
use seedfarm_proto::{OLDEST_PROTOCOL, PROTOCOL, error, v1};
use tonic::{Code, Status};

use crate::board::{DeviceIntroduction, Introduction};
use crate::services::read_json;

use super::update;

/// Most devices of one worker.
const MAX_DEVICES: usize = 64;
/// Most fingerprints of one device.
const MAX_FINGERPRINTS: usize = 8;
/// Most adapters of one worker.
const MAX_ADAPTERS: usize = 10_000;
/// Most models of one worker.
const MAX_MODELS: usize = 1000;
/// Most leases that a worker may say it holds.
const MAX_HELD: usize = 10_000;
/// Most bytes of one name.
const MAX_NAME_BYTES: usize = 200;

/// Most bytes of a process's random name.
const MAX_INSTANCE_BYTES: usize = 64;

/// Holds the worker's version of the protocol against those that the coordinator speaks.
pub(crate) fn check_protocol(spoken: u32) -> Result<(), Status> {
    if (OLDEST_PROTOCOL..=PROTOCOL).contains(&spoken) {
        return Ok(());
    }
    let way_out =
        if spoken < OLDEST_PROTOCOL { "upgrade the worker" } else { "upgrade the coordinator first" };
    let message = format!(
        "the worker speaks version {spoken} of the protocol, and this coordinator speaks {OLDEST_PROTOCOL} to \
         {PROTOCOL}: {way_out}"
    );
    Err(error::status(Code::InvalidArgument, "PROTOCOL_MISMATCH", message))
}

/// Checks a Hello.
pub(crate) fn read(hello: v1::Hello) -> Result<Introduction, Status> {
    if hello.instance.is_empty() || hello.instance.len() > MAX_INSTANCE_BYTES {
        let given = hello.instance.len();
        return Err(refused(&format!(
            "its instance has {given} bytes; 1 to {MAX_INSTANCE_BYTES} are needed"
        )));
    }
    check_name("name", &hello.name)?;
    check_name("version", &hello.version)?;
    check_count("devices", hello.devices.len(), MAX_DEVICES)?;
    check_count("adapters", hello.adapters_json.len(), MAX_ADAPTERS)?;
    check_count("held leases", hello.held.len(), MAX_HELD)?;
    if hello.devices.is_empty() {
        return Err(refused("it names no device"));
    }
    let devices = hello.devices.into_iter().map(device).collect::<Result<Vec<_>, _>>()?;
    if (1..devices.len()).any(|i| devices[..i].iter().any(|other| other.index == devices[i].index)) {
        return Err(refused("it names one device index twice"));
    }
    Ok(Introduction {
        worker: crate::services::read(&hello.worker_id)?,
        name: hello.name,
        version: hello.version,
        devices,
        acceptance: update::acceptance(hello.acceptance)?,
        manifests: manifests(&hello.model_manifests_json)?,
        adapters: hello.adapters_json.iter().map(|json| adapter(json)).collect::<Result<_, _>>()?,
        held: hello.held.into_iter().map(Into::into).collect(),
        instance: hello.instance,
        fetches_bytes: hello.fetches_bytes,
    })
}

fn device(device: v1::Device) -> Result<DeviceIntroduction, Status> {
    check_name("a device's name", &device.name)?;
    check_name("a device's backend", &device.backend)?;
    check_count("fingerprints of a device", device.fingerprints_json.len(), MAX_FINGERPRINTS)?;
    let fingerprints = device.fingerprints_json.iter().map(|json| read_json("a fingerprint", json));
    Ok(DeviceIntroduction {
        index: device.index,
        name: device.name,
        backend: device.backend,
        memory_bytes: device.memory_bytes,
        fingerprints: fingerprints.collect::<Result<_, String>>().map_err(|why| refused(&why))?,
    })
}

/// Reads the manifests of a worker's models.
pub(super) fn manifests(texts: &[String]) -> Result<Vec<ModelManifest>, Status> {
    check_count("models", texts.len(), MAX_MODELS)?;
    texts.iter().map(|json| manifest(json)).collect()
}

pub(super) fn manifest(json: &str) -> Result<ModelManifest, Status> {
    let manifest: ModelManifest = read_json("a model manifest", json).map_err(|why| refused(&why))?;
    check_name("a model's name", &manifest.name)?;
    if manifest.name.is_empty() || manifest.components.is_empty() {
        return Err(refused("a model manifest lacks its name or its components"));
    }
    Ok(manifest)
}

pub(super) fn adapter(json: &str) -> Result<AdapterManifest, Status> {
    let manifest: AdapterManifest = read_json("an adapter's manifest", json).map_err(|why| refused(&why))?;
    check_name("an adapter's name", &manifest.name)?;
    check_name("an adapter's family", manifest.family.as_deref().unwrap_or_default())?;
    if manifest.name.is_empty() {
        return Err(refused("an adapter's manifest lacks its name"));
    }
    Ok(manifest)
}

fn check_name(field: &str, name: &str) -> Result<(), Status> {
    if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(refused(&format!(
            "{field} has {} bytes or control characters; {MAX_NAME_BYTES} bytes of plain text are allowed",
            name.len()
        )));
    }
    Ok(())
}

pub(super) fn check_count(what: &str, given: usize, most: usize) -> Result<(), Status> {
    if given > most {
        return Err(refused(&format!("it lists {given} {what}, more than the limit of {most}")));
    }
    Ok(())
}

pub(super) fn refused(why: &str) -> Status {
    error::status(
        Code::InvalidArgument,
        "HELLO_REFUSED",
        format!("what the worker says of itself is refused: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> v1::Hello {
        v1::Hello {
            worker_id: format!("worker_{:032x}", 1),
            name: "n".into(),
            version: "1".into(),
            instance: "1".into(),
            devices: vec![v1::Device { index: 0, ..v1::Device::default() }],
            ..v1::Hello::default()
        }
    }

    fn reason(hello: v1::Hello) -> String {
        read(hello).unwrap_err().message().to_owned()
    }

    #[test]
    fn a_plain_hello_is_read() {
        assert_eq!(read(hello()).unwrap().devices.len(), 1);
    }

    #[test]
    fn what_is_over_a_limit_or_unreadable_is_refused_by_name() {
        assert!(reason(v1::Hello { devices: Vec::new(), ..hello() }).contains("no device"));
        assert!(reason(v1::Hello { name: "n".repeat(201), ..hello() }).contains("201 bytes"));
        let twice = vec![v1::Device::default(), v1::Device::default()];
        assert!(reason(v1::Hello { devices: twice, ..hello() }).contains("twice"));
        let manifests = vec!["{}".to_owned()];
        assert!(reason(v1::Hello { model_manifests_json: manifests, ..hello() }).contains("model manifest"));
        let adapters = vec!["{}".to_owned()];
        assert!(reason(v1::Hello { adapters_json: adapters, ..hello() }).contains("adapter's manifest"));
        let held = vec![v1::Fence::default(); 10_001];
        assert!(reason(v1::Hello { held, ..hello() }).contains("10001"));
        assert!(read(v1::Hello { worker_id: "w".into(), ..hello() }).is_err());
        assert!(reason(v1::Hello { instance: String::new(), ..hello() }).contains("instance has 0 bytes"));
        assert!(reason(v1::Hello { instance: "i".repeat(65), ..hello() }).contains("65 bytes"));
    }

    #[test]
    fn a_version_of_the_protocol_outside_the_range_is_refused_with_both_numbers_and_the_way_out() {
        assert!(check_protocol(PROTOCOL).is_ok() && check_protocol(OLDEST_PROTOCOL).is_ok());
        let old = check_protocol(0).unwrap_err();
        assert!(old.message().contains("version 0") && old.message().contains("upgrade the worker"), "{old}");
        let new = check_protocol(PROTOCOL + 1).unwrap_err();
        assert!(new.message().contains("upgrade the coordinator"), "{new}");
    }
}
