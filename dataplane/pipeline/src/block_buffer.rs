//! The memory of one block under construction. A few of them circulate: order fills in the candidates, builder writes
//! the body, control proposes it, and they come back. None is allocated or freed after start.

use crate::order::StampProof;
use roko_ring::mempool::{DrainReport, Drained, Limits, Span};
use roko_wire::block::{BodyBatch, BodyTx};
use roko_wire::merkle::Tree;
use roko_wire::{Address, Hash32, NanoMoment, TxId};

/// A transaction drained for a block.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its id.
    pub id: TxId,
    /// Its sender.
    pub sender: Address,
    /// The sender's nonce.
    pub nonce: u64,
    /// Its attested time.
    pub time: NanoMoment,
    /// What orders equal times.
    pub tie_break: u64,
    /// Most gas it uses.
    pub gas_limit: u64,
    /// Most it pays per gas.
    pub max_fee: u128,
    /// Last moment it may have.
    pub valid_until: NanoMoment,
    /// It follows its sender's previous nonce out of its own place.
    pub displaced: bool,
    /// Its stamp and the proof of it.
    pub proof: StampProof,
    wire_at: u32,
    wire_len: u32,
}

/// How much a block buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRoom {
    /// Most transactions.
    pub txs: usize,
    /// Most bytes of the body's archive.
    pub body_bytes: usize,
}

/// Bytes that an archived body may add to its arrays: the root object and the alignment of four arrays.
pub(crate) const BODY_SLACK_BYTES: usize = 64;

/// Bytes of a body for one transaction with a batch of its own.
#[must_use]
pub(crate) fn body_tx_bytes(wire: usize, path: usize) -> usize {
    wire + 32 * path + size_of::<rkyv::Archived<BodyTx>>() + size_of::<rkyv::Archived<BodyBatch>>()
}

/// One block under construction, and what came of it.
pub struct BlockBuffer {
    pub(crate) tag: u64,
    pub(crate) span: Span,
    pub(crate) report: DrainReport,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) wire: Vec<u8>,
    pub(crate) excluded: Vec<bool>,
    /// Indices of the candidates in the body, in chain order, with their moments.
    pub(crate) included: Vec<(u32, NanoMoment)>,
    pub(crate) body: Box<[u8]>,
    pub(crate) body_len: usize,
    pub(crate) tx_root: Hash32,
    pub(crate) chunks: Tree,
    pub(crate) gas: u64,
    /// Bytes the body takes at most with the candidates so far.
    body_bytes_most: usize,
}

impl BlockBuffer {
    /// A buffer with `room`, all allocated now.
    #[must_use]
    pub fn new(room: BlockRoom) -> Box<BlockBuffer> {
        let zero = NanoMoment::ZERO;
        Box::new(BlockBuffer {
            tag: 0,
            span: Span { from: zero, watermark: zero, after: zero },
            report: empty_report(),
            candidates: Vec::with_capacity(room.txs),
            wire: Vec::with_capacity(room.body_bytes),
            excluded: Vec::with_capacity(room.txs),
            included: Vec::with_capacity(room.txs),
            body: vec![0; room.body_bytes].into_boxed_slice(),
            body_len: 0,
            tx_root: Hash32::ZERO,
            chunks: Tree::with_capacity(roko_wire::block::chunk_count(room.body_bytes)),
            gas: 0,
            body_bytes_most: BODY_SLACK_BYTES,
        })
    }

    /// Empties the buffer for the block `tag`.
    pub(crate) fn reset(&mut self, tag: u64, span: Span) {
        (self.tag, self.span) = (tag, span);
        self.candidates.clear();
        self.wire.clear();
        self.excluded.clear();
        self.included.clear();
        self.body_len = 0;
        self.body_bytes_most = BODY_SLACK_BYTES;
    }

    /// The smaller of `limits` and what fits here.
    pub(crate) fn limits(&self, limits: Limits) -> Limits {
        Limits { txs: limits.txs.min(self.candidates.capacity()), ..limits }
    }

    /// Copies a drained transaction; false when the body could exceed its room.
    pub(crate) fn add(&mut self, drained: &Drained<'_, StampProof>) -> bool {
        let body_bytes = body_tx_bytes(drained.bytes.len(), drained.meta.path().len());
        if self.body_bytes_most + body_bytes > self.body.len() {
            return false;
        }
        self.body_bytes_most += body_bytes;
        self.candidates.push(Candidate {
            id: drained.id,
            sender: drained.sender,
            nonce: drained.nonce,
            time: drained.time,
            tie_break: drained.tie_break,
            gas_limit: drained.gas,
            max_fee: drained.fee,
            valid_until: drained.valid_until,
            displaced: drained.displaced,
            proof: *drained.meta,
            wire_at: self.wire.len() as u32,
            wire_len: drained.bytes.len() as u32,
        });
        self.wire.extend_from_slice(drained.bytes);
        self.excluded.push(false);
        true
    }

    /// The block's tag, as the drain's command gave it.
    #[must_use]
    pub fn tag(&self) -> u64 {
        self.tag
    }

    /// The part of the line that was drained.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// What the drain did. `reached` bounds the watermark of a block that ended early.
    #[must_use]
    pub fn report(&self) -> &DrainReport {
        &self.report
    }

    /// Everything that was drained, excluded or not, in canonical order.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The wire bytes of candidate `index`.
    #[must_use]
    pub fn wire(&self, index: usize) -> &[u8] {
        let candidate = &self.candidates[index];
        &self.wire[candidate.wire_at as usize..][..candidate.wire_len as usize]
    }

    /// Leaves candidate `index` out of the next build, and with it the later ones of its sender, whose nonces would not
    /// follow. Takes effect with [`BuilderCommand::Rebuild`](crate::builder::BuilderCommand::Rebuild). In the pool they
    /// stay in flight under the block's tag until the control plane sends
    /// [`OrderCommand::Return`](crate::order::OrderCommand::Return) or `Remove` for them.
    pub fn exclude(&mut self, index: usize) {
        let Some(excluded) = self.candidates.get(index).copied() else { return };
        for (at, candidate) in self.candidates.iter().enumerate().skip(index) {
            self.excluded[at] |= candidate.sender == excluded.sender;
        }
    }

    /// Whether candidate `index` is left out.
    #[must_use]
    pub fn is_excluded(&self, index: usize) -> bool {
        self.excluded.get(index).copied().unwrap_or(false)
    }

    /// The body's transactions in chain order: index among the candidates, and moment.
    #[must_use]
    pub fn included(&self) -> &[(u32, NanoMoment)] {
        &self.included
    }

    /// The body: an archive that [`roko_wire::block::BodyView::access`] reads.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body[..self.body_len]
    }

    /// Root over the transactions with their moments and stamps.
    #[must_use]
    pub fn tx_root(&self) -> Hash32 {
        self.tx_root
    }

    /// The tree over the body's chunks; its root is the header's chunk root.
    #[must_use]
    pub fn chunks(&self) -> &Tree {
        &self.chunks
    }

    /// Gas limits of the body's transactions together.
    #[must_use]
    pub fn gas(&self) -> u64 {
        self.gas
    }

    /// The last moment used; `span().after` when the body is empty.
    #[must_use]
    pub fn last_moment(&self) -> NanoMoment {
        self.included.last().map_or(self.span.after, |(_, moment)| *moment)
    }
}

pub(crate) const fn empty_report() -> DrainReport {
    DrainReport {
        txs: 0,
        bytes: 0,
        gas: 0,
        last_moment: NanoMoment::ZERO,
        reached: NanoMoment::ZERO,
        ended: roko_ring::mempool::Ended::Watermark,
        moved: 0,
        displaced: 0,
        held: 0,
        unfit: 0,
        skipped: 0,
    }
}
