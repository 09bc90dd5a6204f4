//! A message between its reading and the verdict on its signatures.

use super::ingress::Checked;
use crate::link::{MessageFrame, Span};
use arrayvec::ArrayVec;
use roko_wire::Hash32;
use roko_wire::limits::TXS_PER_MESSAGE_MAX;
use roko_wire::stamp::{SignedRoot, Stamp};

/// Most signature checks of a message: its transactions and its root.
pub(super) const CHECKS_MAX: usize = TXS_PER_MESSAGE_MAX + 1;

/// A transaction that is good if its signature is.
pub(super) struct Admitted {
    /// Its place among the message's transactions.
    pub(super) index: usize,
    /// Its bytes in the frame.
    pub(super) wire: Span,
    /// Its stamp.
    pub(super) stamp: Stamp,
    /// What is known of it; the sender of one with a pending check follows from the key.
    pub(super) checked: Checked,
    /// Its place among the pending checks; `None` when the signature was checked at once.
    pub(super) check: Option<usize>,
}

/// Where a message came from.
// It lives in one slot of a short list made at start; a box would be an allocation.
#[allow(clippy::large_enum_variant)]
pub(super) enum Origin {
    /// A client, or the node's own RPC: this node stamps it.
    Client,
    /// A validator: it comes with its stamps.
    Validator {
        /// The root over them.
        root: SignedRoot,
        /// The root's place among the pending checks.
        check: usize,
        /// The tree's leaves, for the paths.
        leaves: ArrayVec<Hash32, TXS_PER_MESSAGE_MAX>,
    },
}

/// See the module.
pub(super) struct Job<B> {
    pub(super) frame: MessageFrame<B>,
    pub(super) origin: Origin,
    pub(super) txs: ArrayVec<Admitted, TXS_PER_MESSAGE_MAX>,
}
