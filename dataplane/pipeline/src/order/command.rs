//! What the control plane asks of the pool.

use roko_ring::mempool::{Limits, Span};
use roko_wire::{Address, Hash32, NanoMoment, TxId};

/// What the control plane asks of the pool. Commands are executed in the order given.
#[derive(Clone, Copy, Debug)]
pub enum OrderCommand {
    /// Drains candidates into a block buffer, which the builder then delivers. Waits for a free buffer, and the commands
    /// behind it wait too.
    Drain {
        /// Names the block: its transactions are in flight under it.
        tag: u64,
        /// Which part of the line.
        span: Span,
        /// How much.
        limits: Limits,
    },
    /// Another leader's block holds this transaction.
    MarkInFlight {
        /// Names the block.
        tag: u64,
        /// The transaction.
        id: TxId,
    },
    /// The block is abandoned.
    PutBack {
        /// Names the block.
        tag: u64,
    },
    /// The block is final.
    Finalize {
        /// Names the block.
        tag: u64,
        /// The control plane's clock.
        now: NanoMoment,
    },
    /// One transaction is final.
    FinalizeId {
        /// The transaction.
        id: TxId,
        /// Until when it must be remembered.
        valid_until: NanoMoment,
        /// The control plane's clock.
        now: NanoMoment,
    },
    /// A drained transaction that its block leaves out after all is pending again, if no other block holds it. Sent
    /// before the block's tag is finalised, which otherwise makes everything drained under it final.
    Return {
        /// The transaction.
        id: TxId,
    },
    /// Removes a transaction.
    Remove {
        /// The transaction.
        id: TxId,
    },
    /// Removes a sender's pending transactions below its next nonce by the state.
    DropBelow {
        /// The sender.
        sender: Address,
        /// Its next nonce.
        nonce: u64,
    },
    /// The parent's watermark: what is below it and not in flight is stamped anew.
    Watermark {
        /// The watermark; it only goes up.
        watermark: NanoMoment,
    },
    /// The epoch's seed of the tie-break.
    Seed {
        /// The seed.
        seed: Hash32,
    },
}
