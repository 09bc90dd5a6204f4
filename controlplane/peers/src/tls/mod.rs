//! Authenticated streams between members: mutual TLS 1.3 over TCP, one endpoint a node, told apart by application protocol.
//!
//! ```text
//! dial:    TlsEndpoint::connect(address, slot, alpn)  ->  PeerStream
//! listen:  Listener::serve(endpoint, socket), and for each protocol  endpoint.routes().register(alpn, depth)  ->  PeerStreams
//! ```
//! A [`PeerStream`] is an `AsyncRead + AsyncWrite` whose other end is a member of the same chain: its certificate's key is
//! the member's node key ([`certificate`], `verifier`), and both ends have compared chain id, preset and genesis
//! ([`crate::hello`]). Sessions of the data plane use [`Alpn::FRAMES`]; whatever else members say to each other in bulk
//! registers a protocol of its own.
//!
//! Key exchange is X25519MLKEM768, a hybrid that stays secret when either half is broken, with X25519 as what is left for
//! an end that has it not. There is no resumption and no early data: a handshake costs less than a millisecond, and
//! tickets would be secrets that live long.

mod bans;
pub mod certificate;
mod listener;
mod routes;
mod stream;
mod verifier;

pub use bans::Bans;
pub use listener::Listener;
pub(crate) use listener::dials;
pub use routes::Routes;
pub use stream::{PeerIdentity, PeerStream};

use crate::NodeIdentity;
use crate::error::PeersError;
use crate::hello::{ChainFacts, Hello};
use crate::limits::HandshakeLimits;
use crate::membership::Membership;
use crate::refusal::{HandshakeCounters, HandshakeError, LogGate, Refusal};
use crate::session::{BootStamp, SessionNames};
use certificate::OwnCertificate;
use roko_wire::genesis::Endpoint;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio::time::timeout;
use verifier::MemberVerifier;

/// An application protocol (RFC 7301), with its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Alpn(pub &'static str);

impl Alpn {
    /// Sessions of the data plane.
    pub const FRAMES: Alpn = Alpn("roko/1");
    /// Catch-up with blocks and state.
    pub const SYNC: Alpn = Alpn("roko-sync/2");
    /// What this version speaks.
    pub const ALL: &[Alpn] = &[Alpn::FRAMES, Alpn::SYNC];
}

/// A wall clock, seconds since 1970; what certificates' windows are compared with.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl WallClock {
    /// The host's.
    #[must_use]
    pub fn host() -> WallClock {
        WallClock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    /// A clock that says what `seconds` says.
    pub fn new(seconds: impl Fn() -> u64 + Send + Sync + 'static) -> WallClock {
        WallClock(Arc::new(seconds))
    }

    pub(crate) fn seconds(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WallClock({} s)", self.seconds())
    }
}

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.seconds())))
    }
}

/// Takes a line about a peer; never called on a poll thread.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// What a node's TLS endpoint is made of.
pub struct TlsConfig {
    /// The node key.
    pub identity: Arc<NodeIdentity>,
    /// Who is let in.
    pub members: Arc<Membership>,
    /// What the other end must have in common with this one.
    pub chain: ChainFacts,
    /// This start's stamp.
    pub boot: BootStamp,
    /// Where this node's data plane is reached.
    pub endpoint: Endpoint,
    /// Limits of handshakes.
    pub limits: HandshakeLimits,
    /// The clock for certificates.
    pub clock: WallClock,
    /// Where refusals are told.
    pub log: Log,
}

/// A node's end of all handshakes.
pub struct TlsEndpoint {
    members: Arc<Membership>,
    own_slot: usize,
    chain: ChainFacts,
    names: Mutex<SessionNames>,
    endpoint: Mutex<Endpoint>,
    limits: HandshakeLimits,
    server: Arc<ServerConfig>,
    client: ClientConfig,
    verifier: Arc<MemberVerifier>,
    counters: Arc<HandshakeCounters>,
    routes: Arc<Routes>,
    bans: Bans,
    /// Messages on sessions' connections that made no sense, by slot.
    bad_messages: Box<[AtomicU64]>,
    log: Log,
    gate: Mutex<LogGate>,
    began: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is spoken: TLS 1.3 only, the hybrid exchange first.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519],
        ..default_provider()
    }
}

/// Makes this provider the process' own, for libraries that look for one and find two built in. Call it once at the start;
/// later calls change nothing.
pub fn install_provider() {
    // It fails when somebody else was first, and then there is one, which is all that is needed.
    let _ = default_provider().install_default();
}

impl TlsEndpoint {
    /// The endpoint of a member.
    ///
    /// # Errors
    /// When the node key is no member's, or TLS cannot be set up.
    pub fn new(config: TlsConfig) -> Result<TlsEndpoint, PeersError> {
        let own_slot = config.members.slot_of_key(&config.identity.node_key())?;
        let own = config.members.peers()[own_slot];
        let members = config.members.peers().len();
        let provider = Arc::new(provider());
        let verifier = Arc::new(MemberVerifier::new(Arc::clone(&config.members), &provider));
        let clock: Arc<dyn TimeProvider> = Arc::new(config.clock.clone());
        let certificate = Arc::new(OwnCertificate::new(config.identity, config.clock));
        let mut server = ServerConfig::builder_with_details(Arc::clone(&provider), Arc::clone(&clock))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::clone(&verifier) as _)
            .with_cert_resolver(Arc::clone(&certificate) as _);
        server.alpn_protocols = Alpn::ALL.iter().map(|alpn| alpn.0.as_bytes().to_vec()).collect();
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_details(provider, clock)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_client_cert_resolver(certificate);
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        Ok(TlsEndpoint {
            members: config.members,
            own_slot,
            chain: config.chain,
            names: Mutex::new(SessionNames::new(own.index, config.boot)),
            endpoint: Mutex::new(config.endpoint),
            limits: config.limits,
            server: Arc::new(server),
            client,
            verifier,
            counters: Arc::new(HandshakeCounters::new(members)),
            routes: Arc::default(),
            bans: Bans::new(members),
            bad_messages: (0..members).map(|_| AtomicU64::new(0)).collect(),
            log: config.log,
            gate: Mutex::default(),
            began: Instant::now(),
        })
    }

    /// Who the peers are.
    #[must_use]
    pub fn members(&self) -> &Arc<Membership> {
        &self.members
    }

    /// This node's slot among them.
    #[must_use]
    pub fn own_slot(&self) -> usize {
        self.own_slot
    }

    /// This node's counters.
    #[must_use]
    pub fn counters(&self) -> &Arc<HandshakeCounters> {
        &self.counters
    }

    /// Who takes which protocol's streams.
    #[must_use]
    pub fn routes(&self) -> &Arc<Routes> {
        &self.routes
    }

    /// Who is banned.
    #[must_use]
    pub fn bans(&self) -> &Bans {
        &self.bans
    }

    /// How many messages of the peer in `slot` made no sense, on the connections of its sessions.
    #[must_use]
    pub fn bad_messages(&self, slot: usize) -> u64 {
        self.bad_messages.get(slot).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(crate) fn note_bad_message(&self, slot: usize) {
        self.counters.refuse(Refusal::BadMessage);
        if let Some(count) = self.bad_messages.get(slot) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A peer says on its session's connection that it has banned this node.
    pub(crate) fn note_banned_by(&self, index: u16) {
        self.counters.refused_by_peer(Refusal::Banned);
        self.log(&format!(
            "peer {index:#06x} has banned this node for a while for what it sent; its log says for what"
        ));
    }

    /// Where this node's data plane is reached, as handshakes from now on say.
    pub fn set_endpoint(&self, endpoint: Endpoint) {
        *lock(&self.endpoint) = endpoint;
    }

    /// Where this node's data plane is reached.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        *lock(&self.endpoint)
    }

    pub(crate) fn limits(&self) -> &HandshakeLimits {
        &self.limits
    }

    pub(crate) fn log(&self, line: &str) {
        (self.log)(line);
    }

    fn hello(&self) -> Hello {
        Hello { chain: self.chain, session: lock(&self.names).next_id(), endpoint: self.endpoint() }
    }

    /// Opens a stream to the member in `slot`, who listens at `to`.
    ///
    /// # Errors
    /// When nobody listens, this node refuses who is there, or is refused. Refusals are counted and logged here.
    pub async fn connect(
        &self,
        to: SocketAddr,
        slot: usize,
        alpn: Alpn,
    ) -> Result<PeerStream, HandshakeError> {
        let dial = async {
            if self.bans.is_banned(slot) {
                return Err(HandshakeError::Refused(Refusal::Banned));
            }
            let tcp = TcpStream::connect(to).await?;
            tcp.set_nodelay(true)?;
            let mut config = self.client.clone();
            config.alpn_protocols = vec![alpn.0.as_bytes().to_vec()];
            let name = ServerName::IpAddress(to.ip().into());
            let connect = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp);
            let stream = connect.await.map_err(stream::handshake_error)?;
            self.open(
                stream.into(),
                to,
                |_, found| if found == slot { Ok(()) } else { Err(Refusal::WrongPeer) },
            )
            .await
        };
        let outcome = timeout(Duration::from_millis(self.limits.time_ms_max), dial).await;
        let outcome = outcome.unwrap_or(Err(HandshakeError::Refused(Refusal::Timeout)));
        let name = self.members.peers().get(slot).map_or(0, |peer| peer.index);
        self.note(&outcome, || format!("peer {name:#06x} at {to}"));
        outcome
    }

    /// Takes a connection that was let in. `admit` says who may use which protocol.
    pub(crate) async fn accept(
        &self,
        tcp: TcpStream,
        from: SocketAddr,
        admit: impl Fn(Alpn, usize) -> Result<(), Refusal>,
    ) -> Result<PeerStream, HandshakeError> {
        let take = async {
            tcp.set_nodelay(true)?;
            // A handshake record begins with 22 (RFC 8446, 5.1); nothing is kept for whoever sends something else.
            let mut first = [0];
            match tcp.peek(&mut first).await? {
                0 => return Err(HandshakeError::Refused(Refusal::Closed)),
                _ if first[0] != 22 => return Err(HandshakeError::Refused(Refusal::NotTls)),
                _ => {}
            }
            let accept = tokio_rustls::TlsAcceptor::from(Arc::clone(&self.server)).accept(tcp);
            match accept.into_fallible().await {
                Ok(stream) => self.open(stream.into(), from, admit).await,
                Err((error, mut tcp)) => {
                    // The alert is on its way; an early close with bytes unread would take it back.
                    stream::linger(&mut tcp).await;
                    Err(stream::handshake_error(error))
                }
            }
        };
        let outcome = timeout(Duration::from_millis(self.limits.time_ms_max), take).await;
        let outcome = outcome.unwrap_or(Err(HandshakeError::Refused(Refusal::Timeout)));
        self.note(&outcome, || format!("a connection from {from}"));
        outcome
    }

    /// Who is at the other end of a stream that TLS has opened, and whether they are of this chain.
    async fn open(
        &self,
        mut stream: tokio_rustls::TlsStream<TcpStream>,
        remote: SocketAddr,
        admit: impl Fn(Alpn, usize) -> Result<(), Refusal>,
    ) -> Result<PeerStream, HandshakeError> {
        let refused = HandshakeError::Refused;
        let (_, tls) = stream.get_ref();
        let certificate =
            tls.peer_certificates().and_then(<[_]>::first).ok_or(refused(Refusal::BadCertificate))?;
        let slot = self.verifier.slot_of(certificate).map_err(|_| refused(Refusal::Stranger))?;
        let spoken = tls.alpn_protocol().unwrap_or_default();
        let alpn = Alpn::ALL.iter().copied().find(|alpn| alpn.0.as_bytes() == spoken);
        let admitted = match alpn {
            None => Err(Refusal::WrongAlpn),
            Some(_) if slot == self.own_slot => Err(Refusal::WrongPeer),
            Some(_) if self.bans.is_banned(slot) => Err(Refusal::Banned),
            Some(alpn) => admit(alpn, slot),
        };
        let peer = self.members.peers()[slot];
        let own = self.hello();
        let theirs = stream::greet(&mut stream, &own, peer.index, admitted).await?;
        let identity = PeerIdentity { slot, index: peer.index, role: peer.role };
        let alpn = alpn.ok_or(refused(Refusal::WrongAlpn))?;
        Ok(PeerStream::new(stream, identity, alpn, remote, (own, theirs), self.bans.gate(slot)))
    }

    fn note(&self, outcome: &Result<PeerStream, HandshakeError>, who: impl FnOnce() -> String) {
        match outcome {
            Ok(_) => {
                self.counters.completed.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(HandshakeError::Refused(refusal)) => self.counters.refuse(*refusal),
            Err(HandshakeError::RefusedByPeer(refusal)) => self.counters.refused_by_peer(*refusal),
            Err(HandshakeError::Io(_)) => {
                // Peers come and go; that nobody listens is no news each time.
                self.counters.unreachable.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        let Err(error) = outcome else { return };
        let Some(refusal) = error.refusal() else { return };
        let now_ms = self.began.elapsed().as_millis() as u64;
        if let Some(kept) = lock(&self.gate).pass(refusal, now_ms) {
            let more = if kept == 0 { String::new() } else { format!(" ({kept} more of these)") };
            self.log(&format!("handshake: {}: {error}{more}", who()));
        }
    }
}

#[cfg(test)]
mod tests;
