//! The books with made-up times, and a run over a real RPC server.

use super::board::{Board, Failure};
use super::*;
use roko_services::SubmitError;
use roko_services::api::{
    AccountInfo, BlockInfo, BlockSelector, ConsensusTime, NodeApi, QueueStats, Status, TransactionInfo,
};
use roko_services::rpc::{RpcConfig, RpcServer};
use roko_services::{MetricsSnapshot, RefusalReason};
use roko_wire::nano::{ClockReading, ClockSource, ClockState};
use roko_wire::tx::{ParsedTx, parse, tx_id};
use roko_wire::{Address, BlockId, Epoch, Hash32, Height, NanoMoment, TxId, ValidatorIndex, View};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::broadcast;

fn id(byte: u8) -> TxId {
    TxId([byte; 32])
}

fn refused(error: SubmitError) -> Failure {
    Failure::Refused(Box::new(error))
}

#[test]
fn latency_counts_from_when_a_transfer_was_due() {
    let start = Instant::now();
    let mut board = Board::new(&[0, 0], 10);
    let (late, _) = board.take().unwrap();
    // Due at the start, held back for 900 ms, final 100 ms after it was sent.
    board.send(id(1), late, start, start + Duration::from_millis(900), true);
    board.accepted(late);
    board.block(&[id(1), id(77)], start + Duration::from_secs(1));
    let report = board.report(10, 5, start);
    let latency = report.latency_ms.clone().unwrap();
    assert!((latency.p50 - 1_000.0).abs() < 1.0 && (latency.max - 1_000.0).abs() < 1.0, "{latency:?}");
    assert_eq!((report.held_back, report.held_back_ms_max), (1, 900.0));
    assert_eq!((report.due, report.sent, report.not_sent, report.finalized, report.lost), (5, 1, 4, 1, 0));
    assert!((report.final_per_second - 1.0).abs() < 1e-9);
    assert!(report.to_string().contains("not sent   4"), "{report}");
}

#[test]
fn an_account_has_one_transfer_awaiting_and_a_refused_nonce_is_used_again() {
    let now = Instant::now();
    let mut board = Board::new(&[7], 10);
    assert_eq!(board.take(), Some((0, 7)));
    board.send(id(1), 0, now, now, false);
    assert_eq!(board.take(), None, "its answer is not there");
    board.accepted(0);
    for (byte, nonce, error, next) in [
        (2, 8, SubmitError::NodeBusy, 8),
        (3, 8, SubmitError::StaleNonce { have: 8, need: 12 }, 12),
        (4, 12, SubmitError::NonceGap { have: 12, need: 10, gap_max: 1 }, 10),
        (5, 10, SubmitError::Duplicate { id: id(5) }, 11),
    ] {
        assert_eq!(board.take(), Some((0, nonce)));
        board.send(id(byte), 0, now, now, false);
        board.failed(id(byte), 0, &refused(error));
        let (account, found) = board.take().unwrap();
        assert_eq!(found, next);
        // It goes back as it was.
        board.send(id(99), account, now, now, false);
        board.failed(id(99), account, &Failure::NoAnswer);
    }
    board.block(&[id(1)], now);
    assert!(!board.is_settled(), "the duplicate is on its way");
    board.block(&[id(5)], now);
    assert!(board.is_settled());
    let report = board.report(1, 9, now);
    assert_eq!((report.finalized, report.lost, report.accepted), (2, 0, 1));
    assert_eq!(report.refused["no_answer"], 4);
    assert_eq!(report.refused[RefusalReason::NodeBusy.label()], 1);
}

#[test]
fn what_is_in_flight_is_bounded_and_what_never_becomes_final_is_lost() {
    let now = Instant::now();
    let mut board = Board::new(&[0; 8], 3);
    for byte in 0..3 {
        let (account, _) = board.take().unwrap();
        board.send(id(byte), account, now, now, false);
        board.accepted(account);
    }
    assert_eq!(board.take(), None);
    board.block(&[id(0)], now);
    assert!(board.take().is_some());
    assert_eq!(board.report(1, 3, now).lost, 2);

    let mut board = Board::new(&[0], 1_000);
    let mut sent = 0;
    while let Some((account, nonce)) = board.take() {
        assert_eq!(nonce, sent);
        board.send(TxId([sent as u8; 32]), account, now, now, false);
        board.accepted(account);
        sent += 1;
    }
    assert_eq!(sent, 32, "one account does not fill a node's room for it");
}

#[test]
fn times_are_read() {
    assert_eq!(parse_time("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(parse_time("30s"), Ok(Duration::from_secs(30)));
    assert_eq!(parse_time("2m"), Ok(Duration::from_secs(120)));
    for text in ["", "30", "s", "-1s", "1h", "1.5s", "99999999999s"] {
        assert!(parse_time(text).is_err(), "{text}");
    }
}

/// What a [`StallingNode`] holds.
#[derive(Default)]
struct Ledger {
    nonces: BTreeMap<Address, u64>,
    pool: Vec<TxId>,
    blocks: Vec<Arc<BlockInfo>>,
    submitted: u64,
    refused: u64,
}

/// A node that checks signatures and nonces, is busy for every tenth transfer, and makes no block in its stall.
struct StallingNode {
    ledger: Mutex<Ledger>,
    finals: broadcast::Sender<Arc<BlockInfo>>,
    start: Instant,
    stall: core::ops::Range<Duration>,
}

impl StallingNode {
    fn now(&self) -> NanoMoment {
        NanoMoment(1_000_000_000_000_000 + self.start.elapsed().as_nanos())
    }

    fn make_block(&self) {
        if self.stall.contains(&self.start.elapsed()) {
            return;
        }
        let mut ledger = self.ledger.lock().unwrap();
        let height = Height(ledger.blocks.len() as u64 + 1);
        let block = Arc::new(BlockInfo {
            id: BlockId([height.0 as u8; 32]),
            height,
            epoch: Epoch(0),
            view: View(height.0),
            parent: BlockId::ZERO,
            proposer: ValidatorIndex(0),
            status: Status::Final,
            time: self.now(),
            watermark: self.now(),
            tx_root: Hash32::ZERO,
            parent_state_root: Hash32::ZERO,
            parent_receipts_root: Hash32::ZERO,
            gas_limit: 0,
            gas_used: None,
            base_fee: 7,
            bytes: 0,
            transactions: std::mem::take(&mut ledger.pool),
        });
        ledger.blocks.push(block.clone());
        let _ = self.finals.send(block);
    }
}

impl NodeApi for StallingNode {
    fn submit(&self, raw: Vec<u8>) -> Result<TxId, SubmitError> {
        let mut ledger = self.ledger.lock().unwrap();
        ledger.submitted += 1;
        if ledger.submitted.is_multiple_of(10) {
            ledger.refused += 1;
            return Err(SubmitError::NodeBusy);
        }
        let Ok(ParsedTx::Native(signed)) = parse(&raw) else { return Err(SubmitError::BadSignature) };
        let sender = signed.verify().map_err(|_| SubmitError::BadSignature)?;
        let (now, tx) = (self.now(), signed.tx);
        if now < tx.valid_from || now > tx.valid_until {
            return Err(SubmitError::Expired { valid_until: tx.valid_until, now });
        }
        let need = ledger.nonces.entry(sender).or_default();
        if tx.nonce != *need {
            return Err(SubmitError::NonceGap { have: tx.nonce, need: *need, gap_max: 0 });
        }
        *need += 1;
        ledger.pool.push(tx_id(&raw));
        Ok(tx_id(&raw))
    }
    fn transaction(&self, _: TxId) -> Option<TransactionInfo> {
        None
    }
    fn block(&self, selector: BlockSelector) -> Option<Arc<BlockInfo>> {
        let ledger = self.ledger.lock().unwrap();
        match selector {
            BlockSelector::Height(height) => ledger.blocks.get(height.0.checked_sub(1)? as usize).cloned(),
            _ => ledger.blocks.last().cloned(),
        }
    }
    fn balance(&self, address: Address) -> AccountInfo {
        let nonce = self.ledger.lock().unwrap().nonces.get(&address).copied().unwrap_or(0);
        AccountInfo { balance: U256::from(1), nonce, at_height: Height(0) }
    }
    fn consensus_time(&self) -> ConsensusTime {
        let clock = ClockReading {
            now: self.now(),
            error_bound_ns: 0,
            source: ClockSource::System,
            state: ClockState::Converged,
        };
        ConsensusTime::new(clock, Height(self.ledger.lock().unwrap().blocks.len() as u64), self.now())
    }
    fn queue_stats(&self) -> QueueStats {
        QueueStats::default()
    }
    fn subscribe_final(&self) -> broadcast::Receiver<Arc<BlockInfo>> {
        self.finals.subscribe()
    }
    fn metrics(&self) -> MetricsSnapshot {
        MetricsSnapshot::default()
    }
}

#[test]
fn a_stall_of_the_chain_is_in_the_percentiles_and_every_transfer_is_accounted_for() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let node = Arc::new(StallingNode {
            ledger: Mutex::default(),
            finals: broadcast::channel(256).0,
            start: Instant::now(),
            stall: Duration::from_millis(500)..Duration::from_millis(1_000),
        });
        let config = RpcConfig { listen: "127.0.0.1:0".parse().unwrap(), ..RpcConfig::default() };
        let server = RpcServer::start(&config, node.clone()).await.unwrap();
        let blocks = node.clone();
        let maker = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(10)).await;
                blocks.make_block();
            }
        });
        let plan = LoadPlan {
            rpc: vec![format!("http://{}", server.address())],
            accounts: (0..50).map(|index| devnet_account(b"load", index)).collect(),
            rate_per_second: 200,
            duration: Duration::from_millis(1_500),
            drain: Duration::from_secs(10),
            in_flight_max: 10_000,
            value: U256::from(1),
            max_fee: None,
            chain_id: DEVNET_CHAIN_ID,
        };
        let due = plan.transfers();
        let report = offer(plan, |_| {}).await.unwrap_or_else(|error| panic!("{error}"));
        maker.abort();
        let ledger = node.ledger.lock().unwrap();
        assert_eq!((due, report.due, report.sent + report.not_sent), (300, 300, 300));
        let refused = report.refused.get("node_busy").copied().unwrap_or(0);
        assert_eq!((refused, report.refused.len()), (ledger.refused, 1), "{report:?}");
        assert_eq!(
            (report.accepted, report.finalized),
            (report.sent - refused, report.accepted),
            "{report:?}"
        );
        assert_eq!(report.lost, 0);
        // A third of the transfers are due while the chain stands still for half a second.
        let latency = report.latency_ms.unwrap();
        assert!(latency.max > 400.0 && latency.p99 > 350.0 && latency.p90 > 150.0, "{latency:?}");
    });
}
