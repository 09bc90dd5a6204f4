//! Offers the load: connections, the schedule, and the watch over final blocks.

use super::super::CliError;
use super::super::send::{WINDOW_BEFORE_NS, base_fee, connect, submit_error, words};
use super::board::{Board, Failure};
use super::report::{LoadReport, Progress};
use crate::accounts::{AccountKey, Transfer};
use jsonrpsee::core::client::Subscription;
use jsonrpsee::ws_client::WsClient;
use roko_services::api::BlockSelector;
use roko_services::rpc::{FinalBlockNotice, TemporalRpcClient};
use roko_wire::{Address, ChainId, Height, NanoMoment};
use ruint::aliases::U256;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::{sleep, sleep_until, timeout_at};

/// How often progress is shown.
const PROGRESS: Duration = Duration::from_millis(200);
/// Margin of the validity window past the run's end, nanoseconds.
const WINDOW_AFTER_NS: u64 = 60_000_000_000;

/// A load to offer.
pub struct LoadPlan {
    /// Nodes' JSON-RPC addresses; final blocks are learnt from the first.
    pub rpc: Vec<String>,
    /// The paying accounts, each of which pays the next.
    pub accounts: Vec<AccountKey>,
    /// Transfers a second.
    pub rate_per_second: u32,
    /// How long to send.
    pub duration: Duration,
    /// How long to wait afterwards.
    pub drain: Duration,
    /// Most transfers that are sent and not final.
    pub in_flight_max: usize,
    /// What each moves, smallest unit.
    pub value: U256,
    /// Most paid per gas; `None` takes ten times the base fee.
    pub max_fee: Option<u128>,
    /// The chain.
    pub chain_id: ChainId,
}

impl LoadPlan {
    /// How many transfers the rate and the duration make.
    #[must_use]
    pub fn transfers(&self) -> u64 {
        let nanos = self.duration.as_nanos() * u128::from(self.rate_per_second);
        u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX)
    }
}

/// The books and who waits for an account to be free.
#[derive(Clone)]
struct Shared {
    board: Arc<Mutex<Board>>,
    freed: Arc<Notify>,
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Offers a load and waits for what becomes of it; `progress` is called from time to time.
pub async fn offer(plan: LoadPlan, progress: impl Fn(&Progress)) -> Result<LoadReport, CliError> {
    let mut clients = Vec::new();
    for url in &plan.rpc {
        clients.push(Arc::new(connect(url).await?));
    }
    let first = clients.first().ok_or_else(|| CliError("--rpc names no node".to_owned()))?.clone();
    let nonces = nonces(&first, &plan.accounts).await?;
    let time = first.get_consensus_time().await.map_err(|error| words(&error))?;
    let max_fee = match plan.max_fee {
        Some(fee) => fee,
        None => base_fee(&first).await?.saturating_mul(10),
    };
    let blocks = first.subscribe_final_blocks().await.map_err(|error| words(&error))?;
    let board = Arc::new(Mutex::new(Board::new(&nonces, plan.in_flight_max)));
    let shared = Shared { board, freed: Arc::new(Notify::new()) };
    let watch = tokio::spawn(watch(first, blocks, time.height, shared.clone()));
    let after_ns = u64::try_from((plan.duration + plan.drain).as_nanos()).unwrap_or(u64::MAX);
    let sender = Sender {
        window: (
            time.earliest.saturating_sub(WINDOW_BEFORE_NS),
            time.latest.saturating_add(after_ns.saturating_add(WINDOW_AFTER_NS)),
        ),
        addresses: plan.accounts.iter().map(AccountKey::address).collect(),
        max_fee,
        clients,
        plan,
        shared: shared.clone(),
    };
    let start = Instant::now();
    let ran = sender.run(start);
    let shown = async {
        loop {
            sleep(PROGRESS).await;
            progress(&shared.board().progress());
        }
    };
    let ended = tokio::select! {
        () = ran => Ok(()),
        () = shown => Ok(()),
        problem = watch => Err(problem.unwrap_or_else(|error| CliError::with("the watch over blocks ended", error))),
    };
    ended?;
    Ok(shared.board().report(sender.plan.rate_per_second, sender.plan.transfers(), start))
}

async fn nonces(client: &WsClient, accounts: &[AccountKey]) -> Result<Vec<u64>, CliError> {
    let mut nonces = Vec::new();
    for key in accounts {
        let account = client.get_balance(key.address()).await.map_err(|error| words(&error))?;
        if account.balance.is_zero() {
            let address = key.address();
            return Err(CliError(format!(
                "account {address} has no ROKO here: is this the right chain, and the right key or seed?"
            )));
        }
        nonces.push(account.nonce);
    }
    match nonces.is_empty() {
        true => Err(CliError("there is no account to pay from: give --key or --devnet-seed".to_owned())),
        false => Ok(nonces),
    }
}

/// Sends by the schedule.
struct Sender {
    plan: LoadPlan,
    clients: Vec<Arc<WsClient>>,
    addresses: Vec<Address>,
    max_fee: u128,
    window: (NanoMoment, NanoMoment),
    shared: Shared,
}

impl Sender {
    async fn run(&self, start: Instant) {
        let end = start + self.plan.duration;
        for number in 0..self.plan.transfers() {
            let since = u128::from(number) * 1_000_000_000 / u128::from(self.plan.rate_per_second);
            let due = start + Duration::from_nanos(u64::try_from(since).unwrap_or(u64::MAX));
            // A due time that is past costs no timer: a late sender catches up in one go.
            if due > Instant::now() {
                sleep_until(due.into()).await;
            }
            let Some((account, nonce, held)) = self.account(end).await else { break };
            self.send(account, nonce, due, held);
        }
        let end = Instant::now() + self.plan.drain;
        while !self.shared.board().is_settled() && Instant::now() < end {
            // The wait is bounded, so that the books are looked at when nothing becomes free any more.
            let freed = self.shared.freed.notified();
            let _ = timeout_at(end.min(Instant::now() + PROGRESS).into(), freed).await;
        }
    }

    /// The next account that may send, its nonce, and whether it had to be waited for; `None` when the time is over.
    async fn account(&self, end: Instant) -> Option<(usize, u64, bool)> {
        let mut held = false;
        loop {
            // Only this task waits, and a notice that nobody waits for is kept: none is missed between the two lines.
            if let Some((account, nonce)) = self.shared.board().take() {
                return Some((account, nonce, held));
            }
            held = true;
            timeout_at(end.into(), self.shared.freed.notified()).await.ok()?;
        }
    }

    fn send(&self, account: usize, nonce: u64, due: Instant, held: bool) {
        let transfer = Transfer {
            chain_id: self.plan.chain_id,
            nonce,
            to: self.addresses[(account + 1) % self.addresses.len()],
            value: self.plan.value,
            max_fee: self.max_fee,
            max_priority_fee: 0,
            valid_from: self.window.0,
            valid_until: self.window.1,
        };
        let signed = transfer.sign(&self.plan.accounts[account]);
        let (id, shared) = (signed.id, self.shared.clone());
        // It is in the books before it is sent: its block may be faster than its answer.
        shared.board().send(id, account, due, Instant::now(), held);
        // An account stays with one node, whose pool knows its nonces first.
        let client = self.clients[account % self.clients.len()].clone();
        tokio::spawn(async move {
            let answer = client.send_transaction(format!("0x{}", hex::encode(&signed.raw))).await;
            match answer {
                Ok(_) => shared.board().accepted(account),
                Err(error) => {
                    let refusal = submit_error(&error).map(Box::new);
                    let failure = refusal.map_or(Failure::NoAnswer, Failure::Refused);
                    shared.board().failed(id, account, &failure);
                }
            }
            shared.freed.notify_one();
        });
    }
}

/// Tells the books of every final block after `height`; returns what ended it.
async fn watch(
    client: Arc<WsClient>,
    mut blocks: Subscription<FinalBlockNotice>,
    mut height: Height,
    shared: Shared,
) -> CliError {
    loop {
        match blocks.next().await {
            Some(Ok(FinalBlockNotice::Block { block })) => {
                // Blocks that a slow subscription skipped are fetched.
                while height.next() < block.height {
                    match client.get_block(BlockSelector::Height(height.next())).await {
                        Ok(Some(missed)) => shared.board().block(&missed.transactions, Instant::now()),
                        Ok(None) => {}
                        Err(error) => return words(&error),
                    }
                    height = height.next();
                }
                if block.height > height {
                    height = block.height;
                    shared.board().block(&block.transactions, Instant::now());
                }
                shared.freed.notify_one();
            }
            // The next block's height says which were missed.
            Some(Ok(FinalBlockNotice::Lagged { .. })) => {}
            Some(Err(error)) => return CliError::with("a block from the node cannot be read", error),
            None => return CliError("the node closed the connection during the load".to_owned()),
        }
    }
}
