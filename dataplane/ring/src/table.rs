//! A hash table of fixed size for what bursts of frames look up: addresses, sessions.
//!
//! A lookup costs two cache misses when there are many records. They are what it costs, so they can be asked for ahead:
//!
//! ```text
//!   hash every key of the burst,  prefetch      the index cell of each
//!                                 prefetch_record   the record of each
//!                                 get               each: by now it is in the cache
//! ```
//!
//! Hashes are keyed by a secret that the caller draws. Strangers choose what is looked up, never what is stored, and see
//! no hash. Nothing is allocated after construction; at most half the cells are used, records lie densely.

use crate::index::{Hasher, Index, NIL};
use crate::prefetch;

/// What a table is keyed by.
pub trait Key: Copy + Eq {
    /// The key as two words; different keys should differ in them.
    fn words(&self) -> [u64; 2];
}

/// A hash under a table's secret, and where the record was when it was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash {
    bits: u32,
    /// A hint: any place does no harm.
    place: u32,
}

impl Hash {
    /// As a place in one of `places` places that hashes share, a power of two.
    #[inline]
    #[must_use]
    pub const fn place_in(self, places: usize) -> usize {
        // Not the bits that the table's index uses first.
        (self.bits >> 7) as usize & (places - 1)
    }
}

/// Records by key.
pub struct Table<K, V> {
    hasher: Hasher,
    index: Index,
    records: Box<[Option<(K, V)>]>,
    /// Places that are not in use.
    free: Vec<u32>,
}

impl<K: Key, V> Table<K, V> {
    /// Room for `records` records; `secret` is a random number that nobody else knows.
    ///
    /// # Panics
    /// When there are more than 2^30 records.
    #[must_use]
    pub fn new(records: usize, secret: u64) -> Table<K, V> {
        assert!(records <= 1 << 30, "an index is 32 bits");
        Table {
            hasher: Hasher::new(secret),
            index: Index::new(records.max(1)),
            records: (0..records).map(|_| None).collect(),
            free: (0..records as u32).rev().collect(),
        }
    }

    /// A key's hash.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &K) -> Hash {
        Hash { bits: self.hasher.words(key.words()), place: NIL }
    }

    /// Asks for the index cell of a hash.
    #[inline]
    pub fn prefetch(&self, hash: Hash) {
        self.index.prefetch(hash.bits);
    }

    /// Asks for the record that probably has this hash, and notes in the hash where it is: a later lookup by it need not probe
    /// the index again.
    #[inline]
    pub fn prefetch_record(&self, hash: &mut Hash) {
        if let Some(place) = self.index.guess(hash.bits) {
            hash.place = place;
            prefetch::value(&self.records[place as usize]);
        }
    }

    #[inline]
    fn is_at(&self, place: u32, key: &K) -> bool {
        matches!(self.records.get(place as usize), Some(Some((there, _))) if there == key)
    }

    #[inline]
    fn place(&self, hash: Hash, key: &K) -> Option<u32> {
        // A record that has the key is the key's, however old the hint is.
        if self.is_at(hash.place, key) {
            return Some(hash.place);
        }
        self.index.find(hash.bits, |place| self.is_at(place, key))
    }

    /// The record of a key, whose hash is `hash`.
    #[inline]
    #[must_use]
    pub fn get(&self, hash: Hash, key: &K) -> Option<&V> {
        let place = self.place(hash, key)?;
        self.records[place as usize].as_ref().map(|(_, value)| value)
    }

    /// The same, to change.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self, hash: Hash, key: &K) -> Option<&mut V> {
        let place = self.place(hash, key)?;
        self.records[place as usize].as_mut().map(|(_, value)| value)
    }

    /// Stores a record in the place of the key's old one, if there is one. False when the table is full.
    pub fn insert(&mut self, key: K, value: V) -> bool {
        let hash = self.hash(&key);
        let place = match self.place(hash, &key) {
            Some(place) => place,
            None => {
                let Some(place) = self.free.pop() else { return false };
                self.index.insert(hash.bits, place);
                place
            }
        };
        self.records[place as usize] = Some((key, value));
        true
    }

    /// Takes a record out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let hash = self.hash(key);
        let place = self.place(hash, key)?;
        self.index.remove(hash.bits, place);
        self.free.push(place);
        self.records[place as usize].take().map(|(_, value)| value)
    }

    /// Records stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len() - self.free.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Many keys have the same words, so that hashes collide.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Coarse(u8);

    impl Key for Coarse {
        fn words(&self) -> [u64; 2] {
            [u64::from(self.0 / 4), 0]
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert(u8, u32),
        Remove(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u8..40, any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
            (0_u8..40).prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_map_with_so_much_room(
            steps in prop::collection::vec(step(), 1..300),
            room in 0_usize..24,
            secret in any::<u64>(),
        ) {
            let mut table = Table::new(room, secret);
            let mut model = BTreeMap::new();
            let mut noted: Vec<Hash> = (0..40).map(|key| table.hash(&Coarse(key))).collect();
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        let key = Coarse(key);
                        let fits = model.len() < room || model.contains_key(&key);
                        prop_assert_eq!(table.insert(key, value), fits);
                        if fits {
                            model.insert(key, value);
                        }
                    }
                    Step::Remove(key) => {
                        prop_assert_eq!(table.remove(&Coarse(key)), model.remove(&Coarse(key)));
                    }
                }
                prop_assert_eq!((table.len(), table.is_empty()), (model.len(), model.is_empty()));
                for key in (0..40).map(Coarse) {
                    // What was noted before the step is a hint that may be wrong now.
                    let hash = &mut noted[usize::from(key.0)];
                    prop_assert_eq!(table.get(*hash, &key), model.get(&key));
                    *hash = table.hash(&key);
                    table.prefetch(*hash);
                    prop_assert_eq!(table.get(*hash, &key), model.get(&key));
                    table.prefetch_record(hash);
                    let hash = *hash;
                    prop_assert_eq!(table.get(hash, &key), model.get(&key));
                    prop_assert_eq!(table.get_mut(hash, &key).copied(), model.get(&key).copied());
                }
            }
        }
    }

    #[test]
    fn different_secrets_hash_differently() {
        let of = |secret| Table::<Coarse, ()>::new(1, secret).hash(&Coarse(8));
        assert_ne!(of(1), of(2));
    }
}
