//! One process of a farm: started, killed, stopped, and started again when it ends although it is wanted.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

/// Pause before a process that ended by itself is started again.
const PAUSE: Duration = Duration::from_millis(200);

/// See the module's documentation.
pub struct Process {
    name: String,
    make: Box<dyn Fn() -> Command>,
    log: PathBuf,
    child: Option<Child>,
    wanted: bool,
    clock: Option<(PathBuf, i64)>,
    ended: Option<Instant>,
    /// How often it ended by itself although it was wanted.
    pub ended_by_itself: u64,
}

impl Process {
    /// A process that is not started yet; what it says goes to `log`.
    pub fn new(name: &str, log: PathBuf, make: impl Fn() -> Command + 'static) -> Self {
        Self {
            name: name.to_owned(),
            make: Box::new(make),
            log,
            child: None,
            wanted: false,
            clock: None,
            ended: None,
            ended_by_itself: 0,
        }
    }

    /// Starts it, unless it runs.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn start(&mut self) -> Result<()> {
        self.wanted = true;
        if self.child.is_some() {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut command = (self.make)();
        if let Some((library, seconds)) = &self.clock {
            // Only what tells the time of day is off: durations stay right, as on a machine with a wrong clock.
            command.env("LD_PRELOAD", library).env("FAKETIME", format!("{seconds:+}"));
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        self.child = Some(command.spawn().with_context(|| format!("cannot start {}", self.name))?);
        Ok(())
    }

    /// From the next start on its clock is `seconds` off, by libfaketime in `library`.
    pub fn skew(&mut self, library: PathBuf, seconds: i64) {
        self.clock = Some((library, seconds));
    }

    /// SIGKILL, and wait; false if it does not run.
    pub fn kill(&mut self) -> bool {
        self.wanted = false;
        let Some(mut child) = self.child.take() else { return false };
        let killed = matches!(child.try_wait(), Ok(None)) && child.kill().is_ok();
        // It is gone in any case.
        let _ = child.wait();
        killed
    }

    /// Sends a signal; false if it does not run.
    pub fn signal(&mut self, signal: Signal) -> bool {
        let Some(child) = &mut self.child else { return false };
        matches!(child.try_wait(), Ok(None)) && kill_process(Pid::from_child(child), signal).is_ok()
    }

    /// Asks it to end with `signal`, and kills it when it does not; false if it had to be killed.
    pub fn end(&mut self, signal: Signal, patience: Duration) -> bool {
        let start = Instant::now();
        self.wanted = false;
        self.signal(Signal::CONT);
        self.signal(signal);
        while start.elapsed() < patience {
            if !self.runs() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
        false
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => true,
            _ => {
                self.child = None;
                false
            }
        }
    }

    /// Starts it again if it ended although it is wanted.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn tend(&mut self) -> Result<()> {
        if !self.wanted || self.runs() {
            self.ended = None;
            return Ok(());
        }
        let ended = *self.ended.get_or_insert_with(|| {
            self.ended_by_itself += 1;
            Instant::now()
        });
        if ended.elapsed() < PAUSE {
            return Ok(());
        }
        self.ended = None;
        self.start()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
