//! Who the peers are: genesis' validators and the clients that the configuration names.
//!
//! A peer's *index* is what is on the wire, in every session id: a validator's place in genesis, or a configured number
//! from [`CLIENT_INDEX_FIRST`]. Its *slot* is its place in this node's table, dense and the same for the node's life.

use crate::error::PeersError;
use core::net::IpAddr;
use curve25519_dalek::edwards::CompressedEdwardsY;
use roko_wire::ValidatorIndex;
use roko_wire::genesis::{Endpoint, Genesis, NodeKey};
use roko_wire::net::Mac;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The first index of clients; below are validators.
pub const CLIENT_INDEX_FIRST: u16 = 0x8000;

const _: () = assert!(roko_wire::limits::VALIDATORS_MAX <= CLIENT_INDEX_FIRST as usize);

/// What a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A validator of the epoch.
    Validator(ValidatorIndex),
    /// A client or a full node: it may submit transactions.
    Client,
}

/// Where a peer's data plane is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerEndpoint {
    /// IPv4 or IPv6 address.
    pub ip: IpAddr,
    /// UDP port.
    pub port: u16,
    /// Ethernet address of the peer or of the way to it.
    pub mac: Mac,
}

/// One peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its index on the wire.
    pub index: u16,
    /// What it is.
    pub role: Role,
    /// Its ed25519 key.
    pub node_key: NodeKey,
    /// Where it is reached.
    pub endpoint: PeerEndpoint,
}

/// A client in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientEntry {
    /// Its index on the wire, from 0x8000; the client is configured with the same.
    pub index: u16,
    /// Its ed25519 key.
    pub node_key: NodeKey,
    /// Where it is reached.
    pub endpoint: Endpoint,
}

/// All peers, this node included, by slot: validators in genesis' order, then clients in the configuration's.
#[derive(Clone, Debug)]
pub struct Membership {
    peers: Vec<Peer>,
    slots: HashMap<u16, usize>,
}

impl Membership {
    /// The members of a chain. `mac_of` gives the Ethernet address to use for an endpoint, which genesis does not know.
    pub fn new(
        genesis: &Genesis,
        clients: &[ClientEntry],
        mac_of: impl Fn(&Endpoint) -> Mac,
    ) -> Result<Membership, PeersError> {
        let endpoint = |at: &Endpoint| PeerEndpoint { ip: at.ip, port: at.port, mac: mac_of(at) };
        let mut out = Membership { peers: Vec::new(), slots: HashMap::new() };
        for (index, validator) in genesis.validators.iter().enumerate() {
            let index = index as u16;
            out.add(Peer {
                index,
                role: Role::Validator(ValidatorIndex(index)),
                node_key: validator.node_key,
                endpoint: endpoint(&validator.endpoint),
            })?;
        }
        for client in clients {
            if client.index < CLIENT_INDEX_FIRST {
                return Err(PeersError::ClientIndex(client.index));
            }
            out.add(Peer {
                index: client.index,
                role: Role::Client,
                node_key: client.node_key,
                endpoint: endpoint(&client.endpoint),
            })?;
        }
        Ok(out)
    }

    fn add(&mut self, peer: Peer) -> Result<(), PeersError> {
        check_key(&peer.node_key)?;
        let reach = |peer: &Peer| (peer.endpoint.ip, peer.endpoint.port);
        for other in &self.peers {
            let same = [
                ("index", other.index == peer.index),
                ("node key", other.node_key == peer.node_key),
                ("endpoint", reach(other) == reach(&peer)),
            ];
            if let Some((what, _)) = same.into_iter().find(|(_, same)| *same) {
                return Err(PeersError::Shared { first: other.index, second: peer.index, what });
            }
        }
        self.slots.insert(peer.index, self.peers.len());
        self.peers.push(peer);
        Ok(())
    }

    /// All peers by slot.
    #[must_use]
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// The slot of the peer with this index.
    #[must_use]
    pub fn slot_of_index(&self, index: u16) -> Option<usize> {
        self.slots.get(&index).copied()
    }

    /// The slot of the peer with this key.
    pub fn slot_of_key(&self, key: &NodeKey) -> Result<usize, PeersError> {
        self.peers
            .iter()
            .position(|peer| peer.node_key == *key)
            .ok_or_else(|| PeersError::NotMember { key: hex::encode(key.0) })
    }
}

/// A locally administered Ethernet address made from an IP address (its last four bytes), for links on which nobody
/// answers ARP, as between ports of one process.
#[must_use]
pub fn derived_mac(ip: &IpAddr) -> Mac {
    let [a, b, c, d] = match ip {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            [octets[12], octets[13], octets[14], octets[15]]
        }
    };
    Mac([0x02, 0, a, b, c, d])
}

/// Refuses a key for which anyone can make signatures (a point of small order), and what is no key.
fn check_key(key: &NodeKey) -> Result<(), PeersError> {
    let bad = |what| PeersError::BadKey { key: hex::encode(key.0), what };
    let point =
        CompressedEdwardsY(key.0).decompress().ok_or_else(|| bad("it is not a point of the curve"))?;
    if point.is_small_order() { Err(bad("it is a point of small order")) } else { Ok(()) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::identity::NodeIdentity;
    use roko_wire::genesis::{BlsPublicKey, GenesisLimits, GenesisValidator, Preset, ProofOfPossession};
    use roko_wire::{Address, ChainId, Hash32, NanoMoment};

    pub(crate) fn endpoint(last: u8) -> Endpoint {
        Endpoint { ip: [10, 0, 0, last].into(), port: 4_000 }
    }

    /// A chain of validators whose seeds are `[1; 32]`, `[2; 32]` and so on.
    pub(crate) fn genesis(validators: u8) -> Genesis {
        let validator = |n: u8| GenesisValidator {
            bls_key: BlsPublicKey([n; 48]),
            bls_proof: ProofOfPossession([n; 96]),
            node_key: NodeIdentity::from_seed(&[n; 32]).node_key(),
            withdrawal: Address([n; 20]),
            stake_roko: 32_000,
            ml_dsa_key_hash: Hash32::ZERO,
            endpoint: endpoint(n),
        };
        Genesis {
            chain_id: ChainId(1),
            time: NanoMoment(0),
            tai_offset_s: 37,
            preset: Preset::Balanced,
            seed: Hash32::ZERO,
            validators: (1..=validators).map(validator).collect(),
            balances: Vec::new(),
            limits: GenesisLimits::default(),
        }
    }

    pub(crate) fn client(index: u16, seed: u8) -> ClientEntry {
        let node_key = NodeIdentity::from_seed(&[seed; 32]).node_key();
        ClientEntry { index, node_key, endpoint: endpoint(seed) }
    }

    pub(crate) fn membership(validators: u8, clients: &[ClientEntry]) -> Result<Membership, PeersError> {
        Membership::new(&genesis(validators), clients, |at| derived_mac(&at.ip))
    }

    #[test]
    fn validators_come_first_and_clients_keep_their_index() {
        let members = membership(3, &[client(0x8005, 50), client(0x8001, 51)]).unwrap();
        let indices: Vec<u16> = members.peers().iter().map(|peer| peer.index).collect();
        assert_eq!(indices, [0, 1, 2, 0x8005, 0x8001]);
        assert_eq!(members.slot_of_index(0x8001), Some(4));
        assert_eq!(members.slot_of_index(3), None);
        assert_eq!(members.peers()[1].role, Role::Validator(ValidatorIndex(1)));
        assert_eq!(members.peers()[1].endpoint.mac, Mac([2, 0, 10, 0, 0, 2]));
        assert_eq!(members.slot_of_key(&NodeIdentity::from_seed(&[51; 32]).node_key()).unwrap(), 4);
        let stranger = NodeIdentity::from_seed(&[99; 32]).node_key();
        assert!(matches!(members.slot_of_key(&stranger), Err(PeersError::NotMember { .. })));
    }

    #[test]
    fn points_of_small_order_and_no_points_are_refused() {
        let with = |key| membership(2, &[ClientEntry { node_key: NodeKey(key), ..client(0x8000, 50) }]);
        for point in curve25519_dalek::constants::EIGHT_TORSION {
            let refusal = with(point.compress().to_bytes()).unwrap_err().to_string();
            assert!(refusal.contains("small order"), "{refusal}");
        }
        assert!(with([2; 32]).unwrap_err().to_string().contains("not a point"));
    }

    #[test]
    fn what_must_be_a_peers_own_is_not_shared() {
        assert!(matches!(membership(2, &[client(7, 50)]), Err(PeersError::ClientIndex(7))));
        let shared = |clients: &[ClientEntry]| match membership(2, clients) {
            Err(PeersError::Shared { what, .. }) => what,
            _ => "nothing",
        };
        assert_eq!(shared(&[client(0x8000, 50), client(0x8000, 51)]), "index");
        assert_eq!(shared(&[client(0x8000, 1)]), "node key");
        assert_eq!(shared(&[ClientEntry { endpoint: endpoint(2), ..client(0x8000, 50) }]), "endpoint");
        assert_eq!(shared(&[client(0x8000, 50), client(0x8001, 51)]), "nothing");
    }
}
