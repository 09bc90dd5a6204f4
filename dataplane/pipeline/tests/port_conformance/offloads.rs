//! What a device does instead of a core: checksums and tags of virtual LANs.

use crate::dpdk::start;
use roko_dpdk::{Eal, MbufPool, Offloads, PoolConfig, PortConfig, ring_port, vdev_port};
use roko_os::netns::{Device, Namespace};
use roko_pipeline::port::dpdk::{DpdkPort, DpdkStamps};
use roko_pipeline::port::{Burst, Port, RxPort, TxPort};
use roko_wire::net::{Addresses, Mac, fill_udp6_checksum, headers_bytes, write_headers};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How long a frame may take through the kernel on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The next frame for which `wanted` holds.
fn next<R: RxPort>(rx: &mut R, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    use roko_pipeline::port::FrameBuf as _;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let mut burst = Burst::new();
        rx.rx_burst(&mut burst);
        if let Some(frame) = burst.iter().find(|frame| wanted(frame.data())) {
            return frame.data().to_vec();
        }
        std::thread::yield_now();
    }
    panic!("no such frame within {PATIENCE:?}");
}

/// A datagram over IPv6 or IPv4 without a UDP checksum, and the same as it is to be on the wire.
fn datagrams(ip: IpAddr, payload_bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let way = Addresses {
        source_mac: Mac([2, 0, 0, 0, 0, 1]),
        destination_mac: Mac([2, 0, 0, 0, 0, 2]),
        source_ip: ip,
        destination_ip: ip,
        source_port: 4_000,
        destination_port: 5_000,
    };
    let mut frame = vec![0x5a; headers_bytes(&ip) + payload_bytes];
    write_headers(&way, payload_bytes, &mut frame).expect("it fits");
    let mut whole = frame.clone();
    fill_udp6_checksum(&mut whole);
    (frame, whole)
}

/// A card that checks checksums, emulated: the other end of the rings marks frames as such a card does. Where the device says
/// that it checks, those go no further; the marks of one that was not asked mean nothing.
pub(crate) fn received_checksums(eal: &Eal, pool: &MbufPool) {
    let (mut port, mut end) = ring_port(eal, "checks", 64).expect("a port");
    for rx_checksums in [true, false] {
        let mut queues = port.start(&PortConfig::default(), pool).expect("it starts");
        assert_eq!(queues.offloads, Offloads::default(), "rings check nothing");
        let (rx, tx) = (queues.rx.remove(0), queues.tx.remove(0));
        let offloads = Offloads { rx_checksums, ..Offloads::default() };
        let checking =
            DpdkPort::new(rx, tx, pool.clone(), "net_ring", DpdkStamps::None).with_offloads(offloads);
        assert_eq!(checking.offloads().len(), usize::from(rx_checksums));
        let (mut rx, _tx, pool) = checking.split();
        let (mut sent, mut received) = (Burst::new(), Burst::new());
        for number in 0..8u8 {
            let mut frame = pool.alloc_from(&[number; 60]).expect("a frame is free");
            if number % 3 == 1 {
                frame.mark_bad_checksum();
            }
            sent.push(frame);
        }
        assert_eq!(end.tx_burst(&mut sent), 8);
        let wanted: Vec<u8> = (0..8).filter(|number| !rx_checksums || number % 3 != 1).collect();
        assert_eq!(rx.rx_burst(&mut received), wanted.len());
        let numbers: Vec<u8> = received.iter().map(|frame| frame.data()[0]).collect();
        assert_eq!((numbers, rx.counts().dropped), (wanted, if rx_checksums { 3 } else { 0 }));
    }
}

/// A card that fills in checksums, emulated: what it is asked to do, and where the rest of the sum begins. Over IPv4, and where
/// the device does not fill them in, it is asked nothing.
pub(crate) fn begun_checksums(eal: &Eal, pool: &MbufPool) {
    let (mut port, mut end) = ring_port(eal, "fills", 64).expect("a port");
    for (tx_udp6_checksums, vlan) in [(true, None), (true, Some(7)), (false, None)] {
        let mut queues = port.start(&PortConfig::default(), pool).expect("it starts");
        let (rx, tx) = (queues.rx.remove(0), queues.tx.remove(0));
        let offloads = Offloads { tx_udp6_checksums, ..Offloads::default() };
        let port = DpdkPort::new(rx, tx, pool.clone(), "net_ring", DpdkStamps::None);
        let port = port.with_offloads(offloads).on_vlan(vlan);
        assert_eq!(port.fills_udp6_checksums(), tx_udp6_checksums);
        let (_rx, mut tx, pool) = port.split();
        for (ip, by_device) in
            [(IpAddr::V6(Ipv6Addr::LOCALHOST), tx_udp6_checksums), (IpAddr::V4([10, 0, 0, 1].into()), false)]
        {
            let (frame, whole) = datagrams(ip, 101);
            let mut burst: Burst<_> =
                [pool.alloc_from(&frame).expect("a frame is free")].into_iter().collect();
            assert_eq!(tx.tx_burst(&mut burst), 1);
            let mut arrived = Burst::new();
            assert_eq!(end.rx_burst(&mut arrived), 1);
            let tag_bytes = if vlan.is_some() { 4 } else { 0 };
            let asked = by_device.then_some((14 + tag_bytes, 40));
            assert_eq!(arrived[0].requested_udp6_checksum(), asked, "{ip}");
            let mut sent = arrived[0].data()[..].to_vec();
            if let Some((link_bytes, ip_bytes)) = asked {
                // As the card does it: sums up what is behind the headers and puts the complement in the sum's place.
                let (at, mut sum) = (link_bytes + ip_bytes, 0_u32);
                for pair in sent[at..].chunks(2) {
                    sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
                }
                let folded = (sum & 0xffff) + (sum >> 16);
                sent[at + 6..at + 8].copy_from_slice(&(!((folded + (folded >> 16)) as u16)).to_be_bytes());
                sent.drain(12..12 + tag_bytes);
                assert_eq!(sent, whole);
            } else {
                assert_eq!(sent[12 + tag_bytes..], frame[12..]);
            }
        }
    }
}

/// The driver of TAP devices fills checksums in: the kernel's side of the device sees datagrams whose sums are whole.
pub(crate) fn sent_checksums(eal: &Eal) {
    let namespace = match Namespace::create("fills") {
        Ok(namespace) => namespace,
        Err(refusal) => return eprintln!("skipped: checksums by net_tap: {refusal}"),
    };
    let config = PoolConfig { mbufs: 1_023, cache_mbufs: 0, ..PoolConfig::default() };
    let pool = eal.pool("fills", &config).expect("a pool");
    let made = namespace.within(|| {
        let mut tap = vdev_port(eal, "net_tap0", "iface=tap_fills")?;
        let config = PortConfig { checksums: true, ..PortConfig::default() };
        let mut queues = tap.start(&config, &pool)?;
        let (rx, tx) = (queues.rx.remove(0), queues.tx.remove(0));
        let node = DpdkPort::new(rx, tx, pool.clone(), "net_tap", DpdkStamps::None);
        let mut kernel = vdev_port(eal, "net_af_packet12", "iface=tap_fills,framecnt=64")?;
        let wire = start(&mut kernel, &pool, "net_af_packet");
        Ok::<_, roko_dpdk::Error>((tap, kernel, node.with_offloads(queues.offloads), wire))
    });
    let (_tap, _kernel, node, wire) = match made.expect("the namespace is ours") {
        Ok(made) => made,
        Err(refusal) => return eprintln!("skipped: checksums by net_tap: {refusal}"),
    };
    assert!(node.offloads().contains(&"fills in IPv6's checksums"), "{:?}", node.offloads());
    let ((_node_rx, mut node_tx, _), (mut wire_rx, _wire_tx, _)) = (node.split(), wire.split());
    for payload_bytes in [1, 64, 1_400] {
        let (frame, whole) = datagrams(Ipv6Addr::LOCALHOST.into(), payload_bytes);
        let mut burst: Burst<_> = [pool.alloc_from(&frame).expect("a frame is free")].into_iter().collect();
        assert_eq!(node_tx.tx_burst(&mut burst), 1);
        let arrived = next(&mut wire_rx, |frame| frame.len() == whole.len() && frame[..12] == whole[..12]);
        assert_eq!(arrived, whole, "{payload_bytes} bytes");
    }
}

/// The driver of packet sockets takes tags of a virtual LAN off and puts them on; the other end sees frames as on the wire.
pub(crate) fn tags(eal: &Eal) {
    let namespace = match Namespace::create("tags") {
        Ok(namespace) => namespace,
        Err(refusal) => return eprintln!("skipped: tags by net_af_packet: {refusal}"),
    };
    namespace.join(&Device::silent("left"), &namespace, &Device::silent("right")).expect("a cable");
    let config = PoolConfig { mbufs: 1_023, cache_mbufs: 0, ..PoolConfig::default() };
    let pool = eal.pool("tags", &config).expect("a pool");
    let made = namespace.within(|| {
        let open = |number: usize, iface: &str| {
            vdev_port(eal, &format!("net_af_packet{number}"), &format!("iface={iface},framecnt=64"))
        };
        let (mut left, mut right) = (open(10, "left")?, open(11, "right")?);
        let config = PortConfig { promiscuous: true, vlan_tags: true, ..PortConfig::default() };
        let mut queues = left.start(&config, &pool)?;
        let wire = start(&mut right, &pool, "net_af_packet");
        let node = DpdkPort::new(
            queues.rx.remove(0),
            queues.tx.remove(0),
            pool.clone(),
            "net_af_packet",
            DpdkStamps::None,
        );
        Ok::<_, roko_dpdk::Error>((left, right, node.with_offloads(queues.offloads).on_vlan(Some(7)), wire))
    });
    let (_left, _right, node, wire) = match made.expect("the namespace is ours") {
        Ok(made) => made,
        Err(refusal) => return eprintln!("skipped: tags by net_af_packet: {refusal}"),
    };
    assert_eq!(node.offloads(), ["takes VLAN tags off", "puts VLAN tags on"]);
    let ((mut node_rx, mut node_tx, _), (mut wire_rx, mut wire_tx, _)) = (node.split(), wire.split());
    let frame = |tag: &[u8], number: u8| {
        let bytes = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], tag, &[0x88, 0xb5], &[number; 60]].concat();
        (pool.alloc_from(&bytes).expect("a frame is free"), bytes)
    };
    let mut burst: Burst<_> = [frame(&[], 1).0].into_iter().collect();
    assert_eq!(node_tx.tx_burst(&mut burst), 1);
    assert!(next(&mut wire_rx, |_| true) == frame(&[0x81, 0, 0, 7], 1).1, "the tag is on the wire");
    for (tag, number) in [(&[][..], 2), (&[0x81, 0, 0, 8], 3), (&[0x81, 0, 0, 7], 4)] {
        let mut burst: Burst<_> = [frame(tag, number).0].into_iter().collect();
        assert_eq!(wire_tx.tx_burst(&mut burst), 1);
    }
    assert!(next(&mut node_rx, |_| true) == frame(&[], 4).1, "its own virtual LAN's, without the tag");
    assert_eq!(node_rx.counts().dropped, 2, "of none and of another");
}
