//! The eviction order: pending transactions in lists by byte class and fee class.
//!
//! A fee class is an eighth of an octave, so linking, unlinking and finding the lowest are O(1). Within a class
//! the newest arrival goes first: who came earlier keeps the place, and equal bids do not churn the pool.
//!
//! A list is a chain of lines, each with up to twelve entries from the oldest up. Who leaves makes a hole, and an empty line
//! is free again. So neighbours in a class are never touched, which would be a cache miss each: an entry that arrives
//! writes to the line at its class's end, and those that leave in about the order of arrival share few lines.

use super::bitmap::Bitmap;
use super::config::SLOT_CLASSES;
use super::slots::{Slots, touch};
use crate::index::NIL;
use crate::prefetch;

/// Fees 0 to 7 have a class each; above, eight classes an octave up to 2^128.
const FEE_CLASSES: usize = 8 + 125 * 8;

/// Entries of a line.
const LINE_ENTRIES: usize = 12;
/// A place is a line and one of its entries in as many low bits.
const AT_LOG2: u32 = 4;
/// Most lines that a place can name.
pub(super) const LINES_MAX: usize = 1 << (32 - AT_LOG2);

/// The class of a fee: its floating-point form with three bits of mantissa.
#[inline]
#[must_use]
pub fn fee_class(fee: u128) -> u16 {
    if fee < 8 {
        return fee as u16;
    }
    let exponent = fee.ilog2();
    ((exponent - 2) * 8) as u16 + ((fee >> (exponent - 3)) & 7) as u16
}

/// Part of a list; never empty while it is in one.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line {
    entries: [u32; LINE_ENTRIES],
    older: u32,
    newer: u32,
    list: u16,
    /// Bit i says that `entries[i]` is one.
    live: u16,
}

const _: () = assert!(size_of::<Line>() == 64 && LINE_ENTRIES <= 1 << AT_LOG2);
const _: () = assert!(FEE_CLASSES * SLOT_CLASSES <= u16::MAX as usize);

impl Line {
    /// Where the newest of a line stands that is not empty.
    fn newest(&self) -> usize {
        15 - self.live.leading_zeros() as usize
    }
}

pub(super) struct Fees {
    /// The newest line of each list.
    heads: Box<[u32]>,
    occupied: Bitmap,
    /// As many as entries: each line in a list has one at least.
    lines: Vec<Line>,
    free: Vec<u32>,
}

impl Fees {
    pub(super) fn new(txs: usize, prefault: bool) -> Fees {
        let lists = FEE_CLASSES * SLOT_CLASSES;
        let mut lines = Vec::with_capacity(txs);
        if prefault {
            touch(&mut lines);
        }
        Fees {
            heads: vec![NIL; lists].into(),
            occupied: Bitmap::new(lists),
            lines,
            free: Vec::with_capacity(txs),
        }
    }

    /// Adds an entry as the newest of its class.
    #[inline]
    pub(super) fn link<M: Copy>(&mut self, slots: &mut Slots<M>, entry: u32) {
        let cold = &slots.cold[entry as usize];
        let list = usize::from(cold.byte_class) * FEE_CLASSES + usize::from(fee_class(cold.fee));
        let head = self.heads[list];
        let (line, at) = match head {
            NIL => (self.add_line(list, NIL), 0),
            head => match self.lines[head as usize].newest() + 1 {
                LINE_ENTRIES => (self.add_line(list, head), 0),
                at => (head, at),
            },
        };
        let record = &mut self.lines[line as usize];
        record.entries[at] = entry;
        record.live |= 1 << at;
        slots.hot[entry as usize].fee_at = line << AT_LOG2 | at as u32;
    }

    fn add_line(&mut self, list: usize, older: u32) -> u32 {
        let record = Line { entries: [NIL; LINE_ENTRIES], older, newer: NIL, list: list as u16, live: 0 };
        let line = match self.free.pop() {
            Some(line) => {
                self.lines[line as usize] = record;
                line
            }
            None => {
                self.lines.push(record);
                self.lines.len() as u32 - 1
            }
        };
        match older {
            NIL => self.occupied.set(list),
            older => self.lines[older as usize].newer = line,
        }
        self.heads[list] = line;
        line
    }

    #[inline]
    pub(super) fn unlink<M: Copy>(&mut self, slots: &Slots<M>, entry: u32) {
        let fee_at = slots.hot[entry as usize].fee_at;
        let line = fee_at >> AT_LOG2;
        let record = &mut self.lines[line as usize];
        record.live &= !(1 << (fee_at & ((1 << AT_LOG2) - 1)));
        if record.live == 0 {
            self.remove_line(line);
        }
    }

    fn remove_line(&mut self, line: u32) {
        let Line { older, newer, list, .. } = self.lines[line as usize];
        match newer {
            NIL => self.heads[usize::from(list)] = older,
            newer => self.lines[newer as usize].older = older,
        }
        match older {
            NIL if newer == NIL => self.occupied.clear(list.into()),
            NIL => {}
            older => self.lines[older as usize].newer = newer,
        }
        self.free.push(line);
    }

    /// Asks for the line at the end of a list, where [`Fees::link`] writes.
    #[inline]
    pub(super) fn ask_for_end(&self, byte_class: usize, fee: u128) {
        let head = self.heads[byte_class * FEE_CLASSES + usize::from(fee_class(fee))];
        if let Some(line) = self.lines.get(head as usize) {
            prefetch::value(line);
        }
    }

    /// Asks for the line of an entry, which is pending.
    #[inline]
    pub(super) fn prefetch(&self, fee_at: u32) {
        // A hint may be stale.
        if let Some(line) = self.lines.get((fee_at >> AT_LOG2) as usize) {
            prefetch::value(line);
        }
    }

    /// The newest entry of the lowest fee class among the byte classes from `byte_class` up.
    pub(super) fn lowest(&self, byte_class: usize) -> Option<u32> {
        let lowest = |class: usize| {
            let list = self.occupied.next_set(class * FEE_CLASSES)?;
            (list < (class + 1) * FEE_CLASSES).then_some((list - class * FEE_CLASSES, self.heads[list]))
        };
        let candidates = (byte_class..SLOT_CLASSES).filter_map(lowest);
        candidates.min_by_key(|&(fee_class, _)| fee_class).map(|(_, head)| {
            let line = &self.lines[head as usize];
            line.entries[line.newest()]
        })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.heads.len() * 4
            + self.occupied.memory_bytes()
            + self.lines.capacity() * size_of::<Line>()
            + self.free.capacity() * 4
    }

    /// Every entry with its byte class, its fee class and its place, the newest first.
    #[cfg(test)]
    pub(super) fn entries(&self) -> Vec<(usize, usize, u32, u32)> {
        let mut all = Vec::new();
        for (list, &head) in self.heads.iter().enumerate() {
            assert_eq!(head != NIL, self.occupied.next_set(list) == Some(list), "bitmap of {list}");
            let (mut line, mut newer) = (head, NIL);
            while line != NIL {
                let record = &self.lines[line as usize];
                assert_eq!((record.newer, usize::from(record.list)), (newer, list));
                assert_ne!(record.live, 0, "a line in a list holds an entry");
                for at in (0..LINE_ENTRIES).rev().filter(|at| record.live >> at & 1 == 1) {
                    let place = line << AT_LOG2 | at as u32;
                    all.push((list / FEE_CLASSES, list % FEE_CLASSES, record.entries[at], place));
                }
                (newer, line) = (line, record.older);
            }
        }
        all
    }

    /// Lines in lists.
    #[cfg(test)]
    pub(super) fn lines_used(&self) -> usize {
        self.lines.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mempool::slots::{Cold, Hot};
    use proptest::prelude::*;

    #[test]
    fn the_extremes_have_a_list() {
        assert_eq!(fee_class(0), 0);
        assert_eq!(fee_class(7), 7);
        assert_eq!(fee_class(8), 8);
        assert_eq!(usize::from(fee_class(u128::MAX)), FEE_CLASSES - 1);
    }

    /// A pool's entries, of which only what the eviction order reads is set.
    fn entries(fees: &[u8]) -> Slots<()> {
        let config = crate::mempool::Config::for_txs(1_000, 1);
        let mut slots = Slots::new(&config);
        for &fee in fees {
            let cold = Cold { fee: fee.into(), ..Cold::EMPTY };
            slots.allocate(usize::from(fee % 2), Hot::new(0, 0, 0), cold, (), &[]);
        }
        slots
    }

    proptest! {
        /// Few classes and many entries, so that lists are many lines long, against a list each.
        #[test]
        fn the_lowest_is_the_newest_of_the_lowest_class(
            fees in prop::collection::vec(0_u8..4, 200),
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..600),
        ) {
            let mut slots = entries(&fees);
            let (mut order, mut model) = (Fees::new(fees.len(), false), Vec::<u32>::new());
            for (link, index) in steps {
                if link {
                    let entry = index.index(fees.len()) as u32;
                    if !model.contains(&entry) {
                        order.link(&mut slots, entry);
                        model.push(entry);
                    }
                } else if !model.is_empty() {
                    let entry = model.remove(index.index(model.len()));
                    order.unlink(&slots, entry);
                }
                for class in 0..2 {
                    let fits = |entry: &&u32| usize::from(slots.cold[**entry as usize].byte_class) >= class;
                    // Of equal fees the last one is the newest; a smaller byte class goes first.
                    let key = |entry: &&u32| {
                        let cold = &slots.cold[**entry as usize];
                        (cold.fee, cold.byte_class)
                    };
                    let lowest = model.iter().rev().filter(fits).min_by_key(key).copied();
                    prop_assert_eq!(order.lowest(class), lowest);
                }
                let mut linked: Vec<u32> = order.entries().into_iter().map(|(.., entry, _)| entry).collect();
                let mut expected = model.clone();
                linked.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(linked, expected);
                prop_assert!(order.lines_used() <= model.len());
            }
        }

        #[test]
        fn classes_keep_the_order_and_an_eighth_more_is_higher(a in any::<u128>(), shift in 0_u32..128, b in any::<u128>()) {
            let (a, b) = (a >> shift, b >> shift);
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(fee_class(low) <= fee_class(high));
            if let Some(raised) = low.checked_add(low / 8 + 1) {
                prop_assert!(fee_class(raised) > fee_class(low));
            }
        }
    }
}
