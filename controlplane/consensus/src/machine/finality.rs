//! From a commit to final blocks: in chain order, once every ancestor's payload is at hand, and never two.

use super::chain::Ancestry;
use super::{FINAL_HISTORY, Machine, View};
use crate::api::{Action, FinalBlock, FinalizedBlock, HaltReason};
use roko_wire::BlockId;
use roko_wire::vote::{Certificate, CertificateKind};

impl Machine {
    /// Makes the highest committed block final whose ancestors are all at hand.
    pub(super) fn finalize_ready(&mut self, out: &mut Vec<Action>) {
        let highest_first: Vec<(View, BlockId)> =
            self.committed.iter().rev().map(|(v, b)| (*v, *b)).collect();
        for (view, block) in highest_first {
            match self.chain.ancestry(block) {
                Ancestry::Ready(path) => {
                    self.finalize(view, block, &path, out);
                    return;
                }
                Ancestry::Missing(_) => {}
                Ancestry::Invalid(invalid) => {
                    let view = self.chain.position(&invalid).map_or(view, |(view, _, _)| view);
                    self.halt(HaltReason::CommittedInvalid { block: invalid, view }, view, block, out);
                    return;
                }
                Ancestry::Conflict => {
                    self.contradicted_final(view, block, out);
                    return;
                }
            }
        }
    }

    fn finalize(&mut self, view: View, block: BlockId, path: &[BlockId], out: &mut Vec<Action>) {
        let proof = self.with_view(view, |state, context| state.proof(block, context)).unwrap_or_default();
        let placed = |id: &BlockId| {
            let (view, height, _) = self.chain.position(id)?;
            Some(FinalizedBlock { block: *id, view, height })
        };
        let blocks: Vec<FinalizedBlock> = path.iter().filter_map(placed).collect();
        let Some((_, height, time)) = self.chain.position(&block) else { return };
        let certified = self.certified_blocks(view);
        self.remember_final(blocks.iter().map(|block| (block.view, block.block)));
        self.counts.finalized += blocks.len() as u64;
        let last_final = FinalBlock { block, view, height, time, proof: proof.clone() };
        out.push(Action::Finalize { blocks, proof });
        let dead = self.move_up(last_final, path, out);
        self.counts.forks += dead.iter().filter(|id| certified.contains(id)).count() as u64;
    }

    /// What was fetched as final is taken as such: the views up to it are over, own votes above it stay what they are.
    pub(super) fn on_caught_up(&mut self, last_final: FinalBlock, out: &mut Vec<Action>) {
        let view = last_final.view;
        let (view_before, height_before) = (self.chain.last_final.view, self.chain.last_final.height);
        if view <= view_before || last_final.height <= height_before {
            return;
        }
        self.remember_final([(view, last_final.block)]);
        self.counts.finalized += last_final.height.0 - height_before.0;
        self.move_up(last_final, &[], out);
        self.last_commit_view = self.last_commit_view.max(view);
        if self.current <= view {
            self.enter(view.next(), out);
        }
    }

    fn remember_final(&mut self, blocks: impl IntoIterator<Item = (View, BlockId)>) {
        self.final_history.extend(blocks);
        while self.final_history.len() > FINAL_HISTORY {
            self.final_history.pop_first();
        }
    }

    /// Moves the last final block up along `path`, and forgets what can no longer become final; returns those blocks.
    fn move_up(&mut self, last_final: FinalBlock, path: &[BlockId], out: &mut Vec<Action>) -> Vec<BlockId> {
        let above = last_final.view.next();
        let dead = self.chain.finalize(last_final, path);
        out.extend(dead.iter().map(|block| Action::Abandoned { block: *block }));
        self.views = self.views.split_off(&above);
        self.committed = self.committed.split_off(&above);
        for state in self.views.values_mut() {
            state.proposals.retain(|id| !dead.contains(id));
        }
        self.dirty.extend(self.views.keys().copied());
        dead
    }

    /// Blocks of views up to `view` with a certificate.
    fn certified_blocks(&self, view: View) -> Vec<BlockId> {
        let quorums = &self.config.quorums;
        self.views.range(..=view).flat_map(|(_, state)| state.fast_blocks(quorums)).collect()
    }

    /// A committed block that does not descend from the last final one: more than f stake is Byzantine.
    pub(super) fn contradicted_final(&mut self, view: View, block: BlockId, out: &mut Vec<Action>) {
        let known = self.final_history.get(&view).map(|first| (view, *first));
        if known.is_some_and(|(_, first)| first == block) {
            return;
        }
        let (first_view, first) = known.unwrap_or((self.chain.last_final.view, self.chain.last_final.block));
        let reason = HaltReason::Fork { first, first_view, second: block, second_view: view };
        self.halt(reason, view, block, out);
    }

    fn halt(&mut self, reason: HaltReason, view: View, block: BlockId, out: &mut Vec<Action>) {
        let mut proofs: Vec<Certificate> = self.chain.last_final.proof.clone();
        proofs.extend(self.with_view(view, |state, context| state.proof(block, context)).unwrap_or_default());
        proofs.dedup();
        self.halted = true;
        out.push(Action::Halt { reason, proofs });
    }

    /// A committed slow certificate that lacks the notarizations' half.
    pub(super) fn missing_commit_halves(&self) -> Vec<(View, CertificateKind)> {
        let quorums = &self.config.quorums;
        let mut missing = Vec::new();
        for (view, state) in &self.views {
            for block in state.named_blocks() {
                let (finals, slow) = (CertificateKind::CommitSlow(block), CertificateKind::SlowBlock(block));
                if state.holds(&finals, quorums) && !state.holds(&slow, quorums) {
                    missing.push((*view, slow));
                }
            }
        }
        missing
    }
}
