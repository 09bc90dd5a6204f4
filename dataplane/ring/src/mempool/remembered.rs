//! Hashes of finalised transactions, so that a late copy is refused. A ring: the oldest goes first.
//!
//! Ids are found through the index of the pool's entries: finality turns an id's cell from its entry to its place here.

use crate::index::Index;
use roko_wire::{NanoMoment, TxId};

/// A line each.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Record {
    id: TxId,
    valid_until: NanoMoment,
    /// Of the id.
    hash: u32,
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

    /// Makes room for one more. True when that forgot the oldest before its time.
    #[inline]
    pub(super) fn make_room(&mut self, index: &mut Index, now: NanoMoment) -> bool {
        self.len == self.capacity && self.forget(index, now)
    }

    /// Remembers an id of this hash, for which there is room; what it is in the shared index is returned.
    #[inline]
    pub(super) fn push(&mut self, id: TxId, hash: u32, valid_until: NanoMoment) -> u32 {
        let record = Record { id, valid_until, hash };
        let at = self.wrapped(self.oldest + self.len);
        match self.ring.get_mut(at) {
            Some(place) => *place = record,
            // The ring fills its reserved capacity once, in order.
            None => self.ring.push(record),
        }
        self.len += 1;
        at as u32 + self.offset
    }

    /// A place of the ring, from one at most once around.
    #[inline]
    fn wrapped(&self, at: usize) -> usize {
        if at < self.capacity { at } else { at - self.capacity }
    }

    /// Forgets the oldest. True when its window was still open at `now`.
    fn forget(&mut self, index: &mut Index, now: NanoMoment) -> bool {
        let Record { hash, valid_until, .. } = self.ring[self.oldest];
        index.remove(hash, self.oldest as u32 + self.offset);
        self.oldest = self.wrapped(self.oldest + 1);
        self.len -= 1;
        valid_until >= now
    }

    /// Asks for the index cell of the one that is forgotten after `ahead` others, if all places are taken.
    #[inline]
    pub(super) fn prefetch_oldest(&self, index: &Index, ahead: usize) {
        if self.len == self.capacity && ahead < self.capacity {
            index.prefetch(self.ring[self.wrapped(self.oldest + ahead)].hash);
        }
    }

    /// Forgets up to `budget` of the oldest whose windows are over.
    pub(super) fn sweep(&mut self, index: &mut Index, now: NanoMoment, budget: usize) {
        for _ in 0..budget {
            if self.len == 0 || self.ring[self.oldest].valid_until >= now {
                return;
            }
            self.forget(index, now);
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.ring.capacity() * size_of::<Record>()
    }
}
