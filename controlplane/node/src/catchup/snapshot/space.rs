//! Which part of the key space is asked for next. Pure: no clock, no stream, no peers: questions have numbers.
//!
//! The space is cut into parts that several peers are asked for at once. Each answer covers the subtree at a part's
//! beginning; the rest of the part goes on from there, with whichever peer is idle next.

use roko_state::range::{Place, after, first_place};
use std::collections::{HashMap, VecDeque};

/// Bits of a part's places that are the same: 64 parts.
const PART_BITS: usize = 6;

/// What a peer is asked for: the subtree that begins here, so deep at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its first place.
    pub from: Place,
    /// How many bits its places share at least.
    pub depth: u16,
}

/// Places that are missing: from one up to another, exclusive; `None` is the end of the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    from: Place,
    to: Option<Place>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Space {
    missing: VecDeque<Part>,
    asked: HashMap<usize, Part>,
}

impl Space {
    /// Everything but what is covered: the first place and depth of each subtree.
    #[must_use]
    pub fn without(covered: &[(Place, u16)]) -> Space {
        let mut covered: Vec<(Place, usize)> = covered
            .iter()
            .map(|(from, depth)| (first_place(from, (*depth).into()), (*depth).into()))
            .collect();
        covered.sort_unstable();
        let mut missing = VecDeque::new();
        let mut next = Some([0; 32]);
        while let Some(from) = next {
            let to = after(&from, PART_BITS);
            let mut at = Some(from);
            // Subtrees are nested or apart, so what begins before `at` and reaches behind it moves it on.
            for (first, depth) in &covered {
                let Some(place) = at.filter(|place| to.is_none_or(|to| *place < to)) else { break };
                let end = after(first, *depth);
                if end.is_some_and(|end| end <= place) {
                    continue;
                }
                if *first > place {
                    let until = to.map_or(*first, |to| to.min(*first));
                    missing.push_back(Part { from: place, to: Some(until) });
                }
                at = end;
            }
            if let Some(place) = at.filter(|place| to.is_none_or(|to| *place < to)) {
                missing.push_back(Part { from: place, to });
            }
            next = to;
        }
        Space { missing, asked: HashMap::new() }
    }

    /// Whether everything is here.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.missing.is_empty() && self.asked.is_empty()
    }

    /// What to ask for by the question of this number, which must be new.
    pub fn ask(&mut self, number: usize) -> Option<Question> {
        let part = self.missing.pop_front()?;
        self.asked.insert(number, part);
        self.question(number)
    }

    /// A question that was asked and neither proven nor in vain.
    #[must_use]
    pub fn question(&self, number: usize) -> Option<Question> {
        let from = self.asked.get(&number)?.from;
        let begins = 256 - trailing_zeros(&from);
        Some(Question { from, depth: begins.max(PART_BITS) as u16 })
    }

    /// The answer to a question was proven: it covers the subtree of this depth at what was asked for.
    pub fn proven(&mut self, number: usize, depth: u16) {
        let Some(part) = self.asked.remove(&number) else { return };
        let next = after(&part.from, depth.into());
        if let Some(from) = next.filter(|next| part.to.is_none_or(|to| *next < to)) {
            self.missing.push_front(Part { from, ..part });
        }
    }

    /// A question was in vain: its part is asked for again.
    pub fn failed(&mut self, number: usize) {
        if let Some(part) = self.asked.remove(&number) {
            self.missing.push_front(part);
        }
    }

    /// How much of the space is here, of a million. Places are hashes, so it is the share of the accounts too.
    #[must_use]
    pub fn done_ppm(&self) -> u64 {
        let head = |place: &Place| u64::from(u32::from_be_bytes([place[0], place[1], place[2], place[3]]));
        let missing = |part: &Part| part.to.as_ref().map_or(1 << 32, head) - head(&part.from);
        let missing: u64 = self.missing.iter().chain(self.asked.values()).map(missing).sum();
        (((1_u64 << 32) - missing.min(1 << 32)) * 1_000_000) >> 32
    }
}

/// Bits at the end of a place that are zero.
fn trailing_zeros(place: &Place) -> usize {
    let zeros = place.iter().rev().take_while(|byte| **byte == 0).count();
    let rest = place.iter().rev().nth(zeros).map_or(0, |byte| byte.trailing_zeros() as usize);
    8 * zeros + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use roko_state::range::prove;
    use roko_state::{ProvenRange, Tree};
    use roko_wire::{Account, Address};
    use std::collections::BTreeMap;

    fn tree(accounts: u64) -> (Tree, BTreeMap<Address, Account>) {
        let account = |n: u64| {
            let mut address = Address::ZERO;
            address.0[..8].copy_from_slice(&n.to_be_bytes());
            (address, Account { nonce: n, ..Account::default() })
        };
        let all: BTreeMap<_, _> = (0..accounts).map(account).collect();
        let changes: Vec<_> = all.iter().map(|(address, account)| (*address, Some(*account))).collect();
        (Tree::new().update(&changes), all)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Peers answer or fail in any order, and the fetch is stopped and goes on from what was kept: every account is
        /// there in the end, and nothing that is not.
        #[test]
        fn everything_is_covered_whatever_fails(
            accounts in prop_oneof![0_u64..4, 0_u64..400],
            accounts_max in 1_usize..20,
            steps in proptest::collection::vec((0_usize..4, 0_u8..10), 0..300),
        ) {
            let (tree, all) = tree(accounts);
            let root = tree.root();
            let mut kept: Vec<ProvenRange> = Vec::new();
            let mut space = Space::without(&[]);
            let mut asked: HashMap<usize, Question> = HashMap::new();
            let ends = (0..).map(|n| (n % 4, 9));
            for (peer, what) in steps.into_iter().chain(ends).take(20_000) {
                if space.is_done() {
                    break;
                }
                if !asked.contains_key(&peer)
                    && let Some(question) = space.ask(peer)
                {
                    asked.insert(peer, question);
                }
                match what {
                    0 => {
                        asked.remove(&peer);
                        space.failed(peer);
                    }
                    1 => {
                        let covered: Vec<_> = kept.iter().map(|range| (range.from, range.depth)).collect();
                        (space, asked) = (Space::without(&covered), HashMap::new());
                    }
                    _ => if let Some(question) = asked.remove(&peer) {
                        let range = tree.range(&question.from, question.depth.into(), accounts_max);
                        let proven = prove(range, &root, &question.from).unwrap();
                        space.proven(peer, proven.depth);
                        kept.push(proven);
                    }
                }
            }
            prop_assert!(space.is_done());
            prop_assert_eq!(space.done_ppm(), 1_000_000);
            let got: BTreeMap<_, _> = kept.into_iter().flat_map(|range| range.accounts).collect();
            prop_assert_eq!(got, all);
        }
    }
}
