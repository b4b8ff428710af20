//! A Redis server for one run of the tests: on a Unix socket, with nothing on disk.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;

use crate::process::{Scratch, find_program, spawn_bound};

/// The variable that tells tests where a Redis server is.
pub const TEST_URL: &str = "SEEDFARM_TEST_REDIS_URL";

/// How long a start may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A running server; dropping it ends it and removes its folder.
pub struct Server {
    child: Child,
    socket: PathBuf,
    _folder: Scratch,
}

impl Server {
    /// Starts `redis-server` and waits until it answers.
    ///
    /// # Errors
    /// If it is not installed or does not start.
    pub fn start() -> anyhow::Result<Self> {
        let program = find_program("redis-server").context("redis-server is not on PATH")?;
        let folder = Scratch::create("redis")?;
        let socket = folder.path().join("redis.sock");
        let mut command = Command::new(program);
        command
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .arg("--unixsocket")
            .arg(&socket)
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null());
        let child = spawn_bound(&mut command, Signal::TERM).context("cannot run redis-server")?;
        let mut server = Self { child, socket, _folder: folder };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// The address that Redis clients take.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("redis-server ended: {status}");
            }
            if self.answers() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("redis-server did not answer within {} s", LIMIT.as_secs())
    }

    fn answers(&self) -> bool {
        let mut answer = [0; 7];
        UnixStream::connect(&self.socket)
            .and_then(|mut stream| {
                stream.set_read_timeout(Some(Duration::from_secs(1)))?;
                stream.write_all(b"PING\r\n")?;
                stream.read_exact(&mut answer)
            })
            .is_ok()
            && &answer == b"+PONG\r\n"
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing in it is worth keeping, and it may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
