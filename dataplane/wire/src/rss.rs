//! Receive-side scaling: the hash by which cards spread flows over their receive queues.
//!
//! The Toeplitz hash of Microsoft's "RSS Hashing Functions": of a datagram its addresses and ports, of any other IP packet
//! nothing here. Cards draw the queue from a table of 128 places, filled with the queues in turn, by the hash's low bits.

use crate::net::{Addresses, parse_udp};
use core::net::IpAddr;

/// The key of the published verification vectors; drivers that have no other use it too.
pub const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
    0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
    0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];
/// Places of the table that a hash is looked up in.
const TABLE_PLACES: u32 = 128;
/// Addresses and ports of IPv6: the longest input. The key is longer by the 32 bits of the hash.
const INPUT_BYTES_MAX: usize = 36;
const _: () = assert!(INPUT_BYTES_MAX + 4 <= KEY.len());

/// The Toeplitz hash of at most 36 bytes, by [`KEY`].
#[must_use]
pub fn toeplitz(input: &[u8]) -> u32 {
    let mut hash = 0;
    for (at, byte) in input.iter().enumerate().take(INPUT_BYTES_MAX) {
        let key = u64::from(KEY[at]) << 32
            | u64::from(u32::from_be_bytes([KEY[at + 1], KEY[at + 2], KEY[at + 3], KEY[at + 4]]));
        for bit in 0..8 {
            if byte >> (7 - bit) & 1 == 1 {
                hash ^= (key >> (8 - bit)) as u32;
            }
        }
    }
    hash
}

/// The hash of a datagram with these addresses and ports.
#[must_use]
pub fn flow_hash(flow: &Addresses) -> u32 {
    let mut input = [0; INPUT_BYTES_MAX];
    let ips = match (flow.source_ip, flow.destination_ip) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            input[..4].copy_from_slice(&source.octets());
            input[4..8].copy_from_slice(&destination.octets());
            8
        }
        (source, destination) => {
            let wide = |ip| match ip {
                IpAddr::V4(ip) => core::net::Ipv4Addr::to_ipv6_mapped(&ip).octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            input[..16].copy_from_slice(&wide(source));
            input[16..32].copy_from_slice(&wide(destination));
            32
        }
    };
    input[ips..ips + 2].copy_from_slice(&flow.source_port.to_be_bytes());
    input[ips + 2..ips + 4].copy_from_slice(&flow.destination_port.to_be_bytes());
    toeplitz(&input[..ips + 4])
}

/// The queue, of `queues`, that a card gives a frame to: by its flow, and the first for what is no UDP datagram.
///
/// # Panics
/// When there are no queues.
#[must_use]
pub fn queue_of_frame(frame: &[u8], queues: usize) -> usize {
    let hash = parse_udp(frame).map_or(0, |udp| flow_hash(&udp.addresses));
    (hash % TABLE_PLACES) as usize % queues
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Mac, headers_bytes, write_headers};

    /// Microsoft, "Verifying the RSS Hash Calculation": source, destination, hash of the addresses, and with the ports.
    const VECTORS: [(&str, u16, &str, u16, u32, u32); 8] = [
        ("66.9.149.187", 2_794, "161.142.100.80", 1_766, 0x323e_8fc2, 0x51cc_c178),
        ("199.92.111.2", 14_230, "65.69.140.83", 4_739, 0xd718_262a, 0xc626_b0ea),
        ("24.19.198.95", 12_898, "12.22.207.184", 38_024, 0xd2d0_a5de, 0x5c2b_394a),
        ("38.27.205.30", 48_228, "209.142.163.6", 2_217, 0x8298_9176, 0xafc7_327f),
        ("153.39.163.191", 44_251, "202.188.127.2", 1_303, 0x5d18_09c5, 0x10e8_28a2),
        ("3ffe:2501:200:1fff::7", 2_794, "3ffe:2501:200:3::1", 1_766, 0x2cc1_8cd5, 0x4020_7d3d),
        ("3ffe:501:8::260:97ff:fe40:efab", 14_230, "ff02::1", 4_739, 0x0f0c_461c, 0xdde5_1bbf),
        (
            "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
            44_251,
            "fe80::200:f8ff:fe21:67cf",
            38_024,
            0x4b61_e985,
            0x02d1_feef,
        ),
    ];

    fn flow(source: &str, source_port: u16, destination: &str, destination_port: u16) -> Addresses {
        Addresses {
            source_mac: Mac([2; 6]),
            destination_mac: Mac([4; 6]),
            source_ip: source.parse().expect("an address"),
            destination_ip: destination.parse().expect("an address"),
            source_port,
            destination_port,
        }
    }

    fn octets(ip: &str) -> Vec<u8> {
        match ip.parse().expect("an address") {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        }
    }

    #[test]
    fn hashes_are_those_of_the_published_vectors() {
        for (source, source_port, destination, destination_port, of_addresses, of_flow) in VECTORS {
            assert_eq!(toeplitz(&[octets(source), octets(destination)].concat()), of_addresses, "{source}");
            assert_eq!(
                flow_hash(&flow(source, source_port, destination, destination_port)),
                of_flow,
                "{source}"
            );
        }
    }

    #[test]
    fn flows_spread_over_queues_and_each_stays_on_its_own() {
        for queues in 1..=16 {
            let mut frames = vec![0; queues];
            for port in 0..1_024 {
                let flow = flow("10.0.0.1", 20_000 + port, "10.0.0.2", 4_000);
                let mut frame = vec![0; headers_bytes(&flow.source_ip) + 8];
                write_headers(&flow, 8, &mut frame).expect("it fits");
                let queue = queue_of_frame(&frame, queues);
                frame.last_mut().into_iter().for_each(|byte| *byte ^= 0xff);
                assert_eq!(queue_of_frame(&frame, queues), queue, "the payload decides nothing");
                frames[queue] += 1;
            }
            let even = 1_024 / queues;
            assert!(frames.iter().all(|count| (even / 2..=even * 2).contains(count)), "{frames:?}");
        }
        assert_eq!(queue_of_frame(&[0xff; 60], 4), 0, "no datagram");
    }
}
