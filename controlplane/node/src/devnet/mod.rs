//! A network of validators on this machine: a load client offers signed transfers, and the live view or a report shows
//! what became of them.
//!
//! [`Devnet`] has them all in this process, their ports joined by a software switch. [`processes`] runs each in a process
//! of its own, over a bridge of the kernel.

pub mod attack;
pub mod live;
pub mod load;
pub mod network;
#[cfg(feature = "dpdk")]
pub mod processes;
pub mod report;
pub mod sessions;

use crate::accounts::DevnetGenesis;
use crate::api::NodeHandle;
use crate::catchup::Catchup;
use crate::chain::Chain;
use crate::conduct::Keeper;
use crate::control::ControlLoop;
use crate::handshake::HandshakeOptions;
use crate::observe::status::NodeStatus;
use crate::sandbox::{self, Confined};
use crate::topology::Placement;
use crate::validator::{self, NodeOptions, Ready, ValidatorParts};
use attack::{Hostile, HostileParts};
use load::{Capture, LoadPlan, Loader};
use network::Network;
use roko_consensus::SecretKey;
use roko_peers::{ClientEntry, Membership, NodeIdentity, Sessions};
use roko_pipeline::poll::Stage;
use roko_pipeline::port::{FrameBuf, FramePool, Port};
use roko_state::file::FileStorage;
use roko_state::storage::Storage;
use roko_time::{ClockDriver, NodeClock};
use roko_wire::BlockId;
use roko_wire::genesis::{Endpoint, NodeKey};
use seccompiler::BpfProgram;
use sessions::Listening;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Index of the load client.
const CLIENT_INDEX: u16 = roko_peers::membership::CLIENT_INDEX_FIRST;

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
    /// Where what the load client sends is recorded.
    pub record: Option<PathBuf>,
    /// What the last validator is, in a drill; the load goes to the others only.
    pub drill: Option<Drill>,
}

/// What the last validator of a devnet is in a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drill {
    /// As honest as the others.
    Honest,
    /// Not there.
    Silent,
    /// There, and hostile: see [`attack`].
    Hostile,
}

/// A network whose nodes are watched, wherever they run.
pub trait Watched {
    /// Every node's status, in index order; `audit` adds what costs a walk over the whole state.
    fn statuses(&self, audit: bool) -> Vec<NodeStatus>;
    /// Heights at which two nodes' final blocks differ.
    fn forks(&self) -> u64;
    /// Driver of the ports, as it is shown everywhere.
    fn port_kind(&self) -> &'static str;
    /// When it was started.
    fn started(&self) -> Instant;
    /// Resident memory of all its processes, MiB.
    fn rss_mb(&self) -> u64;
    /// Processes that its nodes run in.
    fn processes(&self) -> usize;
    /// How long to wait before it is asked again.
    fn patience(&self) -> Duration;
    /// What went wrong on purpose; `None` where nothing is to.
    fn faults(&self) -> Option<report::FaultCounts> {
        None
    }
    /// Why it cannot go on: a node's process has ended.
    fn failure(&self) -> Option<String> {
        None
    }
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
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Of each validator, and of the load client after them.
    pub sessions: Vec<Sessions>,
    _catchups: Vec<Catchup>,
    _keepers: Vec<Keeper>,
    /// The hostile validator, when there is one.
    pub hostile: Option<Hostile>,
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

/// Validators that are put together, and do not run yet.
struct Group<B: FrameBuf, S: Storage> {
    stages: Vec<(&'static str, Box<dyn Stage>)>,
    nodes: Vec<Arc<NodeHandle<S>>>,
    controls: Vec<ControlLoop<B>>,
    sessions: Vec<Sessions>,
    catchups: Vec<Catchup>,
    keepers: Vec<Keeper>,
}

impl<B: FrameBuf, S: Storage> Group<B, S> {
    fn new(switch: Box<dyn Stage>) -> Group<B, S> {
        Group {
            stages: vec![("switch", switch)],
            nodes: Vec::new(),
            controls: Vec::new(),
            sessions: Vec::new(),
            catchups: Vec::new(),
            keepers: Vec::new(),
        }
    }

    fn add<P: FramePool<Buf = B>>(&mut self, validator: Ready<P, S>) {
        let Ready { stages, control, handle, sessions, catchup, keeper, .. } = validator;
        self.stages.extend(stages);
        self.nodes.push(handle);
        self.controls.push(control);
        self.sessions.push(sessions);
        self.catchups.push(catchup);
        self.keepers.push(keeper);
    }
}

/// What all validators of a devnet have in common.
struct Shared<'a> {
    chain: &'a Arc<Chain>,
    members: &'a Membership,
    data_dir: &'a Path,
    clock: &'a NodeClock,
    placement: &'a Placement,
    options: &'a NodeOptions,
    listening: &'a Listening,
}

/// A validator's keys, and the socket that it listens on for handshakes.
type OwnParts = (NodeIdentity, SecretKey, TcpListener);

impl Shared<'_> {
    /// Puts the validators together, each with its port and its keys, but for the one that is left out, whose parts are returned.
    fn validators<P: Port, S: Storage>(
        &self,
        group: &mut Group<P::Buf, S>,
        validators: impl Iterator<Item = (P, (NodeIdentity, SecretKey))>,
        left_out: Option<usize>,
        storage: impl Fn(usize, &Path) -> Result<S, validator::StartError>,
    ) -> Result<Option<(P, OwnParts)>, DevnetError>
    where
        P::Pool: Sync + 'static,
    {
        let mut out = None;
        let sockets = self.listening.sockets.iter();
        for (index, ((port, (identity, bls_key)), socket)) in validators.zip(sockets).enumerate() {
            let own = (identity, bls_key, socket.try_clone()?);
            if left_out == Some(index) {
                out = Some((port, own));
                continue;
            }
            let name = format!("validator-{index}");
            let started = self.validator(name, port, own, |data_dir| storage(index, data_dir));
            group.add(started.map_err(|source| DevnetError::Start { index, source })?);
        }
        Ok(out)
    }

    fn validator<P: Port, S: Storage>(
        &self,
        name: String,
        port: P,
        (identity, bls_key, socket): OwnParts,
        storage: impl FnOnce(&Path) -> Result<S, validator::StartError>,
    ) -> Result<Ready<P::Pool, S>, validator::StartError>
    where
        P::Pool: Sync + 'static,
    {
        let data_dir = self.data_dir.join(&name);
        validator::start(ValidatorParts {
            chain: Arc::clone(self.chain),
            identity,
            bls_key,
            members: self.members,
            port,
            storage: storage(&data_dir)?,
            data_dir: &data_dir,
            clock: self.clock.clone(),
            placement: self.placement,
            options: NodeOptions { name, ..self.options.clone() },
            handshake: self.listening.parts(Some(socket)),
        })
    }

    fn hostile<P: Port + 'static>(
        &self,
        port: P,
        (identity, bls_key, socket): OwnParts,
    ) -> Result<Hostile, roko_peers::PeersError> {
        let own = (Arc::clone(self.chain), identity, bls_key, self.members.clone());
        let (addresses, clock) = (self.listening.addresses.clone(), self.clock.clone());
        let (runtime, data_dir) = (self.listening.runtime.handle().clone(), self.data_dir.join("hostile"));
        Hostile::start(HostileParts { own, port, socket, addresses, runtime, data_dir, clock })
    }
}

/// What confines poll threads, unless they are watched: who watches a thread asks the kernel about it, which a confined one
/// may not.
fn confinement(placement: &Placement, port: &str) -> Option<BpfProgram> {
    let filter = match placement.is_tapped() {
        true => Err("they are watched".to_owned()),
        false => sandbox::filter(port),
    };
    filter.inspect_err(|why| eprintln!("poll threads are not confined: {why}")).ok()
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
        let DevnetPlan { devnet, data_dir, placement, options, clock_bound_us, record, drill } = plan;
        let DevnetGenesis { genesis, node_identities, bls_keys, accounts, .. } = devnet;
        let chain = Arc::new(Chain::new(genesis)?);
        let (clock, clock_driver) = crate::clock::start(&chain, clock_bound_us)?;
        let client = NodeIdentity::from_seed(&client_seed(&chain));
        let entry = client_entry(&client, &chain);
        let mac = |endpoint: &Endpoint| roko_peers::membership::derived_mac(&endpoint.ip);
        let members = Membership::new(&chain.genesis, std::slice::from_ref(&entry), mac)?;
        let stop = Arc::new(AtomicBool::new(false));
        let network::Parts { ports, client: client_port, switch, enter, kind, keep } =
            network.build(&members, placement.lanes()).map_err(DevnetError::Network)?;

        let listening = Listening::bind(chain.genesis.validators.len())?;
        let mut group = Group::new(switch);
        let last = chain.genesis.validators.len() - 1;
        let shared = Shared {
            chain: &chain,
            members: &members,
            data_dir: &data_dir,
            clock: &clock,
            placement: &placement,
            options: &options,
            listening: &listening,
        };
        let left_out = matches!(drill, Some(Drill::Silent | Drill::Hostile)).then_some(last);
        let keys = node_identities.into_iter().zip(bls_keys);
        let turned = shared.validators(&mut group, ports.into_iter().zip(keys), left_out, storage)?;
        let Group { stages, nodes, controls, mut sessions, catchups, keepers } = group;
        let enter = Confined::new(enter, confinement(&placement, kind));
        let mut threads = placement.start_polling(stages, &stop, &enter)?;
        let offered_to = if drill.is_some() { last } else { last + 1 };
        let loader_plan = LoadPlan::new(&chain, accounts, offered_to, clock.clone());
        let record = record.map(|path| Capture::create(&path, &members)).transpose()?;
        let key_log = record.as_ref().map(Capture::key_log);
        let (loader, ends) = Loader::over(client_port, last + 1, loader_plan, record);
        let handshake = HandshakeOptions { key_log, ..options.handshake.clone() };
        let parts = listening.parts(None);
        let hostile = turned.filter(|_| drill == Some(Drill::Hostile));
        let hostile = hostile.map(|(port, own)| shared.hostile(port, own)).transpose()?;
        sessions.push(sessions::of_client(client, members, &chain, &data_dir, parts, &handshake, ends)?);
        sessions::wait_for(&sessions, nodes.len());
        for (index, control) in controls.into_iter().enumerate() {
            threads.push(control.spawn(&format!("control-{index}"), placement.pin_control(), &stop)?);
        }
        let devnet = Devnet {
            nodes,
            port_kind: kind,
            clock,
            started,
            stop,
            threads,
            sessions,
            hostile,
            _catchups: catchups,
            _keepers: keepers,
            _handshakes: listening.runtime,
            _clock_driver: clock_driver,
            _network: keep,
        };
        Ok((devnet, loader))
    }

    /// The height that every node has made final and durable.
    #[must_use]
    pub fn durable_height(&self) -> u64 {
        self.nodes.iter().map(|node| node.observer.durable_height().0).min().unwrap_or(0)
    }

    /// Heights at which two nodes' final blocks differ.
    #[must_use]
    pub fn forks(&self) -> u64 {
        let mut finals = Finals::default();
        for node in &self.nodes {
            node.observer.progress(|progress| {
                progress.final_ids.iter().zip(progress.final_ids_from..).for_each(|(id, height)| {
                    finals.add(height, *id);
                });
            });
        }
        finals.forks
    }

    /// Asks everything to stop and waits until the last block is on disk.
    pub fn stop(mut self) {
        drop(self.hostile.take());
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has reported it.
            let _ = thread.join();
        }
    }
}

impl<S: Storage> Watched for Devnet<S> {
    fn statuses(&self, audit: bool) -> Vec<NodeStatus> {
        self.nodes.iter().map(|node| node.status_now(u64::MAX, audit)).collect()
    }
    fn forks(&self) -> u64 {
        Devnet::forks(self)
    }
    fn port_kind(&self) -> &'static str {
        self.port_kind
    }
    fn started(&self) -> Instant {
        self.started
    }
    fn rss_mb(&self) -> u64 {
        report::rss_mb()
    }
    fn processes(&self) -> usize {
        1
    }
    fn patience(&self) -> Duration {
        Duration::from_millis(2)
    }
}

/// Final blocks by height, as nodes tell them.
#[derive(Debug, Default)]
pub struct Finals {
    by_height: BTreeMap<u64, BlockId>,
    /// Ids that were not the first at their height.
    pub forks: u64,
}

impl Finals {
    /// Takes in that a node has made `id` final at `height`.
    pub fn add(&mut self, height: u64, id: BlockId) {
        self.forks += u64::from(*self.by_height.entry(height).or_insert(id) != id);
    }
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
