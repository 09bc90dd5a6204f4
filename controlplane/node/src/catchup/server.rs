//! The answering end: final blocks out of the store, and states that it keeps for new nodes. An asker has one question
//! under way, and an answer has a bounded size; nothing here stops the store.

use super::stream::{Stream, frame, read, send, send_bytes};
use crate::observe::Observer;
use crate::replica::read_seals;
use roko_state::storage::Storage;
use roko_state::{BlockRecord, Reader};
use roko_wire::block::Header;
use roko_wire::codec::Reader as Fields;
use roko_wire::limits::{RANGE_ACCOUNTS_MAX, SNAPSHOT_HEADERS_MAX};
use roko_wire::snapshot::Anchor;
use roko_wire::sync::{SyncMessage, write_stored_block};
use roko_wire::vote::{Certificate, CertificateKind};
use roko_wire::{BlockId, Height, View};
use std::io;
use std::sync::Arc;
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
pub async fn serve<S: Storage>(
    mut stream: impl Stream,
    store: Reader<S>,
    observer: Arc<Observer>,
) -> io::Result<()> {
    let mut question = Vec::new();
    while read(&mut stream, &mut question, PATIENCE).await? {
        match SyncMessage::read(&question).map_err(broken)? {
            SyncMessage::GetTip => {
                let store = store.clone();
                let tip = blocking(move || tip(&store)).await?;
                send(&mut stream, &tip, PATIENCE).await?;
            }
            SyncMessage::GetSnapshot => {
                let store = store.clone();
                let answer = blocking(move || snapshot(&store)).await?;
                send_bytes(&mut stream, &answer, PATIENCE).await?;
            }
            SyncMessage::GetRange { height, from, depth } => {
                let Some(pinned) = store.pin(height) else {
                    observer.counters.snapshots_gone.add(1);
                    send(&mut stream, &SyncMessage::End, PATIENCE).await?;
                    continue;
                };
                let range = move || Ok(pinned.tree.range(&from.0, usize::from(depth), RANGE_ACCOUNTS_MAX));
                let range = blocking(range).await?;
                observer.counters.ranges_served.add(1);
                send(&mut stream, &SyncMessage::Range(range), PATIENCE).await?;
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

fn tip<S: Storage>(store: &Reader<S>) -> io::Result<SyncMessage<'static>> {
    let (last, first) = (store.snapshot().last, store.first());
    let view = header_at(store, last.height)?.map_or(View(0), |(header, _)| header.view);
    Ok(SyncMessage::Tip { height: last.height, view, block: last.block_id, first })
}

/// A block's header and its seals; what the store begins from has them too.
fn header_at<S: Storage>(store: &Reader<S>, height: Height) -> io::Result<Option<(Header, BlockRecord)>> {
    let record = match store.anchor().filter(|anchor| anchor.height == height) {
        Some(anchor) => Some(anchor.clone()),
        None => store.block(height).map_err(io::Error::other)?,
    };
    let Some(record) = record else { return Ok(None) };
    let header = Header::read(&mut Fields::new(&record.header)).map_err(io::Error::other)?;
    Ok(Some((header, record)))
}

/// The newest state that is kept, with the headers up to one that is proven final; else an end.
fn snapshot<S: Storage>(store: &Reader<S>) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    match anchor(store)? {
        Some((anchor, receipts)) => {
            let message = SyncMessage::Snapshot(Anchor { receipts: &receipts, ..anchor });
            frame(&mut answer, |out| message.write(out));
        }
        None => frame(&mut answer, |out| SyncMessage::End.write(out)),
    }
    Ok(answer)
}

fn anchor<S: Storage>(store: &Reader<S>) -> io::Result<Option<(Anchor<'static>, Vec<u8>)>> {
    let Some(pinned) = store.newest_pin() else { return Ok(None) };
    let Some((header, first)) = header_at(store, pinned.last.height)? else { return Ok(None) };
    let seals = read_seals(&first.certificates).map_err(io::Error::other)?;
    let mut headers = vec![header];
    while headers.len() < SNAPSHOT_HEADERS_MAX {
        let height = Height(pinned.last.height.0 + headers.len() as u64);
        let Some((header, record)) = header_at(store, height)? else { break };
        let (id, view) = (header.id(), header.view);
        let proof = read_seals(&record.certificates).map_err(io::Error::other)?.proof;
        headers.push(header);
        if commits_to(&proof, id, view) {
            return Ok(Some((Anchor { headers, seals, proof, receipts: &[] }, first.receipts)));
        }
    }
    // Its child is not final here yet: a moment later it is.
    Ok(None)
}

/// Whether these are the certificates of a commit, which the store holds verified.
fn commits_to(proof: &[Certificate], id: BlockId, view: View) -> bool {
    let commit = [CertificateKind::CommitFast(id), CertificateKind::CommitSlow(id)];
    proof.iter().any(|certificate| certificate.view == view && commit.contains(&certificate.kind))
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
