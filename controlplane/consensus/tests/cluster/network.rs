//! The cluster: an event queue in simulated time, and the checks that every step must pass.

use crate::node::{Node, fake_aggregate, fake_vote};
use crate::rng::Rng;
use crate::roles::{Role, twist};
use crate::setup::Setup;
use roko_consensus::collector::JobResult;
use roko_consensus::evidence::slashable;
use roko_consensus::recovery::{ProposalRecord, Record, VoteRecord};
use roko_consensus::{
    Action, Config, Event, ProposalRequest, ProposalSummary, Recovered, SecretKey, Validator, ValidatorSet,
    Verdict, VerifiedCertificate, VerifiedVote,
};
use roko_wire::vote::{Ballot, Certificate, SigningDomain, Vote};
use roko_wire::{BlockId, ChainId, Epoch, Height, NanoMoment, ValidatorIndex, View};
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

const MS: u64 = 1_000_000;
const START: NanoMoment = NanoMoment(1_000_000_000_000_000_000);
const GENESIS: BlockId = BlockId([0xee; 32]);

static KEYS: LazyLock<Vec<SecretKey>> =
    LazyLock::new(|| (0..8u8).map(|i| SecretKey::from_seed(&[i + 1; 32]).unwrap()).collect());

/// What nodes send.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Vote(Vote),
    Certificate(Certificate),
    Proposal(ProposalSummary),
    WantBlock(BlockId),
    WantCertificates(View),
}

enum Happening {
    Arrive { from: usize, message: Message },
    Timer,
    CollectorDue,
    VoteOnDisk { view: View, ballot: Ballot },
    ProposalOnDisk(ProposalRequest),
    Judge(BlockId),
    Verified(JobResult),
    Crash,
    Restart,
}

pub(crate) struct Cluster {
    setup: Setup,
    rng: Rng,
    now: NanoMoment,
    queue: BinaryHeap<Reverse<(NanoMoment, u64)>>,
    happenings: BTreeMap<u64, (usize, u32, Happening)>,
    serial: u64,
    nodes: Vec<Node>,
    genesis: Recovered,
    finals: BTreeMap<Height, BlockId>,
    honest_votes: BTreeMap<(usize, View), Vec<Ballot>>,
    pub(crate) violation: Option<String>,
    trace: Sha256,
}

impl Cluster {
    pub(crate) fn new(setup: Setup, seed: u64) -> Cluster {
        let mut rng = Rng(seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(setup.stakes.len() as u64));
        let validator =
            |(i, stake): (usize, &u64)| Validator { public_key: KEYS[i].public_key(), stake: *stake };
        let set =
            Arc::new(ValidatorSet::new(setup.stakes.iter().enumerate().map(validator).collect()).unwrap());
        let genesis = Recovered::genesis(GENESIS, START);
        let mut leader_seed = [0; 32];
        leader_seed[..8].copy_from_slice(&rng.next().to_le_bytes());
        let config = |index: usize| Config {
            domain: SigningDomain { chain_id: ChainId(1), epoch: Epoch(0) },
            set: set.clone(),
            quorums: setup.quorums,
            own_index: Some(ValidatorIndex(index as u16)),
            leader_seed,
            delta_ns: 20 * MS,
            delta_ns_max: 400 * MS,
            delta_growth_percent: 5,
            min_block_interval_ns: 10 * MS,
            empty_block_interval_ns: 1_000 * MS,
            standstill_ns: 10_000 * MS,
            aggregator: fake_aggregate,
        };
        let node = |i| Node::new(i, setup.roles[i], config(i), genesis.clone(), START);
        let nodes: Vec<Node> = (0..setup.stakes.len()).map(node).collect();
        let mut cluster = Cluster {
            setup,
            rng,
            now: START,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            serial: 0,
            nodes,
            genesis,
            finals: BTreeMap::new(),
            honest_votes: BTreeMap::new(),
            violation: None,
            trace: Sha256::new(),
        };
        for index in 0..cluster.nodes.len() {
            let busy = cluster.setup.busy;
            cluster.feed(index, Event::PendingTransactions(busy));
            if cluster.setup.crashes && cluster.rng.percent(40) {
                let after = cluster.rng.below(cluster.setup.chaos_ms) * MS;
                cluster.plan(index, after, Happening::Crash);
            }
        }
        cluster
    }

    fn plan(&mut self, node: usize, after_ns: u64, what: Happening) {
        self.serial += 1;
        self.queue.push(Reverse((self.now.saturating_add(after_ns), self.serial)));
        self.happenings.insert(self.serial, (node, self.nodes[node].incarnation, what));
    }

    /// Lets simulated time pass.
    pub(crate) fn run_ms(&mut self, millis: u64) {
        let end = self.now.saturating_add(millis * MS);
        while let Some(Reverse((at, serial))) = self.queue.peek().copied() {
            if at > end || self.violation.is_some() {
                break;
            }
            self.queue.pop();
            self.now = at;
            if let Some((node, incarnation, what)) = self.happenings.remove(&serial) {
                self.happen(node, incarnation, what);
            }
        }
        self.now = end;
    }

    /// No more loss, crashes or long delays; whoever is down comes back.
    pub(crate) fn heal(&mut self) {
        (self.setup.loss_percent, self.setup.delay_us_max, self.setup.crashes) = (0, 4_000, false);
        for index in 0..self.nodes.len() {
            if self.nodes[index].down {
                self.restart(index);
            }
        }
    }

    fn happen(&mut self, node: usize, incarnation: u32, what: Happening) {
        if let Happening::Restart = what {
            if self.nodes[node].down {
                self.restart(node);
            }
            return;
        }
        let arrives = matches!(what, Happening::Arrive { .. });
        if self.nodes[node].down || (!arrives && incarnation != self.nodes[node].incarnation) {
            return;
        }
        match what {
            Happening::Arrive { from, message } => self.arrive(node, from, message),
            Happening::Timer => self.feed(node, Event::Tick),
            Happening::CollectorDue => self.take_jobs(node),
            Happening::VoteOnDisk { view, ballot } => self.vote_on_disk(node, view, ballot),
            Happening::ProposalOnDisk(request) => self.proposal_on_disk(node, &request),
            Happening::Judge(block) => {
                let untimely = self.setup.loss_percent > 0 && self.rng.percent(4);
                let verdict = if untimely { Verdict::Untimely } else { Verdict::Valid };
                self.feed(node, Event::Verdict { block, verdict });
            }
            Happening::Verified(result) => {
                self.nodes[node].collector.finish(&result, self.now);
                self.feed(node, Event::Certificates(result.certificates));
                self.feed(node, Event::Votes(result.votes));
                self.take_jobs(node);
            }
            Happening::Crash => {
                if self.setup.crashes {
                    self.nodes[node].down = true;
                    self.nodes[node].incarnation += 1;
                    let after = (1 + self.rng.below(80)) * MS;
                    self.plan(node, after, Happening::Restart);
                }
            }
            Happening::Restart => {}
        }
    }

    fn restart(&mut self, index: usize) {
        let genesis = self.genesis.clone();
        self.nodes[index].restart(&genesis, self.now);
        let busy = self.setup.busy;
        self.feed(index, Event::PendingTransactions(busy));
        let own: Vec<ProposalSummary> = self.nodes[index]
            .disk
            .headers
            .values()
            .filter(|summary| summary.proposer.as_usize() == index)
            .cloned()
            .collect();
        for summary in own {
            self.feed(index, Event::ProposalBuilt(summary));
        }
    }

    fn arrive(&mut self, node: usize, from: usize, message: Message) {
        match message {
            Message::Vote(vote) => {
                if from == vote.signer.as_usize() {
                    self.nodes[node].machine.heard(vote.signer, vote.view, self.now);
                }
                self.nodes[node].collector.offer(vote, ValidatorIndex(from as u16), self.now);
                self.take_jobs(node);
            }
            Message::Certificate(certificate) => {
                if self.nodes[node].machine.wants(certificate.view, &certificate.kind) {
                    self.nodes[node].collector.offer_certificate(
                        certificate,
                        ValidatorIndex(from as u16),
                        self.now,
                    );
                    self.take_jobs(node);
                }
            }
            Message::Proposal(summary) => {
                self.note_header(node, &summary);
                let summary = self.nodes[node].checked(summary);
                self.feed(node, Event::Proposal(summary));
            }
            Message::WantBlock(block) => {
                if let Some(summary) = self.nodes[node].headers.get(&block).cloned() {
                    self.send(node, from, Message::Proposal(summary));
                }
            }
            Message::WantCertificates(view) => {
                for certificate in self.nodes[node].machine.certificates_of(view) {
                    self.send(node, from, Message::Certificate(certificate));
                }
            }
        }
    }

    fn note_header(&mut self, node: usize, summary: &ProposalSummary) {
        let node = &mut self.nodes[node];
        node.headers.insert(summary.block, summary.clone());
        let seen = node.seen.entry(summary.view).or_default();
        if !seen.contains(&summary.block) {
            seen.push(summary.block);
        }
    }

    fn take_jobs(&mut self, index: usize) {
        let now = self.now;
        loop {
            let node = &mut self.nodes[index];
            let machine = &node.machine;
            let Some(job) = node.collector.take_job(now, |view, kind| machine.wants(view, kind)) else {
                break;
            };
            let result = node.run_job(job);
            let cost = MS + self.rng.below(MS / 2);
            self.plan(index, cost, Happening::Verified(result));
        }
        if let Some(at) = self.nodes[index].collector.next_due(now) {
            let after = at.nanos_since(now).max(1);
            self.plan(index, after, Happening::CollectorDue);
        }
    }

    fn vote_on_disk(&mut self, node: usize, view: View, ballot: Ballot) {
        let vote = fake_vote(ValidatorIndex(node as u16), view, ballot);
        self.nodes[node].disk.records.push(Record::Vote(VoteRecord { vote: vote.clone() }));
        if self.nodes[node].role == Role::Honest {
            let sent = self.honest_votes.entry((node, view)).or_default();
            if sent.iter().any(|before| slashable(before, &ballot)) {
                self.violation =
                    Some(format!("honest node {node} sent {sent:?} and {ballot:?} in view {view}"));
            }
            sent.push(ballot);
        }
        self.broadcast(node, &Message::Vote(vote.clone()));
        self.feed(node, Event::OwnVoteDurable(VerifiedVote::assume(vote)));
    }

    fn proposal_on_disk(&mut self, node: usize, request: &ProposalRequest) {
        let mut hash = Sha256::new();
        hash.update(request.parent.0);
        hash.update(request.view.0.to_le_bytes());
        hash.update(self.rng.next().to_le_bytes());
        let summary = ProposalSummary {
            view: request.view,
            block: BlockId(hash.finalize().into()),
            parent: request.parent,
            parent_view: request.parent_view,
            height: request.parent_height.next(),
            proposer: ValidatorIndex(node as u16),
            time: self.now.max(request.parent_time.saturating_add(1)),
            empty: !self.setup.busy,
            signature: [0; 64],
            certificates: request.certificates.iter().cloned().map(VerifiedCertificate::assume).collect(),
        };
        let record = ProposalRecord { view: summary.view, block: summary.block };
        self.nodes[node].disk.records.push(Record::Proposal(record));
        self.nodes[node].disk.headers.insert(summary.block, summary.clone());
        self.note_header(node, &summary);
        self.broadcast(node, &Message::Proposal(summary.clone()));
        self.feed(node, Event::ProposalBuilt(summary));
    }

    fn broadcast(&mut self, from: usize, message: &Message) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            let node = &self.nodes[from];
            for message in twist(node.role, message.clone(), to, &node.seen, &mut self.rng) {
                if let Message::Proposal(summary) = &message {
                    self.nodes[from].headers.insert(summary.block, summary.clone());
                }
                self.send(from, to, message);
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        if !self.rng.percent(self.setup.loss_percent) {
            let delay = MS / 20 + self.rng.below(self.setup.delay_us_max * 1_000);
            self.plan(to, delay, Happening::Arrive { from, message });
        }
    }

    fn feed(&mut self, index: usize, event: Event) {
        let mut out = Vec::new();
        self.nodes[index].machine.step(event, self.now, &mut out);
        for action in out {
            if self.setup.traced {
                self.trace.update(format!("{index} {} {action:?}", self.now));
            }
            self.act(index, action);
        }
        let node = &mut self.nodes[index];
        node.collector.set_views(node.machine.last_final().view, node.machine.current_view());
    }

    fn act(&mut self, index: usize, action: Action) {
        match action {
            Action::EnterView(_) | Action::Abandoned { .. } => {}
            Action::SetTimer(at) => self.plan(index, at.nanos_since(self.now), Happening::Timer),
            Action::RequestProposal(request) => {
                let after = self.disk_ns();
                self.plan(index, after, Happening::ProposalOnDisk(request));
            }
            Action::ValidatePayload { block } => {
                let after = self.rng.below(MS.min(self.setup.delay_us_max * 1_000));
                self.plan(index, after, Happening::Judge(block));
            }
            Action::CastVote { view, ballot } => {
                let after = self.disk_ns();
                self.plan(index, after, Happening::VoteOnDisk { view, ballot });
            }
            Action::BroadcastCertificate(certificate) => {
                self.broadcast(index, &Message::Certificate(certificate));
            }
            Action::Finalize { blocks, .. } => self.finalized(index, &blocks),
            Action::PullBlock { block, signers } => {
                for to in signers.iter().map(ValidatorIndex::as_usize).filter(|to| *to != index) {
                    self.send(index, to, Message::WantBlock(block));
                }
            }
            Action::PullCertificate { view, .. } => self.broadcast(index, &Message::WantCertificates(view)),
            Action::Evidence(evidence) => {
                let accused = evidence.accused().as_usize();
                if self.setup.roles[accused] == Role::Honest {
                    self.violation = Some(format!("honest node {accused} accused: {evidence:?}"));
                }
            }
            Action::Resend { votes, certificates, proposal } => {
                let header = proposal.and_then(|block| self.nodes[index].headers.get(&block).cloned());
                votes.into_iter().for_each(|vote| self.broadcast(index, &Message::Vote(vote)));
                header.into_iter().for_each(|header| self.broadcast(index, &Message::Proposal(header)));
                certificates.into_iter().for_each(|c| self.broadcast(index, &Message::Certificate(c)));
            }
            Action::Halt { reason, .. } => {
                if self.setup.roles[index] == Role::Honest {
                    self.violation = Some(format!("node {index} halted: {reason}"));
                }
            }
        }
    }

    fn disk_ns(&mut self) -> u64 {
        MS / 20 + self.rng.below((MS / 2).min(self.setup.delay_us_max * 1_000))
    }

    fn finalized(&mut self, index: usize, blocks: &[roko_consensus::FinalizedBlock]) {
        for block in blocks {
            if self.setup.roles[index] == Role::Honest {
                let first = *self.finals.entry(block.height).or_insert(block.block);
                if first != block.block {
                    let text = format!("height {}: {first} and {} are both final", block.height, block.block);
                    self.violation = Some(text);
                }
            }
            let header = self.nodes[index].headers.get(&block.block).cloned();
            self.nodes[index].disk.headers.extend(header.map(|header| (block.block, header)));
        }
        self.nodes[index].disk.last_final = Some(self.nodes[index].machine.last_final().clone());
    }

    fn honest(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role == Role::Honest)
    }

    pub(crate) fn honest_heights(&self) -> Vec<u64> {
        self.honest().map(|node| node.machine.last_final().height.0).collect()
    }

    pub(crate) fn final_blocks(&self) -> usize {
        self.finals.len()
    }

    pub(crate) fn jobs_and_views(&self) -> Vec<(u64, u64)> {
        self.honest().map(|node| (node.jobs, node.machine.current_view().0)).collect()
    }

    fn sent(&self, wanted: impl Fn(&Ballot) -> bool) -> usize {
        self.honest_votes.values().flatten().filter(|ballot| wanted(ballot)).count()
    }

    pub(crate) fn finals_sent(&self) -> usize {
        self.sent(|ballot| matches!(ballot, Ballot::Final(_)))
    }

    pub(crate) fn skips_sent(&self) -> usize {
        self.sent(|ballot| matches!(ballot, Ballot::Skip | Ballot::SkipFallback | Ballot::FinalSkip))
    }

    pub(crate) fn trace_hash(&self) -> [u8; 32] {
        self.trace.clone().finalize().into()
    }

    /// Where every node is, for a failure's message.
    pub(crate) fn report(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let (view, last) = (node.machine.current_view(), node.machine.last_final());
            let _ = writeln!(
                text,
                "node {} {:?}: view {view}, final height {} of view {}, {:?} {:?}",
                node.index,
                node.role,
                last.height,
                last.view,
                node.machine.counts(),
                node.collector.counts()
            );
        }
        text
    }
}
