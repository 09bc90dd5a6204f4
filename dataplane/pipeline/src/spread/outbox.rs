//! Destinations, and the one function that writes a frame: headers, message, seal.

use super::SpreadCounter;
use crate::clock::ClockPage;
use crate::latency::{Origin, OutwardLatency};
use crate::link::OutFrame;
use crate::metrics::Counters;
use crate::peer::{PeerIndex, PeerLink, Role, Worn};
use crate::port::{FrameBuf, FramePool};
use crate::session::{SEAL_BYTES, Sealer};
use roko_ring::spsc::Producer;
use roko_wire::frame::{FRAME_HEADER_BYTES, PriorityClass};
use roko_wire::net::{Addresses, fill_udp6_checksum, headers_bytes, write_headers};

/// The rings to tx, one a class, the most urgent first.
pub struct OutLinks<B> {
    /// By [`PriorityClass`].
    pub by_class: [Producer<OutFrame<B>>; 4],
}

struct Destination {
    role: Role,
    addresses: Addresses,
    sealer: Sealer,
    /// That the key is worn has been said.
    reported: bool,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is on its way to tx.
    Yes,
    /// It cannot be sent to this peer; counted.
    Never,
    /// The ring of its class is full or no frame is free.
    NoRoom,
}

/// Sealed frames on their way to tx.
pub(super) struct Outbox<P: FramePool> {
    pool: P,
    links: OutLinks<P::Buf>,
    peers: Box<[Option<Destination>]>,
    /// Peers with a validator's role and a link, by ascending index.
    validators: Vec<PeerIndex>,
    worn: Producer<Worn>,
    /// The port fills in what IPv6 demands.
    port_fills_checksums: bool,
    pub(super) latency: OutwardLatency,
    pub(super) counters: Counters<SpreadCounter>,
}

impl<P: FramePool> Outbox<P> {
    pub(super) fn new(
        peers_max: usize,
        clock: &ClockPage,
        pool: P,
        links: OutLinks<P::Buf>,
        worn: Producer<Worn>,
    ) -> Outbox<P> {
        let latency = OutwardLatency::new(clock);
        Outbox {
            pool,
            links,
            peers: (0..peers_max).map(|_| None).collect(),
            validators: Vec::with_capacity(peers_max),
            worn,
            port_fills_checksums: false,
            counters: latency.counters("spread"),
            latency,
        }
    }

    /// Leaves the checksums that IPv6 demands to the port.
    pub(super) fn leave_checksums_to_port(&mut self) {
        self.port_fills_checksums = true;
    }

    pub(super) fn link(&mut self, peer: PeerIndex, role: Role, link: &PeerLink) {
        let Some(place) = self.peers.get_mut(peer.as_usize()) else {
            self.counters.count(SpreadCounter::NoLink);
            return;
        };
        let sealer = Sealer::of(link);
        *place = Some(Destination { role, addresses: link.addresses, sealer, reported: false });
        self.counters.count(SpreadCounter::Linked);
        self.list_validators();
    }

    /// Changes where frames to a peer go. Its key and sequence numbers go on.
    pub(super) fn readdress(&mut self, peer: PeerIndex, addresses: Addresses) {
        if let Some(Some(destination)) = self.peers.get_mut(peer.as_usize()) {
            destination.addresses = addresses;
            self.counters.count(SpreadCounter::Linked);
        }
    }

    pub(super) fn unlink(&mut self, peer: PeerIndex) {
        if let Some(place) = self.peers.get_mut(peer.as_usize()) {
            *place = None;
        }
        self.list_validators();
    }

    fn list_validators(&mut self) {
        self.validators.clear();
        for (index, peer) in self.peers.iter().enumerate() {
            if peer.as_ref().is_some_and(|peer| matches!(peer.role, Role::Validator(_))) {
                self.validators.push(PeerIndex(index as u16));
            }
        }
    }

    /// How many validators have a link.
    pub(super) fn validators(&self) -> usize {
        self.validators.len()
    }

    /// The validator at `place` of the list.
    pub(super) fn validator(&self, place: usize) -> PeerIndex {
        self.validators[place]
    }

    /// Writes a message of `message_bytes` straight into a frame for `peer` and seals it.
    pub(super) fn send(
        &mut self,
        peer: PeerIndex,
        class: PriorityClass,
        origin: Option<Origin>,
        message_bytes: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Sent {
        let Some(Some(destination)) = self.peers.get_mut(peer.as_usize()) else {
            self.counters.count(SpreadCounter::NoLink);
            return Sent::Never;
        };
        let ring = &mut self.links.by_class[class as usize];
        if ring.free_slots() == 0 {
            return Sent::NoRoom;
        }
        let Some(mut buf) = self.pool.alloc() else { return Sent::NoRoom };
        if write_sealed(
            &mut buf,
            &destination.addresses,
            &mut destination.sealer,
            class,
            message_bytes,
            write,
        )
        .is_none()
        {
            self.counters.count(SpreadCounter::SealFailed);
            return Sent::Never;
        }
        if !self.port_fills_checksums {
            fill_udp6_checksum(buf.data_mut());
        }
        self.latency.note(origin);
        let pushed = ring.push(OutFrame { buf, origin });
        debug_assert!(pushed.is_ok(), "the room was checked");
        if destination.sealer.is_worn() && !destination.reported {
            let (session, key_phase) = destination.sealer.key();
            // A full ring loses nothing: the next frame says it again.
            destination.reported = self.worn.push(Worn { peer, session, key_phase }).is_ok();
            self.counters.add(SpreadCounter::Worn, u64::from(destination.reported));
        }
        self.counters.count(match class {
            PriorityClass::Consensus => SpreadCounter::FramesConsensus,
            PriorityClass::Block => SpreadCounter::FramesBlock,
            PriorityClass::Relay => SpreadCounter::FramesRelay,
            PriorityClass::Client => SpreadCounter::FramesClient,
        });
        Sent::Yes
    }
}

/// Writes a whole frame but for its UDP checksum: network headers, and the message that `write` fills in, sealed. `None` when
/// it does not fit.
pub(crate) fn write_sealed<B: FrameBuf>(
    buf: &mut B,
    addresses: &Addresses,
    sealer: &mut Sealer,
    class: PriorityClass,
    message_bytes: usize,
    write: impl FnOnce(&mut [u8]),
) -> Option<()> {
    let payload_bytes = message_bytes + SEAL_BYTES;
    let start = headers_bytes(&addresses.source_ip);
    if start + payload_bytes > buf.capacity() {
        return None;
    }
    buf.set_len(start + payload_bytes);
    let frame = buf.data_mut();
    write_headers(addresses, payload_bytes, frame)?;
    let payload = &mut frame[start..];
    write(&mut payload[FRAME_HEADER_BYTES..][..message_bytes]);
    sealer.seal(class, payload)?;
    Some(())
}
