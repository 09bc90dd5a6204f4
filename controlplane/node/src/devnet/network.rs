//! The devnet's network: a port for each validator and one for the load client, joined by a switch stage.

use roko_peers::Membership;
use roko_pipeline::poll::Stage;
use roko_pipeline::port::Port;
use roko_pipeline::port::inprocess::{InProcessPool, InProcessPort, pair_of_queues};
use roko_pipeline::switch::Switch;
use std::any::Any;

/// Frames that each port's queue holds, each way.
const PORT_DEPTH: usize = 2_048;
/// Frames in each validator's share of the pool: what can be under way in its stages, and what its queues hold.
pub(crate) const FRAMES_PER_PORT: usize = 20 * 1024;

/// The same for this many lanes: what is under way is spread over them, and each has queues and rings of its own.
const fn frames_per_port(lanes: usize) -> usize {
    FRAMES_PER_PORT * (lanes + 1) / 2
}

/// What a poll thread holds while it polls.
pub type ThreadGuard = Option<Box<dyn Any>>;

/// What a network is made of.
pub struct Parts<P: Port, C: Port, E> {
    /// Each validator's port, in index order.
    pub ports: Vec<P>,
    /// The load client's port.
    pub client: C,
    /// Joins them.
    pub switch: Box<dyn Stage>,
    /// To be called on each poll thread.
    pub enter: E,
    /// The driver's name.
    pub kind: &'static str,
    /// Must live as long as the network.
    pub keep: Box<dyn Any>,
}

/// Prepares a poll thread for its port.
pub trait EnterThread: Clone + Send + Sync + 'static {
    /// Called on the thread; the result lives as long as the thread polls.
    fn enter(&self) -> ThreadGuard;
}

/// Nothing needs preparing.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl EnterThread for Plain {
    fn enter(&self) -> ThreadGuard {
        None
    }
}

/// What a network of this type is made of, or why it cannot be.
pub type Built<N> =
    Result<Parts<<N as Network>::Port, <N as Network>::Client, <N as Network>::Enter>, String>;

/// Builds the ports of a devnet.
pub trait Network: Sized {
    /// A validator's port.
    type Port: Port + 'static;
    /// The load client's port.
    type Client: Port + 'static;
    /// Enters a poll thread.
    type Enter: EnterThread;
    /// Builds the network for these members: validators first, then the client. A validator's port has a queue for each of
    /// `lanes`; the client's has one.
    fn build(self, members: &Membership, lanes: usize) -> Built<Self>;
}

/// The pure-Rust network: rings in this process, no DPDK.
pub struct InProcess;

impl Network for InProcess {
    type Port = InProcessPort;
    type Client = InProcessPort;
    type Enter = Plain;

    fn build(self, members: &Membership, lanes: usize) -> Built<Self> {
        let mut ends = Vec::new();
        let mut far = Vec::new();
        for member in 0..members.peers().len() {
            let is_client = member + 1 == members.peers().len();
            let pool = InProcessPool::new(frames_per_port(lanes));
            let queues = if is_client { 1 } else { lanes };
            let (near, other) = pair_of_queues(PORT_DEPTH, (pool.clone(), pool), (queues, 1));
            let (rx, tx, _) = other.split();
            ends.push(near);
            far.push((rx, tx));
        }
        let client = ends.pop().ok_or("a devnet has a load client")?;
        let mut switch = Switch::new(far);
        members.peers().iter().enumerate().for_each(|(port, peer)| switch.learn(peer.endpoint.mac, port));
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

#[cfg(feature = "dpdk")]
pub use dpdk::{Dpdk, Registered};

#[cfg(feature = "dpdk")]
mod dpdk {
    use super::{Built, EnterThread, Membership, Network, PORT_DEPTH, Parts, ThreadGuard, frames_per_port};
    use roko_dpdk::{Eal, EalConfig, PoolConfig, PortConfig, ring_link, ring_port_of_queues};
    use roko_pipeline::port::dpdk::{DpdkLink, DpdkPort, DpdkStamps};
    use roko_pipeline::port::rss::RssTx;
    use roko_pipeline::switch::Switch;
    use std::sync::Arc;

    /// DPDK's frames are one page of 4 KiB each without hugepages.
    const FRAMES_PER_MEGABYTE: usize = 240;
    /// Memory of DPDK beside the frames: rings, queues, its own tables.
    const MEGABYTES_BESIDE: usize = 64;

    /// Registers each poll thread, so that its frames come from a cache of its own.
    #[derive(Clone)]
    pub struct Registered(Arc<Eal>);

    impl Registered {
        /// Registers threads with this EAL.
        #[must_use]
        pub fn new(eal: Arc<Eal>) -> Registered {
            Registered(eal)
        }
    }

    impl EnterThread for Registered {
        fn enter(&self) -> ThreadGuard {
            // Without a registration the pool works all the same, a little slower.
            self.0.register_thread().ok().map(|guard| Box::new(guard) as Box<dyn std::any::Any>)
        }
    }

    /// `net_ring` ports without hugepages or privileges.
    pub struct Dpdk;

    impl Network for Dpdk {
        type Port = DpdkPort;
        type Client = DpdkLink;
        type Enter = Registered;

        fn build(self, members: &Membership, lanes: usize) -> Built<Self> {
            let frames = frames_per_port(lanes) * members.peers().len();
            let megabytes = frames / FRAMES_PER_MEGABYTE + MEGABYTES_BESIDE;
            let say = |error: roko_dpdk::Error| error.to_string();
            let eal = Arc::new(Eal::start(&EalConfig::unprivileged(megabytes as u32)).map_err(say)?);
            let config = PoolConfig { mbufs: frames as u32 - 1, ..PoolConfig::default() };
            let pool = eal.pool("frames", &config).map_err(say)?;
            let validators = members.peers().len() - 1;
            let (mut ports, mut far, mut started) = (Vec::new(), Vec::new(), Vec::new());
            for index in 0..validators {
                let (mut port, from, to) =
                    ring_port_of_queues(&eal, &format!("v{index}"), PORT_DEPTH, lanes as u16).map_err(say)?;
                let config = PortConfig { rx_queues: lanes as u16, ..PortConfig::default() };
                let mut queues = port.start(&config, &pool).map_err(say)?;
                let Some(tx) = queues.tx.pop() else {
                    return Err(format!("port v{index} has no send queue"));
                };
                ports.push(DpdkPort::over(queues.rx, tx, pool.clone(), "net_ring", DpdkStamps::None));
                far.push((from, RssTx::new(to)));
                started.push(port);
            }
            let (near, end) = ring_link(&eal, "load", PORT_DEPTH).map_err(say)?;
            far.push((end.rx, RssTx::new(vec![end.tx])));
            let mut switch = Switch::new(far);
            members.peers().iter().enumerate().for_each(|(port, peer)| switch.learn(peer.endpoint.mac, port));
            Ok(Parts {
                ports,
                client: DpdkLink::new(near, pool),
                switch: Box::new(switch),
                enter: Registered::new(Arc::clone(&eal)),
                kind: "net_ring",
                keep: Box::new((started, eal)),
            })
        }
    }
}
