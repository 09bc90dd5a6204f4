//! Transactions in flight: marked for other leaders' blocks, put back when a view is abandoned, finalised.

use super::Mempool;
use super::slots::Place;
use super::tags::Tags;
use crate::index::NIL;
use roko_wire::{NanoMoment, TxId};

/// How many entries before its turn an entry's surroundings are asked for; its own lines are by then.
const SOON: usize = 8;

impl<M: Copy> Mempool<M> {
    /// Notes that a block, ours or another leader's, holds the transaction. True when it is in flight under `tag`
    /// now. False when it is not here, is under four tags already, or every tag is open (both counted).
    pub fn mark_in_flight(&mut self, id: &TxId, tag: u64) -> bool {
        let Some(entry) = self.entry(id) else { return false };
        let Some(slot) = self.tags.open(&self.hasher, tag) else {
            self.counters.marks_refused += 1;
            return false;
        };
        if !self.tags.attach(&mut self.slots, slot, entry) {
            self.tags.close_if_empty(&self.hasher, slot);
            self.counters.marks_refused += 1;
            return false;
        }
        if self.slots.hot[entry as usize].place != Place::InFlight {
            self.take_off(entry, false);
        }
        self.counters.marked += 1;
        true
    }

    /// Abandons the block of `tag`. What no other tag holds is pending again, at its own time. Returns how many
    /// are; none if the tag is not open.
    pub fn put_back(&mut self, tag: u64) -> usize {
        let Some(slot) = self.tags.find(&self.hasher, tag) else { return 0 };
        let mut pending = 0;
        for _ in 0..self.tags.txs(slot) {
            self.ask_for_later(self.tags.first(slot));
            let entry = self.tags.pop(&self.hasher, &mut self.slots, slot);
            if self.slots.hot[entry as usize].tags == 0 {
                self.in_flight -= 1;
                self.fees.link(&mut self.slots, entry);
                self.senders.now_pending(&self.slots, entry);
                self.place(entry);
                pending += 1;
            }
        }
        self.counters.put_back += pending as u64;
        pending
    }

    /// The block of `tag` is final: its transactions leave, also from other tags, and are remembered. Returns how
    /// many; none if the tag is not open.
    pub fn finalize(&mut self, tag: u64, now: NanoMoment) -> usize {
        let Some(slot) = self.tags.find(&self.hasher, tag) else { return 0 };
        let finalised = self.tags.txs(slot) as usize;
        // Two walks run ahead of the one that works: what they ask for is in the cache when it comes there.
        let mut soon = self.tags.first(slot);
        for _ in 0..SOON {
            soon = self.ask_for_end(soon);
        }
        let mut node = self.tags.take_all(&self.hasher, slot);
        while node != NIL {
            self.ask_for_later(node);
            soon = self.ask_for_end(soon);
            let entry = Tags::entry(node);
            node = self.tags.strip(&mut self.slots, node);
            self.retire(entry, now);
        }
        self.counters.finalised += finalised as u64;
        finalised
    }

    /// One transaction is final. It leaves the pool if it is here, and is remembered until `valid_until`.
    pub fn finalize_id(&mut self, id: &TxId, valid_until: NanoMoment, now: NanoMoment) {
        match self.lookup(id) {
            Some(index) if index >= self.entries_max => return,
            Some(entry) => self.discard(entry),
            None => {}
        }
        let forced = self.remembered.make_room(&mut self.ids, now);
        let hash = self.hasher.id(id);
        let index = self.remembered.push(*id, hash, valid_until);
        self.ids.insert(hash, index);
        self.counters.remembered_forced_out += u64::from(forced);
        self.counters.finalised += 1;
    }

    /// Makes an entry in flight leave everything, and remembers it: its id's cell now means what is remembered.
    #[inline]
    fn retire(&mut self, entry: u32, now: NanoMoment) {
        let forced = self.remembered.make_room(&mut self.ids, now);
        self.counters.remembered_forced_out += u64::from(forced);
        let cold = &self.slots.cold[entry as usize];
        let hash = cold.hash;
        let index = self.remembered.push(cold.id, hash, cold.valid_until);
        self.ids.replace(hash, entry, index);
        self.tags.detach_all(&self.hasher, &mut self.slots, entry);
        self.forget(entry);
    }

    /// Asks for the lines of the entry that is [`AHEAD`](super::tags::AHEAD) after `node` in its tag.
    #[inline]
    fn ask_for_later(&self, node: u32) {
        if let Some(entry) = self.tags.ahead(&self.slots, node) {
            self.slots.prefetch(entry);
        }
    }

    /// Asks for what the end of `node`'s entry touches beside its own lines, which are here; returns the next node.
    #[inline]
    fn ask_for_end(&self, node: u32) -> u32 {
        if node == NIL {
            return NIL;
        }
        let entry = Tags::entry(node) as usize;
        let (hot, cold) = (&self.slots.hot[entry], &self.slots.cold[entry]);
        self.ids.prefetch(cold.hash);
        self.senders.prefetch_number(hot.chain);
        self.slots.prefetch_hot(hot.sender.next);
        self.remembered.prefetch_oldest(&self.ids, SOON);
        self.tags.after(&self.slots, node)
    }
}
