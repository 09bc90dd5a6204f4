//! Sealed frames of many sessions, and the stages that they go through.

use core::net::{IpAddr, Ipv4Addr};
use roko_benches::fixtures::{transfer, user};
use roko_benches::plane::clock;
use roko_dpdk::{Burst, Eal, Mbuf, MbufPool, Port, PortConfig, RingEnd, ring_port};
use roko_pipeline::clock::ClockPage;
use roko_pipeline::decode::{ADMITTED_DEPTH, Decode, DecodeLanes, Established, Retired, ToOpen};
use roko_pipeline::filter::{Filter, FilterConfig, RateLimit};
use roko_pipeline::lanes::Owners;
use roko_pipeline::link::{ControlFrame, MessageFrame, SealedFrame};
use roko_pipeline::open::{FromDecode, Open, OpenLinks, PeerRates};
use roko_pipeline::peer::{Admission, KeyName, KeySource, PeerIndex, Role};
use roko_pipeline::port::Port as _;
use roko_pipeline::port::RxStamps;
use roko_pipeline::port::dpdk::{DpdkPort, DpdkStamps};
use roko_pipeline::rx::Rx;
use roko_pipeline::session::{AeadKeys, SEAL_BYTES, Sealer};
use roko_ring::seqlock::PageWriter;
use roko_ring::spsc::{Consumer, Producer, ring};
use roko_wire::clock::ClockMap;
use roko_wire::frame::{FRAME_HEADER_BYTES, PriorityClass};
use roko_wire::message::{MessageKind, write_submit};
use roko_wire::net::{Addresses, Mac, headers_bytes, write_headers};

/// Peers, each with an address and a session of its own.
pub(crate) const SOURCES: usize = 10_000;
/// Frames of an iteration, all in the port's ring before the stages begin.
pub(crate) const FRAMES: usize = 256;
/// Slots of a ring between stages, as a node has them.
const DEPTH: usize = 512;
const NODE_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 200, 0, 1));
const PORT: u16 = 7_700;

pub(crate) fn keys_of(session: u64) -> AeadKeys {
    let mut key = [0x5a; 32];
    key[..8].copy_from_slice(&session.to_le_bytes());
    AeadKeys { key, iv: [session as u8; 12] }
}

fn addresses_of(source: usize) -> Addresses {
    let octets = (source as u32 + 1).to_be_bytes();
    Addresses {
        source_mac: Mac([2, 0, 0, octets[1], octets[2], octets[3]]),
        destination_mac: Mac([2, 0, 0, 0, 0, 1]),
        source_ip: IpAddr::V4(Ipv4Addr::new(10, octets[1], octets[2], octets[3])),
        destination_ip: NODE_IP,
        source_port: PORT,
        destination_port: PORT,
    }
}

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// So many bytes that no stage until open reads.
    Bytes(usize),
    /// A transfer that the source signs, its next nonce each time.
    Transfer,
}

/// Seals a frame for each source in turn.
pub(crate) struct Senders {
    sealers: Vec<Sealer>,
    next: usize,
    content: Content,
    message: Vec<u8>,
    frame: Vec<u8>,
}

/// The message by which `source` submits its transfer with this nonce.
fn submit(source: usize, nonce: u64, message: &mut Vec<u8>) {
    message.clear();
    let wire = transfer(nonce).sign_ed25519(&user(source as u32));
    write_submit(&[&wire], message);
}

impl Senders {
    pub(crate) fn new(content: Content) -> Senders {
        let sealers =
            (0..SOURCES as u64).map(|session| Sealer::new(&keys_of(session), session, 0, 0)).collect();
        let mut message = Vec::new();
        match content {
            Content::Bytes(bytes) => message.resize(bytes, 0),
            Content::Transfer => submit(0, 0, &mut message),
        }
        message[0] = MessageKind::Submit as u8;
        let frame = vec![0; headers_bytes(&NODE_IP) + message.len() + SEAL_BYTES];
        Senders { sealers, next: 0, content, message, frame }
    }

    /// The next source's next frame.
    pub(crate) fn next_frame(&mut self) -> &[u8] {
        let (source, round) = (self.next % SOURCES, self.next / SOURCES);
        self.next += 1;
        if self.content == Content::Transfer {
            submit(source, round as u64, &mut self.message);
        }
        let payload_bytes = self.message.len() + SEAL_BYTES;
        let at = write_headers(&addresses_of(source), payload_bytes, &mut self.frame).expect("it has room");
        self.frame[at + FRAME_HEADER_BYTES..][..self.message.len()].copy_from_slice(&self.message);
        self.sealers[source].seal(PriorityClass::Client, &mut self.frame[at..]).expect("the key is fresh");
        &self.frame
    }
}

struct Clients;

impl KeySource for Clients {
    fn admit(&mut self, name: KeyName) -> Option<Admission> {
        let peer = PeerIndex(u16::try_from(name.session).ok()?);
        Some(Admission { peer, role: Role::Client, generation: 1, keys: keys_of(name.session) })
    }
}

/// The first four stages over a net_ring port, and the far end that feeds it.
pub(crate) struct Line {
    pub(crate) rx: Rx<<DpdkPort as roko_pipeline::port::Port>::Rx>,
    pub(crate) filter: Filter<Mbuf>,
    pub(crate) decode: Decode<Mbuf>,
    pub(crate) open: Open<Mbuf>,
    pub(crate) opened: Consumer<MessageFrame<Mbuf>>,
    /// What the stages read the time from.
    pub(crate) clock: ClockPage,
    pool: MbufPool,
    far: RingEnd,
    _keep: (
        Port,
        PageWriter<ClockMap>,
        Consumer<ControlFrame<Mbuf>>,
        Producer<roko_pipeline::peer::KnownChange>,
    ),
}

impl Line {
    /// The stages, with no session established yet.
    pub(crate) fn new(eal: &Eal, pool: &MbufPool, name: &str) -> Line {
        let (mut port, far) = ring_port(eal, name, 2 * FRAMES).expect("a port");
        let mut queues = port.start(&PortConfig::default(), pool).expect("it starts");
        let (rx, tx) = (queues.rx.remove(0), queues.tx.remove(0));
        let (rx, _, _) = DpdkPort::new(rx, tx, pool.clone(), "net_ring", DpdkStamps::None).split();
        let (writer, page) = clock();
        // No limit bites here: the cost of the limiter is measured, not its effect.
        let limit = RateLimit { frames_per_second: 1_000_000_000, burst_frames: 1_000_000_000 };
        let filter = FilterConfig {
            ip: NODE_IP,
            port: PORT,
            stranger: limit,
            known: limit,
            known_addresses: (0..SOURCES).map(|source| addresses_of(source).source_ip).collect(),
        };
        let (rx_out, filter_in) = ring(DEPTH);
        let (filter_out, decode_in) = ring(DEPTH);
        let (decode_out, open_in) = ring::<SealedFrame<Mbuf>>(DEPTH);
        let (established_out, established_in) = ring::<Established>(256);
        let (retired_out, retired_in) = ring::<Retired>(64);
        let (admitted_out, admitted_in) = ring(ADMITTED_DEPTH);
        let (opened_out, opened) = ring(DEPTH);
        let (control_out, control) = ring(DEPTH);
        let (known, moved) = ring(16);
        let links = OpenLinks {
            from: vec![FromDecode {
                frames: open_in,
                admitted: admitted_in,
                retired: retired_in,
                established: established_out,
            }],
            to_verify: opened_out,
            to_control: control_out,
        };
        let to = vec![ToOpen {
            frames: decode_out,
            admitted: admitted_out,
            retired: retired_out,
            established: established_in,
        }];
        let lanes = DecodeLanes { own: 0, owners: Owners::new(1), to };
        Line {
            rx: Rx::new((rx, RxStamps::Poll), page.clone(), None, rx_out),
            filter: Filter::new(filter, page.clone(), moved, filter_in, filter_out),
            decode: Decode::new(SOURCES, Box::new(Clients), page.clone(), decode_in, lanes),
            open: Open::new(SOURCES, page.clone(), PeerRates::UNLIMITED, links),
            opened,
            clock: page,
            pool: pool.clone(),
            far,
            _keep: (port, writer, control, known),
        }
    }

    /// Puts the next frames into the port's ring.
    pub(crate) fn feed(&mut self, senders: &mut Senders, frames: usize) {
        let mut burst = Burst::new();
        for left in (0..frames).rev() {
            burst.push(self.pool.alloc_from(senders.next_frame()).expect("the pool has mbufs"));
            if burst.is_full() || left == 0 {
                self.far.tx.tx_burst(&mut burst);
                assert!(burst.is_empty(), "the port's ring has room");
            }
        }
    }
}
