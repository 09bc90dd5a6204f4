//! The services of a network that runs: a transfer from the command line to the final block and everything that can be
//! asked about it, then each way in which one is refused.

mod common;

use common::DevnetProcess;
use jsonrpsee::core::ClientError;
use jsonrpsee::ws_client::{WsClient, WsClientBuilder};
use roko_node::accounts::{
    AccountKey, DEVNET_ACCOUNT_ROKO, DEVNET_CHAIN_ID, DEVNET_SEED, Transfer, devnet_account, parse_roko,
    save_account,
};
use roko_services::RefusalReason;
use roko_services::api::{BlockSelector, Status};
use roko_services::rpc::{FinalBlockNotice, TemporalRpcClient};
use roko_wire::rules::FEE_ABSURD;
use roko_wire::{ChainId, NanoMoment, TxId};
use ruint::aliases::U256;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

const SECOND_NS: u64 = 1_000_000_000;

async fn connect(url: &str) -> WsClient {
    let url = url.replace("http://", "ws://");
    let builder = WsClientBuilder::default().request_timeout(common::PATIENCE);
    builder.build(&url).await.expect("the node listens")
}

/// `roko send` of 1.5 ROKO; returns the id that it prints.
fn send_by_command_line(rpc: &str, key_file: &Path, to: &AccountKey) -> TxId {
    let out = common::roko()
        .args(["send", "--rpc", rpc, "--value", "1.5", "--to", &to.address().to_string(), "--key"])
        .arg(key_file)
        .output()
        .expect("the program was built for this test");
    let (said, why) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{said}\n{why}");
    assert!(said.contains("final    height "), "{said}");
    let sent = said.lines().find_map(|line| line.strip_prefix("sent")).expect("it prints the id");
    sent.trim().parse().expect("an id")
}

/// A transfer that the chain takes, with the nonce `nonce`.
fn good(now: NanoMoment, to: &AccountKey, nonce: u64) -> Transfer {
    Transfer {
        chain_id: DEVNET_CHAIN_ID,
        nonce,
        to: to.address(),
        value: U256::from(7),
        max_fee: 1_000_000_000_000,
        max_priority_fee: 1,
        valid_from: now.saturating_sub(10 * SECOND_NS),
        valid_until: now.saturating_add(60 * SECOND_NS),
    }
}

async fn send(client: &WsClient, raw: &[u8]) -> Result<TxId, ClientError> {
    client.send_transaction(format!("0x{}", hex::encode(raw))).await
}

/// Waits for the block that holds `id`, by subscription.
async fn until_final(
    blocks: &mut jsonrpsee::core::client::Subscription<FinalBlockNotice>,
    id: TxId,
) -> roko_wire::Height {
    let search = async {
        let mut last = None;
        loop {
            let notice = blocks.next().await.expect("the node stays").expect("a notice");
            let FinalBlockNotice::Block { block } = notice else { continue };
            assert!(last.is_none_or(|last| block.height.0 == last + 1), "blocks come in height order");
            last = Some(block.height.0);
            if block.transactions.contains(&id) {
                return block.height;
            }
        }
    };
    tokio::time::timeout(common::PATIENCE, search).await.expect("the transfer becomes final")
}

/// Every counter of refusals that is not 0.
async fn refusals(client: &WsClient) -> BTreeMap<RefusalReason, u64> {
    let stats = client.get_queue_stats().await.expect("an answer");
    stats.refused.iter().map(|refused| (refused.reason, refused.count)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_transfer_by_command_line_is_final_and_every_question_about_it_is_answered() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let devnet = DevnetProcess::start(&dir.path().join("net"), 0, &[]);
    let (from, to) = (devnet_account(DEVNET_SEED.as_bytes(), 0), devnet_account(DEVNET_SEED.as_bytes(), 1));
    let key_file = dir.path().join("alice.key");
    save_account(&from, &key_file).expect("the key file is new");
    let id = send_by_command_line(&devnet.rpc[1], &key_file, &to);

    let client = connect(&devnet.rpc[1]).await;
    let info = client.get_transaction(id).await.expect("an answer").expect("the node knows it");
    assert_eq!((info.id, info.status, info.nonce), (id, Status::Final, 0));
    assert_eq!((info.sender, info.to), (from.address(), Some(to.address())));
    let (placement, outcome) = (info.placement.expect("a place"), info.outcome.expect("an outcome"));
    let stamp = info.stamp.expect("a stamp");
    assert!(outcome.success);
    assert_eq!(stamp.ingress.0, 1, "the validator that it was sent to has stamped it");
    assert!(placement.time >= stamp.time, "its moment is not before its stamp");

    let block = client.get_block(BlockSelector::Id(placement.block)).await.expect("an answer");
    let block = block.expect("the block is there");
    assert_eq!((block.height, block.status), (placement.height, Status::Final));
    assert_eq!(block.transactions[placement.index as usize], id);
    assert!(block.watermark > placement.time, "a block holds moments below its watermark");
    let by_height = client.get_block(BlockSelector::Height(placement.height)).await.expect("an answer");
    assert_eq!(by_height.map(|block| block.id), Some(placement.block));

    let given = parse_roko(&DEVNET_ACCOUNT_ROKO.to_string()).expect("a whole number");
    let value = parse_roko("1.5").expect("an amount");
    let received = client.get_balance(to.address()).await.expect("an answer");
    assert_eq!(received.balance, given + value);
    let paid = client.get_balance(from.address()).await.expect("an answer");
    assert_eq!((paid.balance, paid.nonce), (given - value - outcome.fee_paid, 1));
    assert!(outcome.fee_paid > U256::ZERO);

    let time = client.get_consensus_time().await.expect("an answer");
    assert!(time.earliest < time.now && time.now < time.latest, "a time without a bound is a claim");
    assert!(time.height >= placement.height && time.last_block_time >= block.time);
    assert!(!time.traceable, "the host's clock follows no reference that could be checked");
    assert_eq!(client.get_transaction(TxId([9; 32])).await.expect("an answer"), None);

    let mut blocks = client.subscribe_final_blocks().await.expect("a subscription");
    let signed = good(time.now, &to, 1).sign(&from);
    assert_eq!(send(&client, &signed.raw).await.expect("it is taken"), signed.id);
    let height = until_final(&mut blocks, signed.id).await;
    let other = connect(&devnet.rpc[3]).await;
    let at_other = other.get_transaction(signed.id).await.expect("an answer");
    // Another validator may be a block behind the one that told us.
    assert!(at_other.is_none_or(|info| info.placement.is_none_or(|place| place.height == height)));
    assert_eq!(refusals(&client).await, BTreeMap::new(), "nothing was refused");
    devnet.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_refusal_has_its_own_code_and_its_own_counter() {
    use RefusalReason::{
        BadSignature, BadWindow, Duplicate, Expired, FeeAbsurd, FeeTooLow, Malformed, NonceGap, NotYetValid,
        OverBalance, StaleNonce, TooLarge, WrongChain,
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let devnet = DevnetProcess::start(dir.path(), 0, &[]);
    let client = connect(&devnet.rpc[0]).await;
    let (from, to) = (devnet_account(DEVNET_SEED.as_bytes(), 2), devnet_account(DEVNET_SEED.as_bytes(), 3));
    let now = client.get_consensus_time().await.expect("an answer").now;
    let mut blocks = client.subscribe_final_blocks().await.expect("a subscription");
    let first = good(now, &to, 0).sign(&from);
    send(&client, &first.raw).await.expect("a good transfer is taken");
    until_final(&mut blocks, first.id).await;

    let next = good(now, &to, 1);
    let raw = |transfer: Transfer| transfer.sign(&from).raw;
    let mut forged = raw(next);
    *forged.last_mut().expect("a signature") ^= 1;
    let balance = client.get_balance(from.address()).await.expect("an answer").balance;
    let day_ns = 86_400 * SECOND_NS;
    let cases = [
        (BadSignature, forged),
        (StaleNonce, raw(Transfer { nonce: 0, value: U256::from(8), ..next })),
        (NonceGap, raw(Transfer { nonce: 1_000, ..next })),
        (Expired, raw(Transfer { valid_until: now.saturating_sub(SECOND_NS), ..next })),
        (NotYetValid, raw(Transfer { valid_from: now.saturating_add(30 * SECOND_NS), ..next })),
        (BadWindow, raw(Transfer { valid_until: now.saturating_add(2 * day_ns), ..next })),
        (FeeTooLow, raw(Transfer { max_fee: 1, ..next })),
        (FeeAbsurd, raw(Transfer { max_fee: FEE_ABSURD + 1, ..next })),
        (WrongChain, raw(Transfer { chain_id: ChainId(1), ..next })),
        (OverBalance, raw(Transfer { value: balance, ..next })),
        (Duplicate, first.raw.clone()),
        (Malformed, first.raw[..first.raw.len() / 2].to_vec()),
        (TooLarge, vec![0; 2_000]),
    ];
    let mut expected = BTreeMap::new();
    let mut codes = BTreeMap::new();
    for (reason, raw) in &cases {
        let error = send(&client, raw).await.expect_err(reason.label());
        let ClientError::Call(call) = error else { panic!("{}: {error}", reason.label()) };
        assert_eq!(call.code(), reason.code(), "{}: {}", reason.label(), call.message());
        assert_eq!(codes.insert(call.code(), *reason), None, "two reasons share a code");
        expected.insert(*reason, 1);
        assert_eq!(refusals(&client).await, expected, "after {}", reason.label());
    }
    // What was refused has left no trace: the same nonce is still free.
    let last = next.sign(&from);
    send(&client, &last.raw).await.expect("a good transfer is taken");
    until_final(&mut blocks, last.id).await;
    assert_eq!(refusals(&client).await, expected);
    assert_metrics(&devnet.metrics, &cases.map(|(reason, _)| reason));
    devnet.kill();
}

/// The page has the names of the specification for each of the four nodes, and the refusals of the first.
fn assert_metrics(address: &str, refused: &[RefusalReason]) {
    let mut stream = TcpStream::connect(address).expect("the metrics page listens");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("it answers");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    for name in [
        "roko_peer_count",
        "roko_messages_total",
        "roko_bytes_total",
        "roko_block_time_seconds",
        "roko_finality_time_seconds",
        "roko_validator_participation_ratio",
        "roko_forks_total",
        "roko_time_drift_seconds",
        "roko_sync_accuracy_seconds",
        "roko_attestations_total",
        "roko_final_height",
    ] {
        for node in 0..4 {
            let of_node =
                |line: &str| line.starts_with(name) && line.contains(&format!("node=\"validator-{node}\""));
            assert!(page.lines().any(of_node), "no {name} of validator {node} in:\n{page}");
        }
    }
    for reason in refused {
        let label = format!("=\"{}\"", reason.label());
        let counted = |line: &str| {
            line.starts_with("roko_transactions_refused_total{node=\"validator-0\"")
                && line.contains(&label)
                && line.ends_with(" 1")
        };
        assert!(page.lines().any(counted), "{} is not counted in:\n{page}", reason.label());
    }
}
