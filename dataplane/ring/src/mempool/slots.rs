//! Where the pool's transactions live: entries, their links, and the byte slots.
//!
//! An entry is an index. What heaps and chains touch is one cache line ([`Hot`]), what a block and its end need are two
//! ([`Cold`]), the owner's data and the bytes lie apart. An entry keeps its byte slot for good, so that one free list a
//! byte class serves both. Freed entries are used again last in, first out, while they are still in the cache.

use super::config::{Config, SLOT_CLASSES};
use super::tags::Node;
use crate::index::NIL;
use crate::prefetch;
use roko_wire::{NanoMoment, TxId};

/// Neighbours in an intrusive list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) prev: u32,
    pub(super) next: u32,
}

pub(super) const UNLINKED: Link = Link { prev: NIL, next: NIL };

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

/// The line that heaps and chains touch.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Hot {
    pub(super) time: u128,
    pub(super) tie_break: u64,
    pub(super) nonce: u64,
    /// First child in the pairing heap.
    pub(super) child: u32,
    /// Next sibling in the pairing heap.
    pub(super) next: u32,
    /// Previous sibling, or the parent for a first child, in the pairing heap.
    pub(super) prev: u32,
    /// The sender's chain.
    pub(super) chain: u32,
    /// Neighbours in it, by ascending nonce.
    pub(super) sender: Link,
    /// Where it stands in the eviction order.
    pub(super) fee_at: u32,
    /// The nonce just below is missing, while a lower one is here.
    pub(super) gap: bool,
    /// Tags that it is in flight under.
    pub(super) tags: u8,
    pub(super) place: Place,
}

const _: () = assert!(size_of::<Hot>() == 64);

/// What a block needs of an entry, and what its end needs. The sender's address stands in its chain. The first line is what
/// names it and is read only; the second is what changes.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Cold {
    pub(super) id: TxId,
    pub(super) fee: u128,
    pub(super) expiry_slot: u32,
    pub(super) byte_slot: u32,
    pub(super) gas: u64,
    pub(super) valid_until: NanoMoment,
    /// Its first tag; the others lie apart, few transactions have them.
    pub(super) node: Node,
    /// Neighbours in the expiry wheel.
    pub(super) expiry: Link,
    /// Of its id.
    pub(super) hash: u32,
    pub(super) bytes_len: u16,
    pub(super) byte_class: u8,
}

const _: () = assert!(size_of::<Cold>() == 128);

impl Cold {
    /// In no list and under no tag.
    pub(super) const EMPTY: Cold = Cold {
        fee: 0,
        valid_until: NanoMoment::ZERO,
        id: TxId([0; 32]),
        expiry_slot: NIL,
        expiry: UNLINKED,
        hash: 0,
        gas: 0,
        node: Node::UNUSED,
        byte_slot: NIL,
        bytes_len: 0,
        byte_class: 0,
    };
}

/// Byte slots of one size.
struct ByteClass {
    slot_bytes: usize,
    slots: usize,
    bytes: Box<[u8]>,
    /// Where the first slot begins, at a cache line.
    first: usize,
    /// Slots that belong to an entry, in use or free.
    taken: usize,
    /// Free entries.
    free: Vec<u32>,
}

pub(super) struct Slots<M> {
    pub(super) hot: Vec<Hot>,
    pub(super) cold: Vec<Cold>,
    pub(super) meta: Vec<M>,
    classes: [ByteClass; SLOT_CLASSES],
    pub(super) bytes_used: usize,
    pub(super) live: usize,
}

/// Bytes of a cache line.
const LINE: usize = 64;

impl ByteClass {
    fn new(slot_bytes: usize, slots: usize, prefault: bool) -> ByteClass {
        // A fill of zeroes is mapped lazily by the allocator, any other value touches every page.
        let bytes: Box<[u8]> = vec![u8::from(prefault); slot_bytes * slots + LINE].into();
        let first = bytes.as_ptr().align_offset(LINE).min(LINE);
        ByteClass { slot_bytes, slots, bytes, first, taken: 0, free: Vec::with_capacity(slots) }
    }

    fn has_room(&self) -> bool {
        !self.free.is_empty() || self.taken < self.slots
    }

    fn start(&self, slot: u32) -> usize {
        self.first + slot as usize * self.slot_bytes
    }
}

impl<M: Copy> Slots<M> {
    pub(super) fn new(config: &Config) -> Slots<M> {
        let txs = config.txs_max();
        let classes =
            config.classes.map(|class| ByteClass::new(class.slot_bytes, class.slots, config.prefault));
        let (mut hot, mut cold) = (Vec::with_capacity(txs), Vec::with_capacity(txs));
        let mut meta = Vec::with_capacity(txs);
        if config.prefault {
            touch(&mut hot);
            touch(&mut cold);
            touch(&mut meta);
        }
        Slots { hot, cold, meta, classes, bytes_used: 0, live: 0 }
    }

    /// The smallest class that holds `bytes`; it and the larger ones are usable.
    pub(super) fn class_for(&self, bytes: usize) -> Option<usize> {
        self.classes.iter().position(|class| class.slot_bytes >= bytes && class.slots > 0)
    }

    /// The smallest class from `class` up that has a free slot.
    pub(super) fn free_class(&self, class: usize) -> Option<usize> {
        (class..SLOT_CLASSES).find(|&at| self.classes[at].has_room())
    }

    /// Stores an entry in a byte slot of `class`, which has a free one, and returns its index. The byte fields of `cold`
    /// are set here.
    #[inline]
    pub(super) fn allocate(&mut self, class: usize, hot: Hot, mut cold: Cold, meta: M, bytes: &[u8]) -> u32 {
        let store = &mut self.classes[class];
        let free = store.free.pop();
        cold.byte_slot = match free {
            Some(entry) => self.cold[entry as usize].byte_slot,
            None => {
                store.taken += 1;
                store.taken as u32 - 1
            }
        };
        cold.byte_class = class as u8;
        cold.bytes_len = bytes.len() as u16;
        let start = store.start(cold.byte_slot);
        store.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.bytes_used += bytes.len();
        self.live += 1;
        if let Some(entry) = free {
            self.hot[entry as usize] = hot;
            self.cold[entry as usize] = cold;
            self.meta[entry as usize] = meta;
            return entry;
        }
        // There are as many entries as byte slots, so the reserved capacity is never exceeded.
        self.hot.push(hot);
        self.cold.push(cold);
        self.meta.push(meta);
        self.hot.len() as u32 - 1
    }

    /// Gives an entry back, its byte slot with it. It is in no list any more.
    #[inline]
    pub(super) fn release(&mut self, entry: u32) {
        let cold = &self.cold[entry as usize];
        self.bytes_used -= usize::from(cold.bytes_len);
        self.classes[usize::from(cold.byte_class)].free.push(entry);
        self.hot[entry as usize].place = Place::Free;
        self.live -= 1;
    }

    #[inline]
    pub(super) fn bytes(&self, entry: u32) -> &[u8] {
        let cold = &self.cold[entry as usize];
        let class = &self.classes[usize::from(cold.byte_class)];
        let start = class.start(cold.byte_slot);
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

    /// Asks for an entry's lines.
    #[inline]
    pub(super) fn prefetch(&self, entry: u32) {
        prefetch::value(&self.hot[entry as usize]);
        prefetch::value(&self.cold[entry as usize]);
    }

    /// Asks for the line that chains touch, of an entry or `NIL`.
    #[inline]
    pub(super) fn prefetch_hot(&self, entry: u32) {
        if let Some(hot) = self.hot.get(entry as usize) {
            prefetch::value(hot);
        }
    }

    /// Asks for the line that lists touch, of an entry or `NIL`.
    #[inline]
    pub(super) fn prefetch_expiry(&self, entry: u32) {
        if let Some(cold) = self.cold.get(entry as usize) {
            prefetch::value(&cold.expiry);
        }
    }

    /// Asks for the owner's data of an entry.
    #[inline]
    pub(super) fn prefetch_meta(&self, entry: u32) {
        prefetch::value(&self.meta[entry as usize]);
    }

    /// The entry that the `nth` insertion of a burst will fill, if it is one that was used before and its bytes are so many.
    #[inline]
    pub(super) fn next_free(&self, bytes: usize, nth: usize) -> Option<u32> {
        let class = &self.classes[self.free_class(self.class_for(bytes)?)?];
        class.free.len().checked_sub(nth + 1).map(|at| class.free[at])
    }

    /// Asks for so much of the byte slot of an entry, whose own lines are here.
    #[inline]
    pub(super) fn prefetch_bytes(&self, entry: u32, bytes: usize) {
        let cold = &self.cold[entry as usize];
        let class = &self.classes[usize::from(cold.byte_class)];
        let start = class.start(cold.byte_slot);
        prefetch::bytes(&class.bytes[start..start + bytes.min(class.slot_bytes)]);
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let class = |class: &ByteClass| class.bytes.len() + class.free.capacity() * 4;
        self.hot.capacity() * size_of::<Hot>()
            + self.cold.capacity() * size_of::<Cold>()
            + self.meta.capacity() * size_of::<M>()
            + self.classes.iter().map(class).sum::<usize>()
    }
}

impl Hot {
    pub(super) fn new(time: u128, tie_break: u64, nonce: u64) -> Hot {
        Hot {
            time,
            tie_break,
            nonce,
            child: NIL,
            next: NIL,
            prev: NIL,
            chain: NIL,
            sender: UNLINKED,
            fee_at: NIL,
            gap: false,
            tags: 0,
            place: Place::Awaiting,
        }
    }
}

/// Writes to the reserved memory, so that the system maps it now.
pub(super) fn touch<T>(reserved: &mut Vec<T>) {
    reserved.spare_capacity_mut().iter_mut().for_each(|cell| *cell = core::mem::MaybeUninit::zeroed());
}
