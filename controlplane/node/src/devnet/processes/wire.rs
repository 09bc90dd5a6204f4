//! The network between the processes: namespaces, cables and bridges, and the load client's port.

use crate::devnet::load::{Capture, LoadPlan, Loader};
use crate::devnet::network::FRAMES_PER_PORT;
use roko_dpdk::{Eal, EalConfig, PoolConfig, PortConfig, vdev_port};
use roko_os::netns::{Device, Namespace, NetnsError, remove_stale};
use roko_peers::Membership;
use roko_peers::membership::derived_mac;
use roko_pipeline::client::ClientSessions;
use roko_pipeline::port::dpdk::{DpdkPort, DpdkStamps};
use roko_pipeline::port::inprocess::InProcessPool;
use roko_pipeline::port::udp::UdpPort;
use roko_wire::net::Mac;
use std::any::Any;
use std::net::{IpAddr, SocketAddr};

/// Slots of an af_packet ring, each way: as many frames as a port of the in-process devnet holds, twice.
const RING_FRAMES: usize = 4_096;
/// Memory of the load client's DPDK, MiB: its frames and DPDK's own.
const CLIENT_MEGABYTES: u32 = 96;
/// Frames of the load client.
const CLIENT_FRAMES: u32 = 8_191;
/// Datagrams of the load client in the kernel's hands, each way.
const CLIENT_SLOTS: u16 = 512;

/// What the nodes' ports are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireKind {
    /// DPDK's net_af_packet: a memory-mapped ring of a packet socket.
    AfPacket,
    /// DPDK's net_af_xdp: an XDP socket.
    AfXdp,
    /// A UDP socket of the kernel, through io_uring.
    IoUring,
}

impl WireKind {
    /// Each.
    pub const ALL: [WireKind; 3] = [WireKind::AfPacket, WireKind::AfXdp, WireKind::IoUring];

    /// As the report says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            WireKind::AfPacket => "af_packet",
            WireKind::AfXdp => "af_xdp",
            WireKind::IoUring => "io_uring",
        }
    }

    /// `port.device` of a node's configuration; `None` where the port has none.
    #[must_use]
    pub fn device(self) -> Option<String> {
        match self {
            WireKind::AfPacket => Some(af_packet("0", "data0")),
            WireKind::AfXdp => Some("net_af_xdp0,iface=data0,start_queue=0,queue_count=1".to_owned()),
            WireKind::IoUring => None,
        }
    }
}

fn af_packet(number: &str, interface: &str) -> String {
    format!("net_af_packet{number},iface={interface},framecnt={RING_FRAMES},qdisc_bypass=1")
}

/// The namespaces. Dropping them takes the network away.
pub struct Wires {
    kind: WireKind,
    hub: Namespace,
    nodes: Vec<Namespace>,
    macs: Vec<Mac>,
}

impl Wires {
    /// Makes the network for these members: validators first, then the client. What killed devnets left is removed before.
    ///
    /// # Errors
    /// Where this process may not, or `ip` is missing.
    pub fn new(kind: WireKind, members: &Membership) -> Result<Wires, NetnsError> {
        remove_stale();
        let hub = Namespace::create("hub")?;
        // The second pair joins those who are cut off from the first.
        for bridge in ["data", "kernel", "data-cut", "kernel-cut"] {
            hub.ip_line(&format!("link add {bridge} type bridge mcast_snooping 0"))?;
            hub.ip_line(&format!("link set {bridge} addrgenmode none up"))?;
        }
        hub.ip_line("address add 10.77.255.254/16 dev kernel")?;
        let mut wires = Wires { kind, hub, nodes: Vec::new(), macs: Vec::new() };
        let Some((client, validators)) = members.peers().split_last() else { return Ok(wires) };
        for (index, peer) in validators.iter().enumerate() {
            wires.add_node(index, peer.endpoint.ip, peer.endpoint.mac)?;
        }
        let (hub, at) = (&wires.hub, client.endpoint);
        if kind == WireKind::IoUring {
            hub.ip_line(&format!("address add {}/16 dev kernel", at.ip))?;
            return Ok(wires);
        }
        hub.join(&Device::silent("load0"), hub, &Device::silent("load"))?;
        plug(hub, "load0", "data")?;
        hub.bridge_learn(&at.mac.to_string(), "load0")?;
        Ok(wires)
    }

    fn add_node(&mut self, index: usize, ip: IpAddr, mac: Mac) -> Result<(), NetnsError> {
        let node = Namespace::create(&format!("v{index}"))?;
        let (data, kernel) = (format!("d{index}"), format!("k{index}"));
        if self.kind != WireKind::IoUring {
            self.hub.join(&Device::silent(&data), &node, &Device::silent("data0"))?;
            plug(&self.hub, &data, "data")?;
            // Every node is known before it speaks, so that no frame is flooded.
            self.hub.bridge_learn(&mac.to_string(), &data)?;
        }
        self.hub.join(&Device::silent(&kernel), &node, &Device::kernel("eth0"))?;
        plug(&self.hub, &kernel, "kernel")?;
        node.ip_line(&format!("address add {ip}/16 dev eth0"))?;
        self.nodes.push(node);
        self.macs.push(mac);
        Ok(())
    }

    /// Cuts these validators off from everybody else, though not from each other.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn cut(&self, half: &[usize]) -> Result<(), NetnsError> {
        half.iter().try_for_each(|index| self.plug_into(*index, "-cut"))
    }

    /// Takes back what [`Wires::cut`] did.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn join_again(&self, half: &[usize]) -> Result<(), NetnsError> {
        half.iter().try_for_each(|index| self.plug_into(*index, ""))
    }

    fn plug_into(&self, index: usize, suffix: &str) -> Result<(), NetnsError> {
        if self.kind != WireKind::IoUring {
            plug(&self.hub, &format!("d{index}"), &format!("data{suffix}"))?;
            // A bridge forgets who is behind a cable that is taken away.
            self.hub.bridge_learn(&self.macs[index].to_string(), &format!("d{index}"))?;
        }
        plug(&self.hub, &format!("k{index}"), &format!("kernel{suffix}"))
    }

    /// The namespace that holds the bridges; this process reaches every node from there.
    #[must_use]
    pub fn hub(&self) -> &Namespace {
        &self.hub
    }

    /// A node's namespace.
    #[must_use]
    pub fn of_node(&self, index: usize) -> &Namespace {
        &self.nodes[index]
    }

    /// The load client on its own port at `own`, and what must live as long as it.
    ///
    /// # Errors
    /// When the port cannot be opened, in words.
    pub fn loader(
        &self,
        own: SocketAddr,
        plan: LoadPlan,
        record: Option<Capture>,
    ) -> Result<(Loader, ClientSessions, Box<dyn Any>), String> {
        let validators = self.nodes.len();
        if self.kind == WireKind::IoUring {
            let pool = InProcessPool::new(CLIENT_FRAMES as usize);
            let open = || UdpPort::open(own, derived_mac(&own.ip()), pool, CLIENT_SLOTS);
            let port = self.hub.within(open).map_err(|error| error.to_string())?;
            let port = port.map_err(|error| error.to_string())?;
            let (loader, ends) = Loader::over(port, validators, plan, record);
            return Ok((loader, ends, Box::new(())));
        }
        let (port, keep) = self.client_port()?;
        let (loader, ends) = Loader::over(port, validators, plan, record);
        Ok((loader, ends, keep))
    }

    fn client_port(&self) -> Result<(DpdkPort, Box<dyn Any>), String> {
        const _: () = assert!(CLIENT_FRAMES as usize <= FRAMES_PER_PORT);
        let say = |error: roko_dpdk::Error| format!("the load client's port: {error}");
        let eal = Eal::start(&EalConfig::unprivileged(CLIENT_MEGABYTES)).map_err(say)?;
        let pool_config = PoolConfig { mbufs: CLIENT_FRAMES, packed: true, ..PoolConfig::default() };
        let pool = eal.pool("frames", &pool_config).map_err(say)?;
        let device = af_packet("0", "load");
        let (name, arguments) = device.split_once(',').unwrap_or((&device, ""));
        // A packet socket belongs to the namespace that it is opened in, whoever uses it afterwards.
        let open = || {
            let mut port = vdev_port(&eal, name, arguments)?;
            let queues = port.start(&PortConfig { promiscuous: true, ..PortConfig::default() }, &pool)?;
            Ok((port, queues))
        };
        let (port, mut queues) = self.hub.within(open).map_err(|error| error.to_string())?.map_err(say)?;
        let (Some(rx), Some(tx)) = (queues.rx.pop(), queues.tx.pop()) else {
            return Err("the load client's port has no queues".to_owned());
        };
        Ok((DpdkPort::new(rx, tx, pool, "net_af_packet", DpdkStamps::None), Box::new((port, eal))))
    }
}

fn plug(hub: &Namespace, device: &str, bridge: &str) -> Result<(), NetnsError> {
    hub.ip_line(&format!("link set {device} master {bridge}"))
}
