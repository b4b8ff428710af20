//! Something between a worker and its coordinator that counts what comes down, and can hold it back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// A proxy on loopback. Its threads end with the connections, or with the test's process.
pub struct Proxy {
    address: SocketAddr,
    gate: Arc<Gate>,
}

/// How many bytes have come down, and how many may.
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    passed: u64,
    most: u64,
}

impl Proxy {
    /// A proxy for the server on `port` of loopback that lets `most` bytes come down.
    ///
    /// # Panics
    /// If loopback has no free port.
    pub fn start(port: u16, most: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let gate = Arc::new(Gate { state: Mutex::new(State { passed: 0, most }), changed: Condvar::new() });
        let shared = Arc::clone(&gate);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                connect(near, far, &shared);
            }
        });
        Self { address, gate }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bytes that have come down so far.
    pub fn passed(&self) -> u64 {
        self.gate.lock().passed
    }

    /// Lets everything through from now on.
    pub fn open(&self) {
        self.gate.lock().most = u64::MAX;
        self.gate.changed.notify_all();
    }
}

impl Gate {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `bytes` may come down, and counts them.
    fn pass(&self, bytes: u64) {
        let full = |state: &mut State| state.passed + bytes > state.most;
        let mut state = self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        state.passed += bytes;
    }
}

fn connect(near: TcpStream, far: TcpStream, gate: &Arc<Gate>) {
    let (Ok(near_in), Ok(far_in)) = (near.try_clone(), far.try_clone()) else { return };
    let gate = Arc::clone(gate);
    thread::spawn(move || copy(near_in, far, |_| {}));
    thread::spawn(move || copy(far_in, near, |bytes| gate.pass(bytes)));
}

/// Copies until either side is gone, and then closes both.
fn copy(mut from: TcpStream, mut to: TcpStream, pass: impl Fn(u64)) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        pass(length as u64);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // A side that is closed already is what this is for.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
