//! The smallest HTTP client: one request, one answer, no library.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers as they came.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// Sends a request to loopback, with `headers` as lines without their ends; HTTP/1.0, so that the answer
/// ends with the connection.
///
/// # Panics
/// If nobody answers.
pub fn request(port: u16, method: &str, path: &str, headers: &[String], body: impl AsRef<[u8]>) -> Answer {
    let body = body.as_ref();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the gateway listens");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout can be set");
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n{lines}\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).expect("the request is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the answer ends");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer has a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("an answer has a status");
    Answer { status, head, body: answer[end + 4..].to_vec() }
}
