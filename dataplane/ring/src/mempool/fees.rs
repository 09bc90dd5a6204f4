//! The eviction order: pending transactions in lists by byte class and fee class.
//!
//! A fee class is an eighth of an octave, so linking, unlinking and finding the lowest are O(1). Within a class
//! the newest arrival goes first: who came earlier keeps the place, and equal bids do not churn the pool.

use super::bitmap::Bitmap;
use super::config::SLOT_CLASSES;
use super::slots::{FEE, Slots, push_front, unlink};
use crate::index::NIL;

/// Fees 0 to 7 have a class each; above, eight classes an octave up to 2^128.
const FEE_CLASSES: usize = 8 + 125 * 8;

/// The class of a fee: its floating-point form with three bits of mantissa.
#[must_use]
pub fn fee_class(fee: u128) -> u16 {
    if fee < 8 {
        return fee as u16;
    }
    let exponent = fee.ilog2();
    ((exponent - 2) * 8) as u16 + ((fee >> (exponent - 3)) & 7) as u16
}

pub(super) struct Fees {
    heads: Box<[u32]>,
    occupied: Bitmap,
}

impl Fees {
    pub(super) fn new() -> Fees {
        let lists = FEE_CLASSES * SLOT_CLASSES;
        Fees { heads: vec![NIL; lists].into(), occupied: Bitmap::new(lists) }
    }

    fn list_of<M: Copy>(slots: &Slots<M>, entry: u32) -> usize {
        let byte_class = usize::from(slots.cold[entry as usize].byte_class);
        byte_class * FEE_CLASSES + usize::from(slots.hot[entry as usize].fee_class)
    }

    #[inline]
    pub(super) fn link<M: Copy>(&mut self, slots: &mut Slots<M>, entry: u32) {
        let list = Fees::list_of(slots, entry);
        push_front::<FEE>(&mut slots.hot, &mut self.heads[list], entry);
        self.occupied.set(list);
    }

    #[inline]
    pub(super) fn unlink<M: Copy>(&mut self, slots: &mut Slots<M>, entry: u32) {
        let list = Fees::list_of(slots, entry);
        unlink::<FEE>(&mut slots.hot, &mut self.heads[list], entry);
        if self.heads[list] == NIL {
            self.occupied.clear(list);
        }
    }

    /// The newest entry of the lowest fee class among the byte classes from `byte_class` up.
    pub(super) fn lowest(&self, byte_class: usize) -> Option<u32> {
        let lowest = |class: usize| {
            let list = self.occupied.next_set(class * FEE_CLASSES)?;
            (list < (class + 1) * FEE_CLASSES).then_some((list - class * FEE_CLASSES, self.heads[list]))
        };
        let candidates = (byte_class..SLOT_CLASSES).filter_map(lowest);
        candidates.min_by_key(|&(fee_class, _)| fee_class).map(|(_, entry)| entry)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.heads.len() * 4 + self.occupied.memory_bytes()
    }

    #[cfg(test)]
    pub(super) fn heads(&self) -> impl Iterator<Item = (usize, usize, u32)> {
        self.heads.iter().enumerate().map(|(list, &head)| (list / FEE_CLASSES, list % FEE_CLASSES, head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_extremes_have_a_list() {
        assert_eq!(fee_class(0), 0);
        assert_eq!(fee_class(7), 7);
        assert_eq!(fee_class(8), 8);
        assert_eq!(usize::from(fee_class(u128::MAX)), FEE_CLASSES - 1);
    }

    proptest! {
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
