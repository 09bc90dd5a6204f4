//! Ethernet, IP and UDP headers of both families.

use proptest::collection::vec;
use proptest::prelude::*;
use roko_wire::net::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn addresses() -> impl Strategy<Value = Addresses> {
    let v4 = any::<[[u8; 4]; 2]>().prop_map(|ip| ip.map(|ip| IpAddr::V4(Ipv4Addr::from(ip))));
    let v6 = any::<[[u8; 16]; 2]>().prop_map(|ip| ip.map(|ip| IpAddr::V6(Ipv6Addr::from(ip))));
    (any::<([u8; 6], [u8; 6], u16, u16)>(), prop_oneof![v4, v6]).prop_map(
        |(other, [source_ip, destination_ip])| Addresses {
            source_mac: Mac(other.0),
            destination_mac: Mac(other.1),
            source_ip,
            destination_ip,
            source_port: other.2,
            destination_port: other.3,
        },
    )
}

fn frame(addresses: &Addresses, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xee; headers_bytes(&addresses.source_ip) + payload.len()];
    let start = write_headers(addresses, payload.len(), &mut frame).expect("it fits");
    frame[start..].copy_from_slice(payload);
    fill_udp6_checksum(&mut frame);
    frame
}

/// The one's complement sum of big-endian 16-bit words.
fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    words.fold(0u16, |sum, word| {
        let total = u32::from(sum) + word;
        (total as u16) + (total >> 16) as u16
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames(addresses in addresses(), payload in vec(any::<u8>(), 0..300), padding in 0usize..40) {
        let frame = frame(&addresses, &payload);
        let payload_at = headers_bytes(&addresses.source_ip);
        let wanted = UdpFrame { addresses, payload_at, payload_bytes: payload.len() };
        prop_assert_eq!(parse_udp(&frame), Ok(wanted));
        prop_assert_eq!(addresses.reversed().reversed(), addresses);
        for len in 0..frame.len() {
            prop_assert_eq!(parse_udp(&frame[..len]), Err(NetError::Truncated));
        }
        // Ethernet pads short frames: what follows the IP packet is not part of it.
        prop_assert_eq!(parse_udp(&[&frame[..], &vec![0; padding]].concat()), Ok(wanted));
    }

    #[test]
    fn checksums_hold(addresses in addresses(), payload in vec(any::<u8>(), 0..300)) {
        let frame = frame(&addresses, &payload);
        let udp_at = headers_bytes(&addresses.source_ip) - UDP_BYTES;
        if addresses.source_ip.is_ipv4() {
            prop_assert_eq!(sum(&[&frame[14..34]]), 0xffff);
            prop_assert_eq!(&frame[udp_at + 6..udp_at + 8], &[0, 0]);
        } else {
            let len = (frame.len() - udp_at) as u32;
            prop_assert_eq!(sum(&[&frame[22..54], &len.to_be_bytes(), &[0, 0, 0, 17], &frame[udp_at..]]), 0xffff);
            prop_assert_ne!(&frame[udp_at + 6..udp_at + 8], &[0, 0]);
        }
    }

    #[test]
    fn a_changed_ipv4_header_is_refused(payload in vec(any::<u8>(), 0..20), at in 14usize..34, bit in 0u8..8) {
        let (source_ip, destination_ip) = (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::new(192, 0, 2, 2).into());
        let (source_mac, destination_mac) = (Mac::default(), Mac::default());
        let addresses =
            Addresses { source_mac, destination_mac, source_ip, destination_ip, source_port: 1, destination_port: 2 };
        let mut frame = frame(&addresses, &payload);
        frame[at] ^= 1 << bit;
        prop_assert!(parse_udp(&frame).is_err());
    }

    #[test]
    fn random_frames_never_panic(mut bytes in vec(any::<u8>(), 0..200), family in any::<bool>()) {
        let _ = parse_udp(&bytes);
        if bytes.len() > 14 {
            let (ether_type, version): ([u8; 2], u8) = if family { ([8, 0], 0x45) } else { ([0x86, 0xdd], 0x60) };
            bytes[12..14].copy_from_slice(&ether_type);
            bytes[14] = version;
            let _ = parse_udp(&bytes);
            fill_udp6_checksum(&mut bytes);
        }
    }
}

/// The IPv4 frame of an empty payload, with `change` applied and the header checksum put right again.
fn changed(change: impl FnOnce(&mut [u8])) -> Result<UdpFrame, NetError> {
    let ip = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    let mut frame = frame(
        &Addresses {
            source_mac: Mac([2; 6]),
            destination_mac: Mac([4; 6]),
            source_ip: ip(1),
            destination_ip: ip(2),
            source_port: 5,
            destination_port: 6,
        },
        &[1, 2, 3, 4],
    );
    change(&mut frame);
    frame[24..26].fill(0);
    let checksum = !sum(&[&frame[14..34]]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    parse_udp(&frame)
}

#[test]
fn what_is_never_sent_is_never_taken() {
    assert!(changed(|_| {}).is_ok());
    assert!(changed(|frame| frame[22] = 1).is_ok(), "any time to live");
    assert_eq!(changed(|frame| frame[12] = 9), Err(NetError::EtherType));
    assert_eq!(changed(|frame| frame[14] = 0x46), Err(NetError::IpHeader), "options");
    assert_eq!(changed(|frame| frame[14] = 0x65), Err(NetError::IpHeader), "version");
    assert_eq!(changed(|frame| frame[20] = 0x20), Err(NetError::IpHeader), "more fragments");
    assert_eq!(changed(|frame| frame[21] = 1), Err(NetError::IpHeader), "fragment offset");
    assert_eq!(changed(|frame| frame[23] = 6), Err(NetError::NotUdp));
    assert_eq!(changed(|frame| frame[39] = 11), Err(NetError::Truncated), "UDP shorter than the packet");
    assert_eq!(changed(|frame| frame[39] = 13), Err(NetError::Truncated), "UDP longer than the packet");
    assert_eq!(changed(|frame| frame[39] = 7), Err(NetError::Truncated), "UDP shorter than its header");
    assert_eq!(changed(|frame| frame[17] = 33), Err(NetError::Truncated), "packet longer than the frame");
}

#[test]
fn headers_are_not_written_where_they_do_not_fit() {
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let addresses = |source_ip, destination_ip| Addresses {
        source_mac: Mac::default(),
        destination_mac: Mac::default(),
        source_ip,
        destination_ip,
        source_port: 0,
        destination_port: 0,
    };
    assert_eq!(write_headers(&addresses(v4, v6), 0, &mut [0; 100]), None);
    assert_eq!(write_headers(&addresses(v6, v4), 0, &mut [0; 100]), None);
    assert_eq!(write_headers(&addresses(v4, v4), 10, &mut [0; 51]), None);
    assert_eq!(write_headers(&addresses(v4, v4), 10, &mut [0; 52]), Some(42));
    assert_eq!(write_headers(&addresses(v6, v6), 0, &mut [0; 62]), Some(62));
    assert_eq!(write_headers(&addresses(v4, v4), 65_508, &mut vec![0; 70_000]), None);
    assert_eq!(write_headers(&addresses(v4, v4), 65_507, &mut vec![0; 70_000]), Some(42));
}
