//! Taking in final blocks that were fetched because this node was behind.

use super::Replica;
use super::blocks::Outcome;
use super::finalize::{Committing, commit_fetched};
use super::plane::{Plane, PoolCommand};
use crate::catchup::ToControl;
use roko_consensus::{Event, FinalBlock};
use roko_wire::block::Header;
use roko_wire::sync::Seals;
use roko_wire::vote::Certificate;
use std::sync::Arc;

/// Blocks that may wait for the disk before more are taken.
const WAITING_FOR_DISK: usize = 1_024;

/// A fetched block that was checked and executed.
#[derive(Debug)]
pub struct FetchedBlock {
    /// Its header.
    pub header: Header,
    /// What stands beside it.
    pub seals: Seals,
    /// Its body.
    pub body: Vec<u8>,
    /// What it yields.
    pub outcome: Arc<Outcome>,
}

/// Fetched blocks, oldest first, each the parent of the next.
#[derive(Debug)]
pub struct CaughtUp {
    /// The blocks; at least one.
    pub blocks: Vec<FetchedBlock>,
    /// What proves the last one final.
    pub proof: Vec<Certificate>,
}

impl<P: Plane> Replica<P> {
    /// Answers the catch-up. Whoever asked and does not wait any more asks again.
    pub fn on_catchup(&mut self, asked: ToControl) {
        match asked {
            ToControl::Base(reply) => drop(reply.send(Arc::clone(self.blocks.last_final()))),
            ToControl::Blocks(blocks, reply) => drop(reply.send(self.on_caught_up(blocks))),
        }
    }

    /// Whether the disk keeps up, so that more fetched blocks can be taken.
    #[must_use]
    pub fn takes_blocks(&self) -> bool {
        self.committing.len() < WAITING_FOR_DISK && self.stopped.is_none()
    }

    /// Makes fetched blocks final that follow the last final one; those that are final by now are passed over. False
    /// when they do not fit: then this node became final by itself what they begin with, or something else.
    fn on_caught_up(&mut self, caught_up: CaughtUp) -> bool {
        let CaughtUp { mut blocks, proof } = caught_up;
        let final_height = self.blocks.last_final().height;
        blocks.retain(|block| block.header.height > final_height);
        let follows =
            blocks.first().is_some_and(|first| first.header.parent == self.blocks.last_final().block);
        if !follows || self.stopped.is_some() {
            return false;
        }
        self.observer.counters.blocks_fetched.add(blocks.len());
        for block in blocks {
            if !self.commit_fetched(block) {
                return false;
            }
        }
        let (outcome, view) = (Arc::clone(self.blocks.last_final()), self.blocks.last_final_view());
        for id in self.blocks.not_above(view) {
            self.abandon(&id);
        }
        self.plane.pool(PoolCommand::Watermark(outcome.watermark));
        proof.iter().for_each(|certificate| self.certificates.add_verified(certificate));
        self.certificates.prune(view);
        let last_final =
            FinalBlock { block: outcome.block, view, height: outcome.height, time: outcome.time, proof };
        self.feed(Event::CaughtUp(last_final));
        true
    }

    /// False when the store takes no more, and the node stops.
    fn commit_fetched(&mut self, block: FetchedBlock) -> bool {
        let now = self.now();
        let outcome = Arc::clone(&block.outcome);
        if let Some(open) = self.blocks.remove(&outcome.block) {
            self.plane.pool(PoolCommand::Finalize { tag: open.tag });
        }
        for tx in &outcome.txs {
            self.seen.forget(&tx.id);
            // What can no longer get into a block need not be remembered.
            let valid_until = outcome.time.saturating_add(self.chain.rules.tx.window_ns_max);
            if valid_until > now {
                self.plane.pool(PoolCommand::FinalizeId { id: tx.id, valid_until });
            }
        }
        self.observer.note_block(&outcome);
        let header = block.header.clone();
        self.blocks.go_on_from(Arc::clone(&outcome), header.view);
        let queued = self.queue_commit(commit_fetched(block), &outcome);
        if queued {
            self.committing.push_back((now, Committing { height: outcome.height, header, outcome }));
        }
        queued
    }
}
