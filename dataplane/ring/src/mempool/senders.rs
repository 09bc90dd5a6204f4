//! The sender index: each sender's transactions as a chain by ascending nonce.

use super::slots::{Link, Place, SENDER, Slots, unlink};
use crate::index::{Hasher, Index, NIL};
use roko_wire::Address;

#[derive(Clone, Copy)]
struct Chain {
    sender: Address,
    head: u32,
    tail: u32,
    txs: u32,
}

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

    fn find(&self, hasher: &Hasher, sender: &Address) -> Option<u32> {
        self.index.find(hasher.sender(sender), |chain| self.chains[chain as usize].sender == *sender)
    }

    /// Finds the spot, from the chain's end: the next nonce is the usual case.
    pub(super) fn spot<M: Copy>(
        &self,
        hasher: &Hasher,
        slots: &Slots<M>,
        sender: &Address,
        nonce: u64,
    ) -> Spot {
        let Some(chain) = self.find(hasher, sender) else { return Spot::NewSender };
        let mut after = self.chains[chain as usize].tail;
        while after != NIL {
            let there = slots.cold[after as usize].nonce;
            if there == nonce {
                return Spot::Taken(after);
            }
            if there < nonce {
                break;
            }
            after = slots.hot[after as usize].lists[SENDER].prev;
        }
        Spot::Free { chain, after }
    }

    /// Transactions in a chain.
    pub(super) fn txs(&self, chain: u32) -> u32 {
        self.chains[chain as usize].txs
    }

    /// The first entry of a sender, or `NIL`.
    pub(super) fn first(&self, hasher: &Hasher, sender: &Address) -> u32 {
        self.find(hasher, sender).map_or(NIL, |chain| self.chains[chain as usize].head)
    }

    /// Puts an entry into its chain.
    pub(super) fn link<M: Copy>(&mut self, hasher: &Hasher, slots: &mut Slots<M>, entry: u32) {
        let (sender, nonce) = (slots.cold[entry as usize].sender, slots.cold[entry as usize].nonce);
        let (chain, prev) = match self.spot(hasher, slots, &sender, nonce) {
            Spot::Free { chain, after } => (chain, after),
            Spot::NewSender => (self.open(hasher, sender), NIL),
            Spot::Taken(_) => unreachable!("the insertion has seen that the nonce is free"),
        };
        let record = &mut self.chains[chain as usize];
        let next = if prev == NIL { record.head } else { slots.hot[prev as usize].lists[SENDER].next };
        match prev {
            NIL => record.head = entry,
            prev => slots.hot[prev as usize].lists[SENDER].next = entry,
        }
        match next {
            NIL => record.tail = entry,
            next => slots.hot[next as usize].lists[SENDER].prev = entry,
        }
        record.txs += 1;
        slots.hot[entry as usize].lists[SENDER] = Link { prev, next };
        slots.cold[entry as usize].sender_slot = chain;
    }

    fn open(&mut self, hasher: &Hasher, sender: Address) -> u32 {
        let record = Chain { sender, head: NIL, tail: NIL, txs: 0 };
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
        self.index.insert(hasher.sender(&sender), chain);
        chain
    }

    /// Takes an entry out of its chain; an empty chain is closed.
    pub(super) fn unlink<M: Copy>(&mut self, hasher: &Hasher, slots: &mut Slots<M>, entry: u32) {
        let chain = slots.cold[entry as usize].sender_slot;
        let record = &mut self.chains[chain as usize];
        let prev = slots.hot[entry as usize].lists[SENDER].prev;
        if record.tail == entry {
            record.tail = prev;
        }
        unlink::<SENDER>(&mut slots.hot, &mut record.head, entry);
        record.txs -= 1;
        if record.txs == 0 {
            let sender = record.sender;
            self.index.remove(hasher.sender(&sender), chain);
            self.free.push(chain);
        }
    }

    /// The sender's last pending entry in a byte class from `byte_class` up: the least executable to evict
    /// beside `entry`, which is one itself.
    pub(super) fn last_evictable<M: Copy>(&self, slots: &Slots<M>, entry: u32, byte_class: usize) -> u32 {
        let mut at = self.chains[slots.cold[entry as usize].sender_slot as usize].tail;
        while at != entry {
            let pending = slots.hot[at as usize].place != Place::InFlight;
            if pending && usize::from(slots.cold[at as usize].byte_class) >= byte_class {
                return at;
            }
            at = slots.hot[at as usize].lists[SENDER].prev;
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
        let mut at = self.chains[self.find(hasher, sender)? as usize].tail;
        while at != NIL && slots.cold[at as usize].nonce > nonce {
            let pending = slots.hot[at as usize].place != Place::InFlight;
            if pending && usize::from(slots.cold[at as usize].byte_class) >= byte_class {
                return Some(at);
            }
            at = slots.hot[at as usize].lists[SENDER].prev;
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
    pub(super) fn ends(&self, hasher: &Hasher, sender: &Address) -> (u32, u32, u32) {
        let record = self.chains[self.find(hasher, sender).expect("the sender is here") as usize];
        (record.head, record.tail, record.txs)
    }
}
