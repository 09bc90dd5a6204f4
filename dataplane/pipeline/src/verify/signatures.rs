//! The signature checks of one poll, gathered so that they share the CPU's lanes.
//!
//! Eight checks on AVX-512 lanes take about as long as two or three one after the other. Each has a verdict of its own,
//! so a bad signature costs the others nothing. What is left over, too few to fill lanes, is checked singly by keys that
//! [`super::keys`] remembers.

use super::keys::SenderKeys;
use arrayvec::ArrayVec;
use ed25519_zebra::Signature;
use roko_ed25519::{BREAK_EVEN, Check, LANES, Method};
use roko_wire::codec::Sink;
use roko_wire::limits::TX_BYTES_MAX;
use roko_wire::tx::Ed25519Check;

/// Longest signed message: a transaction and its domain.
const MESSAGE_BYTES: usize = TX_BYTES_MAX + 32;

struct Pending {
    key: [u8; 32],
    signature: [u8; 64],
    message: ArrayVec<u8, MESSAGE_BYTES>,
    holds: bool,
}

/// See the module.
pub(super) struct Signatures {
    places: Box<[Pending]>,
    used: usize,
    /// Fewer checks than these go one by one.
    lanes_from: usize,
    keys: SenderKeys,
}

impl Signatures {
    /// Room for `capacity` checks; `salt` is the secret of the keys' table.
    pub(super) fn new(capacity: usize, salt: u64) -> Signatures {
        roko_ed25519::prepare();
        let empty = || Pending { key: [0; 32], signature: [0; 64], message: ArrayVec::new(), holds: false };
        let lanes_from = if roko_ed25519::method() == Method::Single { usize::MAX } else { BREAK_EVEN };
        Signatures {
            places: (0..capacity).map(|_| empty()).collect(),
            used: 0,
            lanes_from,
            keys: SenderKeys::new(salt),
        }
    }

    /// Adds a check and returns its place. Never more than the capacity before [`Signatures::clear`].
    pub(super) fn add(&mut self, check: &Ed25519Check<'_>) -> usize {
        let pending = &mut self.places[self.used];
        pending.key = *check.key;
        pending.signature = *check.signature;
        pending.message.clear();
        check.message.iter().for_each(|part| pending.message.put(part));
        self.used += 1;
        self.used - 1
    }

    /// Carries out what was added.
    pub(super) fn run(&mut self) {
        for group in self.places[..self.used].chunks_mut(LANES) {
            if group.len() >= self.lanes_from {
                let verdicts = on_lanes(group);
                for (lane, pending) in group.iter_mut().enumerate() {
                    pending.holds = verdicts >> lane & 1 == 1;
                }
            } else {
                for pending in group {
                    let key = self.keys.get(&pending.key);
                    let signature = Signature::from(pending.signature);
                    pending.holds = key.is_some_and(|key| key.verify(&signature, &pending.message).is_ok());
                }
            }
        }
    }

    /// Whether the signature at a place holds; after [`Signatures::run`].
    pub(super) fn holds(&self, place: usize) -> bool {
        self.places[place].holds
    }

    /// The key at a place.
    pub(super) fn key(&self, place: usize) -> &[u8; 32] {
        &self.places[place].key
    }

    /// Forgets all checks.
    pub(super) fn clear(&mut self) {
        self.used = 0;
    }
}

fn on_lanes(group: &[Pending]) -> u8 {
    let checks: ArrayVec<Check<'_>, LANES> =
        group.iter().map(|p| Check { key: &p.key, signature: &p.signature, message: &p.message }).collect();
    roko_ed25519::verify(&checks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_zebra::{SigningKey, VerificationKey};

    #[test]
    fn every_check_has_its_own_verdict_in_full_lanes_and_in_what_is_left_over() {
        let mut signatures = Signatures::new(2 * LANES + 1, 7);
        for round in 0..2usize {
            for place in 0..=2 * LANES {
                let key = SigningKey::from([place as u8 + 1; 32]);
                let message = vec![place as u8; 50 * place];
                let mut signature = key.sign(&message).to_bytes();
                signature[40] ^= u8::from(place % 3 == round);
                let check = Ed25519Check {
                    key: &VerificationKey::from(&key).into(),
                    signature: &signature,
                    message: [&message[..place], &message[place..]],
                };
                assert_eq!(signatures.add(&check), place);
            }
            signatures.run();
            let verdicts: Vec<bool> = (0..=2 * LANES).map(|place| signatures.holds(place)).collect();
            let want: Vec<bool> = (0..=2 * LANES).map(|place| place % 3 != round).collect();
            assert_eq!(verdicts, want);
            signatures.clear();
        }
    }
}
