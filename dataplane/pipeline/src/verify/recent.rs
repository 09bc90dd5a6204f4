//! Transactions of the last moments, to recognise a duplicate before its signature is checked.
//!
//! Direct-mapped: a new id takes the place of whatever was there. A place compares 64 bits of the id that did not
//! choose it, and only verified transactions enter, so a false match needs a partial Keccak collision with a valid
//! transaction; whoever finds one delays a transaction of his own making.

use roko_wire::{NanoMoment, TxId};

/// How long an id is remembered. What the pool evicts may come back after that.
const REMEMBERED_NS: u64 = 10_000_000_000;

#[derive(Clone, Copy, Default)]
struct Place {
    tag: u64,
    /// Low 64 bits of the time in nanoseconds: enough for differences.
    time: u64,
}

pub(super) struct Recent {
    places: Box<[Place]>,
}

impl Recent {
    pub(super) fn new(places: usize) -> Recent {
        Recent { places: vec![Place::default(); places.next_power_of_two()].into_boxed_slice() }
    }

    fn place(&self, id: &TxId) -> (usize, u64) {
        let word = |at: usize| u64::from_le_bytes(id.0[at..at + 8].try_into().expect("eight bytes"));
        // A tag of zero would match an empty place.
        (word(0) as usize & (self.places.len() - 1), word(8) | 1)
    }

    pub(super) fn contains(&self, id: &TxId, now: NanoMoment) -> bool {
        let (index, tag) = self.place(id);
        let place = self.places[index];
        place.tag == tag
            && (now.0 as u64).wrapping_sub(place.time).cast_signed().unsigned_abs() < REMEMBERED_NS
    }

    pub(super) fn insert(&mut self, id: &TxId, now: NanoMoment) {
        let (index, tag) = self.place(id);
        self.places[index] = Place { tag, time: now.0 as u64 };
    }

    pub(super) fn forget(&mut self, id: &TxId) {
        let (index, tag) = self.place(id);
        if self.places[index].tag == tag {
            self.places[index] = Place::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_until_it_is_forgotten_replaced_or_old() {
        let mut recent = Recent::new(4);
        let id = |low: u8, high: u8| {
            let mut id = TxId::ZERO;
            (id.0[0], id.0[15]) = (low, high);
            id
        };
        let now = NanoMoment(1 << 70);
        assert!(!recent.contains(&TxId::ZERO, NanoMoment(0)));
        recent.insert(&id(1, 1), now);
        assert!(recent.contains(&id(1, 1), now) && recent.contains(&id(1, 1), now.saturating_sub(1_000)));
        assert!(!recent.contains(&id(1, 1), now.saturating_add(REMEMBERED_NS)));
        assert!(!recent.contains(&id(1, 2), now));
        recent.insert(&id(5, 2), now);
        assert!(!recent.contains(&id(1, 1), now), "4 places: ids 1 and 5 share one");
        recent.forget(&id(1, 1));
        assert!(recent.contains(&id(5, 2), now));
        recent.forget(&id(5, 2));
        assert!(!recent.contains(&id(5, 2), now));
    }
}
