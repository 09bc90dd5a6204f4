//! A capture played back through a validator's whole data plane, under a virtual clock: the same capture gives the same
//! mempool order and the same state, on any machine, as fast as it goes.
//!
//! Time is the capture's. Every stage is polled on this thread until none has work, then the clock goes to the next
//! frame, the next end of a stamp batch or the next block, whichever is first. Every block interval what lies below the
//! watermark is drained in canonical order and executed on the state before, as a leader's block would be; there is no
//! consensus and nobody votes. Rate limits are off: their buckets lie where a random hash puts them.

pub mod keys;

use crate::chain::Chain;
use crate::validator::{NodeOptions, StartError, data_plane_config};
use keys::{CapturedSessions, SessionKeys};
use roko_execution::base_fee;
use roko_execution::executor::{BlockContext, Executor, TransferExecutor};
use roko_execution::tx::ExecutableTx;
use roko_execution::view::StateView;
use roko_peers::{Membership, NodeIdentity};
use roko_pipeline::block_buffer::BlockBuffer;
use roko_pipeline::builder::BuilderCommand;
use roko_pipeline::filter::RateLimit;
use roko_pipeline::open::PeerRates;
use roko_pipeline::order::OrderCommand;
use roko_pipeline::pcap::PcapError;
use roko_pipeline::poll::{PollContext, Stage};
use roko_pipeline::port::inprocess::InProcessPool;
use roko_pipeline::port::replay::{ReplayPort, ReplayState};
use roko_pipeline::{ControlEnds, Depths, assemble};
use roko_ring::mempool::{Ended, Limits, Span};
use roko_state::tree::Tree;
use roko_wire::clock::ClockMap;
use roko_wire::nano::{ClockSource, ClockState};
use roko_wire::tx::parse;
use roko_wire::{Account, Address, Hash32, Height, NanoMoment, ValidatorIndex};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

/// Error bound that the virtual clock shows, nanoseconds.
const CLOCK_BOUND_NS: u64 = 1_000;
/// Frames of the port's pool beside those that the rings hold.
const FRAMES_BESIDE: usize = 1_024;
/// Rounds without work after which nothing is left to do: what a stage gives to one before it comes a round later.
const QUIET_ROUNDS: u32 = 3;

/// What is replayed, and as whom.
pub struct ReplayPlan<'a> {
    /// The chain.
    pub chain: Arc<Chain>,
    /// The validator that receives the capture.
    pub identity: &'a NodeIdentity,
    /// Who its peers are.
    pub members: &'a Membership,
    /// Its settings.
    pub options: &'a NodeOptions,
    /// Depths of its rings.
    pub depths: Depths,
    /// The capture's sessions.
    pub keys: &'a [SessionKeys],
}

/// Why a capture cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The capture.
    #[error("the capture: {0}")]
    Capture(#[from] PcapError),
    /// The validator.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A transaction in the pool does not parse: a fault of this program.
    #[error("a transaction of the pool does not parse: {0}")]
    Pool(String),
}

/// What came of a replay. Equal captures give equal reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplayReport {
    /// Frames of the capture that came to the port.
    pub frames: u64,
    /// Frames of the capture that no port delivers: too long, or captured in part.
    pub frames_left_out: u64,
    /// From the first frame to the last, nanoseconds of the capture's time.
    pub span_ns: u64,
    /// Blocks with transactions.
    pub blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// SHA-256 over ids and moments of all transactions in the pool's order.
    pub order_hash: Hash32,
    /// The state's root after the last block.
    pub state_hash: Hash32,
    /// What each stage counted, by stage and counter; zeros are left out.
    pub counters: BTreeMap<String, u64>,
}

/// Plays `capture` back.
///
/// # Errors
/// When it cannot be read, or the validator cannot be put together.
pub fn replay(plan: &ReplayPlan<'_>, capture: impl Read) -> Result<ReplayReport, ReplayError> {
    let depths = plan.depths;
    let pool = InProcessPool::new(depths.frames_max(1) + FRAMES_BESIDE);
    let (port, state) = ReplayPort::new(capture, pool)?;
    let index = plan.chain.genesis.index_of(&plan.identity.node_key()).ok_or(StartError::NotValidator)?;
    let mut config =
        data_plane_config(&plan.chain, plan.identity, index, plan.members, plan.options, depths)?;
    let peers = plan.members.peers().len();
    let sessions = CapturedSessions::new(plan.keys, config.filter.ip, peers as u16);
    config.peers_max = peers + sessions.len();
    let unlimited = RateLimit { frames_per_second: u32::MAX, burst_frames: u32::MAX };
    (config.filter.stranger, config.filter.known) = (unlimited, unlimited);
    config.rates = PeerRates::UNLIMITED;
    // One tick is one nanosecond since 1970, as in the capture.
    let (_writer, clock) = roko_ring::seqlock::page(ClockMap {
        tsc_base: 0,
        base: NanoMoment(0),
        nanos_per_tick_q32: 1 << 32,
        bound_ns: CLOCK_BOUND_NS,
        drift_ppb: 0,
        bound_ns_max: u64::MAX,
        source: ClockSource::System,
        state: ClockState::Converged,
    });
    let plane = assemble(port, config, vec![Box::new(sessions)], clock).map_err(StartError::from)?;
    let mut run = Run::new(plan, index, state, plane.stages, plane.control);
    run.play()?;
    Ok(run.report())
}

/// A state tree as execution reads it.
struct View<'a>(&'a Tree);

impl StateView for View<'_> {
    fn account(&self, address: &Address) -> Option<Account> {
        self.0.get(address)
    }
}

struct Run {
    chain: Arc<Chain>,
    own: ValidatorIndex,
    port: Arc<ReplayState>,
    stages: Vec<(&'static str, Box<dyn Stage>)>,
    control: ControlEnds<ReplayPort>,
    now_ns: u64,
    flush_ns: u64,
    interval_ns: u64,
    tree: Tree,
    base_fee: u128,
    watermark: NanoMoment,
    last_moment: NanoMoment,
    order: Sha256,
    tag: u64,
    report: ReplayReport,
}

impl Run {
    fn new(
        plan: &ReplayPlan<'_>,
        own: ValidatorIndex,
        port: Arc<ReplayState>,
        stages: Vec<(&'static str, Box<dyn Stage>)>,
        control: ControlEnds<ReplayPort>,
    ) -> Run {
        let chain = Arc::clone(&plan.chain);
        let accounts: Vec<_> =
            chain.genesis_accounts().into_iter().map(|(address, account)| (address, Some(account))).collect();
        let (genesis_time, base_fee) = (chain.genesis.time, chain.rules.base_fee_floor);
        let interval_ns = Chain::millis(chain.genesis.limits.min_block_interval_ms).max(1_000_000);
        let report = ReplayReport {
            frames: 0,
            frames_left_out: port.left_out(),
            span_ns: 0,
            blocks: 0,
            transactions: 0,
            order_hash: Hash32::ZERO,
            state_hash: Hash32::ZERO,
            counters: BTreeMap::new(),
        };
        Run {
            chain,
            own,
            port,
            stages,
            control,
            now_ns: 0,
            flush_ns: u64::from(plan.options.stamp_flush_us) * 1_000 + 1,
            interval_ns,
            tree: Tree::default().update(&accounts),
            base_fee,
            watermark: genesis_time,
            last_moment: genesis_time,
            order: Sha256::new(),
            tag: 0,
            report,
        }
    }

    /// All of the capture, then what is left in the pool.
    fn play(&mut self) -> Result<(), ReplayError> {
        let Some(first) = self.port.next_at() else { return Ok(()) };
        let (mut block_at, mut last, mut flush_at) = (first + self.interval_ns, first, None);
        while let Some(next) = self.port.next_at() {
            let at = next.min(block_at).min(flush_at.unwrap_or(u64::MAX));
            self.go_to(at);
            flush_at = flush_at.filter(|flush| *flush > at);
            if at == next {
                last = next;
                flush_at = flush_at.or(Some(at + self.flush_ns));
            }
            if at == block_at {
                self.block(NanoMoment(u128::from(at)).saturating_sub(self.chain.watermark_lag_ns))?;
                // Nothing happens in a silence: the next block is due after the next frame.
                let quiet_until = self.port.next_at().unwrap_or(at);
                block_at = (at + self.interval_ns).max(quiet_until.saturating_add(1));
            }
        }
        self.report.span_ns = last - first;
        // The last stamps leave their batches, and the watermark passes them.
        for _ in 0..4 {
            self.go_to(self.now_ns + self.flush_ns.max(self.interval_ns) + self.chain.watermark_lag_ns);
            let watermark = NanoMoment(u128::from(self.now_ns)).saturating_sub(self.chain.watermark_lag_ns);
            while self.block(watermark)? > 0 {}
        }
        Ok(())
    }

    /// Sets the clock and polls every stage until none has work.
    fn go_to(&mut self, now_ns: u64) {
        self.now_ns = now_ns.max(self.now_ns);
        self.port.set_now(self.now_ns);
        let mut quiet = 0;
        while quiet < QUIET_ROUNDS {
            let mut busy = false;
            for (_, stage) in &mut self.stages {
                busy |= stage.poll(&mut PollContext { tsc: self.now_ns }).work > 0;
            }
            // Nobody here reads these.
            while self.control.frames.pop().is_some() {}
            while self.control.seen.pop().is_some() {}
            while self.control.returned.pop().is_some() {}
            quiet = if busy { 0 } else { quiet + 1 };
        }
    }

    /// Drains below `watermark` and executes what comes. Returns how many transactions that were.
    fn block(&mut self, watermark: NanoMoment) -> Result<usize, ReplayError> {
        self.tag += 1;
        let rules = &self.chain.rules;
        let drain = OrderCommand::Drain {
            tag: self.tag,
            span: Span { from: self.watermark, watermark, after: self.last_moment },
            limits: Limits { txs: rules.txs_max, bytes: rules.body_bytes_max, gas: rules.gas_limit },
        };
        let asked = watermark > self.watermark && self.control.order.push(drain).is_ok();
        if !asked {
            return Ok(0);
        }
        self.go_to(self.now_ns);
        let Some(buffer) = self.control.built.pop() else { return Ok(0) };
        let report = buffer.report();
        let ended_early = report.ended != Ended::Watermark && report.reached > buffer.last_moment();
        self.watermark = if ended_early { watermark.min(report.reached) } else { watermark };
        let count = buffer.included().len();
        if count > 0 {
            self.execute(&buffer)?;
        }
        self.last_moment = buffer.last_moment();
        let now = NanoMoment(u128::from(self.now_ns));
        for command in [
            OrderCommand::Finalize { tag: self.tag, now },
            OrderCommand::Watermark { watermark: self.watermark },
        ] {
            // The ring is empty after every round, and holds thousands.
            let pushed = self.control.order.push(command);
            debug_assert!(pushed.is_ok(), "the ring was empty");
        }
        let returned = self.control.builder.push(BuilderCommand::Release(buffer));
        debug_assert!(returned.is_ok(), "the ring holds every buffer");
        self.go_to(self.now_ns);
        Ok(count)
    }

    fn execute(&mut self, buffer: &BlockBuffer) -> Result<(), ReplayError> {
        let mut txs = Vec::with_capacity(buffer.included().len());
        for (place, moment) in buffer.included() {
            let candidate = &buffer.candidates()[*place as usize];
            let tx =
                parse(buffer.wire(*place as usize)).map_err(|error| ReplayError::Pool(error.to_string()))?;
            self.order.update(candidate.id.0);
            self.order.update(moment.0.to_le_bytes());
            txs.push(ExecutableTx::new(candidate.id, candidate.sender, &tx, *moment));
        }
        self.report.blocks += 1;
        self.report.transactions += txs.len() as u64;
        let rules = &self.chain.rules;
        let context = BlockContext {
            height: Height(self.report.blocks),
            time: NanoMoment(u128::from(self.now_ns)),
            base_fee: self.base_fee,
            gas_limit: rules.gas_limit,
            proposer_account: self.chain.tips_to(self.own),
        };
        let executed = TransferExecutor.execute(&context, &txs, &View(&self.tree));
        self.tree = self.tree.update(&executed.changes);
        self.base_fee =
            base_fee::next(self.base_fee, executed.gas_used, rules.gas_limit, rules.base_fee_floor);
        Ok(())
    }

    fn report(mut self) -> ReplayReport {
        for (_, stage) in &mut self.stages {
            stage.housekeeping(&mut PollContext { tsc: self.now_ns });
        }
        for stage in &self.control.metrics {
            for (label, count) in stage.counters().filter(|(_, count)| *count > 0) {
                self.report.counters.insert(format!("{}.{label}", stage.stage()), count);
            }
        }
        ReplayReport {
            frames: self.port.delivered(),
            order_hash: Hash32(self.order.finalize().into()),
            state_hash: self.tree.root(),
            ..self.report
        }
    }
}
