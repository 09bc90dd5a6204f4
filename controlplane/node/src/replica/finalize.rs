//! Finality: blocks go to the store, their transactions leave the mempool, and whoever asked is told.

use super::blocks::{Block, BodyState, Outcome};
use super::catchup::FetchedBlock;
use super::plane::{Plane, PoolCommand};
use super::{Replica, encode_receipts};
use crate::workers::store::WAITING_MAX;
use roko_consensus::FinalizedBlock;
use roko_pipeline::spread::SpreadBlock;
use roko_state::{BlockRecord, CommitBlock};
use roko_wire::block::Header;
use roko_wire::codec::{DecodeError, Reader};
use roko_wire::sync::{Seals, Signature};
use roko_wire::vote::Certificate;
use roko_wire::{BlockId, Height, View};
use std::sync::Arc;

/// A block on its way to the disk, with what is told when it is there.
pub(super) struct Committing {
    pub(super) height: Height,
    pub(super) header: Header,
    pub(super) outcome: Arc<Outcome>,
}

/// The seals of a stored block.
pub(crate) fn read_seals(bytes: &[u8]) -> Result<Seals, DecodeError> {
    let mut reader = Reader::new(bytes);
    let seals = Seals::read(&mut reader)?;
    reader.finish()?;
    Ok(seals)
}

/// Final blocks by their ids, for peers that lack them.
pub trait CommittedBlocks: Send {
    /// The block's record; `None` when it is not here or cannot be read.
    fn record(&self, id: &BlockId) -> Option<BlockRecord>;
}

impl<S: roko_state::storage::Storage> CommittedBlocks for roko_state::Reader<S> {
    fn record(&self, id: &BlockId) -> Option<BlockRecord> {
        self.block(self.height_of(id)?).ok().flatten()
    }
}

impl<P: Plane> Replica<P> {
    pub(super) fn finalize(&mut self, finalized: &[FinalizedBlock], proof: &[Certificate]) {
        let now = self.now();
        let mut justifications: Vec<Vec<Certificate>> = finalized
            .iter()
            .filter_map(|f| self.blocks.get(&f.block))
            .map(|b| b.certificates.clone())
            .collect();
        justifications.push(proof.to_vec());
        let mut last_view = View(0);
        for (place, one) in finalized.iter().enumerate() {
            let Some((block, outcome)) = self.blocks.finalize(&one.block) else {
                // The machine makes final only what was found valid here.
                self.stop(format!("block {} is final but was never executed here", one.block));
                return;
            };
            last_view = one.view;
            let proof = &justifications[place + 1];
            self.plane.pool(PoolCommand::Finalize { tag: block.tag });
            for tx in &outcome.txs {
                if self.seen.forget(&tx.id) {
                    continue;
                }
                let valid_until = outcome.time.saturating_add(self.chain.rules.tx.window_ns_max);
                self.plane.pool(PoolCommand::FinalizeId { id: tx.id, valid_until });
            }
            self.observer.note_final(&self.chain, self.own.as_ref(), &block, &outcome, now);
            if !self.queue_commit(commit_of(&block, &outcome, proof), &outcome) {
                return;
            }
            let committing = Committing { height: outcome.height, header: block.header, outcome };
            self.committing.push_back((now, committing));
        }
        // What is not final at or below a final view never will be, whether the machine kept it or not.
        for id in self.blocks.not_above(last_view) {
            self.abandon(&id);
        }
        let watermark = self.blocks.last_final().watermark;
        self.plane.pool(PoolCommand::Watermark(watermark));
        self.certificates.prune(last_view);
    }

    /// Gives a final block to the store; false when too many wait there, and the node stops.
    pub(super) fn queue_commit(&mut self, block: CommitBlock, outcome: &Outcome) -> bool {
        let waiting = self.store.commit(block, outcome.tree.clone());
        if waiting > WAITING_MAX {
            self.stop(format!("{waiting} final blocks wait for the disk: make room and start again"));
        }
        waiting <= WAITING_MAX
    }

    /// Everything up to this height is on disk: now it is told, and the journal may forget it. Not before: when power
    /// fails earlier, the votes and the body in the journal are all there is of a final block.
    pub(super) fn on_durable(&mut self, height: Height) {
        let mut last_view = None;
        while let Some((final_at, committing)) = self.committing.pop_front() {
            if committing.height > height {
                self.committing.push_front((final_at, committing));
                break;
            }
            let sync_ns = self.now().nanos_since(final_at);
            self.observer.publish(&committing.header, &committing.outcome, sync_ns);
            last_view = Some(committing.header.view);
        }
        if let Some(view) = last_view {
            self.journal.prune(view);
        }
    }

    /// A final block from the store, in the shape of an open one.
    pub(super) fn stored_block(&self, id: &BlockId) -> Option<Block> {
        let record = self.reader.record(id)?;
        let header = Header::read(&mut Reader::new(&record.header)).ok()?;
        let seals = read_seals(&record.certificates).ok()?;
        let body = SpreadBlock::from_body(*id, header.view, seals.signature.0, record.body);
        Some(Block {
            header,
            signature: seals.signature.0,
            certificates: seals.justification,
            body: BodyState::Whole(Arc::new(body)),
            verdict_wanted: false,
            verdict: None,
            outcome: None,
            tag: 0,
            journaled: true,
            times: super::blocks::BlockTimes::default(),
        })
    }
}

fn commit_of(block: &Block, outcome: &Outcome, proof: &[Certificate]) -> CommitBlock {
    let seals = Seals {
        signature: Signature(block.signature),
        justification: block.certificates.clone(),
        proof: proof.to_vec(),
    };
    let body = block.body().map(|body| body.body().to_vec()).unwrap_or_default();
    commit(&block.header, &seals, body, outcome)
}

pub(super) fn commit_fetched(block: FetchedBlock) -> CommitBlock {
    commit(&block.header, &block.seals, block.body, &block.outcome)
}

fn commit(header: &Header, seals: &Seals, body: Vec<u8>, outcome: &Outcome) -> CommitBlock {
    let mut header_bytes = Vec::with_capacity(Header::BYTES_MIN + 32);
    header.write(&mut header_bytes);
    let mut certificates = Vec::new();
    seals.write(&mut certificates);
    CommitBlock {
        height: outcome.height,
        block_id: outcome.block,
        header: header_bytes,
        body,
        certificates,
        receipts: encode_receipts(&outcome.receipts),
        tx_ids: outcome.txs.iter().map(|tx| tx.id).collect(),
        changes: outcome.changes.clone(),
        expected_root: outcome.tree.root(),
    }
}
