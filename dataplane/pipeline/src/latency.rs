//! How long ago what passes a stage was on the wire: a histogram that the stage owns, and its published copy.
//!
//! A stage notes where each item came from while it has it in hand, and settles once at the end of its poll: all items of
//! a poll share one reading of the clock, taken after the last of them, so a latency is too long by the rest of its poll
//! at most, and never too short. Nothing is allocated, locked or asked of the kernel.

use crate::clock::ClockPage;
use crate::histogram::{BUCKETS, Histogram};
use crate::metrics::{Counter, Counters};
use arrayvec::ArrayVec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use roko_os::tsc::tsc;
use roko_wire::NanoMoment;
use std::sync::Arc;

/// No bucket: what it is joined with is all of the sum.
const NONE_CHANGED: Range<usize> = Range { start: BUCKETS, end: 0 };
/// Moments that share a reading of the clock, at most.
const NOTED_MAX: usize = 32;

/// From where a latency counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The receive time of the frame or of the transaction's own stamp.
    Wire,
    /// The control thread's request to send.
    Asked,
}

impl Since {
    /// As metrics and reports show it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Since::Wire => "wire",
            Since::Asked => "asked",
        }
    }
}

/// A moment that a latency counts from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// What happened then.
    pub since: Since,
    /// When.
    pub moment: NanoMoment,
}

/// A histogram as readers see it: what the stage had recorded at its last housekeeping.
#[derive(Debug)]
pub struct PublishedLatency {
    since: Since,
    counts: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl PublishedLatency {
    /// From where its latencies count.
    #[must_use]
    pub fn since(&self) -> Since {
        self.since
    }

    /// A copy. Its counts can be of two housekeepings when one falls into the reading; each of them is whole.
    #[must_use]
    pub fn read(&self) -> Histogram {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Histogram::of_counts(counts, self.sum_ns.load(Ordering::Relaxed), self.max_ns.load(Ordering::Relaxed))
    }
}

/// The stage's own side.
pub struct LatencyRecorder {
    clock: ClockPage,
    /// Moments and how many items began at each: those of a burst that the poll stamped share one.
    noted: ArrayVec<(NanoMoment, u64), NOTED_MAX>,
    local: Histogram,
    /// Buckets that changed since the last housekeeping lie in here.
    changed: Range<usize>,
    shared: Arc<PublishedLatency>,
}

impl LatencyRecorder {
    /// An empty histogram of latencies that count from `since`.
    #[must_use]
    pub fn new(since: Since, clock: ClockPage) -> LatencyRecorder {
        let counts = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        let shared = PublishedLatency { since, counts, sum_ns: AtomicU64::new(0), max_ns: AtomicU64::new(0) };
        LatencyRecorder {
            clock,
            noted: ArrayVec::new(),
            local: Histogram::default(),
            changed: NONE_CHANGED,
            shared: Arc::new(shared),
        }
    }

    /// Notes an item that began at `moment` and passes the stage in this poll.
    #[inline]
    pub fn note(&mut self, moment: NanoMoment) {
        if let Some((last, items)) = self.noted.last_mut()
            && *last == moment
        {
            *items += 1;
            return;
        }
        if self.noted.is_full() {
            self.settle();
        }
        self.noted.push((moment, 1));
    }

    /// Records what was noted, as of now. A moment ahead of this node's clock counts as no time at all.
    #[inline]
    pub fn settle(&mut self) {
        if self.noted.is_empty() {
            return;
        }
        let now = self.clock.read().reading(tsc()).now;
        for (moment, items) in self.noted.drain(..) {
            let bucket = self.local.record_many(now.nanos_since(moment), items);
            self.changed = self.changed.start.min(bucket)..self.changed.end.max(bucket + 1);
        }
    }

    /// Copies what changed to where readers find it.
    pub fn publish(&mut self) {
        self.settle();
        let changed = core::mem::replace(&mut self.changed, NONE_CHANGED);
        if changed.is_empty() {
            return;
        }
        let (shared, local) = (&self.shared.counts[changed.clone()], &self.local.counts()[changed]);
        for (shared, local) in shared.iter().zip(local) {
            shared.store(*local, Ordering::Relaxed);
        }
        self.shared.sum_ns.store(self.local.sum_ns(), Ordering::Relaxed);
        self.shared.max_ns.store(self.local.max_ns(), Ordering::Relaxed);
    }

    /// The published side.
    #[must_use]
    pub fn shared(&self) -> Arc<PublishedLatency> {
        Arc::clone(&self.shared)
    }
}

/// Latencies on the way out: of what came from the wire, and of what the control plane asked for.
pub(crate) struct OutwardLatency {
    wire: LatencyRecorder,
    asked: LatencyRecorder,
}

impl OutwardLatency {
    pub(crate) fn new(clock: &ClockPage) -> OutwardLatency {
        let recorder = |since| LatencyRecorder::new(since, clock.clone());
        OutwardLatency { wire: recorder(Since::Wire), asked: recorder(Since::Asked) }
    }

    /// Counters of stage `stage`, whose figures include both.
    pub(crate) fn counters<C: Counter>(&self, stage: &'static str) -> Counters<C> {
        Counters::timed(stage, &[&self.wire, &self.asked])
    }

    /// See [`LatencyRecorder::note`].
    pub(crate) fn note(&mut self, origin: Option<Origin>) {
        match origin {
            Some(Origin { since: Since::Wire, moment }) => self.wire.note(moment),
            Some(Origin { since: Since::Asked, moment }) => self.asked.note(moment),
            None => {}
        }
    }

    /// See [`LatencyRecorder::settle`].
    pub(crate) fn settle(&mut self) {
        self.wire.settle();
        self.asked.settle();
    }

    /// See [`LatencyRecorder::publish`].
    pub(crate) fn publish(&mut self) {
        self.wire.publish();
        self.asked.publish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_ring::seqlock::page;
    use roko_wire::clock::ClockMap;
    use roko_wire::nano::{ClockSource, ClockState};

    #[test]
    fn readers_see_what_was_recorded_when_house_is_kept_and_no_sooner() {
        let base = NanoMoment(1_800_000_000_000_000_000);
        let map = ClockMap {
            tsc_base: 0,
            base,
            // The clock stands still, so that latencies are known.
            nanos_per_tick_q32: 0,
            bound_ns: 1,
            drift_ppb: 0,
            bound_ns_max: 10,
            source: ClockSource::System,
            state: ClockState::Converged,
        };
        let (_writer, clock) = page(map);
        let mut recorder = LatencyRecorder::new(Since::Wire, clock);
        let shared = recorder.shared();
        for nanos in 0..100 {
            recorder.note(NanoMoment(base.0 - nanos * 1_000));
        }
        recorder.note(base.saturating_add(5));
        recorder.settle();
        assert_eq!(shared.read(), Histogram::default());
        recorder.publish();
        let read = shared.read();
        assert_eq!((read.count(), read.max_ns(), read.sum_ns()), (101, 99_000, 4_950_000));
        assert_eq!(read.count_below(1), 2, "the first, and the one that is ahead of the clock");
        recorder.note(NanoMoment(base.0 - 77));
        recorder.publish();
        assert_eq!((shared.read().count(), shared.read().count_below(100)), (102, 3));
    }
}
