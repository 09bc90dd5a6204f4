//! The temporal mempool ring, owner's side: transactions come in stamped and leave in the order of time.
//!
//! One thread owns it; the hand-over to and from other stages goes through SPSC rings outside. All memory is
//! reserved at construction and reported by [`Mempool::memory_bytes`]; nothing allocates or locks afterwards.
//!
//! ```text
//!                 insert                 drain / mark_in_flight                finalize
//!   (not here) ----------> Placed ------------------------------> InFlight ---------------> remembered until
//!                          |    ^   put_back of the last tag  |                              valid_until
//!              take_late   v    | restamp <-------------------'
//!                         Awaiting      evict, replace, expire, remove: from any pending state to (not here)
//! ```
//!
//! Where to look: `insert` (who gets in), `burst` (many at once), `drain` (the order, and the rule validators recheck), `flight` (tags),
//! `late` (stamping anew), `expire`. Beneath them `slots` (memory), `wheel` and `heap` (time), `fees` (eviction),
//! `senders` (nonces), `tags`, `expiry`, `remembered`, `index` (hashing) and `bitmap`.
//!
//! A pool of more than a few thousand transactions does not fit the cache, and each touches a dozen lines between its
//! arrival and its end. So whoever goes through many of them (a burst, a drain, the end of a block) asks ahead for the lines
//! of those that come, and their misses overlap.
//!
//! Costs: insertion O(1) amortised inside the wheel's window; a drain O(log n) a transaction visited; a tag
//! costs its own transactions. No operation walks the pool, whatever times, fees, nonces or ids a peer picks.

mod bitmap;
mod burst;
mod config;
mod drain;
mod expire;
mod expiry;
mod fees;
mod flight;
mod heap;
mod insert;
mod late;
mod remembered;
mod senders;
mod slots;
mod stats;
mod tags;
#[cfg(test)]
mod tests;
mod types;
mod wheel;

pub use burst::{BURST_MAX, Key};
pub use config::{Config, ConfigError, SLOT_CLASSES, SlotClass, TAGS_PER_TX_MAX};
pub use fees::fee_class;
pub use stats::{Counters, Stats};
pub use types::{DrainReport, Drained, Ended, Inserted, Limits, NewTx, Refused, Span, Verdict, View};

use crate::index::{Hasher, Index, NIL};
use roko_wire::{Address, NanoMoment, TxId};
use slots::{Place, Slots};

/// The pool, generic over what the owner keeps with each transaction.
pub struct Mempool<M> {
    slots: Slots<M>,
    wheel: wheel::Wheel,
    fees: fees::Fees,
    senders: senders::Senders,
    expiry: expiry::Expiry,
    tags: tags::Tags,
    remembered: remembered::Remembered,
    /// Id to entry, or to remembered hash (`entries_max` and up).
    ids: Index,
    hasher: Hasher,
    entries_max: u32,
    sender_txs_max: u16,
    in_flight: usize,
    counters: Counters,
}

impl<M: Copy> Mempool<M> {
    /// Reserves all memory.
    ///
    /// # Errors
    /// When the sizes do not fit together.
    pub fn new(config: &Config) -> Result<Mempool<M>, ConfigError> {
        config.check()?;
        let txs = config.txs_max();
        Ok(Mempool {
            slots: Slots::new(config),
            wheel: wheel::Wheel::new(config.ticks, config.tick_ns_log2),
            fees: fees::Fees::new(txs, config.prefault),
            senders: senders::Senders::new(txs, config.prefault),
            expiry: expiry::Expiry::new(),
            tags: tags::Tags::new(config.tags_max, txs),
            remembered: remembered::Remembered::new(config.remembered_max, txs as u32, config.prefault),
            ids: Index::new(txs + config.remembered_max),
            hasher: Hasher::new(config.seed),
            entries_max: txs as u32,
            sender_txs_max: config.sender_txs_max,
            in_flight: 0,
            counters: Counters::default(),
        })
    }

    /// Bytes reserved at construction; it does not change.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.slots.memory_bytes()
            + self.wheel.memory_bytes()
            + self.fees.memory_bytes()
            + self.senders.memory_bytes()
            + self.expiry.memory_bytes()
            + self.tags.memory_bytes()
            + self.remembered.memory_bytes()
            + self.ids.memory_bytes()
    }

    /// Gauges and counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            pending: self.slots.live - self.in_flight,
            in_flight: self.in_flight,
            bytes_used: self.slots.bytes_used,
            remembered: self.remembered.len(),
            tags_open: self.tags.open_count(),
            counters: self.counters,
        }
    }

    /// Whether the transaction is pooled, pending or in flight.
    #[must_use]
    pub fn contains(&self, id: &TxId) -> bool {
        self.entry(id).is_some()
    }

    /// Whether the transaction is remembered as final.
    #[must_use]
    pub fn is_remembered(&self, id: &TxId) -> bool {
        self.lookup(id).is_some_and(|index| index >= self.entries_max)
    }

    /// The transaction, read in place.
    #[must_use]
    pub fn get(&self, id: &TxId) -> Option<View<'_, M>> {
        self.entry(id).map(|entry| self.view(entry))
    }

    /// Time of the earliest pending transaction that has a valid place (those awaiting a stamp have none).
    #[must_use]
    pub fn oldest_pending(&self) -> Option<NanoMoment> {
        self.wheel.first().map(|entry| NanoMoment(self.slots.hot[entry as usize].time))
    }

    /// Shows a sender's transactions by ascending nonce, pending and in flight.
    pub fn for_sender(&self, sender: &Address, mut visit: impl FnMut(View<'_, M>)) {
        let mut at = self.senders.first(&self.hasher, &self.slots, sender);
        while at != NIL {
            visit(self.view(at));
            at = self.slots.hot[at as usize].sender.next;
        }
    }

    /// Removes a transaction, pending or in flight, without remembering it. False if it is not here.
    pub fn remove(&mut self, id: &TxId) -> bool {
        let Some(entry) = self.entry(id) else { return false };
        self.discard(entry);
        self.counters.removed += 1;
        true
    }

    /// Removes a sender's pending transactions below `nonce`, its next one by the state. Returns how many.
    pub fn drop_below(&mut self, sender: &Address, nonce: u64, mut sink: impl FnMut(TxId)) -> usize {
        let (mut at, mut dropped) = (self.senders.first(&self.hasher, &self.slots, sender), 0);
        while at != NIL && self.slots.hot[at as usize].nonce < nonce {
            let next = self.slots.hot[at as usize].sender.next;
            if self.slots.hot[at as usize].place != Place::InFlight {
                sink(self.slots.cold[at as usize].id);
                self.discard(at);
                dropped += 1;
            }
            at = next;
        }
        self.counters.removed += dropped as u64;
        dropped
    }

    fn lookup(&self, id: &TxId) -> Option<u32> {
        self.lookup_hashed(self.hasher.id(id), id)
    }

    #[inline]
    fn lookup_hashed(&self, hash: u32, id: &TxId) -> Option<u32> {
        self.ids.find(hash, |index| match index < self.entries_max {
            true => self.slots.cold[index as usize].id == *id,
            false => self.remembered.id(index) == id,
        })
    }

    fn entry(&self, id: &TxId) -> Option<u32> {
        self.lookup(id).filter(|&index| index < self.entries_max)
    }

    fn view(&self, entry: u32) -> View<'_, M> {
        let (hot, cold) = (&self.slots.hot[entry as usize], &self.slots.cold[entry as usize]);
        View {
            id: cold.id,
            sender: self.senders.address(hot.chain),
            nonce: hot.nonce,
            time: NanoMoment(hot.time),
            tie_break: hot.tie_break,
            fee: cold.fee,
            gas: cold.gas,
            valid_until: cold.valid_until,
            tags: hot.tags,
            meta: &self.slots.meta[entry as usize],
            bytes: self.slots.bytes(entry),
        }
    }

    /// Gives a pending entry its place in the time index.
    fn place(&mut self, entry: u32) {
        self.slots.hot[entry as usize].place = Place::Placed;
        self.wheel.insert(&mut self.slots, entry);
    }

    /// Makes a pending entry leave the time index and the eviction order; it is in flight afterwards, if only until it `leaves`
    /// the pool at once.
    #[inline]
    fn take_off(&mut self, entry: u32, leaves: bool) {
        if self.slots.hot[entry as usize].place == Place::Placed {
            self.wheel.remove(&mut self.slots, entry);
        }
        self.fees.unlink(&self.slots, entry);
        self.senders.no_longer_pending(&self.slots, entry, leaves);
        self.slots.hot[entry as usize].place = Place::InFlight;
        self.in_flight += 1;
    }

    /// Removes an entry from every index, whatever its state, and frees it.
    fn discard(&mut self, entry: u32) {
        if self.slots.hot[entry as usize].place == Place::InFlight {
            self.tags.detach_all(&self.hasher, &mut self.slots, entry);
        } else {
            self.take_off(entry, true);
        }
        self.ids.remove(self.slots.cold[entry as usize].hash, entry);
        self.forget(entry);
    }

    /// Frees an entry in flight that is under no tag and that its id does not name any more.
    #[inline]
    fn forget(&mut self, entry: u32) {
        self.in_flight -= 1;
        self.expiry.unlink(&mut self.slots, entry);
        self.senders.unlink(&self.hasher, &mut self.slots, entry);
        self.slots.release(entry);
    }
}
