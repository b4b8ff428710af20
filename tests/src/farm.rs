//! A farm of real processes on this machine, each of which can be killed and started again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::database::Database;
use crate::program::{Outcome, command, folder, run};

/// How long a farm may take to come up, or a job to end, before a test gives up.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// One coordinator with its private database, or several on a shared one, and workers.
pub struct Farm {
    dir: TempDir,
    /// Where the coordinators listen; the same as long as the farm lives.
    ports: Vec<u16>,
    coordinators: RefCell<Vec<Option<Child>>>,
    /// The database of several coordinators.
    database: Option<Database>,
    workers: Vec<Option<Child>>,
    /// Where each worker looks for models; empty for the built-in ones.
    model_folders: Vec<Vec<PathBuf>>,
    /// What else each worker is started with.
    extra: Vec<Vec<String>>,
}

impl Farm {
    /// A coordinator that answers, and `workers` workers of one thread each that have said hello.
    pub fn start(workers: usize) -> Self {
        Self::start_with(1, None, workers)
    }

    /// So many coordinators on one database, of which the first is active, and workers that know all of them.
    pub fn start_replicas(coordinators: usize, workers: usize) -> Self {
        Self::start_with(coordinators, Some(Database::create()), workers)
    }

    fn start_with(coordinators: usize, database: Option<Database>, workers: usize) -> Self {
        let mut farm = Self {
            dir: folder(),
            ports: (0..coordinators).map(|_| free_port()).collect(),
            coordinators: RefCell::new((0..coordinators).map(|_| None).collect()),
            database,
            workers: Vec::new(),
            model_folders: Vec::new(),
            extra: Vec::new(),
        };
        (0..coordinators).for_each(|number| farm.start_replica(number));
        (0..workers).for_each(|_| farm.push_worker(&[], &[]));
        farm.wait("all workers are connected", |status| status["workers"] == workers);
        farm
    }

    /// One worker more, which looks for models and adapters in `folders` and has said hello.
    pub fn add_worker(&mut self, folders: &[&Path]) {
        self.push_worker(folders, &[]);
        let workers = self.workers.len();
        self.wait("the new worker is connected", |status| status["workers"] == workers);
    }

    /// One worker more, with no model of its own: it fetches into `cache`, up to `limit`, from the
    /// coordinator or from what stands between at `url`. It has said hello.
    pub fn add_fetcher(&mut self, cache: &Path, limit: &str, url: &str) {
        let empty = self.dir().join("no-models");
        std::fs::create_dir_all(&empty).expect("the farm's folder can be written");
        let cache = cache.to_str().expect("a UTF-8 path");
        self.push_worker(&[&empty], &["--fetch-models", limit, "--model-cache", cache, "--coordinator", url]);
        let workers = self.workers.len();
        self.wait("the new worker is connected", |status| status["workers"] == workers);
    }

    fn push_worker(&mut self, folders: &[&Path], extra: &[&str]) {
        self.workers.push(None);
        self.extra.push(extra.iter().map(|word| (*word).to_owned()).collect());
        self.model_folders.push(folders.iter().map(|folder| folder.to_path_buf()).collect());
        self.start_worker(self.workers.len() - 1);
    }

    /// The folder that holds everything of this farm.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file into the farm's folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir().join(name);
        std::fs::write(&path, text).expect("the farm's folder can be written");
        path
    }

    /// A command that talks to this farm.
    pub fn command(&self) -> Command {
        let mut command = command(self.dir());
        let urls: Vec<String> = (0..self.ports.len()).map(|number| self.replica_url(number)).collect();
        command.env("SEEDFARM_COORDINATOR", urls.join(","));
        if let Some(database) = &self.database {
            command.env("DATABASE_URL", database.url());
        }
        command
    }

    /// The first coordinator's port on loopback.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// The first coordinator's address.
    pub fn url(&self) -> String {
        self.replica_url(0)
    }

    /// The address of coordinator `number` (from 0).
    pub fn replica_url(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[number])
    }

    /// Runs a client command to its end.
    pub fn run<const N: usize>(&self, args: [&str; N]) -> Outcome {
        run(self.command().args(args), b"")
    }

    /// Runs a client command with `--json` and gives its document.
    pub fn json<const N: usize>(&self, args: [&str; N]) -> Value {
        run(self.command().args(args).arg("--json"), b"").json()
    }

    /// Starts the coordinator and waits until it answers.
    pub fn start_coordinator(&mut self) {
        self.start_replica(0);
    }

    /// Starts coordinator `number` and waits until it answers.
    pub fn start_replica(&mut self, number: usize) {
        let mut command = self.command();
        command.args(["coordinator", "--listen", &format!("127.0.0.1:{}", self.ports[number])]);
        command.args(["--lease-ttl", "3", "--heartbeat", "0.5"]);
        let child = self.spawn(&mut command, &coordinator_log(number));
        self.coordinators.get_mut()[number] = Some(child);
        self.wait_replica(number, "the coordinator answers", |_| true);
    }

    /// Waits until the status that coordinator `number` itself gives is as `enough` wants it.
    pub fn wait_replica(&self, number: usize, what: &str, enough: impl Fn(&Value) -> bool) {
        let url = self.replica_url(number);
        self.until(what, || {
            let outcome = run(self.command().args(["status", "--json", "--coordinator", &url]), b"");
            (outcome.code == 0 && enough(&outcome.json())).then_some(())
        });
    }

    /// Sends a signal to coordinator `number`.
    pub fn signal_replica(&self, number: usize, signal: Signal) {
        let coordinators = self.coordinators.borrow();
        let child = coordinators[number].as_ref().expect("the coordinator runs");
        kill_process(Pid::from_child(child), signal).expect("a child takes signals");
    }

    /// `kill -9` for coordinator `number`.
    pub fn kill_replica(&mut self, number: usize) {
        kill(&mut self.coordinators.get_mut()[number]);
    }

    /// Asks coordinator `number` to stop and waits until it has.
    pub fn stop_replica(&mut self, number: usize) -> i32 {
        stop(&mut self.coordinators.get_mut()[number])
    }

    /// Starts worker `number` (from 0), which keeps its folder and so its id.
    pub fn start_worker(&mut self, number: usize) {
        let mut command = self.command();
        let folder = self.dir().join(format!("worker-{number}"));
        let token = std::fs::read_to_string(self.dir().join("data/worker.token"))
            .expect("the coordinator made a token");
        command.env("SEEDFARM_DATA_DIR", folder).env("SEEDFARM_TOKEN", token.trim());
        command.args(["worker", "--threads", "1", "--previews", "--name", &format!("worker {number}")]);
        for folder in &self.model_folders[number] {
            command.arg("--models").arg(folder);
        }
        command.args(&self.extra[number]);
        self.workers[number] = Some(self.spawn(&mut command, &format!("worker-{number}.log")));
    }

    /// Starts a gateway that ends when it is dropped.
    pub fn start_gateway(&self) -> Gateway {
        let port = free_port();
        let mut command = self.command();
        command.args(["gateway", "--http", &format!("127.0.0.1:{port}")]);
        let gateway = Gateway { port, process: Some(self.spawn(&mut command, "gateway.log")) };
        let listens = || TcpStream::connect(("127.0.0.1", port)).ok().map(|_| ());
        self.until("the gateway listens", listens);
        gateway
    }

    /// `kill -9` for the coordinator; its private database goes with it.
    pub fn kill_coordinator(&mut self) {
        self.kill_replica(0);
    }

    /// `kill -9` for worker `number`.
    pub fn kill_worker(&mut self, number: usize) {
        kill(&mut self.workers[number]);
    }

    /// Asks worker `number` to leave and waits until it has.
    pub fn stop_worker(&mut self, number: usize) -> i32 {
        stop(&mut self.workers[number])
    }

    /// Asks the coordinator to stop and waits until it has.
    pub fn stop_coordinator(&mut self) -> i32 {
        self.stop_replica(0)
    }

    /// Waits until the farm's status is as `enough` wants it.
    pub fn wait(&self, what: &str, enough: impl Fn(&Value) -> bool) {
        self.until(what, || {
            let outcome = run(self.command().args(["status", "--json"]), b"");
            (outcome.code == 0 && enough(&outcome.json())).then_some(())
        });
    }

    /// The job as it is now.
    pub fn job(&self, job: &str) -> Value {
        self.json(["job", job])["job"].clone()
    }

    /// Waits until `done` images of the job have results.
    pub fn wait_done(&self, job: &str, done: u64) {
        self.until("images have results", || (self.job(job)["done"].as_u64()? >= done).then_some(()));
    }

    /// Waits until the job is final; gives the job.
    pub fn wait_final(&self, job: &str) -> Value {
        self.until("the job is final", || {
            let job = self.job(job);
            matches!(job["state"].as_str()?, "finished" | "cancelled").then_some(job)
        })
    }

    /// Every image of a job: index to pixel digest.
    ///
    /// # Panics
    /// If an index comes twice.
    pub fn digests(&self, job: &str) -> BTreeMap<u64, String> {
        let out = self.dir().join("fetched").join(job);
        let fetched = self.json(["fetch", job, "--out", out.to_str().expect("a UTF-8 path")]);
        let mut digests = BTreeMap::new();
        for image in fetched["images"].as_array().expect("fetch lists its images") {
            let id = image["id"].as_str().expect("an image has an id");
            let index =
                id.rsplit('/').next().and_then(|index| index.parse().ok()).expect("an id ends in an index");
            let digest = image["pixel_digest"].as_str().expect("an image has a pixel digest").to_owned();
            assert_eq!(digests.insert(index, digest), None, "image {index} came twice");
        }
        digests
    }

    /// What the processes logged, for the message of a failed test.
    pub fn logs(&self) -> String {
        let names = ["coordinator.log", "coordinator-1.log", "worker-0.log", "worker-1.log"];
        let read = |name: &&str| {
            std::fs::read_to_string(self.dir().join(name)).map(|text| format!("--- {name}\n{text}"))
        };
        names.iter().filter_map(|name| read(name).ok()).collect()
    }

    /// Looks again and again until there is something; fails when the coordinator ends or patience does.
    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(self.coordinator_lives(), "the coordinator ended before {what}\n{}", self.logs());
            assert!(start.elapsed() < PATIENCE, "gave up waiting until {what}\n{}", self.logs());
            std::thread::sleep(PAUSE);
        }
    }

    /// Whether the coordinators that were started still run.
    fn coordinator_lives(&self) -> bool {
        let mut coordinators = self.coordinators.borrow_mut();
        coordinators.iter_mut().flatten().all(|child| matches!(child.try_wait(), Ok(None)))
    }

    fn spawn(&self, command: &mut Command, log: &str) -> Child {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir().join(log))
            .expect("a log file");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        command.spawn().expect("the executable starts")
    }
}

/// A gateway of a farm.
pub struct Gateway {
    /// Where it listens on loopback.
    pub port: u16,
    process: Option<Child>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        self.workers.iter_mut().for_each(kill);
        self.coordinators.get_mut().iter_mut().filter(|child| child.is_some()).for_each(|child| {
            stop(child);
        });
    }
}

fn kill(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        child.kill().expect("a child can be killed");
        child.wait().expect("a killed child ends");
    }
}

fn stop(child: &mut Option<Child>) -> i32 {
    let mut child = child.take().expect("the process runs");
    // A process that ended by itself is waited for all the same.
    let _ = kill_process(Pid::from_child(&child), Signal::TERM);
    // One that was halted hears it once it goes on.
    let _ = kill_process(Pid::from_child(&child), Signal::CONT);
    child.wait().expect("a child told to stop ends").code().unwrap_or(-1)
}

fn coordinator_log(number: usize) -> String {
    if number == 0 { "coordinator.log".to_owned() } else { format!("coordinator-{number}.log") }
}

/// A port that was free a moment ago, so that a coordinator can be started on it twice.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}
