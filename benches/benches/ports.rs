//! Frames a second through every kind of port, one after the other on one thread: 32 frames are taken from the pool, their
//! headers written, sent, received at the other end and given back.
//!
//! The devices are virtual throughout: rings, the null device, a virtual cable in a network namespace that this bench makes
//! (where it may), the kernel's loopback, and a capture in memory. The first case is the in-process port, which is the
//! floor beneath all others: two rings and a pool.

use roko_benches::{Comparison, Report};
use roko_dpdk::{Eal, EalConfig, MbufPool, PoolConfig, PortConfig, ring_pair, vdev_port};
use roko_os::netns::{Device, Namespace};
use roko_pipeline::pcap::PcapWriter;
use roko_pipeline::port::dpdk::{DpdkPort, DpdkStamps};
use roko_pipeline::port::inprocess::{InProcessPool, pair};
use roko_pipeline::port::replay::ReplayPort;
use roko_pipeline::port::udp::UdpPort;
use roko_pipeline::port::{BURST, Burst, FrameBuf, FramePool, Port, RxPort, TxPort};
use roko_wire::net::{Addresses, Mac, headers_bytes, write_headers};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Bytes of each frame: a vote is about that long.
const FRAME_BYTES: usize = 256;

fn addresses() -> Addresses {
    let ip = |last| IpAddr::V4(Ipv4Addr::new(10, 99, 0, last));
    Addresses {
        source_mac: Mac([2, 0, 10, 99, 0, 1]),
        destination_mac: Mac([2, 0, 10, 99, 0, 2]),
        source_ip: ip(1),
        destination_ip: ip(2),
        source_port: 7_001,
        destination_port: 7_002,
    }
}

fn write(way: &Addresses, frame: &mut [u8]) {
    write_headers(way, FRAME_BYTES - headers_bytes(&way.source_ip), frame).expect("the frame is long enough");
}

/// Bursts from `a` to `b`; on a device that receives by itself `b` is `a`'s own other half.
fn through<R: RxPort, T: TxPort, P: FramePool<Buf = T::Buf>>(
    mut tx: T,
    pool: P,
    mut rx: R,
    way: Addresses,
) -> impl FnMut(u64) -> Duration {
    let (mut out, mut back) = (Burst::<T::Buf>::new(), Burst::<R::Buf>::new());
    move |bursts| {
        let began = Instant::now();
        for _ in 0..bursts {
            while !out.is_full() {
                let mut buf = pool.alloc().expect("every frame came back");
                buf.set_len(FRAME_BYTES);
                write(&way, buf.data_mut());
                out.push(buf);
            }
            let mut arrived = 0;
            while arrived < BURST {
                tx.tx_burst(&mut out);
                arrived += rx.rx_burst(&mut back);
                back.clear();
            }
        }
        began.elapsed()
    }
}

/// A capture of as many bursts, read and then played back at once; only the playing is timed.
fn replayed(bursts: u64) -> Duration {
    let (mut file, mut frame) = (Vec::new(), [0; FRAME_BYTES]);
    write(&addresses(), &mut frame);
    let mut writer = PcapWriter::new(&mut file).expect("a vector takes everything");
    (0..bursts * BURST as u64).for_each(|at| writer.write(at, &frame).expect("a vector takes everything"));
    let (port, state) = ReplayPort::new(file.as_slice(), InProcessPool::new(64)).expect("a good capture");
    let (mut rx, ..) = port.split();
    state.set_now(u64::MAX);
    let (began, mut burst) = (Instant::now(), Burst::new());
    for _ in 0..bursts {
        assert_eq!(rx.rx_burst(&mut burst), BURST);
        burst.clear();
    }
    began.elapsed()
}

fn start(port: &mut roko_dpdk::Port, pool: &MbufPool, kind: &'static str) -> DpdkPort {
    let mut queues = port.start(&PortConfig::default(), pool).expect("a virtual port starts");
    DpdkPort::new(queues.rx.remove(0), queues.tx.remove(0), pool.clone(), kind, DpdkStamps::None)
}

/// What must live as long as two sockets on a virtual cable.
struct Cable {
    _ports: (roko_dpdk::Port, roko_dpdk::Port),
    _namespace: Namespace,
}

/// Two ports of `driver` on a virtual cable; says why where there are none.
fn cable(
    eal: &Eal,
    pools: (&MbufPool, &MbufPool),
    driver: &'static str,
) -> Option<(Cable, DpdkPort, DpdkPort)> {
    let open = || -> Result<_, Box<dyn std::error::Error>> {
        let namespace = Namespace::create("bench")?;
        namespace.join(&Device::silent("left"), &namespace, &Device::silent("right"))?;
        let more = if driver == "net_af_packet" { "framecnt=512,qdisc_bypass=1" } else { "queue_count=1" };
        let vdev = |number: usize, iface: &str| {
            vdev_port(eal, &format!("{driver}{number}"), &format!("iface={iface},{more}"))
        };
        let made = namespace.within(|| {
            let (mut left, mut right) = (vdev(0, "left")?, vdev(1, "right")?);
            let ends = (start(&mut left, pools.0, driver), start(&mut right, pools.1, driver));
            Ok::<_, roko_dpdk::Error>((left, right, ends))
        })?;
        let (left, right, (a, b)) = made?;
        Ok((Cable { _ports: (left, right), _namespace: namespace }, a, b))
    };
    open().map_err(|refusal| eprintln!("skipped: {driver}: {refusal}")).ok()
}

fn main() {
    let mut report =
        Report::new("ports", "every kind, all of them virtual: rings, a virtual cable, loopback: no NIC");
    let mut criterion = Report::criterion();
    let eal = Eal::start(&EalConfig::unprivileged(320)).expect("the EAL starts without privilege");
    let config = PoolConfig { mbufs: 8_191, packed: true, ..PoolConfig::default() };
    let pool = |name: &str| eal.pool(name, &config).expect("a pool");
    let (pool_a, pool_b, xdp_a, xdp_b) = (pool("a"), pool("b"), pool("xdp.a"), pool("xdp.b"));
    let _guard = eal.register_thread().expect("the thread is new to DPDK");

    let split = |a: DpdkPort, b: DpdkPort| {
        let ((_, tx, pool), (rx, ..)) = (a.split(), b.split());
        through(tx, pool, rx, addresses())
    };
    let mut comparison = Comparison::new(format!("ports/bytes={FRAME_BYTES}"), BURST as u64);
    let (a, b) = pair(512, (InProcessPool::new(1_024), InProcessPool::new(1_024)));
    let ((_, tx, frames), (rx, ..)) = (a.split(), b.split());
    comparison = comparison.case("in_process", through(tx, frames, rx, addresses()));
    let (mut near, mut far) = ring_pair(&eal, "near", "far", 512).expect("two ports");
    comparison = comparison
        .case("net_ring", split(start(&mut near, &pool_a, "net_ring"), start(&mut far, &pool_b, "net_ring")));
    let mut null = vdev_port(&eal, "net_null0", "size=256").expect("a null port");
    let (rx, tx, frames) = start(&mut null, &pool_a, "net_null").split();
    comparison = comparison.case("net_null", through(tx, frames, rx, addresses()));
    let packet = cable(&eal, (&pool_a, &pool_b), "net_af_packet");
    let mut cables = Vec::new();
    if let Some((cable, a, b)) = packet {
        comparison = comparison.case("af_packet_veth", split(a, b));
        cables.push(cable);
    }
    if let Some((cable, a, b)) = cable(&eal, (&xdp_a, &xdp_b), "net_af_xdp") {
        comparison = comparison.case("af_xdp_veth", split(a, b));
        cables.push(cable);
    }
    let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let udp = |mac| UdpPort::open(local, mac, InProcessPool::new(1_024), 256);
    match (udp(addresses().source_mac), udp(addresses().destination_mac)) {
        (Ok(a), Ok(b)) => {
            let way = Addresses {
                source_ip: local.ip(),
                destination_ip: local.ip(),
                source_port: a.own().port(),
                destination_port: b.own().port(),
                ..addresses()
            };
            let ((_, tx, frames), (rx, ..)) = (a.split(), b.split());
            comparison = comparison.case("io_uring_udp_loopback", through(tx, frames, rx, way));
        }
        (Err(refusal), _) | (_, Err(refusal)) => eprintln!("skipped: io_uring: {refusal}"),
    }
    comparison.case("replay", replayed).run(&mut criterion, &mut report);
    report.finish(criterion);
    drop(cables);
}
