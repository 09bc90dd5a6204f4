//! One peer's stream, from dialling it to its end: questions go in one at a time, answers come out.

use super::check::{Received, Signed, check_signatures};
use super::driver::Dialing;
use super::plan::Range;
use super::server::{ANSWER_BYTES_MAX, PIECE_BYTES};
use super::snapshot::anchor::ReceivedAnchor;
use super::snapshot::space::Question;
use super::stream::{Stream, read, send};
use crate::chain::Chain;
use roko_wire::snapshot::StateRange;
use roko_wire::sync::{SYNC_BYTES_MAX, SyncMessage};
use roko_wire::{Hash32, Height};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a peer may take for the next message of an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer at most: what ends one, a piece more, and the message that goes over it.
const ANSWER_TAKEN_MAX: usize = ANSWER_BYTES_MAX + PIECE_BYTES + SYNC_BYTES_MAX;

/// What a peer is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    Tip,
    Blocks(Range),
    Snapshot,
    /// Accounts of the snapshot at this height.
    Range(Height, Question),
}

/// What came of it.
pub(super) enum Answer {
    Connected(mpsc::Sender<Ask>),
    /// The first block that is there, and the last.
    Tip(Height, Height),
    Blocks(Vec<Signed>),
    /// `None` when it has none.
    Snapshot(Option<Box<ReceivedAnchor>>),
    /// What was asked, and `None` when it does not keep that height.
    Range(Height, Question, Option<StateRange>),
    Failed(io::Error),
}

/// Talks to one peer until nobody asks any more or the stream breaks.
pub(super) async fn converse(
    chain: Arc<Chain>,
    number: usize,
    dialing: Dialing,
    answers: mpsc::Sender<(usize, Answer)>,
) {
    let (asks, mut questions) = mpsc::channel(1);
    let talk = async {
        let mut stream = dialing.await?;
        let mut bytes = Vec::new();
        if answers.send((number, Answer::Connected(asks))).await.is_err() {
            return Ok(());
        }
        while let Some(question) = questions.recv().await {
            let answer = answer_of(&chain, &mut stream, question, &mut bytes).await?;
            if answers.send((number, answer)).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    if let Err(error) = talk.await {
        let _ = answers.send((number, Answer::Failed(error))).await;
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

async fn answer_of(
    chain: &Arc<Chain>,
    stream: &mut Box<dyn Stream>,
    question: Ask,
    bytes: &mut Vec<u8>,
) -> io::Result<Answer> {
    let message = match question {
        Ask::Tip => SyncMessage::GetTip,
        Ask::Blocks(range) => SyncMessage::GetBlocks { from: Height(range.from), count: range.count as u16 },
        Ask::Snapshot => SyncMessage::GetSnapshot,
        Ask::Range(height, Question { from, depth }) => {
            SyncMessage::GetRange { height, from: Hash32(from), depth }
        }
    };
    send(stream, &message, PATIENCE).await?;
    let (mut blocks, mut taken) = (Vec::new(), 0);
    loop {
        if !read(stream, bytes, PATIENCE).await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        taken += bytes.len();
        if taken > ANSWER_TAKEN_MAX {
            return Err(wrong("its answer is longer than any may be"));
        }
        let message = SyncMessage::read(bytes).map_err(|error| wrong(&error.to_string()))?;
        match (question, message) {
            (Ask::Tip, SyncMessage::Tip { height, first, .. }) => return Ok(Answer::Tip(first, height)),
            (Ask::Blocks(range), SyncMessage::Block(block)) if (blocks.len() as u64) < range.count => {
                let (header, seals, body) = (block.header, block.seals, block.body.to_vec());
                blocks.push(Received { header, seals, body });
            }
            (Ask::Blocks(_), SyncMessage::End) => {
                let chain = Arc::clone(chain);
                let checked = tokio::task::spawn_blocking(move || check_signatures(&chain, blocks));
                return checked.await.map(Answer::Blocks).map_err(io::Error::other);
            }
            (Ask::Snapshot, SyncMessage::Snapshot(anchor)) => {
                return Ok(Answer::Snapshot(Some(Box::new(ReceivedAnchor::of(anchor)))));
            }
            (Ask::Snapshot, SyncMessage::End) => return Ok(Answer::Snapshot(None)),
            (Ask::Range(height, asked), SyncMessage::Range(range)) => {
                return Ok(Answer::Range(height, asked, Some(range)));
            }
            (Ask::Range(height, asked), SyncMessage::End) => {
                return Ok(Answer::Range(height, asked, None));
            }
            _ => return Err(wrong("it answers what was not asked")),
        }
    }
}
