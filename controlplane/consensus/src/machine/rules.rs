//! The rules, by their numbers. Rules 2, 3, 4 and 7 hold in every view that is not final, rules 5 and 6 in the
//! current one, rule 8 from the current one up.

use super::{Machine, View};
use crate::api::{Action, Verdict};
use roko_wire::BlockId;
use roko_wire::vote::{Ballot, CertificateKind};

impl Machine {
    /// Applies every rule until nothing more follows from what is known.
    pub(super) fn settle(&mut self, out: &mut Vec<Action>) {
        loop {
            for block in self.chain.newly_validatable() {
                out.push(Action::ValidatePayload { block });
            }
            while let Some(view) = self.dirty.pop_last() {
                self.apply_rules(view, out);
                if self.halted {
                    return;
                }
            }
            self.pace();
            self.apply_timers(out);
            self.finalize_ready(out);
            if self.halted {
                return;
            }
            if self.dirty.is_empty() && !self.chain_has_work() {
                break;
            }
        }
        self.lead(out);
        self.repeat(out);
    }

    /// Whether a block waits to be asked about: its parent became final or valid in this very step.
    fn chain_has_work(&self) -> bool {
        let open = |held: &super::chain::Block| !held.validation_asked && self.chain.is_ready(held.parent);
        self.chain.blocks.values().any(open)
    }

    fn apply_rules(&mut self, view: View, out: &mut Vec<Action>) {
        if !self.views.contains_key(&view) {
            return;
        }
        self.commit_rule(view, out);
        if self.halted || view <= self.chain.last_final.view {
            return;
        }
        if view >= self.current {
            self.leave_rule(view, out);
        }
        self.final_rule(view, out);
        self.fallback_rule(view, out);
        self.notarize_rule(view, out);
        if view < self.current {
            self.with_view(view, |state, context| state.settle_if_skipped(context));
        }
    }

    /// Casts a ballot: from here on the machine acts as if it were sent.
    fn cast(&mut self, view: View, ballot: Ballot, out: &mut Vec<Action>) {
        if self.config.own_index.is_some() {
            self.views.entry(view).or_default().own.note(ballot);
            out.push(Action::CastVote { view, ballot });
        }
    }

    /// Rule 2: notarize once, a lawful proposal whose payload and ancestors are valid.
    fn notarize_rule(&mut self, view: View, out: &mut Vec<Action>) {
        let Some(state) = self.views.get(&view) else { return };
        if self.config.own_index.is_none()
            || state.own.first.is_some()
            || state.settled
            || view > self.current
        {
            return;
        }
        let good = state.proposals.iter().copied().find(|block| self.may_notarize(view, *block));
        if let Some(block) = good {
            self.cast(view, Ballot::Notarize(block), out);
        }
    }

    fn may_notarize(&self, view: View, block: BlockId) -> bool {
        let Some(held) = self.chain.blocks.get(&block) else { return false };
        held.verdict == Some(Verdict::Valid)
            && self.chain.is_ready(held.parent)
            && self.missing_justification(view, held.parent, held.parent_view).is_empty()
    }

    /// The certificates that a proposal in `view` on this parent still lacks here; empty when it is lawful.
    pub(super) fn missing_justification(
        &self,
        view: View,
        parent: BlockId,
        parent_view: View,
    ) -> Vec<(View, CertificateKind)> {
        let quorums = &self.config.quorums;
        let holds = |view: View, kind: &CertificateKind| {
            self.views.get(&view).is_some_and(|state| state.holds(kind, quorums))
        };
        let mut missing = Vec::new();
        let last_final = &self.chain.last_final;
        if parent_view <= last_final.view {
            // A final block has both certificates of its view; below it nothing can be extended any more.
            if parent != last_final.block || parent_view != last_final.view {
                return vec![(parent_view, CertificateKind::SlowBlock(parent))];
            }
        } else if !holds(parent_view, &CertificateKind::SlowBlock(parent)) {
            let fast = CertificateKind::FastBlock(parent);
            missing.extend((!holds(parent_view, &fast)).then_some((parent_view, fast)));
            let skip = CertificateKind::SlowSkip;
            missing.extend((!holds(parent_view, &skip)).then_some((parent_view, skip)));
        }
        let mut between = parent_view.next();
        while between < view && missing.len() < super::repeat::CERTIFICATE_PULLS_MAX {
            for kind in [CertificateKind::FastSkip, CertificateKind::SlowSkip] {
                missing.extend((!holds(between, &kind)).then_some((between, kind)));
            }
            between = between.next();
        }
        missing
    }

    /// Rule 3: on a slow certificate of a block, send Final unless a second vote was sent. A block that is
    /// committed already needs no Final: its proof goes to everybody.
    fn final_rule(&mut self, view: View, out: &mut Vec<Action>) {
        let Some(state) = self.views.get(&view) else { return };
        if state.own.second.is_some() || state.committed(&self.config.quorums).is_some() {
            return;
        }
        if let Some(block) = state.slow_block(&self.config.quorums) {
            self.cast(view, Ballot::Final(block), out);
        }
    }

    /// Rule 4: a commit makes a block and its ancestors final; its proof goes to everybody.
    fn commit_rule(&mut self, view: View, out: &mut Vec<Action>) {
        let Some(block) = self.views.get(&view).and_then(|state| state.committed(&self.config.quorums))
        else {
            return;
        };
        if view <= self.chain.last_final.view {
            self.contradicted_final(view, block, out);
            return;
        }
        if self.committed.insert(view, block).is_some() {
            return;
        }
        self.last_commit_view = self.last_commit_view.max(view);
        let proof = self.with_view(view, |state, context| {
            state.proof_forwarded = true;
            state.proof(block, context)
        });
        out.extend(proof.unwrap_or_default().into_iter().map(Action::BroadcastCertificate));
    }

    /// Rules 5 and 6: no first vote after two Delta, no second vote after three; at once when nothing is heard of the leader.
    fn apply_timers(&mut self, out: &mut Vec<Action>) {
        let Some(started) = self.started_at else { return };
        let (view, patience) = (self.current, self.patience());
        let state = self.views.entry(view).or_default();
        let (first, second) = (state.own.first, state.own.second);
        if first.is_none() && self.now >= started.saturating_add(patience.first_ns) {
            self.cast(view, Ballot::Skip, out);
        }
        if second.is_none() && self.now >= started.saturating_add(patience.second_ns) {
            self.cast(view, Ballot::FinalSkip, out);
        }
    }

    /// Rule 7: first votes worth N stake without a fast certificate among them. A Skip that was sent counts for
    /// the same certificate, so a fallback beside it would change nothing.
    fn fallback_rule(&mut self, view: View, out: &mut Vec<Action>) {
        let quorums = &self.config.quorums;
        let Some(state) = self.views.get(&view) else { return };
        let silent = state.own.fallback || state.own.first == Some(Ballot::Skip) || state.settled;
        if !silent
            && view <= self.current
            && state.first_stake >= quorums.wait
            && state.fast_blocks(quorums).is_empty()
        {
            self.cast(view, Ballot::SkipFallback, out);
        }
    }

    /// Rule 8: with a fast and a slow certificate of a view, forward both and go on to the next.
    fn leave_rule(&mut self, view: View, out: &mut Vec<Action>) {
        let quorums = &self.config.quorums;
        if !self.views.get(&view).is_some_and(|state| state.complete(quorums)) {
            return;
        }
        let pair = self.with_view(view, |state, context| {
            let forwarded = std::mem::replace(&mut state.proof_forwarded, true);
            if forwarded { Vec::new() } else { state.exit_pair(context) }
        });
        out.extend(pair.unwrap_or_default().into_iter().map(Action::BroadcastCertificate));
        if self.views.get(&view).is_some_and(|state| state.slow_block(&self.config.quorums).is_none()) {
            self.counts.skipped_views += 1;
        }
        self.enter(view.next(), out);
    }

    /// Rule 1, its first half: start the view.
    pub(super) fn enter(&mut self, view: View, out: &mut Vec<Action>) {
        let left = self.current;
        self.current = view;
        self.entered_at = self.now;
        self.started_at = None;
        self.repeats.restart(self.now, self.config.delta_ns);
        self.dirty.extend(self.views.range(left..).map(|(view, _)| *view));
        out.push(Action::EnterView(view));
    }
}
