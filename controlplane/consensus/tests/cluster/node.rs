//! One simulated node: machine, collector, disk, and signatures that cost nothing but still must add up.

use crate::roles::{Role, Seen};
use roko_consensus::collector::{Job, JobResult};
use roko_consensus::recovery::{Record, open_records};
use roko_consensus::{
    Config, Machine, ProposalSummary, Recovered, VerifiedCertificate, VerifiedVote, VoteCollector,
};
use roko_wire::vote::{Ballot, BlsSignature, Certificate, Vote};
use roko_wire::{BlockId, NanoMoment, ValidatorIndex, View};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A vote with the signature that the simulation gives its signer.
pub(crate) fn fake_vote(signer: ValidatorIndex, view: View, ballot: Ballot) -> Vote {
    Vote { view, ballot, signer, signature: fake_signature(signer, view, &ballot) }
}

fn fake_signature(signer: ValidatorIndex, view: View, ballot: &Ballot) -> BlsSignature {
    let block = u64::from_le_bytes(ballot.block().unwrap_or_default().0[..8].try_into().unwrap());
    let mut rng =
        crate::rng::Rng(block ^ view.0 << 16 ^ u64::from(signer.0) << 8 ^ u64::from(ballot.kind_byte()));
    let mut out = [0; 96];
    out[..8].copy_from_slice(&rng.next().to_le_bytes());
    out
}

fn xor(sum: &mut BlsSignature, signature: &BlsSignature) {
    sum.iter_mut().zip(signature).for_each(|(a, b)| *a ^= b);
}

/// Aggregation of fake signatures: their sum over bits.
pub(crate) fn fake_aggregate(votes: &[&VerifiedVote]) -> BlsSignature {
    let mut sum = [0; 96];
    votes.iter().for_each(|vote| xor(&mut sum, &vote.vote().signature));
    sum
}

fn certificate_fits(certificate: &Certificate, config: &Config) -> bool {
    let mut sum = [0; 96];
    for signer in certificate.signers.iter() {
        xor(&mut sum, &fake_signature(signer, certificate.view, &certificate.kind.first_ballot()));
    }
    for signer in certificate.fallback_signers.iter() {
        xor(&mut sum, &fake_signature(signer, certificate.view, &Ballot::SkipFallback));
    }
    sum == certificate.signature
        && roko_consensus::verify::check_stake(certificate, &config.set, &config.quorums).is_ok()
}

/// A header like this one with another id.
pub(crate) fn variant_of(summary: &ProposalSummary) -> ProposalSummary {
    let mut other = summary.clone();
    other.block = BlockId(Sha256::digest(summary.block.0).into());
    other
}

/// What survives a crash.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) records: Vec<Record>,
    pub(crate) headers: BTreeMap<BlockId, ProposalSummary>,
    pub(crate) last_final: Option<roko_consensus::FinalBlock>,
}

pub(crate) struct Node {
    pub(crate) index: usize,
    pub(crate) role: Role,
    pub(crate) config: Config,
    pub(crate) machine: Machine,
    pub(crate) collector: VoteCollector,
    pub(crate) disk: Disk,
    /// Headers in memory, to answer pulls.
    pub(crate) headers: BTreeMap<BlockId, ProposalSummary>,
    pub(crate) seen: Seen,
    pub(crate) incarnation: u32,
    pub(crate) down: bool,
    pub(crate) jobs: u64,
}

impl Node {
    pub(crate) fn new(
        index: usize,
        role: Role,
        config: Config,
        recovered: Recovered,
        now: NanoMoment,
    ) -> Node {
        let mut node = Node {
            index,
            role,
            machine: Machine::new(config.clone(), recovered, now),
            collector: VoteCollector::new(config.set.clone(), config.quorums, config.own_index, 1_000_000),
            config,
            disk: Disk::default(),
            headers: BTreeMap::new(),
            seen: Seen::new(),
            incarnation: 0,
            down: false,
            jobs: 0,
        };
        node.collector.set_views(node.machine.last_final().view, node.machine.current_view());
        node
    }

    /// Comes back with nothing but its disk.
    pub(crate) fn restart(&mut self, genesis: &Recovered, now: NanoMoment) {
        let mut recovered = genesis.clone();
        if let Some(last_final) = &self.disk.last_final {
            recovered.last_final = last_final.clone();
        }
        let open = open_records(self.disk.records.iter().cloned(), recovered.last_final.view);
        (recovered.votes, recovered.proposals) = open;
        self.machine = Machine::new(self.config.clone(), recovered, now);
        let own = self.config.own_index;
        self.collector = VoteCollector::new(self.config.set.clone(), self.config.quorums, own, 1_000_000);
        self.collector.set_views(self.machine.last_final().view, self.machine.current_view());
        self.headers = self.disk.headers.clone();
        self.down = false;
    }

    /// What the worker thread does, with fake signatures.
    pub(crate) fn run_job(&mut self, job: Job) -> JobResult {
        self.jobs += 1;
        let fits = |vote: &Vote| vote.signature == fake_signature(vote.signer, vote.view, &vote.ballot);
        let (good, bad_votes): (Vec<Vote>, Vec<Vote>) = job.votes.into_iter().partition(fits);
        let (certificates, bad): (Vec<_>, Vec<_>) =
            job.certificates.into_iter().partition(|certificate| certificate_fits(certificate, &self.config));
        JobResult {
            view: job.view,
            votes: good.into_iter().map(VerifiedVote::assume).collect(),
            bad_votes,
            certificates: certificates.into_iter().map(VerifiedCertificate::assume).collect(),
            bad_certificates: bad,
        }
    }

    /// The certificates of a header that fit; the others are dropped as a driver would.
    pub(crate) fn checked(&self, mut summary: ProposalSummary) -> ProposalSummary {
        summary.certificates.retain(|one| certificate_fits(one.certificate(), &self.config));
        summary
    }
}
