//! Where things are: height, block id and transaction id to the record that holds them.
//!
//! The index is in memory, shared by the writer and all readers, and rebuilt from the records at open. Block
//! entries are about 64 bytes a block. Transaction entries are about 100 bytes each and bounded: past the limit
//! the oldest blocks' transactions are forgotten, whole blocks at a time.

use roko_wire::{BlockId, Height, TxId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

/// Shards of a map: readers of different keys seldom wait for the writer.
const SHARDS: usize = 16;

/// Where a block's record is.
#[derive(Debug)]
pub(crate) struct Location {
    pub(crate) segment: u32,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// Whether a read has checked the record's hash in this process.
    checked: AtomicBool,
}

impl Location {
    pub(crate) const fn new(segment: u32, offset: u64, bytes: u64) -> Location {
        Location { segment, offset, bytes, checked: AtomicBool::new(false) }
    }
}

/// A map in shards, by a byte of the key, which is a hash.
struct Sharded<V> {
    shards: [RwLock<HashMap<[u8; 32], V>>; SHARDS],
}

impl<V: Copy> Sharded<V> {
    fn new() -> Sharded<V> {
        Sharded { shards: core::array::from_fn(|_| RwLock::new(HashMap::new())) }
    }

    /// The last byte chooses: nothing orders keys by it.
    fn shard(&self, key: &[u8; 32]) -> &RwLock<HashMap<[u8; 32], V>> {
        &self.shards[usize::from(key[31]) % SHARDS]
    }

    fn insert(&self, key: [u8; 32], value: V) {
        self.shard(&key).write().unwrap_or_else(PoisonError::into_inner).insert(key, value);
    }

    fn remove_if(&self, key: &[u8; 32], condition: impl Fn(V) -> bool) {
        let mut map = self.shard(key).write().unwrap_or_else(PoisonError::into_inner);
        if map.get(key).copied().is_some_and(condition) {
            map.remove(key);
        }
    }

    fn get(&self, key: &[u8; 32]) -> Option<V> {
        self.shard(key).read().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }
}

/// The index of a store.
pub(crate) struct Index {
    /// The height that the store begins from: block h is at h - base - 1.
    base: u64,
    blocks: RwLock<Vec<Location>>,
    ids: Sharded<u64>,
    transactions: Sharded<(u64, u32)>,
}

impl Index {
    /// The index of a store that begins from height `base`, which has no record.
    pub(crate) fn new(base: u64) -> Index {
        Index { base, blocks: RwLock::new(Vec::new()), ids: Sharded::new(), transactions: Sharded::new() }
    }

    /// Adds the next block.
    pub(crate) fn add_block(&self, id: BlockId, location: Location) -> u64 {
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        blocks.push(location);
        let height = self.base + blocks.len() as u64;
        drop(blocks);
        self.ids.insert(id.0, height);
        height
    }

    /// The height that the store begins from.
    pub(crate) const fn base(&self) -> u64 {
        self.base
    }

    /// Genesis, and what a store begins from, have a height and no record.
    pub(crate) fn set_height(&self, id: BlockId, height: u64) {
        self.ids.insert(id.0, height);
    }

    fn place_of(&self, height: u64) -> Option<usize> {
        usize::try_from(height.checked_sub(self.base)?.checked_sub(1)?).ok()
    }

    /// Adds a block's transactions, in block order.
    pub(crate) fn add_transactions(&self, height: u64, ids: &[TxId]) {
        for (position, id) in (0_u32..).zip(ids) {
            self.transactions.insert(id.0, (height, position));
        }
    }

    /// Forgets a block's transactions.
    pub(crate) fn forget_transactions(&self, height: u64, ids: &[TxId]) {
        ids.iter().for_each(|id| self.transactions.remove_if(&id.0, |(at, _)| at == height));
    }

    pub(crate) fn height_of(&self, id: &BlockId) -> Option<u64> {
        self.ids.get(&id.0)
    }

    pub(crate) fn transaction(&self, id: &TxId) -> Option<(Height, u32)> {
        self.transactions.get(&id.0).map(|(height, position)| (Height(height), position))
    }

    /// Segment, offset and length of a block's record, and whether its hash was checked before.
    pub(crate) fn locate(&self, height: u64) -> Option<(u32, u64, u64, bool)> {
        let blocks = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
        let location = blocks.get(self.place_of(height)?)?;
        let checked = location.checked.load(Ordering::Relaxed);
        Some((location.segment, location.offset, location.bytes, checked))
    }

    /// Remembers that a block's record has been checked. A race only checks it twice.
    pub(crate) fn set_checked(&self, height: u64) {
        let blocks = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(location) = self.place_of(height).and_then(|index| blocks.get(index)) {
            location.checked.store(true, Ordering::Relaxed);
        }
    }
}
