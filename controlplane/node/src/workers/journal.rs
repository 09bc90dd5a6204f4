//! The journal: what must be on disk before a vote or a proposal leaves the node.
//!
//! A validator writes its own ballots here, and with the first ballot for a block the block itself: when all validators
//! lose power at once, a block that was voted for must still be somewhere, or the chain could never go on from it. The
//! journal is the vote log's preallocated circle; everything that waits when a sync ends goes into the next one.

use crate::wake::Waker;
use crossbeam::channel::{Receiver, Sender, bounded};
use roko_consensus::recovery::Record;
use roko_state::storage::Storage;
use roko_state::vote_log::{VoteLog, VoteLogError};
use roko_wire::chunk::Propose;
use roko_wire::codec::{DecodeError, Reader, Sink};
use roko_wire::{BlockId, View};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

const KIND_PROPOSE: u8 = 3;
const KIND_PIECE: u8 = 4;
/// Body bytes of one record: with its header it stays below the log's record limit.
const PIECE_BYTES: usize = 1_920;
/// Batches that may wait; the control thread keeps the rest.
const QUEUE: usize = 256;

/// What one batch makes durable.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Given back when the batch is durable.
    pub id: u64,
    /// The view that the records are about: they are freed when it is final.
    pub view: View,
    /// The records.
    pub records: Vec<Vec<u8>>,
}

/// What the journal's thread reports.
#[derive(Debug)]
pub enum JournalDone {
    /// These batches are on disk.
    Durable(Vec<u64>),
    /// The journal takes nothing more: the node must not vote.
    Failed(VoteLogError),
}

/// The records of a block: its proposal, then its body in pieces.
#[must_use]
pub fn block_records(propose: &Propose, block: &BlockId, body: &[u8]) -> Vec<Vec<u8>> {
    let mut first = vec![KIND_PROPOSE];
    propose.write(&mut first);
    let pieces = body.chunks(PIECE_BYTES).enumerate().map(|(index, data)| {
        let mut piece = Vec::with_capacity(1 + 32 + 4 + data.len());
        piece.put_u8(KIND_PIECE);
        piece.put(&block.0);
        piece.put_u32(index as u32);
        piece.put(data);
        piece
    });
    std::iter::once(first).chain(pieces).collect()
}

/// What a journal holds when a node starts.
#[derive(Debug, Default)]
pub struct Journaled {
    /// Own ballots and proposals.
    pub records: Vec<Record>,
    /// Blocks that were voted for or proposed, with their whole bodies.
    pub blocks: Vec<(Propose, Vec<u8>)>,
    /// The view of each record, in order.
    pub views: Vec<View>,
}

/// Reads the records of a journal. A block whose body is not whole was not voted for, and is left out.
pub fn read(records: &[Vec<u8>]) -> Result<Journaled, DecodeError> {
    let mut out = Journaled::default();
    let mut proposes: Vec<(BlockId, Propose)> = Vec::new();
    let mut pieces: HashMap<BlockId, Vec<(u32, Vec<u8>)>> = HashMap::new();
    for record in records {
        let mut reader = Reader::new(record);
        match record.first() {
            Some(&KIND_PROPOSE) => {
                reader.u8("record kind")?;
                let propose = Propose::read(&mut reader)?;
                out.views.push(propose.header.view);
                proposes.push((propose.header.id(), propose));
            }
            Some(&KIND_PIECE) => {
                reader.u8("record kind")?;
                let block = BlockId(reader.array("piece block")?);
                let index = reader.u32("piece index")?;
                let of = |(id, propose): &(BlockId, Propose)| (*id == block).then_some(propose.header.view);
                out.views.push(proposes.iter().rev().find_map(of).unwrap_or_default());
                pieces.entry(block).or_default().push((index, reader.rest().to_vec()));
            }
            _ => {
                let record = Record::read(&mut reader)?;
                out.views.push(record.view());
                out.records.push(record);
            }
        }
    }
    for (block, propose) in proposes {
        let mut parts = pieces.remove(&block).unwrap_or_default();
        parts.sort_unstable_by_key(|(index, _)| *index);
        parts.dedup_by_key(|(index, _)| *index);
        let body: Vec<u8> = parts.into_iter().flat_map(|(_, data)| data).collect();
        if crate::replica::assembly::body_matches(&propose.header, &body) {
            out.blocks.push((propose, body));
        }
    }
    Ok(out)
}

enum Job {
    Append(Batch),
    Prune(View),
}

/// The control thread's ends of the journal. Dropping it ends the thread.
pub struct Journal {
    jobs: Sender<Job>,
    done: Receiver<JournalDone>,
    waiting: VecDeque<Batch>,
}

impl Journal {
    /// Starts the journal's thread; `recovered` gives the sequence and view of each record that is in the log.
    /// `start` is called first on the thread, to name and pin it.
    pub fn spawn<S: Storage>(
        log: VoteLog<S>,
        recovered: VecDeque<(u64, View)>,
        waker: Arc<Waker>,
        start: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Journal> {
        let (jobs, jobs_in) = bounded(QUEUE);
        let (done_out, done) = bounded(QUEUE);
        std::thread::Builder::new().name("journal".into()).spawn(move || {
            start();
            run(log, recovered, &jobs_in, &done_out, &waker);
        })?;
        Ok(Journal { jobs, done, waiting: VecDeque::new() })
    }

    /// Queues a batch. Never lost: what the thread cannot take yet waits here.
    pub fn append(&mut self, batch: Batch) {
        self.waiting.push_back(batch);
        self.flush();
    }

    /// Says that records of views up to `view` are not needed any more.
    pub fn prune(&mut self, view: View) {
        // When the queue is full, a later call says the same and more.
        let _ = self.jobs.try_send(Job::Prune(view));
    }

    fn flush(&mut self) {
        while let Some(batch) = self.waiting.pop_front() {
            if let Err(refused) = self.jobs.try_send(Job::Append(batch)) {
                if let Job::Append(batch) = refused.into_inner() {
                    self.waiting.push_front(batch);
                }
                return;
            }
        }
    }

    /// The next report.
    pub fn poll(&mut self) -> Option<JournalDone> {
        self.flush();
        self.done.try_recv().ok()
    }
}

/// `live` says which sequences are still needed and of what view they are.
fn run<S: Storage>(
    mut log: VoteLog<S>,
    mut live: VecDeque<(u64, View)>,
    jobs: &Receiver<Job>,
    done: &Sender<JournalDone>,
    waker: &Waker,
) {
    let mut batches = VecDeque::new();
    while let Ok(first) = jobs.recv() {
        for job in std::iter::once(first).chain(jobs.try_iter()) {
            match job {
                Job::Append(batch) => batches.push_back(batch),
                Job::Prune(view) => {
                    live.retain(|(_, of)| *of > view);
                    let below = live.iter().map(|(sequence, _)| *sequence).min();
                    log.prune_below(below.unwrap_or_else(|| log.next_sequence()));
                }
            }
        }
        let mut durable = Vec::new();
        let written = write(&mut log, &mut live, &mut batches, &mut durable);
        if !durable.is_empty() && done.send(JournalDone::Durable(durable)).is_err() {
            return;
        }
        match written {
            // What is needed fills the log until the store has more blocks on disk: the batches wait, and no vote of
            // theirs goes out meanwhile.
            Err(VoteLogError::Full { .. }) if !live.is_empty() => {}
            Err(error) => {
                batches.clear();
                if done.send(JournalDone::Failed(error)).is_err() {
                    return;
                }
            }
            Ok(()) => {}
        }
        waker.wake();
    }
}

/// Writes what waits with one sync, or batch by batch when all of it does not fit at once. What is written leaves
/// `batches` for `durable`.
fn write<S: Storage>(
    log: &mut VoteLog<S>,
    live: &mut VecDeque<(u64, View)>,
    batches: &mut VecDeque<Batch>,
    durable: &mut Vec<u64>,
) -> Result<(), VoteLogError> {
    let mut together = batches.len();
    while !batches.is_empty() {
        let records: Vec<&[u8]> =
            batches.iter().take(together).flat_map(|batch| &batch.records).map(Vec::as_slice).collect();
        let mut sequence = match log.append_batch(&records) {
            Ok(first) => first,
            Err(VoteLogError::Full { .. }) if together > 1 => {
                together = 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        for batch in batches.drain(..together) {
            live.push_back((sequence, batch.view));
            sequence += batch.records.len() as u64;
            durable.push(batch.id);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
