//! What a node shows: counters, percentiles, the tip, and the final blocks as they become durable.
//!
//! The control thread writes, once a block; services and the live view read. Nothing here is on a packet's path.

pub mod ask;
pub mod counters;
pub mod durations;
pub mod latency;
pub mod peers;
pub mod status;
pub mod views;

use crate::chain::{Chain, Own};
use crate::conduct::Conduct;
use crate::replica::blocks::{Block, Outcome};
use counters::Counters;
use durations::Durations;
use latency::BlockLatencies;
use peers::PeerTable;
use roko_consensus::{Evidence, VerifiedVote};
use roko_peers::Offence;
use roko_services::api::{BlockInfo, Status};
use roko_wire::block::{BodyView, Header};
use roko_wire::codec::Sink;
use roko_wire::vote::{Ballot, Bitmap, Certificate};
use roko_wire::{BlockId, Height, NanoMoment, ValidatorIndex, View};
use ruint::aliases::U256;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::broadcast;
use views::{ViewBook, ViewStatus};

/// Final blocks that a slow subscriber may lag behind.
const SUBSCRIBER_LAG_MAX: usize = 256;
/// Views whose voters are remembered for the participation.
const VOTER_VIEWS: usize = 256;
/// Pieces of evidence kept on disk in one run: one is enough against a validator, and who goes on shall not fill the disk.
const EVIDENCE_KEPT_MAX: u64 = 1_024;
/// Refused blocks that are told in words; the counters tell the rest.
const INVALID_BLOCKS_TOLD: u64 = 16;
/// Final block ids kept, to compare validators of one process with each other.
const FINAL_IDS: usize = 1 << 16;

/// Finality, from the ingress stamp to a commit held by the ingress node, and the parts it is made of.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct FinalityTimes {
    /// All of it.
    pub total: Durations,
    /// Until the watermark has passed the stamp.
    pub watermark_wait: Durations,
    /// From there until a leader's block drains it.
    pub pacing: Durations,
    /// From the block's time until the ingress node finds it valid.
    pub propose: Durations,
    /// From there until its own vote is signed and on disk.
    pub sync: Durations,
    /// From there until the commit.
    pub votes: Durations,
}

impl FinalityTimes {
    /// Takes in another node's samples.
    pub fn merge(&mut self, other: &FinalityTimes) {
        self.total.merge(&other.total);
        self.watermark_wait.merge(&other.watermark_wait);
        self.pacing.merge(&other.pacing);
        self.propose.merge(&other.propose);
        self.sync.merge(&other.sync);
        self.votes.merge(&other.votes);
    }
}

/// What changes with each final block.
#[derive(Debug, Default)]
pub struct Progress {
    /// Time between final blocks.
    pub block_time: Durations,
    /// Finality and its parts, of transactions that this node stamped.
    pub finality: FinalityTimes,
    /// From a commit to the block on disk.
    pub commit_sync: Durations,
    /// From the wire to the mempool, of transactions that this node stamped.
    pub wire_to_mempool: Durations,
    /// From the wire to what becomes of a transaction's block, of transactions that this node stamped.
    pub latencies: BlockLatencies,
    /// Transactions in final blocks.
    pub transactions_final: u64,
    /// Blocks made final since the start.
    pub blocks_final: u64,
    /// Share of the stake that voted for the last final blocks, 0 to 1.
    pub participation: Option<f64>,
    /// Ids of final blocks from this height on.
    pub final_ids: VecDeque<BlockId>,
    /// Height of the first of `final_ids`.
    pub final_ids_from: u64,
    /// Base fees burned since the start, by blocks on disk.
    pub burned: U256,
    /// The last block that `burned` counts.
    pub burned_height: Height,
    /// Sum of all balances at the start.
    pub supply_at_start: U256,
    last_block_time: Option<NanoMoment>,
    voters: BTreeMap<View, Bitmap>,
}

/// One node's public face.
pub struct Observer {
    /// The node's name in metrics.
    pub name: String,
    /// What was refused, and why.
    pub counters: Counters,
    /// What is known of the peers.
    pub peers: PeerTable,
    /// What they are refused for.
    pub conduct: Arc<Conduct>,
    /// Blocks as they become final and durable.
    pub final_blocks: broadcast::Sender<Arc<BlockInfo>>,
    view: AtomicU64,
    durable_height: AtomicU64,
    catchup_height: AtomicU64,
    catchup_target: AtomicU64,
    transactions_wait: AtomicBool,
    forks: AtomicU64,
    problem: Mutex<Option<String>>,
    stopped: AtomicBool,
    progress: Mutex<Progress>,
    views: Mutex<ViewBook>,
    tip: RwLock<Option<(Header, Arc<Outcome>)>>,
    start: RwLock<Option<Arc<Outcome>>>,
    evidence_dir: Option<PathBuf>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer {
    /// An observer for the node `name`; evidence and proofs of a fork go to `evidence_dir`.
    #[must_use]
    pub fn new(name: String, evidence_dir: Option<PathBuf>) -> Observer {
        Observer {
            name,
            counters: Counters::default(),
            peers: PeerTable::default(),
            conduct: Arc::default(),
            final_blocks: broadcast::channel(SUBSCRIBER_LAG_MAX).0,
            view: AtomicU64::new(0),
            durable_height: AtomicU64::new(0),
            catchup_height: AtomicU64::new(0),
            catchup_target: AtomicU64::new(0),
            transactions_wait: AtomicBool::new(false),
            forks: AtomicU64::new(0),
            problem: Mutex::new(None),
            stopped: AtomicBool::new(false),
            progress: Mutex::new(Progress::default()),
            views: Mutex::default(),
            tip: RwLock::new(None),
            start: RwLock::new(None),
            evidence_dir,
        }
    }

    /// The last final block's outcome when the node started.
    pub fn start_at(&self, outcome: &Outcome) {
        self.durable_height.store(outcome.height.0, Ordering::Relaxed);
        *self.start.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(outcome.clone()));
        let mut progress = lock(&self.progress);
        progress.final_ids_from = outcome.height.0 + 1;
        progress.burned_height = outcome.height;
        progress.supply_at_start =
            outcome.tree.iter().fold(U256::ZERO, |sum, (_, account)| sum.saturating_add(account.balance));
    }

    /// Notes whether transactions wait; returns whether that is new.
    pub fn set_transactions_wait(&self, wait: bool) -> bool {
        self.transactions_wait.swap(wait, Ordering::Relaxed) != wait
    }

    /// The machine entered a view, in which `leader` proposes.
    pub fn enter_view(&self, view: View, leader: ValidatorIndex, now: NanoMoment) {
        self.view.store(view.0, Ordering::Relaxed);
        lock(&self.views).entered(view, leader, now);
    }

    /// A valid certificate is known: made here of votes, or received.
    pub fn note_certificate(&self, certificate: &Certificate, made_here: bool, now: NanoMoment) {
        lock(&self.views).certified(certificate, made_here, now);
    }

    /// The last views, the newest first.
    #[must_use]
    pub fn recent_views(&self, now: NanoMoment) -> Vec<ViewStatus> {
        // Copied under the lock, written out after it: the control thread waits for the copy only.
        let book = lock(&self.views).clone();
        book.read(now)
    }

    /// The current view.
    #[must_use]
    pub fn view(&self) -> View {
        View(self.view.load(Ordering::Relaxed))
    }

    /// Height of the last block on disk.
    #[must_use]
    pub fn durable_height(&self) -> Height {
        Height(self.durable_height.load(Ordering::Relaxed))
    }

    /// Blocks that were certified and abandoned.
    #[must_use]
    pub fn forks(&self) -> u64 {
        self.forks.load(Ordering::Relaxed)
    }

    /// Notes the machine's count of certified and abandoned blocks.
    pub fn set_forks(&self, forks: u64) {
        self.forks.store(forks, Ordering::Relaxed);
    }

    /// What keeps the node from voting, in words; `None` when nothing does.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        lock(&self.problem).clone()
    }

    /// Sets or clears what keeps the node from voting.
    pub fn set_problem(&self, problem: Option<String>) {
        *lock(&self.problem) = problem;
    }

    /// Base fees burned from the start up to the block at `height`; `None` when it is not the last one on disk.
    #[must_use]
    pub fn burned_at(&self, height: Height) -> Option<U256> {
        let progress = lock(&self.progress);
        (progress.burned_height == height).then_some(progress.burned)
    }

    /// Sum of all balances when the node started.
    #[must_use]
    pub fn supply_at_start(&self) -> U256 {
        lock(&self.progress).supply_at_start
    }

    /// Whether the node has stopped deciding for good.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The node has stopped deciding for good.
    pub fn set_stopped(&self, why: &str) {
        self.stopped.store(true, Ordering::Relaxed);
        self.set_problem(Some(why.to_owned()));
    }

    /// Reads the progress under its lock.
    pub fn progress<T>(&self, read: impl FnOnce(&Progress) -> T) -> T {
        read(&lock(&self.progress))
    }

    /// The last durable block and what it yields; `None` before the first one since the start.
    #[must_use]
    pub fn tip(&self) -> Option<(Header, Arc<Outcome>)> {
        self.tip.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The state to read accounts from: after the last durable block.
    #[must_use]
    pub fn state(&self) -> Option<Arc<Outcome>> {
        self.tip()
            .map(|(_, outcome)| outcome)
            .or_else(|| self.start.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// A transaction that this node stamped got into the pool, this long after its frame arrived.
    pub fn note_pooled(&self, nanos: u64) {
        lock(&self.progress).wire_to_mempool.record(nanos);
    }

    /// Remembers who voted.
    pub fn note_voters(&self, votes: &[VerifiedVote], now: NanoMoment) {
        {
            let mut views = lock(&self.views);
            for vote in votes.iter().map(VerifiedVote::vote) {
                views.voted(vote.view, vote.ballot, vote.signer, now);
            }
        }
        let mut progress = lock(&self.progress);
        for vote in votes.iter().map(VerifiedVote::vote) {
            if matches!(vote.ballot, Ballot::Notarize(_) | Ballot::Final(_)) {
                progress.voters.entry(vote.view).or_default().insert(vote.signer);
            }
        }
        while progress.voters.len() > VOTER_VIEWS {
            progress.voters.pop_first();
        }
    }

    /// A block became final.
    pub fn note_final(
        &self,
        chain: &Chain,
        own: Option<&Own>,
        block: &Block,
        outcome: &Outcome,
        now: NanoMoment,
    ) {
        let mut progress = self.block_is_final(outcome);
        if let Some(voters) = progress.voters.get(&block.header.view) {
            let stake = chain.set.stake_of(voters).unwrap_or(0);
            progress.participation = Some(stake as f64 / chain.set.total_stake() as f64);
        }
        if let (Some(own), Some(body)) = (own, block.body())
            && let Ok(view) = BodyView::access(body.body())
        {
            for entry in view.entries().filter(|entry| entry.stamp.ingress == own.index) {
                record_finality(&mut progress, chain, block, entry.stamp.time, now);
            }
        }
    }

    /// A fetched block is final.
    pub fn note_block(&self, outcome: &Outcome) {
        drop(self.block_is_final(outcome));
    }

    fn block_is_final(&self, outcome: &Outcome) -> MutexGuard<'_, Progress> {
        let mut progress = lock(&self.progress);
        progress.blocks_final += 1;
        progress.transactions_final += outcome.txs.len() as u64;
        let before = progress.last_block_time.replace(outcome.time);
        if let Some(before) = before {
            progress.block_time.record(outcome.time.nanos_since(before));
        }
        progress.final_ids.push_back(outcome.block);
        if progress.final_ids.len() > FINAL_IDS {
            progress.final_ids.pop_front();
            progress.final_ids_from += 1;
        }
        progress
    }

    /// Blocks are being fetched: this is the last one here, and that is the last one to fetch.
    pub fn catching_up(&self, height: u64, target: u64) {
        self.catchup_height.store(height, Ordering::Relaxed);
        self.catchup_target.store(target, Ordering::Relaxed);
    }

    /// No more blocks are being fetched.
    pub fn caught_up(&self) {
        self.catchup_target.store(0, Ordering::Relaxed);
    }

    /// Height and target of a fetch under way.
    #[must_use]
    pub fn catchup(&self) -> Option<(u64, u64)> {
        let target = self.catchup_target.load(Ordering::Relaxed);
        (target > 0).then(|| (self.catchup_height.load(Ordering::Relaxed), target))
    }

    /// A block is on disk: it may be told.
    pub fn publish(&self, header: &Header, outcome: &Arc<Outcome>, sync_ns: u64) {
        {
            let mut progress = lock(&self.progress);
            progress.commit_sync.record(sync_ns);
            // Both factors are far below 2^128 (see the base fee's derivation), so their product fits.
            progress.burned += U256::from(header.base_fee) * U256::from(outcome.gas_used);
            progress.burned_height = outcome.height;
        }
        self.durable_height.store(outcome.height.0, Ordering::Relaxed);
        *self.tip.write().unwrap_or_else(PoisonError::into_inner) =
            Some((header.clone(), Arc::clone(outcome)));
        // Without subscribers there is nobody to tell.
        if self.final_blocks.receiver_count() > 0 {
            let _ = self.final_blocks.send(Arc::new(block_info(header, outcome)));
        }
    }

    /// The payload of a proposer's block broke a rule. That is no problem of this node.
    pub fn note_invalid_block(
        &self,
        block: &BlockId,
        proposer: ValidatorIndex,
        error: &dyn std::fmt::Display,
    ) {
        self.counters.invalid_blocks.add(1);
        self.conduct.note(proposer, Offence::InvalidBlock);
        if self.counters.invalid_blocks.get() <= INVALID_BLOCKS_TOLD {
            eprintln!("block {block} of validator {} was refused: {error}", proposer.0);
        }
    }

    /// An own block failed its own check: a fault of this program.
    pub fn note_own_invalid(&self, error: &dyn std::fmt::Display) {
        self.counters.own_invalid.add(1);
        self.set_problem(Some(format!("an own block was not proposed: {error}")));
    }

    /// Keeps proof of a broken rule on disk.
    pub fn keep_evidence(&self, evidence: &Evidence) {
        self.counters.evidence.add(1);
        self.conduct.note(evidence.accused(), Offence::Equivocation);
        if self.counters.evidence.get() > EVIDENCE_KEPT_MAX {
            return;
        }
        let mut bytes = Vec::new();
        evidence.write(&mut bytes);
        self.keep("evidence", &bytes);
    }

    /// Keeps the proofs of a finalised fork on disk.
    pub fn keep_proofs(&self, proofs: &[Certificate]) {
        let mut bytes = Vec::new();
        bytes.put_u16(proofs.len() as u16);
        proofs.iter().for_each(|proof| proof.write(&mut bytes));
        self.keep("fork-proofs", &bytes);
    }

    fn keep(&self, kind: &str, bytes: &[u8]) {
        let Some(dir) = &self.evidence_dir else { return };
        let number = self.counters.evidence.get();
        let path = dir.join(format!("{kind}-view{}-{number}.hex", self.view()));
        let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, hex::encode(bytes)));
        if let Err(error) = written {
            self.set_problem(Some(format!("{kind} could not be kept at {}: {error}", path.display())));
        }
    }
}

fn record_finality(
    progress: &mut Progress,
    chain: &Chain,
    block: &Block,
    stamp: NanoMoment,
    committed: NanoMoment,
) {
    let drainable = stamp.saturating_add(chain.watermark_lag_ns).min(block.header.time);
    let valid = block.times.valid.unwrap_or(block.header.time).max(block.header.time);
    let durable = block.times.vote_durable.unwrap_or(valid).max(valid);
    let times = &mut progress.finality;
    times.total.record(committed.nanos_since(stamp));
    times.watermark_wait.record(drainable.nanos_since(stamp));
    times.pacing.record(block.header.time.nanos_since(drainable));
    times.propose.record(valid.nanos_since(block.header.time));
    times.sync.record(durable.nanos_since(valid));
    times.votes.record(committed.nanos_since(durable));
    let latencies = &mut progress.latencies;
    latencies.in_block.record(valid.nanos_since(stamp));
    latencies.voted.record(durable.nanos_since(stamp));
    latencies.finalised.record(committed.nanos_since(stamp));
}

/// A final block as a JSON client sees it.
#[must_use]
pub fn block_info(header: &Header, outcome: &Outcome) -> BlockInfo {
    BlockInfo {
        gas_used: Some(outcome.gas_used),
        transactions: outcome.txs.iter().map(|tx| tx.id).collect(),
        ..header_info(header, outcome.block, Status::Final)
    }
}

/// A header as a JSON client sees it, without transactions.
#[must_use]
pub fn header_info(header: &Header, id: BlockId, status: Status) -> BlockInfo {
    BlockInfo {
        id,
        height: header.height,
        epoch: header.epoch,
        view: header.view,
        parent: header.parent,
        proposer: header.proposer,
        status,
        time: header.time,
        watermark: header.watermark,
        tx_root: header.tx_root,
        parent_state_root: header.parent_state_root,
        parent_receipts_root: header.parent_receipts_root,
        gas_limit: header.gas_limit,
        gas_used: None,
        base_fee: header.base_fee,
        bytes: header.body_bytes.into(),
        transactions: Vec::new(),
    }
}
