//! What services ask of a node: answers from memory and from the store's read side, never from a poll thread.

use crate::chain::Chain;
use crate::observe::{Observer, block_info, header_info};
use roko_execution::{Receipt, Status as Executed};
use roko_pipeline::clock::Received;
use roko_pipeline::inject::InjectError;
use roko_pipeline::metrics::{REGIME_LABELS, Regime, StageMetrics};
use roko_ring::spsc::Gauge;
use roko_services::api::{
    AccountInfo, BlockInfo, BlockSelector, ConsensusTime, MempoolStats, NodeApi, Outcome, Placement,
    QueueStats, Refused, RingStats, StampInfo, Status, TransactionInfo,
};
use roko_services::metrics::{Direction, DropCount, MessageCount, MetricsSnapshot, RegimeTime};
use roko_services::{RefusalReason, SubmitError};
use roko_state::storage::Storage;
use roko_state::{BlockRecord, Reader, Snapshot};
use roko_time::NodeClock;
use roko_wire::block::{BodyEntry, BodyView, Header};
use roko_wire::codec;
use roko_wire::limits::TX_BYTES_MAX;
use roko_wire::rules::cost_max;
use roko_wire::stamp::Stamp;
use roko_wire::tx::{ParsedTx, SignedNative, parse, tx_id};
use roko_wire::{Address, Height, TxId, ValidatorIndex};
use ruint::aliases::U256;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// How far ahead of a sender's next nonce a transaction may be: what the pool keeps of one sender.
const NONCE_GAP_MAX: u64 = 64;
/// Transactions remembered as submitted here and not yet final.
const SUBMITTED_MAX: usize = 65_536;

/// Takes a transaction into the data plane.
pub type Inject = Box<dyn FnMut(&[u8], Received) -> Result<TxId, InjectError> + Send>;

/// What the data plane publishes of itself.
pub struct DataPlaneView {
    /// Each stage's figures, in packet order.
    pub stages: Vec<Arc<StageMetrics>>,
    /// Depth of each ring, by name.
    pub rings: Vec<(&'static str, Gauge)>,
    /// The port's driver.
    pub port_kind: &'static str,
    /// Most transactions of the pool.
    pub mempool_capacity: u32,
    /// Poll threads' core of each stage; `None` where the scheduler chooses.
    pub cores: Vec<(&'static str, Option<u32>)>,
}

/// One node, as its services see it.
pub struct NodeHandle<S: Storage> {
    /// Its chain.
    pub chain: Arc<Chain>,
    /// Its place in the validator set.
    pub own_index: Option<ValidatorIndex>,
    /// What it shows.
    pub observer: Arc<Observer>,
    /// Its clock.
    pub clock: NodeClock,
    /// What its data plane publishes.
    pub data_plane: DataPlaneView,
    reader: Reader<S>,
    inject: Mutex<Inject>,
    refused: Vec<AtomicU64>,
    submitted: Mutex<Submitted>,
}

#[derive(Default)]
struct Submitted {
    by_id: HashMap<TxId, TransactionInfo>,
    order: VecDeque<TxId>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Storage> NodeHandle<S> {
    /// The handle of a node.
    #[must_use]
    pub fn new(
        chain: Arc<Chain>,
        own_index: Option<ValidatorIndex>,
        observer: Arc<Observer>,
        clock: NodeClock,
        data_plane: DataPlaneView,
        reader: Reader<S>,
        inject: Inject,
    ) -> NodeHandle<S> {
        NodeHandle {
            chain,
            own_index,
            observer,
            clock,
            data_plane,
            reader,
            inject: Mutex::new(inject),
            refused: RefusalReason::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            submitted: Mutex::default(),
        }
    }

    /// The final state's read side.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.reader.snapshot()
    }

    /// A stage's counter.
    #[must_use]
    pub fn stage_counter(&self, stage: &str, label: &str) -> u64 {
        self.data_plane.stages.iter().find(|s| s.stage() == stage).map_or(0, |s| s.value(label))
    }

    fn check(&self, raw: &[u8]) -> Result<TransactionInfo, SubmitError> {
        if raw.len() > TX_BYTES_MAX {
            return Err(SubmitError::TooLarge { bytes: raw.len() as u64, bytes_max: TX_BYTES_MAX as u64 });
        }
        let signed = match parse(raw).map_err(|error| SubmitError::Malformed { detail: error.to_string() })? {
            ParsedTx::Native(signed) => signed,
            ParsedTx::Ethereum(_) => {
                return Err(SubmitError::Unsupported {
                    what: "Ethereum transactions yet: sign a native one".into(),
                });
            }
        };
        let reading = self.clock.now();
        let stamp = Stamp {
            time: reading.now,
            bound_ns: reading.error_bound_ns,
            source: reading.source,
            ingress: self.own_index.unwrap_or_default(),
        };
        self.chain.rules.tx.check(&signed.tx, &stamp)?;
        let id = tx_id(raw);
        let known = lock(&self.submitted).by_id.contains_key(&id) || self.reader.transaction(&id).is_some();
        if known {
            return Err(SubmitError::Duplicate { id });
        }
        let sender = signed.verify().map_err(|_| SubmitError::BadSignature)?;
        self.check_account(&signed, &sender)?;
        Ok(pending_info(id, sender, &signed))
    }

    fn check_account(&self, signed: &SignedNative<'_>, sender: &Address) -> Result<(), SubmitError> {
        let tx = &signed.tx;
        let Some(state) = self.observer.state() else {
            return Err(SubmitError::NodeStopped { detail: "it has not started yet".into() });
        };
        let account = state.tree.get(sender).unwrap_or_default();
        if tx.nonce < account.nonce {
            return Err(SubmitError::StaleNonce { have: tx.nonce, need: account.nonce });
        }
        if tx.nonce - account.nonce >= NONCE_GAP_MAX {
            let (have, need) = (tx.nonce, account.nonce);
            return Err(SubmitError::NonceGap { have, need, gap_max: NONCE_GAP_MAX });
        }
        if tx.max_fee < state.next_base_fee {
            return Err(SubmitError::FeeTooLow { offered: tx.max_fee, base_fee: state.next_base_fee });
        }
        let cost = cost_max(tx).unwrap_or(U256::MAX);
        if cost > account.balance {
            return Err(SubmitError::OverBalance { cost, balance: account.balance });
        }
        Ok(())
    }

    fn accept(&self, raw: &[u8]) -> Result<TxId, SubmitError> {
        if let Some(detail) = self.observer.problem().filter(|_| self.observer.is_stopped()) {
            return Err(SubmitError::NodeStopped { detail });
        }
        let info = self.check(raw)?;
        let reading = self.clock.now();
        let received = Received {
            moment: reading.now,
            bound_ns: reading.error_bound_ns,
            source: reading.source,
            hardware: false,
        };
        let capacity = self.data_plane.mempool_capacity;
        let pooled = self.stage_counter("order", "pending") + self.stage_counter("order", "in_flight");
        if pooled >= u64::from(capacity) {
            return Err(SubmitError::PoolFull { capacity });
        }
        let id = lock(&self.inject)(raw, received).map_err(|error| match error {
            InjectError::Busy => SubmitError::NodeBusy,
            InjectError::TooLarge { bytes } => {
                SubmitError::TooLarge { bytes: bytes as u64, bytes_max: TX_BYTES_MAX as u64 }
            }
        })?;
        let mut submitted = lock(&self.submitted);
        submitted.order.push_back(id);
        submitted.by_id.insert(id, info);
        if submitted.order.len() > SUBMITTED_MAX
            && let Some(oldest) = submitted.order.pop_front()
        {
            submitted.by_id.remove(&oldest);
        }
        Ok(id)
    }

    fn stored(&self, height: Height) -> Option<(Header, BlockRecord)> {
        let record = self.reader.block(height).ok().flatten()?;
        let header = Header::read(&mut codec::Reader::new(&record.header)).ok()?;
        Some((header, record))
    }

    fn stored_info(&self, height: Height) -> Option<BlockInfo> {
        let (header, record) = self.stored(height)?;
        let gas_used = receipts(&record.receipts).map(|receipt| receipt.gas_used).sum();
        Some(BlockInfo {
            gas_used: Some(gas_used),
            transactions: record.tx_ids,
            ..header_info(&header, record.block_id, Status::Final)
        })
    }

    fn placed(&self, id: TxId) -> Option<TransactionInfo> {
        let (height, index) = self.reader.transaction(&id)?;
        let (_, record) = self.stored(height)?;
        let view = BodyView::access(&record.body).ok()?;
        let entry = view.entries().nth(index as usize)?;
        let ParsedTx::Native(signed) = parse(entry.wire).ok()? else { return None };
        let receipt = receipts(&record.receipts).nth(index as usize)?;
        // The sender is part of what was checked when the block was; recovering it again costs one signature check.
        let sender = signed.verify().ok()?;
        let mut info = pending_info(id, sender, &signed);
        info.status = Status::Final;
        info.stamp = Some(stamp_info(&entry));
        info.placement = Some(Placement { height, block: record.block_id, index, time: entry.moment });
        info.outcome = Some(Outcome {
            success: receipt.status == Executed::Succeeded,
            gas_used: receipt.gas_used,
            fee_paid: U256::from(receipt.gas_used) * U256::from(receipt.fee_per_gas),
        });
        Some(info)
    }

    fn drops(&self) -> Vec<DropCount> {
        let of_stage = |stage: &Arc<StageMetrics>| {
            let name = stage.stage();
            stage
                .counters()
                .filter(|(label, count)| *count > 0 && is_drop(name, label))
                .map(|(label, count)| DropCount { stage: name.into(), reason: label.into(), count })
                .collect::<Vec<_>>()
        };
        let mut all: Vec<DropCount> = self.data_plane.stages.iter().flat_map(of_stage).collect();
        for (stage, reason, count) in
            self.observer.counters.all().into_iter().filter(|(.., count)| *count > 0)
        {
            all.push(DropCount { stage: stage.into(), reason: reason.into(), count });
        }
        all
    }

    fn regimes(&self) -> Vec<RegimeTime> {
        let per_tick = self.clock.map().nanos_per_tick_q32;
        let regimes = [Regime::CaughtUp, Regime::Processing, Regime::Backpressured, Regime::Housekeeping];
        let mut out = Vec::new();
        for (place, stage) in self.data_plane.stages.iter().enumerate() {
            for regime in regimes {
                let ticks = u128::from(stage.regime_ticks(regime));
                let time_ns = ((ticks * u128::from(per_tick)) >> 32) as u64;
                let name = format!("{}:{}", stage.stage(), REGIME_LABELS[regime as usize]);
                let core = self.data_plane.cores.get(place).and_then(|(_, core)| *core).unwrap_or(0);
                out.push(RegimeTime { core, regime: name.into(), time_ns });
            }
        }
        out
    }

    fn messages(&self) -> Vec<MessageCount> {
        let received = |label: &'static str, stage: &str, counter: &str| MessageCount {
            direction: Direction::Received,
            kind: label.into(),
            count: self.stage_counter(stage, counter),
        };
        let sent = |label: &'static str, counter: &str| MessageCount {
            direction: Direction::Sent,
            kind: label.into(),
            count: self.stage_counter("spread", counter),
        };
        vec![
            received("datagram", "filter", "passed"),
            received("transaction", "verify", "passed"),
            sent("consensus", "frames_consensus"),
            sent("block", "frames_block"),
            sent("relay", "frames_relay"),
        ]
    }
}

/// Whether a counter says that something was dropped or refused; the others say what went on.
fn is_drop(stage: &str, label: &str) -> bool {
    let went_on: &[&str] = match stage {
        "rx" => &["received", "bytes", "hardware_stamped", "passed"],
        "filter" => &["passed"],
        "decode" => &["passed", "admitted", "established"],
        "open" => &["opened", "passed_submit", "passed_batch", "passed_control"],
        "verify" => &["passed", "batches_stamped"],
        "order" => &[
            "inserted",
            "replaced",
            "drained",
            "commands",
            "stamped_late",
            "pending",
            "in_flight",
            "pool_bytes",
            "pool_memory_bytes",
        ],
        "builder" => &["built", "rebuilt", "txs", "body_bytes", "released"],
        "spread" => {
            &["frames_consensus", "frames_block", "frames_relay", "frames_client", "stalled", "blocks_done"]
        }
        "tx" => &["sent", "bytes", "retained"],
        _ => &[],
    };
    !went_on.contains(&label)
}

fn receipts(bytes: &[u8]) -> impl Iterator<Item = Receipt> + '_ {
    bytes.chunks_exact(Receipt::BYTES).filter_map(|one| Receipt::read(&mut codec::Reader::new(one)).ok())
}

fn stamp_info(entry: &BodyEntry<'_>) -> StampInfo {
    StampInfo {
        time: entry.stamp.time,
        error_bound_ns: entry.stamp.bound_ns,
        source: entry.stamp.source,
        ingress: entry.stamp.ingress,
    }
}

fn pending_info(id: TxId, sender: Address, signed: &SignedNative<'_>) -> TransactionInfo {
    TransactionInfo {
        id,
        status: Status::Pending,
        stamp: None,
        placement: None,
        outcome: None,
        sender,
        to: signed.tx.to,
        value: signed.tx.value,
        nonce: signed.tx.nonce,
    }
}

impl<S: Storage> NodeApi for NodeHandle<S> {
    fn submit(&self, raw: Vec<u8>) -> Result<TxId, SubmitError> {
        self.accept(&raw).inspect_err(|error| {
            self.refused[error.reason().index()].fetch_add(1, Ordering::Relaxed);
        })
    }

    fn transaction(&self, id: TxId) -> Option<TransactionInfo> {
        if let Some(placed) = self.placed(id) {
            lock(&self.submitted).by_id.remove(&id);
            return Some(placed);
        }
        lock(&self.submitted).by_id.get(&id).cloned()
    }

    fn block(&self, selector: BlockSelector) -> Option<Arc<BlockInfo>> {
        let height = match selector {
            // What is shown as latest is what is durable: anything above may still be abandoned.
            BlockSelector::Latest | BlockSelector::Final => {
                if let Some((header, outcome)) = self.observer.tip() {
                    return Some(Arc::new(block_info(&header, &outcome)));
                }
                self.observer.durable_height()
            }
            BlockSelector::Height(height) => height,
            BlockSelector::Id(id) => self.reader.height_of(&id)?,
        };
        self.stored_info(height).map(Arc::new)
    }

    fn balance(&self, address: Address) -> AccountInfo {
        let Some(state) = self.observer.state() else {
            return AccountInfo { balance: U256::ZERO, nonce: 0, at_height: Height(0) };
        };
        let account = state.tree.get(&address).unwrap_or_default();
        AccountInfo { balance: account.balance, nonce: account.nonce, at_height: state.height }
    }

    fn consensus_time(&self) -> ConsensusTime {
        let state = self.observer.state();
        let (height, time) = state.map_or_else(Default::default, |state| (state.height, state.time));
        ConsensusTime::new(self.clock.now(), height, time)
    }

    fn queue_stats(&self) -> QueueStats {
        let level = |label| self.stage_counter("order", label);
        let ring = |(name, gauge): &(&'static str, Gauge)| RingStats {
            name: (*name).into(),
            depth: gauge.depth() as u32,
            capacity: gauge.capacity() as u32,
            drops: ring_drops(self, name),
        };
        let watermark = self.observer.state().map(|state| state.watermark);
        QueueStats {
            mempool: MempoolStats {
                pending: level("pending") as u32,
                in_flight: level("in_flight") as u32,
                capacity: self.data_plane.mempool_capacity,
                bytes: level("pool_bytes"),
                memory_bytes: level("pool_memory_bytes"),
            },
            refused: RefusalReason::ALL
                .iter()
                .map(|reason| (*reason, self.refused[reason.index()].load(Ordering::Relaxed)))
                .filter(|(_, count)| *count > 0)
                .map(|(reason, count)| Refused { reason, count })
                .collect(),
            rings: self.data_plane.rings.iter().map(ring).collect(),
            watermark_lag_ns: watermark.map_or(0, |at| self.clock.now().now.nanos_since(at)),
        }
    }

    fn subscribe_final(&self) -> broadcast::Receiver<Arc<BlockInfo>> {
        self.observer.final_blocks.subscribe()
    }

    fn metrics(&self) -> MetricsSnapshot {
        let counters = (self.observer.view(), self.observer.durable_height(), self.observer.forks());
        let (view, height, forks) = counters;
        let reading = self.clock.now();
        self.observer.progress(|progress| MetricsSnapshot {
            node: self.observer.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            peer_count: Some(self.chain.set.len() as u64 - u64::from(self.own_index.is_some())),
            messages: self.messages(),
            bytes_received: self.stage_counter("rx", "bytes"),
            bytes_sent: self.stage_counter("tx", "bytes"),
            block_time: progress.block_time.summary(),
            finality_time: progress.finality.total.summary(),
            validator_participation: progress.participation,
            fork_count: forks,
            time_drift_ns: Some(self.clock.status().offset_ns()),
            sync_accuracy_ns: Some(reading.error_bound_ns),
            attestations: self.stage_counter("verify", "batches_stamped"),
            final_height: Some(height.0),
            view: Some(view.0),
            transactions_final: progress.transactions_final,
            drops: self.drops(),
            regimes: self.regimes(),
            queues: self.queue_stats(),
            ..MetricsSnapshot::default()
        })
    }
}

/// Items dropped because a ring was full: counted by the stage that could not push.
fn ring_drops<S: Storage>(node: &NodeHandle<S>, ring: &str) -> u64 {
    let of = |stage, labels: &[&str]| labels.iter().map(|label| node.stage_counter(stage, label)).sum();
    match ring {
        "rx_filter" => node.stage_counter("rx", "dropped_ring_full"),
        "open_verify" => of("open", &["dropped_submit", "dropped_batch"]),
        "open_control" => of(
            "open",
            &["dropped_propose", "dropped_vote", "dropped_certificate", "dropped_chunk", "dropped_pull"],
        ),
        "order_control" => node.stage_counter("order", "seen_dropped"),
        "verify_spread" => node.stage_counter("verify", "dropped_spread"),
        "spread_tx_relay" => node.stage_counter("spread", "dropped_relay"),
        _ => 0,
    }
}
