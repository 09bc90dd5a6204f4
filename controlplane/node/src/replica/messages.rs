//! What other validators send. Every message is from an authenticated validator, and none of them is believed: what is
//! wrong is counted and dropped.

use super::actions::propose_of;
use super::assembly::{Added, Assembly};
use super::blocks::{Block, BlockTimes, BodyState};
use super::plane::{Plane, Target};
use super::{Replica, WAITING_MAX, WaitingProposal};
use crate::workers::bls::Check;
use roko_consensus::collector::VIEW_HORIZON;
use roko_consensus::verify::check_stake;
use roko_consensus::{Event, Offered, ProposalSummary, VerifiedCertificate, justification_hash};
use roko_peers::Offence;
use roko_pipeline::spread::SpreadBlock;
use roko_wire::chunk::{Chunk, Propose, verify_proposal};
use roko_wire::message::Message;
use roko_wire::vote::{Certificate, CertificateKind, Vote};
use roko_wire::{BlockId, NanoMoment, ValidatorIndex, View};
use std::sync::Arc;

/// How far above the current view chunks without a header are kept.
const CHUNK_VIEWS_AHEAD: u64 = 8;

/// A vote this far below the last final view is no late one but a straggler's.
const STRAGGLER_VIEWS: u64 = 16;

/// How many blocks each peer may pull in a while: a block is thousands of times larger than the question.
#[derive(Debug)]
pub(super) struct PullBudget {
    left: Vec<u32>,
    refilled: NanoMoment,
}

impl PullBudget {
    const PER_PERIOD: u32 = 32;
    const PERIOD_NS: u64 = 100_000_000;

    pub(super) fn new(validators: usize) -> PullBudget {
        PullBudget { left: vec![Self::PER_PERIOD; validators], refilled: NanoMoment::ZERO }
    }

    fn take(&mut self, from: ValidatorIndex, now: NanoMoment) -> bool {
        if now.nanos_since(self.refilled) >= Self::PERIOD_NS {
            self.left.fill(Self::PER_PERIOD);
            self.refilled = now;
        }
        match self.left.get_mut(from.as_usize()) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }
}

impl<P: Plane> Replica<P> {
    /// Takes in one message.
    pub fn on_message(&mut self, from: ValidatorIndex, received: NanoMoment, bytes: &[u8]) {
        if self.stopped.is_some() {
            return;
        }
        let message = Message::read(bytes);
        if let Ok(message) = &message
            && view_of(message).is_some_and(|view| view > self.last_possible_view())
        {
            self.observer.counters.absurd_views.add(1);
            self.observer.conduct.note(from, Offence::AbsurdView);
            return;
        }
        match message {
            Ok(Message::Propose(propose)) => self.on_propose(from, received, propose),
            Ok(Message::Vote(vote)) => {
                self.help_straggler(from, vote.view);
                if from == vote.signer {
                    self.machine.heard(from, vote.view, self.clock.now);
                }
                self.on_vote(from, vote);
            }
            Ok(Message::Certificate(certificate)) => self.on_certificate(from, certificate),
            Ok(Message::Chunk(chunk)) => self.on_chunk(from, &chunk, bytes),
            Ok(Message::PullBlock(block)) => self.answer_pull(from, &block),
            Ok(Message::PullCertificate(view)) => {
                if self.may_pull(from) {
                    for certificate in self.machine.certificates_of(view) {
                        self.send_certificate(Target::One(from), &certificate);
                    }
                }
            }
            Ok(Message::Submit(_) | Message::Batch(_)) | Err(_) => {
                self.observer.counters.bad_messages.add(1);
                self.observer.conduct.note(from, Offence::BadMessage);
            }
        }
    }

    /// The highest view that a chain of this age can be in: one a microsecond, which is less than a message takes, and an
    /// hour more for clocks that are off.
    fn last_possible_view(&self) -> View {
        let age_us = self.clock.now.nanos_since(self.chain.genesis.time) / 1_000;
        View(age_us.saturating_add(3_600 * 1_000_000))
    }

    /// A vote speaks for its signer alone, whoever brings it: its signature is what counts.
    fn on_vote(&mut self, from: ValidatorIndex, vote: Vote) {
        let counters = &self.observer.counters;
        match self.collector.offer(vote, from, self.clock.now) {
            Offered::Kept => {}
            Offered::NotNeeded => counters.votes_dropped.add(1),
            Offered::FarAhead => self.note_far_ahead(from),
            Offered::Wrong => {
                counters.bad_votes.add(1);
                self.observer.conduct.note(from, Offence::BadVote);
            }
        }
    }

    fn note_far_ahead(&self, from: ValidatorIndex) {
        self.observer.counters.far_ahead.add(1);
        self.observer.conduct.note(from, Offence::FarAhead);
    }

    fn note_bad_proposal(&self, from: ValidatorIndex) {
        self.observer.counters.bad_proposals.add(1);
        self.observer.conduct.note(from, Offence::BadProposal);
    }

    fn note_bad_chunk(&self, from: ValidatorIndex) {
        self.observer.counters.bad_chunks.add(1);
        self.observer.conduct.note(from, Offence::BadChunk);
    }

    /// Whether a peer may ask for something more now.
    fn may_pull(&mut self, from: ValidatorIndex) -> bool {
        let may = self.pulls.take(from, self.clock.now);
        if !may {
            self.observer.counters.pulls_refused.add(1);
            self.observer.conduct.note(from, Offence::PullOverBudget);
        }
        may
    }

    /// Who votes in a view long final has missed its end: the proof of the last final block brings it here.
    fn help_straggler(&mut self, from: ValidatorIndex, view: View) {
        let final_view = self.machine.last_final().view;
        if view.0.saturating_add(STRAGGLER_VIEWS) < final_view.0 && self.pulls.take(from, self.clock.now) {
            for certificate in self.machine.certificates_of(view) {
                self.send_certificate(Target::One(from), &certificate);
            }
        }
    }

    fn on_certificate(&mut self, from: ValidatorIndex, certificate: Certificate) {
        if check_stake(&certificate, &self.chain.set, &self.chain.quorums).is_err() {
            self.observer.counters.bad_certificates.add(1);
            self.observer.conduct.note(from, Offence::BadCertificate);
            return;
        }
        if certificate.view > self.machine.last_final().view {
            self.certificates.add_received(from, &certificate);
        }
        if self.machine.wants(certificate.view, &certificate.kind) {
            match self.collector.offer_certificate(certificate, from, self.clock.now) {
                Offered::Kept => {}
                Offered::FarAhead => self.note_far_ahead(from),
                // Its stake was looked at before.
                Offered::NotNeeded | Offered::Wrong => self.observer.counters.certificates_dropped.add(1),
            }
        }
        self.retry_waiting();
    }

    fn on_propose(&mut self, from: ValidatorIndex, received: NanoMoment, propose: Propose) {
        let header = &propose.header;
        let id = header.id();
        let known = self.blocks.get(&id).is_some() || self.waiting.contains_key(&id);
        if known || header.view <= self.machine.last_final().view {
            return;
        }
        if header.view.0 > self.machine.current_view().0.saturating_add(VIEW_HORIZON) {
            return self.note_far_ahead(from);
        }
        // A proposer may sign as many as it likes; it takes only its own share of the room.
        let of_proposer = self.waiting.values().filter(|one| one.propose.header.proposer == header.proposer);
        if self.waiting.len() >= WAITING_MAX
            || of_proposer.count() >= waiting_share(self.chain.node_keys.len())
        {
            self.observer.counters.proposals_dropped.add(1);
            return;
        }
        let domain = self.chain.domain;
        let lawful = header.chain_id == domain.chain_id
            && header.epoch == domain.epoch
            && header.proposer == self.machine.leader(header.view)
            && u64::from(header.body_bytes) <= self.chain.rules.body_bytes_max as u64;
        let key = self.chain.node_keys.get(header.proposer.as_usize());
        let signed = lawful
            && key.is_some_and(|key| verify_proposal(key, domain, header.view, &id, &propose.signature));
        if !signed {
            return self.note_bad_proposal(from);
        }
        if from == header.proposer {
            self.observer.peers.proposed(from, header.time, received);
        }
        let waiting = WaitingProposal { propose, from, received, checking: false };
        self.waiting.insert(id, waiting);
        self.try_waiting(id);
    }

    /// Looks again at proposals that wait for certificates.
    pub(super) fn retry_waiting(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let final_view = self.machine.last_final().view;
        self.waiting.retain(|_, waiting| waiting.propose.header.view > final_view);
        let idle: Vec<BlockId> =
            self.waiting.iter().filter(|(_, w)| !w.checking).map(|(id, _)| *id).collect();
        idle.into_iter().for_each(|id| self.try_waiting(id));
    }

    /// Accepts a waiting proposal whose certificates are all at hand and known to be valid; has the others checked.
    fn try_waiting(&mut self, id: BlockId) {
        let Some(waiting) = self.waiting.get(&id) else { return };
        let Some(certificates) = self.justification_of(waiting) else { return };
        let header = &waiting.propose.header;
        let stake_holds = |certificate: &Certificate| {
            check_stake(certificate, &self.chain.set, &self.chain.quorums).is_ok()
        };
        if justification_hash(&certificates) != header.justification_hash
            || !certificates.iter().all(stake_holds)
        {
            if certificates.len() == waiting.propose.certificates.len() {
                // The proposal carries all of them, so no other certificates can make it right.
                let from = waiting.from;
                self.waiting.remove(&id);
                self.note_bad_proposal(from);
            }
            return;
        }
        if certificates.iter().all(|certificate| self.certificates.is_known(certificate)) {
            let verified = certificates.into_iter().map(VerifiedCertificate::assume).collect();
            self.accept(id, verified);
        } else if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.checking = true;
            self.checks.push_back(Check::Justification { block: id, certificates });
        }
    }

    pub(super) fn on_justification(&mut self, id: BlockId, verified: Option<Vec<VerifiedCertificate>>) {
        match verified {
            Some(certificates) => {
                certificates.iter().for_each(|c| self.certificates.add_verified(c.certificate()));
                self.accept(id, certificates);
            }
            None => {
                // The header commits to these very certificates, and who passes a proposal on has checked them.
                if let Some(waiting) = self.waiting.remove(&id) {
                    self.note_bad_proposal(waiting.from);
                }
            }
        }
    }

    /// All certificates of a waiting proposal: those it carries, then those its sender sent before. Which ones those are
    /// follows from the order of positions: FastSkip and SlowSkip of each view up to the proposal's.
    fn justification_of(&self, waiting: &WaitingProposal) -> Option<Vec<Certificate>> {
        let propose = &waiting.propose;
        let mut all: Vec<Certificate> = propose.certificates.to_vec();
        while all.len() < usize::from(propose.certificate_count) {
            let last = all.last()?;
            let (view, kind) = match last.kind {
                CertificateKind::FastSkip | CertificateKind::FastBlock(_) => {
                    (last.view, CertificateKind::SlowSkip)
                }
                _ => (last.view.next(), CertificateKind::FastSkip),
            };
            if view >= propose.header.view {
                return None;
            }
            let from_either = [waiting.from, propose.header.proposer];
            let found = from_either
                .iter()
                .flat_map(|from| self.certificates.received(*from, view))
                .find(|certificate| certificate.kind == kind)?;
            all.push(found.clone());
        }
        Some(all)
    }

    /// A justified proposal becomes a block whose body is put together.
    fn accept(&mut self, id: BlockId, certificates: Vec<VerifiedCertificate>) {
        let Some(WaitingProposal { propose, received, .. }) = self.waiting.remove(&id) else { return };
        if !self.machine.keeps_header(propose.header.view, id) {
            // Two of a view show that its leader lies; more show nothing and would only take room.
            self.observer.counters.proposals_dropped.add(1);
            return;
        }
        let parent_view = parent_view(&certificates, &propose);
        let tag = self.blocks.fresh_tag();
        let block = Block {
            body: BodyState::Assembling(Assembly::new(&propose.header)),
            signature: propose.signature,
            certificates: certificates.iter().map(|c| c.certificate().clone()).collect(),
            verdict_wanted: false,
            verdict: None,
            outcome: None,
            tag,
            journaled: false,
            times: BlockTimes { header: Some(received), ..BlockTimes::default() },
            header: propose.header,
        };
        let summary = summary_of(&block, id, parent_view, certificates);
        if !self.blocks.insert(id, block) {
            return;
        }
        for (from, message) in self.early.take(&id) {
            if let Ok(Message::Chunk(chunk)) = Message::read(&message) {
                self.on_chunk(from, &chunk, &message);
            }
        }
        self.feed(Event::Proposal(summary));
    }

    /// Keeps a chunk whose header has not come, when the leader of its view has signed the block.
    fn on_early_chunk(&mut self, from: ValidatorIndex, chunk: &Chunk<'_>, message: &[u8]) {
        let current = self.machine.current_view();
        let near = chunk.view > self.machine.last_final().view
            && chunk.view.0 <= current.0.saturating_add(CHUNK_VIEWS_AHEAD);
        if !near {
            self.observer.counters.chunks_dropped.add(1);
            return;
        }
        let key = self.chain.node_keys.get(self.machine.leader(chunk.view).as_usize());
        let signed =
            |key| verify_proposal(key, self.chain.domain, chunk.view, &chunk.block, &chunk.signature);
        if self.early.knows(&chunk.block) || key.is_some_and(signed) {
            self.early.keep(chunk.block, from, message);
        } else {
            self.note_bad_chunk(from);
        }
    }

    fn on_chunk(&mut self, from: ValidatorIndex, chunk: &Chunk<'_>, message: &[u8]) {
        let Some(block) = self.blocks.get_mut(&chunk.block) else {
            return self.on_early_chunk(from, chunk, message);
        };
        let BodyState::Assembling(assembly) = &mut block.body else { return };
        match assembly.add(&block.header, chunk) {
            Added::Complete => {
                let done = std::mem::replace(assembly, Assembly::new(&block.header));
                let (view, signature) = (block.header.view, block.signature);
                let body = SpreadBlock::from_body(chunk.block, view, signature, done.into_body());
                block.body = BodyState::Whole(Arc::new(body));
                if block.verdict_wanted {
                    self.validate(chunk.block);
                }
            }
            Added::Wrong => self.note_bad_chunk(from),
            Added::Kept | Added::Duplicate => {}
        }
    }

    /// Sends a block that a peer lacks, from memory or from the store.
    fn answer_pull(&mut self, from: ValidatorIndex, id: &BlockId) {
        if !self.may_pull(from) {
            return;
        }
        if self.blocks.get(id).is_some_and(|block| block.body().is_some()) {
            self.send_block(id, Target::One(from));
            return;
        }
        let Some(block) = self.stored_block(id) else { return };
        let propose = propose_of(&block);
        for certificate in block.certificates.iter().skip(propose.certificates.len()) {
            self.send_certificate(Target::One(from), certificate);
        }
        self.send_propose(&propose, Target::One(from));
        if let Some(body) = block.body().map(Arc::clone) {
            self.plane.spread(body, Target::One(from));
        }
    }
}

/// Proposals of one proposer that may wait for their certificates.
fn waiting_share(validators: usize) -> usize {
    (WAITING_MAX / validators.max(1)).max(2)
}

/// The view that a message speaks of.
fn view_of(message: &Message<'_>) -> Option<View> {
    match message {
        Message::Propose(propose) => Some(propose.header.view),
        Message::Vote(vote) => Some(vote.view),
        Message::Certificate(certificate) => Some(certificate.view),
        Message::Chunk(chunk) => Some(chunk.view),
        Message::PullCertificate(view) => Some(*view),
        Message::Submit(_) | Message::Batch(_) | Message::PullBlock(_) => None,
    }
}

/// The view of a proposal's parent: that of the first certificate; 0 when there is none, for then it is genesis.
fn parent_view(certificates: &[VerifiedCertificate], propose: &Propose) -> View {
    let of_parent = |c: &&VerifiedCertificate| c.certificate().kind.block() == Some(propose.header.parent);
    certificates.iter().find(of_parent).map_or(View(0), |c| c.certificate().view)
}

/// A block as the machine sees it.
pub(super) fn summary_of(
    block: &Block,
    id: BlockId,
    parent_view: View,
    certificates: Vec<VerifiedCertificate>,
) -> ProposalSummary {
    ProposalSummary {
        view: block.header.view,
        block: id,
        parent: block.header.parent,
        parent_view,
        height: block.header.height,
        proposer: block.header.proposer,
        time: block.header.time,
        empty: block.header.tx_count == 0,
        signature: block.signature,
        certificates,
    }
}
