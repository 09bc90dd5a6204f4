//! Transactions in flight: marked for other leaders' blocks, put back when a view is abandoned, finalised.

use super::Mempool;
use super::slots::Place;
use roko_wire::{NanoMoment, TxId};

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
            self.take_off(entry);
        }
        self.counters.marked += 1;
        true
    }

    /// Abandons the block of `tag`. What no other tag holds is pending again, at its own time. Returns how many
    /// are; none if the tag is not open.
    pub fn put_back(&mut self, tag: u64) -> usize {
        let mut pending = 0;
        while let Some(entry) = self.tags.pop(&self.hasher, &mut self.slots, tag) {
            if self.slots.hot[entry as usize].tags == 0 {
                self.in_flight -= 1;
                self.fees.link(&mut self.slots, entry);
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
        let mut finalised = 0;
        while let Some(entry) = self.tags.pop(&self.hasher, &mut self.slots, tag) {
            let cold = &self.slots.cold[entry as usize];
            let (id, valid_until) = (cold.id, cold.valid_until);
            self.discard(entry);
            self.remember(id, valid_until, now);
            finalised += 1;
        }
        finalised
    }

    /// One transaction is final. It leaves the pool if it is here, and is remembered until `valid_until`.
    pub fn finalize_id(&mut self, id: &TxId, valid_until: NanoMoment, now: NanoMoment) {
        match self.lookup(id) {
            Some(index) if index >= self.entries_max => return,
            Some(entry) => self.discard(entry),
            None => {}
        }
        self.remember(*id, valid_until, now);
    }

    fn remember(&mut self, id: TxId, valid_until: NanoMoment, now: NanoMoment) {
        let forced = self.remembered.push(&mut self.ids, &self.hasher, id, valid_until, now);
        self.counters.remembered_forced_out += u64::from(forced);
        self.counters.finalised += 1;
    }
}
