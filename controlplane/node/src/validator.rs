//! One node put together: data plane, workers, replica and handle. Used by the devnet for each of its validators and by
//! `roko run` for one.

use crate::api::{DataPlaneView, NodeHandle};
use crate::catchup::{self, Catchup, CatchupParts, Settings, ToControl};
use crate::chain::{Chain, Own};
use crate::conduct::{Keeper, KeeperParts};
use crate::control::{ControlInput, ControlLoop};
use crate::disk::Disk;
use crate::handshake::{self, HandshakeOptions, HandshakeParts, SinkRings};
use crate::observe::Observer;
use crate::replica::{Parts, Replica};
use crate::ring_plane::{PlaneRings, RingPlane};
use crate::slow_path::{SlowPath, SlowPathOptions};
use crate::topology::Placement;
use crate::wake::{Waker, add_wake_stage};
use crate::workers::bls::{BlsContext, BlsWorker};
use crate::workers::journal::Journal;
use crate::workers::store::Store;
use crossbeam::channel::{Receiver, Sender, bounded};
use roko_consensus::SecretKey;
use roko_peers::{Membership, NodeIdentity, ScoreConfig, Sessions};
use roko_pipeline::assembly::{RingGauge, SessionEnds};
use roko_pipeline::block_buffer::BlockRoom;
use roko_pipeline::filter::{FilterConfig, RateLimit};
use roko_pipeline::keys::{InstalledKeys, KeyCommand};
use roko_pipeline::lanes::FanOut;
use roko_pipeline::metrics::StageMetrics;
use roko_pipeline::open::PeerRates;
use roko_pipeline::order::OrderConfig;
use roko_pipeline::peer::KeySource;
use roko_pipeline::poll::Stage;
use roko_pipeline::port::{FramePool, Port};
use roko_pipeline::slow_path::SlowPathEnds;
use roko_pipeline::verify::VerifyConfig;
use roko_pipeline::{ControlEnds, DataPlaneConfig, Depths, assemble};
use roko_ring::mempool::{Config as MempoolConfig, Limits};
use roko_state::OpenReport;
use roko_state::file::{FileStorage, WritePath};
use roko_state::storage::Storage;
use roko_time::NodeClock;
use roko_wire::limits::MESSAGE_BYTES_MAX;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// Settings of a node that are not its chain's.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Name in metrics and in the live view.
    pub name: String,
    /// Most transactions of the mempool.
    pub mempool_transactions_max: usize,
    /// Most of one sender.
    pub sender_transactions_max: u16,
    /// How long a stamp batch stays open, microseconds.
    pub stamp_flush_us: u32,
    /// Bytes of a segment of the store.
    pub segment_bytes: u64,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Frames a second from a stranger's address, and from a peer's.
    pub stranger_frames_per_second: u32,
    /// See `stranger_frames_per_second`.
    pub known_frames_per_second: u32,
    /// Transactions that can be looked up by id.
    pub indexed_transactions_max: usize,
    /// Handshakes and key phases.
    pub handshake: HandshakeOptions,
    /// Scores of peers, and bans.
    pub scores: ScoreConfig,
    /// What is done for a port that no kernel owns; `None` where a kernel does it, or nobody asks.
    pub slow_path: Option<SlowPathOptions>,
}

impl Default for NodeOptions {
    fn default() -> Self {
        NodeOptions {
            name: "node".into(),
            mempool_transactions_max: 65_536,
            sender_transactions_max: 64,
            stamp_flush_us: 500,
            segment_bytes: 64 << 20,
            journal_bytes: 32 << 20,
            stranger_frames_per_second: 1_000,
            known_frames_per_second: 500_000,
            indexed_transactions_max: 1 << 22,
            handshake: HandshakeOptions::default(),
            scores: ScoreConfig::default(),
            slow_path: None,
        }
    }
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error("the state store: {0}")]
    State(#[from] roko_state::StateError),
    /// The journal.
    #[error("the journal: {0}")]
    Journal(#[from] roko_state::vote_log::VoteLogError),
    /// Votes that this validator may have cast are not on its disk.
    #[error(
        "there is no vote log, but {height} blocks are final here: what this validator has voted for is not known; `roko repair` \
         makes it vote again when the views that it may have voted in are over"
    )]
    VotesMissing {
        /// Blocks that are final here.
        height: u64,
    },
    /// A record that this program cannot read.
    #[error("a record on disk: {0}; use the node version that wrote it, or sync again into a new directory")]
    Record(#[from] roko_wire::codec::DecodeError),
    /// Keys and peers.
    #[error(transparent)]
    Peers(#[from] roko_peers::PeersError),
    /// The data plane's settings.
    #[error(transparent)]
    Assembly(#[from] roko_pipeline::assembly::AssemblyError),
    /// The BLS key is not the one that genesis names.
    #[error(
        "the BLS key is not that of validator {0} in genesis: use the key file that its genesis entry was made from"
    )]
    BlsKey(u16),
    /// This node is no validator of the chain.
    #[error("the node key is not among genesis' validators; only validators run in this version")]
    NotValidator,
    /// The operating system.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// What a validator is put together from.
pub struct ValidatorParts<'a, P: Port, S: Storage> {
    /// The chain.
    pub chain: Arc<Chain>,
    /// Its node key.
    pub identity: NodeIdentity,
    /// Its voting key.
    pub bls_key: SecretKey,
    /// Who its peers are.
    pub members: &'a Membership,
    /// Its port.
    pub port: P,
    /// Where its state lives.
    pub storage: S,
    /// Where its boot stamp and its evidence are kept.
    pub data_dir: &'a Path,
    /// The node clock.
    pub clock: NodeClock,
    /// Which stage runs where.
    pub placement: &'a Placement,
    /// Settings.
    pub options: NodeOptions,
    /// What its handshakes need.
    pub handshake: HandshakeParts,
}

/// A node that is ready to run.
pub struct Ready<P: FramePool, S: Storage> {
    /// Its stages in packet order.
    pub stages: Vec<(&'static str, Box<dyn Stage>)>,
    /// Its control thread's loop.
    pub control: ControlLoop<P::Buf>,
    /// What is done for a port that no kernel owns.
    pub slow_path: Option<SlowPath<P>>,
    /// Its face to services.
    pub handle: Arc<NodeHandle<S>>,
    /// What opening the store found.
    pub open_report: OpenReport,
    /// What brings it back when it is behind, and answers others; it ends when this is dropped.
    pub catchup: Catchup,
    /// Its sessions with peers; they end when this is dropped.
    pub sessions: Sessions,
    /// What bans and readmits peers; it ends when this is dropped.
    pub keeper: Keeper,
}

/// How fetched blocks get to a control thread.
pub struct CatchupEnds {
    /// What it is asked.
    pub control: Sender<ToControl>,
    /// Wakes it.
    pub waker: Arc<Waker>,
}

fn seed() -> u64 {
    rand::random()
}

/// The settings of a node's data plane.
pub(crate) fn data_plane_config(
    chain: &Chain,
    identity: &NodeIdentity,
    index: roko_wire::ValidatorIndex,
    members: &Membership,
    options: &NodeOptions,
    depths: Depths,
) -> Result<DataPlaneConfig, StartError> {
    let own = &members.peers()[members.slot_of_key(&identity.node_key())?];
    let limits = &chain.genesis.limits;
    let mut mempool = MempoolConfig::for_txs(options.mempool_transactions_max, seed());
    mempool.sender_txs_max = options.sender_transactions_max;
    mempool.prefault = true;
    let rate = |frames_per_second| RateLimit { frames_per_second, burst_frames: frames_per_second.max(64) };
    Ok(DataPlaneConfig {
        filter: FilterConfig {
            ip: own.endpoint.ip,
            port: own.endpoint.port,
            stranger: rate(options.stranger_frames_per_second),
            known: rate(options.known_frames_per_second),
            known_addresses: members.peers().iter().map(|peer| peer.endpoint.ip).collect(),
        },
        verify: VerifyConfig {
            rules: chain.rules.tx,
            ingress: index,
            signing_key: *identity.signing_key(),
            validators: chain.node_keys.clone(),
            stamp_flush_us: options.stamp_flush_us,
            messages_per_poll: 4,
            recent_txs: 65_536,
            salt: seed(),
        },
        order: OrderConfig {
            mempool,
            chain_id: chain.domain.chain_id,
            ingress: index,
            signing_key: *identity.signing_key(),
            late_flush_us: options.stamp_flush_us,
            seed: chain.genesis.seed,
            block_buffers: 4,
            block_room: BlockRoom {
                txs: limits.block_txs_max as usize,
                body_bytes: limits.block_bytes_max as usize,
            },
        },
        rates: PeerRates::for_rings(depths.to_control, depths.to_verify),
        peers_max: members.peers().len(),
        links: Vec::new(),
        depths,
        lanes: 1,
        port_clock: None,
        slow_path: options.slow_path.is_some(),
    })
}

/// The directory of a node's state, made when it is new.
pub fn open_files(data_dir: &Path) -> Result<FileStorage, StartError> {
    std::fs::create_dir_all(data_dir)?;
    Ok(FileStorage::open(data_dir, WritePath::Best)?)
}

/// The validator that both keys are of.
fn index_of(
    chain: &Chain,
    identity: &NodeIdentity,
    bls_key: &SecretKey,
) -> Result<roko_wire::ValidatorIndex, StartError> {
    let index = chain.genesis.index_of(&identity.node_key()).ok_or(StartError::NotValidator)?;
    if bls_key.public_key().to_bytes() == chain.genesis.validators[index.as_usize()].bls_key.0 {
        Ok(index)
    } else {
        Err(StartError::BlsKey(index.0))
    }
}

fn bls_context(chain: &Chain, key: SecretKey, index: roko_wire::ValidatorIndex) -> BlsContext {
    let (set, quorums) = (Arc::clone(&chain.set), chain.quorums);
    BlsContext { domain: chain.domain, set, quorums, key: Some((key, index)) }
}

/// The most that a block takes out of the mempool.
fn drain_limits(chain: &Chain) -> Limits {
    Limits { txs: chain.rules.txs_max, bytes: chain.rules.body_bytes_max, gas: chain.rules.gas_limit }
}

/// Opens the disk, wires the stages and starts the workers of a validator.
pub fn start<P: Port, S: Storage>(parts: ValidatorParts<'_, P, S>) -> Result<Ready<P::Pool, S>, StartError>
where
    P::Pool: Sync + 'static,
{
    let index = index_of(&parts.chain, &parts.identity, &parts.bls_key)?;
    std::fs::create_dir_all(parts.data_dir)?;
    let (chain, clock, options, handshake) = (parts.chain, parts.clock, parts.options, parts.handshake);
    let (members, data_dir, placement) = (parts.members, parts.data_dir, parts.placement);
    let config = data_plane_config(&chain, &parts.identity, index, members, &options, placement.depths())?;
    let config = DataPlaneConfig { port_clock: clock.port_page(), lanes: placement.lanes(), ..config };
    let Wired { mut stages, mut control, keys, mempool_capacity } = wire(config, parts.port, &clock)?;
    let disk = Disk::open_to_vote(&chain, &parts.storage, &options, data_dir)?;
    control.gauges.extend(key_gauges(&keys, placement.lanes()));
    let own = Own { index, node_key: *parts.identity.signing_key() };
    let (runtime, addresses) = (handshake.runtime.clone(), handshake.addresses.clone());
    let slow_path = options.slow_path.as_ref().zip(control.slow_path.take());
    let (slow_path, session_ends) = with_slow_path(slow_path, control.sessions, members, index);
    let (log, rings) = (Arc::clone(&handshake.log), sink_rings(keys, session_ends));
    let member = (Arc::new(parts.identity), Arc::new(members.clone()));
    let sessions =
        handshake::start(member, &chain, &data_dir.join("boot"), handshake, &options.handshake, rings)?;
    let observer = Arc::new(Observer::new(options.name, Some(data_dir.join("evidence"))));
    let (conduct, banning) = (Arc::clone(&observer.conduct), sessions.banning());
    let keeper =
        KeeperParts { conduct, stages: control.refused_by_peer, banning, config: options.scores, log };
    let keeper = Keeper::start(keeper, &chain, &runtime);
    let waker = add_wake_stage(&mut stages, &control.gauges);
    let order_metrics = metrics_of(&control.metrics, "order")?;
    let view = DataPlaneView {
        cores: placement.places(&control.metrics),
        stages: control.metrics,
        rings: control.gauges,
        port_kind: control.port_kind,
        offloads: control.offloads,
        rx_stamps: control.rx_stamps.name(),
        mempool_capacity,
        slow_path: slow_path.as_ref().map(SlowPath::metrics),
        link: Arc::default(),
        handshakes: sessions.counters(),
    };
    let mut injector = control.injector;
    let inject = Box::new(move |wire: &[u8], received| injector.submit(wire, received));
    let reader = disk.store.reader();
    let (shared, seen) = (Arc::clone(&chain), Arc::clone(&observer));
    let handle = NodeHandle::new(shared, Some(index), seen, clock.clone(), view, reader, inject);
    let handle = Arc::new(handle);
    let rings = PlaneRings {
        order: control.order,
        finals: control.finals,
        spread: control.spread,
        blocks: control.blocks,
        returned: control.returned,
        builder: control.builder,
    };
    let (plane, report) = (RingPlane::new(rings, drain_limits(&chain), clock.clone()), disk.report.clone());
    let (ends, catchup_in) = catchup_ends(&waker);
    let input = ControlInput {
        frames: control.frames,
        seen: control.seen,
        built: control.built,
        order_metrics,
        catchup: catchup_in,
    };
    let catchup = catchup_of(&handle, &sessions, addresses, ends);
    let catchup = catchup::link::start(catchup, &runtime);
    let with = ReplicaWith { own, bls_key: parts.bls_key, placement, plane };
    let replica = replica(disk, &handle, &waker, with)?;
    let control = ControlLoop { replica, input, clock, observer, waker };
    Ok(Ready { stages, control, slow_path, handle, open_report: report, catchup, sessions, keeper })
}

/// Depths of the rings that keys come by, one a receive queue.
fn key_gauges(keys: &FanOut<KeyCommand>, lanes: usize) -> impl Iterator<Item = RingGauge> + use<> {
    let of = move |(lane, gauge)| RingGauge::new("handshake_decode", (lanes > 1).then_some(lane), gauge);
    (0u8..).zip(keys.depth_gauges()).map(of)
}

/// What a validator's replica is made of, beside its disk.
struct ReplicaWith<'a> {
    own: Own,
    bls_key: SecretKey,
    placement: &'a Placement,
    plane: RingPlane,
}

/// Starts the workers and goes on from what the disk holds.
fn replica<S: Storage>(
    disk: Disk<S>,
    handle: &NodeHandle<S>,
    waker: &Arc<Waker>,
    with: ReplicaWith<'_>,
) -> Result<Replica<RingPlane>, StartError> {
    let ReplicaWith { own, bls_key, placement, plane } = with;
    let chain = Arc::clone(&handle.chain);
    let bls = bls_context(&chain, bls_key, own.index);
    let parts = Parts {
        chain,
        own: Some(own),
        bls: BlsWorker::spawn(bls, Arc::clone(waker), placement.pin_bls())?,
        journal: Journal::spawn(disk.log, disk.recovered, Arc::clone(waker), placement.pin_storage())?,
        store: Store::spawn(disk.store, placement.pin_storage())?,
        reader: Box::new(handle.reader().clone()),
        abstains: disk.abstains,
        plane,
        observer: Arc::clone(&handle.observer),
        clock: handle.clock.now(),
    };
    Ok(Replica::new(parts, disk.started))
}

/// The way from the catch-up to a control thread, both ends.
pub(crate) fn catchup_ends(waker: &Arc<Waker>) -> (CatchupEnds, Receiver<ToControl>) {
    let (control, asked) = bounded(1);
    (CatchupEnds { control, waker: Arc::clone(waker) }, asked)
}

fn catchup_of<S: Storage>(
    handle: &NodeHandle<S>,
    sessions: &Sessions,
    addresses: Vec<Option<SocketAddr>>,
    ends: CatchupEnds,
) -> CatchupParts<S> {
    CatchupParts {
        tls: Arc::clone(sessions.tls()),
        addresses,
        chain: Arc::clone(&handle.chain),
        reader: handle.reader().clone(),
        ends,
        observer: Arc::clone(&handle.observer),
        settings: Settings::VALIDATOR,
    }
}

/// Puts the slow path between the handshakes and spread, where there is one.
fn with_slow_path<P: FramePool>(
    of: Option<(&SlowPathOptions, SlowPathEnds<P>)>,
    ends: SessionEnds,
    members: &Membership,
    index: roko_wire::ValidatorIndex,
) -> (Option<SlowPath<P>>, SessionEnds) {
    let Some((options, frames)) = of else { return (None, ends) };
    let own = members.peers()[index.as_usize()].endpoint.ip;
    let (slow_path, links) = SlowPath::new(own, options, frames, ends.links, members.peers().len());
    (Some(slow_path), SessionEnds { links, ..ends })
}

fn sink_rings(keys: FanOut<KeyCommand>, ends: SessionEnds) -> SinkRings {
    SinkRings { keys: Some(keys), known: Some(ends.known), links: ends.links, worn: ends.worn }
}

/// Stages in packet order, by name.
type Stages = Vec<(&'static str, Box<dyn Stage>)>;

/// A data plane that is wired, the ring that its keys come by, and how many transactions its pool holds.
struct Wired<P: Port> {
    stages: Stages,
    control: ControlEnds<P>,
    keys: FanOut<KeyCommand>,
    mempool_capacity: u32,
}

/// Wires the stages; sessions come with the handshakes.
fn wire<P: Port>(config: DataPlaneConfig, port: P, clock: &NodeClock) -> Result<Wired<P>, StartError>
where
    P::Pool: Sync,
{
    let mempool_capacity = config.order.mempool.txs_max() as u32;
    let (keys, installed) = InstalledKeys::for_queues(config.peers_max, port.rx_queues());
    let installed = installed.into_iter().map(|keys| Box::new(keys) as Box<dyn KeySource>).collect();
    let plane = assemble(port, config, installed, clock.page())?;
    Ok(Wired { stages: plane.stages, control: plane.control, keys, mempool_capacity })
}

fn metrics_of(all: &[Arc<StageMetrics>], stage: &str) -> Result<Arc<StageMetrics>, StartError> {
    let found = all.iter().find(|metrics| metrics.stage() == stage).map(Arc::clone);
    found.ok_or_else(|| std::io::Error::other(format!("the data plane has no {stage} stage")).into())
}

const _: () = assert!(MESSAGE_BYTES_MAX < 2_048, "a message fits an mbuf");
