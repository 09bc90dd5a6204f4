//! A load client's side: seals Submit messages for chosen validators over a port of its own. Its sessions come from the
//! handshakes by a ring, as a node's do.

use crate::keys::sessions_depth;
use crate::peer::{LinkCommand, PeerIndex, PeerLink, Worn};
use crate::port::{Burst, FrameBuf, FramePool, Port, RxPort, TxPort};
use crate::session::Sealer;
use crate::spread::write_sealed;
use roko_ring::spsc::{Consumer, Producer, ring};
use roko_wire::frame::PriorityClass;
use roko_wire::limits::{MESSAGE_BYTES_MAX, TX_BYTES_MAX, TXS_PER_MESSAGE_MAX};
use roko_wire::message::write_submit;
use roko_wire::net::{Addresses, fill_udp6_checksum};

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
    /// No handshake has opened a session with this validator.
    #[error("there is no session with validator {to} yet: send again later")]
    NoSession {
        /// Which.
        to: usize,
    },
    /// The key has sealed as many frames as it may.
    #[error("the session's key is used up: open a new session")]
    KeyUsedUp,
}

/// What a client's handshakes hold of its port.
pub struct ClientSessions {
    /// The ways to validators.
    pub links: Producer<LinkCommand>,
    /// Keys that are worn.
    pub worn: Consumer<Worn>,
}

struct Destination {
    addresses: Addresses,
    sealer: Sealer,
    /// That the key is worn has been said.
    reported: bool,
}

impl Destination {
    fn of(link: &PeerLink) -> Destination {
        Destination { addresses: link.addresses, sealer: Sealer::of(link), reported: false }
    }
}

/// A client's port and its sessions with validators.
pub struct ClientPort<P: Port> {
    rx: P::Rx,
    tx: P::Tx,
    pool: P::Pool,
    validators: Vec<Option<Destination>>,
    sessions: Consumer<LinkCommand>,
    worn: Producer<Worn>,
    burst: Burst<P::Buf>,
    discard: Burst<P::Buf>,
}

impl<P: Port> ClientPort<P> {
    /// A client over `port` with links to `validators`.
    #[must_use]
    pub fn new(port: P, validators: &[PeerLink]) -> ClientPort<P> {
        let (mut client, _) = ClientPort::with_sessions(port, validators.len());
        client.validators = validators.iter().map(|link| Some(Destination::of(link))).collect();
        client
    }

    /// A client over `port` of `validators` validators, whose sessions come by the rings that are returned with it.
    #[must_use]
    pub fn with_sessions(port: P, validators: usize) -> (ClientPort<P>, ClientSessions) {
        let (rx, tx, pool) = port.split();
        let (links, sessions) = ring(sessions_depth(validators));
        let (worn_out, worn) = ring(sessions_depth(validators));
        let client = ClientPort {
            rx,
            tx,
            pool,
            validators: (0..validators).map(|_| None).collect(),
            sessions,
            worn: worn_out,
            burst: Burst::new(),
            discard: Burst::new(),
        };
        (client, ClientSessions { links, worn })
    }

    /// Takes changes of the ways to validators.
    fn follow_sessions(&mut self) {
        while let Some(command) = self.sessions.pop() {
            let (LinkCommand::Link { peer, .. }
            | LinkCommand::Move { peer, .. }
            | LinkCommand::Unlink { peer }) = &command;
            let Some(place) = self.validators.get_mut(peer.as_usize()) else { continue };
            match command {
                LinkCommand::Link { link, .. } => *place = Some(Destination::of(&link)),
                LinkCommand::Move { addresses, .. } => {
                    if let Some(destination) = place {
                        destination.addresses = addresses;
                    }
                }
                LinkCommand::Unlink { .. } => *place = None,
            }
        }
    }

    /// Seals transactions for validator `to`, as many to a message as fit, and offers them to the port. What the port
    /// does not take at once is kept for the next call or [`ClientPort::flush`].
    pub fn submit(&mut self, to: usize, txs: &[&[u8]]) -> Result<(), ClientError> {
        self.follow_sessions();
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
        let destination = self.validators.get_mut(to).ok_or(ClientError::UnknownTarget { to, count })?;
        let Some(destination) = destination else {
            return Err(if sent == 0 { ClientError::NoSession { to } } else { ClientError::Busy { sent } });
        };
        let mut message = arrayvec::ArrayVec::<u8, MESSAGE_BYTES_MAX>::new();
        write_submit(txs, &mut message);
        let mut buf = self.pool.alloc().ok_or(ClientError::Busy { sent })?;
        let copy = |place: &mut [u8]| place.copy_from_slice(&message);
        let (addresses, sealer) = (&destination.addresses, &mut destination.sealer);
        write_sealed(&mut buf, addresses, sealer, PriorityClass::Client, message.len(), copy)
            .ok_or(ClientError::KeyUsedUp)?;
        fill_udp6_checksum(buf.data_mut());
        if sealer.is_worn() && !destination.reported {
            let (session, key_phase) = sealer.key();
            let worn = Worn { peer: PeerIndex(to as u16), session, key_phase };
            destination.reported = self.worn.push(worn).is_ok();
        }
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
