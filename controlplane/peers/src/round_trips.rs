//! How long a question takes to each peer and back, over the session's connection.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Round trips kept of a peer: those of the last quarter of a minute.
const KEPT: usize = 8;

/// The last round trips to one peer, nanoseconds; 0 where there was none yet.
#[derive(Debug, Default)]
struct Recent {
    nanos: [AtomicU64; KEPT],
    next: AtomicUsize,
    count: AtomicU64,
    sum_ns: AtomicU64,
}

/// Round trips to all peers, by slot. Written on the handshake thread, read by any.
///
/// Both ends' handshake threads and TCP are in it, so it bounds what a frame of the data plane takes there and back from above.
#[derive(Debug, Default)]
pub struct RoundTrips {
    slots: Box<[Recent]>,
}

/// Round trips to all peers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundTripSummary {
    /// Median of those that are kept, nanoseconds; `None` when there are none.
    pub p50_ns: Option<u64>,
    /// 99th percentile of those that are kept, nanoseconds.
    pub p99_ns: Option<u64>,
    /// All since the start together, nanoseconds.
    pub sum_ns: u128,
    /// All since the start.
    pub count: u64,
}

/// The sample at `quantile` of sorted `nanos`.
fn at(nanos: &[u64], quantile: f64) -> Option<u64> {
    nanos.get(((nanos.len() as f64 * quantile) as usize).min(nanos.len().saturating_sub(1))).copied()
}

impl RoundTrips {
    pub(crate) fn new(peers: usize) -> RoundTrips {
        RoundTrips { slots: (0..peers).map(|_| Recent::default()).collect() }
    }

    pub(crate) fn record(&self, slot: usize, took: Duration) {
        let Some(recent) = self.slots.get(slot) else { return };
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let place = recent.next.fetch_add(1, Ordering::Relaxed) % KEPT;
        recent.nanos[place].store(nanos, Ordering::Relaxed);
        recent.count.fetch_add(1, Ordering::Relaxed);
        recent.sum_ns.fetch_add(nanos, Ordering::Relaxed);
    }

    fn sorted(recents: &[Recent]) -> Vec<u64> {
        let all = recents.iter().flat_map(|recent| &recent.nanos).map(|nanos| nanos.load(Ordering::Relaxed));
        let mut nanos: Vec<u64> = all.filter(|nanos| *nanos > 0).collect();
        nanos.sort_unstable();
        nanos
    }

    /// The median of the last round trips to the peer in `slot`, nanoseconds; `None` before the first.
    #[must_use]
    pub fn of(&self, slot: usize) -> Option<u64> {
        at(&Self::sorted(self.slots.get(slot..=slot)?), 0.5)
    }

    /// All peers together.
    #[must_use]
    pub fn summary(&self) -> RoundTripSummary {
        let nanos = Self::sorted(&self.slots);
        let total =
            |of: fn(&Recent) -> &AtomicU64| self.slots.iter().map(move |one| of(one).load(Ordering::Relaxed));
        RoundTripSummary {
            p50_ns: at(&nanos, 0.5),
            p99_ns: at(&nanos, 0.99),
            sum_ns: total(|one| &one.sum_ns).map(u128::from).sum(),
            count: total(|one| &one.count).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_count_and_the_first_are_forgotten() {
        let trips = RoundTrips::new(3);
        assert_eq!((trips.of(1), trips.of(9), trips.summary()), (None, None, RoundTripSummary::default()));
        trips.record(9, Duration::from_secs(1));
        trips.record(1, Duration::from_secs(1));
        (1..=KEPT as u64).for_each(|micros| trips.record(1, Duration::from_micros(micros)));
        assert_eq!((trips.of(1), trips.of(0)), (Some(5_000), None));
        trips.record(2, Duration::from_micros(900));
        let all = trips.summary();
        assert_eq!((all.p50_ns, all.p99_ns, all.count), (Some(5_000), Some(900_000), 10));
        assert_eq!(all.sum_ns, 1_000_000_000 + 36_000 + 900_000);
    }
}
