//! Where the pool's transactions live: entries, their links, and the byte slots.
//!
//! An entry is an index. What the lists and heaps touch is packed into one cache line (`Hot`), apart from the
//! rest (`Cold`), so that a neighbour's link costs one line. Freed entries are used again last in, first out,
//! while they are still in the cache.

use super::config::{Config, SLOT_CLASSES};
use crate::index::NIL;
use roko_wire::{Address, NanoMoment, TxId};

/// Which intrusive list of [`Hot::lists`].
pub(super) const FEE: usize = 0;
/// The expiry wheel's lists.
pub(super) const EXPIRY: usize = 1;
/// The sender's chain, by ascending nonce.
pub(super) const SENDER: usize = 2;

/// Neighbours in an intrusive list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) prev: u32,
    pub(super) next: u32,
}

const UNLINKED: Link = Link { prev: NIL, next: NIL };

/// Where a live entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Not in use.
    Free,
    /// Pending, in the time index.
    Placed,
    /// Pending, taken by `take_late`, waiting for its new stamp.
    Awaiting,
    /// In flight under one tag or more.
    InFlight,
}

/// The line that heaps and lists touch.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Hot {
    pub(super) time: u128,
    pub(super) tie_break: u64,
    /// First child in the pairing heap.
    pub(super) child: u32,
    /// Next sibling in the pairing heap.
    pub(super) next: u32,
    /// Previous sibling, or the parent for a first child, in the pairing heap.
    pub(super) prev: u32,
    pub(super) lists: [Link; 3],
    pub(super) fee_class: u16,
    pub(super) tags: u8,
    pub(super) place: Place,
}

const _: () = assert!(size_of::<Hot>() == 64);

/// The rest of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cold<M> {
    pub(super) id: TxId,
    pub(super) sender: Address,
    pub(super) sender_slot: u32,
    pub(super) expiry_slot: u32,
    pub(super) byte_slot: u32,
    pub(super) bytes_len: u16,
    pub(super) byte_class: u8,
    pub(super) nonce: u64,
    pub(super) gas: u64,
    pub(super) fee: u128,
    pub(super) valid_until: NanoMoment,
    /// The last drain that took it, by its serial number; 0 for none.
    pub(super) drain: u64,
    pub(super) meta: M,
}

/// Byte slots of one size.
struct ByteClass {
    slot_bytes: usize,
    slots: usize,
    bytes: Box<[u8]>,
    free: Vec<u32>,
}

pub(super) struct Slots<M> {
    pub(super) hot: Vec<Hot>,
    pub(super) cold: Vec<Cold<M>>,
    free: Vec<u32>,
    classes: [ByteClass; SLOT_CLASSES],
    pub(super) bytes_used: usize,
    pub(super) live: usize,
}

impl<M: Copy> Slots<M> {
    pub(super) fn new(config: &Config) -> Slots<M> {
        let txs = config.txs_max();
        let fill = u8::from(config.prefault);
        let classes = config.classes.map(|class| ByteClass {
            slot_bytes: class.slot_bytes,
            slots: class.slots,
            // A fill of zeroes is mapped lazily by the allocator, any other value touches every page.
            bytes: vec![fill; class.slot_bytes * class.slots].into(),
            free: (0..class.slots as u32).rev().collect(),
        });
        let (mut hot, mut cold) = (Vec::with_capacity(txs), Vec::with_capacity(txs));
        if config.prefault {
            touch(&mut hot);
            touch(&mut cold);
        }
        Slots { hot, cold, free: Vec::with_capacity(txs), classes, bytes_used: 0, live: 0 }
    }

    /// The smallest class that holds `bytes`; it and the larger ones are usable.
    pub(super) fn class_for(&self, bytes: usize) -> Option<usize> {
        self.classes.iter().position(|class| class.slot_bytes >= bytes && class.slots > 0)
    }

    /// The smallest class from `class` up that has a free slot.
    pub(super) fn free_class(&self, class: usize) -> Option<usize> {
        (class..SLOT_CLASSES).find(|&at| !self.classes[at].free.is_empty())
    }

    /// Stores an entry in a byte slot of `class`, which has a free one, and returns its index.
    pub(super) fn allocate(&mut self, class: usize, hot: Hot, mut cold: Cold<M>, bytes: &[u8]) -> u32 {
        let store = &mut self.classes[class];
        let byte_slot = store.free.pop().expect("the caller has seen a free byte slot");
        let start = byte_slot as usize * store.slot_bytes;
        store.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        cold.byte_slot = byte_slot;
        cold.byte_class = class as u8;
        cold.bytes_len = bytes.len() as u16;
        self.bytes_used += bytes.len();
        self.live += 1;
        if let Some(entry) = self.free.pop() {
            self.hot[entry as usize] = hot;
            self.cold[entry as usize] = cold;
            return entry;
        }
        // There are as many entries as byte slots, so the reserved capacity is never exceeded.
        self.hot.push(hot);
        self.cold.push(cold);
        self.hot.len() as u32 - 1
    }

    /// Gives an entry and its byte slot back. It is in no list any more.
    pub(super) fn release(&mut self, entry: u32) {
        let cold = &self.cold[entry as usize];
        self.bytes_used -= usize::from(cold.bytes_len);
        self.classes[usize::from(cold.byte_class)].free.push(cold.byte_slot);
        self.hot[entry as usize].place = Place::Free;
        self.free.push(entry);
        self.live -= 1;
    }

    pub(super) fn bytes(&self, entry: u32) -> &[u8] {
        let cold = &self.cold[entry as usize];
        let class = &self.classes[usize::from(cold.byte_class)];
        let start = cold.byte_slot as usize * class.slot_bytes;
        &class.bytes[start..start + usize::from(cold.bytes_len)]
    }

    /// Whether `a` comes before `b` in (time, tie break, id) order.
    #[inline]
    pub(super) fn before(&self, a: u32, b: u32) -> bool {
        let (x, y) = (&self.hot[a as usize], &self.hot[b as usize]);
        if x.time != y.time {
            return x.time < y.time;
        }
        if x.tie_break != y.tie_break {
            return x.tie_break < y.tie_break;
        }
        self.cold[a as usize].id < self.cold[b as usize].id
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let class = |class: &ByteClass| class.bytes.len() + class.free.capacity() * 4;
        self.hot.capacity() * size_of::<Hot>()
            + self.cold.capacity() * size_of::<Cold<M>>()
            + self.free.capacity() * 4
            + self.classes.iter().map(class).sum::<usize>()
    }
}

impl Hot {
    pub(super) fn new(time: u128, tie_break: u64, fee_class: u16) -> Hot {
        let lists = [UNLINKED; 3];
        Hot {
            time,
            tie_break,
            child: NIL,
            next: NIL,
            prev: NIL,
            lists,
            fee_class,
            tags: 0,
            place: Place::Awaiting,
        }
    }
}

/// Writes to the reserved memory, so that the system maps it now.
pub(super) fn touch<T>(reserved: &mut Vec<T>) {
    reserved.spare_capacity_mut().iter_mut().for_each(|cell| *cell = core::mem::MaybeUninit::zeroed());
}

/// Puts `entry` first in list `K`.
#[inline]
pub(super) fn push_front<const K: usize>(hot: &mut [Hot], head: &mut u32, entry: u32) {
    hot[entry as usize].lists[K] = Link { prev: NIL, next: *head };
    if *head != NIL {
        hot[*head as usize].lists[K].prev = entry;
    }
    *head = entry;
}

/// Takes `entry` out of list `K`.
#[inline]
pub(super) fn unlink<const K: usize>(hot: &mut [Hot], head: &mut u32, entry: u32) {
    let Link { prev, next } = hot[entry as usize].lists[K];
    match prev {
        NIL => *head = next,
        prev => hot[prev as usize].lists[K].next = next,
    }
    if next != NIL {
        hot[next as usize].lists[K].prev = prev;
    }
    hot[entry as usize].lists[K] = UNLINKED;
}
