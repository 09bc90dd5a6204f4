//! The attacker's thread: its port, its sessions, and what it sends over them.

use super::Attack;
use super::craft::{Crafter, Heard};
use super::streams::{self, Streams};
use crate::chain::Chain;
use crate::handshake::{self, HandshakeOptions, HandshakeParts, SinkRings};
use roko_consensus::SecretKey;
use roko_peers::{Membership, NodeIdentity, PeersError, Sessions};
use roko_pipeline::keys::{InstalledKeys, sessions_depth};
use roko_pipeline::lanes::FanOut;
use roko_pipeline::peer::{KeyName, KeySource, LinkCommand};
use roko_pipeline::port::{Burst, FrameBuf, FramePool, Port, RxPort, TxPort};
use roko_pipeline::session::{Opener, SEAL_BYTES, Sealer};
use roko_ring::spsc::{Consumer, ring};
use roko_state::fault::Sequence;
use roko_time::NodeClock;
use roko_wire::codec::Reader;
use roko_wire::frame::{FRAME_HEADER_BYTES, FrameHeader, PriorityClass};
use roko_wire::net::{Addresses, headers_bytes, parse_udp, write_headers};
use roko_wire::{NanoMoment, ValidatorIndex};
use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;

/// From one round to the next.
const ROUND: Duration = Duration::from_millis(2);
/// Its own frames that it can send again, for each of the others.
const REPLAYED: usize = 64;
/// Keys of honest validators that it opens with, at most; then it looks them up anew.
const OPENERS_MAX: usize = 256;
/// Frames that it sends before it looks whether it shall stop.
const FRAMES_AT_ONCE: usize = 4_096;

/// What a hostile validator is made of.
pub struct HostileParts<P: Port> {
    /// The chain, its node key, its voting key, and everybody.
    pub own: (Arc<Chain>, NodeIdentity, SecretKey, Membership),
    /// Its port.
    pub port: P,
    /// Where it listens.
    pub socket: TcpListener,
    /// Where everybody listens, by slot.
    pub addresses: Vec<Option<SocketAddr>>,
    /// What its handshakes run on.
    pub runtime: Handle,
    /// Where its boot stamp is kept.
    pub data_dir: PathBuf,
    /// The clock that its stamps begin with.
    pub clock: NodeClock,
}

/// What a hostile validator is told, and what it tells.
#[derive(Debug, Default)]
struct Shared {
    attack: Mutex<Option<Attack>>,
    frames: AtomicU64,
    streams: Arc<AtomicU64>,
    linked: AtomicU64,
    stop: AtomicBool,
}

/// A hostile validator that runs. It ends when this is dropped.
pub struct Hostile {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Hostile {
    /// Starts it; it opens sessions and does nothing else until it is told to.
    ///
    /// # Errors
    /// When its handshakes or its thread cannot be started.
    pub fn start<P: Port + 'static>(parts: HostileParts<P>) -> Result<Hostile, PeersError> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let mut body = Body::new(parts, Arc::clone(&shared))?;
        let thread = std::thread::Builder::new().name("hostile".into()).spawn(move || {
            let _ = roko_os::affinity::sharpen_timers();
            while !own.stop.load(Ordering::Relaxed) {
                body.round();
                std::thread::sleep(ROUND);
            }
        });
        let thread = thread.map_err(|source| PeersError::Runtime { source })?;
        Ok(Hostile { shared, thread: Some(thread) })
    }

    /// What it does from now on; `None` for nothing.
    pub fn set(&self, attack: Option<Attack>) {
        *self.shared.attack.lock().unwrap_or_else(PoisonError::into_inner) = attack;
    }

    /// Frames that it has sent.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.shared.frames.load(Ordering::Relaxed)
    }

    /// Lies that it has told over TLS streams.
    #[must_use]
    pub fn stream_messages(&self) -> u64 {
        self.shared.streams.load(Ordering::Relaxed)
    }

    /// Sessions that honest validators have opened with it since it started.
    #[must_use]
    pub fn sessions_opened(&self) -> u64 {
        self.shared.linked.load(Ordering::Relaxed)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has reported it.
            let _ = thread.join();
        }
    }
}

/// The way to one of the others.
struct Way {
    addresses: Addresses,
    sealer: Sealer,
    sent: VecDeque<Vec<u8>>,
}

/// What its handshakes are made of, to begin them again.
struct Identity {
    chain: Arc<Chain>,
    identity: Arc<NodeIdentity>,
    members: Arc<Membership>,
    socket: TcpListener,
    addresses: Vec<Option<SocketAddr>>,
    runtime: Handle,
    data_dir: PathBuf,
}

struct Body<P: Port> {
    identity: Identity,
    shared: Arc<Shared>,
    doing: Option<Attack>,
    rx: Vec<P::Rx>,
    tx: P::Tx,
    pool: P::Pool,
    burst: Burst<P::Buf>,
    received: Burst<P::Buf>,
    /// None while its listener is its own, for senseless messages on sessions' connections.
    sessions: Option<Session>,
    streams: Streams,
    ways: HashMap<u16, Way>,
    openers: HashMap<KeyName, Opener>,
    craft: Crafter,
    clock: NodeClock,
}

/// Its sessions and what they tell.
struct Session {
    with_peers: Sessions,
    links: Consumer<LinkCommand>,
    keys: InstalledKeys,
}

impl Identity {
    /// Opens sessions as every validator does.
    fn sessions(&self) -> Result<Session, PeersError> {
        let members = self.members.peers().len();
        let (keys_in, keys) = InstalledKeys::new(members);
        let (links_in, links) = ring(sessions_depth(members));
        let (_, worn) = ring(sessions_depth(members));
        let rings = SinkRings { keys: Some(FanOut::new(vec![keys_in])), known: None, links: links_in, worn };
        let parts = HandshakeParts {
            socket: Some(self.socket.try_clone().map_err(|source| PeersError::Runtime { source })?),
            addresses: self.addresses.clone(),
            runtime: self.runtime.clone(),
            mac_of: Arc::new(|endpoint| roko_peers::membership::derived_mac(&endpoint.ip)),
            log: Arc::new(|_| {}),
        };
        let member = (Arc::clone(&self.identity), Arc::clone(&self.members));
        let (boot, options) = (self.data_dir.join("boot"), HandshakeOptions::default());
        let with_peers = handshake::start(member, &self.chain, &boot, parts, &options, rings)?;
        Ok(Session { with_peers, links, keys })
    }

    fn endpoint(&self) -> Result<roko_peers::TlsEndpoint, PeersError> {
        let member = (Arc::clone(&self.identity), Arc::clone(&self.members));
        let log: roko_peers::tls::Log = Arc::new(|_| {});
        let boot = self.data_dir.join("boot");
        handshake::endpoint(member, &self.chain, &boot, log, roko_peers::HandshakeLimits::default())
    }
}

impl<P: Port> Body<P> {
    fn new(parts: HostileParts<P>, shared: Arc<Shared>) -> Result<Body<P>, PeersError> {
        let HostileParts { own, port, socket, addresses, runtime, data_dir, clock } = parts;
        let (chain, identity, bls_key, members) = own;
        std::fs::create_dir_all(&data_dir).map_err(|source| PeersError::Runtime { source })?;
        let slot = members.slot_of_key(&identity.node_key())?;
        let (rx, tx, pool) = port.split_queues();
        let node_key = *identity.signing_key();
        let streams = Streams::new(runtime.clone(), addresses.clone(), slot, Arc::clone(&shared.streams));
        let (identity, members) = (Arc::new(identity), Arc::new(members));
        let identity =
            Identity { chain: Arc::clone(&chain), identity, members, socket, addresses, runtime, data_dir };
        let mut body = Body {
            sessions: Some(identity.sessions()?),
            identity,
            shared,
            doing: None,
            rx,
            tx,
            pool,
            burst: Burst::new(),
            received: Burst::new(),
            streams,
            ways: HashMap::new(),
            openers: HashMap::new(),
            craft: Crafter {
                chain,
                index: ValidatorIndex(slot as u16),
                node_key,
                bls_key,
                heard: Heard::default(),
                random: Sequence(66),
                proposed: 0,
                voted: 0,
            },
            clock,
        };
        body.answer_sync();
        Ok(body)
    }

    fn answer_sync(&mut self) {
        if let Some(session) = &self.sessions {
            self.streams.answer(session.with_peers.tls());
        }
    }

    fn round(&mut self) {
        let wanted = *self.shared.attack.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted != self.doing {
            self.turn_to(wanted);
        }
        self.follow_sessions();
        self.listen();
        let Some(attack) = wanted else { return };
        let now = self.clock.now().now;
        let mut slots: Vec<u16> = self.ways.keys().copied().collect();
        slots.sort_unstable();
        if attack == Attack::Replay {
            for slot in slots {
                self.repeat(slot, now);
            }
        } else {
            let messages = self.craft.round(attack, now);
            for slot in slots {
                messages.iter().take(FRAMES_AT_ONCE).for_each(|message| self.seal(slot, message));
            }
        }
        self.flush();
    }

    fn turn_to(&mut self, wanted: Option<Attack>) {
        self.doing = wanted;
        self.streams.tell(wanted);
        if wanted == Some(Attack::LinkGarbage) {
            // Its sessions end, the others dial anew, and what they find is no session.
            self.sessions = None;
            if let (Ok(tls), Ok(socket)) = (self.identity.endpoint(), self.identity.socket.try_clone()) {
                self.streams.babble(tls, socket);
            }
        } else if self.sessions.is_none() {
            self.streams.end_babble();
            // A port that is still taken is tried again with the next round.
            self.sessions = self.identity.sessions().ok();
            self.answer_sync();
        }
        if wanted == Some(Attack::SyncGarbage)
            && let Some(session) = &self.sessions
        {
            self.streams.ask(session.with_peers.tls());
        }
    }

    /// Sends the last frames to one of the others again; first one, when there is none.
    fn repeat(&mut self, slot: u16, now: NanoMoment) {
        let again: Vec<Vec<u8>> = match self.ways.get(&slot) {
            Some(way) => way.sent.iter().cloned().collect(),
            None => return,
        };
        if again.is_empty() {
            let early = self.craft.round(Attack::FarViews, now);
            early.iter().for_each(|message| self.seal(slot, message));
        }
        again.iter().for_each(|frame| self.put(frame));
    }

    fn follow_sessions(&mut self) {
        let Some(session) = &mut self.sessions else { return };
        while session.keys.next_retired().is_some() {}
        while let Some(command) = session.links.pop() {
            match command {
                LinkCommand::Link { peer, role: roko_pipeline::peer::Role::Validator(_), link } => {
                    let way =
                        Way { addresses: link.addresses, sealer: Sealer::of(&link), sent: VecDeque::new() };
                    self.ways.insert(peer.0, way);
                    self.shared.linked.fetch_add(1, Ordering::Relaxed);
                }
                LinkCommand::Link { .. } | LinkCommand::Move { .. } | LinkCommand::Unlink { .. } => {}
            }
        }
    }

    /// Takes in what honest validators send.
    fn listen(&mut self) {
        for queue in 0..self.rx.len() {
            while self.rx[queue].rx_burst(&mut self.received) > 0 {
                let mut received = std::mem::replace(&mut self.received, Burst::new());
                received.iter_mut().for_each(|frame| self.hear(frame.data_mut()));
            }
        }
    }

    fn hear(&mut self, frame: &mut [u8]) {
        let Ok(span) = parse_udp(frame) else { return };
        let payload = &mut frame[span.payload_at..][..span.payload_bytes];
        let Ok(header) = FrameHeader::read(&mut Reader::new(payload)) else { return };
        let name = KeyName::of(&header);
        if self.openers.len() > OPENERS_MAX {
            self.openers.clear();
        }
        if !self.openers.contains_key(&name) {
            let admitted = self.sessions.as_mut().and_then(|session| session.keys.admit(name));
            let Some(admitted) = admitted else { return };
            self.openers.insert(name, Opener::new(&admitted.keys));
        }
        if let Some(bytes) = self.openers.get(&name).and_then(|opener| opener.open(header.sequence, payload))
        {
            self.craft.heard.take(&payload[FRAME_HEADER_BYTES..][..bytes]);
        }
    }

    /// Seals a message for one of the others and puts it on its way.
    fn seal(&mut self, slot: u16, message: &[u8]) {
        let Some(way) = self.ways.get_mut(&slot) else { return };
        let at = headers_bytes(&way.addresses.source_ip);
        let mut frame = vec![0; at + SEAL_BYTES + message.len()];
        frame[at + FRAME_HEADER_BYTES..][..message.len()].copy_from_slice(message);
        let sealed = way.sealer.seal(PriorityClass::Consensus, &mut frame[at..]);
        if sealed.is_none() || write_headers(&way.addresses, SEAL_BYTES + message.len(), &mut frame).is_none()
        {
            return;
        }
        way.sent.push_back(frame.clone());
        if way.sent.len() > REPLAYED {
            way.sent.pop_front();
        }
        self.put(&frame);
    }

    fn put(&mut self, frame: &[u8]) {
        if self.burst.is_full() {
            self.flush();
        }
        let Some(mut buf) = self.pool.alloc().filter(|_| !self.burst.is_full()) else { return };
        buf.set_len(frame.len());
        buf.data_mut().copy_from_slice(frame);
        self.burst.push(buf);
    }

    /// Offers what waits to the port; what it does not take now comes with the next round.
    fn flush(&mut self) {
        if !self.burst.is_empty() {
            let taken = self.tx.tx_burst(&mut self.burst);
            self.shared.frames.fetch_add(taken as u64, Ordering::Relaxed);
        }
    }
}

impl<P: Port> Drop for Body<P> {
    fn drop(&mut self) {
        streams::end(&mut self.streams);
    }
}
