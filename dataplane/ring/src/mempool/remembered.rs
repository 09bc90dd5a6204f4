//! Hashes of finalised transactions, so that a late copy is refused. A ring: the oldest goes first.

use crate::index::{Hasher, Index};
use roko_wire::{NanoMoment, TxId};

#[derive(Clone, Copy)]
struct Record {
    id: TxId,
    valid_until: NanoMoment,
}

pub(super) struct Remembered {
    ring: Vec<Record>,
    capacity: usize,
    oldest: usize,
    len: usize,
    /// In the shared index a remembered hash is its place in the ring plus this.
    offset: u32,
}

impl Remembered {
    pub(super) fn new(capacity: usize, offset: u32, prefault: bool) -> Remembered {
        let mut ring = Vec::with_capacity(capacity);
        if prefault {
            super::slots::touch(&mut ring);
        }
        Remembered { ring, capacity, oldest: 0, len: 0, offset }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The id behind an index of the shared hash table that is not an entry's.
    pub(super) fn id(&self, index: u32) -> &TxId {
        &self.ring[(index - self.offset) as usize].id
    }

    /// Remembers an id that is not in the table. True when the oldest was forgotten before its time.
    pub(super) fn push(
        &mut self,
        index: &mut Index,
        hasher: &Hasher,
        id: TxId,
        valid_until: NanoMoment,
        now: NanoMoment,
    ) -> bool {
        let forced = self.len == self.capacity && self.forget(index, hasher, now);
        let record = Record { id, valid_until };
        let at = (self.oldest + self.len) % self.capacity;
        match self.ring.get_mut(at) {
            Some(place) => *place = record,
            // The ring fills its reserved capacity once, in order.
            None => self.ring.push(record),
        }
        self.len += 1;
        index.insert(hasher.id(&id), at as u32 + self.offset);
        forced
    }

    /// Forgets the oldest. True when its window was still open at `now`.
    fn forget(&mut self, index: &mut Index, hasher: &Hasher, now: NanoMoment) -> bool {
        let record = self.ring[self.oldest];
        index.remove(hasher.id(&record.id), self.oldest as u32 + self.offset);
        self.oldest = (self.oldest + 1) % self.capacity;
        self.len -= 1;
        record.valid_until >= now
    }

    /// Forgets up to `budget` of the oldest whose windows are over.
    pub(super) fn sweep(&mut self, index: &mut Index, hasher: &Hasher, now: NanoMoment, budget: usize) {
        for _ in 0..budget {
            if self.len == 0 || self.ring[self.oldest].valid_until >= now {
                return;
            }
            self.forget(index, hasher, now);
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.ring.capacity() * size_of::<Record>()
    }
}
