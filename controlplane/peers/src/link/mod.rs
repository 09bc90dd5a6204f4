//! Sessions with all peers: who dials whom, keys to the data plane, key phases, and what happens when a connection ends.
//!
//! Each pair of nodes keeps one TLS connection ([`crate::tls`], protocol "roko/1"). Its exporter gives both directions
//! their first secret; the connection stays open to agree on key phases (`phase`), to tell of a new address, and to notice
//! that the other end is gone. Frames do not need it: when it breaks, they go on with the keys they have, the dialer dials
//! again, and the new session takes over as one phase takes over from another.
//!
//! Only the dialer makes new connections, so of two with one peer the newer counts and the older ends. Keys of a peer that
//! is gone stay in the data plane until it comes back or the node stops: nothing says that it will not go on.
//!
//! A peer's address changes only by what it says here, over the authenticated connection. A frame from a new address, though
//! authentic, does not change it: whoever sees a frame can send a copy of it from an address of his choice and would draw
//! all that follows to himself (RFC 9000, 9.3, needs a challenge against that).

mod connection;
mod message;
mod phase;
mod registry;
mod sink;

pub use phase::PhaseTimes;
pub use sink::{CORE, KeyName, KeySink, PeerKey, RingFull};

use crate::backoff::Backoff;
use crate::refusal::HandshakeCounters;
use crate::tls::{Alpn, Listener, PeerStream, TlsEndpoint, dials};
use connection::Ended;
use core::hash::{BuildHasher, Hasher};
use registry::{Command, Registry};
use roko_wire::genesis::Endpoint;
use std::collections::hash_map::RandomState;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{AbortHandle, JoinSet};

/// Waits between two dials, milliseconds: short enough that a peer which has just started is found at once.
const DIAL_MS_LEAST: u64 = 50;
const DIAL_MS_MOST: u64 = 1_000;
/// A connection that lasted as long as this begins its waits anew.
const LASTED: Duration = Duration::from_secs(2);
/// How often keys that are worn are looked for.
const WORN_INTERVAL: Duration = Duration::from_millis(20);
/// How long to wait for room in a ring to the data plane.
const RING_PAUSE: Duration = Duration::from_millis(1);
/// Sessions that came in and wait to be taken up.
const ACCEPTED_MAX: usize = 64;

/// What sessions are made of.
pub struct SessionsConfig {
    /// This node's TLS endpoint.
    pub tls: Arc<TlsEndpoint>,
    /// The data plane.
    pub sink: Box<dyn KeySink>,
    /// Where each peer listens for handshakes, by slot; `None` for those that only dial.
    pub addresses: Vec<Option<SocketAddr>>,
    /// Times of key phases.
    pub times: PhaseTimes,
    /// Where this node listens; `None` for a client.
    pub socket: Option<TcpListener>,
}

/// What all tasks of a node share.
struct Shared {
    tls: Arc<TlsEndpoint>,
    sink: Mutex<Box<dyn KeySink>>,
    registry: Mutex<Registry>,
    addresses: Vec<Option<SocketAddr>>,
    times: PhaseTimes,
    began: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Calls the sink until its ring has room.
    async fn sink(&self, mut call: impl FnMut(&mut dyn KeySink) -> Result<(), RingFull>) {
        while call(lock(&self.sink).as_mut()).is_err() {
            self.tls.counters().ring_full.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::time::sleep(RING_PAUSE).await;
        }
    }
}

impl Shared {
    /// Takes all keys of a peer out of the data plane.
    async fn withdraw(&self, slot: usize) {
        let names = lock(&self.registry).take_installed(slot);
        for name in names {
            self.sink(|sink| sink.retire(slot, name)).await;
        }
    }

    /// Tells the data plane whether a peer is banned, and takes the keys of one that is.
    async fn follow_ban(&self, slot: usize) {
        if self.tls.bans().is_banned(slot) {
            self.withdraw(slot).await;
        }
        self.sink(|sink| sink.banned(slot, self.tls.bans().is_banned(slot))).await;
    }
}

/// Bans peers and takes them back.
#[derive(Clone)]
pub struct Banning {
    shared: Arc<Shared>,
    runtime: Handle,
}

impl Banning {
    /// From now on nothing of the peer in `slot` is listened to: its keys are withdrawn from the data plane, which refuses its
    /// frames before it decrypts them, its streams end, and its handshakes are refused as [`crate::Refusal::Banned`]. Frames to
    /// it go on: who is banned by mistake still hears the chain.
    pub fn ban(&self, slot: usize) {
        self.set(slot, true);
    }

    /// The peer in `slot` may open sessions again.
    pub fn readmit(&self, slot: usize) {
        self.set(slot, false);
    }

    fn set(&self, slot: usize, banned: bool) {
        if self.shared.tls.bans().set(slot, banned) {
            let shared = Arc::clone(&self.shared);
            self.runtime.spawn(async move { shared.follow_ban(slot).await });
        }
    }

    /// This node's TLS endpoint.
    #[must_use]
    pub fn tls(&self) -> &Arc<TlsEndpoint> {
        &self.shared.tls
    }

    /// The slots of peers whose session was open, and whose connection has ended since.
    #[must_use]
    pub fn lost(&self) -> Vec<usize> {
        let registry = lock(&self.shared.registry);
        (0..self.shared.tls.members().peers().len()).filter(|slot| registry.is_lost(*slot)).collect()
    }
}

/// A runtime for handshakes: one thread named `handshake`, apart from poll, control and worker threads.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(1).thread_name("handshake").enable_all().build()
}

/// A node's sessions. They end when this is dropped; keys in the data plane stay.
pub struct Sessions {
    shared: Arc<Shared>,
    runtime: Handle,
    root: AbortHandle,
}

impl Sessions {
    /// Begins to listen and to dial, on `runtime`.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub fn start(config: SessionsConfig, runtime: &Handle) -> io::Result<Sessions> {
        let _entered = runtime.enter();
        let socket = match config.socket {
            Some(socket) => {
                socket.set_nonblocking(true)?;
                Some(tokio::net::TcpListener::from_std(socket)?)
            }
            None => None,
        };
        let peers = config.tls.members().peers().len();
        let shared = Arc::new(Shared {
            tls: config.tls,
            sink: Mutex::new(config.sink),
            registry: Mutex::new(Registry::new(peers)),
            addresses: config.addresses,
            times: config.times,
            began: Instant::now(),
        });
        // Registered before anyone can dial, so that nobody is turned away as too early.
        let accepted = shared.tls.routes().register(Alpn::FRAMES, ACCEPTED_MAX);
        let root = runtime.spawn(root(Arc::clone(&shared), socket, accepted)).abort_handle();
        Ok(Sessions { shared, runtime: runtime.clone(), root })
    }

    /// This node's TLS endpoint: other protocols register and dial there.
    #[must_use]
    pub fn tls(&self) -> &Arc<TlsEndpoint> {
        &self.shared.tls
    }

    /// What bans peers.
    #[must_use]
    pub fn banning(&self) -> Banning {
        Banning { shared: Arc::clone(&self.shared), runtime: self.runtime.clone() }
    }

    /// Counters.
    #[must_use]
    pub fn counters(&self) -> Arc<HandshakeCounters> {
        Arc::clone(self.shared.tls.counters())
    }

    /// Where a peer listens for handshakes.
    #[must_use]
    pub fn address(&self, slot: usize) -> Option<SocketAddr> {
        self.shared.addresses.get(slot).copied().flatten()
    }

    /// Waits until sessions with `count` peers are open, at most `patience`. True when they are.
    #[must_use]
    pub fn wait_for(&self, count: usize, patience: Duration) -> bool {
        let (began, counters) = (Instant::now(), self.counters());
        while (counters.sessions.load(std::sync::atomic::Ordering::Relaxed) as usize) < count {
            if began.elapsed() >= patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Tells all peers that this node's data plane is reached at `endpoint` from now on. Sessions and keys stay.
    pub fn announce(&self, endpoint: Endpoint) {
        self.shared.tls.set_endpoint(endpoint);
        lock(&self.shared.registry).tell_all(Command::Announce(endpoint));
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.root.abort();
    }
}

async fn root(
    shared: Arc<Shared>,
    socket: Option<tokio::net::TcpListener>,
    mut accepted: tokio::sync::mpsc::Receiver<PeerStream>,
) {
    let mut tasks = JoinSet::new();
    if let Some(socket) = socket {
        let members: Vec<IpAddr> = shared.addresses.iter().flatten().map(SocketAddr::ip).collect();
        tasks.spawn(Listener::serve(Arc::clone(&shared.tls), socket, members));
    }
    let peers = shared.tls.members().peers();
    let own = (shared.tls.own_slot(), peers[shared.tls.own_slot()].role);
    for (slot, peer) in peers.iter().enumerate() {
        if slot != own.0
            && dials(own, (slot, peer.role))
            && let Some(address) = shared.addresses.get(slot).copied().flatten()
        {
            tasks.spawn(dial(Arc::clone(&shared), slot, address));
        }
    }
    tasks.spawn(follow_worn(Arc::clone(&shared)));
    loop {
        tokio::select! {
            Some(stream) = accepted.recv() => {
                let shared = Arc::clone(&shared);
                tasks.spawn(async move {
                    connection::run(&shared, stream, false).await;
                });
            }
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Keeps a session with a peer that this node dials.
async fn dial(shared: Arc<Shared>, slot: usize, address: SocketAddr) {
    let mut backoff = Backoff::new(DIAL_MS_LEAST, DIAL_MS_MOST);
    let random = RandomState::new();
    loop {
        shared.tls.bans().admitted(slot).await;
        let began = Instant::now();
        if let Ok(stream) = shared.tls.connect(address, slot, Alpn::FRAMES).await {
            let ended = connection::run(&shared, stream, true).await;
            if began.elapsed() >= LASTED {
                backoff.succeeded();
            }
            if ended == Ended::Renew && began.elapsed() >= LASTED {
                continue;
            }
        }
        let mut hasher = random.build_hasher();
        hasher.write_u64(shared.now_ms());
        tokio::time::sleep(Duration::from_millis(backoff.after_failure(hasher.finish()))).await;
    }
}

/// Brings reports of worn keys to their connections.
async fn follow_worn(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(WORN_INTERVAL).await;
        // The sink is locked for one report at a time: connections use it too.
        loop {
            let Some((slot, name)) = lock(&shared.sink).worn() else { break };
            lock(&shared.registry).tell(slot, Command::Worn(name));
        }
    }
}

#[cfg(test)]
mod tests;
