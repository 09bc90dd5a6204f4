//! Lanes: the way inward several times over, a core or more for each, with every session on exactly one of them.
//!
//! ```text
//!  queue 0 ─ rx/0 ─ filter/0 ─ decode/0 ─┬──┬─ open/0 ─ verify/0 ─┐
//!                                        ╳  ╳                     ├─ order
//!  queue 1 ─ rx/1 ─ filter/1 ─ decode/1 ─┴──┴─ open/1 ─ verify/1 ─┘
//! ```
//!
//! A card spreads flows over its receive queues, and whoever resends a recorded frame from elsewhere chooses another queue.
//! So what a session is checked by (its keys, its replay window, its sender's rates) does not follow the queue but the
//! session's id: its owner is a function of it that every decode knows, and decode gives each frame to its owner's open by
//! a ring of their own. That ring is there with one lane too; a frame whose queue is not its owner's costs the same hop
//! to another core, and is counted as `crossed`. A port may have fewer queues than there are lanes.

use crate::keyed::secret;
use arrayvec::ArrayVec;
use roko_ring::spsc::{Consumer, Gauge, Producer};

/// Lanes of a node, at most. Order is one core's work; the bench `scaling` says how many lanes feed it.
pub const LANES_MAX: usize = 16;

/// Which lane owns a session.
#[derive(Clone, Copy, Debug)]
pub struct Owners {
    lanes: u64,
    /// Secret, so that nobody can choose session ids that meet on one lane.
    salt: u64,
}

impl Owners {
    /// The owners among `lanes` lanes, by a secret drawn now: all stages of a node share one.
    #[must_use]
    pub fn new(lanes: usize) -> Owners {
        Owners::with_salt(lanes, secret())
    }

    const fn with_salt(lanes: usize, salt: u64) -> Owners {
        Owners { lanes: lanes as u64, salt }
    }

    /// The lane of a session: the same for all of its keys.
    #[inline]
    #[must_use]
    pub const fn of(&self, session: u64) -> usize {
        if self.lanes == 1 {
            return 0; // the usual case is spared the rest
        }
        // SplitMix64's finaliser (Steele, Lea and Flood, 2014): ids that differ in a bit end far apart, whatever the secret.
        let mut mixed = session ^ self.salt;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((mixed as u128 * self.lanes as u128) >> 64) as usize
    }
}

/// The readers of several rings as one: an item of each in turn, so that no writer waits for another.
pub struct FanIn<T> {
    rings: Vec<Consumer<T>>,
    next: usize,
}

impl<T> FanIn<T> {
    /// Reads `rings`.
    #[must_use]
    pub const fn new(rings: Vec<Consumer<T>>) -> FanIn<T> {
        FanIn { rings, next: 0 }
    }

    /// The next item.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        for _ in 0..self.rings.len() {
            let at = self.next;
            self.next = if at + 1 == self.rings.len() { 0 } else { at + 1 };
            let item = self.rings[at].pop();
            if item.is_some() {
                return item;
            }
        }
        None
    }

    /// As many items as fit into `out`, a like share of each ring first. Returns how many.
    #[inline]
    pub fn pop_burst<const N: usize>(&mut self, out: &mut ArrayVec<T, N>) -> usize {
        let before = out.len();
        let share = out.remaining_capacity().div_ceil(self.rings.len().max(1));
        // Twice round: what one ring does not need is another's.
        for _ in 0..2 * self.rings.len() {
            let room = out.remaining_capacity().min(share);
            if room == 0 {
                break;
            }
            let at = self.next;
            self.next = if at + 1 == self.rings.len() { 0 } else { at + 1 };
            self.rings[at].pop_each(room, |item| out.push(item));
        }
        out.len() - before
    }

    /// Whether no ring has an item.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rings.iter().all(Consumer::is_empty)
    }
}

impl<T> From<Consumer<T>> for FanIn<T> {
    fn from(ring: Consumer<T>) -> FanIn<T> {
        FanIn::new(vec![ring])
    }
}

/// The writers of several rings that all get the same items: each ring gets an item, or none does.
pub struct FanOut<T> {
    rings: Vec<Producer<T>>,
}

impl<T: Clone> FanOut<T> {
    /// Writes to `rings`.
    #[must_use]
    pub const fn new(rings: Vec<Producer<T>>) -> FanOut<T> {
        FanOut { rings }
    }

    /// Whether a ring is full, and so nothing can be pushed.
    pub fn is_full(&mut self) -> bool {
        self.rings.iter_mut().any(|ring| ring.free_slots() == 0)
    }

    /// Gives an item to every ring.
    ///
    /// # Errors
    /// Gives the item back when any ring is full; then no ring has got it.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.is_full() {
            return Err(item);
        }
        for ring in &mut self.rings {
            let pushed = ring.push(item.clone());
            debug_assert!(pushed.is_ok(), "room was checked");
        }
        Ok(())
    }

    /// Gives an item to every ring that has room: for what a reader can do without.
    pub fn push_where_room(&mut self, item: &T) {
        for ring in &mut self.rings {
            let _ = ring.push(item.clone());
        }
    }

    /// Depth readers of the rings.
    #[must_use]
    pub fn depth_gauges(&self) -> Vec<Gauge> {
        self.rings.iter().map(Producer::depth_gauge).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_ring::spsc::ring;

    #[test]
    fn every_session_has_one_owner_and_sessions_spread_evenly() {
        for lanes in 1..=LANES_MAX {
            for salt in [0, 1, u64::MAX, 0x5851_f42d_4c95_7f2d, secret()] {
                let owners = Owners::with_salt(lanes, salt);
                // As handshakes name them, the sender's index above a stamp in milliseconds; and one after the other.
                let of_peer = |peer: u64| (0..64).map(move |at| (peer << 48) | (1_800_000_000_000 + at * 7));
                let patterns: [Vec<u64>; 2] = [(0..64).flat_map(of_peer).collect(), (0..4_096).collect()];
                for ids in patterns {
                    let mut owned = vec![0; lanes];
                    ids.iter().for_each(|id| owned[owners.of(*id)] += 1);
                    let even = 4_096 / lanes;
                    let is_even = |count: &usize| (even / 2..=even * 3 / 2).contains(count);
                    assert!(owned.iter().all(is_even), "{salt:#x}: {owned:?}");
                }
            }
        }
    }

    #[test]
    fn several_rings_are_read_in_turn() {
        let ((mut a, a_in), (mut b, b_in), (_c, c_in)) = (ring(8), ring(8), ring(8));
        let mut all = FanIn::new(vec![a_in, b_in, c_in]);
        (0..4).for_each(|item| a.push(item).expect("room"));
        (10..12).for_each(|item| b.push(item).expect("room"));
        assert!(!all.is_empty());
        let read: Vec<u32> = core::iter::from_fn(|| all.pop()).collect();
        assert_eq!(read, [0, 10, 1, 11, 2, 3]);
        assert!(all.is_empty());
    }

    #[test]
    fn a_burst_has_a_share_for_every_ring_and_what_one_leaves_others_use() {
        let ((mut a, a_in), (mut b, b_in)) = (ring(16), ring(16));
        let mut all = FanIn::new(vec![a_in, b_in]);
        (0..16).for_each(|item| a.push(item).expect("room"));
        (100..102).for_each(|item| b.push(item).expect("room"));
        let mut burst = ArrayVec::<u32, 8>::new();
        assert_eq!(all.pop_burst(&mut burst), 8);
        assert_eq!(burst.as_slice(), [0, 1, 2, 3, 100, 101, 4, 5]);
        assert_eq!(all.pop_burst(&mut burst), 0, "it is full");
        burst.clear();
        assert_eq!((all.pop_burst(&mut burst), burst.pop()), (8, Some(13)));
    }

    #[test]
    fn an_item_goes_to_every_ring_or_to_none() {
        let ((a, mut a_in), (b, mut b_in)) = (ring(4), ring(2));
        let mut all = FanOut::new(vec![a, b]);
        assert_eq!((all.push(1), all.push(2), all.push(3)), (Ok(()), Ok(()), Err(3)));
        assert!(all.is_full());
        all.push_where_room(&4);
        let depths: Vec<usize> = all.depth_gauges().iter().map(Gauge::depth).collect();
        assert_eq!(depths, [3, 2]);
        assert_eq!(core::iter::from_fn(|| a_in.pop()).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(core::iter::from_fn(|| b_in.pop()).collect::<Vec<_>>(), [1, 2]);
    }
}
