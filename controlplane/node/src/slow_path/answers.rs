//! What a host says on its link: it answers who asks for its address, sends echo requests back, and asks for others.
//!
//! Pure: a frame in, a claim and an answer out. Parsing and writing are smoltcp's; what it accepts and this host does not is
//! refused here: other people's frames, sources that are no host, hop limits that a router has touched.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use roko_wire::host_frame::{ALL_NODES, solicited_node};
use roko_wire::net::Mac;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
    Icmpv4Packet, Icmpv4Repr, Icmpv6Message, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet, Ipv4Repr,
    Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
};

use super::neighbours::Question;

/// Hop limit of neighbour discovery: a frame with less came through a router (RFC 4861, 7.1).
const HOP_LIMIT_ON_LINK: u8 = 255;
const HOP_LIMIT: u8 = 64;
const ETHERNET: usize = 14;

/// This host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Station {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its IP address.
    pub ip: IpAddr,
}

/// Somebody says which Ethernet address an IP address has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The IP address.
    pub ip: IpAddr,
    /// Its Ethernet address, as it is said.
    pub mac: Mac,
    /// As an answer to a question.
    pub answer: bool,
}

/// An answer that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Bytes of the frame.
    pub bytes: usize,
    /// To an echo request, else to a question for this host's address.
    pub echo: bool,
    /// Who asked.
    pub to: IpAddr,
}

/// What a frame said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// A claim about somebody else's address.
    pub claim: Option<Claim>,
    /// Somebody else uses this host's IP address.
    pub conflict: bool,
    /// What is to be sent.
    pub answer: Option<Answer>,
}

const fn ethernet(mac: Mac) -> EthernetAddress {
    EthernetAddress(mac.0)
}

/// The address of a host, neither nobody's nor a group's.
fn host(mac: EthernetAddress) -> Option<Mac> {
    (mac.is_unicast() && mac.0 != [0; 6]).then_some(Mac(mac.0))
}

/// The Ethernet address of an IPv6 group (RFC 2464, 7).
const fn group(ip: &Ipv6Addr) -> EthernetAddress {
    let [.., a, b, c, d] = ip.octets();
    EthernetAddress([0x33, 0x33, a, b, c, d])
}

fn is_host(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !broadcast && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback()
}

impl Station {
    /// What `frame` said to this host, the answer written to `out`; `None` for what is not for it or not well made. An
    /// answer that does not fit is not given.
    #[must_use]
    pub(super) fn hear(&self, frame: &[u8], out: &mut [u8]) -> Option<Said> {
        let frame = EthernetFrame::new_checked(frame).ok()?;
        let (from, to) = (host(frame.src_addr())?, frame.dst_addr());
        if to.is_unicast() && to != ethernet(self.mac) {
            return None;
        }
        match (frame.ethertype(), self.ip) {
            (EthernetProtocol::Arp, IpAddr::V4(own)) => self.arp(frame.payload(), own, out),
            (EthernetProtocol::Ipv4, IpAddr::V4(own)) => self.ipv4(frame.payload(), from, own, out),
            (EthernetProtocol::Ipv6, IpAddr::V6(own)) => self.ipv6(frame.payload(), from, own, out),
            _ => None,
        }
    }

    fn claim(&self, ip: IpAddr, mac: Mac, answer: bool) -> Said {
        let conflict = ip == self.ip && mac != self.mac;
        let claim = (ip != self.ip && is_host(&ip)).then_some(Claim { ip, mac, answer });
        Said { claim, conflict, answer: None }
    }

    fn arp(&self, packet: &[u8], own: Ipv4Addr, out: &mut [u8]) -> Option<Said> {
        let packet = ArpPacket::new_checked(packet).ok()?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = ArpRepr::parse(&packet).ok()?
        else {
            return None;
        };
        let from = host(source_hardware_addr)?;
        let to_us = target_protocol_addr == own;
        let said = self.claim(source_protocol_addr.into(), from, operation == ArpOperation::Reply && to_us);
        if operation != ArpOperation::Request || !to_us || source_protocol_addr == own {
            return Some(said);
        }
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: ethernet(self.mac),
            source_protocol_addr: own,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: source_protocol_addr,
        };
        let bytes = self.write_arp(&reply, source_hardware_addr, out)?;
        let answer = Answer { bytes, echo: false, to: source_protocol_addr.into() };
        Some(Said { answer: Some(answer), ..said })
    }

    fn write_arp(&self, arp: &ArpRepr, to: EthernetAddress, out: &mut [u8]) -> Option<usize> {
        let payload = self.write_ethernet(to, EthernetProtocol::Arp, arp.buffer_len(), out)?;
        arp.emit(&mut ArpPacket::new_unchecked(payload));
        Some(ETHERNET + arp.buffer_len())
    }

    /// Writes the Ethernet header and gives what follows it.
    fn write_ethernet<'a>(
        &self,
        to: EthernetAddress,
        ethertype: EthernetProtocol,
        payload_bytes: usize,
        out: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        let out = out.get_mut(..ETHERNET + payload_bytes)?;
        let header = EthernetRepr { src_addr: ethernet(self.mac), dst_addr: to, ethertype };
        header.emit(&mut EthernetFrame::new_unchecked(&mut *out));
        Some(&mut out[ETHERNET..])
    }

    fn ipv4(&self, packet: &[u8], from: Mac, own: Ipv4Addr, out: &mut [u8]) -> Option<Said> {
        let checks = ChecksumCapabilities::default();
        let packet = Ipv4Packet::new_checked(packet).ok()?;
        let ip = Ipv4Repr::parse(&packet, &checks).ok()?;
        let whole = !packet.more_frags() && packet.frag_offset() == 0;
        if ip.dst_addr != own || !whole || ip.next_header != IpProtocol::Icmp || !is_host(&ip.src_addr.into())
        {
            return None;
        }
        let icmp = Icmpv4Packet::new_checked(packet.payload()).ok()?;
        let Icmpv4Repr::EchoRequest { ident, seq_no, data } = Icmpv4Repr::parse(&icmp, &checks).ok()? else {
            return None;
        };
        let reply = Icmpv4Repr::EchoReply { ident, seq_no, data };
        let header = Ipv4Repr {
            src_addr: own,
            dst_addr: ip.src_addr,
            next_header: IpProtocol::Icmp,
            payload_len: reply.buffer_len(),
            hop_limit: HOP_LIMIT,
        };
        let bytes = header.buffer_len() + reply.buffer_len();
        let payload = self.write_ethernet(ethernet(from), EthernetProtocol::Ipv4, bytes, out)?;
        let mut written = Ipv4Packet::new_unchecked(payload);
        header.emit(&mut written, &checks);
        reply.emit(&mut Icmpv4Packet::new_unchecked(written.payload_mut()), &checks);
        let answer = Answer { bytes: ETHERNET + bytes, echo: true, to: ip.src_addr.into() };
        Some(Said { answer: Some(answer), ..Said::default() })
    }

    fn ipv6(&self, packet: &[u8], from: Mac, own: Ipv6Addr, out: &mut [u8]) -> Option<Said> {
        let packet = Ipv6Packet::new_checked(packet).ok()?;
        let ip = Ipv6Repr::parse(&packet).ok()?;
        if ip.next_header != IpProtocol::Icmpv6 {
            return None;
        }
        let icmp = Icmpv6Packet::new_checked(packet.payload()).ok()?;
        let wanted =
            [Icmpv6Message::EchoRequest, Icmpv6Message::NeighborSolicit, Icmpv6Message::NeighborAdvert];
        if !wanted.contains(&icmp.msg_type()) || icmp.msg_code() != 0 {
            return None;
        }
        let checks = ChecksumCapabilities::default();
        let repr = Icmpv6Repr::parse(&ip.src_addr, &ip.dst_addr, &icmp, &checks).ok()?;
        match repr {
            Icmpv6Repr::EchoRequest { ident, seq_no, data }
                if ip.dst_addr == own && is_host(&ip.src_addr.into()) =>
            {
                let reply = Icmpv6Repr::EchoReply { ident, seq_no, data };
                let bytes = self.write_icmpv6((own, ip.src_addr), ethernet(from), HOP_LIMIT, &reply, out)?;
                let answer = Answer { bytes, echo: true, to: ip.src_addr.into() };
                Some(Said { answer: Some(answer), ..Said::default() })
            }
            Icmpv6Repr::Ndisc(said) if ip.hop_limit == HOP_LIMIT_ON_LINK => {
                self.discovery(&said, ip.src_addr, from, own, out)
            }
            _ => None,
        }
    }

    /// Neighbour solicitations and advertisements (RFC 4861, 7.2).
    fn discovery(
        &self,
        said: &NdiscRepr<'_>,
        source: Ipv6Addr,
        from: Mac,
        own: Ipv6Addr,
        out: &mut [u8],
    ) -> Option<Said> {
        let said_mac = |lladdr: &Option<smoltcp::wire::RawHardwareAddress>| match lladdr {
            Some(raw) => raw.as_bytes().try_into().ok().and_then(|bytes| host(EthernetAddress(bytes))),
            None => Some(from),
        };
        match said {
            NdiscRepr::NeighborAdvert { flags, target_addr, lladdr } => {
                let answer = flags.contains(NdiscNeighborFlags::SOLICITED);
                Some(self.claim((*target_addr).into(), said_mac(lladdr)?, answer))
            }
            NdiscRepr::NeighborSolicit { target_addr, lladdr } if *target_addr == own => {
                let asker = said_mac(lladdr)?;
                let said = self.claim(source.into(), asker, false);
                // Who has no address yet asks whether this one is free, and everybody hears the answer.
                let (dst, mac, flags) = if source.is_unspecified() {
                    (ALL_NODES, group(&ALL_NODES), NdiscNeighborFlags::OVERRIDE)
                } else {
                    (source, ethernet(asker), NdiscNeighborFlags::OVERRIDE | NdiscNeighborFlags::SOLICITED)
                };
                let bytes =
                    self.write_icmpv6((own, dst), mac, HOP_LIMIT_ON_LINK, &self.advert(own, flags), out)?;
                Some(Said { answer: Some(Answer { bytes, echo: false, to: source.into() }), ..said })
            }
            _ => None,
        }
    }

    fn advert(&self, own: Ipv6Addr, flags: NdiscNeighborFlags) -> Icmpv6Repr<'static> {
        let lladdr = Some(ethernet(self.mac).into());
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { flags, target_addr: own, lladdr })
    }

    fn write_icmpv6(
        &self,
        (source, to): (Ipv6Addr, Ipv6Addr),
        mac: EthernetAddress,
        hop_limit: u8,
        icmp: &Icmpv6Repr<'_>,
        out: &mut [u8],
    ) -> Option<usize> {
        let header = Ipv6Repr {
            src_addr: source,
            dst_addr: to,
            next_header: IpProtocol::Icmpv6,
            payload_len: icmp.buffer_len(),
            hop_limit,
        };
        let bytes = header.buffer_len() + icmp.buffer_len();
        let payload = self.write_ethernet(mac, EthernetProtocol::Ipv6, bytes, out)?;
        let mut written = Ipv6Packet::new_unchecked(payload);
        header.emit(&mut written);
        let mut body = Icmpv6Packet::new_unchecked(written.payload_mut());
        icmp.emit(&source, &to, &mut body, &ChecksumCapabilities::default());
        Some(ETHERNET + bytes)
    }

    /// Writes a question; `None` when it does not fit or is about the other family.
    #[must_use]
    pub(super) fn ask(&self, question: &Question, out: &mut [u8]) -> Option<usize> {
        match (self.ip, question.ip) {
            (IpAddr::V4(own), IpAddr::V4(target)) => {
                let request = self.arp_request(own, target);
                self.write_arp(&request, question.to.map_or(EthernetAddress::BROADCAST, ethernet), out)
            }
            (IpAddr::V6(own), IpAddr::V6(target)) => {
                let all = solicited_node(&target);
                let (to, mac) = question.to.map_or((all, group(&all)), |mac| (target, ethernet(mac)));
                let lladdr = Some(ethernet(self.mac).into());
                let icmp = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr: target, lladdr });
                self.write_icmpv6((own, to), mac, HOP_LIMIT_ON_LINK, &icmp, out)
            }
            _ => None,
        }
    }

    const fn arp_request(&self, own: Ipv4Addr, target: Ipv4Addr) -> ArpRepr {
        ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: ethernet(self.mac),
            source_protocol_addr: own,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: target,
        }
    }

    /// Writes what tells everybody on the link where this host is (RFC 5227, 2.3; RFC 4861, 7.2.6): switches learn it.
    #[must_use]
    pub(super) fn announce(&self, out: &mut [u8]) -> Option<usize> {
        match self.ip {
            IpAddr::V4(own) => self.write_arp(&self.arp_request(own, own), EthernetAddress::BROADCAST, out),
            IpAddr::V6(own) => {
                let advert = self.advert(own, NdiscNeighborFlags::OVERRIDE);
                self.write_icmpv6((own, ALL_NODES), group(&ALL_NODES), HOP_LIMIT_ON_LINK, &advert, out)
            }
        }
    }
}
