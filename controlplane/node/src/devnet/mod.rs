//! A network of validators in one process: their ports are joined by a software switch, a load client offers signed
//! transfers, and the live view or a report shows what became of them.

pub mod live;
pub mod load;

pub mod network;
pub mod report;

use crate::accounts::DevnetGenesis;
use crate::api::NodeHandle;
use crate::chain::Chain;
use crate::control::ControlLoop;
use crate::handshake::{self, HandshakeParts, SinkRings};
use crate::topology::Placement;
use crate::validator::{self, NodeOptions, Ready, ValidatorParts};
use load::{LoadPlan, Loader};
use network::Network;
use roko_peers::{ClientEntry, Membership, NodeIdentity, Sessions};
use roko_pipeline::client::{ClientPort, ClientSessions};
use roko_pipeline::poll::Stage;
use roko_pipeline::port::{FrameBuf, Port};
use roko_state::file::FileStorage;
use roko_state::storage::Storage;
use roko_time::{ClockDriver, NodeClock};
use roko_wire::genesis::{Endpoint, NodeKey};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Index of the load client.
const CLIENT_INDEX: u16 = roko_peers::membership::CLIENT_INDEX_FIRST;

/// How long to wait for all sessions before the validators begin without: they come when they come.
const SESSIONS_PATIENCE: Duration = Duration::from_secs(2);

/// What a devnet is to be.
pub struct DevnetPlan {
    /// Genesis, keys and accounts.
    pub devnet: DevnetGenesis,
    /// Where each validator's state lives: a folder per validator below it.
    pub data_dir: PathBuf,
    /// Which stage runs where.
    pub placement: Placement,
    /// Settings of each node.
    pub options: NodeOptions,
    /// Declared bound of the host's clock, microseconds.
    pub clock_bound_us: u32,
}

/// A devnet that runs.
pub struct Devnet<S: Storage = FileStorage> {
    /// Each validator's handle, in index order.
    pub nodes: Vec<Arc<NodeHandle<S>>>,
    /// Driver of the ports, as it is shown everywhere.
    pub port_kind: &'static str,
    /// The node clock.
    pub clock: NodeClock,
    /// When it was started.
    pub started: Instant,
    /// How long all validators and the client took to open sessions with each other; `None` when some came later.
    pub handshakes_took: Option<Duration>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Of each validator, and of the load client after them.
    pub sessions: Vec<Sessions>,
    _handshakes: Runtime,
    _clock_driver: ClockDriver,
    _network: Box<dyn std::any::Any>,
}

/// Why a devnet cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// The genesis.
    #[error("the devnet's genesis: {0}")]
    Chain(#[from] crate::chain::ChainError),
    /// A validator.
    #[error("validator {index}: {source}")]
    Start {
        /// Which.
        index: usize,
        /// Why.
        source: validator::StartError,
    },
    /// The clock.
    #[error(transparent)]
    Time(#[from] roko_time::TimeError),
    /// Keys and peers.
    #[error(transparent)]
    Peers(#[from] roko_peers::PeersError),
    /// Ports.
    #[error("{0}")]
    Network(String),
    /// The operating system.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Devnet {
    /// Starts a devnet over `network`, whose ports are in validator order, and hands its load client to a loader.
    pub fn start<N: Network>(plan: DevnetPlan, network: N) -> Result<(Devnet, Loader), DevnetError>
    where
        <N::Port as Port>::Pool: Sync + 'static,
    {
        Devnet::start_on(plan, network, |_, data_dir| validator::open_files(data_dir))
    }
}

impl<S: Storage> Devnet<S> {
    /// Starts a devnet whose validators' state lives where `storage` says, given the validator's index and folder.
    pub fn start_on<N: Network>(
        plan: DevnetPlan,
        network: N,
        storage: impl Fn(usize, &Path) -> Result<S, validator::StartError>,
    ) -> Result<(Devnet<S>, Loader), DevnetError>
    where
        <N::Port as Port>::Pool: Sync + 'static,
    {
        let started = Instant::now();
        let DevnetPlan { devnet, data_dir, placement, options, clock_bound_us } = plan;
        let DevnetGenesis { genesis, node_identities, bls_keys, accounts, .. } = devnet;
        let chain = Arc::new(Chain::new(genesis)?);
        let (clock, clock_driver) = crate::clock::start(&chain, clock_bound_us)?;
        let client = NodeIdentity::from_seed(&client_seed(&chain));
        let entry = client_entry(&client, &chain);
        let mac = |endpoint: &Endpoint| roko_peers::membership::derived_mac(&endpoint.ip);
        let members = Membership::new(&chain.genesis, std::slice::from_ref(&entry), mac)?;
        let stop = Arc::new(AtomicBool::new(false));
        let network::Parts { ports, client: client_port, switch, enter, kind, keep } =
            network.build(&members).map_err(DevnetError::Network)?;

        let listening = Listening::bind(chain.genesis.validators.len())?;
        let mut stages: Vec<(&'static str, Box<dyn Stage>)> = vec![("switch", switch)];
        let (mut nodes, mut controls, mut sessions) = (Vec::new(), Vec::new(), Vec::new());
        let keys = node_identities.into_iter().zip(bls_keys);
        let ends = ports.into_iter().zip(&listening.sockets);
        for (index, ((port, socket), (identity, bls_key))) in ends.zip(keys).enumerate() {
            let failed = |source| DevnetError::Start { index, source };
            let own_dir = data_dir.join(format!("validator-{index}"));
            let parts = ValidatorParts {
                chain: Arc::clone(&chain),
                identity,
                bls_key,
                members: &members,
                port,
                storage: storage(index, &own_dir).map_err(failed)?,
                data_dir: &own_dir,
                clock: clock.clone(),
                placement: &placement,
                options: NodeOptions { name: format!("validator-{index}"), ..options.clone() },
                handshake: listening.parts(Some(socket.try_clone()?)),
            };
            let ready = validator::start(parts).map_err(failed)?;
            let Ready { stages: own, control, handle, sessions: with_peers, .. } = ready;
            stages.extend(own);
            nodes.push(handle);
            controls.push(control);
            sessions.push(with_peers);
        }
        let mut threads = placement.start_polling(stages, &stop, &enter)?;
        let (client_port, ends) = ClientPort::with_sessions(client_port, nodes.len());
        let parts = listening.parts(None);
        sessions.push(client_sessions(client, members, &chain, &data_dir, parts, &options, ends)?);
        let handshakes_took = wait_for_sessions(&sessions, nodes.len());
        for (index, control) in controls.into_iter().enumerate() {
            threads.push(control_thread(index, control, placement.pin_control(), &stop)?);
        }
        let loader = Loader::new(client_port, LoadPlan::new(&chain, accounts, clock.clone()));
        let devnet = Devnet {
            nodes,
            port_kind: kind,
            clock,
            started,
            handshakes_took,
            stop,
            threads,
            sessions,
            _handshakes: listening.runtime,
            _clock_driver: clock_driver,
            _network: keep,
        };
        Ok((devnet, loader))
    }

    /// Asks everything to stop and waits until the last block is on disk.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has reported it.
            let _ = thread.join();
        }
    }
}

/// Waits until all have sessions with all, and says how long that took. Whoever is not there in time comes later: votes
/// are sent again.
fn wait_for_sessions(sessions: &[Sessions], count: usize) -> Option<Duration> {
    let began = Instant::now();
    let is_there =
        |with_peers: &Sessions| with_peers.wait_for(count, SESSIONS_PATIENCE.saturating_sub(began.elapsed()));
    sessions.iter().all(is_there).then(|| began.elapsed())
}

fn control_thread<B: FrameBuf + 'static>(
    index: usize,
    control: ControlLoop<B>,
    pin: impl FnOnce() + Send + 'static,
    stop: &Arc<AtomicBool>,
) -> std::io::Result<JoinHandle<()>> {
    let stop = Arc::clone(stop);
    std::thread::Builder::new().name(format!("control-{index}")).spawn(move || {
        pin();
        control.run(&stop);
    })
}

fn client_seed(chain: &Chain) -> [u8; 32] {
    roko_wire::merkle::leaf(&[b"roko/devnet-client/1", &chain.genesis_hash.0]).0
}

fn client_entry(client: &NodeIdentity, chain: &Chain) -> ClientEntry {
    let NodeKey(key) = client.node_key();
    let last = chain.genesis.validators.len() as u8;
    ClientEntry {
        index: CLIENT_INDEX,
        node_key: NodeKey(key),
        endpoint: Endpoint { ip: [10, 77, 1, last].into(), port: 7700 },
    }
}

/// Where the validators of a devnet listen for handshakes: any free ports of the loopback interface.
struct Listening {
    sockets: Vec<TcpListener>,
    addresses: Vec<Option<SocketAddr>>,
    runtime: Runtime,
}

impl Listening {
    fn bind(validators: usize) -> std::io::Result<Listening> {
        let sockets: Vec<TcpListener> = (0..validators)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<std::io::Result<_>>()?;
        let mut addresses = sockets
            .iter()
            .map(|socket| socket.local_addr().map(Some))
            .collect::<std::io::Result<Vec<_>>>()?;
        // The client only dials.
        addresses.push(None);
        Ok(Listening { sockets, addresses, runtime: roko_peers::link::runtime()? })
    }

    fn parts(&self, socket: Option<TcpListener>) -> HandshakeParts {
        HandshakeParts {
            socket,
            addresses: self.addresses.clone(),
            runtime: self.runtime.handle().clone(),
            mac_of: Arc::new(|endpoint| roko_peers::membership::derived_mac(&endpoint.ip)),
            // Counted anyway, and the live view owns the terminal.
            log: Arc::new(|_| {}),
        }
    }
}

fn client_sessions(
    client: NodeIdentity,
    members: Membership,
    chain: &Chain,
    data_dir: &Path,
    parts: HandshakeParts,
    options: &NodeOptions,
    ends: ClientSessions,
) -> Result<Sessions, roko_peers::PeersError> {
    let rings = SinkRings { keys: None, known: None, links: ends.links, worn: ends.worn };
    let member = (Arc::new(client), Arc::new(members));
    handshake::start(member, chain, &data_dir.join("client-boot"), parts, &options.handshake, rings)
}
