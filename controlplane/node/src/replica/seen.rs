//! Transactions that this node's own data plane has verified: who sent them, and when they reached this node.
//!
//! A block's transactions that are found here need no second signature check, and their stamps can be compared with
//! this node's own receive time. What is final is forgotten at once; beyond that the oldest half is forgotten when it is
//! full, and forgetting costs only a second check.

use roko_wire::stamp::{SignedRoot, Stamp};
use roko_wire::{Address, NanoMoment, TxId, merkle};
use std::collections::{HashMap, HashSet};

/// One transaction seen first-hand.
#[derive(Clone, Copy, Debug)]
pub struct SeenTx {
    /// Its verified sender.
    pub sender: Address,
    /// The stamp it came with.
    pub stamp: Stamp,
    /// When its frame reached this node.
    pub received: NanoMoment,
}

/// Two generations of seen transactions.
#[derive(Debug)]
pub struct Seen {
    young: HashMap<TxId, SeenTx>,
    old: HashMap<TxId, SeenTx>,
    young_roots: HashSet<[u8; 64]>,
    old_roots: HashSet<[u8; 64]>,
    /// The root of the last report: a batch's transactions come one after the other.
    last_root: Option<SignedRoot>,
    generation_max: usize,
}

impl Seen {
    /// Remembers between `capacity / 2` and `capacity` transactions.
    #[must_use]
    pub fn new(capacity: usize) -> Seen {
        let generation_max = (capacity / 2).max(1);
        Seen {
            young: HashMap::new(),
            old: HashMap::new(),
            young_roots: HashSet::new(),
            old_roots: HashSet::new(),
            last_root: None,
            generation_max,
        }
    }

    /// Remembers a transaction, and the signed root of the stamp batch that it came in, both verified.
    pub fn insert(&mut self, id: TxId, seen: SeenTx, root: &SignedRoot) {
        if self.young.len().max(self.young_roots.len()) >= self.generation_max {
            self.last_root = None;
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            std::mem::swap(&mut self.young_roots, &mut self.old_roots);
            self.young_roots.clear();
        }
        if self.last_root.as_ref() != Some(root) {
            self.young_roots.insert(fingerprint(root));
            self.last_root = Some(*root);
        }
        self.young.insert(id, seen);
    }

    /// Forgets a transaction that is final; whether it was known.
    pub fn forget(&mut self, id: &TxId) -> bool {
        self.young.remove(id).or_else(|| self.old.remove(id)).is_some()
    }

    /// Whether this very root with this signature was verified here.
    #[must_use]
    pub fn has_root(&self, root: &SignedRoot) -> bool {
        let key = fingerprint(root);
        self.young_roots.contains(&key) || self.old_roots.contains(&key)
    }

    /// What is known of a transaction.
    #[must_use]
    pub fn get(&self, id: &TxId) -> Option<&SeenTx> {
        self.young.get(id).or_else(|| self.old.get(id))
    }
}

/// Stands for a root with its signer, size and signature: all of it goes into the hash.
fn fingerprint(root: &SignedRoot) -> [u8; 64] {
    let mut key = [0; 64];
    key[..32].copy_from_slice(&root.root.0);
    let rest = merkle::leaf(&[&root.ingress.0.to_le_bytes(), &[root.leaves], &root.signature]);
    key[32..].copy_from_slice(&rest.0);
    key
}

/// How many of a block's stamps are implausible, of those that this node can judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StampPlausibility {
    /// Stamps of transactions that this node saw first-hand.
    pub judged: u32,
    /// Of those, stamps outside the interval that this node's own receive time allows.
    pub implausible: u32,
}

/// How far a stamp may lie before this node's receive time, and after it, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct PlausibleWindow {
    /// Longest way from the ingress validator to here.
    pub delay_ns: u64,
    /// How far two good clocks may be apart.
    pub precision_ns: u64,
}

impl PlausibleWindow {
    /// Whether what was received at `received` can have been stamped like this.
    #[must_use]
    pub fn allows(self, stamp: &Stamp, received: NanoMoment) -> bool {
        let slack_ns = self.precision_ns.saturating_add(stamp.bound_ns);
        let earliest = received.saturating_sub(self.delay_ns).saturating_sub(slack_ns);
        (earliest..=received.saturating_add(slack_ns)).contains(&stamp.time)
    }
}

impl StampPlausibility {
    /// Judges one stamp by this node's own receive time of the same transaction.
    pub fn judge(&mut self, stamp: &Stamp, received: NanoMoment, window: PlausibleWindow) {
        self.judged += 1;
        self.implausible += u32::from(!window.allows(stamp, received));
    }

    /// Whether the implausible ones are at most `permille` of those judged.
    #[must_use]
    pub fn is_within(&self, permille: u32) -> bool {
        u64::from(self.implausible) * 1_000 <= u64::from(self.judged) * u64::from(permille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_wire::nano::ClockSource;
    use roko_wire::{Hash32, ValidatorIndex};

    fn root(n: u8) -> SignedRoot {
        SignedRoot { ingress: ValidatorIndex(0), leaves: 1, root: Hash32([n; 32]), signature: [n; 64] }
    }

    fn stamp(time: u128) -> Stamp {
        Stamp {
            time: NanoMoment(time),
            bound_ns: 10,
            source: ClockSource::System.into(),
            ingress: ValidatorIndex(0),
        }
    }

    #[test]
    fn a_full_table_forgets_its_oldest_half_only() {
        let mut seen = Seen::new(8);
        let id = |n: u8| TxId([n; 32]);
        for n in 0..8 {
            let tx =
                SeenTx { sender: Address([n; 20]), stamp: stamp(0), received: NanoMoment(u128::from(n)) };
            seen.insert(id(n), tx, &root(n));
        }
        assert!(seen.has_root(&root(1)) && !seen.has_root(&SignedRoot { leaves: 2, ..root(1) }));
        assert!((4..8).all(|n| seen.get(&id(n)).is_some_and(|tx| tx.received == NanoMoment(u128::from(n)))));
        seen.insert(id(8), SeenTx { received: NanoMoment(8), ..*seen.get(&id(7)).unwrap() }, &root(8));
        assert!(seen.get(&id(0)).is_none() && seen.get(&id(4)).is_some() && seen.get(&id(8)).is_some());
        assert!(seen.forget(&id(4)) && !seen.forget(&id(4)) && seen.get(&id(4)).is_none());
    }

    #[test]
    fn stamps_are_plausible_within_delay_and_precision_on_either_side() {
        let window = PlausibleWindow { delay_ns: 500, precision_ns: 40 };
        let implausible = |time| {
            let mut count = StampPlausibility::default();
            count.judge(&stamp(time), NanoMoment(10_000), window);
            count.implausible
        };
        assert_eq!([9_449, 9_450, 10_050, 10_051].map(implausible), [1, 0, 0, 1]);
        let count = StampPlausibility { judged: 100, implausible: 5 };
        assert!(count.is_within(50) && !count.is_within(49));
    }
}
