//! The way in for transactions that did not come over the network: the node's own RPC.

use crate::clock::Received;
use crate::link::{MessageFrame, Span};
use crate::peer::{PeerIndex, Role};
use crate::port::{FrameBuf, FramePool};
use roko_ring::spsc::Producer;
use roko_wire::TxId;
use roko_wire::frame::PriorityClass;
use roko_wire::limits::{MESSAGE_BYTES_MAX, TX_BYTES_MAX};
use roko_wire::message::{MessageKind, write_submit};
use roko_wire::nano::ClockSource;
use roko_wire::port_clock::StampedBy;

/// Why a transaction was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// The ring to verify is full or no frame is free.
    #[error("the node is busy: send the transaction again later")]
    Busy,
    /// Longer than a transaction may be.
    #[error("the transaction has {bytes} bytes, over the limit of {TX_BYTES_MAX}: shorten its input")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
}

/// Puts transactions before the verify stage, as if a client had submitted them. Never blocks. One owner at a time: the
/// RPC keeps it behind a mutex.
pub struct Injector<P: FramePool> {
    /// A ring to each verify.
    out: Vec<Producer<MessageFrame<P::Buf>>>,
    pool: P,
}

impl<P: FramePool> Injector<P> {
    pub(crate) fn new(out: Vec<Producer<MessageFrame<P::Buf>>>, pool: P) -> Injector<P> {
        Injector { out, pool }
    }

    /// Takes in one transaction that arrived at `received`, whose source becomes `system`: no network card saw it.
    /// Returns its id; the checks come later, in verify.
    pub fn submit(&mut self, wire: &[u8], received: Received) -> Result<TxId, InjectError> {
        if wire.len() > TX_BYTES_MAX {
            return Err(InjectError::TooLarge { bytes: wire.len() });
        }
        let id = roko_wire::tx::tx_id(wire);
        // The same transaction goes to the same lane, which knows it again.
        let lane = usize::from(u16::from_le_bytes([id.0[0], id.0[1]])) % self.out.len();
        if self.out[lane].free_slots() == 0 {
            return Err(InjectError::Busy);
        }
        let mut buf = self.pool.alloc().ok_or(InjectError::Busy)?;
        let mut message = arrayvec::ArrayVec::<u8, MESSAGE_BYTES_MAX>::new();
        write_submit(&[wire], &mut message);
        buf.set_len(message.len());
        buf.data_mut().copy_from_slice(&message);
        let frame = MessageFrame {
            received: Received { source: ClockSource::System, by: StampedBy::Poll, ..received },
            peer: PeerIndex(u16::MAX),
            role: Role::Client,
            class: PriorityClass::Client,
            kind: MessageKind::Submit,
            span: Span::new(0, message.len()),
            buf,
        };
        self.out[lane].push(frame).map_err(|_| InjectError::Busy)?;
        Ok(id)
    }
}
