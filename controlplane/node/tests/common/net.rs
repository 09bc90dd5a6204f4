//! A network of four validators inside the test, on any storage, with a tap on what each of them sends.

use super::PATIENCE;
use roko_node::accounts::{DEVNET_CHAIN_ID, DevnetGenesis, devnet_genesis};
use roko_node::api::NodeHandle;
use roko_node::devnet::load::Loader;
use roko_node::devnet::network::{Built, Network, Parts, Plain};
use roko_node::devnet::{Devnet, DevnetError, DevnetPlan, Drill};
use roko_node::handshake::{HandshakeOptions, KeyLog, host_millis};
use roko_node::validator::NodeOptions;
use roko_peers::{Membership, ScoreConfig};
use roko_pipeline::poll::Stage;
use roko_pipeline::port::inprocess::{
    InProcessBuf, InProcessPool, InProcessPort, InProcessRx, InProcessTx, pair_of_queues,
};
use roko_pipeline::port::rss::RssTx;
use roko_pipeline::port::{Burst, FrameBuf, Port, RxStamps, TxPort};
use roko_pipeline::session::{AeadKeys, Opener};
use roko_pipeline::switch::Switch;
use roko_state::storage::Storage;
use roko_wire::codec::Reader;
use roko_wire::frame::{FRAME_HEADER_BYTES, FrameHeader};
use roko_wire::genesis::Preset;
use roko_wire::message::Message;
use roko_wire::net::{Mac, parse_udp};
use roko_wire::rules::TRANSFER_GAS;
use roko_wire::vote::Ballot;
use roko_wire::{BlockId, NanoMoment, View};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Validators of the network.
pub(crate) const VALIDATORS: usize = 4;
const SEED: &[u8] = b"a network in a test";
const ACCOUNTS: u32 = 200;
const PORT_DEPTH: usize = 2_048;
const FRAMES_PER_PORT: usize = 12 * 1024;

/// A frame as its sender gave it to its port.
pub(crate) struct Tapped {
    /// When.
    pub(crate) at: Instant,
    /// Which port: a validator's index, or the load client's after them.
    pub(crate) from: usize,
    /// All of it.
    pub(crate) frame: Vec<u8>,
}

/// Says of a frame and the port that sends it whether it is kept.
type Keep = Box<dyn Fn(usize, &[u8]) -> bool + Send + Sync>;

/// What is kept of the frames that are sent.
pub(crate) struct Tap {
    keep: Keep,
    frames: Mutex<Vec<Tapped>>,
}

impl Tap {
    /// A tap that keeps what `keep` says, from any start of the network on.
    pub(crate) fn new(keep: impl Fn(usize, &[u8]) -> bool + Send + Sync + 'static) -> Arc<Tap> {
        Arc::new(Tap { keep: Box::new(keep), frames: Mutex::default() })
    }

    /// Keeps of each validator the frames to the next one: every vote and every proposal goes to all others, so one
    /// copy of each is there.
    pub(crate) fn of_next_validator() -> Arc<Tap> {
        let macs: Vec<Mac> = genesis(NanoMoment(1))
            .genesis
            .validators
            .iter()
            .map(|validator| roko_peers::membership::derived_mac(&validator.endpoint.ip))
            .collect();
        Tap::new(move |from, frame| from < VALIDATORS && frame.starts_with(&macs[(from + 1) % VALIDATORS].0))
    }

    /// What was kept until now.
    pub(crate) fn take(&self) -> Vec<Tapped> {
        std::mem::take(&mut *self.frames.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, from: usize, frame: &[u8]) {
        if (self.keep)(from, frame) {
            let tapped = Tapped { at: Instant::now(), from, frame: frame.to_vec() };
            self.frames.lock().unwrap_or_else(PoisonError::into_inner).push(tapped);
        }
    }
}

/// A port whose sent frames pass a tap.
pub(crate) struct TapPort {
    port: InProcessPort,
    from: usize,
    tap: Arc<Tap>,
}

/// Its sending half.
pub(crate) struct TapTx {
    tx: RssTx<InProcessTx>,
    from: usize,
    tap: Arc<Tap>,
}

impl TxPort for TapTx {
    type Buf = InProcessBuf;
    fn tx_burst(&mut self, burst: &mut Burst<InProcessBuf>) -> usize {
        // What the port does not take comes again and is kept again: readers look at what was said, not how often.
        burst.iter().for_each(|frame| self.tap.note(self.from, frame.data()));
        self.tx.tx_burst(burst)
    }
}

impl Port for TapPort {
    type Buf = InProcessBuf;
    type Rx = InProcessRx;
    type Tx = TapTx;
    type Pool = InProcessPool;
    fn kind(&self) -> &'static str {
        self.port.kind()
    }
    fn rx_stamps(&self) -> RxStamps {
        self.port.rx_stamps()
    }
    fn rx_queues(&self) -> usize {
        self.port.rx_queues()
    }
    fn split_queues(self) -> (Vec<InProcessRx>, TapTx, InProcessPool) {
        let (rx, tx, pool) = self.port.split_queues();
        (rx, TapTx { tx, from: self.from, tap: self.tap }, pool)
    }
}

/// The pure-Rust network with a tap, and one more port that belongs to nobody.
pub(crate) struct TappedNetwork {
    /// The tap.
    pub(crate) tap: Arc<Tap>,
    /// Where the port that belongs to nobody is put, with the switch's figures.
    pub(crate) stranger: Arc<Mutex<Option<Stranger>>>,
}

/// A port of the switch that no member of the chain has.
pub(crate) struct Stranger {
    /// The port.
    pub(crate) port: InProcessPort,
    /// The switch's counters.
    pub(crate) switch: Arc<roko_pipeline::metrics::StageMetrics>,
}

impl Network for TappedNetwork {
    type Port = TapPort;
    type Client = TapPort;
    type Enter = Plain;

    fn build(self, members: &Membership, lanes: usize) -> Built<Self> {
        let (mut ends, mut far) = (Vec::new(), Vec::new());
        for from in 0..=members.peers().len() {
            let pool = InProcessPool::new(FRAMES_PER_PORT);
            let queues = if from + 1 < members.peers().len() { lanes } else { 1 };
            let (near, other) = pair_of_queues(PORT_DEPTH, (pool.clone(), pool), (queues, 1));
            let (rx, tx, _) = other.split();
            ends.push(TapPort { port: near, from, tap: Arc::clone(&self.tap) });
            far.push((rx, tx));
        }
        let mut switch = Switch::new(far);
        members.peers().iter().enumerate().for_each(|(port, peer)| switch.learn(peer.endpoint.mac, port));
        let stranger = ends.pop().ok_or("one more port than members")?;
        *self.stranger.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Stranger { port: stranger.port, switch: switch.metrics() });
        let client = ends.pop().ok_or("a devnet has a load client")?;
        Ok(Parts {
            ports: ends,
            client,
            switch: Box::new(switch),
            enter: Plain,
            kind: "in-process",
            keep: Box::new(()),
        })
    }
}

fn genesis(time: NanoMoment) -> DevnetGenesis {
    let validators = VALIDATORS as u16;
    let mut made = devnet_genesis(validators, ACCOUNTS, Preset::Balanced, DEVNET_CHAIN_ID, SEED, time)
        .expect("a genesis of these arguments");
    let limits = &mut made.genesis.limits;
    limits.block_txs_max = 1_024;
    limits.block_bytes_max = 640 * 1024;
    limits.block_gas_limit = 1_024 * 2 * TRANSFER_GAS;
    // Four nodes that share two busy cores see each other late, which says nothing about clocks.
    limits.message_delay_ms = 10_000;
    made
}

/// A chain that is started again and again on the same storages.
pub(crate) struct Net {
    time: NanoMoment,
    dir: tempfile::TempDir,
    tap: Arc<Tap>,
    keys: Arc<Mutex<SealingKeys>>,
    /// What the last validator is.
    pub(crate) drill: Option<Drill>,
    /// How scores are kept.
    pub(crate) scores: ScoreConfig,
}

/// Keys that validators sealed with, by receiver and name.
type SealingKeys = HashMap<(usize, u64, u8), AeadKeys>;

impl Net {
    /// A chain that begins now.
    pub(crate) fn new(tap: Arc<Tap>) -> Net {
        let time = NanoMoment(u128::from(host_millis()) * 1_000_000);
        let (dir, keys) = (tempfile::tempdir().expect("a temporary folder"), Arc::default());
        Net { time, dir, tap, keys, drill: None, scores: ScoreConfig::default() }
    }

    /// The Ethernet address of validator `index`.
    pub(crate) fn mac(index: usize) -> Mac {
        mac_of(&genesis(NanoMoment(1)).genesis.validators[index].endpoint)
    }

    /// Starts the validators, each on its storage.
    pub(crate) fn start<S: Storage>(&self, storages: &[S]) -> Result<Running<S>, DevnetError> {
        let plan = DevnetPlan {
            record: None,
            drill: self.drill,
            devnet: genesis(self.time),
            data_dir: self.dir.path().to_owned(),
            placement: roko_node::cli::profile::placement("devnet-2core").expect("a built-in profile"),
            options: NodeOptions {
                mempool_transactions_max: 8_192,
                stamp_flush_us: 1_500,
                segment_bytes: 256 * 1024,
                journal_bytes: 4 << 20,
                indexed_transactions_max: 1 << 16,
                handshake: HandshakeOptions { key_log: Some(self.key_log()), ..HandshakeOptions::default() },
                scores: self.scores,
                ..NodeOptions::default()
            },
            clock_bound_us: 10_000,
        };
        let stranger = Arc::new(Mutex::new(None));
        let network = TappedNetwork { tap: Arc::clone(&self.tap), stranger: Arc::clone(&stranger) };
        let folder = self.dir.path().to_owned();
        let storage_of = |index: usize, own: &Path| {
            std::fs::create_dir_all(own)?;
            Ok(storages[index].clone())
        };
        std::fs::create_dir_all(folder)?;
        let (devnet, loader) = Devnet::start_on(plan, network, storage_of)?;
        let stranger = stranger.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Running { devnet, loader: Some(loader), load: None, stranger })
    }

    /// Remembers every key that frames are sealed with.
    fn key_log(&self) -> KeyLog {
        let keys = Arc::clone(&self.keys);
        KeyLog(Arc::new(move |slot, name, sealing: &AeadKeys| {
            let mut keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.insert((slot, name.session.0, name.phase), sealing.clone());
        }))
    }

    /// The votes and proposals among `frames`, of those to each sender's next validator, opened with its keys.
    pub(crate) fn said(&self, frames: &[Tapped]) -> Vec<Said> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let mut openers: HashMap<(usize, u64, u8), Opener> = HashMap::new();
        let said = |tapped: &Tapped| {
            let Tapped { at, from, frame } = tapped;
            let span = parse_udp(frame).expect("a validator sends UDP");
            let mut payload = frame[span.payload_at..][..span.payload_bytes].to_vec();
            let header = FrameHeader::read(&mut Reader::new(&payload)).expect("a validator seals its frames");
            let name = ((from + 1) % VALIDATORS, header.session, header.key_phase);
            let opener = openers
                .entry(name)
                .or_insert_with(|| Opener::new(keys.get(&name).expect("a key that a handshake agreed on")));
            let bytes = opener.open(header.sequence, &mut payload).expect("sealed for this receiver");
            let what = match Message::read(&payload[FRAME_HEADER_BYTES..][..bytes]).expect("a message") {
                Message::Vote(vote) if usize::from(vote.signer.0) == *from => {
                    Words::Vote(vote.view, vote.ballot)
                }
                Message::Propose(propose) if usize::from(propose.header.proposer.0) == *from => {
                    Words::Proposal(propose.header.view, propose.header.id())
                }
                _ => return None,
            };
            Some(Said { at: *at, by: *from, what })
        };
        frames.iter().filter_map(said).collect()
    }
}

fn mac_of(endpoint: &roko_wire::genesis::Endpoint) -> Mac {
    roko_peers::membership::derived_mac(&endpoint.ip)
}

/// What a validator binds itself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Words {
    /// A ballot in a view.
    Vote(View, Ballot),
    /// A block proposed in a view.
    Proposal(View, BlockId),
}

/// A vote or a proposal of its own that a validator has sent.
pub(crate) struct Said {
    /// When.
    pub(crate) at: Instant,
    /// By whom.
    pub(crate) by: usize,
    /// What.
    pub(crate) what: Words,
}

/// Pairs of words of one validator that break a voting rule.
pub(crate) fn contradictions(said: &[Said]) -> Vec<String> {
    let all: BTreeSet<(usize, Words)> = said.iter().map(|said| (said.by, said.what)).collect();
    let mut found = Vec::new();
    for (by, first) in &all {
        for (_, second) in all.iter().filter(|(other, _)| other == by) {
            let broken = match (first, second) {
                (Words::Vote(v, a), Words::Vote(w, b)) => v == w && roko_consensus::evidence::slashable(a, b),
                (Words::Proposal(v, a), Words::Proposal(w, b)) => v == w && a != b,
                _ => false,
            };
            if broken && first < second {
                found.push(format!("validator {by} said {first:?} and {second:?}"));
            }
        }
    }
    found
}

/// A network that runs.
pub(crate) struct Running<S: Storage> {
    /// It.
    pub(crate) devnet: Devnet<S>,
    /// The port that belongs to nobody.
    pub(crate) stranger: Option<Stranger>,
    loader: Option<Loader>,
    load: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl<S: Storage> Running<S> {
    /// The validators.
    pub(crate) fn nodes(&self) -> &[Arc<NodeHandle<S>>] {
        &self.devnet.nodes
    }

    /// Offers `rate` transfers a second until [`Running::stop_load`]. Returns where they are counted.
    pub(crate) fn load(&mut self, rate: u64) -> Arc<roko_node::devnet::load::LoadCounts> {
        use roko_services::NodeApi;
        let mut loader = self.loader.take().expect("the load starts once");
        loader.set_nonces(|address| self.devnet.nodes[0].balance(*address).nonce);
        let counts = loader.counts();
        let stop = Arc::new(AtomicBool::new(false));
        let load_stop = Arc::clone(&stop);
        let thread = std::thread::spawn(move || loader.run(rate, None, &load_stop));
        self.load = Some((stop, thread));
        counts
    }

    /// Ends the load.
    pub(crate) fn stop_load(&mut self) {
        if let Some((stop, thread)) = self.load.take() {
            stop.store(true, Ordering::Relaxed);
            thread.join().expect("the load ends");
        }
    }

    /// The height that validator `index` has on disk.
    pub(crate) fn durable(&self, index: usize) -> u64 {
        self.nodes()[index].observer.durable_height().0
    }

    /// Ends everything.
    pub(crate) fn stop(mut self) {
        self.stop_load();
        self.devnet.stop();
    }
}

/// Waits until `done`; false when that takes too long.
pub(crate) fn reached(mut done: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !done() {
        if began.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}
