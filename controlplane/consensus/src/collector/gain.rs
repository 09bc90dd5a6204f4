//! Whether checking what waits in a view can change anything.

use super::{Class, Slot, ViewVotes};
use crate::quorum::Quorums;
use crate::set::ValidatorSet;
use roko_wire::ValidatorIndex;
use roko_wire::vote::Ballot;
use std::collections::BTreeMap;

/// What checking a view's pending votes could bring.
pub(super) struct Gain {
    /// It would bring all that further waiting could.
    pub(super) complete: bool,
    /// It could cross a threshold, or show a broken rule.
    pub(super) useful: bool,
}

/// Stake behind a ballot: checked, and waiting to be.
#[derive(Clone, Copy, Default)]
struct Stakes {
    verified: u64,
    pending: u64,
}

impl Stakes {
    fn add(&mut self, stake: u64, pending: bool) {
        *(if pending { &mut self.pending } else { &mut self.verified }) += stake;
    }

    /// Whether checking what waits would bring this to a threshold that it is not at yet.
    const fn crosses(self, own: u64, threshold: u64) -> bool {
        let verified = self.verified + own;
        self.pending > 0 && verified < threshold && verified + self.pending >= threshold
    }

    /// The same, with the node's own vote here or not: it does not pass through the collector.
    const fn may_cross(self, own: u64, threshold: u64) -> bool {
        self.crosses(own, threshold) || self.crosses(0, threshold)
    }
}

impl Gain {
    pub(super) fn of(
        entry: &ViewVotes,
        set: &ValidatorSet,
        quorums: &Quorums,
        own: Option<ValidatorIndex>,
    ) -> Gain {
        let own = own.map_or(0, |own| set.stake(own));
        let mut ballots: BTreeMap<Ballot, Stakes> = BTreeMap::new();
        let (mut firsts, mut skips) = (Stakes::default(), Stakes::default());
        for ((signer, class), slot) in &entry.slots {
            let (ballot, pending) = match slot {
                Slot::Pending(vote) => (vote.what.ballot, true),
                Slot::Verified(ballot) => (*ballot, false),
                Slot::Checking(_) => continue,
            };
            let stake = set.stake(*signer);
            ballots.entry(ballot).or_default().add(stake, pending);
            if matches!(class, Class::Skip | Class::SkipFallback) {
                skips.add(stake, pending);
            }
            if matches!(class, Class::Notarize | Class::Skip) {
                firsts.add(stake, pending);
            }
        }
        let (c, s, f) = (quorums.fast_certificate, quorums.slow, quorums.fast_commit);
        let evidence = entry.rivals.keys().any(|key| matches!(entry.slots.get(key), Some(Slot::Verified(_))));
        let mut complete = skips.crosses(own, s) || firsts.crosses(own, set.total_stake());
        let mut useful = evidence || !entry.certificates.is_empty();
        useful |= skips.may_cross(own, c) || firsts.may_cross(own, quorums.wait);
        for (ballot, stakes) in &ballots {
            match ballot {
                Ballot::Notarize(_) => {
                    complete |= stakes.crosses(own, f);
                    useful |= [c, s, f].iter().any(|threshold| stakes.may_cross(own, *threshold));
                }
                Ballot::Final(_) | Ballot::FinalSkip => {
                    complete |= stakes.crosses(own, s);
                    useful |= stakes.may_cross(own, s);
                }
                Ballot::Skip | Ballot::SkipFallback => {}
            }
        }
        Gain { complete, useful: useful || complete }
    }
}
