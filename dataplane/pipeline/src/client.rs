//! A load client's side: seals Submit messages for chosen validators over a port of its own.

use crate::peer::PeerLink;
use crate::port::{Burst, FramePool, Port, RxPort, TxPort};
use crate::session::Sealer;
use crate::spread::write_sealed;
use roko_wire::frame::PriorityClass;
use roko_wire::limits::{MESSAGE_BYTES_MAX, TX_BYTES_MAX, TXS_PER_MESSAGE_MAX};
use roko_wire::message::write_submit;
use roko_wire::net::Addresses;

/// Why transactions were not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No such validator.
    #[error("validator {to} is not among the {count} this client has links to")]
    UnknownTarget {
        /// Which was asked for.
        to: usize,
        /// How many there are.
        count: usize,
    },
    /// A transaction longer than any may be.
    #[error("a transaction of {bytes} bytes is over the limit of {TX_BYTES_MAX}")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// No frame is free or the port takes none; `sent` transactions before are on their way.
    #[error("the port is busy after {sent} transactions: send the rest later")]
    Busy {
        /// Transactions sent.
        sent: usize,
    },
    /// The key's sequence numbers are used up.
    #[error("the session's key is used up: open a new session")]
    KeyUsedUp,
}

/// A client's port and its sessions with validators.
pub struct ClientPort<P: Port> {
    rx: P::Rx,
    tx: P::Tx,
    pool: P::Pool,
    validators: Vec<(Addresses, Sealer)>,
    burst: Burst<P::Buf>,
    discard: Burst<P::Buf>,
}

impl<P: Port> ClientPort<P> {
    /// A client over `port` with links to `validators`.
    #[must_use]
    pub fn new(port: P, validators: &[PeerLink]) -> ClientPort<P> {
        let (rx, tx, pool) = port.split();
        let sealer = |link: &PeerLink| Sealer::new(&link.keys, link.session, link.core, link.key_phase);
        ClientPort {
            rx,
            tx,
            pool,
            validators: validators.iter().map(|link| (link.addresses, sealer(link))).collect(),
            burst: Burst::new(),
            discard: Burst::new(),
        }
    }

    /// Seals transactions for validator `to`, as many to a message as fit, and offers them to the port. What the port
    /// does not take at once is kept for the next call or [`ClientPort::flush`].
    pub fn submit(&mut self, to: usize, txs: &[&[u8]]) -> Result<(), ClientError> {
        let mut sent = 0;
        while sent < txs.len() {
            let count = fitting(&txs[sent..])?;
            self.submit_message(to, &txs[sent..sent + count], sent)?;
            sent += count;
        }
        self.flush();
        Ok(())
    }

    fn submit_message(&mut self, to: usize, txs: &[&[u8]], sent: usize) -> Result<(), ClientError> {
        if self.burst.is_full() && !self.flush() && self.burst.is_full() {
            return Err(ClientError::Busy { sent });
        }
        let count = self.validators.len();
        let (addresses, sealer) =
            self.validators.get_mut(to).ok_or(ClientError::UnknownTarget { to, count })?;
        let mut message = arrayvec::ArrayVec::<u8, MESSAGE_BYTES_MAX>::new();
        write_submit(txs, &mut message);
        let mut buf = self.pool.alloc().ok_or(ClientError::Busy { sent })?;
        let copy = |place: &mut [u8]| place.copy_from_slice(&message);
        write_sealed(&mut buf, addresses, sealer, PriorityClass::Client, message.len(), copy)
            .ok_or(ClientError::KeyUsedUp)?;
        self.burst.push(buf);
        Ok(())
    }

    /// Offers what is sealed to the port; true when nothing is left. What has arrived meanwhile is discarded: a client
    /// takes its answers from the RPC.
    pub fn flush(&mut self) -> bool {
        self.rx.rx_burst(&mut self.discard);
        self.discard.clear();
        if !self.burst.is_empty() {
            self.tx.tx_burst(&mut self.burst);
        }
        self.burst.is_empty()
    }
}

/// How many of `txs`, from the first, one message holds.
fn fitting(txs: &[&[u8]]) -> Result<usize, ClientError> {
    let mut bytes = 2;
    let mut count = 0;
    for wire in txs.iter().take(TXS_PER_MESSAGE_MAX) {
        if wire.len() > TX_BYTES_MAX {
            return Err(ClientError::TooLarge { bytes: wire.len() });
        }
        bytes += 2 + wire.len();
        if bytes > MESSAGE_BYTES_MAX {
            break;
        }
        count += 1;
    }
    Ok(count)
}
