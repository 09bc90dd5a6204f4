//! Against loss: own votes and certificates are sent again, missing blocks and certificates are pulled.

use super::chain::Ancestry;
use super::lead::Base;
use super::{Machine, NanoMoment, View};
use crate::api::Action;
use roko_wire::BlockId;
use roko_wire::vote::{Bitmap, CertificateKind};
use std::collections::BTreeMap;

/// Views whose own votes are repeated: the newest, which decide; older ones come back by their certificates.
const REPEATED_VIEWS_MAX: usize = 64;
/// Certificates asked for at a time.
pub(super) const CERTIFICATE_PULLS_MAX: usize = 16;
/// Blocks asked for at a time.
const BLOCK_PULLS_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Block(BlockId),
    Certificate(View, Option<CertificateKind>),
}

/// When what is sent or asked for again.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    votes_at: NanoMoment,
    certificates_at: NanoMoment,
    certificates_gap_ns: u64,
    needs: BTreeMap<Need, NanoMoment>,
}

impl Repeats {
    /// A new view: everything was just sent.
    pub(super) fn restart(&mut self, now: NanoMoment, delta_ns: u64) {
        self.votes_at = now.saturating_add(delta_ns);
        self.certificates_at = now.saturating_add(delta_ns);
        self.certificates_gap_ns = delta_ns;
    }
}

impl Machine {
    /// Sends and asks for again what is due.
    pub(super) fn repeat(&mut self, out: &mut Vec<Action>) {
        self.resend(out);
        self.pull(out);
    }

    fn resend(&mut self, out: &mut Vec<Action>) {
        if self.now < self.repeats.votes_at {
            return;
        }
        self.repeats.votes_at = self.now.saturating_add(self.config.delta_ns);
        let mut votes = Vec::new();
        for state in self.views.values().rev().filter(|state| !state.settled).take(REPEATED_VIEWS_MAX) {
            votes.extend(state.own.durable.iter().map(|vote| vote.vote().clone()));
        }
        let proposal = self.views.get(&self.current).and_then(|state| state.proposed);
        let mut certificates = Vec::new();
        if self.now >= self.repeats.certificates_at {
            let repeats = &mut self.repeats;
            repeats.certificates_gap_ns =
                repeats.certificates_gap_ns.saturating_mul(2).min(self.config.standstill_ns);
            repeats.certificates_at = self.now.saturating_add(repeats.certificates_gap_ns);
            certificates.clone_from(&self.chain.last_final.proof);
            let entry = View(self.current.0.saturating_sub(1));
            certificates.extend(self.with_view(entry, |s, context| s.exit_pair(context)).unwrap_or_default());
        }
        if !votes.is_empty() || !certificates.is_empty() || proposal.is_some() {
            out.push(Action::Resend { votes, certificates, proposal });
        }
    }

    /// What this node lacks: certified blocks, ancestors, and certificates that its next step needs.
    fn needs(&mut self) -> Vec<Need> {
        let quorums = self.config.quorums;
        let mut blocks: Vec<BlockId> = Vec::new();
        let mut certificates: Vec<(View, Option<CertificateKind>)> = Vec::new();
        for (view, kind) in self.missing_commit_halves() {
            certificates.push((view, Some(kind)));
        }
        let open = self.views.values().rev().filter(|state| !state.settled).take(REPEATED_VIEWS_MAX);
        for state in open {
            blocks.extend(state.fast_blocks(&quorums));
        }
        blocks.extend(self.committed.values().copied());
        for view in self.waiting_views() {
            let proposals = self.views.get(&view).map(|state| state.proposals.clone()).unwrap_or_default();
            for block in proposals {
                let Some(held) = self.chain.blocks.get(&block) else { continue };
                let (parent, parent_view) = (held.parent, held.parent_view);
                if parent_view > self.chain.last_final.view && view <= self.current {
                    blocks.push(parent);
                    let missing = self.missing_justification(view, parent, parent_view);
                    certificates.extend(missing.into_iter().map(|(view, kind)| (view, Some(kind))));
                }
            }
        }
        if self.started_at.is_some() && Some(self.leader(self.current)) == self.config.own_index {
            let proposed = self.views.get(&self.current).is_some_and(|state| state.proposed.is_some());
            if let (false, Base::Waits(view)) = (proposed, self.base(self.current)) {
                certificates.push((view, None));
            }
        }
        let mut needs: Vec<Need> = blocks
            .into_iter()
            .filter_map(|block| match self.chain.ancestry(block) {
                Ancestry::Missing(missing) => Some(Need::Block(missing)),
                _ => None,
            })
            .take(BLOCK_PULLS_MAX)
            .collect();
        let asked = certificates.into_iter().take(CERTIFICATE_PULLS_MAX);
        needs.extend(asked.map(|(view, kind)| Need::Certificate(view, kind)));
        needs.sort_unstable();
        needs.dedup();
        needs
    }

    /// Asks for what has been missing for a quarter of Delta, and each Delta again: most of it is on its way.
    fn pull(&mut self, out: &mut Vec<Action>) {
        let (patience, again) = (self.config.delta_ns / 4, self.config.delta_ns);
        let before = std::mem::take(&mut self.repeats.needs);
        let mut needs = BTreeMap::new();
        for need in self.needs() {
            let first_at = self.now.saturating_add(patience);
            let mut at = before.get(&need).copied().unwrap_or(first_at);
            if at <= self.now {
                at = self.now.saturating_add(again);
                out.push(match need {
                    Need::Block(block) => Action::PullBlock { block, signers: self.holders(block) },
                    Need::Certificate(view, kind) => Action::PullCertificate { view, kind },
                });
            }
            needs.insert(need, at);
        }
        self.repeats.needs = needs;
    }

    /// Who should have a block: its voters, or those of a child of it.
    fn holders(&self, block: BlockId) -> Bitmap {
        let voters = |id: BlockId| {
            let mut all = Bitmap::default();
            for state in self.views.values() {
                state.voters_for(id).iter().for_each(|signer| {
                    all.insert(signer);
                });
            }
            all
        };
        let own = voters(block);
        let children = self.chain.blocks.iter().filter(|(_, held)| held.parent == block).map(|(id, _)| *id);
        if own.is_empty() {
            children.map(voters).find(|all| !all.is_empty()).unwrap_or_default()
        } else {
            own
        }
    }

    /// Asks for the next tick when it has changed.
    pub(super) fn set_timer(&mut self, out: &mut Vec<Action>) {
        let mut at = self.repeats.votes_at;
        at = self.repeats.needs.values().fold(at, |at, need| at.min(*need));
        let own = self.views.get(&self.current).map(|state| &state.own);
        match self.started_at {
            None => at = at.min(self.view_due()),
            Some(started) if self.config.own_index.is_some() => {
                let patience = self.patience();
                if own.is_none_or(|own| own.first.is_none()) {
                    at = at.min(started.saturating_add(patience.first_ns));
                }
                if own.is_none_or(|own| own.second.is_none()) {
                    at = at.min(started.saturating_add(patience.second_ns));
                }
            }
            Some(_) => {}
        }
        if self.timer != Some(at) {
            self.timer = Some(at);
            out.push(Action::SetTimer(at));
        }
    }
}
