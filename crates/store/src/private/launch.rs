//! Starting child processes that see none of our environment and do not outlive us.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::account::Account;

/// A command to start and where to send the child.
type Request = (Command, SyncSender<io::Result<Child>>);

/// Feeds the thread that starts all children.
///
/// The kernel sends the parent-death signal when the *thread* that started the child ends, so
/// children are started by one thread that lives as long as the process.
static STARTER: LazyLock<Sender<Request>> = LazyLock::new(|| {
    let (sender, requests): (Sender<Request>, Receiver<Request>) = channel();
    thread::Builder::new()
        .name("postgres-starter".to_owned())
        .spawn(move || {
            for (mut command, reply) in requests {
                // The caller waits for this answer without a limit, so sending cannot fail.
                let _ = reply.send(command.spawn());
            }
        })
        .expect("a process that cannot start a thread cannot run a database");
    sender
});

/// Runs `command` as `account` in `folder`, without input, and with nothing of our environment:
/// locale and PG* variables of the user must reach neither `initdb` nor the server.
pub(super) fn isolate(command: &mut Command, account: &Account, folder: &Path) {
    command
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .current_dir(folder)
        .stdin(Stdio::null());
    account.apply(command);
}

/// Starts `command` so that it gets `signal` when this process ends, however it ends.
pub(super) fn spawn_bound(mut command: Command, signal: Signal) -> io::Result<Child> {
    let parent = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl and getppid.
    // std runs this after setuid, which would have cleared the parent-death signal.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(signal))?;
            let still_ours = getppid().is_some_and(|pid| pid.as_raw_nonzero().get() as u32 == parent);
            if still_ours { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
        });
    }
    let (reply, child) = sync_channel(1);
    STARTER.send((command, reply)).expect("the starter thread lives as long as the process");
    child.recv().expect("the starter thread answers every request")
}
