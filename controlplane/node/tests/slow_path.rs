//! A port that no kernel owns, on a cable whose other end the kernel has: the kernel finds the node by ARP and neighbour
//! discovery and pings it, and the node finds the kernel. By DPDK's packet sockets, so it is an emulation of a card; the
//! kernel at the other end is a real one. Skipped where this process may not make network namespaces.
#![cfg(feature = "dpdk")]

use roko_dpdk::{Eal, EalConfig, PoolConfig, PortConfig, ring_pair, vdev_port};
use roko_node::devnet::network::{EnterThread, Registered};
use roko_node::slow_path::{Resolve, Route, SlowPath, SlowPathOptions};
use roko_os::netns::{Device, Namespace};
use roko_pipeline::clock::ClockPage;
use roko_pipeline::event::event_ring;
use roko_pipeline::filter::{Filter, FilterConfig, RateLimit};
use roko_pipeline::idle::Idle;
use roko_pipeline::metrics::StageMetrics;
use roko_pipeline::peer::{KeyLimits, LinkCommand, PeerIndex, PeerLink, Role};
use roko_pipeline::poll::{PollLoop, Stage};
use roko_pipeline::port::dpdk::{DpdkPort, DpdkStamps};
use roko_pipeline::port::{Burst, FrameBuf, Port, RxPort, TxPort};
use roko_pipeline::rx::Rx;
use roko_pipeline::session::AeadKeys;
use roko_pipeline::slow_path::{SLOW_PATH_FRAMES, SlowPathEnds, SlowPathTap};
use roko_pipeline::tx::Tx;
use roko_ring::seqlock::page;
use roko_ring::spsc::{Consumer, Producer, ring};
use roko_wire::NanoMoment;
use roko_wire::clock::ClockMap;
use roko_wire::nano::{ClockSource, ClockState};
use roko_wire::net::{Addresses, Mac};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, sockopt};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const NODE_MAC: Mac = Mac([2, 0, 0, 0, 0x77, 1]);
const KERNEL_MAC: &str = "02:00:00:00:77:02";

/// A case: the cable's addresses, and the virtual LAN that both ends are on.
struct Case {
    number: usize,
    node: &'static str,
    kernel: &'static str,
    prefix: u8,
    far: &'static str,
    vlan: Option<u16>,
    /// The driver takes tags off and puts them on.
    by_driver: bool,
}

const IPV4: Case = Case {
    number: 0,
    node: "10.66.0.1",
    kernel: "10.66.0.2",
    prefix: 24,
    far: "192.0.2.9",
    vlan: None,
    by_driver: false,
};
const CASES: [Case; 4] = [
    IPV4,
    Case { number: 1, node: "fd66::1", kernel: "fd66::2", prefix: 64, far: "2001:db8::9", ..IPV4 },
    Case { number: 2, vlan: Some(7), ..IPV4 },
    Case { number: 3, vlan: Some(7), by_driver: true, ..IPV4 },
];

/// The node's end while it runs.
struct NodeEnd {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    links: Producer<LinkCommand>,
    told: Consumer<LinkCommand>,
    filter: Arc<StageMetrics>,
    slow_path: Arc<StageMetrics>,
    rx: Arc<StageMetrics>,
}

impl Drop for NodeEnd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A clock that nobody looks at here.
fn clock() -> ClockPage {
    let map = ClockMap {
        tsc_base: roko_os::tsc::tsc(),
        base: NanoMoment(1 << 60),
        nanos_per_tick_q32: 1 << 32,
        bound_ns: 1,
        drift_ppb: 0,
        bound_ns_max: 1,
        source: ClockSource::System,
        state: ClockState::Converged,
    };
    page(map).1
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn run(eal: &Arc<Eal>, port: DpdkPort, case: &Case) -> NodeEnd {
    let (own, clock, stop) = (ip(case.node), clock(), Arc::new(AtomicBool::new(false)));
    let stamps = port.rx_stamps();
    let (rx, tx, pool) = port.split();
    let (rx_out, filter_in) = ring(512);
    let (filter_out, _nobody) = ring(512);
    let (_known, moved) = ring(2);
    let (up_out, up) = ring(SLOW_PATH_FRAMES);
    let (down, down_in) = ring(SLOW_PATH_FRAMES);
    let rate = RateLimit { frames_per_second: 1_000, burst_frames: 1_000 };
    let config =
        FilterConfig { ip: own, port: 7_700, stranger: rate, known: rate, known_addresses: Vec::new() };
    let filter = Filter::new(config, clock.clone(), moved, filter_in, filter_out)
        .with_slow_path(Some(SlowPathTap::new(own, up_out)));
    let ((event_out, event_in), (departed, departures)) = (ring(2), ring(2));
    let (_events, duties) = event_ring((event_out, departures), (event_in, departed));
    let classes = [ring(2).1, ring(2).1, ring(2).1, ring(2).1];
    let stages: Vec<Box<dyn Stage>> = vec![
        Box::new(Rx::new((rx, stamps), clock.clone(), None, rx_out)),
        Box::new(filter),
        Box::new(Tx::new(tx, classes, duties, (clock, None)).with_slow_path(Some(down_in))),
    ];
    let (rx_metrics, filter) = (stages[0].metrics(), stages[1].metrics());
    let (to_spread, told) = ring(8);
    let route = Route { own, prefix: case.prefix, gateway: Some(ip(case.kernel)) };
    let options = SlowPathOptions { mac: NODE_MAC, resolve: Some(Resolve { route, fixed: Vec::new() }) };
    let (slow_path, links) =
        SlowPath::new(own, &options, SlowPathEnds { up: up.into(), down, pool }, to_spread, 4);
    let figures = slow_path.metrics();
    let (of_poll, of_slow, enter) = (Arc::clone(&stop), Arc::clone(&stop), Registered::new(Arc::clone(eal)));
    let poll = std::thread::spawn(move || {
        let _guard = enter.enter();
        drop(PollLoop::new(stages, Idle::Park { sleep_us: 200 }, of_poll).run());
    });
    let threads = vec![poll, std::thread::spawn(move || slow_path.run(&of_slow))];
    NodeEnd { stop, threads, links, told, filter, slow_path: figures, rx: rx_metrics }
}

/// Opens the node's end of the cable.
fn open(eal: &Eal, case: &Case) -> Result<(roko_dpdk::Port, DpdkPort), roko_dpdk::Error> {
    let pool_config = PoolConfig { mbufs: 2_047, packed: true, ..PoolConfig::default() };
    let pool = eal.pool(&format!("slow{}", case.number), &pool_config)?;
    let arguments = format!("iface=port{},framecnt=64", case.number);
    let mut port = vdev_port(eal, &format!("net_af_packet{}", case.number), &arguments)?;
    // The tags of the second case with a virtual LAN are left to the driver.
    let config = PortConfig { promiscuous: true, vlan_tags: case.by_driver, ..PortConfig::default() };
    let mut queues = port.start(&config, &pool)?;
    let (rx, tx) = (queues.rx.remove(0), queues.tx.remove(0));
    let node = DpdkPort::new(rx, tx, pool, "net_af_packet", DpdkStamps::None).on_vlan(case.vlan);
    let node = node.with_offloads(queues.offloads);
    if case.by_driver {
        assert_eq!(node.offloads(), ["takes VLAN tags off", "puts VLAN tags on"]);
    }
    Ok((port, node))
}

/// Sends echo requests of the kernel until one comes back with its data, 20 s at most. Returns how many were sent.
fn ping(to: IpAddr, data_bytes: usize) -> usize {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let socket =
        rustix::net::socket(family, SocketType::RAW, Some(protocol)).expect("a raw socket: this is root");
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_secs(1)))
        .expect("a timeout");
    let kind = if to.is_ipv4() { 8 } else { 128 };
    let mut request = vec![kind, 0, 0, 0, 0x52, 0x4b, 0, 1];
    request.extend((0..data_bytes).map(|at| at as u8));
    // The kernel fills in ICMPv6's checksum on a raw socket, and not ICMP's (RFC 3542, 3.1).
    let pairs = request.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum = pairs.fold(0u32, |sum, pair| (sum + pair) % 0xffff);
    request[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    let (began, mut sent) = (Instant::now(), 0);
    let mut buffer = vec![0u8; 20_000];
    while began.elapsed() < Duration::from_secs(20) {
        let _ = sendto(&socket, &request, SendFlags::empty(), &SocketAddr::new(to, 0));
        sent += 1;
        while let Ok((bytes, _)) = recv(&socket, &mut *buffer, RecvFlags::empty()) {
            let icmp = if to.is_ipv4() { &buffer[20..bytes] } else { &buffer[..bytes] };
            if icmp[0] == kind.wrapping_add(1) || (to.is_ipv4() && icmp[0] == 0) {
                assert_eq!(icmp[4..], request[4..], "the data comes back");
                return sent;
            }
        }
    }
    panic!("{to} does not answer");
}

/// The Ethernet address that the kernel has for `ip`.
fn kernel_neighbour(namespace: &Namespace, ip: &str) -> String {
    let out =
        Command::new("ip").args(["-n", namespace.name(), "neigh", "show", ip]).output().expect("ip runs");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn link_to(peer: u16, from: &str, to: &str) -> LinkCommand {
    let addresses = Addresses {
        source_mac: NODE_MAC,
        destination_mac: Mac::default(),
        source_ip: ip(from),
        destination_ip: ip(to),
        source_port: 7_700,
        destination_port: 7_700,
    };
    let keys = AeadKeys { key: [1; 32], iv: [2; 12] };
    let limits = KeyLimits::default();
    let link = PeerLink { addresses, session: 1, core: 0, key_phase: 0, keys, limits };
    LinkCommand::Link { peer: PeerIndex(peer), role: Role::Client, link }
}

fn check(eal: &Arc<Eal>, namespace: &Namespace, case: &Case) {
    let (port, eth) = (format!("port{}", case.number), format!("eth{}", case.number));
    let kernel = Device { name: &eth, address: Some(KERNEL_MAC), arp: true };
    namespace.join(&kernel, namespace, &Device::silent(&port)).expect("a cable");
    // A host may have IPv6 switched off for new devices.
    let on_again = || std::fs::write(format!("/proc/sys/net/ipv6/conf/{eth}/disable_ipv6"), "0");
    let _ = namespace.within(on_again);
    let on = case.vlan.map_or(eth.clone(), |vlan| format!("{eth}.{vlan}"));
    if let Some(vlan) = case.vlan {
        let made = namespace.ip_line(&format!("link add link {eth} name {on} type vlan id {vlan}"));
        if let Err(refusal) = made.and_then(|()| namespace.ip_line(&format!("link set {on} up"))) {
            return eprintln!("skipped: a virtual LAN of the kernel's: {refusal}");
        }
    }
    let no_dad = if case.kernel.contains(':') { " nodad" } else { "" };
    namespace
        .ip_line(&format!("address add {}/{} dev {on}{no_dad}", case.kernel, case.prefix))
        .expect("an address");
    let opened = namespace.within(|| open(eal, case)).expect("the namespace is ours");
    let (device, node_port) = opened.expect("a packet socket on the cable");
    assert!(device.link().expect("it tells").up);
    let mut node = run(eal, node_port, case);

    let pings = namespace.within(|| ping(ip(case.node), 1_400)).expect("the namespace is ours");
    let neighbour = kernel_neighbour(namespace, case.node);
    assert!(neighbour.contains(&NODE_MAC.to_string()), "the kernel has {neighbour:?}");

    // A peer on the link and one behind the gateway: frames to both go to the kernel.
    for (peer, to) in [(1, case.kernel), (2, case.far)] {
        assert!(node.links.push(link_to(peer, case.node, to)).is_ok());
    }
    let mut told = Vec::new();
    eventually("both ways are told", || {
        while let Some(LinkCommand::Link { peer, link, .. }) = node.told.pop() {
            told.push((peer.0, link.addresses.destination_mac.to_string()));
        }
        told.len() == 2
    });
    told.sort();
    assert_eq!(told, [(1, KERNEL_MAC.to_owned()), (2, KERNEL_MAC.to_owned())]);
    eventually("the figures are published", || node.slow_path.value("known") >= 1);
    eprintln!(
        "{} vlan {:?}: {pings} pings, {neighbour}  filter {:?}\n  slow path {:?}",
        case.node,
        case.vlan,
        node.filter.counters().filter(|(_, count)| *count > 0).collect::<Vec<_>>(),
        node.slow_path.counters().filter(|(_, count)| *count > 0).collect::<Vec<_>>()
    );
    assert!(node.slow_path.value("answered") >= 1 && node.slow_path.value("echoed") >= 1);
    if case.vlan.is_some() {
        others_are_dropped(namespace, &eth, &node);
    }
    survives_a_link_that_goes(namespace, &eth, case, &node);
    drop(node);
    drop(device);
    namespace.ip_line(&format!("link del {eth}")).expect("the cable goes");
}

/// Two ports joined by rings: the left one on the virtual LAN 7, the right one sees frames as they are on the wire. With an MTU of
/// 9,000 they receive frames of 9,014 bytes, which the packet socket refuses.
fn tags_and_jumbo_frames(eal: &Eal) {
    let room = PoolConfig::default().data_room_bytes + 7_500;
    let pool_config = PoolConfig { mbufs: 511, packed: true, data_room_bytes: room, ..PoolConfig::default() };
    let pool = eal.pool("jumbo", &pool_config).expect("a pool");
    let (mut left, mut right) = ring_pair(eal, "left", "right", 64).expect("a pair");
    let open = |port: &mut roko_dpdk::Port, vlan| {
        let config = PortConfig { mtu_bytes: 9_000, ..PortConfig::default() };
        let mut queues = port.start(&config, &pool).expect("it takes the MTU");
        let (rx, tx) = (queues.rx.remove(0), queues.tx.remove(0));
        DpdkPort::new(rx, tx, pool.clone(), "net_ring", DpdkStamps::None).on_vlan(vlan).split()
    };
    let ((mut left_rx, mut left_tx, frames), (mut right_rx, mut right_tx, _)) =
        (open(&mut left, Some(7)), open(&mut right, None));
    let (mut burst, mut received) = (Burst::new(), Burst::new());
    let mut frame = frames.alloc().expect("a frame is free");
    FrameBuf::set_len(&mut frame, 9_010);
    let bytes: Vec<u8> = (0..9_010).map(|at| (at % 251) as u8).collect();
    FrameBuf::data_mut(&mut frame).copy_from_slice(&bytes);
    burst.push(frame);
    assert_eq!((left_tx.tx_burst(&mut burst), right_rx.rx_burst(&mut received)), (1, 1));
    let tagged = [&bytes[..12], &[0x81, 0, 0, 7], &bytes[12..]].concat();
    assert!(received[0].data() == tagged, "9,014 bytes with the tag");
    // Back again, beside one of another virtual LAN: only its own comes, as it was.
    let mut other = frames.alloc().expect("a frame is free");
    FrameBuf::set_len(&mut other, 64);
    other.data_mut().fill(0);
    other.data_mut()[12..16].copy_from_slice(&[0x81, 0, 0, 8]);
    received.push(other);
    assert_eq!((right_tx.tx_burst(&mut received), left_rx.rx_burst(&mut burst)), (2, 1));
    assert!(burst[0].data() == bytes);
    assert_eq!(left_rx.counts().dropped, 1);
}

/// Frames without the tag are not the virtual LAN's.
fn others_are_dropped(namespace: &Namespace, eth: &str, node: &NodeEnd) {
    namespace.ip_line(&format!("address add 10.67.0.2/24 dev {eth}")).expect("an address");
    eventually("untagged frames are dropped", || {
        let ask = || {
            std::net::UdpSocket::bind("10.67.0.2:0")
                .and_then(|socket| socket.send_to(&[0; 40], "10.67.0.1:7700"))
        };
        let _ = namespace.within(ask);
        node.rx.value("port_dropped") >= 1
    });
}

/// The cable is pulled out while pings are sent, and put in again.
fn survives_a_link_that_goes(namespace: &Namespace, eth: &str, case: &Case, node: &NodeEnd) {
    let heard = node.slow_path.value("heard");
    namespace.ip_line(&format!("link set {eth} down")).expect("down");
    std::thread::sleep(Duration::from_millis(200));
    namespace.ip_line(&format!("link set {eth} up")).expect("up");
    if case.vlan.is_some() {
        namespace.ip_line(&format!("link set {eth}.7 up")).expect("up");
    }
    if case.kernel.contains(':') {
        // The kernel forgets IPv6 addresses of a device that goes down.
        let _ = namespace.ip_line(&format!("address add {}/{} dev {eth} nodad", case.kernel, case.prefix));
    }
    namespace.within(|| ping(ip(case.node), 56)).expect("the namespace is ours");
    assert!(node.slow_path.value("heard") > heard);
}

#[test]
fn the_kernel_and_a_node_find_each_other() {
    let namespace = match Namespace::create("slowpath") {
        Ok(namespace) => namespace,
        Err(refusal) => return eprintln!("skipped: {refusal}"),
    };
    let eal = Arc::new(Eal::start(&EalConfig::unprivileged(256)).expect("EAL without privilege"));
    for case in &CASES {
        check(&eal, &namespace, case);
    }
    tags_and_jumbo_frames(&eal);
}
