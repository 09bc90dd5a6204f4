//! The handshakes of a devnet: where its validators listen, and the load client's sessions with them.

use crate::chain::Chain;
use crate::handshake::{self, HandshakeOptions, HandshakeParts, SinkRings};
use roko_peers::{Membership, NodeIdentity, PeersError, Sessions};
use roko_pipeline::client::ClientSessions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, Runtime};

/// How long to wait for all sessions before the validators begin without: they come when they come.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the validators of a devnet in one process listen: any free ports of the loopback interface.
pub struct Listening {
    /// A socket a validator.
    pub sockets: Vec<TcpListener>,
    /// Their addresses by slot; the client's, which only dials, is `None`.
    pub addresses: Vec<Option<SocketAddr>>,
    /// What handshakes run on.
    pub runtime: Runtime,
}

impl Listening {
    /// Listens for `validators` validators.
    ///
    /// # Errors
    /// When no port is free, or no thread can be started.
    pub fn bind(validators: usize) -> std::io::Result<Listening> {
        let sockets: Vec<TcpListener> = (0..validators)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<std::io::Result<_>>()?;
        let mut addresses = sockets
            .iter()
            .map(|socket| socket.local_addr().map(Some))
            .collect::<std::io::Result<Vec<_>>>()?;
        addresses.push(None);
        Ok(Listening { sockets, addresses, runtime: roko_peers::link::runtime()? })
    }

    /// What a member needs for its handshakes.
    #[must_use]
    pub fn parts(&self, socket: Option<TcpListener>) -> HandshakeParts {
        parts(socket, self.addresses.clone(), self.runtime.handle())
    }
}

/// What a member needs for its handshakes. Refusals are counted anyway, and the live view owns the terminal.
#[must_use]
pub fn parts(
    socket: Option<TcpListener>,
    addresses: Vec<Option<SocketAddr>>,
    runtime: &Handle,
) -> HandshakeParts {
    HandshakeParts {
        socket,
        addresses,
        runtime: runtime.clone(),
        mac_of: Arc::new(|endpoint| roko_peers::membership::derived_mac(&endpoint.ip)),
        log: Arc::new(|_| {}),
    }
}

/// Begins the load client's sessions with all validators.
///
/// # Errors
/// When its boot stamp cannot be kept, or TLS cannot be set up.
pub fn of_client(
    client: NodeIdentity,
    members: Membership,
    chain: &Chain,
    data_dir: &Path,
    parts: HandshakeParts,
    options: &HandshakeOptions,
    ends: ClientSessions,
) -> Result<Sessions, PeersError> {
    let rings = SinkRings { keys: None, known: None, links: ends.links, worn: ends.worn };
    let member = (Arc::new(client), Arc::new(members));
    handshake::start(member, chain, &data_dir.join("client-boot"), parts, options, rings)
}

/// Waits until all have sessions with `count` peers. Whoever is not there in time comes later: votes are sent again.
pub fn wait_for(sessions: &[Sessions], count: usize) {
    let began = Instant::now();
    for with_peers in sessions {
        let _ = with_peers.wait_for(count, PATIENCE.saturating_sub(began.elapsed()));
    }
}
