//! The methods over real HTTP and WebSocket connections: what they answer, and how every refusal looks.

mod common;

use std::sync::Arc;

use common::{
    BASE_FEE, CHAIN, INBOX_CAPACITY, LedgerOfOne, NONCE_GAP_MAX, POOL_CAPACITY, START, WINDOW_NS_MAX,
    address, hex, key, transfer,
};
use jsonrpsee::{
    core::{ClientError, client::ClientT},
    http_client::{HttpClient, HttpClientBuilder},
    rpc_params,
    types::ErrorObjectOwned,
};
use roko_services::{
    RefusalReason, SubmitError,
    api::{BlockSelector, Status},
    rpc::{RpcConfig, RpcServer, TemporalRpcClient},
};
use roko_wire::{
    Address, BlockId, ChainId, Height, NanoMoment, TxId, limits::TX_BYTES_MAX, rules::FEE_ABSURD,
};
use ruint::aliases::U256;
use serde_json::{Value, json};

const ALICE: u8 = 1;
const BOB: u8 = 2;
const FUNDS: u64 = 1_000_000_000;
const FEE: u64 = 21_000 * BASE_FEE as u64;

async fn served() -> (Arc<LedgerOfOne>, RpcServer, HttpClient) {
    let ledger = LedgerOfOne::new(&[(address(&key(ALICE)), FUNDS)]);
    let config = RpcConfig { listen: ([127, 0, 0, 1], 0).into(), ..RpcConfig::default() };
    let server = RpcServer::start(&config, ledger.clone()).await.unwrap();
    let client = HttpClientBuilder::default().build(format!("http://{}", server.address())).unwrap();
    (ledger, server, client)
}

fn to_bob(nonce: u64, value: u64) -> Vec<u8> {
    transfer(nonce, address(&key(BOB)), value).sign_ed25519(&key(ALICE))
}

#[tokio::test]
async fn a_transfer_is_sent_found_and_paid() {
    let (ledger, _server, client) = served().await;
    let id = client.send_transaction(hex(&to_bob(0, 5_000))).await.unwrap();

    let pending = client.get_transaction(id).await.unwrap().unwrap();
    assert_eq!((pending.status, pending.placement, pending.outcome), (Status::Pending, None, None));

    ledger.advance(1_000);
    let block = ledger.make_block();
    let info = client.get_transaction(id).await.unwrap().unwrap();
    assert_eq!(info.status, Status::Final);
    assert_eq!((info.sender, info.to), (address(&key(ALICE)), Some(address(&key(BOB)))));
    assert_eq!((info.value, info.nonce), (U256::from(5_000), 0));
    assert_eq!(info.stamp.unwrap().time, START);
    let placement = info.placement.unwrap();
    assert_eq!((placement.height, placement.block, placement.index), (Height(1), block.id, 0));
    let outcome = info.outcome.unwrap();
    assert_eq!((outcome.success, outcome.gas_used, outcome.fee_paid), (true, 21_000, U256::from(FEE)));

    let alice = client.get_balance(address(&key(ALICE))).await.unwrap();
    assert_eq!((alice.balance, alice.nonce), (U256::from(FUNDS - 5_000 - FEE), 1));
    let bob = client.get_balance(address(&key(BOB))).await.unwrap();
    assert_eq!((bob.balance, bob.nonce, bob.at_height), (U256::from(5_000), 0, Height(1)));
    assert_eq!(client.get_transaction(TxId([9; 32])).await.unwrap(), None);
}

#[tokio::test]
async fn blocks_are_found_by_every_selector() {
    let (ledger, _server, client) = served().await;
    let genesis = client.get_block(BlockSelector::Height(Height(0))).await.unwrap().unwrap();
    client.send_transaction(hex(&to_bob(0, 1))).await.unwrap();
    let block = ledger.make_block();

    let selectors = [
        BlockSelector::Latest,
        BlockSelector::Final,
        BlockSelector::Height(Height(1)),
        BlockSelector::Id(block.id),
    ];
    for selector in selectors {
        assert_eq!(client.get_block(selector).await.unwrap().as_ref(), Some(&*block), "{selector}");
    }
    assert_eq!(block.parent, genesis.id);
    for absent in [BlockSelector::Height(Height(2)), BlockSelector::Id(BlockId([1; 32]))] {
        assert_eq!(client.get_block(absent).await.unwrap(), None);
    }
    // A height may be a number or digits.
    for height in [json!(1), json!("1")] {
        let value: Value = client.request("temporal_getBlock", rpc_params![height]).await.unwrap();
        assert_eq!(value["id"], json!(block.id));
    }
}

#[tokio::test]
async fn json_has_decimal_strings_and_0x_hashes() {
    let (ledger, _server, client) = served().await;
    let id: Value =
        client.request("temporal_sendTransaction", rpc_params![hex(&to_bob(0, 1))]).await.unwrap();
    assert_eq!(id.as_str().unwrap().len(), 66);
    ledger.advance(2_000);
    let block = ledger.make_block();

    let info: Value = client.request("temporal_getTransaction", rpc_params![&id]).await.unwrap();
    let expected = json!({
        "id": id,
        "status": "final",
        "stamp": {"time": "1800000000000000000", "errorBoundNs": "500", "source": "system", "stampedBy": "poll", "ingress": 0},
        "placement": {"height": "1", "block": block.id.to_string(), "index": 0, "time": "1800000000000002000"},
        "outcome": {"success": true, "gasUsed": "21000", "feePaid": "21000000"},
        "sender": address(&key(ALICE)).to_string(),
        "to": address(&key(BOB)).to_string(),
        "value": "1",
        "nonce": "0",
    });
    assert_eq!(info, expected);

    let time: Value = client.request("temporal_getConsensusTime", rpc_params![]).await.unwrap();
    let expected = json!({
        "now": "1800000000000002000",
        "errorBoundNs": "500",
        "earliest": "1800000000000001500",
        "latest": "1800000000000002500",
        "source": "system",
        "state": "converged",
        "traceable": false,
        "height": "1",
        "lastBlockTime": "1800000000000002000",
    });
    assert_eq!(time, expected);
}

#[tokio::test]
async fn queue_stats_follow_the_queues() {
    let (ledger, _server, client) = served().await;
    for nonce in 0..3 {
        client.send_transaction(hex(&to_bob(nonce, 1))).await.unwrap();
    }
    let stats = client.get_queue_stats().await.unwrap();
    assert_eq!((stats.mempool.pending, stats.rings[0].depth, stats.rings[0].drops), (0, 3, 0));

    client.send_transaction(hex(&to_bob(3, 1))).await.unwrap_err();
    ledger.poll();
    let stats = client.get_queue_stats().await.unwrap();
    assert_eq!((stats.mempool.pending, stats.rings[0].depth, stats.rings[0].drops), (3, 0, 1));
    assert_eq!(stats.refused.len(), 1);
    assert_eq!((stats.refused[0].reason, stats.refused[0].count), (RefusalReason::NodeBusy, 1));
}

/// The refusal behind an error, after its code and message were checked against it.
fn refusal(error: ClientError) -> SubmitError {
    let ClientError::Call(object) = error else { panic!("{error:?}") };
    let refusal: SubmitError = serde_json::from_str(object.data().unwrap().get()).unwrap();
    assert_eq!(object.code(), refusal.code());
    assert_eq!(object.message(), refusal.to_string());
    let data: Value = serde_json::from_str(object.data().unwrap().get()).unwrap();
    assert_eq!(data["kind"], refusal.reason().label());
    refusal
}

/// Transactions that a ledger refuses by themselves, each with its refusal.
fn refused_by_themselves() -> Vec<(Vec<u8>, SubmitError)> {
    let good = transfer(0, address(&key(BOB)), 1);
    let signed = |tx: roko_wire::tx::NativeTx<'_>| tx.sign_ed25519(&key(ALICE));
    let mut forged = signed(good);
    *forged.last_mut().unwrap() ^= 1;
    let changed = |change: fn(&mut roko_wire::tx::NativeTx<'_>)| {
        let mut tx = good;
        change(&mut tx);
        signed(tx)
    };
    const PAST: NanoMoment = NanoMoment(START.0 - 1);
    const FUTURE: NanoMoment = NanoMoment(START.0 + 1);
    let window_ns = WINDOW_NS_MAX + 1;
    let truncated = signed(good)[..40].to_vec();
    let detail = roko_wire::tx::parse(&truncated).unwrap_err().to_string();
    let pauper = transfer(0, address(&key(ALICE)), 1).sign_ed25519(&key(BOB));
    let cost = U256::from(2 * FEE + 1);
    vec![
        (truncated, SubmitError::Malformed { detail }),
        (vec![0; TX_BYTES_MAX + 1], {
            SubmitError::TooLarge { bytes: TX_BYTES_MAX as u64 + 1, bytes_max: TX_BYTES_MAX as u64 }
        }),
        (vec![1, 3, 0xf8], SubmitError::Unsupported { what: "Ethereum transactions of type 3".to_owned() }),
        (common::from_before_eip_155(), SubmitError::NoChainId),
        (forged, SubmitError::BadSignature),
        (changed(|tx| tx.chain_id = ChainId(1)), SubmitError::WrongChain { have: ChainId(1), want: CHAIN }),
        (
            changed(|tx| {
                tx.valid_until = PAST;
                tx.valid_from = NanoMoment(PAST.0 - 10);
            }),
            SubmitError::Expired { valid_until: PAST, now: START },
        ),
        (changed(|tx| tx.valid_from = FUTURE), SubmitError::NotYetValid { valid_from: FUTURE, now: START }),
        (
            changed(|tx| tx.valid_until = tx.valid_from.saturating_add(WINDOW_NS_MAX + 1)),
            SubmitError::BadWindow { window_ns, window_ns_max: WINDOW_NS_MAX },
        ),
        (
            changed(|tx| tx.max_fee = BASE_FEE - 1),
            SubmitError::FeeTooLow { offered: BASE_FEE - 1, base_fee: BASE_FEE },
        ),
        (
            changed(|tx| tx.max_fee = FEE_ABSURD + 1),
            SubmitError::FeeAbsurd { max_fee: FEE_ABSURD + 1, max_priority_fee: 0, fee_max: FEE_ABSURD },
        ),
        (
            changed(|tx| tx.gas_limit = 20_999),
            SubmitError::GasOutOfRange { offered: 20_999, gas_min: 21_000, gas_max: 30_000_000 },
        ),
        (to_bob(NONCE_GAP_MAX + 1, 1), {
            SubmitError::NonceGap { have: NONCE_GAP_MAX + 1, need: 0, gap_max: NONCE_GAP_MAX }
        }),
        (pauper, SubmitError::OverBalance { cost, balance: U256::ZERO }),
    ]
}

#[tokio::test]
async fn every_refusal_has_its_code_message_and_figures() {
    let (ledger, _server, client) = served().await;
    let mut seen = Vec::new();
    for (raw, expected) in refused_by_themselves() {
        let got = refusal(client.send_transaction(hex(&raw)).await.unwrap_err());
        assert_eq!(got, expected);
        seen.push(got.reason());
    }

    let first = client.send_transaction(hex(&to_bob(0, 1))).await.unwrap();
    let again = refusal(client.send_transaction(hex(&to_bob(0, 1))).await.unwrap_err());
    assert_eq!(again, SubmitError::Duplicate { id: first });
    ledger.make_block();
    let stale = refusal(client.send_transaction(hex(&to_bob(0, 2))).await.unwrap_err());
    assert_eq!(stale, SubmitError::StaleNonce { have: 0, need: 1 });

    for value in 0..INBOX_CAPACITY as u64 {
        client.send_transaction(hex(&to_bob(1, value))).await.unwrap();
    }
    let busy = refusal(client.send_transaction(hex(&to_bob(1, 100))).await.unwrap_err());
    assert_eq!(busy, SubmitError::NodeBusy);
    ledger.poll();
    for value in INBOX_CAPACITY..POOL_CAPACITY {
        client.send_transaction(hex(&to_bob(1, value as u64))).await.unwrap();
    }
    let full = refusal(client.send_transaction(hex(&to_bob(1, 100))).await.unwrap_err());
    assert_eq!(full, SubmitError::PoolFull { capacity: POOL_CAPACITY as u32 });
    ledger.fill_disk();
    let stopped = refusal(client.send_transaction(hex(&to_bob(1, 101))).await.unwrap_err());
    assert!(stopped.to_string().contains("free space"), "{stopped}");

    seen.extend([again.reason(), stale.reason(), busy.reason(), full.reason(), stopped.reason()]);
    seen.sort_unstable();
    assert_eq!(seen, RefusalReason::ALL, "a reason without a test");
    let counted: Vec<_> = client.get_queue_stats().await.unwrap().refused;
    assert_eq!(counted.len(), RefusalReason::COUNT);
    assert!(counted.iter().all(|refused| refused.count == 1), "{counted:?}");
}

/// The error of a call.
async fn call_error(client: &HttpClient, method: &str, params: Vec<Value>) -> ErrorObjectOwned {
    let mut array = jsonrpsee::core::params::ArrayParams::new();
    params.into_iter().for_each(|param| array.insert(param).unwrap());
    match client.request::<Value, _>(method, array).await.unwrap_err() {
        ClientError::Call(object) => object,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn wrong_parameters_are_named() {
    let (_ledger, _server, client) = served().await;
    let cases = [
        ("temporal_sendTransaction", json!("0xzz"), "hexadecimal"),
        ("temporal_sendTransaction", json!("0x123"), "hexadecimal"),
        ("temporal_sendTransaction", json!(12), "expected a string"),
        ("temporal_getTransaction", json!("0x12"), "32 bytes"),
        ("temporal_getBlock", json!("newest"), "latest"),
        ("temporal_getBlock", json!(-1), "a height"),
        ("temporal_getBlock", json!(null), "a height"),
        ("temporal_getBalance", json!(Hash::LONG), "20 bytes"),
    ];
    for (method, param, mentioned) in cases {
        let error = call_error(&client, method, vec![param.clone()]).await;
        assert_eq!(error.code(), -32_602, "{method} {param}");
        let text = format!("{error:?}");
        assert!(text.contains(mentioned), "{mentioned} is not in {text}");
    }
    assert_eq!(call_error(&client, "temporal_getBalance", vec![]).await.code(), -32_602);
    assert_eq!(call_error(&client, "temporal_getEverything", vec![]).await.code(), -32_601);
    let used: Value = client.request("temporal_getBalance", rpc_params![Address([7; 20])]).await.unwrap();
    assert_eq!(used, json!({"balance": "0", "nonce": "0", "atHeight": "0"}));
}

/// Texts of the wrong length.
struct Hash;
impl Hash {
    const LONG: &'static str = "0x0000000000000000000000000000000000000000000000000000000000000000";
}
