//! The replica: what one node decides. It drives the consensus machine, puts blocks together, checks and executes them,
//! proposes its own, and commits what is final.
//!
//! It runs on the control thread and never waits: pairings, syncs and commits are done by [`crate::workers`], packets by
//! the data plane behind [`plane::Plane`]. Read [`Replica::on_message`] for what comes in, `replica/actions.rs` for what the
//! machine asks.

mod actions;
pub mod assembly;
pub mod blocks;
pub mod catchup;
mod certificates;
mod finalize;
pub(crate) mod first_hand;
mod messages;
pub mod plane;
mod propose;
mod restore;
pub mod seen;
pub(crate) mod validate;

use crate::abstain::Abstention;
use crate::chain::{Chain, Own};
use crate::observe::Observer;
use crate::workers::bls::{BlsDone, BlsWorker, Check};
use crate::workers::journal::{Journal, JournalDone};
use crate::workers::store::{Store, StoreDone};
use assembly::EarlyChunks;
use blocks::Blocks;
use certificates::Certificates;
use finalize::CommittedBlocks;
use plane::Plane;
use roko_consensus::collector::VoteCollector;
use roko_consensus::machine::Machine;
use roko_consensus::{Action, Event, Lie, VerifiedVote};
use roko_peers::Offence;
use roko_wire::chunk::Propose;
use roko_wire::nano::ClockReading;
use roko_wire::vote::Ballot;
use roko_wire::{BlockId, NanoMoment, ValidatorIndex, View};
use seen::Seen;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

pub(crate) use finalize::read_seals;
pub(crate) use restore::receipts_of;
pub use restore::{Parts, Started};

/// The collector waits this part of Delta for votes that would complete a certificate. Checking what came so far and
/// then the rest costs two pairings more than checking all at once, and a slow certificate asks for a second vote.
pub const LINGER_PER_DELTA: u64 = 20;
/// Proposals that may wait for their certificates.
const WAITING_MAX: usize = 64;

/// What a journal batch was for.
// A vote is the common case; a box for it would only be unpacked again.
#[allow(clippy::large_enum_variant)]
enum Journaled {
    /// An own vote, which may now be sent.
    Vote(VerifiedVote),
    /// An own proposal, which may now be sent.
    Proposal(BlockId),
}

/// A proposal whose justification is not established yet.
struct WaitingProposal {
    propose: Propose,
    from: ValidatorIndex,
    received: NanoMoment,
    checking: bool,
}

/// One node's decisions.
pub struct Replica<P: Plane> {
    chain: Arc<Chain>,
    own: Option<Own>,
    machine: Machine,
    collector: VoteCollector,
    certificates: Certificates,
    blocks: Blocks,
    early: EarlyChunks,
    seen: Seen,
    waiting: HashMap<BlockId, WaitingProposal>,
    checks: VecDeque<Check>,
    bls: BlsWorker,
    journal: Journal,
    store: Store,
    reader: Box<dyn CommittedBlocks>,
    plane: P,
    observer: Arc<Observer>,
    actions: VecDeque<Action>,
    step_out: Vec<Action>,
    timer: NanoMoment,
    building: Option<propose::Building>,
    journaled: HashMap<u64, Journaled>,
    next_batch: u64,
    unsigned: VecDeque<(View, Ballot)>,
    committing: VecDeque<(NanoMoment, finalize::Committing)>,
    pulls: messages::PullBudget,
    disk_full: bool,
    abstains: Option<Abstention>,
    stopped: Option<String>,
    clock: ClockReading,
    /// Which change of the bans the machine knows.
    bans_seen: u64,
}

impl<P: Plane> Replica<P> {
    /// Takes the clock's reading, which everything below uses until the next call.
    pub fn set_clock(&mut self, clock: ClockReading) {
        self.clock = clock;
        self.plane.pump(clock.now);
    }

    fn now(&self) -> NanoMoment {
        self.clock.now
    }

    /// Remembers a transaction that the data plane has verified and put into the mempool.
    pub fn on_seen(&mut self, id: roko_wire::TxId, seen: seen::SeenTx, root: &roko_wire::stamp::SignedRoot) {
        let mut stamps = seen::StampPlausibility::default();
        stamps.judge(&seen.stamp, seen.received, self.plausible_window());
        if stamps.implausible > 0 {
            self.observer.conduct.note(seen.stamp.ingress, Offence::ImplausibleStamp);
        }
        self.seen.insert(id, seen, root);
    }

    /// Does what is due: the machine's timer, finished work of the workers, checks that can start. Returns how many
    /// things were done.
    pub fn poll(&mut self, transactions_wait: bool) -> usize {
        let mut done = 0;
        while let Some(report) = self.bls.poll() {
            self.on_bls(report);
            done += 1;
        }
        while let Some(report) = self.journal.poll() {
            self.on_journal(report);
            done += 1;
        }
        while let Some(report) = self.store.poll() {
            self.on_store(report);
            done += 1;
        }
        if self.observer.set_transactions_wait(transactions_wait) {
            self.feed(Event::PendingTransactions(transactions_wait));
            done += 1;
        }
        if let Some(unheard) = self.observer.conduct.unheard_since(&mut self.bans_seen) {
            self.feed(Event::Unheard(unheard));
            done += 1;
        }
        if self.now() >= self.timer {
            self.timer = NanoMoment::MAX;
            self.feed(Event::Tick);
            done += 1;
        }
        self.start_checks();
        self.sign_waiting();
        self.observer.set_forks(self.machine.counts().forks);
        done
    }

    /// How long nothing will be due by itself, nanoseconds; `None` when nothing is.
    #[must_use]
    pub fn idle_ns(&self) -> Option<u64> {
        let now = self.clock.now;
        let check = self.collector.next_due(now).filter(|_| self.bls.is_free());
        let due = check.map_or(self.timer, |check| check.min(self.timer));
        (due < NanoMoment::MAX).then(|| due.nanos_since(now))
    }

    /// Why the node has stopped for good, if it has.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Gives an event to the machine and carries out what it asks.
    fn feed(&mut self, event: Event) {
        self.step(event);
        self.carry_out();
    }

    /// Gives an event to the machine; what it asks waits. Ballots do not wait: they are signed on another thread, so the
    /// sooner they get there the better.
    fn step(&mut self, event: Event) {
        self.machine.step(event, self.clock.now, &mut self.step_out);
        for action in std::mem::take(&mut self.step_out) {
            match action {
                Action::CastVote { view, ballot } => {
                    // While the disk is full nothing is signed: what is final meanwhile needs no vote.
                    let last_final = self.machine.last_final().view;
                    self.unsigned.retain(|(of, _)| *of > last_final);
                    self.unsigned.push_back((view, ballot));
                }
                other => self.actions.push_back(other),
            }
        }
        self.sign_waiting();
        self.collector.set_views(self.machine.last_final().view, self.machine.current_view());
    }

    /// Carries out what waits. An action may feed further events; their actions queue up behind.
    fn carry_out(&mut self) {
        while let Some(action) = self.actions.pop_front() {
            self.act(action);
        }
    }

    /// Hands the next check to the BLS worker when it is free: proposals first, for votes follow from them.
    fn start_checks(&mut self) {
        if !self.bls.is_free() {
            return;
        }
        if let Some(check) = self.checks.pop_front() {
            self.bls.check(check);
            return;
        }
        let machine = &self.machine;
        if let Some(job) = self.collector.take_job(self.clock.now, |view, kind| machine.wants(view, kind)) {
            self.bls.check(Check::Gathered(job));
        }
    }

    fn on_bls(&mut self, done: BlsDone) {
        match done {
            BlsDone::Signed(vote) => self.journal_vote(vote),
            BlsDone::Gathered(result) => {
                for lie in self.collector.finish(&result, self.clock.now) {
                    match lie {
                        Lie::Vote(by) => self.observer.conduct.note(by, Offence::BadVote),
                        Lie::Certificate(by) => self.observer.conduct.note(by, Offence::BadCertificate),
                    }
                }
                result.votes.iter().for_each(|vote| self.certificates.add_vote(vote));
                result.certificates.iter().for_each(|c| self.certificates.add_verified(c.certificate()));
                self.observer
                    .counters
                    .bad_signatures
                    .add(result.bad_votes.len() + result.bad_certificates.len());
                if !result.votes.is_empty() {
                    self.observer.note_voters(&result.votes, self.now());
                    self.feed(Event::Votes(result.votes));
                }
                if !result.certificates.is_empty() {
                    for verified in &result.certificates {
                        self.observer.note_certificate(verified.certificate(), false, self.now());
                    }
                    self.feed(Event::Certificates(result.certificates));
                }
                self.retry_waiting();
            }
            BlsDone::Justification { block, verified } => self.on_justification(block, verified),
        }
    }

    fn on_journal(&mut self, done: JournalDone) {
        match done {
            JournalDone::Durable(batches) => {
                for batch in batches {
                    match self.journaled.remove(&batch) {
                        Some(Journaled::Vote(vote)) => self.send_vote(vote),
                        Some(Journaled::Proposal(block)) => self.send_proposal(block),
                        None => {}
                    }
                }
            }
            JournalDone::Failed(error) => self.stop(format!("the journal failed: {error}")),
        }
    }

    fn on_store(&mut self, done: StoreDone) {
        match done {
            StoreDone::Durable(height) => {
                if std::mem::take(&mut self.disk_full) {
                    self.observer.set_problem(None);
                }
                self.on_durable(height);
            }
            StoreDone::NoSpace(why) => {
                self.disk_full = true;
                self.observer.counters.disk_full.add(1);
                self.observer.set_problem(Some(format!("not voting: {why}")));
            }
            StoreDone::Failed(why) => self.stop(format!("the store failed: {why}")),
        }
    }

    /// Stops deciding for good; what is durable stays.
    fn stop(&mut self, mut why: String) {
        if let Some(before) = self.observer.problem().filter(|_| self.stopped.is_none()) {
            // What was wrong before is often the cause.
            why = format!("{why}; before that: {before}");
        }
        self.observer.set_stopped(&why);
        self.stopped.get_or_insert(why);
    }

    /// The leader whose block could be next; for whoever wants to send a transaction the short way.
    #[must_use]
    pub fn leader(&self, view: View) -> ValidatorIndex {
        self.machine.leader(view)
    }
}

/// What a commit needs besides the outcome.
fn encode_receipts(receipts: &[roko_execution::Receipt]) -> Vec<u8> {
    let mut out = Vec::with_capacity(receipts.len() * roko_execution::Receipt::BYTES);
    receipts.iter().for_each(|receipt| receipt.write(&mut out));
    out
}
