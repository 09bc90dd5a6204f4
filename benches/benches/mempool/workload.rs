//! The transactions that every pool is offered.

use roko_benches::fixtures::{HOUR_NS, Noise, START};
use roko_wire::{Address, NanoMoment, TxId};

/// Transactions of a block.
pub(crate) const BLOCK_TXS: usize = 1_000;
/// Transactions of one sender.
const SENDER_TXS: u64 = 16;
/// How much later than its predecessor a transaction is stamped, and by how much their arrivals are out of order: a
/// million a second, from validators some tens of microseconds apart.
const STEP_NS: u64 = 1_000;
const JITTER_NS: u64 = 50_000;

/// One transaction on its way in.
pub(crate) struct Offer {
    pub(crate) id: TxId,
    pub(crate) sender: Address,
    pub(crate) nonce: u64,
    pub(crate) time: NanoMoment,
    pub(crate) tie_break: u64,
    pub(crate) fee: u128,
    pub(crate) valid_until: NanoMoment,
    pub(crate) bytes: Box<[u8]>,
}

/// Rounds of the same transactions under new ids and later times.
pub(crate) struct Workload {
    unique: Vec<Offer>,
    /// The order of arrival, by index; a duplicate is an index named twice.
    arrivals: Vec<usize>,
    round: u64,
    span_ns: u64,
    /// How far a sender's nonces move on each round.
    nonce_step: u64,
}

impl Workload {
    /// Rounds that fill a pool of `txs`, and an eighth more.
    pub(crate) fn new(txs: usize) -> Workload {
        let mut noise = Noise(3);
        let over = txs / 8;
        let senders: Vec<Address> = (0..txs as u64 / SENDER_TXS).map(|_| Address(noise.bytes())).collect();
        let mut unique: Vec<Offer> = (0..txs)
            .map(|index| {
                let sender = index % senders.len();
                let nonce = (index / senders.len()) as u64;
                offer(&mut noise, senders[sender], nonce, index as u64)
            })
            .collect();
        // Those beyond the room come from senders of their own, so that a refusal leaves no gap in a chain.
        unique.extend((txs..txs + over).map(|index| {
            let sender = Address(noise.bytes());
            offer(&mut noise, sender, 0, index as u64)
        }));
        let mut arrivals = Vec::new();
        for index in 0..unique.len() {
            arrivals.push(index);
            if index % 16 == 15 && index < txs {
                arrivals.push(noise.below(index as u64) as usize);
            }
        }
        let span_ns = unique.len() as u64 * STEP_NS + JITTER_NS;
        Workload { unique, arrivals, round: 0, span_ns, nonce_step: 0 }
    }

    /// Rounds of `txs`, each offered while the one before is pooled.
    pub(crate) fn standing_of(txs: usize) -> Workload {
        let mut work = Workload::new(txs);
        work.unique.truncate(txs);
        work.arrivals.retain(|index| *index < txs);
        work.nonce_step = SENDER_TXS;
        work
    }

    /// How many transactions of the round before stand in the pool.
    pub(crate) fn standing(&self) -> usize {
        if self.round > 1 { self.unique.len() } else { 0 }
    }

    /// Moves every transaction on in time, under another id.
    pub(crate) fn next_round(&mut self) {
        self.round += 1;
        for offer in &mut self.unique {
            offer.id.0[..8].copy_from_slice(&self.round.to_le_bytes());
            offer.nonce += self.nonce_step;
            offer.time = offer.time.saturating_add(self.span_ns);
            offer.valid_until = offer.valid_until.saturating_add(self.span_ns);
        }
    }

    pub(crate) fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.arrivals.iter().map(|index| &self.unique[*index])
    }

    /// A name for a block of this round.
    pub(crate) const fn tag(&self, block: u64) -> u64 {
        self.round << 16 | block
    }

    /// Before every time of this round.
    pub(crate) fn from(&self) -> NanoMoment {
        START.saturating_add(self.round * self.span_ns)
    }

    /// Before every time of the round before.
    pub(crate) fn before(&self) -> NanoMoment {
        START.saturating_add(self.round.saturating_sub(1) * self.span_ns)
    }

    /// After every time of this round.
    pub(crate) fn until(&self) -> NanoMoment {
        self.from().saturating_add(self.span_ns)
    }

    /// The owner's clock in this round.
    pub(crate) fn now(&self) -> NanoMoment {
        self.from().saturating_add(self.span_ns / 2)
    }
}

fn offer(noise: &mut Noise, sender: Address, nonce: u64, index: u64) -> Offer {
    let time = START.saturating_add(index * STEP_NS + noise.below(JITTER_NS));
    Offer {
        id: TxId(noise.bytes()),
        sender,
        nonce,
        time,
        tie_break: noise.next_number(),
        fee: u128::from(noise.next_number() >> noise.below(32)),
        valid_until: START.saturating_add(HOUR_NS),
        // As long as a transfer with its ed25519 key and signature.
        bytes: (0..245).map(|_| noise.next_number() as u8).collect(),
    }
}

/// A stream of blocks' worth of transactions, for a pool in which so many stand all the time.
pub(crate) struct Stream {
    noise: Noise,
    senders: Vec<(Address, u64)>,
    next_sender: usize,
    made: u64,
    block: u64,
    /// How many of those made have not been drained.
    standing: u64,
    bytes: Box<[u8]>,
}

/// Time between two transactions of a stream: a million of them stand within the window of the pool's time index.
const STREAM_STEP_NS: u64 = 500;

impl Stream {
    /// A stream for so many standing transactions.
    pub(crate) fn new(standing: usize) -> Stream {
        let mut noise = Noise(11);
        let senders = (0..standing as u64 / SENDER_TXS).map(|_| (Address(noise.bytes()), 0)).collect();
        let bytes = (0..245).map(|_| noise.next_number() as u8).collect();
        Stream { noise, senders, next_sender: 0, made: 0, block: 0, standing: standing as u64, bytes }
    }

    /// The next transactions, one of each sender in turn.
    pub(crate) fn next_block(&mut self, txs: usize) -> Vec<Offer> {
        self.block += 1;
        (0..txs).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> Offer {
        let at = self.next_sender;
        self.next_sender = (at + 1) % self.senders.len();
        let (sender, nonce) = self.senders[at];
        self.senders[at].1 += 1;
        // Jitter within the time of a few transactions, less than between two of one sender.
        let time = START.saturating_add(self.made * STREAM_STEP_NS + self.noise.below(16 * STREAM_STEP_NS));
        self.made += 1;
        Offer {
            id: TxId(self.noise.bytes()),
            sender,
            nonce,
            time,
            tie_break: self.noise.next_number(),
            fee: u128::from(self.noise.next_number() >> self.noise.below(32)),
            valid_until: time.saturating_add(HOUR_NS),
            bytes: self.bytes.clone(),
        }
    }

    /// The number of the last block, which names what is drained after it.
    pub(crate) const fn block(&self) -> u64 {
        self.block
    }

    /// Before every transaction that stands.
    pub(crate) fn from(&self) -> NanoMoment {
        let drained = self.made.saturating_sub(self.standing + BLOCK_TXS as u64);
        START.saturating_add(drained.saturating_sub(32) * STREAM_STEP_NS)
    }

    /// The owner's clock.
    pub(crate) fn now(&self) -> NanoMoment {
        START.saturating_add(self.made * STREAM_STEP_NS)
    }
}
