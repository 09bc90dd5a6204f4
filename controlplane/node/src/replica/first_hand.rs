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
    senders: HashMap<TxId, Address>,
    roots: HashSet<SignedRoot>,
}

impl Verified for FirstHand<'_> {
    fn sender(&self, _: usize, id: &TxId) -> Option<Address> {
        self.seen.get(id).map(|seen| seen.sender).or_else(|| self.senders.get(id).copied())
    }

    fn stamp_root(&self, root: &SignedRoot) -> bool {
        self.seen.has_root(root) || self.roots.contains(root)
    }
}

impl<'a> FirstHand<'a> {
    /// Checks the batches that the data plane has not seen, and their transactions.
    pub(super) fn of(chain: &Chain, body: &BodyView<'_>, seen: &'a Seen) -> FirstHand<'a> {
        let roots: Vec<SignedRoot> = (0..body.batch_count()).filter_map(|index| body.batch(index)).collect();
        let unseen: Vec<bool> = roots.iter().map(|root| !seen.has_root(root)).collect();
        let new: Vec<SignedRoot> =
            roots.into_iter().zip(&unseen).filter(|(_, new)| **new).map(|(root, _)| root).collect();
        let new_txs = body.entries().filter(|entry| unseen.get(entry.batch) == Some(&true));
        let txs: Vec<(TxId, ParsedTx<'_>)> = new_txs
            .filter_map(|entry| {
                let id = tx_id(entry.wire);
                seen.get(&id).is_none().then(|| Some((id, parse(entry.wire).ok()?))).flatten()
            })
            .collect();
        let senders = senders_of(txs.iter().map(|(_, parsed)| parsed));
        let holds = roots_hold(chain, &new);
        FirstHand {
            seen,
            senders: txs.iter().zip(senders).filter_map(|((id, _), sender)| Some((*id, sender?))).collect(),
            roots: new.into_iter().zip(holds).filter(|(_, holds)| *holds).map(|(root, _)| root).collect(),
        }
    }
}

/// What was checked of one body before its turn comes: ids, senders whose signatures hold, and stamps' roots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signatures {
    txs: Vec<(TxId, Option<Address>)>,
    roots: HashSet<SignedRoot>,
}

impl Verified for Signatures {
    fn sender(&self, place: usize, id: &TxId) -> Option<Address> {
        self.txs.get(place).filter(|(of, _)| of == id).and_then(|(_, sender)| *sender)
    }

    fn id(&self, place: usize) -> Option<TxId> {
        self.txs.get(place).map(|(id, _)| *id)
    }

    fn stamp_root(&self, root: &SignedRoot) -> bool {
        self.roots.contains(root)
    }
}

impl Signatures {
    /// Checks all signatures of these bodies together. Nothing is found in one that cannot be read.
    pub(crate) fn of_all(chain: &Chain, bodies: &[Option<BodyView<'_>>]) -> Vec<Signatures> {
        let batches = |body: &BodyView<'_>| (0..body.batch_count()).filter_map(|at| body.batch(at)).collect();
        let roots: Vec<Vec<SignedRoot>> =
            bodies.iter().map(|body| body.as_ref().map(batches).unwrap_or_default()).collect();
        let mut holds = roots_hold(chain, roots.iter().flatten()).into_iter();
        let txs: Vec<Vec<(TxId, Option<ParsedTx<'_>>)>> = bodies
            .iter()
            .map(|body| {
                let entries = body.iter().flat_map(BodyView::entries);
                entries.map(|entry| (tx_id(entry.wire), parse(entry.wire).ok())).collect()
            })
            .collect();
        let mut senders = senders_of(txs.iter().flatten().filter_map(|(_, tx)| tx.as_ref())).into_iter();
        roots
            .into_iter()
            .zip(&txs)
            .map(|(roots, txs)| Signatures {
                txs: txs
                    .iter()
                    .map(|(id, tx)| (*id, tx.as_ref().and_then(|_| senders.next().flatten())))
                    .collect(),
                roots: roots.into_iter().filter(|_| holds.next().unwrap_or(false)).collect(),
            })
            .collect()
    }
}

/// Whether the signatures over these roots hold.
fn roots_hold<'r>(chain: &Chain, roots: impl IntoIterator<Item = &'r SignedRoot>) -> Vec<bool> {
    let chain_id = chain.domain.chain_id;
    // A root of nobody is checked against a key that signed nothing.
    let key =
        |root: &SignedRoot| chain.node_keys.get(root.ingress.as_usize()).map_or([0; 32], |key| (*key).into());
    let signed: Vec<(&SignedRoot, [u8; 32], [u8; ROOT_SIGNING_BYTES])> =
        roots.into_iter().map(|root| (root, key(root), root.signing_bytes(chain_id))).collect();
    let checks: Vec<Check<'_>> = signed
        .iter()
        .map(|(root, key, message)| Check { key, signature: &root.signature, message })
        .collect();
    let known = |root: &SignedRoot| root.ingress.as_usize() < chain.node_keys.len();
    signed.iter().zip(verdicts(&checks)).map(|((root, ..), holds)| holds && known(root)).collect()
}

/// The sender of each, when it is an ed25519 key's and its signature holds.
fn senders_of<'p, 'w: 'p>(txs: impl Iterator<Item = &'p ParsedTx<'w>>) -> Vec<Option<Address>> {
    let signed: Vec<Option<Ed25519Check<'_>>> = txs.map(ParsedTx::ed25519_check).collect();
    let messages: Vec<Vec<u8>> = signed.iter().flatten().map(|check| check.message.concat()).collect();
    let checks: Vec<Check<'_>> = signed
        .iter()
        .flatten()
        .zip(&messages)
        .map(|(check, message)| Check { key: check.key, signature: check.signature, message })
        .collect();
    let mut holds = verdicts(&checks).into_iter();
    // Few senders send most of a range's transactions.
    let mut addresses: HashMap<[u8; 32], Address> = HashMap::new();
    signed
        .iter()
        .map(|check| {
            let key = check.as_ref().filter(|_| holds.next().unwrap_or(false))?.key;
            Some(*addresses.entry(*key).or_insert_with(|| address_of_ed25519(key)))
        })
        .collect()
}

/// Whether each holds, eight at a time.
pub(crate) fn verdicts(checks: &[Check<'_>]) -> Vec<bool> {
    let group = |group: &[Check<'_>]| {
        let holds = roko_ed25519::verify(group);
        (0..group.len()).map(move |lane| holds >> lane & 1 == 1)
    };
    checks.chunks(LANES).flat_map(group).collect()
}
