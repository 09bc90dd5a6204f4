//! A network of real processes: one `roko run` a validator, each in a network namespace of its own.
//!
//! ```text
//!  namespace hub                                         namespace v0            (the same for v1, v2, ...)
//!   bridge data   ── d0 ═════════ veth ═════════ data0   frames of the data plane: af_packet or af_xdp
//!    └ load, the load client's port                      no address, no ARP: the kernel takes no part
//!   bridge kernel ── k0 ═════════ veth ═════════ eth0    10.77.0.1/16: TCP, JSON-RPC, metrics, and io_uring's UDP
//!    └ its own address, for this process
//! ```
//!
//! A node has one IP address, its endpoint in genesis, on both networks: the data plane answers to it on `data0` under the
//! Ethernet address derived from it, the kernel on `eth0` under the device's own. So the kernel sees no data frame and
//! answers none, and the data plane sees nothing but data frames.
//!
//! [`wire`] makes the network, [`files`] what each process reads, [`node`] runs one, [`watch`] collects what they tell.

pub mod faults;
pub mod files;
pub mod node;
pub mod relay;
pub mod watch;
pub mod wire;

use super::load::{Capture, LoadPlan, Loader};
use super::report::FaultCounts;
use super::{DevnetError, Watched, client_entry, client_seed, report, sessions};
use crate::accounts::DevnetGenesis;
use crate::chain::Chain;
use crate::handshake::HandshakeOptions;
use crate::observe::status::NodeStatus;
use crate::validator::NodeOptions;
use faults::Drill;
use faults::schedule::Faults;
use node::Node;
use roko_peers::{Membership, NodeIdentity, Role, Sessions};
use roko_time::ClockDriver;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use watch::Watcher;
use wire::{WireKind, Wires};

/// How long the processes may take to answer for the first time.
const START_MAX: Duration = Duration::from_secs(60);
/// How long the load client's session with a validator that was started again may take to open, and how long after it
/// transfers are sent anew.
const BACK_MAX: Duration = Duration::from_secs(20);
const BACK_AFTER: Duration = Duration::from_millis(300);
/// How long they may take to end once they are asked to.
const STOP_MAX: Duration = Duration::from_secs(15);

/// What a network of processes is to be.
pub struct ProcessPlan {
    /// Genesis, keys and accounts; `genesis.json` lies in `data_dir`.
    pub devnet: DevnetGenesis,
    /// A folder a validator below it: its configuration, keys, state and log.
    pub data_dir: PathBuf,
    /// What the nodes' ports are.
    pub wire: WireKind,
    /// Nodes ask for each other's Ethernet addresses.
    pub resolve: bool,
    /// A profile's name or file.
    pub profile: String,
    /// Settings of each node.
    pub options: NodeOptions,
    /// Declared bound of the host's clock, microseconds.
    pub clock_bound_us: u32,
    /// Where what the load client sends is recorded.
    pub record: Option<PathBuf>,
    /// What goes wrong on purpose, and when.
    pub faults: Option<Faults>,
}

/// A network of processes that runs. Dropping it ends the processes and removes the namespaces.
pub struct ProcessDevnet {
    /// Told first: it asks the nodes.
    watcher: Watcher,
    /// Ended first of all: it starts processes.
    drill: Option<Drill>,
    nodes: Arc<Vec<Node>>,
    wires: Arc<Wires>,
    kind: WireKind,
    started: Instant,
    /// The load client's.
    sessions: Vec<Sessions>,
    _handshakes: Runtime,
    _client: Box<dyn std::any::Any>,
    _clock_driver: ClockDriver,
}

impl ProcessDevnet {
    /// Makes the network, starts the processes and waits until each has answered, or `stop` is set.
    ///
    /// # Errors
    /// When this process may not make namespaces, or a node does not start; says what its log says.
    pub fn start(plan: ProcessPlan, stop: &AtomicBool) -> Result<(ProcessDevnet, Loader), DevnetError> {
        let started = Instant::now();
        let ProcessPlan { devnet, data_dir, wire, resolve, profile, options, clock_bound_us, record, faults } =
            plan;
        let say = |error: &dyn std::fmt::Display| DevnetError::Network(error.to_string());
        let DevnetGenesis { genesis, node_identities, bls_keys, accounts, .. } = devnet;
        let chain = Arc::new(Chain::new(genesis)?);
        let (clock, clock_driver) = crate::clock::start(&chain, clock_bound_us)?;
        let client = NodeIdentity::from_seed(&client_seed(&chain));
        let entry = client_entry(&client, &chain);
        let mac = |endpoint: &roko_wire::genesis::Endpoint| roko_peers::membership::derived_mac(&endpoint.ip);
        let members = Membership::new(&chain.genesis, std::slice::from_ref(&entry), mac)?;

        let wires = Arc::new(Wires::new(wire, &members).map_err(|error| say(&error))?);
        let settings = files::Settings {
            wire,
            resolve,
            profile: &profile,
            options: &options,
            clock_bound_us,
            client: &entry,
        };
        let mut nodes = Vec::new();
        for (index, (identity, bls_key)) in node_identities.iter().zip(&bls_keys).enumerate() {
            let endpoint = &chain.genesis.validators[index].endpoint;
            let config = files::write(&data_dir, index, endpoint, identity, bls_key, &settings)
                .map_err(|error| say(&error))?;
            nodes.push(Node::spawn(index, &config, wires.of_node(index), endpoint.ip)?);
        }
        let record = record.map(|path| Capture::create(&path, &members)).transpose()?;
        let key_log = record.as_ref().map(Capture::key_log);
        let at = SocketAddr::new(entry.endpoint.ip, entry.endpoint.port);
        let load_plan = LoadPlan::new(&chain, accounts, chain.genesis.validators.len(), clock);
        let (loader, ends, keep) = wires.loader(at, load_plan, record).map_err(DevnetError::Network)?;
        // Its threads stay in the namespace in which they are started.
        let handshakes = wires.hub().within(roko_peers::link::runtime).map_err(|error| say(&error))??;
        let handshake = HandshakeOptions { key_log, ..options.handshake.clone() };
        let parts = sessions::parts(None, handshake_addresses(&members), handshakes.handle());
        let sessions = sessions::of_client(client, members, &chain, &data_dir, parts, &handshake, ends)?;
        let watcher = Watcher::start(Arc::clone(&wires), nodes.iter().map(|node| node.ip).collect())?;
        let mut network = ProcessDevnet {
            watcher,
            drill: None,
            nodes: Arc::new(nodes),
            wires,
            kind: wire,
            started,
            sessions: vec![sessions],
            _handshakes: handshakes,
            _client: keep,
            _clock_driver: clock_driver,
        };
        network.wait_for_all(stop)?;
        sessions::wait_for(&network.sessions, network.nodes.len());
        network.drill = faults.map(|faults| network.begin_faults(faults, &loader)).transpose()?;
        Ok((network, loader))
    }

    /// Does faults from now on. The load goes on with what was lost: from the nonces that another validator has.
    fn begin_faults(&self, faults: Faults, loader: &Loader) -> std::io::Result<Drill> {
        let (wires, resync) = (Arc::clone(&self.wires), loader.resync());
        let accounts: Vec<Vec<_>> = (0..self.nodes.len()).map(|index| loader.accounts_of(index)).collect();
        let ips: Vec<_> = self.nodes.iter().map(|node| node.ip).collect();
        let counters = self.sessions.first().map(Sessions::counters);
        let back = move |away: &[usize]| {
            let began = Instant::now();
            let open = || counters.as_ref().map_or(0, |all| all.sessions.load(Ordering::Relaxed));
            while (open() as usize) < ips.len() && began.elapsed() < BACK_MAX {
                std::thread::sleep(Duration::from_millis(50));
            }
            std::thread::sleep(BACK_AFTER);
            let Some(other) = (0..ips.len()).find(|index| !away.contains(index)) else { return };
            for index in away {
                if let Ok(nonces) = watch::nonces(&wires, ips[other], &accounts[*index]) {
                    resync.go_on_from(accounts[*index].iter().copied().zip(nonces).collect());
                }
            }
        };
        Drill::start(faults, Arc::clone(&self.nodes), Arc::clone(&self.wires), back)
    }

    fn wait_for_all(&mut self, stop: &AtomicBool) -> Result<(), DevnetError> {
        while !self.watcher.heard_all() {
            if let Some(ended) = self.failure() {
                return Err(DevnetError::Network(ended));
            }
            if self.started.elapsed() > START_MAX || stop.load(Ordering::Relaxed) {
                let log = self.nodes[0].log.display();
                return Err(DevnetError::Network(format!("not every node has answered: see {log}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The network's namespaces.
    #[must_use]
    pub fn wires(&self) -> &Arc<Wires> {
        &self.wires
    }

    /// Each node's process, in index order.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The next nonce of each of these accounts, as the first node's state has it.
    ///
    /// # Errors
    /// When the node does not answer.
    pub fn nonces(&self, accounts: &[roko_wire::Address]) -> Result<Vec<u64>, DevnetError> {
        watch::nonces(&self.wires, self.nodes[0].ip, accounts).map_err(DevnetError::Network)
    }

    /// Asks every process to end, waits until its last block is on disk, and removes the network.
    pub fn stop(self) {
        drop(self);
    }
}

/// Where each member listens for handshakes, by slot: validators at the port after that of their data plane.
fn handshake_addresses(members: &Membership) -> Vec<Option<SocketAddr>> {
    let of = |peer: &roko_peers::Peer| match peer.role {
        Role::Validator(_) => Some(SocketAddr::new(peer.endpoint.ip, peer.endpoint.port + 1)),
        Role::Client => None,
    };
    members.peers().iter().map(of).collect()
}

impl Drop for ProcessDevnet {
    fn drop(&mut self) {
        self.drill = None;
        self.watcher.stop();
        self.nodes.iter().for_each(Node::ask_to_end);
        let until = Instant::now() + STOP_MAX;
        self.nodes.iter().for_each(|node| node.wait_or_kill(until));
    }
}

impl Watched for ProcessDevnet {
    fn statuses(&self, audit: bool) -> Vec<NodeStatus> {
        if audit { self.watcher.ask_now(true) } else { self.watcher.latest() }
    }
    fn forks(&self) -> u64 {
        self.watcher.forks()
    }
    fn port_kind(&self) -> &'static str {
        self.kind.name()
    }
    fn started(&self) -> Instant {
        self.started
    }
    fn rss_mb(&self) -> u64 {
        self.watcher.latest().iter().map(|node| node.rss_mb).sum::<u64>() + report::rss_mb()
    }
    fn processes(&self) -> usize {
        self.nodes.len()
    }
    fn patience(&self) -> Duration {
        Duration::from_millis(20)
    }
    fn faults(&self) -> Option<FaultCounts> {
        self.drill.as_ref().map(Drill::counts)
    }
    fn failure(&self) -> Option<String> {
        self.nodes.iter().find_map(Node::ended)
    }
}
