//! The expiry wheel: entries by the second (2^30 ns) of their `valid_until`.
//!
//! A `valid_until` beyond the wheel's 39 hours waits in the last slot and moves on when that comes around. An
//! entry that is in flight when its second passes is looked at again a second later. Expiry is only housekeeping:
//! a drain checks `valid_until` to the nanosecond.

use super::bitmap::Bitmap;
use super::slots::{Link, Slots, UNLINKED};
use crate::index::NIL;
use roko_wire::NanoMoment;

/// Seconds of 2^30 ns in the wheel: 39 hours, above the default validity window of 24.
const SLOTS: u64 = 1 << 17;
/// Width of a slot as a power of two of nanoseconds.
pub(super) const SLOT_NS_LOG2: u32 = 30;

pub(super) struct Expiry {
    heads: Box<[u32]>,
    occupied: Bitmap,
    /// First second that may hold an entry; those in the wheel are in `cursor..cursor + SLOTS`.
    cursor: u64,
    anchored: bool,
}

pub(super) fn second(time: NanoMoment) -> u64 {
    u64::try_from(time.0 >> SLOT_NS_LOG2).unwrap_or(u64::MAX).min(u64::MAX / 2)
}

impl Expiry {
    pub(super) fn new() -> Expiry {
        Expiry {
            heads: vec![NIL; SLOTS as usize].into(),
            occupied: Bitmap::new(SLOTS as usize),
            cursor: 0,
            anchored: false,
        }
    }

    /// Starts the wheel at the owner's clock.
    pub(super) fn anchor(&mut self, now: NanoMoment) {
        if !self.anchored {
            self.anchored = true;
            self.cursor = second(now);
        }
    }

    /// Links an entry under its `valid_until`, or `not_before` if that is later.
    #[inline]
    pub(super) fn link<M: Copy>(&mut self, slots: &mut Slots<M>, entry: u32, not_before: u64) {
        let due = second(slots.cold[entry as usize].valid_until).max(not_before);
        let slot = due.clamp(self.cursor, self.cursor + SLOTS - 1) & (SLOTS - 1);
        let head = self.heads[slot as usize];
        match head {
            NIL => self.occupied.set(slot as usize),
            head => slots.cold[head as usize].expiry.prev = entry,
        }
        self.heads[slot as usize] = entry;
        let cold = &mut slots.cold[entry as usize];
        (cold.expiry_slot, cold.expiry) = (slot as u32, Link { prev: NIL, next: head });
    }

    #[inline]
    pub(super) fn unlink<M: Copy>(&mut self, slots: &mut Slots<M>, entry: u32) {
        let cold = &mut slots.cold[entry as usize];
        let (slot, Link { prev, next }) = (cold.expiry_slot as usize, cold.expiry);
        cold.expiry = UNLINKED;
        match prev {
            NIL => self.heads[slot] = next,
            prev => slots.cold[prev as usize].expiry.next = next,
        }
        match next {
            NIL if prev == NIL => self.occupied.clear(slot),
            NIL => {}
            next => slots.cold[next as usize].expiry.prev = prev,
        }
    }

    /// The next entry whose second is over at `now`.
    pub(super) fn next_due(&mut self, now: NanoMoment) -> Option<u32> {
        let end = second(now);
        if end <= self.cursor {
            return None;
        }
        let start = (self.cursor & (SLOTS - 1)) as usize;
        let slot = self.occupied.next_set(start).or_else(|| self.occupied.next_set(0));
        let due = slot.map(|slot| self.cursor + ((slot as u64).wrapping_sub(self.cursor) & (SLOTS - 1)));
        match due.filter(|&due| due < end) {
            Some(due) => {
                self.cursor = due;
                slot.map(|slot| self.heads[slot])
            }
            None => {
                self.cursor = end;
                None
            }
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.heads.len() * 4 + self.occupied.memory_bytes()
    }

    #[cfg(test)]
    pub(super) fn heads(&self) -> impl Iterator<Item = (usize, u32)> {
        self.heads.iter().copied().enumerate().filter(|&(_, head)| head != NIL)
    }
}
