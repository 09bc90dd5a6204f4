//! The `eth_*` methods over a real HTTP connection: the shapes that Ethereum's clients read, and the words of refusals.

mod common;

use std::sync::Arc;

use common::{
    BASE_FEE, CHAIN, LedgerOfOne, NONCE_GAP_MAX, START, address, ethereum_address, ethereum_key,
    ethereum_transfer, hex, key, transfer,
};
use jsonrpsee::{
    core::{ClientError, client::ClientT, params::ArrayParams},
    http_client::{HttpClient, HttpClientBuilder},
};
use roko_services::rpc::{RpcConfig, RpcServer};
use roko_wire::{
    Address, ChainId,
    ethereum::{Envelope, EthereumTx, access_list},
    limits::TX_BYTES_MAX,
    rules::FEE_ABSURD,
};
use ruint::aliases::U256;
use serde_json::{Value, json};

const ALICE: u8 = 1;
const FUNDS: u64 = 1_000_000_000;
const TO: Address = Address([0xb0; 20]);

struct Served {
    ledger: Arc<LedgerOfOne>,
    client: HttpClient,
    _server: RpcServer,
}

/// A ledger on which Alice has funds under both of her keys.
async fn served() -> Served {
    let ledger = LedgerOfOne::new(&[(alice(), FUNDS), (address(&key(ALICE)), FUNDS)]);
    let config = RpcConfig { listen: ([127, 0, 0, 1], 0).into(), ..RpcConfig::default() };
    let server = RpcServer::start(&config, ledger.clone()).await.unwrap();
    let client = HttpClientBuilder::default().build(format!("http://{}", server.address())).unwrap();
    Served { ledger, client, _server: server }
}

fn alice() -> Address {
    ethereum_address(&ethereum_key(ALICE))
}

fn raw(tx: &EthereumTx<'_>) -> Value {
    json!(hex(&tx.sign(&ethereum_key(ALICE))))
}

fn to_bob(nonce: u64, value: u64) -> EthereumTx<'static> {
    ethereum_transfer(Envelope::DynamicFee, nonce, TO, value)
}

impl Served {
    async fn try_call(&self, method: &str, params: &[Value]) -> Result<Value, ClientError> {
        let mut array = ArrayParams::new();
        params.iter().for_each(|param| array.insert(param).unwrap());
        self.client.request(method, array).await
    }

    async fn call(&self, method: &str, params: &[Value]) -> Value {
        self.try_call(method, params).await.unwrap_or_else(|error| panic!("{method} {params:?}: {error}"))
    }

    /// Code, message and the kind in the data of an error.
    async fn error(&self, method: &str, params: &[Value]) -> (i32, String, Option<String>) {
        let ClientError::Call(object) = self.try_call(method, params).await.unwrap_err() else {
            panic!("{method}")
        };
        let data = object.data().and_then(|data| serde_json::from_str::<Value>(data.get()).ok());
        let kind = data.and_then(|data| data["kind"].as_str().map(str::to_owned));
        (object.code(), object.message().to_owned(), kind)
    }
}

#[tokio::test]
async fn the_chain_says_who_it_is() {
    let node = served().await;
    for (method, want) in [
        ("eth_chainId", json!(format!("{:#x}", CHAIN.0))),
        ("net_version", json!(CHAIN.to_string())),
        ("web3_clientVersion", json!("roko/v0.1.0")),
        ("eth_syncing", json!(false)),
        ("eth_accounts", json!([])),
        ("eth_blockNumber", json!("0x0")),
        ("eth_gasPrice", json!("0x465")), // 1,000 and an eighth
        ("eth_maxPriorityFeePerGas", json!("0x0")),
    ] {
        assert_eq!(node.call(method, &[]).await, want, "{method}");
    }
    assert_eq!(node.error("eth_mining", &[]).await.0, -32_601);
}

#[tokio::test]
async fn each_envelope_is_sent_found_and_has_a_receipt() {
    let node = served().await;
    let list = access_list(&[(TO, vec![[7; 32]])]);
    let with_list = EthereumTx {
        access_list: &list,
        access_items: 1,
        access_keys: 1,
        gas_limit: 25_300,
        ..ethereum_transfer(Envelope::AccessList, 1, TO, 5)
    };
    let txs = [ethereum_transfer(Envelope::Legacy, 0, TO, 5), with_list, to_bob(2, 5)];
    let mut ids = Vec::new();
    for tx in &txs {
        ids.push(node.call("eth_sendRawTransaction", &[raw(tx)]).await);
    }
    let count = async |tag: &str| node.call("eth_getTransactionCount", &[json!(alice()), json!(tag)]).await;
    assert_eq!((count("latest").await, count("pending").await), (json!("0x0"), json!("0x3")));
    let pending = node.call("eth_getTransactionByHash", std::slice::from_ref(&ids[2])).await;
    assert_eq!((&pending["blockHash"], &pending["transactionIndex"]), (&Value::Null, &Value::Null));
    assert_eq!(pending["gasPrice"], json!("0x7d0"), "while pending, the most it pays");
    assert_eq!(node.call("eth_getTransactionReceipt", std::slice::from_ref(&ids[0])).await, Value::Null);

    node.ledger.advance(1_000_000_000);
    let block = node.ledger.make_block();
    for (index, (tx, id)) in txs.iter().zip(&ids).enumerate() {
        let found = node.call("eth_getTransactionByHash", std::slice::from_ref(id)).await;
        let signed = tx.sign(&ethereum_key(ALICE));
        let signed = roko_wire::ethereum::SignedEthereum::parse(&signed).unwrap();
        let quantity = |bytes: &[u8]| format!("{:#x}", U256::from_be_slice(bytes));
        assert_eq!(found["hash"], *id);
        assert_eq!(found["type"], json!(format!("{:#x}", tx.envelope.type_byte())));
        assert_eq!(found["r"], json!(quantity(&signed.signature[..32])));
        assert_eq!(found["s"], json!(quantity(&signed.signature[32..64])));
        assert_eq!(found["v"], json!(format!("{:#x}", signed.v())));
        assert_eq!((&found["from"], &found["to"]), (&json!(alice()), &json!(TO)));
        assert_eq!((&found["blockHash"], &found["blockNumber"]), (&json!(block.id), &json!("0x1")));
        assert_eq!(found["chainId"], json!(format!("{:#x}", CHAIN.0)));
        let receipt = node.call("eth_getTransactionReceipt", std::slice::from_ref(id)).await;
        assert_eq!((&receipt["status"], &receipt["gasUsed"]), (&json!("0x1"), &json!("0x5208")));
        assert_eq!(receipt["cumulativeGasUsed"], json!(format!("{:#x}", 21_000 * (index + 1))));
        assert_eq!(receipt["effectiveGasPrice"], json!("0x3e8"));
        assert_eq!((&receipt["logs"], &receipt["contractAddress"]), (&json!([]), &Value::Null));
        assert_eq!(receipt["logsBloom"].as_str().unwrap().len(), 2 + 512);
    }
    let listed = node.call("eth_getTransactionByHash", std::slice::from_ref(&ids[1])).await;
    assert_eq!(
        listed["accessList"],
        json!([{"address": TO, "storageKeys": [format!("0x{}", "07".repeat(32))]}])
    );
    let legacy = node.call("eth_getTransactionByHash", std::slice::from_ref(&ids[0])).await;
    for absent in ["accessList", "maxFeePerGas", "yParity"] {
        assert!(legacy.get(absent).is_none(), "{absent} of a legacy transaction");
    }
    assert_eq!(node.call("eth_getBalance", &[json!(TO), json!("latest")]).await, json!("0xf"));
    assert_eq!(node.call("eth_getBalance", &[json!(TO)]).await, json!("0xf"));
}

#[tokio::test]
async fn blocks_are_shown_by_number_tag_and_hash() {
    let node = served().await;
    let ethereum = node.call("eth_sendRawTransaction", &[raw(&to_bob(0, 5))]).await;
    let native = transfer(0, TO, 7).sign_ed25519(&key(ALICE));
    let native = node.call("temporal_sendTransaction", &[json!(hex(&native))]).await;
    let made = node.ledger.make_block();
    let block = node.call("eth_getBlockByNumber", &[json!("latest"), json!(false)]).await;
    for (field, want) in [
        ("number", json!("0x1")),
        ("hash", json!(made.id)),
        ("parentHash", json!(made.parent)),
        ("timestamp", json!(format!("{:#x}", START.0 / 1_000_000_000))),
        ("gasUsed", json!("0xa410")),
        ("baseFeePerGas", json!(format!("{BASE_FEE:#x}"))),
        ("miner", json!(Address([0xfe; 20]))),
        ("nonce", json!("0x0000000000000000")),
        ("difficulty", json!("0x0")),
        ("extraData", json!("0x")),
        ("uncles", json!([])),
        ("sha3Uncles", json!("0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347")),
        ("transactions", json!([ethereum, native])),
    ] {
        assert_eq!(block[field], want, "{field}");
    }
    for (method, which) in [
        ("eth_getBlockByNumber", json!("0x1")),
        ("eth_getBlockByNumber", json!("finalized")),
        ("eth_getBlockByNumber", json!("pending")),
        ("eth_getBlockByHash", json!(made.id)),
    ] {
        assert_eq!(node.call(method, &[which, json!(false)]).await, block);
    }
    let whole = node.call("eth_getBlockByNumber", &[json!("0x1"), json!(true)]).await;
    assert_eq!(whole["transactions"][0]["hash"], ethereum);
    // A native transaction has a type of its own, and no signature of Ethereum's.
    let shown = &whole["transactions"][1];
    assert_eq!((&shown["hash"], &shown["type"]), (&native, &json!("0x7f")));
    assert_eq!([&shown["v"], &shown["r"], &shown["s"]], [&json!("0x0"); 3]);
    assert_eq!((&shown["from"], &shown["value"]), (&json!(address(&key(ALICE))), &json!("0x7")));
    for unknown in [json!("0x2"), json!("0xffffffffffffffff")] {
        assert_eq!(node.call("eth_getBlockByNumber", &[unknown, json!(true)]).await, Value::Null);
    }
}

#[tokio::test]
async fn refusals_are_said_in_ethereums_words() {
    let node = served().await;
    let good = to_bob(0, 5);
    node.call("eth_sendRawTransaction", &[raw(&good)]).await;
    let known = node.error("eth_sendRawTransaction", &[raw(&good)]).await;
    assert_eq!(known, (-32_000, "already known".to_owned(), Some("duplicate".to_owned())));
    node.ledger.make_block();
    let next = to_bob(1, 5);
    let cases = [
        (raw(&to_bob(0, 6)), "stale_nonce", "nonce too low: next nonce 1, tx nonce 0"),
        (raw(&to_bob(2 + NONCE_GAP_MAX, 5)), "nonce_gap", "nonce too high"),
        (raw(&to_bob(1, FUNDS)), "over_balance", "insufficient funds for gas * price + value"),
        (
            raw(&EthereumTx { chain_id: Some(ChainId(1)), ..next }),
            "wrong_chain",
            "invalid chain id for signer: have 1 want",
        ),
        (
            raw(&EthereumTx { gas_limit: 20_999, ..next }),
            "gas_out_of_range",
            "intrinsic gas too low: gas 20999, minimum needed 21000",
        ),
        (raw(&EthereumTx { gas_limit: 30_000_001, ..next }), "gas_out_of_range", "exceeds block gas limit"),
        (
            raw(&EthereumTx { max_fee: 999, ..next }),
            "fee_too_low",
            "max fee per gas less than block base fee",
        ),
        (
            raw(&EthereumTx { max_priority_fee: 9_999, ..next }),
            "fee_absurd",
            "max priority fee per gas higher than max fee per gas",
        ),
        (raw(&EthereumTx { max_fee: FEE_ABSURD + 1, ..next }), "fee_absurd", "max fee per gas higher than"),
        (
            json!(hex(&common::from_before_eip_155()[1..])),
            "no_chain_id",
            "only replay-protected (EIP-155) transactions allowed",
        ),
        (json!("0x03c0"), "unsupported", "transaction type not supported"),
        (json!("0x02c0"), "malformed", "invalid transaction"),
        (json!("0x"), "malformed", "invalid transaction"),
        (json!(hex(&vec![0xf8; TX_BYTES_MAX])), "too_large", "oversized data"),
    ];
    for (raw, kind, words) in cases {
        let (code, message, data) = node.error("eth_sendRawTransaction", &[raw]).await;
        assert_eq!((code, data.as_deref()), (-32_000, Some(kind)), "{message}");
        assert!(message.contains(words), "{words} is not in {message}");
    }
}

#[tokio::test]
async fn gas_is_estimated_for_transfers() {
    let node = served().await;
    let estimate = async |call: Value| node.call("eth_estimateGas", &[call]).await;
    assert_eq!(estimate(json!({"from": alice(), "to": TO, "value": "0x5"})).await, json!("0x5208"));
    assert_eq!(estimate(json!({"to": TO, "data": "0x0001", "type": "0x2"})).await, json!("0x521c"));
    let listed = json!({"to": TO, "accessList": [{"address": TO, "storageKeys": []}], "gas": "0x1"});
    assert_eq!(estimate(listed).await, json!(format!("{:#x}", 23_400)));
    let broke = json!({"from": Address([3; 20]), "to": TO, "value": "0x5"});
    let (code, message, _) = node.error("eth_estimateGas", &[broke]).await;
    assert!(code == -32_000 && message.starts_with("insufficient funds"), "{message}");
    let (_, message, _) = node.error("eth_estimateGas", &[json!({"data": "0x6000"})]).await;
    assert!(message.contains("contract creation is not supported"), "{message}");
}

#[tokio::test]
async fn fees_are_told_for_a_range_of_blocks() {
    let node = served().await;
    for nonce in 0..3 {
        node.call("eth_sendRawTransaction", &[raw(&to_bob(nonce, 5))]).await;
        node.ledger.make_block();
    }
    let history = node.call("eth_feeHistory", &[json!("0x2"), json!("latest"), json!([10, 90.5])]).await;
    let ratio = 21_000.0 / 30_000_000.0;
    let fee = format!("{BASE_FEE:#x}");
    assert_eq!(
        history,
        json!({
            "oldestBlock": "0x2",
            "baseFeePerGas": [fee, fee, fee],
            "gasUsedRatio": [ratio, ratio],
            "reward": [["0x2", "0x2"], ["0x3", "0x3"]],
        })
    );
    let all = node.call("eth_feeHistory", &[json!(1_000), json!("0x3"), Value::Null]).await;
    assert_eq!((&all["oldestBlock"], all.get("reward")), (&json!("0x1"), None));
    let (code, message, _) = node.error("eth_feeHistory", &[json!("0x1"), json!("0x9"), json!([])]).await;
    assert!(code == -32_000 && message.contains("beyond head block"), "{message}");
    let (_, message, _) =
        node.error("eth_feeHistory", &[json!("0x1"), json!("latest"), json!([50, 10])]).await;
    assert!(message.contains("percentile"), "{message}");
}

#[tokio::test]
async fn only_the_newest_state_is_told() {
    let node = served().await;
    let made = node.ledger.make_block();
    for block in [json!("latest"), json!("pending"), json!("0x1"), json!({"blockHash": made.id})] {
        assert_eq!(node.call("eth_getCode", &[json!(TO), block.clone()]).await, json!("0x"));
        assert_eq!(node.call("eth_getTransactionCount", &[json!(TO), block]).await, json!("0x0"));
    }
    for (block, words) in [("earliest", "is not kept"), ("0x0", "is not kept"), ("0x2", "header not found")] {
        let (code, message, _) = node.error("eth_getBalance", &[json!(TO), json!(block)]).await;
        assert!(code == -32_000 && message.contains(words), "{block}: {message}");
    }
    for (method, params) in [
        ("eth_getBalance", vec![json!("0x12"), json!("latest")]),
        ("eth_getBalance", vec![json!(TO), json!("newest")]),
        ("eth_sendRawTransaction", vec![json!("f8")]),
        ("eth_getBlockByNumber", vec![json!("0x01"), json!(false)]),
        ("eth_getTransactionReceipt", vec![]),
    ] {
        assert_eq!(node.error(method, &params).await.0, -32_602, "{method} {params:?}");
    }
}
