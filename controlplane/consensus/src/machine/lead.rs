//! Pacing and proposing: when a view starts, and what its leader builds on.

use super::{Machine, NanoMoment, View};
use crate::api::{Action, ProposalRequest};
use roko_wire::BlockId;
use roko_wire::vote::{Certificate, CertificateKind};

/// Steps of growth after which Delta is at its limit whatever the limit: 1.05^2048 is beyond 64 bits.
const GROWTH_STEPS_MAX: u64 = 2_048;

/// What a leader can build on.
pub(super) enum Base {
    /// This block, with what justifies it.
    On(BlockId, Vec<Certificate>),
    /// Not yet: this view's certificates are incomplete here, or the payload of its block is missing.
    Waits(View),
}

/// How long after a view's start its votes are sent whatever came, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// `Skip`.
    pub(super) first_ns: u64,
    /// `FinalSkip`.
    pub(super) second_ns: u64,
}

impl Machine {
    /// Two and three Delta, none in a view whose leader is not listened to.
    pub(super) fn patience(&self) -> Patience {
        let leader = self.leader(self.current);
        if self.unheard.contains(leader) || self.is_silent(leader) {
            return Patience { first_ns: 0, second_ns: 0 };
        }
        let delta_ns = self.delta_ns();
        Patience { first_ns: delta_ns.saturating_mul(2), second_ns: delta_ns.saturating_mul(3) }
    }

    /// Delta, grown for the views since the last commit.
    pub(super) fn delta_ns(&self) -> u64 {
        let failed = self.current.0.saturating_sub(self.last_commit_view.0).saturating_sub(1);
        let mut delta_ns = self.config.delta_ns;
        for _ in 0..failed.min(GROWTH_STEPS_MAX) {
            if delta_ns >= self.config.delta_ns_max {
                break;
            }
            let more = u128::from(delta_ns) * u128::from(self.config.delta_growth_percent) / 100;
            delta_ns = delta_ns.saturating_add(u64::try_from(more.max(1)).unwrap_or(u64::MAX));
        }
        delta_ns.min(self.config.delta_ns_max.max(self.config.delta_ns))
    }

    /// When the current view's interval is over: counted from the time of the block that the view builds on, so
    /// that blocks keep their cadence, and never more than one interval after the view was entered.
    pub(super) fn view_due(&self) -> NanoMoment {
        let tip = self.tip();
        let wants_block = self.pending_transactions || self.chain.has_open_transactions(tip);
        let interval_ns = if wants_block {
            self.config.min_block_interval_ns
        } else {
            self.config.empty_block_interval_ns.max(self.config.min_block_interval_ns)
        };
        let anchor = self.chain.position(&tip).map_or(self.entered_at, |(_, _, time)| time);
        anchor.min(self.entered_at).saturating_add(interval_ns).max(self.entered_at)
    }

    /// The highest block that is certified and known here.
    fn tip(&self) -> BlockId {
        let quorums = &self.config.quorums;
        for state in self.views.range(..self.current).rev().map(|(_, state)| state) {
            let certified = state.slow_block(quorums).or_else(|| state.fast_blocks(quorums).first().copied());
            if let Some(block) = certified.filter(|block| self.chain.blocks.contains_key(block)) {
                return block;
            }
        }
        self.chain.last_final.block
    }

    /// Starts the view's timer once its interval is over, or once others have shown that theirs is: by a
    /// proposal, or by first votes of more stake than can be Byzantine.
    pub(super) fn pace(&mut self) {
        if self.started_at.is_some() {
            return;
        }
        let state = self.views.get(&self.current);
        let shown = state.is_some_and(|state| {
            !state.proposals.is_empty() || state.first_stake > self.config.quorums.byzantine
        });
        if shown || self.now >= self.view_due() {
            self.started_at = Some(self.now);
        }
    }

    /// Rule 1, its second half: the leader proposes on the highest certified parent, once.
    pub(super) fn lead(&mut self, out: &mut Vec<Action>) {
        let view = self.current;
        if self.started_at.is_none() || Some(self.leader(view)) != self.config.own_index {
            return;
        }
        let state = self.views.entry(view).or_default();
        if state.proposed.is_some() || state.proposal_requested {
            return;
        }
        let Base::On(parent, certificates) = self.base(view) else { return };
        let Some((parent_view, parent_height, parent_time)) = self.chain.position(&parent) else { return };
        self.views.entry(view).or_default().proposal_requested = true;
        let request = ProposalRequest { view, parent, parent_view, parent_height, parent_time, certificates };
        out.push(Action::RequestProposal(request));
    }

    /// The highest certified parent for a proposal in `view`, walking down through positions that are skipped.
    pub(super) fn base(&mut self, view: View) -> Base {
        let mut skips = Vec::new();
        let mut at = View(view.0.saturating_sub(1));
        while at > self.chain.last_final.view {
            let quorums = self.config.quorums;
            let Some(state) = self.views.get(&at) else { return Base::Waits(at) };
            let (slow_skip, fast_skip) = (state.slow_skip(&quorums), state.fast_skip(&quorums));
            let slow = state.slow_block(&quorums).filter(|block| self.chain.is_ready(*block));
            let fast = state.fast_blocks(&quorums).into_iter().find(|block| self.chain.is_ready(*block));
            let (kinds, parent): (Vec<CertificateKind>, _) = match (slow, fast) {
                (Some(block), _) => (vec![CertificateKind::SlowBlock(block)], Some(block)),
                (None, Some(block)) if slow_skip => {
                    (vec![CertificateKind::SlowSkip, CertificateKind::FastBlock(block)], Some(block))
                }
                _ if slow_skip && fast_skip => {
                    (vec![CertificateKind::SlowSkip, CertificateKind::FastSkip], None)
                }
                _ => return Base::Waits(at),
            };
            let made = self.with_view(at, |state, context| {
                kinds.iter().filter_map(|kind| state.certificate(kind, context)).collect::<Vec<_>>()
            });
            skips.extend(made.unwrap_or_default());
            if let Some(block) = parent {
                skips.reverse();
                return Base::On(block, skips);
            }
            at = View(at.0 - 1);
        }
        // The last final block's proof has a certificate of its notarizations, unless it is a genesis.
        let notarized =
            |certificate: &&Certificate| !matches!(certificate.kind, CertificateKind::CommitSlow(_));
        skips.extend(self.chain.last_final.proof.iter().find(notarized).cloned());
        skips.reverse();
        Base::On(self.chain.last_final.block, skips)
    }
}
