//! The consensus machine: events in, actions out.
//!
//! Place in the line: received messages are verified outside and come in as [`Event`]s; the driver signs, stores,
//! sends and builds what the [`Action`]s ask for. The machine assumes that what it is given as verified is
//! verified, and nothing about order, repetition or completeness. The rules are those of Concurrent Simplex, by
//! number, in `machine/rules.rs`; the chain of blocks is in `machine/chain.rs`, pacing and proposing in
//! `machine/lead.rs`, who is there in `machine/hearing.rs`, finality in `machine/finality.rs`, repetition and pulls in
//! `machine/repeat.rs`.

mod chain;
mod finality;
mod hearing;
mod lead;
mod repeat;
mod rules;
mod view;

#[cfg(test)]
mod tests;

use crate::api::{Action, Config, Event, FinalBlock, ProposalSummary, Recovered, Verdict};
use crate::evidence::{Evidence, SignedProposal};
use crate::verify::{VerifiedCertificate, VerifiedVote};
use chain::Chain;
use hearing::Hearing;
use repeat::Repeats;
use roko_wire::vote::{Bitmap, Certificate, CertificateKind};
use roko_wire::{BlockId, NanoMoment, ValidatorIndex, View};
use std::collections::{BTreeMap, BTreeSet};
use view::{Context, ViewState};

/// How far above the current view votes and headers are kept without a certificate that vouches for their view.
pub const VIEW_HORIZON: u64 = crate::collector::VIEW_HORIZON;
/// Headers kept for each view without a certificate: two show an equivocation, more show nothing new.
const HEADERS_PER_VIEW_MAX: usize = 2;
/// Final blocks remembered by view, so that a late commit of another block is seen as a fork.
const FINAL_HISTORY: usize = 1_024;

/// What a machine has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineCounts {
    /// Blocks made final.
    pub finalized: u64,
    /// Blocks that had a certificate and were abandoned.
    pub forks: u64,
    /// Votes, headers and certificates that were dropped: of final views, beyond the horizon, not the leader's.
    pub dropped: u64,
    /// Views left without a block of theirs being certified.
    pub skipped_views: u64,
}

/// The state machine of one node in one epoch.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    now: NanoMoment,
    chain: Chain,
    final_history: BTreeMap<View, BlockId>,
    /// Committed blocks that wait for their ancestors.
    committed: BTreeMap<View, BlockId>,
    last_commit_view: View,
    views: BTreeMap<View, ViewState>,
    dirty: BTreeSet<View>,
    current: View,
    entered: bool,
    entered_at: NanoMoment,
    /// When the view's timer started: its interval was over.
    started_at: Option<NanoMoment>,
    pending_transactions: bool,
    hearing: Hearing,
    /// Validators that the driver does not listen to.
    unheard: Bitmap,
    repeats: Repeats,
    timer: Option<NanoMoment>,
    halted: bool,
    counts: MachineCounts,
}

impl Machine {
    /// A machine that goes on from what the disk holds. Its first step enters the view above the last final one.
    #[must_use]
    pub fn new(config: Config, recovered: Recovered, now: NanoMoment) -> Machine {
        let final_view = recovered.last_final.view;
        let final_history = BTreeMap::from([(final_view, recovered.last_final.block)]);
        let hearing = Hearing::new(config.set.len(), final_view.next(), now);
        let mut machine = Machine {
            config,
            now,
            chain: Chain::new(recovered.last_final),
            final_history,
            committed: BTreeMap::new(),
            last_commit_view: final_view,
            views: BTreeMap::new(),
            dirty: BTreeSet::new(),
            current: final_view.next(),
            entered: false,
            entered_at: now,
            started_at: None,
            pending_transactions: false,
            hearing,
            unheard: Bitmap::default(),
            repeats: Repeats::default(),
            timer: None,
            halted: false,
            counts: MachineCounts::default(),
        };
        for record in recovered.votes.into_iter().filter(|record| record.vote.view > final_view) {
            let view = record.vote.view;
            let own = Some(record.vote.signer) == machine.config.own_index;
            if own {
                machine.views.entry(view).or_default().own.note(record.vote.ballot);
                machine.count_own_vote(VerifiedVote::assume(record.vote));
            }
        }
        for record in recovered.proposals.into_iter().filter(|record| record.view > final_view) {
            machine.views.entry(record.view).or_default().proposed = Some(record.block);
        }
        machine
    }

    /// Takes an event at a moment and appends what is to be done.
    pub fn step(&mut self, event: Event, now: NanoMoment, out: &mut Vec<Action>) {
        if self.halted {
            return;
        }
        self.now = self.now.max(now);
        if !self.entered {
            self.entered = true;
            self.enter(self.current, out);
        }
        match event {
            Event::Tick => {}
            Event::Proposal(summary) => self.on_proposal(summary, None, out),
            Event::ProposalBuilt(summary) => self.on_proposal_built(summary, out),
            Event::Verdict { block, verdict } => self.on_verdict(block, verdict),
            Event::Votes(votes) => self.on_votes(&votes, out),
            Event::Certificates(certificates) => self.on_certificates(certificates),
            Event::OwnVoteDurable(vote) => self.on_own_vote(vote),
            Event::PendingTransactions(pending) => self.pending_transactions = pending,
            Event::Unheard(unheard) => self.unheard = unheard,
            Event::CaughtUp(last_final) => self.on_caught_up(last_final, out),
        }
        self.settle(out);
        if !self.halted {
            self.set_timer(out);
        }
    }

    /// The current view.
    #[must_use]
    pub const fn current_view(&self) -> View {
        self.current
    }

    /// The last final block and what proves it.
    #[must_use]
    pub const fn last_final(&self) -> &FinalBlock {
        &self.chain.last_final
    }

    /// Whether the machine has halted for good.
    #[must_use]
    pub const fn is_halted(&self) -> bool {
        self.halted
    }

    /// What has been counted.
    #[must_use]
    pub const fn counts(&self) -> MachineCounts {
        self.counts
    }

    /// The leader of a view in this epoch.
    #[must_use]
    pub fn leader(&self, view: View) -> ValidatorIndex {
        self.config.set.leader(&self.config.leader_seed, view)
    }

    /// Whether a certificate would tell the machine something: ask before its signature is checked.
    #[must_use]
    pub fn wants(&self, view: View, kind: &CertificateKind) -> bool {
        if view <= self.chain.last_final.view {
            let commit = matches!(kind, CertificateKind::CommitFast(_) | CertificateKind::CommitSlow(_));
            let known = self.final_history.get(&view).copied();
            return commit && known.is_some() && known != kind.block();
        }
        let Some(state) = self.views.get(&view) else { return true };
        !state.holds(kind, &self.config.quorums)
    }

    /// The certificates of a view that a peer asked for: the proof of the last final block when the view is not
    /// above it. Also what helps a peer that still votes in a view that is final here.
    pub fn certificates_of(&mut self, view: View) -> Vec<Certificate> {
        if view <= self.chain.last_final.view {
            return self.chain.last_final.proof.clone();
        }
        self.with_view(view, |state, context| {
            let mut all = state.all_certificates(context);
            if let Some(block) = state.committed(context.quorums) {
                all.extend(state.proof(block, context));
            }
            all
        })
        .unwrap_or_default()
    }

    /// Runs something on a view's state with the arguments it needs; `None` when the view is unknown.
    fn with_view<T>(&mut self, view: View, run: impl FnOnce(&mut ViewState, Context<'_>) -> T) -> Option<T> {
        let Config { set, quorums, aggregator, .. } = &self.config;
        let context = Context { view, set, quorums, aggregator: *aggregator };
        self.views.get_mut(&view).map(|state| run(state, context))
    }

    fn on_votes(&mut self, votes: &[VerifiedVote], out: &mut Vec<Action>) {
        for vote in votes {
            let (view, signer) = (vote.vote().view, vote.vote().signer);
            let own = Some(signer) == self.config.own_index;
            self.heard(signer, view, self.now);
            if own
                || view <= self.chain.last_final.view
                || view.0 > self.current.0.saturating_add(VIEW_HORIZON)
            {
                self.counts.dropped += 1;
                continue;
            }
            self.views.entry(view).or_default();
            if let Some(Some(evidence)) = self.with_view(view, |state, context| state.insert(vote, context)) {
                out.push(Action::Evidence(Box::new(evidence)));
            }
            self.dirty.insert(view);
        }
        self.dirty.extend(self.waiting_views());
    }

    fn on_certificates(&mut self, certificates: Vec<VerifiedCertificate>) {
        for certificate in certificates {
            let (view, kind) = (certificate.certificate().view, certificate.certificate().kind);
            for signer in certificate.certificate().signers.iter() {
                self.heard(signer, view, self.now);
            }
            if !self.wants(view, &kind) {
                self.counts.dropped += 1;
                continue;
            }
            // A commit at or below the final view is wanted only when it contradicts: it goes to the fork check.
            if self.views.entry(view).or_default().insert_certificate(certificate.into_inner()) {
                self.dirty.insert(view);
                self.dirty.extend(self.waiting_views());
            }
        }
    }

    fn on_own_vote(&mut self, vote: VerifiedVote) {
        let view = vote.vote().view;
        if Some(vote.vote().signer) == self.config.own_index && view > self.chain.last_final.view {
            self.count_own_vote(vote);
            self.dirty.extend(self.waiting_views());
        }
    }

    fn count_own_vote(&mut self, vote: VerifiedVote) {
        let view = vote.vote().view;
        let state = self.views.entry(view).or_default();
        let known = state.own.durable.iter().any(|sent| sent.vote().ballot == vote.vote().ballot);
        if !known {
            state.own.durable.push(vote.clone());
            self.with_view(view, |state, context| state.insert(&vote, context));
            self.dirty.insert(view);
        }
    }

    fn on_proposal_built(&mut self, summary: ProposalSummary, out: &mut Vec<Action>) {
        if Some(summary.proposer) != self.config.own_index || summary.view <= self.chain.last_final.view {
            self.counts.dropped += 1;
            return;
        }
        let state = self.views.entry(summary.view).or_default();
        // A second own proposal in a view would be slashable: the first one stays the only one.
        if state.proposed.is_some_and(|block| block != summary.block) {
            self.counts.dropped += 1;
            return;
        }
        state.proposed = Some(summary.block);
        self.on_proposal(summary, Some(Verdict::Valid), out);
    }

    fn on_proposal(&mut self, summary: ProposalSummary, verdict: Option<Verdict>, out: &mut Vec<Action>) {
        self.on_certificates(summary.certificates.clone());
        let view = summary.view;
        let lawful = summary.parent_view < view && summary.proposer == self.leader(view);
        if lawful {
            self.heard(summary.proposer, view, self.now);
        }
        let last_final = &self.chain.last_final;
        if !lawful || view <= last_final.view || summary.height <= last_final.height {
            self.counts.dropped += 1;
            return;
        }
        let vouched = self.is_vouched_for(view, summary.block);
        let state = self.views.get(&view);
        let known = state.map_or(&[][..], |state| &state.proposals[..]);
        if !vouched && (!self.is_near(view) || known.len() >= HEADERS_PER_VIEW_MAX)
            || known.contains(&summary.block)
        {
            self.counts.dropped += 1;
            return;
        }
        if !self.chain.insert(&summary, verdict) {
            return;
        }
        let state = self.views.entry(view).or_default();
        let first = state.proposals.first().copied();
        state.proposals.push(summary.block);
        self.dirty.insert(view);
        self.dirty.extend(self.views.range(view..).map(|(later, _)| *later));
        if let Some(first) = first
            && !std::mem::replace(&mut self.views.entry(view).or_default().proposer_accused, true)
            && let Some(held) = self.chain.blocks.get(&first)
        {
            let first = SignedProposal { block: first, signature: held.signature };
            let second = SignedProposal { block: summary.block, signature: summary.signature };
            let evidence = Evidence::Proposals { view, proposer: summary.proposer, first, second };
            out.push(Action::Evidence(Box::new(evidence)));
        }
    }

    /// Whether a proposal's header would be kept: else what comes with it need not be.
    #[must_use]
    pub fn keeps_header(&self, view: View, block: BlockId) -> bool {
        let known = self.views.get(&view).map_or(&[][..], |state| &state.proposals[..]);
        self.is_near(view) && known.len() < HEADERS_PER_VIEW_MAX || self.is_vouched_for(view, block)
    }

    /// Whether a view is close enough to the current one to be kept without a certificate that vouches for it.
    fn is_near(&self, view: View) -> bool {
        view.0 <= self.current.0.saturating_add(VIEW_HORIZON)
            && view.0 >= self.current.0.saturating_sub(crate::collector::VIEWS_KEPT)
    }

    /// Whether a certificate or a known child makes a header worth keeping whatever its view.
    fn is_vouched_for(&self, view: View, block: BlockId) -> bool {
        let fast = CertificateKind::FastBlock(block);
        let final_votes = CertificateKind::CommitSlow(block);
        let holds = |kind| self.views.get(&view).is_some_and(|state| state.holds(kind, &self.config.quorums));
        holds(&fast) || holds(&final_votes) || self.chain.blocks.values().any(|held| held.parent == block)
    }

    fn on_verdict(&mut self, block: BlockId, verdict: Verdict) {
        if let Some(held) = self.chain.blocks.get_mut(&block).filter(|held| held.verdict.is_none()) {
            held.verdict = Some(verdict);
            let view = held.view;
            self.dirty.extend(self.views.range(view..).map(|(later, _)| *later));
        }
    }

    /// Views with a header that has not been voted on.
    fn waiting_views(&self) -> Vec<View> {
        let waits = |state: &ViewState| state.own.first.is_none() && !state.proposals.is_empty();
        self.views.iter().filter(|(_, state)| waits(state)).map(|(view, _)| *view).collect()
    }
}
