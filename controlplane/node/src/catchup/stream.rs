//! Sync messages on a byte stream: a length, then the message.

use roko_wire::sync::{LENGTH_BYTES, SYNC_BYTES_MAX, SyncMessage};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// A stream to or from a member.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// Reads one message's bytes into `buffer`; false when the other end has closed the stream between two messages.
///
/// # Errors
/// When the stream breaks, a message is longer than any can be, or nothing comes for `patience`.
pub async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    patience: Duration,
) -> io::Result<bool> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "nothing came for too long");
    let mut length = [0; LENGTH_BYTES];
    match timeout(patience, stream.read_exact(&mut length)).await.map_err(late)? {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > SYNC_BYTES_MAX {
        let text = format!("a message of {length} bytes, above the limit of {SYNC_BYTES_MAX}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    // What is announced is not believed: room is made as bytes come.
    buffer.clear();
    let mut body = stream.take(length as u64);
    while buffer.len() < length {
        if timeout(patience, body.read_buf(buffer)).await.map_err(late)?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(true)
}

/// Appends a message with its length to `out`; `write` appends the message.
pub fn frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    write(out);
    let length = (out.len() - at - LENGTH_BYTES) as u32;
    out[at..at + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
}

/// Sends one message.
///
/// # Errors
/// When the stream breaks or does not take it for `patience`.
pub async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &SyncMessage<'_>,
    patience: Duration,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    frame(&mut bytes, |out| message.write(out));
    send_bytes(stream, &bytes, patience).await
}

/// Sends framed messages.
///
/// # Errors
/// See [`send`].
pub async fn send_bytes(
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    patience: Duration,
) -> io::Result<()> {
    let sending = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the other end takes nothing");
    timeout(patience, sending).await.map_err(late)?
}
