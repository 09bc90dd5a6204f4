//! The books of a load run: which account may send, what is on its way, what became of it. Time is an argument.
//!
//! ```text
//!             take               accepted             final
//!   ready ───────────► awaiting ──────────► in flight ───────► counted
//!     ▲                    │ refused             │
//!     └────────────────────┴─────────────────────┘  its account may send again
//! ```
//! An account has one transfer awaiting its reply, so that its nonces reach the node in order; a refused transfer's
//! nonce is used again.

use super::report::{LatencyMs, LoadReport, Progress};
use hdrhistogram::Histogram;
use roko_services::SubmitError;
use roko_wire::TxId;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Most transfers of one account that are sent and not final: far below the 64 that a node holds of a sender.
const ACCOUNT_IN_FLIGHT_MAX: u32 = 32;
/// Longest latency that is told apart, microseconds: ten minutes.
const LATENCY_US_MAX: u64 = 600_000_000;

#[derive(Debug, Default)]
struct Account {
    nonce: u64,
    in_flight: u32,
    awaiting: bool,
    queued: bool,
}

/// What is known of a transfer that is not final.
struct Pending {
    due: Instant,
    account: usize,
}

/// Why a transfer did not go through.
pub(super) enum Failure {
    /// The node refused it.
    Refused(Box<SubmitError>),
    /// No answer, or none that says why.
    NoAnswer,
}

pub(super) struct Board {
    accounts: Vec<Account>,
    ready: VecDeque<usize>,
    pending: HashMap<TxId, Pending>,
    in_flight_max: usize,
    latency_us: Histogram<u64>,
    last_final: Option<Instant>,
    delay_max: Duration,
    sent: u64,
    accepted: u64,
    held_back: u64,
    finalized: u64,
    failed: BTreeMap<String, u64>,
    blocks: u64,
}

impl Board {
    /// `nonces` are the accounts' next ones.
    pub(super) fn new(nonces: &[u64], in_flight_max: usize) -> Board {
        let accounts: Vec<Account> = nonces
            .iter()
            .map(|nonce| Account { nonce: *nonce, queued: true, ..Account::default() })
            .collect();
        Board {
            ready: (0..accounts.len()).collect(),
            accounts,
            pending: HashMap::new(),
            in_flight_max,
            latency_us: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
                .expect("bounds and digits are valid"),
            last_final: None,
            delay_max: Duration::ZERO,
            sent: 0,
            accepted: 0,
            held_back: 0,
            finalized: 0,
            failed: BTreeMap::new(),
            blocks: 0,
        }
    }

    /// An account that may send, and its nonce. It has to be followed by [`Board::send`].
    pub(super) fn take(&mut self) -> Option<(usize, u64)> {
        if self.pending.len() >= self.in_flight_max {
            return None;
        }
        let index = self.ready.pop_front()?;
        let account = &mut self.accounts[index];
        account.queued = false;
        account.awaiting = true;
        Some((index, account.nonce))
    }

    /// A transfer leaves that was due at `due`.
    pub(super) fn send(&mut self, id: TxId, account: usize, due: Instant, now: Instant, held: bool) {
        self.sent += 1;
        self.held_back += u64::from(held);
        self.delay_max = self.delay_max.max(now.saturating_duration_since(due));
        self.accounts[account].nonce += 1;
        self.accounts[account].in_flight += 1;
        self.pending.insert(id, Pending { due, account });
    }

    /// The node has taken it.
    pub(super) fn accepted(&mut self, account: usize) {
        self.accepted += 1;
        self.accounts[account].awaiting = false;
        self.make_ready(account);
    }

    /// The node has not taken it.
    pub(super) fn failed(&mut self, id: TxId, account: usize, failure: &Failure) {
        let label = match failure {
            Failure::Refused(refusal) => refusal.reason().label(),
            Failure::NoAnswer => "no_answer",
        };
        *self.failed.entry(label.to_owned()).or_default() += 1;
        let state = &mut self.accounts[account];
        state.awaiting = false;
        // The node has it already, from an attempt whose answer was lost: it is on its way.
        let known = matches!(failure, Failure::Refused(refusal) if matches!(**refusal, SubmitError::Duplicate { .. }));
        // A block may have been faster than a lost answer: then it was counted there, and its nonce is used.
        if !known && self.pending.remove(&id).is_some() {
            state.in_flight -= 1;
            state.nonce = match failure {
                Failure::Refused(refusal) => match **refusal {
                    SubmitError::StaleNonce { need, .. } | SubmitError::NonceGap { need, .. } => need,
                    _ => state.nonce - 1,
                },
                Failure::NoAnswer => state.nonce - 1,
            };
        }
        self.make_ready(account);
    }

    /// A block is final: transfers of others are in it too.
    pub(super) fn block(&mut self, transactions: &[TxId], now: Instant) {
        self.blocks += 1;
        for id in transactions {
            let Some(pending) = self.pending.remove(id) else { continue };
            self.finalized += 1;
            self.last_final = Some(now);
            let latency = now.saturating_duration_since(pending.due).as_micros();
            self.latency_us.saturating_record(u64::try_from(latency).unwrap_or(LATENCY_US_MAX).max(1));
            self.accounts[pending.account].in_flight -= 1;
            self.make_ready(pending.account);
        }
    }

    fn make_ready(&mut self, index: usize) {
        let account = &mut self.accounts[index];
        if !account.awaiting && !account.queued && account.in_flight < ACCOUNT_IN_FLIGHT_MAX {
            account.queued = true;
            self.ready.push_back(index);
        }
    }

    /// Whether nothing is on its way.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.accounts.iter().all(|account| !account.awaiting)
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            sent: self.sent,
            finalized: self.finalized,
            in_flight: self.pending.len() as u64,
            refused: self.failed.values().sum(),
        }
    }

    /// The report at the end, when what is still on its way is lost.
    pub(super) fn report(&self, rate_per_second: u32, due: u64, start: Instant) -> LoadReport {
        let ms = |us: u64| us as f64 / 1e3;
        let at = |quantile: f64| ms(self.latency_us.value_at_quantile(quantile));
        let took = self.last_final.map_or(Duration::ZERO, |last| last.saturating_duration_since(start));
        let final_per_second = if took.is_zero() { 0.0 } else { self.finalized as f64 / took.as_secs_f64() };
        LoadReport {
            rate_per_second,
            due,
            sent: self.sent,
            not_sent: due - self.sent,
            accepted: self.accepted,
            refused: self.failed.clone(),
            held_back: self.held_back,
            held_back_ms_max: self.delay_max.as_secs_f64() * 1e3,
            finalized: self.finalized,
            lost: self.pending.len() as u64,
            blocks: self.blocks,
            final_per_second,
            latency_ms: (self.finalized > 0).then(|| LatencyMs {
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p999: at(0.999),
                max: ms(self.latency_us.max()),
                mean: self.latency_us.mean() / 1e3,
            }),
        }
    }
}
