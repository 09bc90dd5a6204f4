//! The load client: signs transfers and sends them in sealed frames over a port of its own, at times fixed in advance.
//!
//! Open loop: what is due at a moment does not depend on how fast earlier transfers were taken, so waiting does not hide
//! latency. Each account stays with one validator, so that its nonces arrive there in order.

use crate::accounts::AccountKey;
use crate::chain::Chain;
use crate::handshake::KeyLog;
use crate::replay::keys::{self, SessionKeys};
use crossbeam::channel;
use roko_peers::Membership;
use roko_pipeline::client::{ClientError, ClientPort, ClientSessions};
use roko_pipeline::pcap::PcapWriter;
use roko_pipeline::peer::KeyName;
use roko_pipeline::port::Port;
use roko_pipeline::port::record::Recorded;
use roko_time::NodeClock;
use roko_wire::rules::TRANSFER_GAS;
use roko_wire::tx::{NativeTx, tx_id};
use roko_wire::{Address, ChainId, TxId};
use ruint::aliases::U256;
use std::collections::HashMap;
use std::fs::File;
use std::io::BufWriter;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a transfer may wait for its block.
const WINDOW_NS: u64 = 60_000_000_000;
/// How far before now a transfer's window begins, for clocks that are behind.
const WINDOW_BEFORE_NS: u64 = 10_000_000_000;
/// Longest pause between two rounds of sending.
const ROUND: Duration = Duration::from_millis(1);
/// Most transfers sent in one round: what a late wake-up catches up with at once.
const ROUND_MAX: u64 = 512;

/// An account that sends.
struct Sender {
    key: AccountKey,
    nonce: u64,
    validator: usize,
}

/// What a loader needs.
pub struct LoadPlan {
    chain_id: ChainId,
    senders: Vec<Sender>,
    recipients: Vec<Address>,
    max_fee: u128,
    clock: NodeClock,
}

impl LoadPlan {
    /// Transfers between the devnet's accounts, offered to the first `validators` validators; their nonces are set by
    /// [`Loader::set_nonces`].
    #[must_use]
    pub fn new(chain: &Chain, accounts: Vec<AccountKey>, validators: usize, clock: NodeClock) -> LoadPlan {
        let recipients = accounts.iter().map(AccountKey::address).collect();
        let sender = |(place, key)| Sender { key, nonce: 0, validator: place % validators };
        LoadPlan {
            chain_id: chain.domain.chain_id,
            senders: accounts.into_iter().enumerate().map(sender).collect(),
            recipients,
            // A hundred times the first base fee: a devnet under load does not price its own client out.
            max_fee: u128::from(chain.genesis.limits.base_fee_initial) * 100,
            clock,
        }
    }
}

/// What a loader has done so far; read by any thread.
#[derive(Debug, Default)]
pub struct LoadCounts {
    /// Transfers sent.
    pub submitted: AtomicU64,
    /// Times at which the port took no more and the transfers due waited for the next round.
    pub held_back: AtomicU64,
}

trait Submit: Send {
    fn submit(&mut self, to: usize, txs: &[&[u8]]) -> Result<(), ClientError>;
    fn flush(&mut self) -> bool;
}

impl<P: Port> Submit for ClientPort<P> {
    fn submit(&mut self, to: usize, txs: &[&[u8]]) -> Result<(), ClientError> {
        ClientPort::submit(self, to, txs)
    }
    fn flush(&mut self) -> bool {
        ClientPort::flush(self)
    }
}

/// Where what a load client sends is recorded: a capture, and beside it the keys that open its frames.
pub struct Capture {
    file: PcapWriter<BufWriter<File>>,
    path: PathBuf,
    receivers: Vec<IpAddr>,
}

impl Capture {
    /// Makes the capture `path`.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path, members: &Membership) -> std::io::Result<Capture> {
        keys::write(path, &[])?;
        let file = PcapWriter::new(BufWriter::new(File::create(path)?))?;
        let receivers = members.peers().iter().map(|peer| peer.endpoint.ip).collect();
        Ok(Capture { file, path: path.to_owned(), receivers })
    }

    /// Writes each key that the client seals with to the file beside the capture, before a frame is sealed with it.
    #[must_use]
    pub fn key_log(&self) -> KeyLog {
        let (path, receivers) = (self.path.clone(), self.receivers.clone());
        let known: Mutex<Vec<SessionKeys>> = Mutex::default();
        KeyLog(Arc::new(move |slot, name, sealing| {
            let Some(receiver) = receivers.get(slot) else { return };
            let name = KeyName { session: name.session.0, core: name.core, phase: name.phase };
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.push(SessionKeys::of_client(*receiver, name, sealing));
            if let Err(error) = keys::write(&path, &known) {
                eprintln!("the capture's keys cannot be written, so that it cannot be replayed: {error}");
            }
        }))
    }
}

/// Nonces that accounts go on from: what was sent to a validator that was away is lost, and they send it again.
#[derive(Clone, Debug, Default)]
pub struct Resync {
    nonces: Arc<Mutex<Vec<HashMap<Address, u64>>>>,
    /// Somebody sees to it: what finds no session is lost, and the transfers for other validators do not wait for it.
    seen_to: Arc<AtomicBool>,
}

impl Resync {
    /// Has these accounts go on from these nonces.
    pub fn go_on_from(&self, nonces: HashMap<Address, u64>) {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner).push(nonces);
    }

    fn take(&self) -> Vec<HashMap<Address, u64>> {
        std::mem::take(&mut *self.nonces.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A transfer, for who measures how long it takes.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// Its id.
    pub id: TxId,
    /// When the rate says that it is to be sent.
    pub due: Instant,
    /// When it had been handed to the port.
    pub sent: Instant,
}

/// Sends a plan's transfers.
pub struct Loader {
    port: Box<dyn Submit>,
    plan: LoadPlan,
    next: usize,
    counts: Arc<LoadCounts>,
    resync: Resync,
    /// Who measures each transfer, and the ids of a round.
    told: Option<channel::Sender<Due>>,
    ids: Vec<TxId>,
}

impl Loader {
    fn new<P: Port + 'static>(port: ClientPort<P>, plan: LoadPlan) -> Loader {
        let (counts, resync) = (Arc::default(), Resync::default());
        Loader { port: Box::new(port), plan, next: 0, counts, resync, told: None, ids: Vec::new() }
    }

    /// A loader over `port` that sends to `validators` validators, once the rings returned with it give it sessions.
    pub fn over<P: Port + 'static>(
        port: P,
        validators: usize,
        plan: LoadPlan,
        record: Option<Capture>,
    ) -> (Loader, ClientSessions) {
        match record {
            None => {
                let (port, ends) = ClientPort::with_sessions(port, validators);
                (Loader::new(port, plan), ends)
            }
            Some(capture) => {
                let port = Recorded::new(port, capture.file, roko_os::clock::realtime_ns);
                let (port, ends) = ClientPort::with_sessions(port, validators);
                (Loader::new(port, plan), ends)
            }
        }
    }

    /// Where its counts are.
    #[must_use]
    pub fn counts(&self) -> Arc<LoadCounts> {
        Arc::clone(&self.counts)
    }

    /// Tells `told` of each transfer that is sent.
    pub fn tell_due(&mut self, told: channel::Sender<Due>) {
        self.told = Some(told);
    }

    /// The accounts that send.
    #[must_use]
    pub fn accounts(&self) -> Vec<Address> {
        self.plan.senders.iter().map(|sender| sender.key.address()).collect()
    }

    /// The accounts that send to a validator.
    #[must_use]
    pub fn accounts_of(&self, validator: usize) -> Vec<Address> {
        let senders = self.plan.senders.iter().filter(|sender| sender.validator == validator);
        senders.map(|sender| sender.key.address()).collect()
    }

    /// Changes nonces while it sends; from now on what finds no session with its validator is lost.
    #[must_use]
    pub fn resync(&self) -> Resync {
        self.resync.seen_to.store(true, Ordering::Relaxed);
        self.resync.clone()
    }

    /// Takes up the accounts' nonces from the state, for a devnet that goes on.
    pub fn set_nonces(&mut self, nonce_of: impl Fn(&Address) -> u64) {
        for sender in &mut self.plan.senders {
            sender.nonce = nonce_of(&sender.key.address());
        }
    }

    /// Sends `rate` transfers a second until `stop` is set or `length` is over.
    pub fn run(mut self, rate: u64, length: Option<Duration>, stop: &AtomicBool) {
        let start = Instant::now();
        let mut sent = 0u64;
        while rate > 0 && !stop.load(Ordering::Relaxed) {
            let elapsed = start.elapsed();
            let over = length.is_some_and(|length| elapsed >= length);
            let until = length.filter(|_| over).unwrap_or(elapsed);
            let due = (until.as_nanos() * u128::from(rate) / 1_000_000_000) as u64;
            if over && sent >= due {
                break;
            }
            for nonces in self.resync.take() {
                for sender in &mut self.plan.senders {
                    sender.nonce = nonces.get(&sender.key.address()).copied().unwrap_or(sender.nonce);
                }
            }
            let number = self.next as u64;
            sent += self.round((due - sent).min(ROUND_MAX), stop);
            self.tell(start, rate, number);
            std::thread::sleep(ROUND);
        }
        // What the port has not taken yet is offered for a little longer.
        for _ in 0..1_000 {
            if self.port.flush() {
                break;
            }
            std::thread::sleep(ROUND);
        }
    }

    /// Signs and sends `count` transfers, those for one validator together. Returns how many were sent.
    fn round(&mut self, count: u64, stop: &AtomicBool) -> u64 {
        let validators = self.plan.senders.iter().map(|sender| sender.validator).max().unwrap_or(0) + 1;
        let mut due: Vec<Vec<Vec<u8>>> = vec![Vec::new(); validators];
        for _ in 0..count {
            let place = self.next % self.plan.senders.len();
            self.next += 1;
            let wire = self.transfer(place);
            if self.told.is_some() {
                self.ids.push(tx_id(&wire));
            }
            due[self.plan.senders[place].validator].push(wire);
        }
        let mut sent = 0;
        for (to, wires) in due.iter().enumerate() {
            let mut left: Vec<&[u8]> = wires.iter().map(Vec::as_slice).collect();
            while !left.is_empty() {
                let taken = match self.port.submit(to, &left) {
                    Ok(()) => left.len(),
                    Err(ClientError::NoSession { .. }) if self.resync.seen_to.load(Ordering::Relaxed) => {
                        self.counts.held_back.fetch_add(1, Ordering::Relaxed);
                        left.len()
                    }
                    Err(ClientError::NoSession { .. }) if !stop.load(Ordering::Relaxed) => {
                        self.counts.held_back.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(ROUND);
                        0
                    }
                    Err(ClientError::Busy { sent }) => {
                        self.counts.held_back.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(ROUND);
                        sent
                    }
                    // Keys are renewed long before they are used up and our own transfers are short: neither happens.
                    Err(
                        ClientError::KeyUsedUp
                        | ClientError::NoSession { .. }
                        | ClientError::UnknownTarget { .. }
                        | ClientError::TooLarge { .. },
                    ) => {
                        return sent;
                    }
                };
                left.drain(..taken);
                sent += taken as u64;
                self.counts.submitted.fetch_add(taken as u64, Ordering::Relaxed);
            }
        }
        sent
    }

    /// Tells of a round whose first transfer is the `number`th since `start`.
    fn tell(&mut self, start: Instant, rate: u64, number: u64) {
        let (Some(told), sent) = (&self.told, Instant::now()) else { return };
        for (number, id) in (number..).zip(self.ids.drain(..)) {
            let after = u128::from(number) * 1_000_000_000 / u128::from(rate);
            let due = start + Duration::from_nanos(u64::try_from(after).unwrap_or(u64::MAX));
            // Who does not listen any more has measured enough.
            let _ = told.send(Due { id, due, sent });
        }
    }

    fn transfer(&mut self, place: usize) -> Vec<u8> {
        let now = self.plan.clock.now().now;
        let to = self.plan.recipients[(place + 1) % self.plan.recipients.len()];
        let sender = &mut self.plan.senders[place];
        let tx = NativeTx {
            chain_id: self.plan.chain_id,
            nonce: sender.nonce,
            gas_limit: TRANSFER_GAS,
            max_fee: self.plan.max_fee,
            max_priority_fee: 1,
            valid_from: now.saturating_sub(WINDOW_BEFORE_NS),
            valid_until: now.saturating_add(WINDOW_NS),
            value: U256::from(1),
            to: Some(to),
            input: &[],
            access_list: &[],
            access_items: 0,
            access_keys: 0,
        };
        sender.nonce += 1;
        sender.key.sign(&tx)
    }
}
