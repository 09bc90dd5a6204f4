//! A full node: it follows the chain by catching up all the time, keeps every block, and serves JSON-RPC. It has no data
//! plane, votes on nothing and takes no transactions.

use crate::api::{DataPlaneView, NodeHandle};
use crate::catchup::ToControl;
use crate::chain::Chain;
use crate::disk::Disk;
use crate::observe::Observer;
use crate::replica::plane::{Plane, PoolCommand, Target};
use crate::replica::{Parts, Replica};
use crate::topology::Placement;
use crate::validator::{CatchupEnds, NodeOptions, StartError, catchup_ends};
use crate::wake::Waker;
use crate::workers::bls::{BlsContext, BlsWorker};
use crate::workers::journal::Journal;
use crate::workers::store::Store;
use crossbeam::channel::Receiver;
use roko_peers::HandshakeCounters;
use roko_pipeline::block_buffer::BlockBuffer;
use roko_pipeline::inject::InjectError;
use roko_pipeline::spread::SpreadBlock;
use roko_state::OpenReport;
use roko_state::storage::Storage;
use roko_time::NodeClock;
use roko_wire::NanoMoment;
use roko_wire::frame::PriorityClass;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longest pause of the control thread: bounds how late the stop flag is seen.
const PARK_MAX: Duration = Duration::from_millis(20);

/// No data plane: nothing is sent and nothing is pooled.
struct NoPlane;

impl Plane for NoPlane {
    fn pump(&mut self, _: NanoMoment) {}
    fn send(&mut self, _: Target, _: PriorityClass, _: &[u8]) {}
    fn spread(&mut self, _: Arc<SpreadBlock>, _: Target) {}
    fn pool(&mut self, _: PoolCommand) {}
    fn rebuild(&mut self, _: Box<BlockBuffer>) {}
    fn release(&mut self, _: Box<BlockBuffer>) {}
}

/// What a full node is put together from.
pub struct FollowerParts<'a, S: Storage> {
    /// The chain.
    pub chain: Arc<Chain>,
    /// Where its state lives.
    pub storage: S,
    /// Where its evidence is kept.
    pub data_dir: &'a Path,
    /// The node clock.
    pub clock: NodeClock,
    /// Where its threads run.
    pub placement: &'a Placement,
    /// Settings.
    pub options: NodeOptions,
    /// Counters of its handshakes.
    pub handshakes: Arc<HandshakeCounters>,
}

/// A full node that is ready to run.
pub struct ReadyFollower<S: Storage> {
    /// Its control thread's loop.
    pub control: FollowerLoop,
    /// Its face to services.
    pub handle: Arc<NodeHandle<S>>,
    /// What opening the store found.
    pub open_report: OpenReport,
    /// Where the catch-up reaches its control thread.
    pub catchup: CatchupEnds,
}

/// The control thread of a full node.
pub struct FollowerLoop {
    replica: Replica<NoPlane>,
    catchup: Receiver<ToControl>,
    clock: NodeClock,
    waker: Arc<Waker>,
}

impl FollowerLoop {
    /// Runs until `stop` is set.
    pub fn run(mut self, stop: &AtomicBool) {
        self.waker.adopt_current();
        while !stop.load(Ordering::Relaxed) {
            self.replica.set_clock(self.clock.now());
            let mut work = self.replica.poll(false);
            while self.replica.takes_blocks()
                && let Ok(asked) = self.catchup.try_recv()
            {
                self.replica.on_catchup(asked);
                work += 1;
            }
            if work == 0 {
                let catchup = &self.catchup;
                self.waker.park(PARK_MAX, || !catchup.is_empty());
            }
        }
    }
}

/// Opens the disk and starts the workers of a full node.
///
/// # Errors
/// When the disk cannot be opened or read, or a thread cannot be started.
pub fn start<S: Storage>(parts: FollowerParts<'_, S>) -> Result<ReadyFollower<S>, StartError> {
    let FollowerParts { chain, storage, data_dir, clock, placement, options, handshakes } = parts;
    let disk = Disk::open(&chain, &storage, &options)?;
    let observer = Arc::new(Observer::new(options.name, Some(data_dir.join("evidence"))));
    let waker = Arc::new(Waker::default());
    let view = DataPlaneView {
        stages: Vec::new(),
        rings: Vec::new(),
        port_kind: "none",
        offloads: Vec::new(),
        slow_path: None,
        link: Arc::default(),
        rx_stamps: "none",
        mempool_capacity: 0,
        cores: Vec::new(),
        handshakes,
    };
    let reader = disk.store.reader();
    let handle = NodeHandle::new(
        Arc::clone(&chain),
        None,
        Arc::clone(&observer),
        clock.clone(),
        view,
        reader.clone(),
        Box::new(|_, _| Err(InjectError::Busy)),
    );
    let (set, quorums) = (Arc::clone(&chain.set), chain.quorums);
    let bls = BlsContext { domain: chain.domain, set, quorums, key: None };
    let pin_storage = || placement.pin_storage();
    let parts = Parts {
        chain,
        own: None,
        bls: BlsWorker::spawn(bls, Arc::clone(&waker), placement.pin_bls())?,
        journal: Journal::spawn(disk.log, disk.recovered, Arc::clone(&waker), pin_storage())?,
        store: Store::spawn(disk.store, pin_storage())?,
        reader: Box::new(reader),
        abstains: None,
        plane: NoPlane,
        observer,
        clock: clock.now(),
    };
    let (ends, catchup) = catchup_ends(&waker);
    let control = FollowerLoop { replica: Replica::new(parts, disk.started), catchup, clock, waker };
    Ok(ReadyFollower { control, handle: Arc::new(handle), open_report: disk.report, catchup: ends })
}
