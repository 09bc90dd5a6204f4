//! The broadcast ring: one writer, any number of readers, for NIC ingress and event streams.
//!
//! The writer never waits and never knows its readers. A reader that falls a whole ring behind detects it at the
//! slot's version (see the state diagram of the stamped slots), learns how many items it lost, counts them and
//! goes on where the writer will not lap it at once again.
//!
//! Callers' contract: one thread holds the [`Writer`]; each [`Reader`] belongs to one thread and is cloned for
//! another. Items are plain data ([`Words`]); what they refer to must outlive a lap.

use crate::stamped::{Load, StampedSlots};
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::words::Words;
use crossbeam::utils::CachePadded;

struct Shared<T> {
    slots: StampedSlots<T>,
    /// Items published; written by the writer only.
    published: CachePadded<AtomicU64>,
}

/// The publishing end.
pub struct Writer<T> {
    shared: Arc<Shared<T>>,
    next: u64,
}

/// A receiving end with its own place in the stream.
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    next: u64,
    lost_total: u64,
}

/// What a poll of a reader found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll<T> {
    /// The next item.
    Item(T),
    /// The reader has caught up.
    Empty,
    /// The writer lapped this reader; so many items are lost, and the next poll goes on after them.
    Lost(u64),
}

/// Makes a ring of `capacity` items with a first reader at its start.
///
/// # Panics
/// If `capacity` is not a power of two from 2 up.
#[must_use]
pub fn ring<T: Words>(capacity: usize) -> (Writer<T>, Reader<T>) {
    let shared = Arc::new(Shared {
        slots: StampedSlots::new(capacity),
        published: CachePadded::new(AtomicU64::new(0)),
    });
    (Writer { shared: Arc::clone(&shared), next: 0 }, Reader { shared, next: 0, lost_total: 0 })
}

impl<T: Words> Writer<T> {
    /// Publishes one item, overwriting the oldest.
    #[inline]
    pub fn publish(&mut self, item: &T) {
        self.shared.slots.store(self.next, item);
        self.next += 1;
        self.shared.published.store(self.next, Ordering::Release);
    }

    /// A reader that starts with the next item published.
    #[must_use]
    pub fn subscribe(&self) -> Reader<T> {
        Reader { shared: Arc::clone(&self.shared), next: self.next, lost_total: 0 }
    }

    /// Items published since construction.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.next
    }
}

impl<T: Words> Reader<T> {
    /// Takes the next item, or says that there is none, or that some were lost.
    #[inline]
    pub fn poll(&mut self) -> Poll<T> {
        match self.shared.slots.load(self.next) {
            Load::Value(item) => {
                self.next += 1;
                Poll::Item(item)
            }
            Load::NotYet => Poll::Empty,
            Load::Lapped { writer_at } => Poll::Lost(self.skip_ahead(writer_at)),
        }
    }

    /// Moves to an eighth of a ring after the oldest item left, and returns how many items that passes over.
    #[cold]
    fn skip_ahead(&mut self, writer_at: u64) -> u64 {
        let capacity = self.shared.slots.capacity();
        let writer_at = writer_at.max(self.shared.published.load(Ordering::Acquire));
        let resume = (writer_at + capacity / 8).saturating_sub(capacity).max(self.next + 1);
        let lost = resume - self.next;
        self.next = resume;
        self.lost_total += lost;
        lost
    }

    /// Items this reader has lost since it was made.
    #[must_use]
    pub fn lost_total(&self) -> u64 {
        self.lost_total
    }

    /// Items published that this reader has not taken; above the capacity it has been lapped.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.shared.published.load(Ordering::Acquire).saturating_sub(self.next)
    }

    /// Items the ring holds.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.shared.slots.capacity()
    }
}

impl<T> Clone for Reader<T> {
    /// A second reader at the same place, with its own count of losses.
    fn clone(&self) -> Reader<T> {
        Reader { shared: Arc::clone(&self.shared), next: self.next, lost_total: 0 }
    }
}
