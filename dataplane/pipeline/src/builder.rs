//! The seventh stage: turns drained candidates into a block's body.
//!
//! The body is four flat arrays written once as an rkyv archive into the block buffer. A block takes several polls, one
//! step each, so that a large one does not hold up the other stages of its thread.

use crate::block_buffer::{BlockBuffer, BlockRoom, Candidate};
use crate::clock::ClockPage;
use crate::latency::{LatencyRecorder, Since};
use crate::metrics::{Counters, StageMetrics};
use crate::poll::{PollContext, Progress, Stage};
use rkyv::ser::allocator::Arena;
use rkyv::ser::writer::Buffer;
use roko_ring::spsc::{Consumer, Producer};
use roko_wire::block::{Body, BodyBatch, BodyTx, chunk_leaf, tx_leaf};
use roko_wire::limits::{CHUNK_DATA_BYTES, STAMP_DEPTH_MAX};
use roko_wire::merkle::root_in_place;
use roko_wire::{Hash32, NanoMoment, ValidatorIndex};
use std::collections::HashMap;
use std::sync::Arc;

crate::counters!(
    /// Counters of [`Builder`].
    BuilderCounter {
        /// Blocks built.
        Built = "built",
        /// Blocks built again without some candidates.
        Rebuilt = "rebuilt",
        /// Transactions in all of them.
        Txs = "txs",
        /// Bytes of all bodies.
        BodyBytes = "body_bytes",
        /// Buffers given back.
        Released = "released",
        /// Candidates left out because their moment would not fit below the watermark or their window.
        LeftOut = "left_out",
        /// Bodies that did not fit their buffer and were delivered empty.
        Overflowed = "overflowed",
    }
);

/// What the control plane asks of the builder.
pub enum BuilderCommand {
    /// Builds again, without what [`BlockBuffer::exclude`] named.
    Rebuild(Box<BlockBuffer>),
    /// Gives the buffer back.
    Release(Box<BlockBuffer>),
}

/// The rings of [`Builder`].
pub struct BuilderLinks {
    /// Filled buffers from order.
    pub input: Consumer<Box<BlockBuffer>>,
    /// Commands of the control plane.
    pub commands: Consumer<BuilderCommand>,
    /// Built blocks to the control plane.
    pub built: Producer<Box<BlockBuffer>>,
    /// Free buffers to order.
    pub free_buffers: Producer<Box<BlockBuffer>>,
}

enum Step {
    Arrange,
    TxRoot,
    Chunks,
}

/// The stage.
pub struct Builder {
    links: BuilderLinks,
    current: Option<(Box<BlockBuffer>, Step)>,
    body: Body,
    batch_of_root: HashMap<[u8; 32], u32>,
    leaves: Vec<Hash32>,
    arena: Arena,
    ingress: ValidatorIndex,
    latency: LatencyRecorder,
    counters: Counters<BuilderCounter>,
}

/// Scratch memory of the serialiser; flat arrays of plain data need next to none.
const ARENA_BYTES: usize = 64 * 1024;

impl Builder {
    /// The stage of validator `ingress`, for blocks of at most `room`. Latencies are of what this node stamped: another
    /// node's stamp is another clock's.
    #[must_use]
    pub fn new(room: BlockRoom, ingress: ValidatorIndex, clock: ClockPage, links: BuilderLinks) -> Builder {
        let latency = LatencyRecorder::new(Since::Wire, clock);
        Builder {
            links,
            current: None,
            body: Body {
                batches: Vec::with_capacity(room.txs),
                txs: Vec::with_capacity(room.txs),
                paths: Vec::with_capacity(room.txs * STAMP_DEPTH_MAX),
                tx_bytes: Vec::with_capacity(room.body_bytes),
            },
            // Twice the room, so that it never grows.
            batch_of_root: HashMap::with_capacity(2 * room.txs),
            leaves: Vec::with_capacity(room.txs),
            arena: Arena::with_capacity(ARENA_BYTES),
            ingress,
            counters: Counters::timed("builder", &[&latency]),
            latency,
        }
    }

    /// Gives each candidate that stays its moment by the canonical rule and writes the body.
    fn arrange(&mut self, buffer: &mut BlockBuffer) {
        self.assign_moments(buffer);
        self.body.clear();
        self.batch_of_root.clear();
        for &(index, moment) in &buffer.included {
            let candidate = &buffer.candidates[index as usize];
            let batch = self.batch(candidate);
            let proof = &candidate.proof;
            let wire = buffer.wire(index as usize);
            self.body.txs.push(BodyTx {
                moment: moment.0,
                stamp_time: proof.stamp.time.0,
                bound_ns: proof.stamp.bound_ns,
                source: proof.stamp.source.to_byte(),
                leaf_index: proof.leaf_index,
                path_len: proof.path().len() as u8,
                batch,
                tx_len: wire.len() as u32,
            });
            self.body.paths.extend(proof.path().iter().map(|hash| hash.0));
            self.body.tx_bytes.extend_from_slice(wire);
        }
        let written = rkyv::api::low::to_bytes_in_with_alloc::<_, _, rkyv::rancor::Failure>(
            &self.body,
            Buffer::from(&mut buffer.body[..]),
            self.arena.acquire(),
        );
        match written {
            Ok(bytes) => buffer.body_len = bytes.len(),
            // The drain stops before this; should the archive's layout grow, the proposer loses a slot, not the node.
            Err(_) if !buffer.included.is_empty() => {
                self.counters.count(BuilderCounter::Overflowed);
                buffer.excluded.fill(true);
                self.arrange(buffer);
            }
            Err(_) => buffer.body_len = 0,
        }
    }

    fn assign_moments(&mut self, buffer: &mut BlockBuffer) {
        buffer.included.clear();
        buffer.gas = 0;
        let mut last = buffer.span.after;
        for index in 0..buffer.candidates.len() {
            if buffer.excluded[index] {
                continue;
            }
            let candidate = &buffer.candidates[index];
            let moment = last.saturating_add(1).max(candidate.time);
            if moment >= buffer.span.watermark || moment > candidate.valid_until {
                buffer.exclude(index);
                self.counters.count(BuilderCounter::LeftOut);
                continue;
            }
            last = moment;
            buffer.gas = buffer.gas.saturating_add(candidate.gas_limit);
            buffer.included.push((index as u32, moment));
        }
    }

    /// The candidate's batch in the body, added if it is the first of it.
    fn batch(&mut self, candidate: &Candidate) -> u32 {
        let root = &candidate.proof.root;
        let next = self.body.batches.len() as u32;
        let index = *self.batch_of_root.entry(root.root.0).or_insert(next);
        if index == next {
            self.body.batches.push(BodyBatch {
                ingress: root.ingress.0,
                leaves: root.leaves,
                root: root.root.0,
                signature: root.signature,
            });
        }
        index
    }

    fn tx_root(&mut self, buffer: &mut BlockBuffer) {
        self.leaves.clear();
        self.leaves.extend(buffer.included.iter().map(|(index, moment): &(u32, NanoMoment)| {
            let candidate = &buffer.candidates[*index as usize];
            tx_leaf(&candidate.id, *moment, &candidate.proof.stamp)
        }));
        buffer.tx_root = root_in_place(&mut self.leaves);
    }

    fn chunks(&mut self, buffer: &mut BlockBuffer) {
        let body = &buffer.body[..buffer.body_len];
        let leaves = body.chunks(CHUNK_DATA_BYTES).enumerate();
        buffer.chunks.rebuild(leaves.map(|(index, data)| chunk_leaf(index as u32, data)));
    }

    fn note_latencies(&mut self, buffer: &BlockBuffer) {
        for (index, _) in &buffer.included {
            let stamp = &buffer.candidates[*index as usize].proof.stamp;
            if stamp.ingress == self.ingress {
                self.latency.note(stamp.time);
            }
        }
        self.latency.settle();
    }

    /// Takes the next buffer to build, and gives released ones back. Returns how many commands were executed.
    fn next(&mut self) -> usize {
        let mut work = 0;
        while self.current.is_none() && self.links.free_buffers.free_slots() > 0 {
            match self.links.commands.pop() {
                Some(BuilderCommand::Rebuild(buffer)) => {
                    self.counters.count(BuilderCounter::Rebuilt);
                    self.current = Some((buffer, Step::Arrange));
                }
                Some(BuilderCommand::Release(buffer)) => {
                    let given = self.links.free_buffers.push(buffer);
                    debug_assert!(given.is_ok(), "the ring holds every buffer");
                    self.counters.count(BuilderCounter::Released);
                }
                None => break,
            }
            work += 1;
        }
        if self.current.is_none() {
            self.current = self.links.input.pop().map(|buffer| (buffer, Step::Arrange));
        }
        work
    }
}

impl Stage for Builder {
    fn name(&self) -> &'static str {
        "builder"
    }

    fn poll(&mut self, _cx: &mut PollContext) -> Progress {
        let work = self.next();
        let Some((mut buffer, step)) = self.current.take() else { return Progress::worked(work) };
        match step {
            Step::Arrange => {
                self.arrange(&mut buffer);
                self.current = Some((buffer, Step::TxRoot));
            }
            Step::TxRoot => {
                self.tx_root(&mut buffer);
                self.current = Some((buffer, Step::Chunks));
            }
            Step::Chunks => {
                self.chunks(&mut buffer);
                self.counters.count(BuilderCounter::Built);
                self.counters.add(BuilderCounter::Txs, buffer.included.len() as u64);
                self.counters.add(BuilderCounter::BodyBytes, buffer.body_len as u64);
                self.note_latencies(&buffer);
                let sent = self.links.built.push(buffer);
                debug_assert!(sent.is_ok(), "the ring holds every buffer");
            }
        }
        Progress::worked(work + 1)
    }

    fn housekeeping(&mut self, _cx: &mut PollContext) {
        self.latency.publish();
        self.counters.publish();
    }

    fn metrics(&self) -> Arc<StageMetrics> {
        self.counters.shared()
    }
}
