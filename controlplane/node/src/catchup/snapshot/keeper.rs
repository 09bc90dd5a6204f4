//! The thread that proves ranges and puts them on disk, several with one sync.

use super::space::Question;
use crossbeam::channel::Receiver;
use roko_state::storage::Storage;
use roko_state::{ProvenRange, RangeError, SnapshotBuilder, StateError, range};
use roko_wire::snapshot::StateRange;
use tokio::sync::mpsc;

/// Ranges of one sync at most: eight megabytes.
const BATCH_MAX: usize = 16;

/// What a peer sent, and what it was asked.
pub(super) struct Arrived {
    pub(super) peer: usize,
    /// The question's number.
    pub(super) asked: usize,
    pub(super) question: Question,
    pub(super) range: StateRange,
}

/// What the thread says.
pub(super) enum Kept<S: Storage> {
    /// A peer's answer holds and covers a subtree of this depth.
    Proven { peer: usize, asked: usize, depth: u16 },
    /// It does not.
    Wrong { peer: usize, asked: usize, error: RangeError },
    /// So much is on disk.
    Durable { accounts: u64, bytes: u64 },
    /// Nobody asks any more: here is what was kept.
    Ended(Box<SnapshotBuilder<S>>),
    /// The disk failed.
    Failed(StateError),
}

/// Takes what arrived until the other end is gone.
pub(super) fn run<S: Storage>(
    mut builder: SnapshotBuilder<S>,
    arrived: &Receiver<Arrived>,
    said: &mpsc::UnboundedSender<Kept<S>>,
) {
    let root = builder.anchor().expected_root;
    let mut proven: Vec<ProvenRange> = Vec::with_capacity(BATCH_MAX);
    while let Ok(first) = arrived.recv() {
        proven.clear();
        for Arrived { peer, asked, question, range } in
            std::iter::once(first).chain(arrived.try_iter()).take(BATCH_MAX)
        {
            let kept = match range::prove(range, &root, &question.from) {
                Ok(range) => {
                    let depth = range.depth;
                    proven.push(range);
                    Kept::Proven { peer, asked, depth }
                }
                Err(error) => Kept::Wrong { peer, asked, error },
            };
            // Who does not listen has ended the fetch.
            let _ = said.send(kept);
        }
        if let Err(error) = builder.keep(&proven) {
            let _ = said.send(Kept::Failed(error));
            return;
        }
        let _ = said.send(Kept::Durable { accounts: builder.accounts(), bytes: builder.bytes() });
    }
    let _ = said.send(Kept::Ended(Box::new(builder)));
}
