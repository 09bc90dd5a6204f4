//! Every index against every other; the oracle test calls it after each step.

use crate::index::NIL;
use crate::mempool::Mempool;
use crate::mempool::expiry::second;
use crate::mempool::fees::fee_class;
use crate::mempool::senders::is_next;
use crate::mempool::slots::{Link, Place};
use crate::mempool::wheel::Home;
use roko_wire::NanoMoment;
use std::collections::{BTreeMap, BTreeSet};

/// Entries of an intrusive list, its back links checked.
fn list(head: u32, most: usize, link: impl Fn(u32) -> Link) -> Vec<u32> {
    let (mut at, mut prev, mut entries) = (head, NIL, Vec::new());
    while at != NIL {
        assert_eq!(link(at).prev, prev, "back link");
        entries.push(at);
        assert!(entries.len() <= most, "a cycle");
        (prev, at) = (at, link(at).next);
    }
    entries
}

impl<M: Copy> Mempool<M> {
    /// Panics if an index disagrees with another.
    pub(in crate::mempool) fn check_invariants(&self, tags_used: &[u64]) {
        let live: BTreeSet<u32> = (0..self.slots.hot.len() as u32)
            .filter(|&entry| self.slots.hot[entry as usize].place != Place::Free)
            .collect();
        assert_eq!(live.len(), self.slots.live);
        let of = |wanted: &[Place]| -> BTreeSet<u32> {
            live.iter().copied().filter(|&e| wanted.contains(&self.slots.hot[e as usize].place)).collect()
        };
        assert_eq!(of(&[Place::InFlight]).len(), self.in_flight);
        let bytes: usize = live.iter().map(|&e| usize::from(self.slots.cold[e as usize].bytes_len)).sum();
        assert_eq!(bytes, self.slots.bytes_used);
        for &entry in &live {
            assert_eq!(self.entry(&self.slots.cold[entry as usize].id), Some(entry), "id index");
        }
        assert_eq!(self.ids.len(), live.len() + self.remembered.len());
        self.check_wheel(&of(&[Place::Placed]));
        self.check_fees(&of(&[Place::Placed, Place::Awaiting]));
        self.check_expiry(&live);
        self.check_senders(&live);
        self.check_tags(&of(&[Place::InFlight]), tags_used);
    }

    fn check_wheel(&self, placed: &BTreeSet<u32>) {
        let mut seen = BTreeSet::new();
        for (home, root) in self.wheel.heaps() {
            let mut open = Vec::new();
            if root != NIL {
                let hot = &self.slots.hot[root as usize];
                assert_eq!((hot.next, hot.prev), (NIL, NIL), "a root stands alone");
                open.push(root);
            }
            while let Some(entry) = open.pop() {
                assert!(seen.insert(entry), "an entry in two heaps");
                assert_eq!(self.wheel.home(self.slots.hot[entry as usize].time), home);
                let (mut child, mut prev) = (self.slots.hot[entry as usize].child, entry);
                while child != NIL {
                    assert_eq!(self.slots.hot[child as usize].prev, prev, "heap back link");
                    assert!(self.slots.before(entry, child), "heap order");
                    open.push(child);
                    (prev, child) = (child, self.slots.hot[child as usize].next);
                }
            }
        }
        assert_eq!(&seen, placed, "the time index holds what is placed");
        assert!(matches!(self.wheel.home(u128::MAX), Home::Overflow), "the last tick is never in the window");
    }

    fn check_fees(&self, pending: &BTreeSet<u32>) {
        let mut seen = BTreeSet::new();
        for (byte_class, class, entry, fee_at) in self.fees.entries() {
            let cold = &self.slots.cold[entry as usize];
            assert_eq!((usize::from(fee_class(cold.fee)), usize::from(cold.byte_class)), (class, byte_class));
            assert_eq!(self.slots.hot[entry as usize].fee_at, fee_at);
            assert!(seen.insert(entry));
        }
        assert!(self.fees.lines_used() <= pending.len(), "a line in a list holds an entry");
        assert_eq!(&seen, pending, "the eviction order holds what is pending");
    }

    fn check_expiry(&self, live: &BTreeSet<u32>) {
        let mut seen = BTreeSet::new();
        for (slot, head) in self.expiry.heads() {
            for entry in list(head, live.len(), |entry| self.slots.cold[entry as usize].expiry) {
                assert_eq!(self.slots.cold[entry as usize].expiry_slot as usize, slot);
                assert!(seen.insert(entry));
            }
        }
        assert_eq!(&seen, live, "the expiry wheel holds everything");
    }

    fn check_senders(&self, live: &BTreeSet<u32>) {
        let mut chains: BTreeMap<_, BTreeMap<u64, u32>> = BTreeMap::new();
        for &entry in live {
            let nonce = self.slots.hot[entry as usize].nonce;
            let chain = chains.entry(self.senders.address(self.slots.hot[entry as usize].chain)).or_default();
            assert!(chain.insert(nonce, entry).is_none());
        }
        assert_eq!(self.senders.open_chains(), chains.len());
        for (sender, by_nonce) in chains {
            let (tail, txs) = self.senders.ends(&self.hasher, &sender);
            let head = self.senders.first(&self.hasher, &self.slots, &sender);
            let chain = list(head, live.len(), |entry| self.slots.hot[entry as usize].sender);
            assert_eq!(chain, by_nonce.values().copied().collect::<Vec<_>>(), "chain by nonce");
            assert_eq!((chain.last(), chain.len() as u32), (Some(&tail), txs));
            let hot = |entry: u32| &self.slots.hot[entry as usize];
            let first = chain.iter().find(|entry| hot(**entry).place != Place::InFlight);
            assert_eq!(self.senders.first_pending(hot(head).chain), first.copied().unwrap_or(NIL));
            let behind = chain.iter().skip_while(|entry| Some(*entry) != first).skip(1);
            let all_pending = behind.into_iter().all(|entry| hot(*entry).place != Place::InFlight);
            assert!(
                all_pending || self.senders.is_ragged(hot(head).chain),
                "an entry in flight behind the first pending one"
            );
            assert!(!hot(head).gap);
            for pair in chain.windows(2) {
                assert_eq!(hot(pair[1]).gap, !is_next(hot(pair[0]).nonce, hot(pair[1]).nonce), "gap");
            }
        }
    }

    fn check_tags(&self, in_flight: &BTreeSet<u32>, tags_used: &[u64]) {
        let mut held: BTreeMap<u32, u8> = BTreeMap::new();
        let mut open = 0;
        for &tag in tags_used {
            let entries = self.tags.entries(&self.slots, &self.hasher, tag);
            open += usize::from(!entries.is_empty());
            entries.into_iter().for_each(|entry| *held.entry(entry).or_default() += 1);
        }
        assert_eq!(open, self.tags.open_count(), "a tag is open exactly while it holds a transaction");
        assert_eq!(&held.keys().copied().collect::<BTreeSet<_>>(), in_flight);
        for (entry, tags) in held {
            assert_eq!(self.slots.hot[entry as usize].tags, tags);
        }
    }

    /// The first tick of the wheel's window, which the semantics of a drain mention.
    pub(in crate::mempool) fn window_start(&self) -> u64 {
        self.wheel.base
    }

    /// Whether a pending transaction's window ended in an earlier second than that of `now`.
    pub(in crate::mempool) fn second_is_over(valid_until: NanoMoment, now: NanoMoment) -> bool {
        second(valid_until) < second(now)
    }
}
