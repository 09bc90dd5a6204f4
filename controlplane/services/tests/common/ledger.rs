//! The ledger: accounts, an inbox like a node's submission ring, a pool, and blocks.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use roko_services::{
    MetricsSnapshot, NodeApi, RefusalReason, SubmitError,
    api::{
        AccountInfo, BlockInfo, BlockSelector, ConsensusTime, MempoolStats, Outcome, Placement, QueueStats,
        Refused, RingStats, StampInfo, Status, TransactionInfo,
    },
    ethereum::view::{BlockFees, EthereumView, ExecutedDetail, TransactionDetail},
    metrics::{Direction, DropCount, DurationSummary, MessageCount, RegimeTime, StageLatency},
};
use roko_wire::{
    Address, BlockId, ChainId, Epoch, Hash32, Height, NanoMoment, TxId, ValidatorIndex, View,
    block::Header,
    limits::TX_BYTES_MAX,
    merkle,
    nano::{ClockReading, ClockSource, ClockState},
    rules::{TRANSFER_GAS, TxRules},
    stamp::Stamp,
    tx,
};
use ruint::aliases::U256;
use tokio::sync::broadcast;

pub const CHAIN: ChainId = ChainId(7_001);
pub const START: NanoMoment = NanoMoment(1_800_000_000_000_000_000);
pub const BASE_FEE: u128 = 1_000;
pub const WINDOW_NS_MAX: u64 = 24 * 3_600 * 1_000_000_000;
pub const NONCE_GAP_MAX: u64 = 4;
pub const INBOX_CAPACITY: usize = 3;
pub const POOL_CAPACITY: usize = 6;
const BLOCK_GAS: u64 = 30_000_000;
/// Blocks that a slow subscriber may be behind.
const FINAL_BLOCKS_HELD: usize = 4;

pub struct LedgerOfOne {
    inner: Mutex<Inner>,
    final_blocks: Mutex<Option<broadcast::Sender<Arc<BlockInfo>>>>,
}

struct Inner {
    clock: ClockReading,
    accounts: HashMap<Address, (U256, u64)>,
    transactions: HashMap<TxId, (TransactionInfo, U256)>,
    wires: HashMap<TxId, Vec<u8>>,
    inbox: VecDeque<TxId>,
    pool: Vec<TxId>,
    blocks: Vec<Arc<BlockInfo>>,
    refused: [u64; RefusalReason::COUNT],
    disk_full: bool,
}

impl LedgerOfOne {
    /// A ledger with a genesis block and these balances.
    pub fn new(balances: &[(Address, u64)]) -> Arc<LedgerOfOne> {
        let clock = ClockReading {
            now: START,
            error_bound_ns: 500,
            source: ClockSource::System,
            state: ClockState::Converged,
        };
        let accounts =
            balances.iter().map(|(address, balance)| (*address, (U256::from(*balance), 0))).collect();
        let inner = Inner {
            clock,
            accounts,
            transactions: HashMap::new(),
            wires: HashMap::new(),
            inbox: VecDeque::new(),
            pool: Vec::new(),
            blocks: Vec::new(),
            refused: [0; RefusalReason::COUNT],
            disk_full: false,
        };
        let ledger = LedgerOfOne {
            inner: Mutex::new(inner),
            final_blocks: Mutex::new(Some(broadcast::channel(FINAL_BLOCKS_HELD).0)),
        };
        ledger.make_block();
        Arc::new(ledger)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Lets the clock run.
    pub fn advance(&self, nanos: u64) {
        let mut inner = self.inner();
        inner.clock.now = inner.clock.now.saturating_add(nanos);
    }

    pub fn set_clock_state(&self, state: ClockState) {
        self.inner().clock.state = state;
    }

    pub fn fill_disk(&self) {
        self.inner().disk_full = true;
    }

    /// Ends the stream of final blocks, as a node does when it stops.
    pub fn stop(&self) {
        self.final_blocks.lock().unwrap().take();
    }

    /// Moves the inbox into the pool.
    pub fn poll(&self) {
        let mut inner = self.inner();
        let arrived: Vec<TxId> = inner.inbox.drain(..).collect();
        inner.pool.extend(arrived);
    }

    /// Makes a final block of everything that is executable.
    pub fn make_block(&self) -> Arc<BlockInfo> {
        self.poll();
        let block = self.inner().make_block(&[]);
        self.publish(&block);
        block
    }

    /// Makes a final block that lists these ids beside: a large one without the work of filling it.
    pub fn make_block_with(&self, ids: &[TxId]) -> Arc<BlockInfo> {
        let block = self.inner().make_block(ids);
        self.publish(&block);
        block
    }

    fn publish(&self, block: &Arc<BlockInfo>) {
        if let Some(final_blocks) = self.final_blocks.lock().unwrap().as_ref() {
            // Nobody listening is fine.
            let _ = final_blocks.send(block.clone());
        }
    }
}

impl Inner {
    fn check(&self, raw: &[u8]) -> Result<(TransactionInfo, U256), SubmitError> {
        if self.disk_full {
            let detail = "the disk is full: free space in the data directory".to_owned();
            return Err(SubmitError::NodeStopped { detail });
        }
        if raw.len() > TX_BYTES_MAX {
            return Err(SubmitError::TooLarge { bytes: raw.len() as u64, bytes_max: TX_BYTES_MAX as u64 });
        }
        if let [tx::KIND_ETHEREUM, kind, ..] = raw
            && !tx::is_ethereum_envelope(*kind)
        {
            return Err(SubmitError::Unsupported { what: format!("Ethereum transactions of type {kind}") });
        }
        let parsed = tx::parse(raw).map_err(|error| SubmitError::Malformed { detail: error.to_string() })?;
        let terms = parsed.terms();
        let id = tx::tx_id(raw);
        let ClockReading { now, error_bound_ns, source, .. } = self.clock;
        let stamp_source = source.into();
        let stamp =
            Stamp { time: now, bound_ns: error_bound_ns, source: stamp_source, ingress: ValidatorIndex(0) };
        let rules = TxRules { chain_id: CHAIN, window_ns_max: WINDOW_NS_MAX, gas_max: BLOCK_GAS };
        rules.check(&terms, &stamp)?;
        if terms.max_fee < BASE_FEE {
            return Err(SubmitError::FeeTooLow { offered: terms.max_fee, base_fee: BASE_FEE });
        }
        if self.transactions.contains_key(&id) {
            return Err(SubmitError::Duplicate { id });
        }
        let sender = parsed.verify().map_err(|_| SubmitError::BadSignature)?;
        let cost = terms.cost_max().unwrap_or(U256::MAX);
        self.check_account(sender, terms.nonce, cost)?;
        if self.pool.len() + self.inbox.len() >= POOL_CAPACITY {
            return Err(SubmitError::PoolFull { capacity: POOL_CAPACITY as u32 });
        }
        if self.inbox.len() >= INBOX_CAPACITY {
            return Err(SubmitError::NodeBusy);
        }
        let stamped_by = roko_wire::port_clock::StampedBy::Poll;
        let stamp = StampInfo { time: now, error_bound_ns, source, stamped_by, ingress: ValidatorIndex(0) };
        let info = TransactionInfo {
            id,
            status: Status::Pending,
            stamp: Some(stamp),
            placement: None,
            outcome: None,
            sender,
            to: terms.to,
            value: terms.value,
            nonce: terms.nonce,
        };
        Ok((info, cost))
    }

    fn check_account(&self, sender: Address, nonce: u64, cost: U256) -> Result<(), SubmitError> {
        let (balance, need) = self.accounts.get(&sender).copied().unwrap_or_default();
        if nonce < need {
            return Err(SubmitError::StaleNonce { have: nonce, need });
        }
        if nonce - need > NONCE_GAP_MAX {
            return Err(SubmitError::NonceGap { have: nonce, need, gap_max: NONCE_GAP_MAX });
        }
        let waiting = self.inbox.iter().chain(&self.pool).map(|id| &self.transactions[id]);
        let spoken_for: U256 = waiting.filter(|(info, _)| info.sender == sender).map(|(_, cost)| *cost).sum();
        let left = balance.saturating_sub(spoken_for);
        if cost > left { Err(SubmitError::OverBalance { cost, balance: left }) } else { Ok(()) }
    }

    /// Executes a transfer whose nonce is next; false when it has to wait.
    fn execute(&mut self, id: TxId, height: Height, index: u32) -> bool {
        let (info, _) = self.transactions.get_mut(&id).unwrap();
        let fee = U256::from(BASE_FEE * u128::from(TRANSFER_GAS));
        let (balance, nonce) = self.accounts.get_mut(&info.sender).unwrap();
        if info.nonce != *nonce {
            return false;
        }
        *nonce += 1;
        *balance -= info.value + fee;
        info.status = Status::Final;
        info.outcome = Some(Outcome { success: true, gas_used: TRANSFER_GAS, fee_paid: fee });
        let time = self.clock.now.saturating_add(u64::from(index));
        info.placement = Some(Placement { height, block: BlockId::ZERO, index, time });
        let (to, value) = (info.to.unwrap(), info.value);
        self.accounts.entry(to).or_default().0 += value;
        true
    }

    fn make_block(&mut self, extra: &[TxId]) -> Arc<BlockInfo> {
        let height = Height(self.blocks.len() as u64);
        let mut executed = Vec::new();
        while let Some(place) =
            (0..self.pool.len()).find(|&place| self.execute(self.pool[place], height, executed.len() as u32))
        {
            executed.push(self.pool.remove(place));
        }
        let gas_used = TRANSFER_GAS * executed.len() as u64;
        let transactions: Vec<TxId> = executed.iter().chain(extra).copied().collect();
        let mut leaves: Vec<Hash32> = transactions.iter().map(|id| merkle::leaf(&[&id.0])).collect();
        let header = Header {
            chain_id: CHAIN,
            epoch: Epoch(0),
            view: View(height.0),
            height,
            parent: self.blocks.last().map_or(BlockId::ZERO, |block| block.id),
            justification_hash: Hash32::ZERO,
            proposer: ValidatorIndex(0),
            time: self.clock.now,
            watermark: self.clock.now.saturating_add(BLOCK_GAS),
            tx_root: if leaves.is_empty() { Hash32::ZERO } else { merkle::root_in_place(&mut leaves) },
            chunk_root: Hash32::ZERO,
            body_bytes: 0,
            tx_count: transactions.len() as u32,
            parent_state_root: Hash32::ZERO,
            parent_receipts_root: Hash32::ZERO,
            gas_limit: BLOCK_GAS,
            base_fee: BASE_FEE,
            next_set_root: None,
        };
        let id = header.id();
        for executed in &executed {
            self.transactions.get_mut(executed).unwrap().0.placement.as_mut().unwrap().block = id;
        }
        let block = Arc::new(BlockInfo {
            id,
            height,
            epoch: header.epoch,
            view: header.view,
            parent: header.parent,
            proposer: header.proposer,
            status: Status::Final,
            time: header.time,
            watermark: header.watermark,
            tx_root: header.tx_root,
            parent_state_root: header.parent_state_root,
            parent_receipts_root: header.parent_receipts_root,
            gas_limit: header.gas_limit,
            gas_used: Some(gas_used),
            base_fee: header.base_fee,
            bytes: 32 * transactions.len() as u64,
            transactions,
        });
        self.blocks.push(block.clone());
        block
    }

    fn queue_stats(&self) -> QueueStats {
        let refused = RefusalReason::ALL.iter().map(|reason| (*reason, self.refused[reason.index()]));
        QueueStats {
            mempool: MempoolStats {
                pending: self.pool.len() as u32,
                in_flight: 0,
                capacity: POOL_CAPACITY as u32,
                bytes: 245 * self.pool.len() as u64,
                memory_bytes: 1 << 20,
            },
            refused: refused
                .filter(|(_, count)| *count > 0)
                .map(|(reason, count)| Refused { reason, count })
                .collect(),
            rings: vec![RingStats {
                name: "submit".into(),
                depth: self.inbox.len() as u32,
                capacity: INBOX_CAPACITY as u32,
                drops: self.refused[RefusalReason::NodeBusy.index()],
            }],
            watermark_lag_ns: self.clock.now.nanos_since(self.blocks.last().unwrap().watermark),
        }
    }
}

impl Inner {
    fn detail(&self, id: &TxId) -> Option<TransactionDetail> {
        let (info, _) = self.transactions.get(id)?;
        let executed =
            info.placement.as_ref().zip(info.outcome.as_ref()).map(|(place, outcome)| ExecutedDetail {
                height: place.height,
                block: place.block,
                index: place.index,
                moment: place.time,
                success: outcome.success,
                gas_used: outcome.gas_used,
                gas_used_so_far: outcome.gas_used * u64::from(place.index + 1),
                fee_per_gas: BASE_FEE,
            });
        Some(TransactionDetail { id: *id, wire: self.wires.get(id)?.clone(), sender: info.sender, executed })
    }
}

impl EthereumView for LedgerOfOne {
    fn chain_id(&self) -> ChainId {
        CHAIN
    }

    fn next_base_fee(&self) -> u128 {
        BASE_FEE
    }

    fn pending_nonce(&self, sender: Address) -> u64 {
        let inner = self.inner();
        let next = inner.accounts.get(&sender).map_or(0, |(_, nonce)| *nonce);
        let waits = |nonce: &u64| {
            let mut waiting = inner.inbox.iter().chain(&inner.pool).map(|id| &inner.transactions[id].0);
            waiting.any(|info| info.sender == sender && info.nonce == *nonce)
        };
        next + (next..).take_while(waits).count() as u64
    }

    fn proposer_account(&self, _: ValidatorIndex) -> Address {
        Address([0xfe; 20])
    }

    fn transaction_detail(&self, id: TxId) -> Option<TransactionDetail> {
        self.inner().detail(&id)
    }

    fn block_details(&self, height: Height) -> Option<Vec<TransactionDetail>> {
        let inner = self.inner();
        inner.blocks.get(height.0 as usize)?.transactions.iter().map(|id| inner.detail(id)).collect()
    }

    fn block_fees(&self, height: Height) -> Option<BlockFees> {
        let inner = self.inner();
        let block = inner.blocks.get(height.0 as usize)?;
        let tips = block.transactions.iter().map(|_| (TRANSFER_GAS, u128::from(height.0))).collect();
        Some(BlockFees { base_fee: BASE_FEE, gas_used: block.gas_used?, gas_limit: BLOCK_GAS, tips })
    }
}

impl NodeApi for LedgerOfOne {
    fn submit(&self, raw: Vec<u8>) -> Result<TxId, SubmitError> {
        let mut inner = self.inner();
        match inner.check(&raw) {
            Ok((info, cost)) => {
                let id = info.id;
                inner.inbox.push_back(id);
                inner.wires.insert(id, raw);
                inner.transactions.insert(id, (info, cost));
                Ok(id)
            }
            Err(error) => {
                inner.refused[error.reason().index()] += 1;
                Err(error)
            }
        }
    }

    fn transaction(&self, id: TxId) -> Option<TransactionInfo> {
        self.inner().transactions.get(&id).map(|(info, _)| info.clone())
    }

    fn block(&self, selector: BlockSelector) -> Option<Arc<BlockInfo>> {
        let inner = self.inner();
        match selector {
            BlockSelector::Latest | BlockSelector::Final => inner.blocks.last().cloned(),
            BlockSelector::Height(height) => inner.blocks.get(usize::try_from(height.0).ok()?).cloned(),
            BlockSelector::Id(id) => inner.blocks.iter().find(|block| block.id == id).cloned(),
        }
    }

    fn balance(&self, address: Address) -> AccountInfo {
        let inner = self.inner();
        let (balance, nonce) = inner.accounts.get(&address).copied().unwrap_or_default();
        AccountInfo { balance, nonce, at_height: inner.blocks.last().unwrap().height }
    }

    fn consensus_time(&self) -> ConsensusTime {
        let inner = self.inner();
        let tip = inner.blocks.last().unwrap();
        ConsensusTime::new(inner.clock, tip.height, tip.time)
    }

    fn queue_stats(&self) -> QueueStats {
        self.inner().queue_stats()
    }

    fn subscribe_final(&self) -> broadcast::Receiver<Arc<BlockInfo>> {
        match self.final_blocks.lock().unwrap().as_ref() {
            Some(final_blocks) => final_blocks.subscribe(),
            None => broadcast::channel(1).1,
        }
    }

    fn ethereum(&self) -> Option<&dyn EthereumView> {
        Some(self)
    }

    fn metrics(&self) -> MetricsSnapshot {
        let inner = self.inner();
        let kind = "say \"hi\"\n\\";
        MetricsSnapshot {
            node: "only".to_owned(),
            version: "0.1.0".into(),
            peer_count: Some(0),
            messages: vec![MessageCount { direction: Direction::Sent, kind: kind.into(), count: 3 }],
            bytes_received: 10,
            bytes_sent: 20,
            block_time: DurationSummary {
                p50_ns: Some(250_000_000),
                p99_ns: Some(1_500_000_000),
                sum_ns: 4_000_000_000,
                count: 8,
            },
            validator_participation: Some(1.0),
            time_drift_ns: Some(-1_500),
            receive_stamps: vec![("hardware", 7), ("refused", 2)],
            receive_stamp_bound_ns: Some(2_500),
            port_clock_offset_ns: Some(-40),
            clock_faults: vec![("port", "stepped", 3)],
            sync_accuracy_ns: Some(inner.clock.error_bound_ns),
            attestations: inner.transactions.len() as u64,
            final_height: Some(inner.blocks.len() as u64 - 1),
            transactions_final: 0,
            drops: vec![DropCount { stage: "filter".into(), reason: "rate".into(), count: 5 }],
            regimes: vec![
                RegimeTime { core: 1, regime: "caught_up".into(), time_ns: 1_500_000_000 },
                RegimeTime { core: 1, regime: "processing".into(), time_ns: 1 },
            ],
            stage_latencies: vec![StageLatency {
                stage: "verify".into(),
                since: "wire".into(),
                at_most: vec![(1_023, 2), (500_000_000, 6)],
                sum_ns: 3_500_000_000,
                count: 7,
            }],
            queues: inner.queue_stats(),
            ..MetricsSnapshot::default()
        }
    }
}
