//! Versions of the state that are kept for a while, so that a new node can fetch one of them.
//!
//! The state after every [`crate::StoreOptions::pin_blocks`]th block is kept when it is committed: a version shares all
//! that did not change with the newest one, so keeping it costs its differences, and reading it stops nobody. Time is
//! counted in such heights. The newest [`NEWEST`] are kept in any case, so that an asker has that long to begin; others as
//! long as they were asked for within the last [`IDLE_MAX`], and [`AGE_MAX`] at most; [`KEPT_MAX`] altogether.

use crate::reader::Snapshot;
use std::collections::VecDeque;

/// Versions that are kept unasked.
pub const NEWEST: usize = 2;
/// Versions that are kept at most, with those that are being fetched.
pub const KEPT_MAX: usize = 6;
/// How many heights later a version that nobody asks for is forgotten.
pub const IDLE_MAX: u64 = 6;
/// How many heights later a version is forgotten that is still asked for.
pub const AGE_MAX: u64 = 512;

struct Pin {
    snapshot: Snapshot,
    made: u64,
    asked: u64,
}

/// The kept versions, oldest first.
#[derive(Default)]
pub(crate) struct Pins {
    kept: VecDeque<Pin>,
    /// Versions kept so far.
    now: u64,
}

impl Pins {
    /// Keeps a version that is newer than all others.
    pub(crate) fn add(&mut self, snapshot: Snapshot) {
        self.now += 1;
        let now = self.now;
        self.kept.push_back(Pin { snapshot, made: now, asked: now });
        let newest = self.kept.len().saturating_sub(NEWEST);
        let mut place = 0;
        self.kept.retain(|pin| {
            place += 1;
            place > newest
                || (now - pin.asked <= IDLE_MAX && now - pin.made <= AGE_MAX && pin.asked > pin.made)
        });
        while self.kept.len() > KEPT_MAX {
            self.kept.pop_front();
        }
    }

    /// The newest version.
    pub(crate) fn newest(&mut self) -> Option<Snapshot> {
        let now = self.now;
        let pin = self.kept.back_mut()?;
        // Asked for is later than made, also before the next one is.
        pin.asked = now + 1;
        Some(pin.snapshot.clone())
    }

    /// The version after the block at `height`.
    pub(crate) fn at(&mut self, height: u64) -> Option<Snapshot> {
        let now = self.now;
        let pin = self.kept.iter_mut().find(|pin| pin.snapshot.last.height.0 == height)?;
        pin.asked = now + 1;
        Some(pin.snapshot.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tree;
    use crate::reader::Last;
    use roko_wire::{BlockId, Hash32, Height};

    fn snapshot(height: u64) -> Snapshot {
        let last = Last { height: Height(height), block_id: BlockId::ZERO, root: Hash32::ZERO };
        Snapshot { last, tree: Tree::new() }
    }

    fn heights(pins: &Pins) -> Vec<u64> {
        pins.kept.iter().map(|pin| pin.snapshot.last.height.0).collect()
    }

    #[test]
    fn a_version_stays_while_it_is_asked_for_and_a_while_longer() {
        let mut pins = Pins::default();
        (1..=4).for_each(|height| pins.add(snapshot(height)));
        assert_eq!(heights(&pins), [3, 4], "nobody asked for the others");
        assert_eq!(pins.newest().map(|newest| newest.last.height), Some(Height(4)));
        for height in 5..=40 {
            assert!(pins.at(4).is_some(), "asked for at {height}");
            pins.add(snapshot(height));
            assert!(pins.kept.len() <= NEWEST + 1);
        }
        for height in 41..=41 + IDLE_MAX {
            pins.add(snapshot(height));
        }
        assert!(pins.at(4).is_none(), "{:?}", heights(&pins));
    }

    #[test]
    fn whatever_is_asked_for_few_are_kept_and_none_for_ever() {
        let mut pins = Pins::default();
        for height in 1..=AGE_MAX + 10 {
            pins.add(snapshot(height));
            for kept in heights(&pins) {
                assert!(pins.at(kept).is_some());
            }
            assert!(pins.kept.len() <= KEPT_MAX);
            assert!(heights(&pins).ends_with(&[height]));
        }
        let mut pins = Pins::default();
        pins.add(snapshot(1));
        for height in 2..=AGE_MAX + 1 {
            assert!(pins.at(1).is_some(), "at {height}");
            pins.add(snapshot(height));
        }
        pins.add(snapshot(AGE_MAX + 2));
        assert!(pins.at(1).is_none());
    }
}
