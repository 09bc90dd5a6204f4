//! The sixth stage: owns the temporal mempool.
//!
//! Verified transactions come in, the control plane's commands are executed in the order given, and a drain copies its
//! candidates into a block buffer for the builder. What stands below the watermark is stamped anew by this node, in
//! batches, and not lost.

mod command;
mod deferred;
mod proof;

pub use command::OrderCommand;
pub use proof::StampProof;

use crate::block_buffer::BlockBuffer;
use crate::clock::{ClockPage, Received};
use crate::lanes::FanIn;
use crate::latency::{LatencyRecorder, Since};
use crate::link::{Seen, StampedFrame, VerifiedTx};
use crate::metrics::{Counters, StageMetrics};
use crate::poll::{PollContext, Progress, Stage};
use crate::port::FrameBuf;
use crate::verify::stamp_of;
use arrayvec::ArrayVec;
use deferred::Deferred;
use ed25519_zebra::SigningKey;
use roko_ring::mempool::{Key, Limits, Mempool, NewTx, Refused, Span, Verdict};
use roko_ring::spsc::{Consumer, Producer};
use roko_wire::limits::{TX_BYTES_MAX, TXS_PER_MESSAGE_MAX};
use roko_wire::merkle::Tree;
use roko_wire::port_clock::StampedBy;
use roko_wire::stamp::SignedRoot;
use roko_wire::tx::tie_break;
use roko_wire::{ChainId, Hash32, NanoMoment, TxId, ValidatorIndex};
use std::sync::Arc;

crate::counters!(
    /// Counters of [`Order`]; the last four are levels.
    OrderCounter {
        /// Transactions pooled.
        Inserted = "inserted",
        /// Refused: here already.
        Duplicate = "duplicate",
        /// Refused: final already.
        RecentlyFinal = "recently_final",
        /// Refused: window over.
        Expired = "expired",
        /// Refused: no slot that large.
        TooLarge = "too_large",
        /// Refused: the pool is full of better fees.
        FeeTooLow = "fee_too_low",
        /// Refused: the nonce is taken.
        NonceOccupied = "nonce_occupied",
        /// Refused: the sender has too many.
        SenderLimit = "sender_limit",
        /// Pooled transactions that made room.
        Evicted = "evicted",
        /// Pooled transactions that their sender replaced.
        Replaced = "replaced",
        /// Reports of pooled transactions that the control plane had no room for.
        SeenDropped = "seen_dropped",
        /// Commands executed.
        Commands = "commands",
        /// Transactions drained into block buffers.
        Drained = "drained",
        /// Transactions stamped anew because they were below the watermark.
        StampedLate = "stamped_late",
        /// Transactions removed because their window ended.
        WindowOver = "window_over",
        /// Transactions pending now.
        Pending = "pending",
        /// Transactions in flight now.
        InFlight = "in_flight",
        /// Bytes of both.
        PoolBytes = "pool_bytes",
        /// Memory of the whole pool, fixed at start.
        PoolMemoryBytes = "pool_memory_bytes",
    }
);

/// Settings of [`Order`].
pub struct OrderConfig {
    /// Sizes of the pool.
    pub mempool: roko_ring::mempool::Config,
    /// The chain.
    pub chain_id: ChainId,
    /// This node's place in the validator set, for stamps given anew.
    pub ingress: ValidatorIndex,
    /// This node's ed25519 node key, for stamps given anew.
    pub signing_key: SigningKey,
    /// Shortest time between two signatures over late transactions' new stamps, microseconds.
    pub late_flush_us: u32,
    /// The first epoch's seed.
    pub seed: Hash32,
    /// Block buffers; each takes about two block sizes of memory.
    pub block_buffers: usize,
    /// Room of each.
    pub block_room: crate::block_buffer::BlockRoom,
}

/// The rings of [`Order`].
pub struct OrderLinks<B> {
    /// From every verify.
    pub input: FanIn<StampedFrame<B>>,
    /// Commands of the control plane.
    pub commands: Consumer<OrderCommand>,
    /// Reports of pooled transactions.
    pub seen: Producer<Seen>,
    /// Filled buffers to the builder.
    pub to_builder: Producer<Box<BlockBuffer>>,
    /// Buffers that come back.
    pub free_buffers: Consumer<Box<BlockBuffer>>,
}

/// Frames inserted, and commands executed, in one poll.
const FRAMES_PER_POLL: usize = 32;
const COMMANDS_PER_POLL: usize = 256;
/// Late batches signed in one poll: a signature costs as much as ten insertions.
const LATE_BATCHES_PER_POLL: usize = 4;
/// Transactions looked at for expiry in one housekeeping.
const EXPIRY_BUDGET: usize = 256;

/// Late transactions that get one signature: id, end of the window, and how often they were late before.
type LateBatch = ArrayVec<(TxId, NanoMoment, u8), TXS_PER_MESSAGE_MAX>;

/// The stage.
pub struct Order<B> {
    links: OrderLinks<B>,
    /// Frames that are inserted in this poll.
    frames: Box<ArrayVec<StampedFrame<B>, FRAMES_PER_POLL>>,
    pool: Mempool<StampProof>,
    clock: ClockPage,
    chain_id: ChainId,
    ingress: ValidatorIndex,
    signing_key: SigningKey,
    seed: Hash32,
    seed_count: u32,
    watermark: NanoMoment,
    /// There may be pending transactions below the watermark.
    late_due: bool,
    /// When late transactions may be stamped again, in ticks: a signature costs as much as many of them.
    late_after_tsc: u64,
    late_flush_ns: u64,
    late_flush_ticks: u64,
    deferred: Deferred,
    /// A drain that waits for a buffer.
    waiting: Option<OrderCommand>,
    /// Transactions whose tie-break is by an earlier seed, found in a drain.
    stale: Vec<TxId>,
    tree: Tree,
    latency: LatencyRecorder,
    counters: Counters<OrderCounter>,
}

impl<B: FrameBuf> Order<B> {
    /// The stage.
    ///
    /// # Errors
    /// When the pool's sizes do not fit together.
    pub fn new(
        config: OrderConfig,
        clock: ClockPage,
        links: OrderLinks<B>,
    ) -> Result<Order<B>, roko_ring::mempool::ConfigError> {
        let latency = LatencyRecorder::new(Since::Wire, clock.clone());
        Ok(Order {
            pool: Mempool::new(&config.mempool)?,
            frames: Box::default(),
            links,
            clock,
            chain_id: config.chain_id,
            ingress: config.ingress,
            signing_key: config.signing_key,
            seed: config.seed,
            seed_count: 0,
            watermark: NanoMoment::ZERO,
            late_due: false,
            late_after_tsc: 0,
            late_flush_ns: u64::from(config.late_flush_us) * 1_000,
            late_flush_ticks: 0,
            waiting: None,
            stale: Vec::with_capacity(config.block_room.txs),
            deferred: Deferred::new(config.mempool.txs_max()),
            tree: Tree::with_capacity(TXS_PER_MESSAGE_MAX),
            counters: Counters::timed("order", &[&latency]),
            latency,
        })
    }

    fn now(&self, tsc: u64) -> Received {
        Received::from_map(&self.clock.read(), tsc, StampedBy::Poll)
    }

    /// Inserts the transactions of the frames at hand, all of them as one burst, and lets the frames go.
    fn insert_frames(&mut self, now: NanoMoment) {
        let Order { pool, frames, links, counters, latency, late_due, .. } = self;
        let (seed, seed_count, watermark) = (&self.seed, self.seed_count, self.watermark);
        let txs: ArrayVec<_, { FRAMES_PER_POLL * TXS_PER_MESSAGE_MAX }> =
            frames.iter().flat_map(|frame| frame.txs.iter().map(move |tx| (frame, tx))).collect();
        pool.insert_burst(
            &txs,
            now,
            |(frame, tx)| Key { id: &tx.id, sender: &tx.sender, bytes: tx.wire.of(frame.buf.data()) },
            |(frame, tx)| NewTx {
                id: tx.id,
                sender: tx.sender,
                nonce: tx.nonce,
                time: tx.stamp.time,
                tie_break: tie_break(seed, &tx.id),
                fee: tx.max_fee,
                gas: tx.gas_limit,
                valid_until: tx.valid_until,
                meta: StampProof::new(tx.stamp, frame.root, tx.leaf_index, &tx.path, seed_count),
                bytes: tx.wire.of(frame.buf.data()),
            },
            |(frame, tx), inserted| match inserted {
                Ok(inserted) => {
                    latency.note(frame.received_of(tx));
                    counters.count(OrderCounter::Inserted);
                    counters.add(OrderCounter::Evicted, u64::from(inserted.evicted.is_some()));
                    counters.add(OrderCounter::Replaced, u64::from(inserted.replaced.is_some()));
                    *late_due |= tx.stamp.time < watermark;
                    if links.seen.push(seen(frame, tx, now)).is_err() {
                        counters.count(OrderCounter::SeenDropped);
                    }
                }
                Err(refused) => counters.count(counter_of(refused)),
            },
        );
        drop(txs);
        frames.clear();
    }

    /// Executes a command; false, and the command waits, when it needs a buffer and none is free.
    fn execute(&mut self, command: OrderCommand, now: NanoMoment) -> bool {
        match command {
            OrderCommand::Drain { tag, span, limits } => {
                if self.links.to_builder.free_slots() == 0 {
                    return false;
                }
                let Some(buffer) = self.links.free_buffers.pop() else { return false };
                self.drain(buffer, tag, span, limits);
            }
            OrderCommand::MarkInFlight { tag, id } => drop(self.pool.mark_in_flight(&id, tag)),
            OrderCommand::PutBack { tag } => {
                self.late_due |= self.pool.put_back(tag) > 0;
            }
            OrderCommand::Finalize { tag, now } => drop(self.pool.finalize(tag, now)),
            OrderCommand::FinalizeId { id, valid_until, now } => self.pool.finalize_id(&id, valid_until, now),
            OrderCommand::Return { id } => self.return_pending(&id, now),
            OrderCommand::Remove { id } => drop(self.pool.remove(&id)),
            OrderCommand::DropBelow { sender, nonce } => drop(self.pool.drop_below(&sender, nonce, |_| {})),
            OrderCommand::Watermark { watermark } => {
                self.late_due |= watermark > self.watermark;
                self.watermark = self.watermark.max(watermark);
            }
            OrderCommand::Seed { seed } if seed == self.seed => {}
            OrderCommand::Seed { seed } => {
                self.seed = seed;
                self.seed_count = self.seed_count.wrapping_add(1);
            }
        }
        self.counters.count(OrderCounter::Commands);
        true
    }

    /// Takes a transaction out of flight by pooling it anew: the pool releases tags by the block, not by the transaction.
    fn return_pending(&mut self, id: &TxId, now: NanoMoment) {
        let Some(view) = self.pool.get(id).filter(|view| view.tags == 1) else { return };
        let bytes: ArrayVec<u8, TX_BYTES_MAX> = view.bytes.iter().copied().collect();
        let tx = NewTx {
            id: view.id,
            sender: view.sender,
            nonce: view.nonce,
            time: view.time,
            tie_break: view.tie_break,
            fee: view.fee,
            gas: view.gas,
            valid_until: view.valid_until,
            meta: *view.meta,
            bytes: &bytes,
        };
        self.pool.remove(id);
        self.late_due |= tx.time < self.watermark;
        if self.pool.insert(&tx, now).is_err() {
            self.counters.count(OrderCounter::WindowOver);
        }
    }

    fn drain(&mut self, mut buffer: Box<BlockBuffer>, tag: u64, span: Span, limits: Limits) {
        buffer.reset(tag, span);
        let limits = buffer.limits(limits);
        let (stale, seed_count) = (&mut self.stale, self.seed_count);
        stale.clear();
        buffer.report = self.pool.drain(tag, span, limits, |drained| {
            if drained.meta.seed_count != seed_count {
                // Its place is by an earlier epoch's seed; it gets the right one below and goes into the next block.
                if stale.len() < stale.capacity() {
                    stale.push(drained.id);
                }
                return Verdict::Skip;
            }
            if buffer.add(&drained) { Verdict::Take } else { Verdict::Stop }
        });
        for id in &self.stale {
            if let Some(view) = self.pool.get(id) {
                let (time, mut meta) = (view.time, *view.meta);
                meta.seed_count = seed_count;
                self.pool.restamp(id, time, tie_break(&self.seed, id), meta);
            }
        }
        self.counters.add(OrderCounter::Drained, buffer.report.txs as u64);
        let sent = self.links.to_builder.push(buffer);
        debug_assert!(sent.is_ok(), "the room was checked");
    }

    /// Stamps a batch of late transactions anew, those first that have waited for it. Returns how many were looked at.
    fn stamp_late(&mut self, now: &Received, tsc: u64) -> usize {
        let mut late: LateBatch = ArrayVec::new();
        while !late.is_full()
            && let Some(id) = self.deferred.pop_due(tsc)
        {
            // It may be gone, or in a block by now.
            if let Some(view) = self.pool.get(&id).filter(|view| view.tags == 0) {
                late.push((id, view.valid_until, view.meta.late_times));
            }
        }
        let room = late.remaining_capacity();
        let deferred = &mut self.deferred;
        let taken = self.pool.take_late(self.watermark, room, |view| {
            if !deferred.defer(view.id, view.meta.late_times, tsc) {
                late.push((view.id, view.valid_until, view.meta.late_times));
            }
        });
        let looked_at = TXS_PER_MESSAGE_MAX - room + taken;
        self.stamp_anew(late, now);
        looked_at
    }

    fn stamp_anew(&mut self, mut late: LateBatch, now: &Received) {
        // A clock behind the watermark must not stamp below it again.
        let mut stamp = stamp_of(now, self.ingress);
        stamp.time = stamp.time.max(self.watermark);
        late.retain(|(id, valid_until, _)| {
            let in_time = stamp.time.saturating_add(stamp.bound_ns) <= *valid_until;
            if !in_time {
                self.pool.remove(id);
                self.counters.count(OrderCounter::WindowOver);
            }
            in_time
        });
        if late.is_empty() {
            return;
        }
        self.tree.rebuild(late.iter().map(|(id, ..)| stamp.leaf(self.chain_id, id)));
        let leaves = late.len() as u8;
        let root = SignedRoot::sign(&self.signing_key, self.chain_id, self.ingress, leaves, self.tree.root());
        for (index, (id, _, late_times)) in late.iter().enumerate() {
            let path = self.tree.path(index).unwrap_or_default();
            let mut proof = StampProof::new(stamp, root, index as u8, &path, self.seed_count);
            proof.late_times = late_times.saturating_add(1);
            self.pool.restamp(id, stamp.time, tie_break(&self.seed, id), proof);
        }
        self.counters.add(OrderCounter::StampedLate, late.len() as u64);
    }

    /// Executes waiting commands. Returns how many, and whether one waits for a buffer.
    fn run_commands(&mut self, tsc: u64) -> (usize, bool) {
        let mut executed = 0;
        if self.waiting.is_none() && self.links.commands.is_empty() {
            return (0, false);
        }
        let now = self.now(tsc).moment;
        while executed < COMMANDS_PER_POLL {
            let Some(command) = self.waiting.take().or_else(|| self.links.commands.pop()) else { break };
            if !self.execute(command, now) {
                self.waiting = Some(command);
                return (executed, true);
            }
            executed += 1;
        }
        (executed, false)
    }
}

impl<B: FrameBuf> Stage for Order<B> {
    fn name(&self) -> &'static str {
        "order"
    }

    fn poll(&mut self, cx: &mut PollContext) -> Progress {
        let (mut work, backpressured) = self.run_commands(cx.tsc);
        if !self.links.input.is_empty() {
            let now = self.now(cx.tsc).moment;
            work += self.links.input.pop_burst(&mut self.frames);
            self.insert_frames(now);
            self.latency.settle();
        }
        for _ in 0..LATE_BATCHES_PER_POLL {
            if !self.late_due || cx.tsc < self.late_after_tsc {
                break;
            }
            let now = self.now(cx.tsc);
            let taken = self.stamp_late(&now, cx.tsc);
            // A whole batch leaves more behind, and is worth its signature.
            self.late_due = taken >= TXS_PER_MESSAGE_MAX;
            if !self.late_due {
                self.late_after_tsc = cx.tsc.saturating_add(self.late_flush_ticks);
            }
            work += taken;
        }
        Progress { work, backpressured }
    }

    fn housekeeping(&mut self, cx: &mut PollContext) {
        self.late_flush_ticks = nanos_to_ticks(&self.clock, self.late_flush_ns);
        self.deferred.set_rate(|nanos| nanos_to_ticks(&self.clock, nanos));
        let now = self.now(cx.tsc).moment;
        let removed = self.pool.expire(now, EXPIRY_BUDGET, |_| {});
        self.counters.add(OrderCounter::WindowOver, removed as u64);
        let stats = self.pool.stats();
        self.counters.set(OrderCounter::Pending, stats.pending as u64);
        self.counters.set(OrderCounter::InFlight, stats.in_flight as u64);
        self.counters.set(OrderCounter::PoolBytes, stats.bytes_used as u64);
        self.counters.set(OrderCounter::PoolMemoryBytes, self.pool.memory_bytes() as u64);
        self.latency.publish();
        self.counters.publish();
    }

    fn metrics(&self) -> Arc<StageMetrics> {
        self.counters.shared()
    }
}

/// The report of a transaction that was pooled.
fn seen<B>(frame: &StampedFrame<B>, tx: &VerifiedTx, pooled: NanoMoment) -> Seen {
    Seen {
        id: tx.id,
        sender: tx.sender,
        stamp: tx.stamp,
        root: frame.root,
        pooled,
        received: frame.received,
        valid_until: tx.valid_until,
        own: frame.own,
    }
}

const fn counter_of(refused: Refused) -> OrderCounter {
    match refused {
        Refused::Duplicate => OrderCounter::Duplicate,
        Refused::RecentlyFinal => OrderCounter::RecentlyFinal,
        Refused::Expired => OrderCounter::Expired,
        Refused::TooLarge => OrderCounter::TooLarge,
        Refused::FeeTooLow => OrderCounter::FeeTooLow,
        Refused::NonceOccupied => OrderCounter::NonceOccupied,
        Refused::SenderLimit => OrderCounter::SenderLimit,
    }
}

/// How many ticks of the time-stamp counter `nanos` are, by the clock page.
pub(crate) fn nanos_to_ticks(clock: &ClockPage, nanos: u64) -> u64 {
    let per_tick = clock.read().nanos_per_tick_q32.max(1);
    ((u128::from(nanos) << 32) / u128::from(per_tick)) as u64
}
