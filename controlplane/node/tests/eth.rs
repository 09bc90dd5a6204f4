//! The `eth_*` methods of a network that runs: raw transactions of each envelope from the RPC to their receipts, each refusal
//! with its reason, and the same by Ethereum's own libraries, the npm packages `ethers` and `viem` (`eth/transfer.mjs`).
//! Without `node` and `npm`, or without a network to install the packages from, that test says that it is skipped.

mod common;

use common::DevnetProcess;
use jsonrpsee::core::ClientError;
use jsonrpsee::core::client::ClientT;
use jsonrpsee::core::params::ArrayParams;
use jsonrpsee::ws_client::{WsClient, WsClientBuilder};
use roko_node::accounts::{AccountKey, DEVNET_CHAIN_ID, DEVNET_SEED, Scheme, devnet_account, save_account};
use roko_wire::ethereum::{Envelope, EthereumTx};
use roko_wire::{Address, ChainId};
use ruint::aliases::U256;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Secret of the account that the tests pay from.
const SECRET: [u8; 32] = [0x42; 32];
/// 10 ROKO.
const FUNDS: u64 = 10_000_000_000_000_000_000;
const TO: Address = Address([0xb0; 20]);

/// What a command says on both streams; `Err` when it does not run or fails.
fn output(command: &mut Command) -> Result<String, String> {
    let out = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if out.status.success() { Ok(text) } else { Err(format!("{command:?}: {}\n{text}", out.status)) }
}

/// The script in a folder with its packages; `Err` says why they are not there.
fn script() -> Result<PathBuf, String> {
    output(Command::new("node").arg("--version"))?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/eth");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("eth");
    std::fs::create_dir_all(&folder).expect("the build's own folder can be written");
    for name in ["package.json", "transfer.mjs"] {
        std::fs::copy(source.join(name), folder.join(name)).expect("the sources can be read");
    }
    let install = ["install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"];
    output(Command::new("npm").args(install).current_dir(&folder))?;
    Ok(folder.join("transfer.mjs"))
}

/// Pays 10 ROKO to a secp256k1 account, which Ethereum's tools know by the same address.
fn fund(devnet: &DevnetProcess, folder: &Path) -> Address {
    let key = AccountKey::from_secret(Scheme::Secp256k1, &SECRET).expect("a number below the group's order");
    let bank = folder.join("bank.key");
    save_account(&devnet_account(DEVNET_SEED.as_bytes(), 0), &bank).expect("the key file is new");
    let to = key.address().to_string();
    let send = ["send", "--rpc", &devnet.rpc[0], "--value", "10", "--to", &to, "--key"];
    output(common::roko().args(send).arg(bank)).expect("a devnet's account pays");
    key.address()
}

fn transfer(envelope: Envelope, nonce: u64) -> EthereumTx<'static> {
    EthereumTx {
        envelope,
        chain_id: Some(DEVNET_CHAIN_ID),
        nonce,
        gas_limit: 21_000,
        max_fee: 1_000_000_000_000,
        max_priority_fee: if envelope == Envelope::DynamicFee { 7 } else { 1_000_000_000_000 },
        value: U256::from(5),
        to: Some(TO),
        input: &[],
        access_list: &[],
        access_items: 0,
        access_keys: 0,
    }
}

fn raw(tx: &EthereumTx<'_>) -> Value {
    let key = k256::ecdsa::SigningKey::from_slice(&SECRET).expect("a number below the group's order");
    json!(format!("0x{}", hex::encode(tx.sign(&key))))
}

async fn ask(client: &WsClient, method: &str, params: &[Value]) -> Result<Value, ClientError> {
    let mut array = ArrayParams::new();
    params.iter().for_each(|param| array.insert(param).expect("it is JSON"));
    client.request(method, array).await
}

async fn answer(client: &WsClient, method: &str, params: &[Value]) -> Value {
    ask(client, method, params).await.unwrap_or_else(|error| panic!("{method} {params:?}: {error}"))
}

/// Waits for a transaction's receipt.
async fn receipt(client: &WsClient, id: &Value) -> Value {
    let search = async {
        loop {
            let found = answer(client, "eth_getTransactionReceipt", std::slice::from_ref(id)).await;
            if !found.is_null() {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(common::PATIENCE, search).await.expect("the transfer becomes final")
}

fn number(value: &Value) -> u128 {
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x")).expect("a quantity");
    u128::from_str_radix(digits, 16).expect("a quantity")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_envelope_becomes_final_and_each_refusal_has_its_reason() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let devnet = DevnetProcess::start(&dir.path().join("net"), 0, &[]);
    let from = fund(&devnet, dir.path());
    let url = devnet.rpc[0].replace("http://", "ws://");
    let client = WsClientBuilder::default().build(&url).await.expect("the node listens");

    let mut paid = 0;
    for (nonce, envelope) in
        [Envelope::Legacy, Envelope::AccessList, Envelope::DynamicFee].into_iter().enumerate()
    {
        let id = answer(&client, "eth_sendRawTransaction", &[raw(&transfer(envelope, nonce as u64))]).await;
        let receipt = receipt(&client, &id).await;
        assert_eq!((&receipt["status"], &receipt["gasUsed"]), (&json!("0x1"), &json!("0x5208")));
        let price = number(&receipt["effectiveGasPrice"]);
        let block = answer(&client, "eth_getBlockByHash", &[receipt["blockHash"].clone(), json!(true)]).await;
        let base_fee = number(&block["baseFeePerGas"]);
        let want = if envelope == Envelope::DynamicFee { base_fee + 7 } else { 1_000_000_000_000 };
        assert_eq!(price, want, "{envelope:?}");
        assert_eq!(block["transactions"][0]["hash"], id);
        paid += 5 + 21_000 * price;
    }
    let balance = answer(&client, "eth_getBalance", &[json!(from), json!("latest")]).await;
    assert_eq!(number(&balance), u128::from(FUNDS) - paid);
    assert_eq!(answer(&client, "eth_getBalance", &[json!(TO), json!("latest")]).await, json!("0xf"));

    // What waits for a missing nonce is told as pending, and executed when that comes.
    let ahead = answer(&client, "eth_sendRawTransaction", &[raw(&transfer(Envelope::DynamicFee, 4))]).await;
    let waiting = answer(&client, "eth_getTransactionByHash", std::slice::from_ref(&ahead)).await;
    assert_eq!((&waiting["blockNumber"], &waiting["nonce"]), (&Value::Null, &json!("0x4")));
    let count = [json!(from), json!("pending")];
    assert_eq!(answer(&client, "eth_getTransactionCount", &count).await, json!("0x3"));
    answer(&client, "eth_sendRawTransaction", &[raw(&transfer(Envelope::Legacy, 3))]).await;
    assert_eq!(answer(&client, "eth_getTransactionCount", &count).await, json!("0x5"));
    assert_eq!(receipt(&client, &ahead).await["status"], json!("0x1"));

    let next = transfer(Envelope::Legacy, 5);
    let cases = [
        (raw(&transfer(Envelope::Legacy, 0)), "duplicate", "already known"),
        (raw(&transfer(Envelope::DynamicFee, 1)), "stale_nonce", "nonce too low"),
        (raw(&EthereumTx { chain_id: None, ..next }), "no_chain_id", "replay-protected"),
        (raw(&EthereumTx { chain_id: Some(ChainId(1)), ..next }), "wrong_chain", "invalid chain id"),
        (raw(&EthereumTx { value: U256::from(FUNDS), ..next }), "over_balance", "insufficient funds"),
        (raw(&EthereumTx { gas_limit: 20_999, ..next }), "gas_out_of_range", "intrinsic gas too low"),
        (json!("0x04c0"), "unsupported", "not supported"),
        (json!("0xc0"), "malformed", "invalid transaction"),
    ];
    for (raw, kind, words) in &cases {
        let error = ask(&client, "eth_sendRawTransaction", std::slice::from_ref(raw)).await.expect_err(kind);
        let ClientError::Call(call) = error else { panic!("{kind}: {error}") };
        let data: Value = serde_json::from_str(call.data().expect("the reason").get()).expect("JSON");
        assert_eq!((call.code(), &data["kind"]), (-32_000, &json!(kind)), "{}", call.message());
        assert!(call.message().contains(words), "{}", call.message());
    }
    let stats = answer(&client, "temporal_getQueueStats", &[]).await;
    let refused = stats["refused"].as_array().expect("a list");
    assert_eq!(refused.len(), cases.len(), "{refused:?}");
    assert!(refused.iter().all(|one| one["count"] == "1"), "{refused:?}");
    devnet.kill();
}

#[test]
fn ethers_and_viem_send_transfers_and_see_their_receipts() {
    let script = match script() {
        Ok(script) => script,
        Err(why) => {
            eprintln!("skipped: ethers and viem are not here, because {why}");
            return;
        }
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let devnet = DevnetProcess::start(&dir.path().join("net"), 0, &[]);
    fund(&devnet, dir.path());
    let key = format!("0x{}", hex::encode(SECRET));
    let recipient = "0x00000000000000000000000000000000000a11ce";
    let run = Command::new("node").arg(script).args([&devnet.rpc[0], &key, recipient]).output();
    let said = run.expect("node ran before");
    let text = [said.stdout, said.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(said.status.success(), "{text}");
    println!("{text}");
    devnet.kill();
}
