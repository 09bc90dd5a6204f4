//! The page: one writer publishes a value, any thread reads the latest without a lock or a system call.
//!
//! The clock page (TSC to `NanoMoment`), the peer table's epoch and the like live in pages. A classic seqlock has
//! one copy, so a writer that loses its core in the middle of a write stops every reader. Here the writer rotates
//! through four copies: a reader copies the last whole one and fails only if the writer laps it, three
//! writes later. The copies are the stamped slots of the broadcast ring (state diagram there).
//!
//! Callers' contract: one thread holds the [`PageWriter`]; a [`Page`] is cloned for each reading thread. A page
//! written more often than a read takes (some tens of nanoseconds) starves its readers; it is not a queue.

use crate::stamped::{Load, StampedSlots};
use crate::sync::{Arc, AtomicU64, Ordering, spin_loop};
use crate::words::Words;
use crossbeam::utils::CachePadded;

/// Copies the writer rotates through. Two would do; with four, a read outlasts three whole writes.
const COPIES: usize = 4;

struct Shared<T> {
    slots: StampedSlots<T>,
    /// Position of the last whole copy.
    latest: CachePadded<AtomicU64>,
}

/// The writing side; there is one.
pub struct PageWriter<T> {
    shared: Arc<Shared<T>>,
    latest: u64,
}

/// A reading side.
pub struct Page<T> {
    shared: Arc<Shared<T>>,
}

/// Makes a page that holds `initial`.
#[must_use]
pub fn page<T: Words>(initial: T) -> (PageWriter<T>, Page<T>) {
    let shared =
        Arc::new(Shared { slots: StampedSlots::new(COPIES), latest: CachePadded::new(AtomicU64::new(0)) });
    shared.slots.store(0, &initial);
    (PageWriter { shared: Arc::clone(&shared), latest: 0 }, Page { shared })
}

impl<T: Words> PageWriter<T> {
    /// Publishes `value`. Readers see it or, until the call returns, the one before.
    #[inline]
    pub fn write(&mut self, value: &T) {
        self.latest += 1;
        self.shared.slots.store(self.latest, value);
        self.shared.latest.store(self.latest, Ordering::Release);
    }

    /// A reading side.
    #[must_use]
    pub fn reader(&self) -> Page<T> {
        Page { shared: Arc::clone(&self.shared) }
    }
}

impl<T: Words> Page<T> {
    /// The latest value, or `None` if the writer lapped this attempt.
    #[inline]
    #[must_use]
    pub fn try_read(&self) -> Option<T> {
        match self.shared.slots.load(self.shared.latest.load(Ordering::Acquire)) {
            Load::Value(value) => Some(value),
            Load::NotYet | Load::Lapped { .. } => None,
        }
    }

    /// The latest value. Each failed attempt means that the writer finished at least three writes meanwhile, so
    /// the spin is bounded by the writer's rate, never by its being descheduled.
    #[inline]
    #[must_use]
    pub fn read(&self) -> T {
        loop {
            if let Some(value) = self.try_read() {
                return value;
            }
            spin_loop();
        }
    }

    /// How many times the page was written after its construction; equal counts mean an equal value.
    #[inline]
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.latest.load(Ordering::Acquire)
    }
}

impl<T> Clone for Page<T> {
    fn clone(&self) -> Page<T> {
        Page { shared: Arc::clone(&self.shared) }
    }
}
