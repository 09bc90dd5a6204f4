//! One suite for every kind of port; see `suite`. Each test makes its kind and says how much of it is counted where.

#[cfg(feature = "dpdk")]
mod dpdk;
#[cfg(feature = "dpdk")]
mod lost;
#[cfg(feature = "dpdk")]
mod offloads;
mod replay;
mod suite;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use roko_pipeline::port::inprocess::{InProcessPool, pair, pair_of_queues};
use roko_pipeline::port::udp::UdpPort;
use roko_pipeline::port::{Port, RxPort, RxStamps};
use roko_wire::net::{Addresses, Mac};
use roko_wire::port_clock::PortTime;
use suite::{Kind, conforms, spreads};

/// Addresses that no machine here has.
fn nowhere() -> Addresses {
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

/// Ports inside this process: what one takes the other holds, in the same memory.
fn inside(holds_at_most: usize) -> Kind {
    let holds_at_most = Some(holds_at_most);
    Kind { there: nowhere(), same_memory: true, ethernet_rewritten: false, holds_at_most, flood: 0 }
}

#[test]
fn the_in_process_port_conforms() {
    let (left, right) = (InProcessPool::new(256), InProcessPool::new(256));
    let (a, b) = pair(64, (left.clone(), right.clone()));
    let ends = conforms(a, b, inside(64));
    assert_eq!(ends.flooded, (64, 64));
    drop(ends);
    assert_eq!((left.available(), right.available()), (256, 256), "every frame is back");
}

#[test]
fn flows_spread_over_the_queues_of_an_in_process_port() {
    for queues in [2, 4, 16] {
        let (left, right) = (InProcessPool::new(256), InProcessPool::new(256));
        let (a, b) = pair_of_queues(64, (left.clone(), right), (1, queues));
        let (_rx, mut tx, pool) = a.split();
        spreads((&mut tx, &pool), b, nowhere(), 400);
        drop((tx, pool));
        assert_eq!(left.available(), 256, "every frame is back");
    }
}

/// Two ports on this host's loopback; `None` where io_uring is not permitted.
fn udp(ip: IpAddr, pools: (&InProcessPool, &InProcessPool)) -> Option<(UdpPort, UdpPort)> {
    let open = |pool: &InProcessPool, mac| UdpPort::open(SocketAddr::new(ip, 0), mac, pool.clone(), 64);
    let macs = nowhere();
    match (open(pools.0, macs.source_mac), open(pools.1, macs.destination_mac)) {
        (Ok(a), Ok(b)) => Some((a, b)),
        (Err(refusal), _) | (_, Err(refusal)) => {
            eprintln!("skipped: io_uring over {ip}: {refusal}");
            None
        }
    }
}

#[test]
fn the_udp_port_over_io_uring_conforms() {
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let pools = (InProcessPool::new(1_024), InProcessPool::new(1_024));
        let Some((a, b)) = udp(ip, (&pools.0, &pools.1)) else { continue };
        assert_eq!(b.rx_stamps(), RxStamps::Kernel);
        let there = Addresses {
            source_ip: ip,
            destination_ip: ip,
            source_port: a.own().port(),
            destination_port: b.own().port(),
            ..nowhere()
        };
        let kind =
            Kind { there, same_memory: false, ethernet_rewritten: true, holds_at_most: None, flood: 60_000 };
        let ends = conforms(a, b, kind);
        // Whatever did not arrive is counted where it was dropped.
        let (taken, arrived) = ends.flooded;
        let (rx, tx) = (&ends.b.0, &ends.a.1);
        assert_eq!(taken - arrived, rx.missed().expect("/proc tells") as usize, "{ip}");
        assert_eq!((rx.no_frame(), tx.not_sendable()), (0, 0));
        assert_eq!(tx.stats().datagrams as usize, ends.sent.0);
        assert_eq!(rx.stats().datagrams as usize, ends.sent.0 - (taken - arrived));
        assert_eq!((tx.stats().errors, rx.stats().errors), (0, 0));
        assert!(tx.stats().system_calls < tx.stats().datagrams / 4, "many datagrams leave for one call");
        drop(ends);
        assert_eq!((pools.0.available(), pools.1.available()), (1_024, 1_024), "every frame is back");
    }
}

#[test]
fn the_udp_port_drops_and_counts_what_is_no_datagram_of_its_own() {
    use roko_pipeline::port::{Burst, FrameBuf, FramePool, TxPort};
    let pools = (InProcessPool::new(64), InProcessPool::new(2));
    let Some((a, b)) = udp(Ipv4Addr::LOCALHOST.into(), (&pools.0, &pools.1)) else { return };
    let own = a.own();
    let to_b = Addresses {
        source_ip: own.ip(),
        source_port: own.port(),
        destination_ip: b.own().ip(),
        destination_port: b.own().port(),
        ..nowhere()
    };
    let ((_, mut tx, pool), (mut rx, ..)) = (a.split(), b.split());
    let mut send = |way: &Addresses, cut: usize| {
        let mut buf = pool.alloc().expect("a frame is free");
        buf.set_len(64);
        roko_wire::net::write_headers(way, 22, buf.data_mut()).expect("it fits");
        buf.set_len(64 - cut);
        let mut burst: Burst<_> = [buf].into_iter().collect();
        assert_eq!(tx.tx_burst(&mut burst), 1, "what cannot be sent does not block what can");
    };
    send(&Addresses { source_port: own.port() ^ 1, ..to_b }, 0);
    send(&nowhere(), 0);
    send(&to_b, 1);
    // The pool of the receiver holds two frames; the third datagram finds none.
    let sent_ns = roko_os::clock::realtime_ns();
    (0..3).for_each(|_| send(&to_b, 0));
    assert_eq!((tx.not_sendable(), tx.stats().datagrams), (3, 3));
    let mut burst = Burst::new();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while rx.stats().datagrams < 3 && std::time::Instant::now() < until {
        rx.rx_burst(&mut burst);
    }
    assert_eq!((burst.len(), rx.no_frame()), (2, 1));
    for frame in &burst {
        let Some(PortTime::Nanoseconds(stamp)) = rx.stamp(frame) else { panic!("the kernel stamps") };
        assert!((sent_ns..=roko_os::clock::realtime_ns()).contains(&stamp), "{stamp} after {sent_ns}");
    }
}
