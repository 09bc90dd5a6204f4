//! Ethernet, IPv4, IPv6 and UDP: what is in front of our own header. Strict: what we do not send we do not take.

use crate::vlan::VLAN_TAG_BYTES;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl core::fmt::Display for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Bytes of an Ethernet header.
pub const ETHERNET_BYTES: usize = 14;
/// Bytes of an IPv4 header without options.
pub const IPV4_BYTES: usize = 20;
/// Bytes of an IPv6 header.
pub const IPV6_BYTES: usize = 40;
/// Bytes of a UDP header.
pub const UDP_BYTES: usize = 8;
pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTOCOL_UDP: u8 = 17;

/// Where a frame comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Ethernet source.
    pub source_mac: Mac,
    /// Ethernet destination.
    pub destination_mac: Mac,
    /// IP source.
    pub source_ip: IpAddr,
    /// IP destination; of the same family as the source.
    pub destination_ip: IpAddr,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub destination_port: u16,
}

/// A frame's addresses and where its UDP payload lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpFrame {
    /// Addresses of all three layers.
    pub addresses: Addresses,
    /// Offset of the UDP payload in the frame.
    pub payload_at: usize,
    /// Bytes of the UDP payload.
    pub payload_bytes: usize,
}

/// Why a frame is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// Shorter than its headers say.
    #[error("the frame is shorter than its headers say")]
    Truncated,
    /// Neither IPv4 nor IPv6.
    #[error("the EtherType is neither IPv4 nor IPv6")]
    EtherType,
    /// IP version, header length, fragment or extension header that we never send.
    #[error("an IP header that is never sent here: options, fragments or extension headers")]
    IpHeader,
    /// The IPv4 header's checksum is wrong.
    #[error("the IPv4 header checksum is wrong")]
    Checksum,
    /// Not UDP.
    #[error("the IP payload is not UDP")]
    NotUdp,
}

#[inline]
pub(crate) fn be16(frame: &[u8], at: usize) -> Result<u16, NetError> {
    frame.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]])).ok_or(NetError::Truncated)
}

#[inline]
fn array<const N: usize>(frame: &[u8], at: usize) -> Result<[u8; N], NetError> {
    frame.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).ok_or(NetError::Truncated)
}

/// Parses a frame's headers. The UDP checksum is not checked: the AEAD tag covers the payload.
#[inline]
pub fn parse_udp(frame: &[u8]) -> Result<UdpFrame, NetError> {
    let destination_mac = Mac(array(frame, 0)?);
    let source_mac = Mac(array(frame, 6)?);
    let at = ETHERNET_BYTES;
    let (source_ip, destination_ip, udp_at, ip_end): (IpAddr, IpAddr, usize, usize) = match be16(frame, 12)? {
        ETHERTYPE_IPV4 => {
            let header: [u8; IPV4_BYTES] = array(frame, at)?;
            let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
            if header[0] != 0x45 || fragment != 0 {
                return Err(NetError::IpHeader);
            }
            if header[9] != PROTOCOL_UDP {
                return Err(NetError::NotUdp);
            }
            if !ipv4_sum_is_right(&header) {
                return Err(NetError::Checksum);
            }
            let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let source: [u8; 4] = array(&header, 12)?;
            let destination: [u8; 4] = array(&header, 16)?;
            (Ipv4Addr::from(source).into(), Ipv4Addr::from(destination).into(), at + IPV4_BYTES, at + total)
        }
        ETHERTYPE_IPV6 => {
            let header: [u8; IPV6_BYTES] = array(frame, at)?;
            if header[0] >> 4 != 6 {
                return Err(NetError::IpHeader);
            }
            if header[6] != PROTOCOL_UDP {
                return Err(NetError::NotUdp);
            }
            let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
            let source: [u8; 16] = array(&header, 8)?;
            let destination: [u8; 16] = array(&header, 24)?;
            let udp_at = at + IPV6_BYTES;
            (Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into(), udp_at, udp_at + payload)
        }
        _ => return Err(NetError::EtherType),
    };
    let udp_bytes = usize::from(be16(frame, udp_at + 4)?);
    if udp_bytes < UDP_BYTES || udp_at + udp_bytes != ip_end || ip_end > frame.len() {
        return Err(NetError::Truncated);
    }
    Ok(UdpFrame {
        addresses: Addresses {
            source_mac,
            destination_mac,
            source_ip,
            destination_ip,
            source_port: be16(frame, udp_at)?,
            destination_port: be16(frame, udp_at + 2)?,
        },
        payload_at: udp_at + UDP_BYTES,
        payload_bytes: udp_bytes - UDP_BYTES,
    })
}

/// Bytes of the headers in front of a UDP payload between two addresses of this family.
#[must_use]
pub const fn headers_bytes(ip: &IpAddr) -> usize {
    ETHERNET_BYTES + UDP_BYTES + if ip.is_ipv4() { IPV4_BYTES } else { IPV6_BYTES }
}

/// Writes the headers for `payload_bytes` of UDP payload to the front of `frame` and returns where the payload starts,
/// or `None` when the families differ or `frame` is too short. The payload is then at `frame[start..start + payload_bytes]`.
/// The UDP checksum over IPv4 is left zero (RFC 768); over IPv6 see [`fill_udp6_checksum`].
#[must_use]
pub fn write_headers(addresses: &Addresses, payload_bytes: usize, frame: &mut [u8]) -> Option<usize> {
    let start = headers_bytes(&addresses.source_ip);
    if frame.len() < start + payload_bytes || payload_bytes > usize::from(u16::MAX) - UDP_BYTES - IPV4_BYTES {
        return None;
    }
    frame[..6].copy_from_slice(&addresses.destination_mac.0);
    frame[6..12].copy_from_slice(&addresses.source_mac.0);
    let udp_bytes = (UDP_BYTES + payload_bytes) as u16;
    let udp_at = start - UDP_BYTES;
    match (addresses.source_ip, addresses.destination_ip) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame[12..14].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
            let header = &mut frame[ETHERNET_BYTES..udp_at];
            header.fill(0);
            header[0] = 0x45;
            header[2..4].copy_from_slice(&(udp_bytes + IPV4_BYTES as u16).to_be_bytes());
            header[6] = 0x40; // do not fragment
            header[8] = 64;
            header[9] = PROTOCOL_UDP;
            header[12..16].copy_from_slice(&source.octets());
            header[16..20].copy_from_slice(&destination.octets());
            let checksum = !ones_complement_sum(header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame[12..14].copy_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
            let header = &mut frame[ETHERNET_BYTES..udp_at];
            header[..4].copy_from_slice(&[0x60, 0, 0, 0]);
            header[4..6].copy_from_slice(&udp_bytes.to_be_bytes());
            header[6] = PROTOCOL_UDP;
            header[7] = 64;
            header[8..24].copy_from_slice(&source.octets());
            header[24..40].copy_from_slice(&destination.octets());
        }
        _ => return None,
    }
    frame[udp_at..udp_at + 2].copy_from_slice(&addresses.source_port.to_be_bytes());
    frame[udp_at + 2..udp_at + 4].copy_from_slice(&addresses.destination_port.to_be_bytes());
    frame[udp_at + 4..udp_at + 6].copy_from_slice(&udp_bytes.to_be_bytes());
    frame[udp_at + 6..udp_at + 8].fill(0);
    Some(start)
}

/// Fills in the UDP checksum that IPv6 demands (RFC 8200, 8.1), over as many bytes as the UDP header says. A no-op on
/// an IPv4 frame and on one that is shorter than it says.
pub fn fill_udp6_checksum(frame: &mut [u8]) {
    let Some((udp_at, udp_bytes)) = udp6(frame, ETHERNET_BYTES) else { return };
    frame[udp_at + 6..udp_at + 8].fill(0);
    let covered = &frame[udp_at - 32..udp_at + udp_bytes];
    let sum = fold(partial_sum(covered) + udp_bytes as u64 + u64::from(PROTOCOL_UDP));
    let checksum = if sum == 0xffff { 0xffff } else { !sum };
    frame[udp_at + 6..udp_at + 8].copy_from_slice(&checksum.to_be_bytes());
}

/// Prepares an IPv6 datagram for a card that sums its bytes up: writes the sum of the pseudo-header (RFC 8200, 8.1), to which
/// the card adds the rest, in the checksum's place. Returns the bytes in front of the IPv6 header, which a tag of a virtual
/// LAN is part of; `None`, and nothing is written, when the frame is no such datagram or shorter than it says.
#[inline]
pub fn begin_udp6_checksum(frame: &mut [u8]) -> Option<usize> {
    let link_bytes = ETHERNET_BYTES + if crate::vlan::vlan_of(frame).is_some() { VLAN_TAG_BYTES } else { 0 };
    let (udp_at, udp_bytes) = udp6(frame, link_bytes)?;
    let addresses = partial_sum(&frame[udp_at - 32..udp_at]);
    let sum = fold(addresses + udp_bytes as u64 + u64::from(PROTOCOL_UDP));
    frame[udp_at + 6..udp_at + 8].copy_from_slice(&sum.to_be_bytes());
    Some(link_bytes)
}

/// Where the UDP header of an IPv6 datagram behind `link_bytes` is, and the bytes of the datagram, all of them there.
#[inline]
fn udp6(frame: &[u8], link_bytes: usize) -> Option<(usize, usize)> {
    let udp_at = link_bytes + IPV6_BYTES;
    if be16(frame, link_bytes - 2) != Ok(ETHERTYPE_IPV6) || frame.get(link_bytes + 6) != Some(&PROTOCOL_UDP) {
        return None;
    }
    let udp_bytes = usize::from(be16(frame, udp_at + 4).ok()?);
    (udp_bytes >= UDP_BYTES && frame.len() >= udp_at + udp_bytes).then_some((udp_at, udp_bytes))
}

/// The sum of words of 16 bits, not folded. Summed as words of 32 bits in the machine's order, since the one's complement sum
/// is the same in either, its bytes swapped (RFC 1071, 2).
fn partial_sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(4);
    let sum: u64 = words.by_ref().map(|w| u64::from(u32::from_ne_bytes([w[0], w[1], w[2], w[3]]))).sum();
    let mut last = [0; 4];
    let rest = words.remainder();
    last[..rest.len()].copy_from_slice(rest);
    u16::from_be_bytes(fold(sum + u64::from(u32::from_ne_bytes(last))).to_ne_bytes()).into()
}

/// Folds a sum to 16 bits, with its carries added back.
#[inline]
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Whether the one's complement sum of the header's words, its checksum among them, is all ones (RFC 1071).
#[inline]
fn ipv4_sum_is_right(header: &[u8; IPV4_BYTES]) -> bool {
    let word = |at: usize| u64::from(u32::from_ne_bytes(core::array::from_fn(|byte| header[at * 4 + byte])));
    let sum = word(0) + word(1) + word(2) + word(3) + word(4);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16) == 0xffff
}

#[inline]
fn ones_complement_sum(bytes: &[u8]) -> u16 {
    fold(partial_sum(bytes))
}

impl Addresses {
    /// The addresses of the answer.
    #[must_use]
    pub const fn reversed(&self) -> Addresses {
        Addresses {
            source_mac: self.destination_mac,
            destination_mac: self.source_mac,
            source_ip: self.destination_ip,
            destination_ip: self.source_ip,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of 5 payload bytes and `slack` bytes after them.
    fn frame(slack: usize) -> Vec<u8> {
        let addresses = Addresses {
            source_mac: Mac([2, 0, 0, 0, 0, 1]),
            destination_mac: Mac([2, 0, 0, 0, 0, 2]),
            source_ip: IpAddr::V6(Ipv6Addr::LOCALHOST),
            destination_ip: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
            source_port: 4_000,
            destination_port: 5_000,
        };
        let mut frame = vec![0xa5; headers_bytes(&addresses.source_ip) + 5 + slack];
        write_headers(&addresses, 5, &mut frame).expect("it fits");
        frame
    }

    #[test]
    fn a_second_filling_summed_the_first_checksum_and_slack_counted_as_payload() {
        let mut once = frame(0);
        fill_udp6_checksum(&mut once);
        // The pseudo-header, the UDP header with its checksum, and the payload sum up to all ones (RFC 1071).
        let sum = [&once[22..54], &[0, 0, 0, 13, 0, 0, 0, 17], &once[54..]].concat();
        assert_eq!(ones_complement_sum(&sum), 0xffff);
        let mut twice = once.clone();
        fill_udp6_checksum(&mut twice);
        assert_eq!(twice, once);
        let mut longer = frame(9);
        fill_udp6_checksum(&mut longer);
        assert_eq!(longer[..once.len()], once);
    }

    /// The definition, a word at a time (RFC 1071, 1).
    fn sum_by_the_book(bytes: &[u8]) -> u16 {
        bytes.chunks(2).fold(0_u16, |sum, pair| {
            let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
            let (sum, carry) = sum.overflowing_add(word);
            sum + u16::from(carry)
        })
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_summed_as_the_book_says(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..1_600)) {
            proptest::prop_assert_eq!(ones_complement_sum(&bytes), sum_by_the_book(&bytes));
        }

        /// What a card adds to the sum that was begun is what the whole would have been filled with.
        #[test]
        fn a_checksum_that_was_begun_is_finished_by_the_sum_of_the_datagram(slack in 0_usize..9, tagged: bool) {
            let mut whole = frame(slack);
            fill_udp6_checksum(&mut whole);
            let mut begun = if tagged { [&whole[..12], &[0x81, 0, 0, 7], &whole[12..]].concat() } else { whole.clone() };
            let link_bytes = begin_udp6_checksum(&mut begun).expect("it is one");
            proptest::prop_assert_eq!(link_bytes, ETHERNET_BYTES + if tagged { VLAN_TAG_BYTES } else { 0 });
            let datagram = link_bytes + IPV6_BYTES..begun.len() - slack;
            let finished = !ones_complement_sum(&begun[datagram]);
            let udp_at = ETHERNET_BYTES + IPV6_BYTES;
            proptest::prop_assert_eq!(&finished.to_be_bytes()[..], &whole[udp_at + 6..udp_at + 8]);
        }

        #[test]
        fn an_ipv4_header_is_summed_as_its_words_are(mut header: [u8; IPV4_BYTES], checksum: bool) {
            if checksum {
                header[10..12].fill(0);
                let right = !ones_complement_sum(&header);
                header[10..12].copy_from_slice(&right.to_be_bytes());
            }
            let right = ones_complement_sum(&header) == 0xffff;
            proptest::prop_assert_eq!(ipv4_sum_is_right(&header), right);
            proptest::prop_assert!(right || !checksum);
        }
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_all_ones() {
        let mut frame = frame(0);
        fill_udp6_checksum(&mut frame);
        // Adding the checksum to the payload makes the rest sum to all ones, whose complement is zero.
        let checksum = [frame[60], frame[61]];
        let at = frame.len() - 5;
        frame[at..at + 2].fill(0);
        fill_udp6_checksum(&mut frame);
        let needed = [frame[60], frame[61]];
        frame[at..at + 2].copy_from_slice(&needed);
        fill_udp6_checksum(&mut frame);
        assert_eq!([frame[60], frame[61]], [0xff, 0xff]);
        assert_ne!(checksum, [0xff, 0xff]);
    }
}
