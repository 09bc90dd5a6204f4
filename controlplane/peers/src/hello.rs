//! The first message of both ends after TLS, and what each checks in the other's.
//!
//! | offset | size | type | field |
//! |---:|---:|---|---|
//! | 0 | 1 | u8 | version, 1 |
//! | 1 | 32 | bytes | genesis hash |
//! | 33 | 8 | u64 | chain id |
//! | 41 | 1 | u8 | consensus preset: 0 classic, 1 balanced, 2 fast |
//! | 42 | 8 | u64 | the sender's session of this connection; its top 16 bits are the sender's index |
//! | 50 | 1 | u8 | 4 or 6: the version of the address that follows |
//! | 51 | 16 | bytes | the address of the sender's data plane; IPv4 in the first four bytes, the rest zero |
//! | 67 | 2 | u16 | its UDP port |
//!
//! Integers are little-endian. Both ends send theirs at once, then one byte each: 0, or the code of a refusal. A stream is
//! open when both bytes are 0. TLS has proved who the other end is; this says that it is of the same chain.

use crate::refusal::Refusal;
use crate::session::SessionId;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use roko_wire::genesis::{Endpoint, Preset};
use roko_wire::{ChainId, Hash32};

/// Bytes of a [`Hello`].
pub const HELLO_BYTES: usize = 69;
/// Bytes of an address and a port.
pub(crate) const ENDPOINT_BYTES: usize = 19;
const VERSION: u8 = 1;

/// What both ends of a stream must have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainFacts {
    /// SHA-256 of the genesis.
    pub genesis_hash: Hash32,
    /// The chain's number.
    pub chain_id: ChainId,
    /// How its quorums are chosen.
    pub preset: Preset,
}

/// A node's first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The sender's chain.
    pub chain: ChainFacts,
    /// The sender's session.
    pub session: SessionId,
    /// Where the sender's data plane is reached.
    pub endpoint: Endpoint,
}

const fn preset_byte(preset: Preset) -> u8 {
    match preset {
        Preset::Classic => 0,
        Preset::Balanced => 1,
        Preset::Fast => 2,
    }
}

pub(crate) fn endpoint_bytes(endpoint: &Endpoint) -> [u8; ENDPOINT_BYTES] {
    let mut out = [0; ENDPOINT_BYTES];
    match endpoint.ip {
        IpAddr::V4(ip) => {
            out[0] = 4;
            out[1..5].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out[0] = 6;
            out[1..17].copy_from_slice(&ip.octets());
        }
    }
    out[17..].copy_from_slice(&endpoint.port.to_le_bytes());
    out
}

/// Reads an address and a port; `None` when they are not as they are written, or the port is 0.
pub(crate) fn read_endpoint(bytes: &[u8; ENDPOINT_BYTES]) -> Option<Endpoint> {
    let ip = match bytes[0] {
        4 if bytes[5..17] == [0; 12] => IpAddr::V4(Ipv4Addr::new(bytes[1], bytes[2], bytes[3], bytes[4])),
        6 => {
            let mut octets = [0; 16];
            octets.copy_from_slice(&bytes[1..17]);
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    let port = u16::from_le_bytes([bytes[17], bytes[18]]);
    (port != 0).then_some(Endpoint { ip, port })
}

impl Hello {
    /// The message.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HELLO_BYTES] {
        let mut out = [0; HELLO_BYTES];
        out[0] = VERSION;
        out[1..33].copy_from_slice(&self.chain.genesis_hash.0);
        out[33..41].copy_from_slice(&self.chain.chain_id.0.to_le_bytes());
        out[41] = preset_byte(self.chain.preset);
        out[42..50].copy_from_slice(&self.session.0.to_le_bytes());
        out[50..].copy_from_slice(&endpoint_bytes(&self.endpoint));
        out
    }

    /// Reads the other end's message and checks that it is of this chain and from the peer that TLS names.
    ///
    /// # Errors
    /// The first thing that is wrong: version and layout, chain id, genesis, preset, the session's owner.
    pub fn check(bytes: &[u8; HELLO_BYTES], own: &ChainFacts, peer_index: u16) -> Result<Hello, Refusal> {
        if bytes[0] != VERSION {
            return Err(Refusal::WrongHello);
        }
        let eight = |at: usize| {
            let mut out = [0; 8];
            out.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(out)
        };
        if eight(33) != own.chain_id.0 {
            return Err(Refusal::WrongChain);
        }
        if bytes[41] != preset_byte(own.preset) {
            return Err(Refusal::WrongPreset);
        }
        if bytes[1..33] != own.genesis_hash.0 {
            return Err(Refusal::WrongGenesis);
        }
        let session = SessionId(eight(42));
        let mut place = [0; ENDPOINT_BYTES];
        place.copy_from_slice(&bytes[50..]);
        let endpoint = read_endpoint(&place).filter(|_| session.sender_index() == peer_index);
        Ok(Hello { chain: *own, session, endpoint: endpoint.ok_or(Refusal::WrongHello)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::BootStamp;
    use proptest::prelude::*;

    pub(crate) fn facts() -> ChainFacts {
        ChainFacts { genesis_hash: Hash32([9; 32]), chain_id: ChainId(77), preset: Preset::Balanced }
    }

    fn hello(ip: IpAddr, port: u16) -> Hello {
        let session = SessionId::new(3, BootStamp::new(1_000).unwrap());
        Hello { chain: facts(), session, endpoint: Endpoint { ip, port } }
    }

    proptest! {
        #[test]
        fn a_hello_reads_back(ip in any::<IpAddr>(), port in 1u16..) {
            let hello = hello(ip, port);
            prop_assert_eq!(Hello::check(&hello.to_bytes(), &facts(), 3), Ok(hello));
        }

        #[test]
        fn any_changed_byte_changes_the_outcome(at in 0..HELLO_BYTES, mask in 1u8..) {
            let hello = hello([10, 0, 0, 1].into(), 7_700);
            let mut bytes = hello.to_bytes();
            bytes[at] ^= mask;
            prop_assert_ne!(Hello::check(&bytes, &facts(), 3), Ok(hello));
        }
    }

    #[test]
    fn what_differs_is_named() {
        let bytes = hello([10, 0, 0, 1].into(), 7_700).to_bytes();
        let refusal = |own: ChainFacts, index| Hello::check(&bytes, &own, index).unwrap_err();
        assert_eq!(
            refusal(ChainFacts { genesis_hash: Hash32([8; 32]), ..facts() }, 3),
            Refusal::WrongGenesis
        );
        assert_eq!(refusal(ChainFacts { chain_id: ChainId(78), ..facts() }, 3), Refusal::WrongChain);
        assert_eq!(refusal(ChainFacts { preset: Preset::Fast, ..facts() }, 3), Refusal::WrongPreset);
        assert_eq!(refusal(facts(), 4), Refusal::WrongHello, "another peer's session");
    }
}
