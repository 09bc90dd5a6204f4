//! Sizes of the mempool, fixed at construction.

use roko_wire::limits::TX_BYTES_MAX;

/// Most tags (blocks) one transaction can be in flight under at once: competing blocks of neighbouring views.
pub const TAGS_PER_TX_MAX: usize = 4;

/// Classes of byte slots; a transaction takes the smallest free slot that holds it.
pub const SLOT_CLASSES: usize = 3;

/// Byte slots of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotClass {
    /// Bytes of each slot.
    pub slot_bytes: usize,
    /// Slots of this size.
    pub slots: usize,
}

/// Sizes of a [`Mempool`](super::Mempool).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Byte slots by ascending size. Their total is the most transactions the pool holds.
    pub classes: [SlotClass; SLOT_CLASSES],
    /// Width of a tick of the time wheel, as a power of two of nanoseconds. About the time between two transactions suits:
    /// those of one tick are sorted, those of different ticks stand in order by themselves.
    pub tick_ns_log2: u32,
    /// Ticks of the wheel, a power of two. What lies outside the window costs O(log n) instead of O(1).
    pub ticks: usize,
    /// Hashes of finalised transactions remembered; beyond it the oldest are forgotten early, and counted.
    pub remembered_max: usize,
    /// Most transactions of one sender.
    pub sender_txs_max: u16,
    /// Most tags open at once.
    pub tags_max: usize,
    /// Secret seed of the hash tables, drawn at start-up, so that nobody can aim for collisions.
    pub seed: u64,
    /// Touches every page at construction, so that no page fault falls on the hot path.
    pub prefault: bool,
}

impl Config {
    /// A pool of `txs` transactions: five in eight up to 256 bytes (a transfer takes 245 with an ed25519 key), a quarter up to
    /// 512, and an eighth of any size. A window of a million ticks of 1,024 ns, a little over a second.
    #[must_use]
    pub fn for_txs(txs: usize, seed: u64) -> Config {
        let (large, medium) = ((txs / 8).max(1), (txs / 4).max(1));
        let small = txs.saturating_sub(large + medium).max(1);
        Config {
            classes: [
                SlotClass { slot_bytes: 256, slots: small },
                SlotClass { slot_bytes: 512, slots: medium },
                SlotClass { slot_bytes: TX_BYTES_MAX, slots: large },
            ],
            tick_ns_log2: 10,
            ticks: 1 << 20,
            remembered_max: txs * 4,
            sender_txs_max: 64,
            tags_max: 256,
            seed,
            prefault: false,
        }
    }

    /// The most transactions the pool holds.
    #[must_use]
    pub fn txs_max(&self) -> usize {
        self.classes.iter().map(|class| class.slots).sum()
    }

    /// Checks that the sizes fit together.
    ///
    /// # Errors
    /// Names the first setting that does not, and what it must be.
    pub fn check(&self) -> Result<(), ConfigError> {
        // Two free indices above the entries and the remembered hashes stand for "none" in the hash index. A place in the
        // eviction order and one of a transaction's tags take four bits and two more than an entry.
        let indices = self.txs_max().saturating_add(self.remembered_max);
        if self.txs_max() == 0 || indices > u32::MAX as usize / 4 || self.txs_max() >= super::fees::LINES_MAX
        {
            return Err(ConfigError::Indices(indices));
        }
        if !self.classes.is_sorted_by(|a, b| a.slot_bytes < b.slot_bytes)
            || self.classes.iter().any(|class| class.slot_bytes > u16::MAX.into())
        {
            return Err(ConfigError::Classes);
        }
        if !(10..=40).contains(&self.tick_ns_log2) {
            return Err(ConfigError::Tick(self.tick_ns_log2));
        }
        if !self.ticks.is_power_of_two() || !(8..=1 << 20).contains(&self.ticks) {
            return Err(ConfigError::Ticks(self.ticks));
        }
        if self.tags_max == 0 || self.tags_max > usize::from(u16::MAX) {
            return Err(ConfigError::Tags(self.tags_max));
        }
        if self.sender_txs_max == 0 || self.remembered_max == 0 {
            return Err(ConfigError::Zero);
        }
        Ok(())
    }
}

/// Sizes that do not fit together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The pool is empty, or its indices cannot name everything in it.
    #[error(
        "{0} transactions and remembered hashes: use 1 to 1,073,741,823, of which 1 to 268,435,455 transactions"
    )]
    Indices(usize),
    /// Slot sizes out of order or too large.
    #[error("byte slots must be listed by ascending size, at most 65,535 bytes each")]
    Classes,
    /// The tick's width is out of range.
    #[error("a tick of 2^{0} ns: tick_ns_log2 must be 10 to 40")]
    Tick(u32),
    /// The wheel's length is not usable.
    #[error("{0} ticks: use a power of two from 8 to 1,048,576")]
    Ticks(usize),
    /// The number of tags is out of range.
    #[error("{0} tags: tags_max must be 1 to 65,535")]
    Tags(usize),
    /// A limit is zero.
    #[error("sender_txs_max and remembered_max must be at least 1")]
    Zero,
}
