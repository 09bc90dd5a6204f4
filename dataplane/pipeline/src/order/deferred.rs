//! Transactions that were late again and again: they are stamped anew ever more seldom.
//!
//! What waits for a missing nonce, or for room, falls below the watermark with every block. Stamping all of it anew each
//! time would cost a signature for every few of them and block. Those that wait here stand in no line meanwhile.

use roko_wire::TxId;
use std::collections::VecDeque;

/// New stamps that come at once: a transaction that was late by chance is in the next block.
const AT_ONCE: u8 = 2;
/// The first wait, nanoseconds; each is twice the one before.
const FIRST_WAIT_NS: u64 = 5_000_000;
/// Doublings: the longest wait is 640 ms.
const DOUBLINGS_MAX: u8 = 7;
const LISTS: usize = DOUBLINGS_MAX as usize + 1;

/// A transaction that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    due_tsc: u64,
    id: TxId,
}

/// See the module. A list for each length of waiting: within one, the first to come is the first due.
#[derive(Debug)]
pub(super) struct Deferred {
    lists: [VecDeque<Waiting>; LISTS],
    count: usize,
    room: usize,
    first_wait_ticks: u64,
}

impl Deferred {
    /// Room for every transaction of a pool.
    pub(super) fn new(room: usize) -> Deferred {
        let list = || VecDeque::with_capacity(room);
        Deferred { lists: core::array::from_fn(|_| list()), count: 0, room, first_wait_ticks: 0 }
    }

    /// How long the first wait is, in ticks of the time-stamp counter.
    pub(super) fn set_rate(&mut self, nanos_to_ticks: impl Fn(u64) -> u64) {
        self.first_wait_ticks = nanos_to_ticks(FIRST_WAIT_NS);
    }

    /// Whether a transaction that was late so often waits; if so it is kept until it is due.
    pub(super) fn defer(&mut self, id: TxId, late_times: u8, now_tsc: u64) -> bool {
        let Some(over) = late_times.checked_sub(AT_ONCE) else { return false };
        if self.count == self.room || self.first_wait_ticks == 0 {
            return false;
        }
        let list = over.min(DOUBLINGS_MAX);
        let due_tsc = now_tsc.saturating_add(self.first_wait_ticks << list);
        self.lists[usize::from(list)].push_back(Waiting { due_tsc, id });
        self.count += 1;
        true
    }

    /// The next one whose wait is over.
    pub(super) fn pop_due(&mut self, now_tsc: u64) -> Option<TxId> {
        if self.count == 0 {
            return None;
        }
        let list =
            self.lists.iter_mut().find(|list| list.front().is_some_and(|first| first.due_tsc <= now_tsc))?;
        self.count -= 1;
        list.pop_front().map(|waiting| waiting.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_are_given_back_when_they_are_over() {
        let id = |n: u8| TxId([n; 32]);
        let mut deferred = Deferred::new(3);
        assert!(!deferred.defer(id(9), 9, 0), "no wait is known yet");
        deferred.set_rate(|nanos| nanos / 1_000);
        assert!(!deferred.defer(id(1), 0, 0) && !deferred.defer(id(1), 1, 0), "the first come at once");
        assert!(
            deferred.defer(id(3), u8::MAX, 0) && deferred.defer(id(1), 2, 0) && deferred.defer(id(2), 3, 0)
        );
        assert!(!deferred.defer(id(4), 2, 0), "no room");
        assert_eq!(deferred.pop_due(4_999), None);
        assert_eq!(deferred.pop_due(5_000), Some(id(1)));
        assert_eq!(deferred.pop_due(9_999), None);
        assert_eq!(deferred.pop_due(10_000), Some(id(2)));
        assert_eq!(deferred.pop_due(639_999), None);
        assert_eq!(deferred.pop_due(640_000), Some(id(3)));
        assert_eq!(deferred.pop_due(u64::MAX), None);
    }
}
