//! A datagram over IPv6, for what the card does with checksums: it refuses one that is wrong and fills in one that is missing.

use core::net::{IpAddr, Ipv6Addr};
use roko_wire::net::{
    Addresses, ETHERNET_BYTES, IPV6_BYTES, Mac, fill_udp6_checksum, headers_bytes, parse_udp, write_headers,
};

const PORT: u16 = 7_700;
const PAYLOAD_BYTES: usize = 201;
const CHECKSUM: usize = ETHERNET_BYTES + IPV6_BYTES + 6;
/// Everyone on the link.
const EVERYONE: Mac = Mac([0xff; 6]);

/// One from `source` to everyone, as it is on the wire.
pub(crate) fn frame(source: [u8; 6]) -> Vec<u8> {
    let ip = |last| IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last));
    let way = Addresses {
        source_mac: Mac(source),
        destination_mac: EVERYONE,
        source_ip: ip(1),
        destination_ip: ip(2),
        source_port: PORT,
        destination_port: PORT,
    };
    let mut frame = vec![0xa7; headers_bytes(&way.source_ip) + PAYLOAD_BYTES];
    write_headers(&way, PAYLOAD_BYTES, &mut frame).expect("it has room");
    fill_udp6_checksum(&mut frame);
    frame
}

/// The same, damaged on its way.
pub(crate) fn damaged(source: [u8; 6]) -> Vec<u8> {
    let mut frame = frame(source);
    let last = frame.len() - 1;
    frame[last] ^= 1;
    frame
}

/// Whether a frame is such a datagram.
pub(crate) fn is_one(frame: &[u8]) -> bool {
    parse_udp(frame)
        .is_ok_and(|udp| udp.addresses.destination_port == PORT && udp.payload_bytes == PAYLOAD_BYTES)
}

/// Makes the answer of one: the Ethernet addresses exchanged, and no checksum.
pub(crate) fn turn(frame: &mut [u8]) {
    exchange(frame);
    frame[CHECKSUM..CHECKSUM + 2].fill(0);
}

/// Whether `answer` is that of [`frame`], its checksum filled in.
pub(crate) fn is_answer(answer: &[u8], source: [u8; 6]) -> bool {
    let mut wanted = frame(source);
    exchange(&mut wanted);
    answer == wanted
}

fn exchange(frame: &mut [u8]) {
    let (to, from) = frame[..12].split_at_mut(6);
    to.swap_with_slice(from);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_filled_in_answer_is_one() {
        let source = [2, 0, 0, 0, 1, 0];
        let mut answer = frame(source);
        assert!(is_one(&answer) && is_one(&damaged(source)) && !is_one(&[0; 60]));
        turn(&mut answer);
        assert!(!is_answer(&answer, source), "the checksum is missing");
        fill_udp6_checksum(&mut answer);
        assert!(is_answer(&answer, source));
    }
}
