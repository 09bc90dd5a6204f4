//! What travels in the rings between stages: the frame by its pointer, and what the stages before found out about it.

use crate::clock::Received;
use crate::latency::Origin;
use crate::peer::{PeerIndex, Role};
use arrayvec::ArrayVec;
use roko_wire::frame::{FrameHeader, PriorityClass};
use roko_wire::limits::{STAMP_DEPTH_MAX, TXS_PER_MESSAGE_MAX};
use roko_wire::message::MessageKind;
use roko_wire::stamp::{SignedRoot, Stamp};
use roko_wire::{Address, Hash32, NanoMoment, TxId};

use crate::port::FrameBuf;

/// Bytes of a frame: where they start and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub at: u16,
    /// How many.
    pub len: u16,
}

impl Span {
    /// The span of `len` bytes at `at`; frames are far shorter than 64 KiB.
    #[must_use]
    pub const fn new(at: usize, len: usize) -> Span {
        Span { at: at as u16, len: len as u16 }
    }

    /// The span's bytes of `frame`.
    #[must_use]
    pub fn of<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        &frame[usize::from(self.at)..][..usize::from(self.len)]
    }

    /// The span's bytes of `frame`, to write.
    #[must_use]
    pub fn of_mut<'a>(&self, frame: &'a mut [u8]) -> &'a mut [u8] {
        &mut frame[usize::from(self.at)..][..usize::from(self.len)]
    }
}

/// rx to filter: a frame and when it came.
pub struct RxFrame<B> {
    /// The frame.
    pub buf: B,
    /// When it came.
    pub received: Received,
}

/// filter to decode: a UDP datagram for this node.
pub struct Datagram<B> {
    /// The frame.
    pub buf: B,
    /// When it came.
    pub received: Received,
    /// Its UDP payload.
    pub payload: Span,
}

/// decode to open: a sealed frame of a session that someone known may have.
pub struct SealedFrame<B> {
    /// The frame.
    pub buf: B,
    /// When it came.
    pub received: Received,
    /// Its UDP payload: header, sealed message, tag.
    pub payload: Span,
    /// Its header.
    pub header: FrameHeader,
    /// Whose session it says it is.
    pub peer: PeerIndex,
    /// The peer's role.
    pub role: Role,
    /// A key comes beside it, see [`crate::decode::Admitted`].
    pub admitted: bool,
}

/// open to verify and to control: an authentic message.
pub struct MessageFrame<B> {
    /// The frame.
    pub buf: B,
    /// When it came.
    pub received: Received,
    /// Who sent it.
    pub peer: PeerIndex,
    /// The sender's role.
    pub role: Role,
    /// The class that the sender gave it.
    pub class: PriorityClass,
    /// Its kind, the message's first byte.
    pub kind: MessageKind,
    /// The message in the frame.
    pub span: Span,
}

impl<B: FrameBuf> MessageFrame<B> {
    /// The message, as [`roko_wire::message::Message::read`] takes it.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        self.span.of(self.buf.data())
    }
}

/// A message for the control plane.
pub type ControlFrame<B> = MessageFrame<B>;

/// A verified transaction of a [`StampedFrame`].
#[derive(Clone, Debug)]
pub struct VerifiedTx {
    /// Its wire bytes in the frame.
    pub wire: Span,
    /// Its id.
    pub id: TxId,
    /// Its recovered sender.
    pub sender: Address,
    /// The sender's nonce.
    pub nonce: u64,
    /// Most gas it uses.
    pub gas_limit: u64,
    /// Most it pays per gas.
    pub max_fee: u128,
    /// Last moment it may have.
    pub valid_until: NanoMoment,
    /// Its stamp.
    pub stamp: Stamp,
    /// The stamp's leaf in its batch.
    pub leaf_index: u8,
    /// The leaf's path to the batch's root.
    pub path: ArrayVec<Hash32, STAMP_DEPTH_MAX>,
}

/// verify to order: verified transactions with their stamps.
pub struct StampedFrame<B> {
    /// The frame that holds the wire bytes.
    pub buf: B,
    /// When this node received them.
    pub received: NanoMoment,
    /// This node stamped them.
    pub own: bool,
    /// The batch's signed root.
    pub root: SignedRoot,
    /// The transactions.
    pub txs: ArrayVec<VerifiedTx, TXS_PER_MESSAGE_MAX>,
}

impl<B> StampedFrame<B> {
    /// When this node received `tx`, one of the frame's. Transactions of its own batch came one by one, each when its
    /// stamp says.
    #[must_use]
    pub const fn received_of(&self, tx: &VerifiedTx) -> NanoMoment {
        if self.own { tx.stamp.time } else { self.received }
    }
}

/// verify to spread: a whole message for every validator.
pub struct OwnBatch<B> {
    /// The message, from the frame's first byte to its last.
    pub buf: B,
    /// When this node received the first of it.
    pub received: NanoMoment,
}

/// spread to tx: a sealed frame.
pub struct OutFrame<B> {
    /// The frame.
    pub buf: B,
    /// What its latency counts from; `None` for what is paced on purpose, as the chunks of a body are.
    pub origin: Option<Origin>,
}

/// control to verify: a transaction is final that this node met in a block only. A copy of it that still waits needs no
/// signature check.
#[derive(Clone, Copy, Debug)]
pub struct FinalTx {
    /// Its id.
    pub id: TxId,
    /// The control plane's clock.
    pub now: NanoMoment,
}

/// order to control: a transaction is now in the pool.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Its id.
    pub id: TxId,
    /// Its verified sender.
    pub sender: Address,
    /// Its stamp.
    pub stamp: Stamp,
    /// The verified root of the stamp's batch.
    pub root: SignedRoot,
    /// When it was put into the pool.
    pub pooled: NanoMoment,
    /// When this node received it.
    pub received: NanoMoment,
    /// Last moment it may have.
    pub valid_until: NanoMoment,
    /// This node stamped it.
    pub own: bool,
}
