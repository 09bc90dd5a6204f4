//! `roko send`: one transfer, from the key file to the final block.

use super::{CliError, CliResult};
use crate::accounts::{DEVNET_CHAIN_ID, SignedTransfer, Transfer, format_roko, load_account, parse_roko};
use clap::Args;
use jsonrpsee::core::ClientError;
use jsonrpsee::ws_client::{WsClient, WsClientBuilder};
use roko_services::SubmitError;
use roko_services::api::{BlockSelector, Status, TransactionInfo};
use roko_services::rpc::{FinalBlockNotice, TemporalRpcClient};
use roko_wire::{Address, ChainId, TxId};
use ruint::aliases::U256;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where a node listens when nothing else is said.
pub(super) const RPC_DEFAULT: &str = "ws://127.0.0.1:9944";
/// How far before now a window begins: the stamping node's clock may lag behind the asked one's.
pub(super) const WINDOW_BEFORE_NS: u64 = 10_000_000_000;
/// Base fee of a chain that has no block yet, in the smallest unit per gas: genesis' default.
const BASE_FEE_DEFAULT: u128 = 1_000_000_000;
/// How often a transaction is asked for while no block says that it is final.
const POLL: Duration = Duration::from_millis(500);

/// Arguments of `roko send`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roko send --key alice.key --to 0x9b1f…(40 digits) --value 1.5
  roko send --rpc ws://10.0.0.5:9944 --key alice.key --to 0x… --value 0.000001 --no-wait
It prints the transaction's id, its block's height, its own moment (NanoMoment) and how long it took to be final.
With --nonce several can be sent without waiting: the next nonce is one higher each time.")]
pub struct SendArgs {
    /// A node's JSON-RPC address.
    #[arg(long, default_value = RPC_DEFAULT, value_name = "URL")]
    rpc: String,
    /// The paying account's key file (`roko keys new --kind account`).
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The recipient.
    #[arg(long, value_name = "ADDRESS")]
    to: Address,
    /// How much, in ROKO, with up to 18 decimal places.
    #[arg(long, value_name = "ROKO", value_parser = parse_roko)]
    value: U256,
    /// The chain's number (`roko genesis inspect`): part of what is signed.
    #[arg(long, default_value_t = DEVNET_CHAIN_ID.0)]
    chain_id: u64,
    /// Most paid per gas, in the smallest unit (10^-18 ROKO); a transfer takes 21,000 gas [default: twice the base fee]
    #[arg(long, value_name = "UNITS")]
    max_fee: Option<u128>,
    /// The transaction's nonce [default: the account's next one]
    #[arg(long)]
    nonce: Option<u64>,
    /// How long it may wait for a block; after that it can never be executed.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    valid_for_s: u32,
    /// Return as soon as the node has taken it.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait until it is final.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    timeout_s: u32,
}

/// Carries the command out.
pub fn run(args: &SendArgs) -> CliResult {
    runtime()?.block_on(send(args))
}

/// The runtime of a command that talks to nodes.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Runtime::new().map_err(|error| CliError::with("the async runtime does not start", error))
}

/// Connects to a node. HTTP addresses are taken too: the port is the same.
pub(super) async fn connect(url: &str) -> Result<WsClient, CliError> {
    let url = match url.split_once("://") {
        Some(("http", rest)) => format!("ws://{rest}"),
        Some(("https", rest)) => format!("wss://{rest}"),
        Some(_) => url.to_owned(),
        None => format!("ws://{url}"),
    };
    let builder = WsClientBuilder::default().max_concurrent_requests(65_536);
    builder.build(&url).await.map_err(|error| {
        CliError(format!(
            "{url} does not answer ({error}): is the node running, and is its rpc.listen that address?"
        ))
    })
}

/// What a node answered instead of a result, in words.
pub(super) fn words(error: &ClientError) -> CliError {
    match error {
        ClientError::Call(call) => match submit_error(error) {
            Some(SubmitError::WrongChain { want, .. }) => {
                CliError(format!("refused: this node is of chain {want}: add --chain-id {want}"))
            }
            Some(refusal) => CliError(format!("refused: {refusal}")),
            None => CliError(format!("the node refused: {}", call.message())),
        },
        ClientError::RequestTimeout => CliError("the node did not answer in time: try again".to_owned()),
        error => CliError::with("the connection to the node failed", error),
    }
}

/// The refusal in an answer, with its figures.
pub(super) fn submit_error(error: &ClientError) -> Option<SubmitError> {
    let ClientError::Call(call) = error else { return None };
    serde_json::from_str(call.data()?.get()).ok()
}

/// What the last block asks for a unit of gas.
pub(super) async fn base_fee(client: &WsClient) -> Result<u128, CliError> {
    let block = client.get_block(BlockSelector::Latest).await.map_err(|error| words(&error))?;
    Ok(block.map_or(BASE_FEE_DEFAULT, |block| block.base_fee))
}

async fn send(args: &SendArgs) -> CliResult {
    let key = load_account(&args.key).map_err(|error| CliError(error.to_string()))?;
    let client = connect(&args.rpc).await?;
    let account = client.get_balance(key.address()).await.map_err(|error| words(&error))?;
    let time = client.get_consensus_time().await.map_err(|error| words(&error))?;
    let max_fee = match args.max_fee {
        Some(fee) => fee,
        None => base_fee(&client).await?.saturating_mul(2),
    };
    let transfer = Transfer {
        chain_id: ChainId(args.chain_id),
        nonce: args.nonce.unwrap_or(account.nonce),
        to: args.to,
        value: args.value,
        max_fee,
        max_priority_fee: 0,
        valid_from: time.earliest.saturating_sub(WINDOW_BEFORE_NS),
        valid_until: time.latest.saturating_add(u64::from(args.valid_for_s) * 1_000_000_000),
    };
    let signed = transfer.sign(&key);
    // The subscription comes first: a block that becomes final right after sending is not missed.
    let mut blocks = match args.no_wait {
        true => None,
        false => Some(client.subscribe_final_blocks().await.map_err(|error| words(&error))?),
    };
    let start = Instant::now();
    submit(&client, &signed).await?;
    println!("sent     {}", signed.id);
    println!("         {} ROKO from {} to {}", format_roko(args.value), key.address(), args.to);
    let Some(blocks) = &mut blocks else { return Ok(()) };
    let limit = Duration::from_secs(args.timeout_s.into());
    let waited = tokio::time::timeout(limit, wait_final(&client, signed.id, blocks)).await;
    let info = waited.map_err(|_| {
        CliError(format!(
            "it is not final after {} s: it still may be until its window ends; ask temporal_getTransaction for {}",
            args.timeout_s, signed.id
        ))
    })??;
    print_final(&info, start.elapsed())
}

async fn submit(client: &WsClient, signed: &SignedTransfer) -> CliResult {
    let id = client.send_transaction(format!("0x{}", hex::encode(&signed.raw))).await;
    let id = id.map_err(|error| words(&error))?;
    if id == signed.id {
        return Ok(());
    }
    Err(CliError(format!(
        "the node calls it {id}, this program {}: their versions do not fit together",
        signed.id
    )))
}

/// Waits for the block; asks from time to time too, as a slow subscriber misses blocks.
async fn wait_final(
    client: &WsClient,
    id: TxId,
    blocks: &mut jsonrpsee::core::client::Subscription<FinalBlockNotice>,
) -> Result<TransactionInfo, CliError> {
    loop {
        let noticed = tokio::time::timeout(POLL, blocks.next()).await;
        if let Ok(None) = noticed {
            return Err(CliError(
                "the node closed the connection: ask another node what became of it".to_owned(),
            ));
        }
        if let Ok(Some(Ok(FinalBlockNotice::Block { block }))) = &noticed
            && !block.transactions.contains(&id)
        {
            continue;
        }
        let info = client.get_transaction(id).await.map_err(|error| words(&error))?;
        if let Some(info) = info.filter(|info| info.status == Status::Final) {
            return Ok(info);
        }
    }
}

fn print_final(info: &TransactionInfo, latency: Duration) -> CliResult {
    if let Some(placement) = &info.placement {
        println!("final    height {}, index {}", placement.height, placement.index);
        println!("moment   {} ns since 1970", placement.time);
    }
    println!("latency  {:.1} ms from sending to final", latency.as_secs_f64() * 1e3);
    match &info.outcome {
        Some(outcome) if !outcome.success => {
            Err(CliError("it is final and failed: the fee is paid, the value was not moved".to_owned()))
        }
        Some(outcome) => {
            println!("fee      {} ROKO", format_roko(outcome.fee_paid));
            Ok(())
        }
        None => Ok(()),
    }
}
