//! The ways to peers, with the Ethernet addresses of their next hops put in: a peer on the link is its own next hop, any other
//! is reached through the gateway.
//!
//! A way whose next hop is not known yet waits here, the newest of each peer only. Pure, as [`super::neighbours`] is.

use super::neighbours::Neighbours;
use core::net::IpAddr;
use roko_pipeline::peer::LinkCommand;
use roko_wire::net::{Addresses, Mac};

/// Which addresses are on the link, and who passes on the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// This node's address.
    pub own: IpAddr,
    /// Leading bits that addresses on the link share with it.
    pub prefix: u8,
    /// The gateway, on the link.
    pub gateway: Option<IpAddr>,
}

impl Route {
    /// Whether `ip` is on the link. Link-local addresses of IPv6 are (RFC 4291, 2.5.6).
    #[must_use]
    pub fn on_link(&self, ip: &IpAddr) -> bool {
        let bits = u32::from(self.prefix);
        match (self.own, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                (own.to_bits() ^ ip.to_bits()).leading_zeros() >= bits.min(32)
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                ip.is_unicast_link_local() || (own.to_bits() ^ ip.to_bits()).leading_zeros() >= bits.min(128)
            }
            _ => false,
        }
    }

    /// Who takes frames for `to`; `None` when it is not on the link and there is no gateway.
    #[must_use]
    pub fn next_hop(&self, to: &IpAddr) -> Option<IpAddr> {
        if self.on_link(to) { Some(*to) } else { self.gateway }
    }
}

/// A peer's way.
struct Way {
    next_hop: IpAddr,
    addresses: Addresses,
    /// What spread has not been told.
    untold: Option<LinkCommand>,
    /// What spread uses.
    told: Option<Mac>,
}

/// The ways of all peers.
pub(super) struct Ways {
    route: Route,
    ways: Vec<Option<Way>>,
}

impl Ways {
    /// Of `peers_max` peers at most.
    #[must_use]
    pub(super) fn new(route: Route, peers_max: usize) -> Ways {
        Ways { route, ways: (0..peers_max).map(|_| None).collect() }
    }

    /// Takes a command of the handshakes. False when its peer cannot be reached: no gateway, or no room for its next hop.
    pub(super) fn take(&mut self, command: LinkCommand, neighbours: &mut Neighbours, now_ms: u64) -> bool {
        let (LinkCommand::Link { peer, .. } | LinkCommand::Move { peer, .. } | LinkCommand::Unlink { peer }) =
            &command;
        let peer = *peer;
        let Some(place) = self.ways.get_mut(peer.as_usize()) else { return false };
        let addresses = match &command {
            LinkCommand::Link { link, .. } => link.addresses,
            LinkCommand::Move { addresses, .. } => *addresses,
            LinkCommand::Unlink { .. } => {
                let untold = place.take().map(|way| Way { untold: Some(command), ..way });
                *place = untold;
                return true;
            }
        };
        let Some(next_hop) = self.route.next_hop(&addresses.destination_ip) else { return false };
        let before = place.take();
        let told = before.as_ref().filter(|way| way.next_hop == next_hop).and_then(|way| way.told);
        let held = before.and_then(|way| way.untold);
        let untold = match (command, held) {
            // A link that waits takes the new address with it.
            (LinkCommand::Move { .. }, Some(link @ LinkCommand::Link { .. })) => Some(link),
            (command, _) => Some(command),
        };
        *place = Some(Way { next_hop, addresses, untold, told });
        let ways = &self.ways;
        neighbours.retain(|ip| ways.iter().flatten().any(|way| way.next_hop == *ip));
        neighbours.want(next_hop, now_ms)
    }

    /// Tells spread, by `push`, what it does not know and what can be told now. A command that `push` gives back is tried
    /// again with the next call.
    pub(super) fn tell(
        &mut self,
        neighbours: &Neighbours,
        mut push: impl FnMut(LinkCommand) -> Option<LinkCommand>,
    ) {
        for (peer, place) in self.ways.iter_mut().enumerate() {
            let Some(way) = place else { continue };
            if let Some(LinkCommand::Unlink { .. }) = way.untold {
                way.untold = way.untold.take().and_then(&mut push);
                if way.untold.is_none() {
                    *place = None;
                }
                continue;
            }
            let Some(mac) = neighbours.mac(&way.next_hop) else { continue };
            if way.untold.is_none() && way.told == Some(mac) {
                continue;
            }
            way.addresses.destination_mac = mac;
            let peer = roko_pipeline::peer::PeerIndex(peer as u16);
            let command = match way.untold.take() {
                Some(LinkCommand::Link { peer, role, mut link }) => {
                    link.addresses = way.addresses;
                    LinkCommand::Link { peer, role, link }
                }
                _ => LinkCommand::Move { peer, addresses: way.addresses },
            };
            match push(command) {
                None => way.told = Some(mac),
                back => way.untold = back,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_pipeline::peer::{KeyLimits, PeerIndex, PeerLink, Role};
    use roko_pipeline::session::AeadKeys;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn addresses(to: &str) -> Addresses {
        Addresses {
            source_mac: Mac([2, 0, 0, 0, 0, 7]),
            destination_mac: Mac::default(),
            source_ip: ip("10.0.0.1"),
            destination_ip: ip(to),
            source_port: 1,
            destination_port: 2,
        }
    }

    fn link(peer: u16, to: &str, key_phase: u8) -> LinkCommand {
        let link = PeerLink {
            addresses: addresses(to),
            session: 5,
            core: 0,
            key_phase,
            keys: AeadKeys { key: [0; 32], iv: [0; 12] },
            limits: KeyLimits::default(),
        };
        LinkCommand::Link { peer: PeerIndex(peer), role: Role::Client, link }
    }

    /// (peer, key phase of a link or none of a move, address, Ethernet address's last byte)
    type Told = (u16, Option<u8>, String, u8);

    fn told(ways: &mut Ways, neighbours: &Neighbours) -> Vec<Told> {
        let mut all = Vec::new();
        ways.tell(neighbours, |command| {
            let (peer, phase, to) = match &command {
                LinkCommand::Link { peer, link, .. } => (peer.0, Some(link.key_phase), link.addresses),
                LinkCommand::Move { peer, addresses } => (peer.0, None, *addresses),
                LinkCommand::Unlink { peer } => (peer.0, None, addresses("0.0.0.0")),
            };
            all.push((peer, phase, to.destination_ip.to_string(), to.destination_mac.0[5]));
            None
        });
        all
    }

    const ROUTE: Route = Route {
        own: IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 1)),
        prefix: 24,
        gateway: Some(IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 254))),
    };

    #[test]
    fn who_is_on_the_link_is_its_own_next_hop() {
        assert_eq!(ROUTE.next_hop(&ip("10.0.0.200")), Some(ip("10.0.0.200")));
        assert_eq!(ROUTE.next_hop(&ip("10.0.1.1")), Some(ip("10.0.0.254")));
        assert_eq!(Route { gateway: None, ..ROUTE }.next_hop(&ip("10.0.1.1")), None);
        assert!(Route { prefix: 0, ..ROUTE }.on_link(&ip("8.8.8.8")));
        let route = Route { own: ip("2001:db8::1"), prefix: 64, gateway: Some(ip("fe80::1")) };
        assert!(route.on_link(&ip("2001:db8::ffff")) && route.on_link(&ip("fe80::9")));
        assert_eq!(route.next_hop(&ip("2001:db8:1::1")), Some(ip("fe80::1")));
        assert!(!route.on_link(&ip("10.0.0.1")));
    }

    #[test]
    fn a_link_waits_for_its_next_hop_and_the_newest_is_told() {
        let (mut ways, mut neighbours) = (Ways::new(ROUTE, 4), Neighbours::new(8, &[]));
        assert!(ways.take(link(1, "10.0.0.2", 0), &mut neighbours, 0));
        assert!(ways.take(link(1, "10.0.0.2", 1), &mut neighbours, 0));
        assert!(ways.take(link(2, "10.9.0.2", 0), &mut neighbours, 0));
        assert_eq!(told(&mut ways, &neighbours), []);
        neighbours.heard(ip("10.0.0.2"), Mac([2, 0, 0, 0, 0, 2]), true, 1);
        assert_eq!(told(&mut ways, &neighbours), [(1, Some(1), "10.0.0.2".into(), 2)]);
        neighbours.heard(ip("10.0.0.254"), Mac([2, 0, 0, 0, 0, 254]), true, 1);
        assert_eq!(told(&mut ways, &neighbours), [(2, Some(0), "10.9.0.2".into(), 254)]);
        assert_eq!(told(&mut ways, &neighbours), []);
    }

    #[test]
    fn a_peer_that_moves_keeps_its_key_and_one_whose_next_hop_changes_is_moved() {
        let (mut ways, mut neighbours) = (Ways::new(ROUTE, 4), Neighbours::new(8, &[]));
        ways.take(link(1, "10.0.0.2", 3), &mut neighbours, 0);
        let moved = LinkCommand::Move { peer: PeerIndex(1), addresses: addresses("10.0.0.3") };
        ways.take(moved, &mut neighbours, 0);
        assert_eq!(neighbours.counts(), (0, 1), "the address before is nobody's next hop");
        neighbours.heard(ip("10.0.0.3"), Mac([2, 0, 0, 0, 0, 3]), true, 1);
        assert_eq!(told(&mut ways, &neighbours), [(1, Some(3), "10.0.0.3".into(), 3)]);
        // The card of the next hop was changed: nobody answers at the old address any more.
        for at in 0..7 {
            neighbours.due(40_000 + at * 1_000);
        }
        neighbours.heard(ip("10.0.0.3"), Mac([2, 0, 0, 0, 0, 9]), true, 50_000);
        assert_eq!(told(&mut ways, &neighbours), [(1, None, "10.0.0.3".into(), 9)]);
        ways.take(LinkCommand::Unlink { peer: PeerIndex(1) }, &mut neighbours, 0);
        assert_eq!(told(&mut ways, &neighbours).len(), 1);
    }

    #[test]
    fn what_finds_no_room_is_told_later_and_who_cannot_be_reached_is_refused() {
        let route = Route { gateway: None, ..ROUTE };
        let (mut ways, mut neighbours) =
            (Ways::new(route, 2), Neighbours::new(8, &[(ip("10.0.0.2"), Mac([2; 6]))]));
        assert!(ways.take(link(1, "10.0.0.2", 0), &mut neighbours, 0));
        assert!(!ways.take(link(0, "10.0.1.2", 0), &mut neighbours, 0));
        assert!(!ways.take(link(2, "10.0.0.2", 0), &mut neighbours, 0), "no such peer");
        ways.tell(&neighbours, Some);
        assert_eq!(told(&mut ways, &neighbours), [(1, Some(0), "10.0.0.2".into(), 2)]);
    }
}
