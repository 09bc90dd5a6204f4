//! The sender index: each sender's transactions as a chain by ascending nonce.
//!
//! A chain knows its first pending entry. A drain offers an entry when it is that one and no nonce is missing below it, so
//! it looks at nobody else's line.

use super::slots::{Link, Place, Slots, UNLINKED};
use crate::index::{Hasher, Index, NIL};
use crate::prefetch;
use roko_wire::Address;

/// Two of them share a cache line.
#[repr(C, align(32))]
#[derive(Clone, Copy)]
struct Chain {
    sender: Address,
    tail: u32,
    /// The first entry that is not in flight, or `NIL`.
    first_pending: u32,
    txs: u16,
    /// Entries behind the first pending one may be in flight. While none is, who follows the first is the next to be first, and
    /// nobody's line need be looked at for it.
    ragged: bool,
}

const _: () = assert!(size_of::<Chain>() == 32);

pub(super) struct Senders {
    index: Index,
    chains: Vec<Chain>,
    free: Vec<u32>,
}

/// Where a nonce stands in its sender's chain.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spot {
    /// The sender has nothing here.
    NewSender,
    /// Between `after` (`NIL`: first) and what follows it, in this chain.
    Free { chain: u32, after: u32 },
    /// An entry has this nonce.
    Taken(u32),
}

impl Senders {
    pub(super) fn new(senders: usize, prefault: bool) -> Senders {
        let mut chains = Vec::with_capacity(senders);
        if prefault {
            super::slots::touch(&mut chains);
        }
        Senders { index: Index::new(senders), chains, free: Vec::with_capacity(senders) }
    }

    #[inline]
    fn find(&self, hash: u32, sender: &Address) -> Option<u32> {
        self.index.find(hash, |chain| self.chains[chain as usize].sender == *sender)
    }

    /// Finds the spot of a nonce of `sender`, whose hash is `hash`, from the chain's end: the next nonce is the usual case.
    #[inline]
    pub(super) fn spot<M: Copy>(&self, slots: &Slots<M>, hash: u32, sender: &Address, nonce: u64) -> Spot {
        let Some(chain) = self.find(hash, sender) else { return Spot::NewSender };
        let mut after = self.chains[chain as usize].tail;
        while after != NIL {
            let there = slots.hot[after as usize].nonce;
            if there == nonce {
                return Spot::Taken(after);
            }
            if there < nonce {
                break;
            }
            after = slots.hot[after as usize].sender.prev;
        }
        Spot::Free { chain, after }
    }

    /// Asks for the index cell of a sender.
    #[inline]
    pub(super) fn prefetch(&self, hash: u32) {
        self.index.prefetch(hash);
    }

    /// Asks for the chain that probably has this hash.
    #[inline]
    pub(super) fn prefetch_chain(&self, hash: u32) -> Option<u32> {
        let chain = self.index.guess(hash)?;
        prefetch::value(&self.chains[chain as usize]);
        Some(chain)
    }

    /// Asks for a chain by its number.
    #[inline]
    pub(super) fn prefetch_number(&self, chain: u32) {
        // A hint may be stale.
        if let Some(chain) = self.chains.get(chain as usize) {
            prefetch::value(chain);
        }
    }

    /// The last entry of a chain.
    #[inline]
    pub(super) fn tail(&self, chain: u32) -> u32 {
        self.chains[chain as usize].tail
    }

    /// Whose chain it is.
    #[inline]
    pub(super) fn address(&self, chain: u32) -> Address {
        self.chains[chain as usize].sender
    }

    /// Transactions in a chain.
    pub(super) fn txs(&self, chain: u32) -> u16 {
        self.chains[chain as usize].txs
    }

    /// The first entry of a sender, or `NIL`; found from the chain's end.
    pub(super) fn first<M: Copy>(&self, hasher: &Hasher, slots: &Slots<M>, sender: &Address) -> u32 {
        self.find(hasher.sender(sender), sender).map_or(NIL, |chain| self.first_of(slots, chain))
    }

    /// The first entry of a chain that is not in flight, or `NIL`.
    #[inline]
    pub(super) fn first_pending(&self, chain: u32) -> u32 {
        self.chains[chain as usize].first_pending
    }

    /// Puts a pending entry into its chain; `spot`, which is free, is where.
    #[inline]
    pub(super) fn link<M: Copy>(
        &mut self,
        hash: u32,
        slots: &mut Slots<M>,
        spot: Spot,
        sender: &Address,
        entry: u32,
    ) {
        let (chain, prev) = match spot {
            Spot::Free { chain, after } => (chain, after),
            Spot::NewSender => (self.open(hash, sender), NIL),
            Spot::Taken(_) => unreachable!("the insertion has seen that the nonce is free"),
        };
        let nonce = slots.hot[entry as usize].nonce;
        let (next, gap) = match prev {
            NIL => (self.first_of(slots, chain), false),
            prev => {
                let before = &mut slots.hot[prev as usize];
                (core::mem::replace(&mut before.sender.next, entry), !is_next(before.nonce, nonce))
            }
        };
        let record = &mut self.chains[chain as usize];
        match next {
            NIL => record.tail = entry,
            next => {
                let behind = &mut slots.hot[next as usize];
                behind.sender.prev = entry;
                behind.gap = !is_next(nonce, behind.nonce);
            }
        }
        record.txs += 1;
        let hot = &mut slots.hot[entry as usize];
        (hot.sender, hot.chain, hot.gap) = (Link { prev, next }, chain, gap);
        // Behind all others it is the first pending one only where there is none; their lines need no look.
        if next != NIL || self.chains[chain as usize].first_pending == NIL {
            self.now_pending(slots, entry);
        }
    }

    /// The first entry of a chain, or `NIL`.
    fn first_of<M: Copy>(&self, slots: &Slots<M>, chain: u32) -> u32 {
        let (mut first, mut at) = (NIL, self.chains[chain as usize].tail);
        while at != NIL {
            (first, at) = (at, slots.hot[at as usize].sender.prev);
        }
        first
    }

    /// Notes that an entry of a chain is pending.
    #[inline]
    pub(super) fn now_pending<M: Copy>(&mut self, slots: &Slots<M>, entry: u32) {
        let hot = &slots.hot[entry as usize];
        let chain = &mut self.chains[hot.chain as usize];
        let first = chain.first_pending;
        if first == NIL || hot.nonce < slots.hot[first as usize].nonce {
            chain.first_pending = entry;
            // Whoever stands between it and the first until now is in flight.
            chain.ragged |= hot.sender.next != first;
        }
    }

    /// Notes that an entry is pending no more: it is in flight, or `leaves` the pool.
    #[inline]
    pub(super) fn no_longer_pending<M: Copy>(&mut self, slots: &Slots<M>, entry: u32, leaves: bool) {
        let hot = &slots.hot[entry as usize];
        let chain = &mut self.chains[hot.chain as usize];
        if chain.first_pending != entry {
            chain.ragged |= !leaves;
            return;
        }
        let mut at = hot.sender.next;
        while chain.ragged && at != NIL && slots.hot[at as usize].place == Place::InFlight {
            at = slots.hot[at as usize].sender.next;
        }
        chain.first_pending = at;
        chain.ragged &= at != NIL;
    }

    fn open(&mut self, hash: u32, sender: &Address) -> u32 {
        let record = Chain { sender: *sender, tail: NIL, first_pending: NIL, txs: 0, ragged: false };
        let chain = match self.free.pop() {
            Some(chain) => {
                self.chains[chain as usize] = record;
                chain
            }
            None => {
                // As many chains as entries are reserved, and each open chain has an entry.
                self.chains.push(record);
                self.chains.len() as u32 - 1
            }
        };
        self.index.insert(hash, chain);
        chain
    }

    /// Takes an entry that is not pending out of its chain; an empty chain is closed.
    #[inline]
    pub(super) fn unlink<M: Copy>(&mut self, hasher: &Hasher, slots: &mut Slots<M>, entry: u32) {
        let hot = &mut slots.hot[entry as usize];
        let (chain, Link { prev, next }) = (hot.chain, hot.sender);
        hot.sender = UNLINKED;
        let record = &mut self.chains[chain as usize];
        if prev != NIL {
            slots.hot[prev as usize].sender.next = next;
        }
        match next {
            NIL => record.tail = prev,
            next => {
                let below = (prev != NIL).then(|| slots.hot[prev as usize].nonce);
                let behind = &mut slots.hot[next as usize];
                behind.sender.prev = prev;
                behind.gap = below.is_some_and(|below| !is_next(below, behind.nonce));
            }
        }
        record.txs -= 1;
        if record.txs == 0 {
            self.index.remove(hasher.sender(&record.sender), chain);
            self.free.push(chain);
        }
    }

    /// The sender's last pending entry in a byte class from `byte_class` up: the least executable to evict
    /// beside `entry`, which is one itself.
    pub(super) fn last_evictable<M: Copy>(&self, slots: &Slots<M>, entry: u32, byte_class: usize) -> u32 {
        let mut at = self.chains[slots.hot[entry as usize].chain as usize].tail;
        while at != entry {
            let pending = slots.hot[at as usize].place != Place::InFlight;
            if pending && usize::from(slots.cold[at as usize].byte_class) >= byte_class {
                return at;
            }
            at = slots.hot[at as usize].sender.prev;
        }
        entry
    }

    /// The last pending entry of `sender` behind `nonce`, in a byte class from `byte_class` up.
    pub(super) fn last_behind<M: Copy>(
        &self,
        hasher: &Hasher,
        slots: &Slots<M>,
        sender: &Address,
        nonce: u64,
        byte_class: usize,
    ) -> Option<u32> {
        let mut at = self.chains[self.find(hasher.sender(sender), sender)? as usize].tail;
        while at != NIL && slots.hot[at as usize].nonce > nonce {
            let pending = slots.hot[at as usize].place != Place::InFlight;
            if pending && usize::from(slots.cold[at as usize].byte_class) >= byte_class {
                return Some(at);
            }
            at = slots.hot[at as usize].sender.prev;
        }
        None
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.index.memory_bytes() + self.chains.capacity() * size_of::<Chain>() + self.free.capacity() * 4
    }

    #[cfg(test)]
    pub(super) fn open_chains(&self) -> usize {
        assert_eq!(self.index.len(), self.chains.len() - self.free.len());
        self.index.len()
    }

    #[cfg(test)]
    pub(super) fn is_ragged(&self, chain: u32) -> bool {
        self.chains[chain as usize].ragged
    }

    #[cfg(test)]
    pub(super) fn ends(&self, hasher: &Hasher, sender: &Address) -> (u32, u32) {
        let record =
            self.chains[self.find(hasher.sender(sender), sender).expect("the sender is here") as usize];
        (record.tail, record.txs.into())
    }
}

/// Whether `nonce` comes directly after `prev`.
#[inline]
pub(super) fn is_next(prev: u64, nonce: u64) -> bool {
    prev.checked_add(1) == Some(nonce)
}
