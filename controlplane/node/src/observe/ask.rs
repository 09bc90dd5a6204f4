//! Asks a node's `/status` over HTTP, as `roko top` and the watcher of a devnet's processes do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a connection and each part of an answer may take.
pub const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// The path that asks for the status with the ids of final blocks from height `blocks_from` on, and with an audit or not.
#[must_use]
pub fn status_path(blocks_from: u64, audit: bool) -> String {
    format!("/status?blocks_from={blocks_from}&audit={}", u8::from(audit))
}

/// The body of an answer of 200 to `GET target`.
///
/// # Errors
/// When nobody listens there, the answer does not come in [`ANSWER_MAX`], or it is another one.
pub fn get(address: SocketAddr, target: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => {
            let first: String = answer.lines().next().unwrap_or_default().chars().take(80).collect();
            Err(std::io::Error::other(format!("no answer of 200, but \"{first}\"")))
        }
    }
}
