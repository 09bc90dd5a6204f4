//! What the replica asks of the data plane. The node implements it with the rings of a pipeline; a test with vectors.

use roko_pipeline::block_buffer::BlockBuffer;
use roko_pipeline::spread::SpreadBlock;
use roko_wire::frame::PriorityClass;
use roko_wire::{NanoMoment, TxId, ValidatorIndex};
use std::sync::Arc;

/// Whom a message goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every other validator.
    Validators,
    /// One validator.
    One(ValidatorIndex),
}

/// A drain of the temporal mempool into a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainRequest {
    /// Names the block in the mempool.
    pub tag: u64,
    /// First moment that a stamp may have: the parent's watermark.
    pub from: NanoMoment,
    /// Stamps and moments lie below it.
    pub watermark: NanoMoment,
    /// Moments start after it: the last one of the chain.
    pub after: NanoMoment,
}

/// A change of what the mempool holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolCommand {
    /// Drain into a block.
    Drain(DrainRequest),
    /// A transaction is in a block.
    MarkInFlight {
        /// The block.
        tag: u64,
        /// The transaction.
        id: TxId,
    },
    /// A block will not become final: its transactions wait again.
    PutBack {
        /// The block.
        tag: u64,
    },
    /// A block is final: its transactions are done.
    Finalize {
        /// The block.
        tag: u64,
    },
    /// A transaction that never passed this pool is final: remember its id.
    FinalizeId {
        /// The transaction.
        id: TxId,
        /// Until when it could come again.
        valid_until: NanoMoment,
    },
    /// A drained transaction is left out of its block and waits again.
    Return {
        /// The transaction.
        id: TxId,
    },
    /// A transaction can never get into a block.
    Remove {
        /// The transaction.
        id: TxId,
    },
    /// Stamps below this moment are late now: stamp them anew.
    Watermark(NanoMoment),
}

/// The data plane as the replica sees it.
pub trait Plane: Send {
    /// Takes the time of what follows, and offers the data plane again what it did not take before.
    fn pump(&mut self, now: NanoMoment);

    /// Sends a message; what cannot be sent is counted there and sent again by the machine's resends.
    fn send(&mut self, to: Target, class: PriorityClass, message: &[u8]);

    /// Sends a body as chunks.
    fn spread(&mut self, block: Arc<SpreadBlock>, to: Target);

    /// Changes the mempool. Commands are carried out in order and never dropped.
    fn pool(&mut self, command: PoolCommand);

    /// Has a block built again without the candidates that were excluded from the buffer.
    fn rebuild(&mut self, buffer: Box<BlockBuffer>);

    /// Gives a buffer back.
    fn release(&mut self, buffer: Box<BlockBuffer>);
}
