//! What may be broken on this machine, and why the rest may not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fault::Fault;
use super::network::Network;
use super::servers::Volume;

/// See the module's documentation.
#[derive(Debug)]
pub struct Abilities {
    /// The hosts, where network namespaces are allowed and asked for.
    pub network: Option<Network>,
    /// libfaketime.
    pub faketime: Option<PathBuf>,
    /// Faults that cannot happen, with the reason.
    pub missing: BTreeMap<Fault, String>,
}

impl Abilities {
    /// Looks at this machine. `namespaces`: whether hosts are to be namespaces; `standby`: whether there is a
    /// spare coordinator; `real`: whether workers of some rounds render.
    pub fn find(folder: &Path, namespaces: bool, standby: bool, real: bool) -> Self {
        let mut missing = BTreeMap::new();
        let network = match namespaces.then(Network::create) {
            Some(Ok(network)) => Some(network),
            Some(Err(error)) => {
                let why = format!("network namespaces cannot be had here: {error:#}");
                missing.extend(network_faults().map(|fault| (fault, why.clone())));
                None
            }
            None => {
                missing.extend(network_faults().map(|fault| (fault, "without --namespaces".to_owned())));
                None
            }
        };
        if network.as_ref().is_some_and(|network| network.slow.is_none()) {
            missing.insert(Fault::Delay, "the kernel has neither netem nor tbf".to_owned());
        }
        let faketime = faketime();
        if faketime.is_none() {
            missing.insert(Fault::Clock, "libfaketime is not installed".to_owned());
        }
        if let Err(error) = Volume::mount(folder.join("probe"), 1) {
            let why = format!("no small volume can be mounted: {error:#}");
            missing.insert(Fault::PostgresDiskFull, why.clone());
            missing.insert(Fault::WorkerDiskFull, why);
        }
        if !standby {
            missing.insert(Fault::KillStandby, "without --standby".to_owned());
        }
        if !real {
            missing.insert(Fault::WorkerDiskFull, "without rounds of real workers".to_owned());
        }
        Self { network, faketime, missing }
    }
}

fn network_faults() -> impl Iterator<Item = Fault> {
    Fault::ALL.into_iter().filter(|fault| fault.is_of_network())
}

fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file())
}
