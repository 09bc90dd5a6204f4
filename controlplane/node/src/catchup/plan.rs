//! Which ranges of blocks are asked of whom, and in which order answers go on. Pure: no clock, no stream.

use roko_wire::limits::SYNC_BLOCKS_MAX;
use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

/// Ranges that may be asked for, or wait for an earlier one, at once for each peer: one on its way, one at hand.
const RANGES_PER_PEER: usize = 2;

/// A range of heights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub from: u64,
    /// How many.
    pub count: u64,
}

/// What is being fetched. Peers are named by numbers; `T` is a block.
#[derive(Debug)]
pub struct Plan<T> {
    /// The next height that goes on.
    expected: u64,
    /// The next height that nobody was asked for.
    next: u64,
    /// The last height to fetch.
    target: u64,
    /// Ranges that were asked for in vain.
    again: BTreeMap<u64, u64>,
    asked: HashMap<usize, Range>,
    ready: BTreeMap<u64, (usize, Vec<T>)>,
}

impl<T> Plan<T> {
    /// Fetches the blocks above `base` up to `target`.
    #[must_use]
    pub fn new(base: u64, target: u64) -> Plan<T> {
        let next = base.saturating_add(1);
        let (again, asked, ready) = (BTreeMap::new(), HashMap::new(), BTreeMap::new());
        Plan { expected: next, next, target, again, asked, ready }
    }

    /// Whether every block has gone on.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.expected > self.target
    }

    /// The height that the next block must have.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.expected
    }

    /// The last height to fetch.
    #[must_use]
    pub fn target(&self) -> u64 {
        self.target
    }

    /// The chain has grown.
    pub fn extend(&mut self, target: u64) {
        self.target = self.target.max(target);
    }

    /// What to ask an idle peer that has these blocks, of `peers` that are asked.
    pub fn ask(&mut self, peer: usize, has: RangeInclusive<u64>, peers: usize) -> Option<Range> {
        let tip = *has.end();
        if self.asked.contains_key(&peer) || has.is_empty() {
            return None;
        }
        let range = match self.again.range(has.clone()).next() {
            Some((&from, &count)) => {
                self.again.remove(&from);
                Range { from, count }
            }
            _ if !has.contains(&self.next) => return None,
            _ if self.asked.len() + self.ready.len() >= RANGES_PER_PEER * peers.max(1) => return None,
            _ => {
                let end = self.target.min(tip);
                let count = end.checked_sub(self.next)?.saturating_add(1).min(SYNC_BLOCKS_MAX as u64);
                let from = self.next;
                self.next += count;
                Range { from, count }
            }
        };
        self.asked.insert(peer, range);
        Some(range)
    }

    /// A peer's answer: blocks from the start of its range on. What it left out is asked again. Returns whether it
    /// answered what it was asked, with one block at least.
    pub fn answered(&mut self, peer: usize, mut blocks: Vec<T>) -> bool {
        let Some(Range { from, count }) = self.asked.remove(&peer) else { return false };
        blocks.truncate(count as usize);
        let got = blocks.len() as u64;
        if got < count {
            self.again.insert(from + got, count - got);
        }
        if got > 0 {
            self.ready.insert(from, (peer, blocks));
        }
        got > 0
    }

    /// A peer has failed: what it was asked, and what it has sent and nobody has looked at, is asked of others.
    pub fn failed(&mut self, peer: usize) {
        if let Some(Range { from, count }) = self.asked.remove(&peer) {
            self.again.insert(from, count);
        }
        let of_peer = self.ready.extract_if(.., |_, (of, _)| *of == peer);
        let ranges: Vec<(u64, u64)> =
            of_peer.map(|(from, (_, blocks))| (from, blocks.len() as u64)).collect();
        self.again.extend(ranges);
    }

    /// The next blocks in order, and who sent them.
    pub fn take(&mut self) -> Option<(usize, Vec<T>)> {
        let (peer, blocks) = self.ready.remove(&self.expected)?;
        self.expected += blocks.len() as u64;
        Some((peer, blocks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Peers that answer whole, in part, or not at all: every height goes on once, in order.
        #[test]
        fn every_block_goes_on_once_and_in_order(
            base in 0u64..50,
            more in 0u64..3_000,
            steps in prop::collection::vec((0usize..4, 0u8..6, 0u64..300), 1..400),
        ) {
            let (target, peers) = (base + more, 4);
            let mut plan = Plan::<u64>::new(base, target);
            let mut went_on = Vec::new();
            let mut asked: HashMap<usize, Range> = HashMap::new();
            // In the end the peers answer everything.
            let helpful = (0..2_000usize).map(|step| (step % peers, 5, 300));
            for (peer, what, part) in steps.into_iter().chain(helpful) {
                if let Some(range) = plan.ask(peer, 1..=target, peers) {
                    prop_assert!(range.count >= 1 && range.count <= SYNC_BLOCKS_MAX as u64);
                    prop_assert!(range.from > base && range.from + range.count <= target + 1);
                    prop_assert!(asked.insert(peer, range).is_none());
                }
                match what {
                    0 => {
                        asked.remove(&peer);
                        plan.failed(peer);
                    }
                    1 => {}
                    _ => if let Some(Range { from, count }) = asked.remove(&peer) {
                        let part = if what == 5 { count } else { part.min(count) };
                        prop_assert_eq!(plan.answered(peer, (from..from + part).collect()), part > 0);
                    }
                }
                prop_assert!(plan.ready.len() + plan.asked.len() <= RANGES_PER_PEER * peers + peers);
                while let Some((_, blocks)) = plan.take() {
                    let expected = base + 1 + went_on.len() as u64;
                    prop_assert_eq!(blocks[0], expected);
                    went_on.extend(blocks);
                }
            }
            prop_assert!(plan.is_done());
            prop_assert_eq!(went_on, (base + 1..=target).collect::<Vec<_>>());
        }
    }

    #[test]
    fn nobody_is_asked_for_what_is_before_his_snapshot() {
        let mut plan = Plan::<u64>::new(10, 100);
        assert_eq!(plan.ask(1, 12..=100, 2), None);
        assert_eq!(plan.ask(1, RangeInclusive::new(200, 100), 2), None, "nonsense is no range");
        assert_eq!(plan.ask(0, 11..=20, 2), Some(Range { from: 11, count: 10 }));
        assert_eq!(plan.ask(1, 12..=100, 2), Some(Range { from: 21, count: 80 }));
        plan.failed(0);
        assert_eq!(plan.ask(2, 12..=100, 2), None);
        assert_eq!(plan.ask(2, 11..=100, 2), Some(Range { from: 11, count: 10 }));
    }

    #[test]
    fn nobody_is_asked_beyond_his_own_tip() {
        let mut plan = Plan::<u64>::new(10, 100);
        assert_eq!(plan.ask(1, 1..=10, 2), None);
        assert_eq!(plan.ask(1, 1..=60, 2), Some(Range { from: 11, count: 50 }));
        assert_eq!(plan.ask(1, 1..=60, 2), None, "one question at a time");
        assert_eq!(plan.ask(0, 1..=100, 2), Some(Range { from: 61, count: 40 }));
        plan.failed(0);
        assert_eq!(plan.ask(2, 1..=60, 2), None);
        assert_eq!(plan.ask(2, 1..=61, 2), Some(Range { from: 61, count: 40 }));
    }
}
