//! Makes hostile messages out of what the attacker knows: its keys, and what honest validators tell it.

use super::Attack;
use crate::chain::Chain;
use roko_consensus::{SecretKey, VerifiedVote, justification_hash};
use roko_state::fault::Sequence;
use roko_wire::block::{Header, chunk_leaf};
use roko_wire::chunk::{Chunk, Propose, sign_proposal};
use roko_wire::codec::Sink;
use roko_wire::message::{Message, MessageKind};
use roko_wire::nano::ClockSource;
use roko_wire::stamp::{Stamp, write_signed_batch};
use roko_wire::vote::{Ballot, Bitmap, Certificate, CertificateKind, Vote};
use roko_wire::{BlockId, ChainId, Hash32, Height, NanoMoment, ValidatorIndex, View, merkle};
use std::collections::VecDeque;
use std::sync::Arc;

/// What is remembered of each kind.
const KEPT: usize = 32;
/// A year, nanoseconds.
const YEAR_NS: u64 = 365 * 24 * 3_600 * 1_000_000_000;

/// What honest validators have told.
#[derive(Default)]
pub(super) struct Heard {
    view: u64,
    headers: VecDeque<(BlockId, Header)>,
    certificates: VecDeque<Certificate>,
    chunks: VecDeque<Vec<u8>>,
}

fn keep<T>(list: &mut VecDeque<T>, item: T) {
    list.push_back(item);
    if list.len() > KEPT {
        list.pop_front();
    }
}

impl Heard {
    /// Takes in an honest message.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        match Message::read(bytes) {
            Ok(Message::Propose(propose)) => {
                self.view = self.view.max(propose.header.view.0);
                keep(&mut self.headers, (propose.header.id(), propose.header));
            }
            Ok(Message::Vote(vote)) => self.view = self.view.max(vote.view.0),
            Ok(Message::Certificate(certificate)) => {
                self.view = self.view.max(certificate.view.0);
                if !self.certificates.contains(&certificate) {
                    keep(&mut self.certificates, certificate);
                }
            }
            Ok(Message::Chunk(_)) => keep(&mut self.chunks, bytes.to_vec()),
            _ => {}
        }
    }
}

/// See the module.
pub(super) struct Crafter {
    pub(super) chain: Arc<Chain>,
    pub(super) index: ValidatorIndex,
    pub(super) node_key: ed25519_zebra::SigningKey,
    pub(super) bls_key: SecretKey,
    pub(super) heard: Heard,
    pub(super) random: Sequence,
    /// The last view that it proposed in.
    pub(super) proposed: u64,
    /// The last view that it voted in as if it were honest.
    pub(super) voted: u64,
}

fn message(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.write(&mut out);
    out
}

impl Crafter {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.random.next_number() as u8)
    }

    fn block(&mut self) -> BlockId {
        BlockId(self.bytes())
    }

    /// What is sent to everybody in one round.
    pub(super) fn round(&mut self, attack: Attack, now: NanoMoment) -> Vec<Vec<u8>> {
        match attack {
            Attack::Garbage => self.garbage(),
            // Of a view long final: cheap to refuse, and there are many.
            Attack::Flood => vec![self.forged_vote(self.index, View(1)); 256],
            Attack::AbsurdViews => self.of_view(View(u64::MAX)),
            // No certificate: one whose signature does not hold is a lie of any view.
            Attack::FarViews => vec![self.forged_vote(self.index, View(self.heard.view + 100_000))],
            Attack::BadVotes => self.bad_votes(),
            Attack::BadCertificates => self.bad_certificates(),
            Attack::UnknownBlocks => self.one_signed_vote(),
            Attack::DoubleVotes => vec![self.signed_vote(), self.signed_vote()],
            Attack::BadProposals => self.bad_proposals(now),
            Attack::DoubleProposals | Attack::InvalidBlocks => self.own_proposals(attack, now),
            Attack::BadChunks => self.bad_chunks(),
            Attack::BadBatches => self.bad_batches(now),
            Attack::AbsurdStamps => self.absurd_stamps(now),
            Attack::Pulls => self.pulls(),
            // These are not sent as messages of their own.
            Attack::Replay | Attack::LinkGarbage | Attack::SyncGarbage | Attack::SyncLies => Vec::new(),
        }
    }

    fn garbage(&mut self) -> Vec<Vec<u8>> {
        let kinds = [0xa5, MessageKind::Vote as u8, MessageKind::Batch as u8, MessageKind::Chunk as u8];
        let with = |kind| {
            let mut out = vec![kind];
            // Its own name, so that a batch gets further than the check of that.
            out.put_u16(self.index.0);
            out.extend_from_slice(&self.bytes::<300>());
            out
        };
        kinds.map(with).into()
    }

    fn forged_vote(&mut self, signer: ValidatorIndex, view: View) -> Vec<u8> {
        let ballot = Ballot::Notarize(self.block());
        message(&Message::Vote(Vote { view, ballot, signer, signature: self.bytes() }))
    }

    /// A point of the curve that signs something else: only a pairing tells.
    fn wrong_signature(&self) -> [u8; 96] {
        let (view, ballot) = (View(0), Ballot::Skip);
        VerifiedVote::sign(self.chain.domain, &self.bls_key, self.index, view, ballot).vote().signature
    }

    fn certificate(&mut self, view: View, count: u16) -> Certificate {
        let mut signers = Bitmap::default();
        (0..count).for_each(|signer| {
            signers.insert(ValidatorIndex(signer));
        });
        let kind = CertificateKind::SlowBlock(self.block());
        let signature = self.wrong_signature();
        Certificate { view, kind, signers, fallback_signers: Bitmap::default(), signature }
    }

    fn of_view(&mut self, view: View) -> Vec<Vec<u8>> {
        let mut pull = vec![MessageKind::PullCertificate as u8];
        pull.put_u64(view.0);
        let certificate = self.certificate(view, self.chain.set.len() as u16);
        vec![self.forged_vote(self.index, view), message(&Message::Certificate(certificate)), pull]
    }

    fn bad_votes(&mut self) -> Vec<Vec<u8>> {
        let view = View(self.heard.view);
        let validators = self.chain.set.len() as u16;
        let signature = self.wrong_signature();
        let mut out: Vec<Vec<u8>> = (0..validators)
            .map(|signer| {
                let (ballot, signer) = (Ballot::Notarize(self.block()), ValidatorIndex(signer));
                message(&Message::Vote(Vote { view, ballot, signer, signature }))
            })
            .collect();
        out.push(self.forged_vote(ValidatorIndex(validators), view));
        out.push(self.forged_vote(ValidatorIndex(255), view));
        out
    }

    fn bad_certificates(&mut self) -> Vec<Vec<u8>> {
        let view = View(self.heard.view);
        let counts = [0, 1, self.chain.set.len() as u16, 256];
        counts.map(|count| message(&Message::Certificate(self.certificate(view, count)))).into()
    }

    /// One a view, as an honest validator votes.
    fn one_signed_vote(&mut self) -> Vec<Vec<u8>> {
        let new = self.heard.view > self.voted;
        self.voted = self.voted.max(self.heard.view);
        if new { vec![self.signed_vote()] } else { Vec::new() }
    }

    /// A vote with the attacker's own good signature, for a block that does not exist.
    fn signed_vote(&mut self) -> Vec<u8> {
        let (view, ballot) = (View(self.heard.view), Ballot::Notarize(self.block()));
        let vote = VerifiedVote::sign(self.chain.domain, &self.bls_key, self.index, view, ballot);
        message(&Message::Vote(vote.vote().clone()))
    }

    fn leader(&self, view: View) -> ValidatorIndex {
        self.chain.set.leader(&self.chain.genesis.seed.0, view)
    }

    fn header(&mut self, view: View, parent: (BlockId, Height), body: &[u8], now: NanoMoment) -> Header {
        Header {
            chain_id: self.chain.domain.chain_id,
            epoch: self.chain.domain.epoch,
            view,
            height: Height(parent.1.0 + 1),
            parent: parent.0,
            justification_hash: Hash32::ZERO,
            proposer: self.leader(view),
            time: now,
            watermark: now.saturating_sub(self.chain.watermark_lag_ns),
            tx_root: Hash32(self.bytes()),
            chunk_root: merkle::root_in_place(&mut [chunk_leaf(0, body)]),
            body_bytes: body.len() as u32,
            tx_count: 1,
            parent_state_root: Hash32(self.bytes()),
            parent_receipts_root: Hash32(self.bytes()),
            gas_limit: self.chain.rules.gas_limit,
            base_fee: 1,
            next_set_root: None,
        }
    }

    fn propose(&self, header: Header, certificates: &[Certificate]) -> Vec<u8> {
        let signature = sign_proposal(&self.node_key, self.chain.domain, header.view, &header.id());
        let carried = certificates.iter().cloned().collect();
        let certificate_count = certificates.len() as u16;
        message(&Message::Propose(Propose { header, signature, certificates: carried, certificate_count }))
    }

    fn bad_proposals(&mut self, now: NanoMoment) -> Vec<Vec<u8>> {
        let next = self.heard.view + 1;
        let own = (next..next + 60).map(View).find(|view| self.leader(*view) == self.index);
        let others = (next..next + 60).map(View).find(|view| self.leader(*view) != self.index);
        let parent = (self.block(), Height(1));
        let mut out = Vec::new();
        if let Some(view) = others {
            // Signed by the wrong one, and of the wrong one.
            let header = self.header(view, parent, b"x", now);
            out.push(self.propose(header.clone(), &[]));
            out.push(self.propose(Header { proposer: self.index, ..header }, &[]));
        }
        if let Some(view) = own {
            let header = self.header(view, parent, b"x", now);
            out.push(self.propose(Header { chain_id: ChainId(1), ..header.clone() }, &[]));
            out.push(self.propose(Header { body_bytes: u32::MAX, ..header.clone() }, &[]));
            let certificate = self.certificate(View(view.0 - 1), self.chain.set.len() as u16);
            let justification_hash = justification_hash(std::slice::from_ref(&certificate));
            out.push(self.propose(Header { justification_hash, ..header }, &[certificate]));
        }
        out
    }

    /// Proposals in a view of its own on a parent that is certified: two, or one with a payload of garbage.
    fn own_proposals(&mut self, attack: Attack, now: NanoMoment) -> Vec<Vec<u8>> {
        let slow = |certificate: &&Certificate| matches!(certificate.kind, CertificateKind::SlowBlock(_));
        let Some(certificate) = self.heard.certificates.iter().rev().find(slow).cloned() else {
            return Vec::new();
        };
        let view = certificate.view.next();
        let parent = certificate.kind.block();
        let height =
            self.heard.headers.iter().find(|(id, _)| Some(*id) == parent).map(|(_, header)| header.height);
        let (Some(parent), Some(height)) = (parent, height) else { return Vec::new() };
        if self.leader(view) != self.index || self.proposed >= view.0 {
            return Vec::new();
        }
        self.proposed = view.0;
        let body = self.bytes::<200>();
        let justification_hash = justification_hash(std::slice::from_ref(&certificate));
        let headers: [Header; 2] = std::array::from_fn(|_| Header {
            justification_hash,
            ..self.header(view, (parent, height), &body, now)
        });
        let certificates = [certificate];
        if attack == Attack::DoubleProposals {
            return headers.map(|header| self.propose(header, &certificates)).into();
        }
        let [header, _] = headers;
        let id = header.id();
        let signature = sign_proposal(&self.node_key, self.chain.domain, view, &id);
        let path = merkle::Path::default();
        let chunk = Chunk { block: id, view, index: 0, count: 1, signature, path, data: &body };
        vec![self.propose(header, &certificates), message(&Message::Chunk(chunk))]
    }

    fn bad_chunks(&mut self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for bytes in self.heard.chunks.clone() {
            let Ok(Message::Chunk(chunk)) = Message::read(&bytes) else { continue };
            let mut data = chunk.data.to_vec();
            if let Some(first) = data.first_mut() {
                *first ^= 1;
            }
            out.push(message(&Message::Chunk(Chunk { data: &data, ..chunk.clone() })));
            let count = chunk.count.saturating_add(1).min(roko_wire::limits::CHUNKS_MAX as u32);
            out.push(message(&Message::Chunk(Chunk { count, index: count - 1, ..chunk })));
        }
        self.heard.chunks.clear();
        let (view, block, signature) = (View(self.heard.view + 1), self.block(), self.bytes());
        let path = merkle::Path::default();
        out.push(message(&Message::Chunk(Chunk {
            block,
            view,
            index: 0,
            count: 1,
            signature,
            path,
            data: &[7; 800],
        })));
        out
    }

    fn batch(&mut self, stamp: &Stamp, wire: &[u8]) -> Vec<u8> {
        let mut out = vec![MessageKind::Batch as u8];
        write_signed_batch(
            &self.node_key,
            self.chain.domain.chain_id,
            stamp,
            &[(stamp.time, wire)],
            &mut out,
        );
        out
    }

    fn stamp(&self, time: NanoMoment) -> Stamp {
        Stamp { time, bound_ns: 1_000_000, source: ClockSource::System.into(), ingress: self.index }
    }

    fn bad_batches(&mut self, now: NanoMoment) -> Vec<Vec<u8>> {
        let honest = self.stamp(now);
        let garbage = self.bytes::<245>();
        // A transfer of nobody's: it parses, and its signature does not hold.
        let transfer = self.transfer(now);
        let mut root = self.batch(&honest, &transfer);
        root[10] ^= 1;
        let stolen = Stamp { ingress: ValidatorIndex(0), ..honest };
        vec![
            self.batch(&honest, &garbage),
            self.batch(&honest, &transfer),
            root,
            self.batch(&stolen, &garbage),
        ]
    }

    fn transfer(&mut self, now: NanoMoment) -> Vec<u8> {
        let tx = roko_wire::tx::NativeTx {
            chain_id: self.chain.domain.chain_id,
            nonce: 0,
            gas_limit: roko_wire::rules::TRANSFER_GAS,
            max_fee: 1_000_000_000,
            max_priority_fee: 1,
            valid_from: now.saturating_sub(1_000_000_000),
            valid_until: now.saturating_add(30_000_000_000),
            value: ruint::aliases::U256::from(1),
            to: Some(roko_wire::Address([9; 20])),
            input: &[],
            access_list: &[],
            access_items: 0,
            access_keys: 0,
        };
        let mut wire = tx.sign_ed25519(&self.node_key);
        if let Some(last) = wire.last_mut() {
            *last ^= 1;
        }
        wire
    }

    fn absurd_stamps(&mut self, now: NanoMoment) -> Vec<Vec<u8>> {
        let transfer = self.transfer(now);
        let later = self.stamp(now.saturating_add(YEAR_NS));
        let earlier = self.stamp(now.saturating_sub(YEAR_NS));
        let vague = Stamp { bound_ns: u64::MAX, ..self.stamp(now) };
        [later, earlier, vague].map(|stamp| self.batch(&stamp, &transfer)).into()
    }

    fn pulls(&mut self) -> Vec<Vec<u8>> {
        let known = self.heard.headers.back().map_or(BlockId::ZERO, |(id, _)| *id);
        let mut view = vec![MessageKind::PullCertificate as u8];
        view.put_u64(self.heard.view);
        let mut out = vec![view; 8];
        for block in [known, self.block()] {
            let mut pull = vec![MessageKind::PullBlock as u8];
            pull.put(&block.0);
            out.extend(std::iter::repeat_n(pull, 8));
        }
        out
    }
}
