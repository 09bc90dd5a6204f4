//! Tags: which blocks a transaction is in flight under, and which transactions a block holds.
//!
//! Each entry has four membership nodes; a node sits in its tag's list. Closing a tag costs its own transactions
//! and nothing else. A tag is open exactly while it holds a transaction.

use super::config::TAGS_PER_TX_MAX;
use super::slots::Slots;
use crate::index::{Hasher, Index, NIL};

#[derive(Clone, Copy)]
struct Node {
    /// The tag's slot, or `NIL` if the node is unused.
    slot: u32,
    prev: u32,
    next: u32,
}

const UNUSED: Node = Node { slot: NIL, prev: NIL, next: NIL };

#[derive(Clone, Copy)]
struct TagSlot {
    tag: u64,
    head: u32,
    tail: u32,
    txs: u32,
}

pub(super) struct Tags {
    index: Index,
    open: Vec<TagSlot>,
    free: Vec<u32>,
    /// `TAGS_PER_TX_MAX` nodes for each entry.
    nodes: Box<[[Node; TAGS_PER_TX_MAX]]>,
}

/// Names one node: entry and place in its array.
fn node_id(entry: u32, at: usize) -> u32 {
    entry * TAGS_PER_TX_MAX as u32 + at as u32
}

impl Tags {
    pub(super) fn new(tags: usize, entries: usize) -> Tags {
        let closed = TagSlot { tag: 0, head: NIL, tail: NIL, txs: 0 };
        Tags {
            index: Index::new(tags),
            open: vec![closed; tags],
            free: (0..tags as u32).rev().collect(),
            nodes: vec![[UNUSED; TAGS_PER_TX_MAX]; entries].into(),
        }
    }

    fn node(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize / TAGS_PER_TX_MAX][id as usize % TAGS_PER_TX_MAX]
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
        self.open[slot as usize] = TagSlot { tag, head: NIL, tail: NIL, txs: 0 };
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
    pub(super) fn attach<M: Copy>(&mut self, slots: &mut Slots<M>, slot: u32, entry: u32) -> bool {
        let nodes = &self.nodes[entry as usize];
        if nodes.iter().any(|node| node.slot == slot) {
            return true;
        }
        let Some(at) = nodes.iter().position(|node| node.slot == NIL) else { return false };
        let id = node_id(entry, at);
        let tail = self.open[slot as usize].tail;
        *self.node(id) = Node { slot, prev: tail, next: NIL };
        match tail {
            NIL => self.open[slot as usize].head = id,
            tail => self.node(tail).next = id,
        }
        let record = &mut self.open[slot as usize];
        record.tail = id;
        record.txs += 1;
        slots.hot[entry as usize].tags += 1;
        true
    }

    fn detach<M: Copy>(&mut self, hasher: &Hasher, slots: &mut Slots<M>, id: u32) {
        let Node { slot, prev, next } = *self.node(id);
        match prev {
            NIL => self.open[slot as usize].head = next,
            prev => self.node(prev).next = next,
        }
        match next {
            NIL => self.open[slot as usize].tail = prev,
            next => self.node(next).prev = prev,
        }
        *self.node(id) = UNUSED;
        self.open[slot as usize].txs -= 1;
        slots.hot[id as usize / TAGS_PER_TX_MAX].tags -= 1;
        self.close_if_empty(hasher, slot);
    }

    /// Takes the first entry out of a tag; `None` when the tag is not open.
    pub(super) fn pop<M: Copy>(&mut self, hasher: &Hasher, slots: &mut Slots<M>, tag: u64) -> Option<u32> {
        let id = self.open[self.find(hasher, tag)? as usize].head;
        self.detach(hasher, slots, id);
        Some(id / TAGS_PER_TX_MAX as u32)
    }

    /// Takes an entry out of all its tags.
    pub(super) fn detach_all<M: Copy>(&mut self, hasher: &Hasher, slots: &mut Slots<M>, entry: u32) {
        for at in 0..TAGS_PER_TX_MAX {
            if self.nodes[entry as usize][at].slot != NIL {
                self.detach(hasher, slots, node_id(entry, at));
            }
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.index.memory_bytes()
            + self.open.capacity() * size_of::<TagSlot>()
            + self.free.capacity() * 4
            + size_of_val(&*self.nodes)
    }

    /// Tags open now.
    pub(super) fn open_count(&self) -> usize {
        self.open.len() - self.free.len()
    }

    /// Entries of a tag, in the order they were attached.
    #[cfg(test)]
    pub(super) fn entries(&self, hasher: &Hasher, tag: u64) -> Vec<u32> {
        let Some(slot) = self.find(hasher, tag) else { return Vec::new() };
        let (mut at, mut prev, mut entries) = (self.open[slot as usize].head, NIL, Vec::new());
        while at != NIL {
            let node = self.nodes[at as usize / TAGS_PER_TX_MAX][at as usize % TAGS_PER_TX_MAX];
            assert_eq!((node.slot, node.prev), (slot, prev));
            entries.push(at / TAGS_PER_TX_MAX as u32);
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
