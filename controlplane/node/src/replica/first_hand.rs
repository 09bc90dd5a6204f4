//! Whose signatures of a block need no further check: what the data plane has verified, and what is verified here, eight
//! at a time, because the block came before its transactions did.
//!
//! What does not hold is left to the block's own check, which names the fault.

use super::seen::Seen;
use crate::chain::Chain;
use roko_ed25519::{Check, LANES};
use roko_execution::validity::Verified;
use roko_wire::account::address_of_ed25519;
use roko_wire::block::BodyView;
use roko_wire::stamp::{ROOT_SIGNING_BYTES, SignedRoot};
use roko_wire::tx::{Ed25519Check, ParsedTx, parse, tx_id};
use roko_wire::{Address, TxId};
use std::collections::{HashMap, HashSet};

/// See the module.
pub(super) struct FirstHand<'a> {
    seen: &'a Seen,
    found: Signatures,
}

/// Signatures that were checked here and hold.
#[derive(Debug, Default)]
pub(crate) struct Signatures {
    senders: HashMap<TxId, Address>,
    roots: HashSet<SignedRoot>,
}

impl Verified for Signatures {
    fn sender(&self, id: &TxId) -> Option<Address> {
        self.senders.get(id).copied()
    }

    fn stamp_root(&self, root: &SignedRoot) -> bool {
        self.roots.contains(root)
    }
}

impl Verified for FirstHand<'_> {
    fn sender(&self, id: &TxId) -> Option<Address> {
        self.seen.get(id).map(|seen| seen.sender).or_else(|| self.found.sender(id))
    }

    fn stamp_root(&self, root: &SignedRoot) -> bool {
        self.seen.has_root(root) || self.found.stamp_root(root)
    }
}

impl Signatures {
    /// Checks all signatures of these bodies.
    pub(crate) fn of(chain: &Chain, bodies: &[BodyView<'_>]) -> Signatures {
        let mut found = Signatures::default();
        let batches = |body: &BodyView<'_>| -> Vec<SignedRoot> {
            (0..body.batch_count()).filter_map(|index| body.batch(index)).collect()
        };
        let roots: Vec<SignedRoot> = bodies.iter().flat_map(batches).collect();
        found.check_roots(chain, roots.iter());
        let wires = bodies.iter().flat_map(|body| body.entries().map(|entry| entry.wire));
        found.check_txs(wires, |_| true);
        found
    }
}

impl<'a> FirstHand<'a> {
    /// Checks the batches that the data plane has not seen, and their transactions.
    pub(super) fn of(chain: &Chain, body: &BodyView<'_>, seen: &'a Seen) -> FirstHand<'a> {
        let mut found = Signatures::default();
        let roots: Vec<SignedRoot> = (0..body.batch_count()).filter_map(|index| body.batch(index)).collect();
        let unseen: Vec<bool> = roots.iter().map(|root| !seen.has_root(root)).collect();
        if unseen.contains(&true) {
            found
                .check_roots(chain, roots.iter().zip(&unseen).filter(|(_, new)| **new).map(|(root, _)| root));
            let new = body.entries().filter(|entry| unseen.get(entry.batch) == Some(&true));
            found.check_txs(new.map(|entry| entry.wire), |id| seen.get(id).is_none());
        }
        FirstHand { seen, found }
    }
}

impl Signatures {
    fn check_roots<'r>(&mut self, chain: &Chain, roots: impl Iterator<Item = &'r SignedRoot>) {
        let chain_id = chain.domain.chain_id;
        let signed: Vec<(&SignedRoot, [u8; 32], [u8; ROOT_SIGNING_BYTES])> = roots
            .filter_map(|root| {
                let key = chain.node_keys.get(root.ingress.as_usize())?;
                Some((root, (*key).into(), root.signing_bytes(chain_id)))
            })
            .collect();
        let checks: Vec<Check<'_>> = signed
            .iter()
            .map(|(root, key, message)| Check { key, signature: &root.signature, message })
            .collect();
        let verdicts = verdicts(&checks);
        self.roots
            .extend(signed.iter().zip(verdicts).filter(|(_, holds)| *holds).map(|((root, ..), _)| **root));
    }

    /// Those that are `wanted`.
    fn check_txs<'w>(&mut self, wires: impl Iterator<Item = &'w [u8]>, wanted: impl Fn(&TxId) -> bool) {
        let signed: Vec<(TxId, ParsedTx<'w>)> = wires
            .filter_map(|wire| {
                let (id, parsed) = (tx_id(wire), parse(wire).ok()?);
                wanted(&id).then_some((id, parsed))
            })
            .collect();
        let signed: Vec<(TxId, Ed25519Check<'_>)> =
            signed.iter().filter_map(|(id, signed)| Some((*id, signed.ed25519_check()?))).collect();
        let messages: Vec<Vec<u8>> = signed.iter().map(|(_, check)| check.message.concat()).collect();
        let checks: Vec<Check<'_>> = signed
            .iter()
            .zip(&messages)
            .map(|((_, check), message)| Check { key: check.key, signature: check.signature, message })
            .collect();
        let good = signed.iter().zip(verdicts(&checks)).filter(|(_, holds)| *holds);
        self.senders.extend(good.map(|((id, check), _)| (*id, address_of_ed25519(check.key))));
    }
}

/// Whether each holds, eight at a time.
pub(crate) fn verdicts(checks: &[Check<'_>]) -> Vec<bool> {
    let group = |group: &[Check<'_>]| {
        let holds = roko_ed25519::verify(group);
        (0..group.len()).map(move |lane| holds >> lane & 1 == 1)
    };
    checks.chunks(LANES).flat_map(group).collect()
}
