//! The answering end: final blocks out of the store.

use super::stream::{Stream, frame, read, send, send_bytes};
use roko_state::Reader;
use roko_state::storage::Storage;
use roko_wire::block::Header;
use roko_wire::codec::Reader as Fields;
use roko_wire::sync::{SyncMessage, write_stored_block};
use roko_wire::{Height, View};
use std::io;
use std::time::Duration;

/// How long an asker may be silent between questions, and may let an answer wait.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes read from the store before they are sent.
pub(super) const PIECE_BYTES: usize = 1 << 20;
/// An answer ends when it has this many bytes: the asker asks on from there.
pub(super) const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Answers questions until the asker closes the stream.
///
/// # Errors
/// When the stream breaks, the asker breaks the protocol, or the store cannot be read.
pub async fn serve<S: Storage>(mut stream: impl Stream, store: Reader<S>) -> io::Result<()> {
    let mut question = Vec::new();
    while read(&mut stream, &mut question, PATIENCE).await? {
        match SyncMessage::read(&question).map_err(broken)? {
            SyncMessage::GetTip => {
                let store = store.clone();
                let (height, view, block) = blocking(move || tip(&store)).await?;
                send(&mut stream, &SyncMessage::Tip { height, view, block }, PATIENCE).await?;
            }
            SyncMessage::GetBlocks { from, count } => {
                let (mut next, mut sent) = (from.0, 0);
                let end = from.0.saturating_add(u64::from(count));
                while next < end && sent < ANSWER_BYTES_MAX {
                    let store = store.clone();
                    let (piece, reached) = blocking(move || blocks(&store, next, end)).await?;
                    if reached == next {
                        break;
                    }
                    send_bytes(&mut stream, &piece, PATIENCE).await?;
                    (next, sent) = (reached, sent + piece.len());
                }
                send(&mut stream, &SyncMessage::End, PATIENCE).await?;
            }
            _ => return Err(broken("an answer came as a question")),
        }
    }
    Ok(())
}

fn broken(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn tip<S: Storage>(store: &Reader<S>) -> io::Result<(Height, View, roko_wire::BlockId)> {
    let last = store.snapshot().last;
    let view = match store.block(last.height).map_err(io::Error::other)? {
        Some(record) => Header::read(&mut Fields::new(&record.header)).map_err(io::Error::other)?.view,
        None => View(0),
    };
    Ok((last.height, view, last.block_id))
}

/// Messages of blocks from `next` on, as many as make a piece, and the height after the last of them.
fn blocks<S: Storage>(store: &Reader<S>, mut next: u64, end: u64) -> io::Result<(Vec<u8>, u64)> {
    let mut piece = Vec::new();
    while next < end && piece.len() < PIECE_BYTES {
        let Some(block) = store.block(Height(next)).map_err(io::Error::other)? else { break };
        frame(&mut piece, |out| write_stored_block(&block.header, &block.certificates, &block.body, out));
        next += 1;
    }
    Ok((piece, next))
}
