//! What goes into the mempool, what comes out, and why something is refused.

use roko_wire::{Address, NanoMoment, TxId};

/// A verified transaction to be pooled.
#[derive(Clone, Copy, Debug)]
pub struct NewTx<'a, M> {
    /// Its id.
    pub id: TxId,
    /// The recovered sender.
    pub sender: Address,
    /// The sender's nonce.
    pub nonce: u64,
    /// Attested ingress time: its place in the order.
    pub time: NanoMoment,
    /// Orders equal times: H(epoch seed, id), which a sender cannot grind.
    pub tie_break: u64,
    /// Priority when the pool is full. It never changes the order of those inside.
    pub fee: u128,
    /// Gas limit.
    pub gas: u64,
    /// Last moment it may have in a block, inclusive.
    pub valid_until: NanoMoment,
    /// What the owner wants back with it (stamp, proof); opaque here.
    pub meta: M,
    /// The transaction's bytes.
    pub bytes: &'a [u8],
}

/// What an insertion displaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// A transaction of a lower fee class that made room.
    pub evicted: Option<TxId>,
    /// The transaction of the same sender and nonce that this one replaces.
    pub replaced: Option<TxId>,
}

/// Why a transaction is not pooled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is here already.
    #[error("the transaction is already in the pool")]
    Duplicate,
    /// It is final already.
    #[error("the transaction is already final")]
    RecentlyFinal,
    /// Its window is over, or ends before its own time.
    #[error("valid_until has passed: sign it again with a later one")]
    Expired,
    /// No slot holds that many bytes.
    #[error("the transaction is larger than the largest slot of the pool")]
    TooLarge,
    /// The pool is full of transactions of its fee class or better.
    #[error("the pool is full and the fee is not above its lowest: raise the fee by an eighth or more")]
    FeeTooLow,
    /// Another transaction has this sender and nonce, and is in a block or not outbid by a tenth.
    #[error("a transaction with this nonce is pending: raise the fee by a tenth or more to replace it")]
    NonceOccupied,
    /// The sender has as many as one may have.
    #[error("the sender has too many transactions in the pool: wait for some to be included")]
    SenderLimit,
}

/// A transaction of the pool, read in place.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, M> {
    /// Its id.
    pub id: TxId,
    /// The sender.
    pub sender: Address,
    /// The sender's nonce.
    pub nonce: u64,
    /// Attested time.
    pub time: NanoMoment,
    /// Orders equal times.
    pub tie_break: u64,
    /// Priority.
    pub fee: u128,
    /// Gas limit.
    pub gas: u64,
    /// Last moment it may have.
    pub valid_until: NanoMoment,
    /// Blocks it is in flight under; 0 means pending.
    pub tags: u8,
    /// The owner's data.
    pub meta: &'a M,
    /// The transaction's bytes.
    pub bytes: &'a [u8],
}

/// A transaction on its way into a block, at its final moment.
#[derive(Clone, Copy, Debug)]
pub struct Drained<'a, M> {
    /// Its id.
    pub id: TxId,
    /// The sender.
    pub sender: Address,
    /// The sender's nonce.
    pub nonce: u64,
    /// Attested time.
    pub time: NanoMoment,
    /// Orders equal times.
    pub tie_break: u64,
    /// Its own moment in the chain, which no other transaction has.
    pub moment: NanoMoment,
    /// It follows its sender's previous nonce out of its own place in the order.
    pub displaced: bool,
    /// Gas limit.
    pub gas: u64,
    /// Priority.
    pub fee: u128,
    /// Last moment it may have.
    pub valid_until: NanoMoment,
    /// The owner's data.
    pub meta: &'a M,
    /// The transaction's bytes.
    pub bytes: &'a [u8],
}

/// The drain's sink decides on each transaction it is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes into the block and is in flight from now on.
    Take,
    /// It stays pending, and its sender's later nonces with it (a nonce or a balance that does not fit, say).
    Skip,
    /// It stays pending and the drain ends.
    Stop,
}

/// The room of a whole block. One transaction that exceeds it alone is passed over, so none blocks the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most transactions.
    pub txs: usize,
    /// Most bytes of transactions.
    pub bytes: usize,
    /// Most gas.
    pub gas: u64,
}

/// Which part of the line a drain takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Times at or after this (the parent's watermark).
    pub from: NanoMoment,
    /// Times, and moments, below this.
    pub watermark: NanoMoment,
    /// The last moment used by the parent; the first one here is later.
    pub after: NanoMoment,
}

/// Why a drain ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ended {
    /// Everything below the watermark was offered.
    #[default]
    Watermark,
    /// The next transaction does not fit the limits.
    Full,
    /// The next moment would not be below the watermark.
    MomentsUsed,
    /// The sink said so.
    Stopped,
    /// As many tags are open as can be; nothing was drained.
    TagsExhausted,
}

/// What a drain did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainReport {
    /// Transactions taken.
    pub txs: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Their gas.
    pub gas: u64,
    /// The last moment used (`after` if nothing was taken).
    pub last_moment: NanoMoment,
    /// Everything of an earlier time was offered. A block that ended early lowers its watermark to the larger of
    /// this and `last_moment + 1`, and what it left keeps its stamp for the next block.
    pub reached: NanoMoment,
    /// Why it ended.
    pub ended: Ended,
    /// Moments that differ from the attested time because it, or its place, was taken.
    pub moved: usize,
    /// Transactions that followed their predecessor out of their own place.
    pub displaced: usize,
    /// Transactions left because a lower nonce of their sender is not in a block yet.
    pub held: usize,
    /// Transactions left because their moment would be past `valid_until` or they exceed the limits alone.
    pub unfit: usize,
    /// Transactions the sink skipped.
    pub skipped: usize,
}

impl<'a, M> View<'a, M> {
    pub(super) fn drained(&self, moment: NanoMoment, displaced: bool) -> Drained<'a, M> {
        Drained {
            id: self.id,
            sender: self.sender,
            nonce: self.nonce,
            time: self.time,
            tie_break: self.tie_break,
            moment,
            displaced,
            gas: self.gas,
            fee: self.fee,
            valid_until: self.valid_until,
            meta: self.meta,
            bytes: self.bytes,
        }
    }
}
