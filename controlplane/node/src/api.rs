//! What services ask of a node: answers from memory and from the store's read side, never from a poll thread.

mod ethereum;
mod figures;
mod submitted;

use crate::chain::Chain;
use crate::observe::latency;
use crate::observe::{Observer, block_info, header_info};
use crate::topology::StagePlace;
use roko_execution::{Receipt, Status as Executed};
use roko_peers::HandshakeCounters;
use roko_pipeline::assembly::RingGauge;
use roko_pipeline::clock::Received;
use roko_pipeline::inject::InjectError;
use roko_pipeline::metrics::StageMetrics;
use roko_services::api::{
    AccountInfo, BlockInfo, BlockSelector, ConsensusTime, MempoolStats, NodeApi, Outcome, Placement,
    QueueStats, Refused, RingStats, StampInfo, Status, TransactionInfo,
};
use roko_services::ethereum::view::EthereumView;
use roko_services::metrics::MetricsSnapshot;
use roko_services::{RefusalReason, SubmitError};
use roko_state::storage::Storage;
use roko_state::{BlockRecord, Reader, Snapshot};
use roko_time::NodeClock;
use roko_wire::block::{BodyEntry, BodyView, Header};
use roko_wire::codec;
use roko_wire::limits::TX_BYTES_MAX;
use roko_wire::port_clock::StampedBy;
use roko_wire::rules::Terms;
use roko_wire::stamp::Stamp;
use roko_wire::tx::{KIND_ETHEREUM, ParsedTx, is_ethereum_envelope, parse, tx_id};
use roko_wire::{Address, Height, TxId, ValidatorIndex};
use ruint::aliases::U256;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use submitted::{Submitted, Waiting};
use tokio::sync::broadcast;

/// How far ahead of a sender's next nonce a transaction may be: what the pool keeps of one sender.
const NONCE_GAP_MAX: u64 = 64;

/// Takes a transaction into the data plane.
pub type Inject = Box<dyn FnMut(&[u8], Received) -> Result<TxId, InjectError> + Send>;

/// What the data plane publishes of itself.
pub struct DataPlaneView {
    /// Each stage's figures, in packet order.
    pub stages: Vec<Arc<StageMetrics>>,
    /// Depth of each ring.
    pub rings: Vec<RingGauge>,
    /// The port's driver.
    pub port_kind: &'static str,
    /// What the port's device does by itself, in words.
    pub offloads: Vec<&'static str>,
    /// What receive times the port gives.
    pub rx_stamps: &'static str,
    /// Most transactions of the pool.
    pub mempool_capacity: u32,
    /// Figures of the slow path, where there is one.
    pub slow_path: Option<Arc<StageMetrics>>,
    /// Whether the port's link is up.
    pub link: Arc<LinkState>,
    /// Thread and core of each stage, in the order of `stages`.
    pub cores: Vec<StagePlace>,
    /// Counters of handshakes.
    pub handshakes: Arc<HandshakeCounters>,
}

/// The state of a port's link, looked at now and then by the thread that waits for the node's end.
#[derive(Debug, Default)]
pub struct LinkState {
    /// 0: not looked at, or the port has none; 1: down; 2: up.
    state: AtomicU8,
    changes: AtomicU64,
}

impl LinkState {
    /// Notes what was seen; returns what was seen before.
    pub fn note(&self, up: bool) -> Option<bool> {
        let before = self.state.swap(1 + u8::from(up), Ordering::Relaxed);
        let changed = before != 0 && (before == 2) != up;
        self.changes.fetch_add(u64::from(changed), Ordering::Relaxed);
        (before != 0).then_some(before == 2)
    }

    /// Whether it is up; `None` when nobody knows.
    #[must_use]
    pub fn up(&self) -> Option<bool> {
        let state = self.state.load(Ordering::Relaxed);
        (state != 0).then_some(state == 2)
    }

    /// How often it has gone and come back.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }
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

    /// The store's read side.
    #[must_use]
    pub fn reader(&self) -> &Reader<S> {
        &self.reader
    }

    /// A stage's counter: the sum of its lanes', or the highest where it is a level.
    #[must_use]
    pub fn stage_counter(&self, stage: &str, label: &str) -> u64 {
        let lanes = self.data_plane.stages.iter().filter(|of| of.stage() == stage).map(|of| of.value(label));
        if label == "stamp_bound_ns" { lanes.max().unwrap_or(0) } else { lanes.sum() }
    }

    pub(crate) fn slow_path_counter(&self, label: &str) -> u64 {
        self.data_plane.slow_path.as_ref().map_or(0, |figures| figures.value(label))
    }

    fn check(&self, raw: &[u8]) -> Result<Waiting, SubmitError> {
        if raw.len() > TX_BYTES_MAX {
            return Err(SubmitError::TooLarge { bytes: raw.len() as u64, bytes_max: TX_BYTES_MAX as u64 });
        }
        let parsed = read(raw)?;
        let terms = parsed.terms();
        let reading = self.clock.now();
        let stamp = Stamp {
            time: reading.now,
            bound_ns: reading.error_bound_ns,
            source: reading.source.into(),
            ingress: self.own_index.unwrap_or_default(),
        };
        self.chain.rules.tx.check(&terms, &stamp)?;
        let id = tx_id(raw);
        let known = lock(&self.submitted).contains(&id) || self.reader.transaction(&id).is_some();
        if known {
            return Err(SubmitError::Duplicate { id });
        }
        let sender = parsed.verify().map_err(|_| SubmitError::BadSignature)?;
        self.check_account(&terms, &sender)?;
        let ethereum = matches!(parsed, ParsedTx::Ethereum(_));
        Ok(Waiting {
            info: pending_info(id, sender, &terms),
            valid_until: self.chain.rules.tx.valid_until(&terms, stamp.time),
            wire: ethereum.then(|| raw.into()),
        })
    }

    fn check_account(&self, terms: &Terms, sender: &Address) -> Result<(), SubmitError> {
        let Some(state) = self.observer.state() else {
            return Err(SubmitError::NodeStopped { detail: "it has not started yet".into() });
        };
        let account = state.tree.get(sender).unwrap_or_default();
        let (have, need) = (terms.nonce, account.nonce);
        if have < need {
            return Err(SubmitError::StaleNonce { have, need });
        }
        if have - need >= NONCE_GAP_MAX {
            return Err(SubmitError::NonceGap { have, need, gap_max: NONCE_GAP_MAX });
        }
        if terms.max_fee < state.next_base_fee {
            return Err(SubmitError::FeeTooLow { offered: terms.max_fee, base_fee: state.next_base_fee });
        }
        let cost = terms.cost_max().unwrap_or(U256::MAX);
        if cost > account.balance {
            return Err(SubmitError::OverBalance { cost, balance: account.balance });
        }
        Ok(())
    }

    fn accept(&self, raw: &[u8]) -> Result<TxId, SubmitError> {
        if let Some(detail) = self.observer.problem().filter(|_| self.observer.is_stopped()) {
            return Err(SubmitError::NodeStopped { detail });
        }
        let capacity = self.data_plane.mempool_capacity;
        if capacity == 0 {
            let detail = "it is a full node, which follows the chain and has no mempool".into();
            return Err(SubmitError::NodeStopped { detail });
        }
        let waiting = self.check(raw)?;
        let reading = self.clock.now();
        let received = Received {
            moment: reading.now,
            bound_ns: reading.error_bound_ns,
            source: reading.source,
            by: StampedBy::Poll,
        };
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
        lock(&self.submitted).insert(waiting);
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
        let parsed = parse(entry.wire).ok()?;
        let receipt = receipts(&record.receipts).nth(index as usize)?;
        let mut info = pending_info(id, parsed.sender_once_verified().ok()?, &parsed.terms());
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
}

/// Reads a transaction; one of an Ethereum type that this chain has not is told from one that is broken.
fn read(raw: &[u8]) -> Result<ParsedTx<'_>, SubmitError> {
    if let [KIND_ETHEREUM, kind, ..] = raw
        && !is_ethereum_envelope(*kind)
    {
        return Err(SubmitError::Unsupported { what: format!("Ethereum transactions of type {kind}") });
    }
    parse(raw).map_err(|error| SubmitError::Malformed { detail: error.to_string() })
}

fn receipts(bytes: &[u8]) -> impl Iterator<Item = Receipt> + '_ {
    bytes.chunks_exact(Receipt::BYTES).filter_map(|one| Receipt::read(&mut codec::Reader::new(one)).ok())
}

fn stamp_info(entry: &BodyEntry<'_>) -> StampInfo {
    StampInfo {
        time: entry.stamp.time,
        error_bound_ns: entry.stamp.bound_ns,
        source: entry.stamp.source.clock,
        stamped_by: entry.stamp.source.by,
        ingress: entry.stamp.ingress,
    }
}

fn pending_info(id: TxId, sender: Address, terms: &Terms) -> TransactionInfo {
    TransactionInfo {
        id,
        status: Status::Pending,
        stamp: None,
        placement: None,
        outcome: None,
        sender,
        to: terms.to,
        value: terms.value,
        nonce: terms.nonce,
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
            lock(&self.submitted).remove(&id);
            return Some(placed);
        }
        lock(&self.submitted).get(&id).map(|waiting| waiting.info.clone())
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

    fn first_block(&self) -> Height {
        self.reader.first()
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
        let ring = |ring: &RingGauge| RingStats {
            name: ring.label(),
            depth: ring.depth() as u32,
            capacity: ring.capacity() as u32,
            drops: self.ring_overruns(ring).unwrap_or(0),
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

    fn status(&self, blocks_from: Height, audit: bool) -> Option<String> {
        serde_json::to_string(&self.status_now(blocks_from.0, audit)).ok()
    }

    fn ethereum(&self) -> Option<&dyn EthereumView> {
        Some(self)
    }

    fn metrics(&self) -> MetricsSnapshot {
        let counters = (self.observer.view(), self.observer.durable_height(), self.observer.forks());
        let (view, height, forks) = counters;
        let reading = self.clock.now();
        let time = self.time_status();
        let stage_latencies = self.stage_latencies().iter().map(latency::exposed).collect();
        self.observer.progress(|progress| MetricsSnapshot {
            node: self.observer.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            peer_count: Some(self.data_plane.handshakes.sessions.load(Ordering::Relaxed)),
            link_up: self.data_plane.link.up(),
            messages: self.messages(),
            bytes_received: self.stage_counter("rx", "bytes"),
            bytes_sent: self.stage_counter("tx", "bytes"),
            latency: self.round_trips(),
            block_time: progress.block_time.summary(),
            finality_time: progress.finality.total.summary(),
            validator_participation: progress.participation,
            fork_count: forks,
            time_drift_ns: Some(self.clock.status().offset_ns()),
            receive_stamps: time.by_stamper(),
            receive_stamp_bound_ns: Some(time.stamp_bound_ns).filter(|bound_ns| *bound_ns > 0),
            port_clock_offset_ns: time.port_clock.map(|port| port.offset_ns),
            clock_faults: time.faults(),
            sync_accuracy_ns: Some(reading.error_bound_ns),
            attestations: self.stage_counter("verify", "batches_stamped"),
            final_height: Some(height.0),
            view: Some(view.0),
            transactions_final: progress.transactions_final,
            drops: self.drops(),
            peers: self.peer_figures(),
            regimes: self.regimes(),
            stage_latencies,
            queues: self.queue_stats(),
        })
    }
}
