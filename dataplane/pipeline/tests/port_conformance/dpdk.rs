//! Ports over DPDK: rings, the null device, and where this process may make a network namespace packet and XDP sockets on
//! a virtual cable. One test, as a process starts DPDK once.

use crate::suite::{FRAME_BYTES_MAX, Kind, conforms, spreads};
use crate::{inside, lost, nowhere, offloads};
use roko_dpdk::{
    Eal, EalConfig, MbufPool, PoolConfig, PortConfig, TimestampField, ring_link, ring_pair, ring_port,
    ring_port_of_queues, vdev_port,
};
use roko_os::netns::{Device, Namespace};
use roko_pipeline::port::dpdk::{DpdkLink, DpdkPort, DpdkStamps};
use roko_pipeline::port::rss::RssTx;
use roko_pipeline::port::{BURST, Burst, FrameBuf, Port, RxPort, RxStamps, TxPort};
use roko_wire::port_clock::PortTime;

/// Slots of a packet socket's rings.
const SLOTS: usize = 512;

pub(crate) fn start(port: &mut roko_dpdk::Port, pool: &MbufPool, kind: &'static str) -> DpdkPort {
    start_stamped(port, pool, kind, None)
}

/// A port whose frames bear the kernel's time in `field`, if it is given.
fn start_stamped(
    port: &mut roko_dpdk::Port,
    pool: &MbufPool,
    kind: &'static str,
    field: Option<TimestampField>,
) -> DpdkPort {
    let config = PortConfig {
        promiscuous: kind != "net_ring" && kind != "net_null",
        rx_timestamp_field: field.is_some(),
        ..PortConfig::default()
    };
    let mut queues = port.start(&config, pool).expect("it starts");
    let stamps = field.map_or(DpdkStamps::None, DpdkStamps::Kernel);
    DpdkPort::new(queues.rx.remove(0), queues.tx.remove(0), pool.clone(), kind, stamps)
}

#[test]
fn ports_over_dpdk_conform() {
    let eal = Eal::start(&EalConfig::unprivileged(256)).expect("EAL without privilege");
    // No cache: an exhausted pool is then empty to the last frame.
    let config = PoolConfig { mbufs: 511, cache_mbufs: 0, ..PoolConfig::default() };
    let pool = eal.pool("frames", &config).expect("a small pool");
    rings(&eal, &pool);
    null(&eal, &pool);
    ring_queues(&eal, &pool);
    offloads::received_checksums(&eal, &pool);
    offloads::begun_checksums(&eal, &pool);
    assert_eq!(pool.available_count(), pool.count(), "every mbuf is back");
    for driver in ["net_af_packet", "net_af_xdp"] {
        sockets(&eal, driver);
    }
    packet_queues(&eal);
    offloads::tags(&eal);
    offloads::sent_checksums(&eal);
    for driver in ["net_af_packet", "net_af_xdp"] {
        lost::cable(&eal, driver, 13);
    }
}

/// A `net_ring` port whose queues are filled by the hash that a card would use.
fn ring_queues(eal: &Eal, pool: &MbufPool) {
    let (mut port, _from, to) = ring_port_of_queues(eal, "queues", 64, 4).expect("a port");
    let config = PortConfig { rx_queues: 4, ..PortConfig::default() };
    let mut queues = port.start(&config, pool).expect("it starts");
    let b = DpdkPort::over(queues.rx, queues.tx.remove(0), pool.clone(), "net_ring", DpdkStamps::None);
    spreads((&mut RssTx::new(to), pool), b, nowhere(), 400);
}

/// Packet sockets of one group: here the kernel spreads flows over them, as a card does over its queues.
fn packet_queues(eal: &Eal) {
    let namespace = match Namespace::create("queues") {
        Ok(namespace) => namespace,
        Err(refusal) => return eprintln!("skipped: queues of net_af_packet: {refusal}"),
    };
    namespace.join(&Device::silent("left"), &namespace, &Device::silent("right")).expect("a cable");
    let config = PoolConfig { mbufs: 4_095, cache_mbufs: 0, ..PoolConfig::default() };
    let pool = eal.pool("packet.queues", &config).expect("a pool");
    let open = |number: usize, iface: &str, queues: usize| {
        let arguments = format!("iface={iface},framecnt={SLOTS},qdisc_bypass=1,qpairs={queues}");
        vdev_port(eal, &format!("net_af_packet{number}"), &arguments)
    };
    let made = namespace.within(|| {
        let (mut left, mut right) = (open(8, "left", 1)?, open(9, "right", 3)?);
        let a = start(&mut left, &pool, "net_af_packet");
        let config = PortConfig { rx_queues: 3, promiscuous: true, ..PortConfig::default() };
        let mut queues = right.start(&config, &pool)?;
        let (rx, tx) = (queues.rx, queues.tx.remove(0));
        Ok::<_, roko_dpdk::Error>((
            left,
            right,
            a,
            DpdkPort::over(rx, tx, pool.clone(), "net_af_packet", DpdkStamps::None),
        ))
    });
    let (_left, _right, a, b) = match made.expect("the namespace is ours") {
        Ok(made) => made,
        Err(refusal) => return eprintln!("skipped: queues of net_af_packet: {refusal}"),
    };
    let (_rx, mut tx, a_pool) = a.split();
    spreads((&mut tx, &a_pool), b, nowhere(), 96);
}

fn rings(eal: &Eal, pool: &MbufPool) {
    let (mut left, mut right) = ring_pair(eal, "left", "right", 64).expect("a pair");
    let ends = conforms(start(&mut left, pool, "net_ring"), start(&mut right, pool, "net_ring"), inside(64));
    drop(ends);
    let (mut port, end) = ring_port(eal, "single", 64).expect("a port");
    drop(conforms(start(&mut port, pool, "net_ring"), DpdkLink::new(end, pool.clone()), inside(64)));
    let (one, other) = ring_link(eal, "link", 64).expect("a link");
    drop(conforms(DpdkLink::new(one, pool.clone()), DpdkLink::new(other, pool.clone()), inside(64)));
}

/// The null device receives frames without end and swallows what it is given: there is nothing to arrive.
fn null(eal: &Eal, pool: &MbufPool) {
    let mut port = vdev_port(eal, "net_null0", "size=64").expect("a null port");
    let (mut rx, mut tx, _) = start(&mut port, pool, "net_null").split();
    for _ in 0..1_000 {
        let mut burst = Burst::new();
        assert_eq!(rx.rx_burst(&mut burst), BURST);
        assert!(burst.iter().all(|buf| buf.data().len() == 64 && buf.capacity() >= FRAME_BYTES_MAX));
        assert_eq!(tx.tx_burst(&mut burst), BURST);
        assert!(burst.is_empty());
    }
}

/// Two ports of `driver` at the ends of a virtual cable.
fn sockets(eal: &Eal, driver: &str) {
    let namespace = match Namespace::create("conform") {
        Ok(namespace) => namespace,
        Err(refusal) => return eprintln!("skipped: {driver} on a virtual cable: {refusal}"),
    };
    namespace.join(&Device::silent("left"), &namespace, &Device::silent("right")).expect("a cable");
    // An XDP socket gives the kernel the pool's whole range and keeps some of its frames while it lives.
    let config = PoolConfig { mbufs: 8_191, cache_mbufs: 0, packed: true, ..PoolConfig::default() };
    let pool_of = |end: &str| eal.pool(&format!("{driver}.{end}"), &config).expect("a pool");
    let (left_pool, right_pool) = (pool_of("l"), pool_of("r"));
    let arguments = |iface: &str| match driver {
        "net_af_packet" => format!("iface={iface},framecnt={SLOTS},qdisc_bypass=1"),
        _ => format!("iface={iface},start_queue=0,queue_count=1"),
    };
    let open = |number: usize, iface: &str| vdev_port(eal, &format!("{driver}{number}"), &arguments(iface));
    let made = namespace.within(|| {
        let (mut left, mut right) = (open(0, "left")?, open(1, "right")?);
        let kind = if driver == "net_af_packet" { "net_af_packet" } else { "net_af_xdp" };
        // DPDK's packet socket hands the kernel's time on since 23.03.
        let stamps = driver == "net_af_packet" && right.capabilities()?.rx_timestamp_field;
        let field = stamps.then(|| TimestampField::register(eal)).transpose()?;
        let ends = (start(&mut left, &left_pool, kind), start_stamped(&mut right, &right_pool, kind, field));
        Ok::<_, roko_dpdk::Error>((left, right, ends))
    });
    let (left, right, (a, b)) = match made.expect("the namespace is ours") {
        Ok(made) => made,
        Err(refusal) => return eprintln!("skipped: {driver}: {refusal}"),
    };
    let before = right.stats().expect("it counts");
    let kind = Kind {
        there: nowhere(),
        same_memory: false,
        ethernet_rewritten: false,
        holds_at_most: None,
        flood: 8 * SLOTS,
    };
    let is_stamped = b.rx_stamps() == RxStamps::Kernel;
    let mut ends = conforms(a, b, kind);
    let (sent, received) = (left.stats().expect("it counts"), right.stats().expect("it counts"));
    let lost = (ends.flooded.0 - ends.flooded.1) as u64;
    assert_eq!(sent.tx_packets, ends.sent.0 as u64, "{driver} counts what it sends");
    assert_eq!(
        received.rx_packets - before.rx_packets,
        ends.sent.0 as u64 - lost,
        "{driver} counts what it receives"
    );
    eprintln!("{driver}: {} of {} frames of a flood arrived, {received:?}", ends.flooded.1, ends.flooded.0);
    if !is_stamped {
        eprintln!("{driver}: no kernel stamps in this version of DPDK");
    } else {
        let (frame, from) = (ends.a.2.alloc().expect("a frame is free"), roko_os::clock::realtime_ns());
        kernel_stamps((&mut ends.a.1, frame), &mut ends.b.0, from);
    }
    drop(ends);
    drop((left, right));
    if driver == "net_af_packet" {
        let free = (left_pool.available_count(), right_pool.available_count());
        assert_eq!(free, (left_pool.count(), right_pool.count()), "every mbuf is back");
    }
}

/// The kernel's stamp of a frame lies between its sending and its receipt.
fn kernel_stamps<T: TxPort, R: RxPort>((tx, mut frame): (&mut T, T::Buf), rx: &mut R, from: u64) {
    frame.set_len(64);
    frame.data_mut().fill(0xff);
    let (mut burst, mut received) = (Burst::new(), Burst::new());
    burst.push(frame);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while received.is_empty() && std::time::Instant::now() < until {
        tx.tx_burst(&mut burst);
        rx.rx_burst(&mut received);
    }
    let stamp = received.first().and_then(|frame| rx.stamp(frame));
    let Some(PortTime::Nanoseconds(stamp)) = stamp else { panic!("{stamp:?}") };
    let now = roko_os::clock::realtime_ns();
    assert!(from <= stamp && stamp <= now, "{stamp} is not in {from} to {now}");
}
