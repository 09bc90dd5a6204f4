//! The verdict on a block's payload, and its execution while the votes travel.

use super::Replica;
use super::blocks::{Block, Outcome};
use super::first_hand::FirstHand;
use super::plane::{Plane, PoolCommand};
use super::seen::{PlausibleWindow, StampPlausibility};
use crate::chain::Chain;
use roko_consensus::timeliness::{Timeliness, timeliness};
use roko_consensus::{Event, Verdict};
use roko_execution::receipt::receipts_root;
use roko_execution::validity::{self, BlockError, Checked, Parent, Verified};
use roko_execution::{BlockContext, Executor, StateView, TransferExecutor, base_fee};
use roko_peers::Offence;
use roko_state::tree::Tree;
use roko_wire::block::{BodyError, BodyView, Header};
use roko_wire::{Account, Address, BlockId, NanoMoment, View};
use std::sync::Arc;

/// A state tree as execution reads it.
pub(super) struct TreeView<'a>(pub(super) &'a Tree);

impl StateView for TreeView<'_> {
    fn account(&self, address: &Address) -> Option<Account> {
        self.0.get(address)
    }
}

/// Why a payload is invalid.
#[derive(Debug, thiserror::Error)]
enum PayloadError {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Block(#[from] BlockError),
}

impl<P: Plane> Replica<P> {
    pub(super) fn want_verdict(&mut self, id: BlockId) {
        if let Some(block) = self.blocks.get_mut(&id) {
            block.verdict_wanted = true;
            self.validate(id);
        }
    }

    /// Finds the verdict when body and parent are at hand, and executes a valid block.
    pub(super) fn validate(&mut self, id: BlockId) {
        let Some(block) = self.blocks.get(&id) else { return };
        let (Some(body), None) = (block.body().map(Arc::clone), block.verdict) else { return };
        let Some(parent) = self.blocks.outcome(&block.header.parent) else { return };
        match self.check_payload(block, body.body(), &parent) {
            Ok((checked, stamps)) => match self.timely(block, parent.time, stamps) {
                Verdict::Invalid => self.refuse(id),
                verdict => self.conclude(id, verdict, checked, &parent),
            },
            Err(error) => {
                self.observer.note_invalid_block(&id, block.header.proposer, &error);
                self.refuse(id);
            }
        }
    }

    fn check_payload(
        &self,
        block: &Block,
        body: &[u8],
        parent: &Outcome,
    ) -> Result<(Checked, StampPlausibility), PayloadError> {
        let view = BodyView::access(body)?;
        let checked = self.check(&block.header, &view, body.len(), parent)?;
        let stamps = self.judge_stamps(&view, &checked);
        Ok((checked, stamps))
    }

    /// Checks a block, with the help of what this node has verified before.
    pub(super) fn check(
        &self,
        header: &Header,
        body: &BodyView<'_>,
        body_bytes: usize,
        parent: &Outcome,
    ) -> Result<Checked, BlockError> {
        let verified = FirstHand::of(&self.chain, body, &self.seen);
        check(&self.chain, header, body, body_bytes, parent, &verified)
    }

    fn judge_stamps(&self, view: &BodyView<'_>, checked: &Checked) -> StampPlausibility {
        let mut stamps = StampPlausibility::default();
        for (entry, tx) in view.entries().zip(&checked.txs) {
            // Only the very stamp that came with the transaction can be judged; one made anew is of another time.
            if let Some(seen) = self.seen.get(&tx.id).filter(|seen| seen.stamp == entry.stamp) {
                stamps.judge(&entry.stamp, seen.received, self.plausible_window());
            }
        }
        self.observer.counters.stamps_implausible.add(stamps.implausible as usize);
        stamps
    }

    /// When this node finds a stamp plausible.
    pub(super) fn plausible_window(&self) -> PlausibleWindow {
        PlausibleWindow { delay_ns: self.chain.window.delay_ns, precision_ns: self.chain.window.precision_ns }
    }

    /// What this node thinks of the block's times. Other nodes may think otherwise and make the block final, so one that
    /// gets no vote here for its times is executed all the same.
    fn timely(&self, block: &Block, parent_time: NanoMoment, stamps: StampPlausibility) -> Verdict {
        let header = &block.header;
        let received = block.times.header.unwrap_or(self.clock.now);
        let skipped = self.skipped_between(&header.parent, header.view);
        match timeliness(header.time, parent_time, received, self.chain.window, skipped) {
            Timeliness::Timely => {
                let permille_max = self.chain.genesis.limits.implausible_stamps_permille_max;
                if stamps.is_within(permille_max) {
                    return Verdict::Valid;
                }
                self.observer.counters.implausible_blocks.add(1);
                Verdict::Untimely
            }
            Timeliness::NotAboveParent => Verdict::Invalid,
            Timeliness::TooOld { .. } | Timeliness::TooNew { .. } => {
                self.observer.counters.untimely_blocks.add(1);
                self.observer.conduct.note(header.proposer, Offence::UntimelyBlock);
                Verdict::Untimely
            }
        }
    }

    /// Views skipped between the parent's and `view`.
    pub(super) fn skipped_between(&self, parent: &BlockId, view: View) -> u64 {
        let parent_view = match self.blocks.get(parent) {
            Some(parent) => parent.header.view,
            None => self.blocks.last_final_view(),
        };
        view.0.saturating_sub(parent_view.0).saturating_sub(1)
    }

    /// The machine hears the verdict first and the ballot goes to be signed; the block is executed meanwhile. Everything
    /// else that the machine asks waits for the outcome, which it may need.
    fn conclude(&mut self, id: BlockId, verdict: Verdict, checked: Checked, parent: &Outcome) {
        let now = self.now();
        let Some(block) = self.blocks.get_mut(&id) else { return };
        block.times.valid = Some(now);
        block.verdict = Some(verdict);
        let (header, tag) = (block.header.clone(), block.tag);
        self.step(Event::Verdict { block: id, verdict });
        for tx in &checked.txs {
            self.plane.pool(PoolCommand::MarkInFlight { tag, id: tx.id });
        }
        let outcome = execute(&self.chain, id, &header, checked, parent);
        if let Some(block) = self.blocks.get_mut(&id) {
            block.outcome = Some(Arc::new(outcome));
        }
        self.carry_out();
    }

    fn refuse(&mut self, block: BlockId) {
        if let Some(held) = self.blocks.get_mut(&block) {
            held.verdict = Some(Verdict::Invalid);
        }
        self.feed(Event::Verdict { block, verdict: Verdict::Invalid });
    }
}

/// Checks a block's payload against its parent's outcome.
pub(crate) fn check(
    chain: &Chain,
    header: &Header,
    body: &BodyView<'_>,
    body_bytes: usize,
    parent: &Outcome,
    verified: &dyn Verified,
) -> Result<Checked, BlockError> {
    let tree = TreeView(&parent.tree);
    let parent = Parent {
        height: parent.height,
        watermark: parent.watermark,
        last_moment: parent.last_moment,
        state: &tree,
        state_root: parent.tree.root(),
        receipts_root: parent.receipts_root,
        base_fee_next: parent.next_base_fee,
    };
    let context =
        validity::Chain { rules: &chain.rules, epoch_seed: &chain.genesis.seed, node_keys: &chain.node_keys };
    validity::check(&context, &parent, header, body, body_bytes, verified)
}

/// Executes a checked block.
pub(crate) fn execute(
    chain: &Chain,
    id: BlockId,
    header: &Header,
    checked: Checked,
    parent: &Outcome,
) -> Outcome {
    let context = BlockContext {
        height: header.height,
        time: header.time,
        base_fee: header.base_fee,
        gas_limit: header.gas_limit,
        proposer_account: chain.tips_to(header.proposer),
    };
    let executed = TransferExecutor.execute(&context, &checked.txs, &TreeView(&parent.tree));
    Outcome {
        block: id,
        height: header.height,
        time: header.time,
        watermark: header.watermark,
        last_moment: checked.last_moment,
        tree: parent.tree.update(&executed.changes),
        receipts_root: receipts_root(&executed.receipts),
        receipts: executed.receipts,
        changes: executed.changes,
        txs: checked.txs,
        gas_used: executed.gas_used,
        next_base_fee: base_fee::next(
            header.base_fee,
            executed.gas_used,
            header.gas_limit,
            chain.rules.base_fee_floor,
        ),
    }
}
