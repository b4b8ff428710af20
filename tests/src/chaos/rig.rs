//! The processes of one round's farm.

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::abilities::Abilities;
use super::client::Kind;
use super::plan::{Act, Event, Host, LEASE_TTL_MS, Part, WORKERS};
use super::process::Process;
use super::servers::{self, NAME, Postgres, Volume};
use crate::program;

/// What clients and workers show. Long enough to be taken, and no secret.
const CLIENT_TOKEN: &str = "chaos-client-0123456789abcdef0123456789abcdef";
const WORKER_TOKEN: &str = "chaos-worker-0123456789abcdef0123456789abcdef";
/// How long a process may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where everything of a round listens, and where it lies.
#[derive(Debug, Clone)]
struct Layout {
    folder: PathBuf,
    coordinators: Vec<(Host, u16)>,
    database: (String, u16),
    redis: u16,
    before: BTreeMap<Host, Vec<String>>,
    addresses: BTreeMap<Host, String>,
}

/// See the module's documentation.
pub struct Rig<'a> {
    abilities: &'a Abilities,
    postgres: &'a Postgres,
    layout: Layout,
    parts: BTreeMap<Part, Process>,
    volumes: BTreeMap<Part, Volume>,
    snapshots: Vec<Child>,
    seed: u64,
    kind: Kind,
}

/// What a round's farm is to be.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The round's folder.
    pub folder: PathBuf,
    /// The round's seed.
    pub seed: u64,
    /// What the workers are.
    pub kind: Kind,
    /// Whether there is a spare coordinator.
    pub standby: bool,
    /// What will happen, so that volumes that will be full are small.
    pub events: &'a [Event],
}

impl<'a> Rig<'a> {
    /// Starts every process.
    ///
    /// # Errors
    /// If one cannot be run.
    pub fn start(abilities: &'a Abilities, postgres: &'a Postgres, wanted: &Wanted<'_>) -> Result<Self> {
        let layout = Layout::new(abilities, wanted)?;
        let mut rig = Self {
            abilities,
            postgres,
            layout,
            parts: BTreeMap::new(),
            volumes: BTreeMap::new(),
            snapshots: Vec::new(),
            seed: wanted.seed,
            kind: wanted.kind,
        };
        rig.mount(wanted)?;
        rig.servers()?;
        rig.coordinators()?;
        (0..WORKERS).try_for_each(|number| rig.worker(number))?;
        rig.parts.values_mut().try_for_each(Process::start)?;
        Ok(rig)
    }

    fn mount(&mut self, wanted: &Wanted<'_>) -> Result<()> {
        for (part, name, mib) in [(Part::Postgres, "postgres", 300), (Part::Worker(0), "worker-0", 16)] {
            let full = wanted.events.iter().any(|event| event.act == Act::Fill(part));
            if full && (part == Part::Postgres || wanted.kind == Kind::Real) {
                let volume = Volume::mount(self.layout.folder.join(name), mib)?;
                self.volumes.insert(part, volume);
            }
        }
        Ok(())
    }

    fn servers(&mut self) -> Result<()> {
        let folder = servers::own(&self.layout.folder.join("postgres"))?;
        self.postgres.copy_to(&folder)?;
        let before = self.layout.before[&Host::Database].clone();
        let (address, port) = self.layout.database.clone();
        let server = self.postgres.server(&before, &folder, &address, port);
        self.add(Part::Postgres, "postgres", move || copy(&server));
        let redis = servers::redis(&before, &self.layout.folder, &address, self.layout.redis);
        self.add(Part::Redis, "redis", move || copy(&redis));
        Ok(())
    }

    fn coordinators(&mut self) -> Result<()> {
        let parts = [(Part::Coordinator, "coordinator"), (Part::Standby, "standby")];
        for ((part, name), (host, port)) in parts.into_iter().zip(self.layout.coordinators.clone()) {
            let data = self.layout.folder.join(name);
            std::fs::create_dir_all(&data)?;
            secret(&data.join("client.token"), CLIENT_TOKEN)?;
            secret(&data.join("worker.token"), WORKER_TOKEN)?;
            let listen = format!("{}:{port}", self.layout.addresses[&host]);
            let ttl = format!("{:.1}", LEASE_TTL_MS as f64 / 1000.0);
            let mut command = self.layout.seedfarm(host);
            command.args(["coordinator", "--plaintext", "--listen", &listen, "--lease-ttl", &ttl]);
            command.args(["--heartbeat", "0.4", "--target-lease", "0.4"]);
            command.env("SEEDFARM_DATA_DIR", &data).env("DATABASE_URL", self.layout.database_url());
            command.env("SEEDFARM_BLOBS", self.layout.folder.join("blobs"));
            command.env("REDIS_URL", self.layout.redis_url());
            self.add(part, name, move || copy(&command));
        }
        Ok(())
    }

    fn worker(&mut self, number: usize) -> Result<()> {
        let (name, url) = (format!("worker-{number}"), self.layout.urls());
        let host = Host::Worker(number);
        let command = match self.kind {
            Kind::Real => {
                let mut command = self.layout.seedfarm(host);
                command.args(["worker", "--threads", "1", "--devices", "cpu", "--name", &name]);
                command.env("SEEDFARM_DATA_DIR", self.layout.folder.join(&name));
                command.env("SEEDFARM_COORDINATOR", url).env("SEEDFARM_TOKEN", WORKER_TOKEN);
                command
            }
            Kind::Cheap => {
                let mut command = self.layout.ourselves(host)?;
                command.args(["worker", "--url", &url, "--token", WORKER_TOKEN]);
                command.args(["--number", &number.to_string(), "--seed", &self.seed.to_string()]);
                command.arg("--folder").arg(&self.layout.folder);
                command
            }
        };
        self.add(Part::Worker(number), &name, move || copy(&command));
        Ok(())
    }

    /// The client's process, which is never broken.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn client(&self, load_ms: u64) -> Result<Process> {
        let mut command = self.layout.ourselves(Host::Client)?;
        let kind = match self.kind {
            Kind::Cheap => "cheap",
            Kind::Real => "real",
        };
        command.args(["client", "--url", &self.layout.urls(), "--token", CLIENT_TOKEN, "--kind", kind]);
        command.args(["--seed", &self.seed.to_string(), "--load-ms", &load_ms.to_string()]);
        command.arg("--folder").arg(&self.layout.folder);
        let log = self.layout.folder.join("client.log");
        Ok(Process::new("the client", log, move || copy(&command)))
    }

    fn add(&mut self, part: Part, name: &str, make: impl Fn() -> Command + 'static) {
        let log = self.layout.folder.join(format!("{name}.log"));
        self.parts.insert(part, Process::new(name, log, make));
    }

    /// Starts again what ended although it is wanted.
    ///
    /// # Errors
    /// If something cannot be run.
    pub fn tend(&mut self) -> Result<()> {
        self.parts.values_mut().try_for_each(Process::tend)
    }

    /// Does one thing; false if there was nothing to do it to.
    ///
    /// # Errors
    /// If the machine refuses what it allowed before.
    pub fn act(&mut self, act: Act) -> Result<bool> {
        Ok(match act {
            Act::Kill(part) => self.part(part, Process::kill),
            Act::Quit(part) => self.part(part, |process| process.end(Signal::QUIT, PATIENCE)),
            Act::Stop(part) => self.part(part, |process| process.signal(Signal::STOP)),
            Act::Continue(part) => self.part(part, |process| process.signal(Signal::CONT)),
            Act::Start(part, clock) => self.start_again(part, clock)?,
            Act::KillBackend => self.kill_backend(),
            Act::Break(from, to, trouble) => self.disturb(from, to, trouble)?,
            Act::Heal(from, to, trouble) => self.abilities.network.as_ref().is_some_and(|network| {
                network.heal(from, to, trouble);
                true
            }),
            Act::Fill(part) => self.volumes.get(&part).map(Volume::fill).transpose()?.is_some(),
            Act::Empty(part) => self.volumes.get(&part).map(Volume::empty).transpose()?.is_some(),
            Act::Snapshot(ms) => self.snapshot(ms)?,
            Act::Flush => servers::flush_redis(&self.layout.folder),
        })
    }

    fn part(&mut self, part: Part, act: impl FnOnce(&mut Process) -> bool) -> bool {
        self.parts.get_mut(&part).is_some_and(act)
    }

    fn start_again(&mut self, part: Part, clock: Option<i64>) -> Result<bool> {
        let Some(process) = self.parts.get_mut(&part) else { return Ok(false) };
        if let (Some(seconds), Some(library)) = (clock, &self.abilities.faketime) {
            process.skew(library.clone(), seconds);
        }
        process.start()?;
        Ok(true)
    }

    fn kill_backend(&mut self) -> bool {
        let server = self.parts.get(&Part::Postgres).and_then(Process::pid);
        let backends = server.map(servers::backends).unwrap_or_default();
        let pid = backends.first().and_then(|&pid| Pid::from_raw(pid.cast_signed()));
        pid.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
    }

    fn disturb(&self, from: Host, to: Host, trouble: super::plan::Trouble) -> Result<bool> {
        let Some(network) = &self.abilities.network else { return Ok(false) };
        network.disturb(from, to, trouble)?;
        Ok(true)
    }

    fn snapshot(&mut self, ms: u64) -> Result<bool> {
        let statements = format!(
            "begin isolation level repeatable read; select count(*) from jobs; select pg_sleep({}); commit",
            ms as f64 / 1000.0
        );
        let folder = self.layout.folder.join("postgres");
        let mut psql = self.postgres.psql(&folder, self.layout.database.1, NAME, &statements);
        let child = psql.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.snapshots.push(child.context("cannot run psql")?);
        Ok(true)
    }

    /// Undoes whatever is still broken.
    ///
    /// # Errors
    /// If something cannot be undone.
    pub fn mend(&mut self) -> Result<()> {
        if let Some(network) = &self.abilities.network {
            network.heal_all()?;
        }
        self.volumes.values().try_for_each(Volume::empty)?;
        for process in self.parts.values_mut() {
            process.signal(Signal::CONT);
            process.start()?;
        }
        Ok(())
    }

    /// How often a process ended by itself although it was wanted, by name.
    pub fn ended_by_themselves(&self) -> BTreeMap<String, u64> {
        let named = self.parts.iter().map(|(part, process)| (format!("{part:?}"), process.ended_by_itself));
        named.filter(|(_, times)| *times > 0).collect()
    }

    /// Stops workers and coordinators, and asks `seedfarm db check` what it finds.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn check(&mut self) -> Result<Vec<String>> {
        let upper = |part: &Part| !matches!(part, Part::Postgres | Part::Redis);
        for process in self.parts.iter_mut().filter(|(part, _)| upper(part)).map(|(_, process)| process) {
            process.end(Signal::TERM, PATIENCE);
        }
        let mut command = self.layout.seedfarm(Host::Database);
        command.args(["db", "check", "--json"]).env("DATABASE_URL", self.layout.database_url());
        let outcome = program::run(&mut command, b"");
        let document: Value = serde_json::from_str(&outcome.stdout)
            .with_context(|| format!("db check failed: {}{}", outcome.stdout, outcome.stderr))?;
        let findings = document["findings"].as_array().context("db check lists no findings")?;
        Ok(findings.iter().map(Value::to_string).collect())
    }
}

impl Drop for Rig<'_> {
    fn drop(&mut self) {
        for snapshot in &mut self.snapshots {
            // It may have ended by itself.
            let _ = snapshot.kill();
            let _ = snapshot.wait();
        }
        if let Some(postgres) = self.parts.get_mut(&Part::Postgres) {
            postgres.end(Signal::QUIT, PATIENCE);
        }
        self.parts.clear();
    }
}

impl Layout {
    fn new(abilities: &Abilities, wanted: &Wanted<'_>) -> Result<Self> {
        let workers = (0..WORKERS).map(Host::Worker);
        let hosts =
            [Host::Coordinator, Host::Standby, Host::Database, Host::Client].into_iter().chain(workers);
        let (mut before, mut addresses) = (BTreeMap::new(), BTreeMap::new());
        for host in hosts {
            let network = abilities.network.as_ref();
            before.insert(host, network.map(|network| network.on(host)).unwrap_or_default());
            addresses.insert(host, network.map_or("127.0.0.1".to_owned(), |network| network.address(host)));
        }
        let mut coordinators = vec![(Host::Coordinator, free_port()?)];
        if wanted.standby {
            coordinators.push((Host::Standby, free_port()?));
        }
        Ok(Self {
            folder: wanted.folder.clone(),
            coordinators,
            database: (addresses[&Host::Database].clone(), free_port()?),
            redis: free_port()?,
            before,
            addresses,
        })
    }

    fn urls(&self) -> String {
        let url = |(host, port): &(Host, u16)| format!("http://{}:{port}", self.addresses[host]);
        self.coordinators.iter().map(url).collect::<Vec<_>>().join(",")
    }

    fn database_url(&self) -> String {
        format!("postgres://{NAME}@{}:{}/{NAME}", self.database.0, self.database.1)
    }

    fn redis_url(&self) -> String {
        format!("redis://{}:{}", self.database.0, self.redis)
    }

    /// The executable on a host, in an environment that names nothing else.
    fn seedfarm(&self, host: Host) -> Command {
        let mut command = program::command(&self.folder);
        command.env("SEEDFARM_MODELS", program::root().join("tests/parity/models/tiny-sd1"));
        self.placed(host, &command)
    }

    /// This program on a host.
    fn ourselves(&self, host: Host) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.current_dir(&self.folder);
        Ok(self.placed(host, &command))
    }

    fn placed(&self, host: Host, command: &Command) -> Command {
        let Some((first, rest)) = self.before[&host].split_first() else { return copy(command) };
        let mut placed = Command::new(first);
        placed.args(rest).arg(command.get_program()).args(command.get_args());
        take_surroundings(&mut placed, command);
        placed
    }
}

/// The same command once more: a command starts one process.
fn copy(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    take_surroundings(&mut copy, command);
    copy
}

fn take_surroundings(to: &mut Command, from: &Command) {
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
    if let Some(folder) = from.get_current_dir() {
        to.current_dir(folder);
    }
}

fn secret(path: &Path, secret: &str) -> Result<()> {
    let file = std::fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, secret.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// A port that was free a moment ago, so that a process can be started on it again and again.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
