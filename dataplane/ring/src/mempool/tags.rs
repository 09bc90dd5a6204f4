//! Tags: which blocks a transaction is in flight under, and which transactions a block holds.
//!
//! Each entry has four membership nodes; a node sits in its tag's list. Closing a tag costs its own transactions
//! and nothing else. A tag is open exactly while it holds a transaction.
//!
//! The first node lies with its entry. A node names the one that came [`AHEAD`] later, so that whoever walks the list can ask
//! for memory that far ahead; it is a hint, and may be stale.

use super::config::TAGS_PER_TX_MAX;
use super::slots::Slots;
use crate::index::{Hasher, Index, NIL};

/// How many nodes ahead a walk asks for.
pub(super) const AHEAD: usize = 16;

/// An entry's place in the list of a tag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// The tag's slot, or `NIL` if the node is unused.
    slot: u32,
    prev: u32,
    next: u32,
    ahead: u32,
}

impl Node {
    pub(super) const UNUSED: Node = Node { slot: NIL, prev: NIL, next: NIL, ahead: NIL };
}

/// Nodes of an entry beside its first.
const MORE: usize = TAGS_PER_TX_MAX - 1;

#[derive(Clone, Copy)]
struct TagSlot {
    tag: u64,
    head: u32,
    tail: u32,
    txs: u32,
    /// Nodes ever added, and the last of them.
    added: usize,
    last: [u32; AHEAD],
}

const CLOSED: TagSlot = TagSlot { tag: 0, head: NIL, tail: NIL, txs: 0, added: 0, last: [NIL; AHEAD] };

pub(super) struct Tags {
    index: Index,
    open: Vec<TagSlot>,
    free: Vec<u32>,
    /// The nodes of each entry that are not with it.
    more: Box<[[Node; MORE]]>,
}

/// Names one node: entry and place in its array.
fn node_id(entry: u32, at: usize) -> u32 {
    entry * TAGS_PER_TX_MAX as u32 + at as u32
}

/// The entry of a node, and which of its nodes it is.
fn parts(id: u32) -> (usize, usize) {
    (id as usize / TAGS_PER_TX_MAX, id as usize % TAGS_PER_TX_MAX)
}

impl Tags {
    pub(super) fn new(tags: usize, entries: usize) -> Tags {
        Tags {
            index: Index::new(tags),
            open: vec![CLOSED; tags],
            free: (0..tags as u32).rev().collect(),
            more: vec![[Node::UNUSED; MORE]; entries].into(),
        }
    }

    fn node<'a, M>(&'a self, slots: &'a Slots<M>, id: u32) -> &'a Node {
        let (entry, at) = parts(id);
        match at {
            0 => &slots.cold[entry].node,
            at => &self.more[entry][at - 1],
        }
    }

    fn node_mut<'a, M>(&'a mut self, slots: &'a mut Slots<M>, id: u32) -> &'a mut Node {
        let (entry, at) = parts(id);
        match at {
            0 => &mut slots.cold[entry].node,
            at => &mut self.more[entry][at - 1],
        }
    }

    pub(super) fn find(&self, hasher: &Hasher, tag: u64) -> Option<u32> {
        self.index.find(hasher.tag(tag), |slot| self.open[slot as usize].tag == tag)
    }

    /// The slot of a tag, opened if need be; `None` when all are taken.
    pub(super) fn open(&mut self, hasher: &Hasher, tag: u64) -> Option<u32> {
        if let Some(slot) = self.find(hasher, tag) {
            return Some(slot);
        }
        let slot = self.free.pop()?;
        self.open[slot as usize] = TagSlot { tag, ..CLOSED };
        self.index.insert(hasher.tag(tag), slot);
        Some(slot)
    }

    /// Closes a slot that holds nothing.
    pub(super) fn close_if_empty(&mut self, hasher: &Hasher, slot: u32) {
        let TagSlot { tag, txs, .. } = self.open[slot as usize];
        if txs == 0 {
            self.index.remove(hasher.tag(tag), slot);
            self.free.push(slot);
        }
    }

    /// Adds an entry to a tag. False when it is under as many tags as it can be; true also if it was there.
    #[inline]
    pub(super) fn attach<M: Copy>(&mut self, slots: &mut Slots<M>, slot: u32, entry: u32) -> bool {
        let mut at = 0;
        if slots.hot[entry as usize].tags > 0 {
            let mut nodes = (0..TAGS_PER_TX_MAX).map(|at| self.node(slots, node_id(entry, at)).slot);
            if nodes.clone().any(|there| there == slot) {
                return true;
            }
            let Some(unused) = nodes.position(|there| there == NIL) else { return false };
            at = unused;
        }
        let id = node_id(entry, at);
        let record = &mut self.open[slot as usize];
        let tail = core::mem::replace(&mut record.tail, id);
        record.txs += 1;
        let behind = core::mem::replace(&mut record.last[record.added % AHEAD], id);
        record.added += 1;
        match tail {
            NIL => record.head = id,
            tail => self.node_mut(slots, tail).next = id,
        }
        if behind != NIL {
            self.node_mut(slots, behind).ahead = id;
        }
        *self.node_mut(slots, id) = Node { slot, prev: tail, ..Node::UNUSED };
        slots.hot[entry as usize].tags += 1;
        true
    }

    #[inline]
    fn detach<M: Copy>(&mut self, hasher: &Hasher, slots: &mut Slots<M>, id: u32) {
        let Node { slot, prev, next, .. } = *self.node(slots, id);
        match prev {
            NIL => self.open[slot as usize].head = next,
            prev => self.node_mut(slots, prev).next = next,
        }
        match next {
            NIL => self.open[slot as usize].tail = prev,
            next => self.node_mut(slots, next).prev = prev,
        }
        *self.node_mut(slots, id) = Node::UNUSED;
        self.open[slot as usize].txs -= 1;
        slots.hot[parts(id).0].tags -= 1;
        self.close_if_empty(hasher, slot);
    }

    /// Transactions of an open tag.
    pub(super) fn txs(&self, slot: u32) -> u32 {
        self.open[slot as usize].txs
    }

    /// The first node of a tag's list, or `NIL`; the tag is open.
    pub(super) fn first(&self, slot: u32) -> u32 {
        self.open[slot as usize].head
    }

    /// The node after `node`, or `NIL`.
    #[inline]
    pub(super) fn after<M>(&self, slots: &Slots<M>, node: u32) -> u32 {
        self.node(slots, node).next
    }

    /// The entry that probably comes [`AHEAD`] after `node`.
    #[inline]
    pub(super) fn ahead<M>(&self, slots: &Slots<M>, node: u32) -> Option<u32> {
        let ahead = self.node(slots, node).ahead;
        (ahead != NIL).then_some(Tags::entry(ahead))
    }

    /// The entry of a node.
    #[inline]
    pub(super) fn entry(node: u32) -> u32 {
        node / TAGS_PER_TX_MAX as u32
    }

    /// Takes the first entry out of a tag; the tag is open.
    #[inline]
    pub(super) fn pop<M: Copy>(&mut self, hasher: &Hasher, slots: &mut Slots<M>, slot: u32) -> u32 {
        let id = self.first(slot);
        self.detach(hasher, slots, id);
        Tags::entry(id)
    }

    /// Closes a tag and returns its first node; who takes it [strips](Tags::strip) each.
    pub(super) fn take_all(&mut self, hasher: &Hasher, slot: u32) -> u32 {
        let first = self.first(slot);
        self.open[slot as usize].txs = 0;
        self.close_if_empty(hasher, slot);
        first
    }

    /// Takes an entry out of a tag that is closed, by its node there; returns the node behind it.
    #[inline]
    pub(super) fn strip<M: Copy>(&mut self, slots: &mut Slots<M>, node: u32) -> u32 {
        slots.hot[parts(node).0].tags -= 1;
        core::mem::replace(self.node_mut(slots, node), Node::UNUSED).next
    }

    /// Takes an entry out of all its tags.
    #[inline]
    pub(super) fn detach_all<M: Copy>(&mut self, hasher: &Hasher, slots: &mut Slots<M>, entry: u32) {
        for at in 0..TAGS_PER_TX_MAX {
            if slots.hot[entry as usize].tags == 0 {
                return;
            }
            let id = node_id(entry, at);
            if self.node(slots, id).slot != NIL {
                self.detach(hasher, slots, id);
            }
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.index.memory_bytes()
            + self.open.capacity() * size_of::<TagSlot>()
            + self.free.capacity() * 4
            + size_of_val(&*self.more)
    }

    /// Tags open now.
    pub(super) fn open_count(&self) -> usize {
        self.open.len() - self.free.len()
    }

    /// Entries of a tag, in the order they were attached.
    #[cfg(test)]
    pub(super) fn entries<M>(&self, slots: &Slots<M>, hasher: &Hasher, tag: u64) -> Vec<u32> {
        let Some(slot) = self.find(hasher, tag) else { return Vec::new() };
        let (mut at, mut prev, mut entries) = (self.open[slot as usize].head, NIL, Vec::new());
        while at != NIL {
            let node = *self.node(slots, at);
            assert_eq!((node.slot, node.prev), (slot, prev));
            entries.push(Tags::entry(at));
            (prev, at) = (at, node.next);
        }
        assert_eq!(
            (self.open[slot as usize].tail, self.open[slot as usize].txs),
            (prev, entries.len() as u32)
        );
        assert!(!entries.is_empty(), "an open tag holds a transaction");
        entries
    }
}
