//! What a host must answer that no kernel answers for it: address resolution and echo requests.
//!
//! This only tells such frames from all others. It looks at fixed offsets and is asked about refused frames alone; whoever
//! answers them parses and checks them whole.

use crate::net::{ETHERNET_BYTES, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4_BYTES, IPV6_BYTES, be16};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ETHERTYPE_ARP: u16 = 0x0806;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMPV6: u8 = 58;
/// ICMP's echo request (RFC 792).
const ECHO_V4: u8 = 8;
/// ICMPv6's echo request (RFC 4443, 4.1).
const ECHO_V6: u8 = 128;
/// Neighbour solicitation and advertisement (RFC 4861, 4.3 and 4.4).
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Bytes of an ARP packet of Ethernet and IPv4 (RFC 826).
const ARP_BYTES: usize = 28;

/// What a frame asks of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFrame {
    /// ARP, or a neighbour solicitation or advertisement.
    Resolution,
    /// An echo request.
    Echo,
}

/// What `frame`, which is no datagram, asks of the host at `own`; `None` for what it need not answer.
#[must_use]
pub fn host_frame(frame: &[u8], own: &IpAddr) -> Option<HostFrame> {
    match (be16(frame, 12).ok()?, own) {
        (ETHERTYPE_ARP, IpAddr::V4(own)) => arp(frame, *own),
        (ETHERTYPE_IPV4, IpAddr::V4(own)) => icmp(frame, *own),
        (ETHERTYPE_IPV6, IpAddr::V6(own)) => icmpv6(frame, *own),
        _ => None,
    }
}

/// ARP about the own address, or by somebody about his own (RFC 5227's announcements).
fn arp(frame: &[u8], own: Ipv4Addr) -> Option<HostFrame> {
    let packet = frame.get(ETHERNET_BYTES..ETHERNET_BYTES + ARP_BYTES)?;
    let (sender, target) = (&packet[14..18], &packet[24..28]);
    (target == own.octets() || sender == target).then_some(HostFrame::Resolution)
}

fn icmp(frame: &[u8], own: Ipv4Addr) -> Option<HostFrame> {
    let header = frame.get(ETHERNET_BYTES..ETHERNET_BYTES + IPV4_BYTES)?;
    let kind = *frame.get(ETHERNET_BYTES + IPV4_BYTES)?;
    let wanted = header[0] == 0x45 && header[9] == PROTOCOL_ICMP && header[16..20] == own.octets();
    (wanted && kind == ECHO_V4).then_some(HostFrame::Echo)
}

fn icmpv6(frame: &[u8], own: Ipv6Addr) -> Option<HostFrame> {
    let header = frame.get(ETHERNET_BYTES..ETHERNET_BYTES + IPV6_BYTES)?;
    let kind = *frame.get(ETHERNET_BYTES + IPV6_BYTES)?;
    let to: [u8; 16] = header[24..40].try_into().ok()?;
    if header[0] >> 4 != 6 || header[6] != PROTOCOL_ICMPV6 {
        return None;
    }
    let to = Ipv6Addr::from(to);
    match kind {
        ECHO_V6 => (to == own).then_some(HostFrame::Echo),
        SOLICITATION | ADVERTISEMENT => {
            (to == own || to == solicited_node(&own) || to == ALL_NODES).then_some(HostFrame::Resolution)
        }
        _ => None,
    }
}

/// All nodes of the link (RFC 4291, 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The multicast address at which a host is asked for `ip` (RFC 4291, 2.7.1).
#[must_use]
pub const fn solicited_node(ip: &Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = ip.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | a as u16, (b as u16) << 8 | c as u16)
}
