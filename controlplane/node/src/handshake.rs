//! Joins the handshakes with the data plane: keys, links and addresses go from one to the other through rings, and what
//! a node's settings say about handshakes is in one place.
//!
//! Only the thread `handshake` writes to these rings, and only poll threads read them; reports of worn keys go the other
//! way. Nothing here is on a packet's path.

use crate::chain::Chain;
use roko_peers::link::PhaseTimes;
use roko_peers::tls::{Log, TlsConfig, WallClock};
use roko_peers::{
    BootStamp, ChainFacts, HandshakeLimits, KeyName, KeySink, Membership, NodeIdentity, PeerKey, PeersError,
    RingFull, Sessions, SessionsConfig, TlsEndpoint,
};
use roko_pipeline::keys::KeyCommand;
use roko_pipeline::lanes::FanOut;
use roko_pipeline::peer::{self, KeyLimits, KnownChange, LinkCommand, PeerIndex, PeerLink, Role, Worn};
use roko_pipeline::session::AeadKeys;
use roko_ring::spsc::{Consumer, Producer};
use roko_wire::genesis::Endpoint;
use roko_wire::net::{Addresses, Mac};
use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;

/// Settings of handshakes and key phases.
#[derive(Clone, Debug, Default)]
pub struct HandshakeOptions {
    /// Limits of handshakes under way.
    pub limits: HandshakeLimits,
    /// Ages of key phases and sessions.
    pub times: PhaseTimes,
    /// How much a key may seal before the next one takes over.
    pub key_limits: KeyLimits,
    /// Sees each key that this node seals with. For tests, which open what they overhear; no configuration reaches it.
    pub key_log: Option<KeyLog>,
}

/// Takes each key that seals frames: the peer's slot, the key's name, and it.
#[derive(Clone)]
pub struct KeyLog(pub Arc<TakeKey>);

/// See [`KeyLog`].
pub type TakeKey = dyn Fn(usize, KeyName, &AeadKeys) + Send + Sync;

impl fmt::Debug for KeyLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyLog")
    }
}

/// The Ethernet address to use for an endpoint.
pub type MacOf = Arc<dyn Fn(&Endpoint) -> Mac + Send + Sync>;

/// What a node needs for its handshakes, beside what it has anyway.
pub struct HandshakeParts {
    /// Where it listens; `None` for a client.
    pub socket: Option<TcpListener>,
    /// Where peers listen, by slot.
    pub addresses: Vec<Option<SocketAddr>>,
    /// What handshakes run on.
    pub runtime: Handle,
    /// Ethernet addresses of peers that move.
    pub mac_of: MacOf,
    /// Where refusals are told.
    pub log: Log,
}

/// Milliseconds since 1970 by the host's clock.
#[must_use]
pub fn host_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A member's end of handshakes. `boot_file` keeps the stamp of its last start.
///
/// # Errors
/// When the node key is no member's, the stamp cannot be kept, or TLS cannot be set up.
pub fn endpoint(
    (identity, members): (Arc<NodeIdentity>, Arc<Membership>),
    chain: &Chain,
    boot_file: &Path,
    log: Log,
    limits: HandshakeLimits,
) -> Result<TlsEndpoint, PeersError> {
    let own = members.peers()[members.slot_of_key(&identity.node_key())?];
    TlsEndpoint::new(TlsConfig {
        identity,
        members,
        chain: ChainFacts {
            genesis_hash: chain.genesis_hash,
            chain_id: chain.domain.chain_id,
            preset: chain.genesis.preset,
        },
        boot: BootStamp::next(boot_file, host_millis())?,
        endpoint: Endpoint { ip: own.endpoint.ip, port: own.endpoint.port },
        limits,
        clock: WallClock::host(),
        log,
    })
}

/// Begins a node's handshakes. `boot_file` keeps the stamp of its last start.
///
/// # Errors
/// As [`endpoint`], or when the socket cannot be used.
pub fn start(
    (identity, members): (Arc<NodeIdentity>, Arc<Membership>),
    chain: &Chain,
    boot_file: &Path,
    parts: HandshakeParts,
    options: &HandshakeOptions,
    rings: SinkRings,
) -> Result<Sessions, PeersError> {
    let own = members.peers()[members.slot_of_key(&identity.node_key())?];
    let member = (identity, Arc::clone(&members));
    let tls = endpoint(member, chain, boot_file, parts.log, options.limits)?;
    let places = members.peers().iter().map(|peer| (peer.endpoint.ip, peer.endpoint.port)).collect();
    let sink = RingSink {
        banned: vec![false; members.peers().len()],
        members,
        own: own.endpoint,
        places,
        rings,
        key_limits: options.key_limits,
        key_log: options.key_log.clone(),
        mac_of: parts.mac_of,
    };
    let config = SessionsConfig {
        tls: Arc::new(tls),
        sink: Box::new(sink),
        addresses: parts.addresses,
        times: options.times,
        socket: parts.socket,
    };
    let failed = |source| PeersError::Runtime { source };
    Sessions::start(config, &parts.runtime).map_err(failed)
}

/// The role of a peer as the data plane has it.
#[must_use]
pub fn role(role: roko_peers::Role) -> Role {
    match role {
        roko_peers::Role::Validator(index) => Role::Validator(index),
        roko_peers::Role::Client => Role::Client,
    }
}

/// Ends of the rings to and from the data plane. A client opens no frames: it has no ring for keys and addresses.
pub struct SinkRings {
    /// Keys that open frames, to every decode.
    pub keys: Option<FanOut<KeyCommand>>,
    /// Addresses of known peers, to every filter.
    pub known: Option<FanOut<KnownChange>>,
    /// Ways to peers, to spread.
    pub links: Producer<LinkCommand>,
    /// Keys that are worn, from spread.
    pub worn: Consumer<Worn>,
}

/// The data plane, as the handshakes see it.
struct RingSink {
    members: Arc<Membership>,
    own: roko_peers::PeerEndpoint,
    /// Where each peer is reached at present.
    places: Vec<(IpAddr, u16)>,
    /// Who is banned.
    banned: Vec<bool>,
    rings: SinkRings,
    key_limits: KeyLimits,
    key_log: Option<KeyLog>,
    mac_of: MacOf,
}

const fn name_of(name: KeyName) -> peer::KeyName {
    peer::KeyName { session: name.session.0, core: name.core, phase: name.phase }
}

impl RingSink {
    fn addresses(&self, slot: usize, to: Endpoint) -> Addresses {
        let configured = self.members.peers()[slot].endpoint;
        let destination_mac = if configured.ip == to.ip { configured.mac } else { (self.mac_of)(&to) };
        Addresses {
            source_mac: self.own.mac,
            destination_mac,
            source_ip: self.own.ip,
            destination_ip: to.ip,
            source_port: self.own.port,
            destination_port: to.port,
        }
    }
}

impl KeySink for RingSink {
    fn install(&mut self, key: &PeerKey) -> Result<(), RingFull> {
        let Some(ring) = &mut self.rings.keys else { return Ok(()) };
        let command = KeyCommand::Install {
            peer: PeerIndex(key.slot as u16),
            role: role(key.role),
            name: name_of(key.name),
            generation: key.generation,
            keys: AeadKeys { key: key.keys.key, iv: key.keys.iv },
        };
        ring.push(command).map_err(|_| RingFull)
    }

    fn retire(&mut self, slot: usize, name: KeyName) -> Result<(), RingFull> {
        let Some(ring) = &mut self.rings.keys else { return Ok(()) };
        let command = KeyCommand::Retire { peer: PeerIndex(slot as u16), name: name_of(name) };
        ring.push(command).map_err(|_| RingFull)
    }

    fn link(&mut self, key: &PeerKey, endpoint: Endpoint) -> Result<(), RingFull> {
        let link = PeerLink {
            addresses: self.addresses(key.slot, endpoint),
            session: key.name.session.0,
            core: key.name.core,
            key_phase: key.name.phase,
            keys: AeadKeys { key: key.keys.key, iv: key.keys.iv },
            limits: self.key_limits,
        };
        if let Some(KeyLog(log)) = &self.key_log {
            log(key.slot, key.name, &link.keys);
        }
        let command = LinkCommand::Link { peer: PeerIndex(key.slot as u16), role: role(key.role), link };
        self.rings.links.push(command).map_err(|_| RingFull)
    }

    fn readdress(&mut self, slot: usize, endpoint: Endpoint) -> Result<(), RingFull> {
        let (before, now) = (self.places[slot], (endpoint.ip, endpoint.port));
        if before == now {
            return Ok(());
        }
        let mut known = self.rings.known.as_mut().filter(|_| before.0 != now.0);
        // All rings have room, or none is told.
        if self.rings.links.free_slots() == 0 || known.as_mut().is_some_and(|rings| rings.is_full()) {
            return Err(RingFull);
        }
        if let Some(ring) = known {
            ring.push(KnownChange::Moved { from: before.0, to: now.0 }).map_err(|_| RingFull)?;
        }
        let (peer, addresses) = (PeerIndex(slot as u16), self.addresses(slot, endpoint));
        self.rings.links.push(LinkCommand::Move { peer, addresses }).map_err(|_| RingFull)?;
        self.places[slot] = now;
        Ok(())
    }

    fn banned(&mut self, slot: usize, banned: bool) -> Result<(), RingFull> {
        self.banned[slot] = banned;
        let ip = self.places[slot].0;
        // Who shares an address with a peer that may speak keeps its room.
        let others = self.places.iter().zip(&self.banned).enumerate();
        let shared =
            others.filter(|(other, _)| *other != slot).any(|(_, (place, banned))| place.0 == ip && !banned);
        match &mut self.rings.known {
            Some(ring) if banned && !shared => ring.push(KnownChange::Banned(ip)).map_err(|_| RingFull),
            Some(ring) if !banned => ring.push(KnownChange::Readmitted(ip)).map_err(|_| RingFull),
            _ => Ok(()),
        }
    }

    fn worn(&mut self) -> Option<(usize, KeyName)> {
        let Worn { peer, session, key_phase } = self.rings.worn.pop()?;
        let session = roko_peers::SessionId(session);
        Some((peer.as_usize(), KeyName { session, core: roko_peers::link::CORE, phase: key_phase }))
    }
}
