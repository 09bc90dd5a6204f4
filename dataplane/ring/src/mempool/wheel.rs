//! The time index of pending transactions: a wheel of ticks, each tick a pairing heap.
//!
//! ```text
//!        late            the wheel: one heap a tick                 overflow
//!   ... < base  |  base, base+1, ... base+ticks-1  |  >= base+ticks ...
//!                        ^ a quarter back   ^ the watermark moves on
//! ```
//!
//! Stamps lie near now, so an insertion is O(1): it finds its tick and compares with one root. Ticks are narrow, so most
//! hold one transaction, and only the part of the wheel about now is touched. A heap instead of a list makes a tick crowded on purpose cost O(log n) a transaction, not O(n). What lies outside the window is
//! in one of two heaps, so no time, however far off, is lost or needs a scan. Only `advance` moves the base, and
//! a whole tick becomes late by one meld.

use super::bitmap::Bitmap;
use super::heap;
use super::slots::Slots;
use crate::index::NIL;
use roko_wire::NanoMoment;

/// Ticks saturate here; leaves room for window arithmetic.
const TICK_MAX: u64 = u64::MAX / 2;

pub(super) struct Wheel {
    roots: Box<[u32]>,
    occupied: Bitmap,
    pub(super) late: u32,
    pub(super) overflow: u32,
    pub(super) base: u64,
    anchored: bool,
    tick_ns_log2: u32,
}

/// Which heap a time belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    Late,
    Tick(usize),
    Overflow,
}

impl Wheel {
    pub(super) fn new(ticks: usize, tick_ns_log2: u32) -> Wheel {
        Wheel {
            roots: vec![NIL; ticks].into(),
            occupied: Bitmap::new(ticks),
            late: NIL,
            overflow: NIL,
            base: 0,
            anchored: false,
            tick_ns_log2,
        }
    }

    fn ticks(&self) -> u64 {
        self.roots.len() as u64
    }

    pub(super) fn tick(&self, time: u128) -> u64 {
        u64::try_from(time >> self.tick_ns_log2).unwrap_or(TICK_MAX).min(TICK_MAX)
    }

    #[inline]
    pub(super) fn home(&self, time: u128) -> Home {
        let tick = self.tick(time);
        if tick < self.base {
            Home::Late
        } else if tick - self.base < self.ticks() {
            Home::Tick((tick & (self.ticks() - 1)) as usize)
        } else {
            Home::Overflow
        }
    }

    /// Sets the window around the owner's clock before the first transaction arrives.
    #[inline]
    pub(super) fn anchor<M: Copy>(&mut self, slots: &mut Slots<M>, now: NanoMoment) {
        if !self.anchored {
            self.advance(slots, now);
        }
    }

    /// Moves the window so that `from` is a quarter into it; never backwards.
    pub(super) fn advance<M: Copy>(&mut self, slots: &mut Slots<M>, from: NanoMoment) {
        self.anchored = true;
        let target = self.tick(from.0).saturating_sub(self.ticks() / 4).min(TICK_MAX - self.ticks());
        if target <= self.base {
            return;
        }
        while let Some(tick) = self.next_tick(self.base).filter(|&tick| tick < target) {
            let slot = (tick & (self.ticks() - 1)) as usize;
            self.late = heap::meld(slots, self.late, self.roots[slot]);
            self.roots[slot] = NIL;
            self.occupied.clear(slot);
        }
        self.base = target;
        while self.overflow != NIL {
            let entry = self.overflow;
            if self.home(slots.hot[entry as usize].time) == Home::Overflow {
                break;
            }
            heap::pop(slots, &mut self.overflow);
            self.insert(slots, entry);
        }
    }

    #[inline]
    pub(super) fn insert<M: Copy>(&mut self, slots: &mut Slots<M>, entry: u32) {
        match self.home(slots.hot[entry as usize].time) {
            Home::Late => heap::insert(slots, &mut self.late, entry),
            Home::Overflow => heap::insert(slots, &mut self.overflow, entry),
            Home::Tick(slot) => {
                self.occupied.set(slot);
                heap::insert(slots, &mut self.roots[slot], entry);
            }
        }
    }

    #[inline]
    pub(super) fn remove<M: Copy>(&mut self, slots: &mut Slots<M>, entry: u32) {
        match self.home(slots.hot[entry as usize].time) {
            Home::Late => heap::remove(slots, &mut self.late, entry),
            Home::Overflow => heap::remove(slots, &mut self.overflow, entry),
            Home::Tick(slot) => {
                heap::remove(slots, &mut self.roots[slot], entry);
                if self.roots[slot] == NIL {
                    self.occupied.clear(slot);
                }
            }
        }
    }

    /// The first occupied tick of the window at or after `from`.
    fn next_tick(&self, from: u64) -> Option<u64> {
        let mask = self.ticks() - 1;
        let from = from.max(self.base);
        if from - self.base > mask {
            return None;
        }
        let start = (from & mask) as usize;
        let slot = match self.occupied.next_set(start) {
            Some(slot) => slot,
            None => self.occupied.next_set(0).filter(|&slot| slot < start)?,
        };
        let tick = self.base + ((slot as u64).wrapping_sub(self.base) & mask);
        (tick >= from).then_some(tick)
    }

    /// The first occupied tick after `cursor` and its earliest entry; late ones and those beyond the window are left out.
    #[inline]
    pub(super) fn tick_after(&self, cursor: u64) -> Option<(u64, u32)> {
        let tick = self.next_tick(cursor + 1)?;
        Some((tick, self.root(tick)))
    }

    /// The earliest entry of a tick from the base on, or `NIL`; also if it is beyond the window.
    #[inline]
    pub(super) fn root(&self, tick: u64) -> u32 {
        match tick - self.base < self.ticks() {
            true => self.roots[(tick & (self.ticks() - 1)) as usize],
            false => NIL,
        }
    }

    /// The earliest entry of all.
    pub(super) fn first(&self) -> Option<u32> {
        if self.late != NIL {
            return Some(self.late);
        }
        match self.next_tick(self.base) {
            Some(tick) => Some(self.root(tick)),
            None => (self.overflow != NIL).then_some(self.overflow),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.roots.len() * 4 + self.occupied.memory_bytes()
    }

    /// Every heap's root with its home.
    #[cfg(test)]
    pub(super) fn heaps(&self) -> impl Iterator<Item = (Home, u32)> {
        for slot in 0..self.roots.len() {
            assert_eq!(
                self.roots[slot] != NIL,
                self.occupied.next_set(slot) == Some(slot),
                "bitmap of {slot}"
            );
        }
        let ticks = self.roots.iter().enumerate().map(|(slot, &root)| (Home::Tick(slot), root));
        ticks.chain([(Home::Late, self.late), (Home::Overflow, self.overflow)])
    }
}
