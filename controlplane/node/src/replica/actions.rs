//! Carrying out what the consensus machine asks.

use super::plane::{Plane, PoolCommand, Target};
use super::{Journaled, Replica};
use crate::workers::journal::{Batch, block_records};
use roko_consensus::recovery::{ProposalRecord, Record, VoteRecord};
use roko_consensus::{Action, Event, VerifiedVote};
use roko_wire::chunk::Propose;
use roko_wire::codec::Sink;
use roko_wire::frame::PriorityClass;
use roko_wire::limits::PROPOSE_CERTIFICATES_MAX;
use roko_wire::message::MessageKind;
use roko_wire::vote::{Ballot, Bitmap, Certificate};
use roko_wire::{BlockId, View};
use std::sync::Arc;

/// Peers asked at once for a missing block.
const PULL_FROM: usize = 2;
/// Chunks of the largest block that a resend repeats whole; a larger one is pulled by who lacks it.
const RESEND_CHUNKS_MAX: usize = 64;

impl<P: Plane> Replica<P> {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::EnterView(view) => self.observer.enter_view(view, self.leader(view), self.now()),
            Action::SetTimer(at) => self.timer = at,
            Action::RequestProposal(request) => self.start_building(request),
            Action::ValidatePayload { block } => self.want_verdict(block),
            // Taken out before; see `step`.
            Action::CastVote { .. } => {}
            Action::BroadcastCertificate(certificate) => {
                self.observer.note_certificate(&certificate, true, self.now());
                self.send_certificate(Target::Validators, &certificate)
            }
            Action::Finalize { blocks, proof } => self.finalize(&blocks, &proof),
            Action::PullBlock { block, signers } => self.pull_block(block, &signers),
            Action::PullCertificate { view, .. } => {
                let mut message = vec![MessageKind::PullCertificate as u8];
                message.put_u64(view.0);
                self.plane.send(Target::Validators, PriorityClass::Consensus, &message);
            }
            Action::Abandoned { block } => self.abandon(&block),
            Action::Evidence(evidence) => self.observer.keep_evidence(&evidence),
            Action::Resend { votes, certificates, proposal } => {
                votes.iter().for_each(|vote| self.send_own_vote(vote));
                certificates
                    .iter()
                    .for_each(|certificate| self.send_certificate(Target::Validators, certificate));
                if let Some(block) = proposal {
                    self.send_block(&block, Target::Validators);
                }
            }
            Action::Halt { reason, proofs } => {
                self.observer.keep_proofs(&proofs);
                self.stop(reason.to_string());
            }
        }
    }

    /// Signs what waits. A node whose disk is full casts no vote: it could not keep what becomes final.
    pub(super) fn sign_waiting(&mut self) {
        if self.abstains() {
            self.unsigned.clear();
            return;
        }
        while !self.disk_full
            && self.stopped.is_none()
            && let Some((view, ballot)) = self.unsigned.front().copied()
        {
            if view > self.machine.last_final().view && !self.bls.sign(view, ballot) {
                return;
            }
            self.unsigned.pop_front();
        }
    }

    /// Whether nothing may be voted on or proposed, because what was voted for before a repair is not known.
    pub(super) fn abstains(&mut self) -> bool {
        let final_time = self.blocks.last_final().time;
        if let Some(over) = self.abstains.take_if(|abstention| abstention.is_over(final_time)) {
            over.end();
            self.observer.set_problem(None);
        }
        self.abstains.is_some()
    }

    /// Makes a signed vote durable; the first vote for a block takes the block with it.
    pub(super) fn journal_vote(&mut self, vote: VerifiedVote) {
        let mut records = Vec::new();
        let (view, ballot) = (vote.vote().view, vote.vote().ballot);
        if let Ballot::Notarize(id) = ballot {
            records.extend(self.unjournaled(&id));
        }
        let mut record = Vec::new();
        Record::Vote(VoteRecord { vote: vote.vote().clone() }).write(&mut record);
        records.push(record);
        self.journal(view, records, Journaled::Vote(vote));
    }

    pub(super) fn journal_proposal(&mut self, view: View, block: BlockId) {
        let mut records = self.unjournaled(&block);
        let mut record = Vec::new();
        Record::Proposal(ProposalRecord { view, block }).write(&mut record);
        records.push(record);
        self.journal(view, records, Journaled::Proposal(block));
    }

    fn journal(&mut self, view: View, records: Vec<Vec<u8>>, then: Journaled) {
        self.next_batch += 1;
        self.journaled.insert(self.next_batch, then);
        self.journal.append(Batch { id: self.next_batch, view, records });
    }

    /// The journal records of a block that is not in the journal yet.
    fn unjournaled(&mut self, id: &BlockId) -> Vec<Vec<u8>> {
        let Some(block) = self.blocks.get_mut(id) else { return Vec::new() };
        let Some(body) = block.body().map(Arc::clone) else { return Vec::new() };
        if std::mem::replace(&mut block.journaled, true) {
            return Vec::new();
        }
        let propose = propose_of(block);
        block_records(&propose, id, body.body())
    }

    /// An own vote is on disk: it goes out, and counts here.
    pub(super) fn send_vote(&mut self, vote: VerifiedVote) {
        self.send_own_vote(vote.vote());
        let now = self.now();
        if let Ballot::Notarize(id) = vote.vote().ballot
            && let Some(block) = self.blocks.get_mut(&id)
        {
            block.times.vote_durable.get_or_insert(now);
        }
        self.certificates.add_vote(&vote);
        self.observer.note_voters(std::slice::from_ref(&vote), now);
        self.feed(Event::OwnVoteDurable(vote));
    }

    fn send_own_vote(&mut self, vote: &roko_wire::vote::Vote) {
        let mut message = vec![MessageKind::Vote as u8];
        vote.write(&mut message);
        self.plane.send(Target::Validators, PriorityClass::Consensus, &message);
    }

    pub(super) fn send_certificate(&mut self, to: Target, certificate: &Certificate) {
        self.certificates.add_verified(certificate);
        let mut message = vec![MessageKind::Certificate as u8];
        certificate.write(&mut message);
        self.plane.send(to, PriorityClass::Consensus, &message);
    }

    /// Sends a block that is not final: the certificates that do not fit its proposal, the proposal, the chunks.
    pub(super) fn send_block(&mut self, id: &BlockId, to: Target) {
        let Some(block) = self.blocks.get(id) else { return };
        let propose = propose_of(block);
        let further: Vec<Certificate> =
            block.certificates.iter().skip(propose.certificates.len()).cloned().collect();
        let body = block.body().map(Arc::clone);
        let first = block.times.vote_durable.is_none();
        further.iter().for_each(|certificate| self.send_certificate(to, certificate));
        self.send_propose(&propose, to);
        if let Some(body) = body
            && (first || to != Target::Validators || body.chunk_count() <= RESEND_CHUNKS_MAX)
        {
            self.plane.spread(body, to);
        }
    }

    pub(super) fn send_propose(&mut self, propose: &Propose, to: Target) {
        let mut message = vec![MessageKind::Propose as u8];
        propose.write(&mut message);
        self.plane.send(to, PriorityClass::Consensus, &message);
    }

    fn pull_block(&mut self, block: BlockId, signers: &Bitmap) {
        let own = self.own.as_ref().map(|own| own.index);
        let mut message = vec![MessageKind::PullBlock as u8];
        message.put(&block.0);
        let others: Vec<_> = signers.iter().filter(|signer| Some(*signer) != own).collect();
        if others.is_empty() {
            self.plane.send(Target::Validators, PriorityClass::Consensus, &message);
        }
        // A different pair each time, so that one that does not answer is passed over.
        self.observer.counters.block_pulls.add(1);
        let start = self.observer.counters.block_pulls.get() as usize * PULL_FROM;
        for place in 0..PULL_FROM.min(others.len()) {
            let signer = others[(start + place) % others.len()];
            self.plane.send(Target::One(signer), PriorityClass::Consensus, &message);
        }
    }

    pub(super) fn abandon(&mut self, id: &BlockId) {
        if let Some(block) = self.blocks.remove(id) {
            self.plane.pool(PoolCommand::PutBack { tag: block.tag });
        }
        self.waiting.remove(id);
    }
}

/// The proposal message of a block.
pub(super) fn propose_of(block: &super::blocks::Block) -> Propose {
    Propose {
        header: block.header.clone(),
        signature: block.signature,
        certificates: block.certificates.iter().take(PROPOSE_CERTIFICATES_MAX).cloned().collect(),
        certificate_count: block.certificates.len() as u16,
    }
}
