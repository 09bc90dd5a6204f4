//! Slots of atomic words, each under a version of its own: what the broadcast ring and the page are made of.
//!
//! ```text
//!   version of a slot           written by          a reader of position p
//!   below 2p+1                  -                   NotYet
//!   2p+1  (p is being written)  store, Relaxed      NotYet
//!   2p+2  (p is whole)          store, Release      copies, checks again: Value, or Lapped if it changed
//!   above 2p+2                  a later position    Lapped
//! ```
//!
//! Why it is right (Boehm, "Can seqlocks get along with programming language memory models?", 2012): the odd
//! version is stored before a Release fence, the words after it. A reader that saw any word of a later position
//! sees, past its Acquire fence, that position's odd version or a later one, and discards the copy.
//!
//! Callers' contract: one thread at a time calls `store`, with positions that grow by one.

use crate::sync::{AtomicU64, Ordering, fence};
use crate::words::Words;
use core::marker::PhantomData;

/// One cache line of words; a slot starts on a line so that two slots never share one.
#[repr(align(64))]
struct Line([AtomicU64; 8]);

pub(crate) enum Load<T> {
    Value(T),
    NotYet,
    /// Overwritten; the writer has reached at least this position.
    Lapped {
        writer_at: u64,
    },
}

pub(crate) struct StampedSlots<T> {
    lines: Box<[Line]>,
    mask: u64,
    item: PhantomData<fn(T) -> T>,
}

impl<T: Words> StampedSlots<T> {
    /// Lines of a slot: the version and the payload.
    const LINES: usize = (1 + T::WORDS).div_ceil(8);

    pub(crate) fn new(capacity: usize) -> StampedSlots<T> {
        assert!(
            capacity.is_power_of_two() && capacity >= 2,
            "slot count {capacity} is not a power of two from 2 up; round it up"
        );
        let line = |_| Line(core::array::from_fn(|_| AtomicU64::new(0)));
        StampedSlots {
            lines: (0..capacity * Self::LINES).map(line).collect(),
            mask: capacity as u64 - 1,
            item: PhantomData,
        }
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.mask + 1
    }

    #[inline(always)]
    fn slot(&self, position: u64) -> &[Line] {
        let first = (position & self.mask) as usize * Self::LINES;
        &self.lines[first..first + Self::LINES]
    }

    #[inline]
    pub(crate) fn store(&self, position: u64, value: &T) {
        let slot = self.slot(position);
        let version = &slot[0].0[0];
        version.store(2 * position + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        let mut at = 0;
        value.put(&mut |word| {
            at += 1;
            slot[at / 8].0[at % 8].store(word, Ordering::Relaxed);
        });
        version.store(2 * position + 2, Ordering::Release);
    }

    #[inline]
    pub(crate) fn load(&self, position: u64) -> Load<T> {
        let slot = self.slot(position);
        let version = &slot[0].0[0];
        let whole = 2 * position + 2;
        let before = version.load(Ordering::Acquire);
        if before < whole {
            return Load::NotYet;
        }
        if before > whole {
            return Load::Lapped { writer_at: (before - 1) / 2 };
        }
        let mut at = 0;
        let value = T::take(&mut || {
            at += 1;
            slot[at / 8].0[at % 8].load(Ordering::Relaxed)
        });
        fence(Ordering::Acquire);
        let after = version.load(Ordering::Relaxed);
        if after == whole { Load::Value(value) } else { Load::Lapped { writer_at: (after - 1) / 2 } }
    }
}
