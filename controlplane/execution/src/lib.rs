//! Deterministic execution of blocks, and the check of a block without executing it.
//!
//! Between consensus and state: a proposed block passes [`validity::check`] before a node votes for it; what comes out
//! is executed by an [`Executor`] while the votes travel, and the results (changes, receipts, base fee) are committed to
//! by the block's child. A proposer picks with [`selection::select`] what passes that same check. Nothing here does I/O, reads
//! a clock or draws randomness: the same arguments give the same result on every node.
//!
//! Start reading at [`validity`], then [`executor`]. The EVM comes in as another [`Executor`].
#![forbid(unsafe_code)]

pub mod base_fee;
pub mod executor;
pub mod receipt;
pub mod selection;
mod senders;
pub mod tree;
pub mod tx;
pub mod validity;
pub mod view;

#[cfg(test)]
mod ethereum_tests;
#[cfg(test)]
mod executor_tests;
#[cfg(test)]
mod test_chain;
#[cfg(test)]
mod validity_tests;

pub use executor::{BlockContext, Executed, Executor, TransferExecutor};
pub use receipt::{Receipt, Status};
pub use selection::{Candidate, Exclusion, Selection, StampStanding, select};
pub use senders::SenderRefusal;
pub use tree::{Layers, OverlayTree};
pub use tx::ExecutableTx;
pub use validity::{BlockError, BlockRules, Chain, Checked, Parent, TxError, Verified};
pub use view::{Changes, Overlay, StateView};
