//! Intrusive pairing heaps over the entries, ordered by (time, tie break, id).
//!
//! A pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986) inserts and melds in O(1) and removes in O(log n)
//! amortised, without memory of its own. A heap is the index of its root, or `NIL`. Nothing here recurses, so a
//! hostile shape cannot exhaust the stack.

use super::slots::Slots;
use crate::index::NIL;

/// Makes the later of two roots the first child of the earlier; returns the earlier.
#[inline]
fn link<M: Copy>(slots: &mut Slots<M>, a: u32, b: u32) -> u32 {
    let (first, second) = if slots.before(a, b) { (a, b) } else { (b, a) };
    let child = slots.hot[first as usize].child;
    let hot = &mut slots.hot[second as usize];
    hot.prev = first;
    hot.next = child;
    if child != NIL {
        slots.hot[child as usize].prev = second;
    }
    let hot = &mut slots.hot[first as usize];
    (hot.child, hot.next, hot.prev) = (second, NIL, NIL);
    first
}

/// One heap of two.
#[inline]
pub(super) fn meld<M: Copy>(slots: &mut Slots<M>, a: u32, b: u32) -> u32 {
    match (a, b) {
        (NIL, root) | (root, NIL) => root,
        (a, b) => link(slots, a, b),
    }
}

/// Adds an entry that is in no heap.
#[inline]
pub(super) fn insert<M: Copy>(slots: &mut Slots<M>, root: &mut u32, entry: u32) {
    let hot = &mut slots.hot[entry as usize];
    (hot.child, hot.next, hot.prev) = (NIL, NIL, NIL);
    *root = meld(slots, *root, entry);
}

/// Takes the root out.
pub(super) fn pop<M: Copy>(slots: &mut Slots<M>, root: &mut u32) {
    let children = slots.hot[*root as usize].child;
    *root = pair_up(slots, children);
}

/// Takes any entry of the heap out.
pub(super) fn remove<M: Copy>(slots: &mut Slots<M>, root: &mut u32, entry: u32) {
    if *root == entry {
        return pop(slots, root);
    }
    let hot = slots.hot[entry as usize];
    let before = &mut slots.hot[hot.prev as usize];
    match before.child == entry {
        true => before.child = hot.next,
        false => before.next = hot.next,
    }
    if hot.next != NIL {
        slots.hot[hot.next as usize].prev = hot.prev;
    }
    let children = pair_up(slots, hot.child);
    *root = meld(slots, *root, children);
}

/// The two-pass merge: siblings in pairs from the left, then the pairs into one from the right.
fn pair_up<M: Copy>(slots: &mut Slots<M>, first: u32) -> u32 {
    let mut pairs = NIL;
    let mut at = first;
    while at != NIL {
        let second = slots.hot[at as usize].next;
        let (rest, merged) = match second {
            NIL => (NIL, at),
            second => (slots.hot[second as usize].next, link(slots, at, second)),
        };
        slots.hot[merged as usize].next = pairs;
        pairs = merged;
        at = rest;
    }
    let mut root = NIL;
    while pairs != NIL {
        let rest = slots.hot[pairs as usize].next;
        root = meld(slots, root, pairs);
        pairs = rest;
    }
    if root != NIL {
        let hot = &mut slots.hot[root as usize];
        (hot.next, hot.prev) = (NIL, NIL);
    }
    root
}
