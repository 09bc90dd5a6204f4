//! The obvious mempool: collections of the standard library around owned transactions, behind one mutex.
//!
//! It does what [`Mempool`](roko_ring::mempool::Mempool) does, so that the two can be compared: a fee that leaves
//! the pool by another way is passed over when it comes up (a binary heap cannot remove), and the heap is cleaned
//! when half of it is such.

use crate::workload::{BLOCK_TXS, Offer};
use core::cmp::Reverse;
use crossbeam_skiplist::SkipMap;
use roko_wire::{Address, NanoMoment, TxId};
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Mutex;

/// Where a transaction stands in the line.
type Key = (NanoMoment, u64, TxId);

/// The two orders of a pool: by time, and by fee.
pub(crate) trait Orders: Default {
    fn add_time(&mut self, key: Key);
    fn remove_time(&mut self, key: &Key);
    fn pop_first_below(&mut self, until: NanoMoment) -> Option<Key>;
    fn add_fee(&mut self, fee: u128, id: TxId);
    /// The lowest fee of a pending transaction.
    fn lowest(&mut self, is_pending: impl FnMut(&TxId) -> bool) -> Option<(u128, TxId)>;
    fn remove_fee(&mut self, fee: u128, id: TxId);
    /// Room to forget fees of what is not pending.
    fn clean(&mut self, pending: usize, is_pending: impl FnMut(&TxId) -> bool);
}

#[derive(Default)]
pub(crate) struct Heap {
    by_time: BTreeMap<Key, ()>,
    by_fee: BinaryHeap<Reverse<(u128, TxId)>>,
}

impl Orders for Heap {
    fn add_time(&mut self, key: Key) {
        self.by_time.insert(key, ());
    }
    fn remove_time(&mut self, key: &Key) {
        self.by_time.remove(key);
    }
    fn pop_first_below(&mut self, until: NanoMoment) -> Option<Key> {
        let first = self.by_time.first_entry()?;
        (first.key().0 < until).then(|| first.remove_entry().0)
    }
    fn add_fee(&mut self, fee: u128, id: TxId) {
        self.by_fee.push(Reverse((fee, id)));
    }
    fn lowest(&mut self, mut is_pending: impl FnMut(&TxId) -> bool) -> Option<(u128, TxId)> {
        while let Some(Reverse((fee, id))) = self.by_fee.peek() {
            if is_pending(id) {
                return Some((*fee, *id));
            }
            self.by_fee.pop();
        }
        None
    }
    fn remove_fee(&mut self, _fee: u128, _id: TxId) {}
    fn clean(&mut self, pending: usize, mut is_pending: impl FnMut(&TxId) -> bool) {
        if self.by_fee.len() > 2 * pending.max(1024) {
            self.by_fee.retain(|Reverse((_, id))| is_pending(id));
        }
    }
}

#[derive(Default)]
pub(crate) struct Skip {
    by_time: SkipMap<Key, ()>,
    by_fee: SkipMap<(u128, TxId), ()>,
}

impl Orders for Skip {
    fn add_time(&mut self, key: Key) {
        self.by_time.insert(key, ());
    }
    fn remove_time(&mut self, key: &Key) {
        self.by_time.remove(key);
    }
    fn pop_first_below(&mut self, until: NanoMoment) -> Option<Key> {
        let first = self.by_time.front()?;
        if first.key().0 >= until {
            return None;
        }
        first.remove();
        Some(*first.key())
    }
    fn add_fee(&mut self, fee: u128, id: TxId) {
        self.by_fee.insert((fee, id), ());
    }
    fn lowest(&mut self, _is_pending: impl FnMut(&TxId) -> bool) -> Option<(u128, TxId)> {
        self.by_fee.front().map(|entry| *entry.key())
    }
    fn remove_fee(&mut self, fee: u128, id: TxId) {
        self.by_fee.remove(&(fee, id));
    }
    fn clean(&mut self, _pending: usize, _is_pending: impl FnMut(&TxId) -> bool) {}
}

/// A transaction as the pool owns it.
struct Tx {
    sender: Address,
    nonce: u64,
    time: NanoMoment,
    tie_break: u64,
    fee: u128,
    in_flight: bool,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Inner<O> {
    orders: O,
    txs: HashMap<TxId, Tx>,
    /// Pending nonces of each sender.
    senders: HashMap<Address, BTreeMap<u64, TxId>>,
    in_flight: HashMap<u64, Vec<TxId>>,
    in_flight_txs: usize,
    remembered: HashSet<TxId>,
    remembered_order: VecDeque<TxId>,
}

pub(crate) struct Peer<O> {
    inner: Mutex<Inner<O>>,
    txs_max: usize,
}

impl<O: Orders> Peer<O> {
    pub(crate) fn new(txs_max: usize) -> Peer<O> {
        let txs = HashMap::with_capacity(txs_max);
        let remembered = HashSet::with_capacity(txs_max * 4);
        Peer { inner: Mutex::new(Inner { txs, remembered, ..Inner::default() }), txs_max }
    }
}

impl<O: Orders> Inner<O> {
    /// Makes room for a transaction of `fee`, as the ring does: at the end of the lowest one's chain.
    fn evict(&mut self, fee: u128) -> bool {
        let txs = &self.txs;
        let pending = |id: &TxId| txs.get(id).is_some_and(|tx| !tx.in_flight);
        let Some((lowest, id)) = self.orders.lowest(pending) else { return false };
        if lowest >= fee {
            return false;
        }
        let sender = self.txs[&id].sender;
        let Some((_, last)) = self.senders.get_mut(&sender).and_then(BTreeMap::pop_last) else {
            return false;
        };
        if self.senders[&sender].is_empty() {
            self.senders.remove(&sender);
        }
        let Some(tx) = self.txs.remove(&last) else { return false };
        self.orders.remove_time(&(tx.time, tx.tie_break, last));
        self.orders.remove_fee(tx.fee, last);
        true
    }

    /// Takes one transaction out of everything pending.
    fn take(
        &mut self,
        id: TxId,
        block: &mut Vec<TxId>,
        sink: &mut dyn FnMut(NanoMoment, &[u8]),
    ) -> (Address, u64) {
        let tx = self.txs.get_mut(&id).expect("what has a time is here");
        tx.in_flight = true;
        sink(tx.time, &tx.bytes);
        self.orders.remove_fee(tx.fee, id);
        let (sender, nonce) = (tx.sender, tx.nonce);
        let chain = self.senders.get_mut(&sender).expect("what is pending has a chain");
        chain.remove(&nonce);
        if chain.is_empty() {
            self.senders.remove(&sender);
        }
        block.push(id);
        (sender, nonce)
    }

    fn offer(&mut self, offer: &Offer, now: NanoMoment, txs_max: usize) -> bool {
        if offer.valid_until < now || self.txs.contains_key(&offer.id) || self.remembered.contains(&offer.id)
        {
            return false;
        }
        let chain = self.senders.get(&offer.sender);
        if chain.is_some_and(|chain| chain.contains_key(&offer.nonce) || chain.len() >= 64) {
            return false;
        }
        if self.txs.len() >= txs_max && !self.evict(offer.fee) {
            return false;
        }
        self.senders.entry(offer.sender).or_default().insert(offer.nonce, offer.id);
        self.orders.add_time((offer.time, offer.tie_break, offer.id));
        self.orders.add_fee(offer.fee, offer.id);
        let tx = Tx {
            sender: offer.sender,
            nonce: offer.nonce,
            time: offer.time,
            tie_break: offer.tie_break,
            fee: offer.fee,
            in_flight: false,
            bytes: offer.bytes.to_vec(),
        };
        self.txs.insert(offer.id, tx);
        true
    }

    fn take_block(&mut self, tag: u64, until: NanoMoment, sink: &mut dyn FnMut(NanoMoment, &[u8])) -> usize {
        let (mut block, mut held) = (Vec::new(), HashMap::new());
        while block.len() < BLOCK_TXS {
            let Some(key) = self.orders.pop_first_below(until) else { break };
            let tx = &self.txs[&key.2];
            let chain = &self.senders[&tx.sender];
            if chain.first_key_value().is_some_and(|(first, _)| *first < tx.nonce) {
                held.insert((tx.sender, tx.nonce), key);
                continue;
            }
            let (sender, mut nonce) = self.take(key.2, &mut block, sink);
            // Its successors that the line has passed over follow at once.
            while block.len() < BLOCK_TXS && !held.is_empty() {
                let Some(next) = held.remove(&(sender, nonce + 1)) else { break };
                (_, nonce) = self.take(next.2, &mut block, sink);
            }
        }
        for key in held.into_values() {
            self.orders.add_time(key);
        }
        let count = block.len();
        self.in_flight_txs += count;
        if count > 0 {
            self.in_flight.insert(tag, block);
        }
        count
    }

    fn release(&mut self, tag: u64, txs_max: usize) -> usize {
        let block = self.in_flight.remove(&tag).unwrap_or_default();
        for id in &block {
            self.txs.remove(id);
            self.remembered.insert(*id);
            self.remembered_order.push_back(*id);
            if self.remembered_order.len() > 4 * txs_max
                && let Some(oldest) = self.remembered_order.pop_front()
            {
                self.remembered.remove(&oldest);
            }
        }
        self.in_flight_txs -= block.len();
        let (txs, pending) = (&self.txs, self.txs.len() - self.in_flight_txs);
        self.orders.clean(pending, |id| txs.get(id).is_some_and(|tx| !tx.in_flight));
        block.len()
    }
}

impl<O: Orders> Peer<O> {
    /// Offers transactions under one lock; returns how many are pooled now.
    pub(crate) fn offer(&self, offers: &[&Offer], now: NanoMoment) -> usize {
        let mut inner = self.inner.lock().expect("no thread panicked");
        offers.iter().filter(|offer| inner.offer(offer, now, self.txs_max)).count()
    }

    pub(crate) fn take_block(
        &self,
        tag: u64,
        until: NanoMoment,
        sink: &mut dyn FnMut(NanoMoment, &[u8]),
    ) -> usize {
        let mut inner = self.inner.lock().expect("no thread panicked");
        inner.take_block(tag, until, sink)
    }

    pub(crate) fn release(&self, tag: u64) -> usize {
        let mut inner = self.inner.lock().expect("no thread panicked");
        inner.release(tag, self.txs_max)
    }
}
