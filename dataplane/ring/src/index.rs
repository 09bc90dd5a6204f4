//! A fixed open-addressing hash table from a keyed 32-bit hash to an index; the keys stay where they are.
//!
//! Linear probing with backward-shift deletion, so that there are no tombstones and no rebuild. At most half the
//! cells are used. A cell keeps the hash beside the index: a probe touches the key's record only on a match.

use roko_wire::{Address, TxId};

/// No index.
pub(crate) const NIL: u32 = u32::MAX;

pub(crate) struct Index {
    /// Hash in the high half, index in the low half; [`EMPTY`] if unused.
    cells: Box<[u64]>,
    mask: usize,
    len: usize,
}

const EMPTY: u64 = u64::MAX;

impl Index {
    /// A table for at most `keys` keys.
    pub(crate) fn new(keys: usize) -> Index {
        let cells = (keys * 2).next_power_of_two();
        Index { cells: vec![EMPTY; cells].into(), mask: cells - 1, len: 0 }
    }

    /// The index under `hash` for which `is_it` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = hash as usize & self.mask;
        loop {
            let cell = self.cells[at];
            if cell == EMPTY {
                return None;
            }
            if (cell >> 32) as u32 == hash && is_it(cell as u32) {
                return Some(cell as u32);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Asks for the memory in which a probe for `hash` begins.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u32) {
        crate::prefetch::value(&self.cells[hash as usize & self.mask]);
    }

    /// The first index under `hash`, which is the right one unless two hashes are equal.
    #[inline]
    pub(crate) fn guess(&self, hash: u32) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// Adds an index; the caller has seen that its key is absent.
    #[inline]
    pub(crate) fn insert(&mut self, hash: u32, index: u32) {
        debug_assert!(index != NIL && self.len * 2 < self.cells.len() + 2, "the table is sized for its keys");
        let mut at = hash as usize & self.mask;
        while self.cells[at] != EMPTY {
            at = (at + 1) & self.mask;
        }
        self.cells[at] = u64::from(hash) << 32 | u64::from(index);
        self.len += 1;
    }

    /// Puts another index, of the same key, in the place of one that is present.
    #[inline]
    pub(crate) fn replace(&mut self, hash: u32, index: u32, by: u32) {
        let wanted = u64::from(hash) << 32 | u64::from(index);
        let mut at = hash as usize & self.mask;
        while self.cells[at] != wanted {
            debug_assert_ne!(self.cells[at], EMPTY, "only a present key is replaced");
            if self.cells[at] == EMPTY {
                return;
            }
            at = (at + 1) & self.mask;
        }
        self.cells[at] = u64::from(hash) << 32 | u64::from(by);
    }

    /// Removes an index that is present, and closes the gap so that every probe still ends at a free cell.
    pub(crate) fn remove(&mut self, hash: u32, index: u32) {
        let wanted = u64::from(hash) << 32 | u64::from(index);
        let mut gap = hash as usize & self.mask;
        while self.cells[gap] != wanted {
            debug_assert_ne!(self.cells[gap], EMPTY, "only a present key is removed");
            if self.cells[gap] == EMPTY {
                return;
            }
            gap = (gap + 1) & self.mask;
        }
        let mut at = gap;
        loop {
            at = (at + 1) & self.mask;
            let cell = self.cells[at];
            if cell == EMPTY {
                break;
            }
            let home = (cell >> 32) as usize & self.mask;
            // The cell may move to the gap unless its home lies cyclically after the gap.
            if (at.wrapping_sub(home) & self.mask) >= (at.wrapping_sub(gap) & self.mask) {
                self.cells[gap] = cell;
                gap = at;
            }
        }
        self.cells[gap] = EMPTY;
        self.len -= 1;
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.cells.len() * 8
    }
}

/// The secret of the tables' hash: folded multiplications over the key's words (as in wyhash).
pub(crate) struct Hasher {
    keys: [u64; 5],
}

impl Hasher {
    pub(crate) fn new(seed: u64) -> Hasher {
        let mut state = seed;
        Hasher { keys: core::array::from_fn(|_| split_mix(&mut state)) }
    }

    #[inline]
    pub(crate) fn id(&self, id: &TxId) -> u32 {
        let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|byte| id.0[at * 8 + byte]));
        let [a, b, c, d, _] = self.keys;
        // Ids are hashes: nothing is left to spread.
        ((fold(word(0) ^ a, word(1) ^ b) ^ fold(word(2) ^ c, word(3) ^ d)) >> 16) as u32
    }

    #[inline]
    pub(crate) fn sender(&self, sender: &Address) -> u32 {
        let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|byte| sender.0[at * 8 + byte]));
        let last = u32::from_le_bytes(core::array::from_fn(|byte| sender.0[16 + byte]));
        let [a, b, c, d, e] = self.keys;
        finish(fold(word(0) ^ b, word(1) ^ c) ^ fold(u64::from(last) ^ d, a), e)
    }

    /// A key of two words.
    #[inline]
    pub(crate) fn words(&self, [first, second]: [u64; 2]) -> u32 {
        let [a, b, _, d, e] = self.keys;
        finish(fold(first ^ a, second ^ b) ^ second.wrapping_mul(d | 1), e)
    }

    #[inline]
    pub(crate) fn tag(&self, tag: u64) -> u32 {
        finish(fold(tag ^ self.keys[3], self.keys[0]), self.keys[4])
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn finish(value: u64, key: u64) -> u32 {
    (fold(value ^ key, 0x9E37_79B9_7F4A_7C15 ^ key.rotate_left(32)) >> 16) as u32
}

/// SplitMix64 (Steele, Lea, Flood 2014): expands one seed into independent words.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Hashes from a tiny range pile up in long runs that wrap around the table's end.
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec((any::<bool>(), 0_u32..16), 1..200)) {
            let mut table = Index::new(16);
            let mut model = BTreeMap::new();
            let hash = |key: u32| key % 3 + 29;
            for (add, key) in steps {
                if add && !model.contains_key(&key) {
                    table.insert(hash(key), key);
                    model.insert(key, ());
                } else if !add && model.remove(&key).is_some() {
                    table.remove(hash(key), key);
                }
                for key in 0..16 {
                    prop_assert_eq!(table.find(hash(key), |index| index == key).is_some(), model.contains_key(&key));
                }
                prop_assert_eq!(table.len(), model.len());
            }
        }
    }
}
