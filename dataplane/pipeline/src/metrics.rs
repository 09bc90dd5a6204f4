//! Core-local counters and their published copies.
//!
//! A stage counts in plain memory of its own; its housekeeping copies the counts into shared atomics, which
//! exporters read at any time. Names are static, so nothing is formatted on a poll thread. A stage that packets pass
//! has histograms of their latency beside its counters ([`crate::latency`]).

use crate::latency::{LatencyRecorder, PublishedLatency};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};
use std::borrow::Cow;
use std::sync::Arc;

/// Names the counters of a stage; implemented by [`counters!`](crate::counters).
pub trait Counter: Copy + Send + 'static {
    /// Label of each counter, by index.
    const LABELS: &'static [&'static str];
    /// This counter's index.
    fn index(self) -> usize;
}

/// Declares a stage's counters: an enum whose variants carry their published labels.
#[macro_export]
macro_rules! counters {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $label:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $name { $($(#[$variant_meta])* $variant),+ }
        impl $crate::metrics::Counter for $name {
            const LABELS: &'static [&'static str] = &[$($label),+];
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

/// How a stage's time is spent; the regimes exclude each other and cover all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Regime {
    /// Polled and found nothing to do.
    CaughtUp = 0,
    /// Did work.
    Processing = 1,
    /// Could not pass work on because the next ring is full.
    Backpressured = 2,
    /// Published its counters.
    Housekeeping = 3,
}

/// Labels of [`Regime`], by index.
pub const REGIME_LABELS: [&str; 4] = ["caught_up", "processing", "backpressured", "housekeeping"];

/// A stage's or a ring's name, with its lane where there are several: `verify`, or `verify/1`.
#[must_use]
pub fn lane_label(name: &'static str, lane: Option<u8>) -> Cow<'static, str> {
    lane.map_or(Cow::Borrowed(name), |lane| format!("{name}/{lane}").into())
}

/// A stage's published figures.
#[derive(Debug)]
pub struct StageMetrics {
    stage: &'static str,
    lane: Option<u8>,
    labels: &'static [&'static str],
    counters: Box<[AtomicU64]>,
    regime_ticks: [AtomicU64; 4],
    latencies: Vec<Arc<PublishedLatency>>,
}

impl StageMetrics {
    /// Figures of stage `stage` with the counters of `C`, all zero, and `latencies`.
    #[must_use]
    pub fn new<C: Counter>(stage: &'static str, latencies: Vec<Arc<PublishedLatency>>) -> Arc<StageMetrics> {
        Arc::new(StageMetrics {
            stage,
            lane: None,
            labels: C::LABELS,
            counters: C::LABELS.iter().map(|_| AtomicU64::new(0)).collect(),
            regime_ticks: Default::default(),
            latencies,
        })
    }

    /// How long ago what passed the stage was on the wire, or was asked for.
    #[must_use]
    pub fn latencies(&self) -> &[Arc<PublishedLatency>] {
        &self.latencies
    }

    /// The stage's name: that of all lanes' stages of its kind.
    #[must_use]
    pub fn stage(&self) -> &'static str {
        self.stage
    }

    /// Its lane, where there are several.
    #[must_use]
    pub fn lane(&self) -> Option<u8> {
        self.lane
    }

    /// Its name, with its lane where there are several.
    #[must_use]
    pub fn label(&self) -> Cow<'static, str> {
        lane_label(self.stage, self.lane)
    }

    /// The counters as (label, value).
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.labels.iter().copied().zip(self.counters.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// The counter labelled `label`; 0 when the stage has no such counter.
    #[must_use]
    pub fn value(&self, label: &str) -> u64 {
        self.counters().find(|(name, _)| *name == label).map_or(0, |(_, value)| value)
    }

    /// Time-stamp counter ticks spent in `regime`.
    #[must_use]
    pub fn regime_ticks(&self, regime: Regime) -> u64 {
        self.regime_ticks[regime as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn publish_regimes(&self, ticks: &[u64; 4]) {
        for (shared, local) in self.regime_ticks.iter().zip(ticks) {
            shared.store(*local, Ordering::Relaxed);
        }
    }
}

/// A stage's own counters.
pub struct Counters<C: Counter> {
    local: Box<[u64]>,
    shared: Arc<StageMetrics>,
    counter: PhantomData<C>,
}

impl<C: Counter> Counters<C> {
    /// Counters of stage `stage`, all zero.
    #[must_use]
    pub fn new(stage: &'static str) -> Counters<C> {
        Counters::timed(stage, &[])
    }

    /// Counters of stage `stage`, all zero, whose figures include `latencies`.
    #[must_use]
    pub fn timed(stage: &'static str, latencies: &[&LatencyRecorder]) -> Counters<C> {
        let local = vec![0; C::LABELS.len()].into_boxed_slice();
        let latencies = latencies.iter().map(|latency| latency.shared()).collect();
        Counters { local, shared: StageMetrics::new::<C>(stage, latencies), counter: PhantomData }
    }

    /// The same, of the stage of one lane; before anyone reads them.
    ///
    /// # Panics
    /// When [`Counters::shared`] was called: that is a fault of the assembly.
    #[must_use]
    pub fn in_lane(mut self, lane: Option<u8>) -> Counters<C> {
        Arc::get_mut(&mut self.shared).expect("nobody reads the figures yet").lane = lane;
        self
    }

    /// Counts one.
    #[inline]
    pub fn count(&mut self, counter: C) {
        self.add(counter, 1);
    }

    /// Counts `amount`.
    #[inline]
    pub fn add(&mut self, counter: C, amount: u64) {
        self.local[counter.index()] += amount;
    }

    /// Sets a counter that is a level, not a sum.
    #[inline]
    pub fn set(&mut self, counter: C, value: u64) {
        self.local[counter.index()] = value;
    }

    /// Copies the counts to where exporters read them.
    pub fn publish(&self) {
        for (shared, local) in self.shared.counters.iter().zip(&self.local) {
            shared.store(*local, Ordering::Relaxed);
        }
    }

    /// The published side.
    #[must_use]
    pub fn shared(&self) -> Arc<StageMetrics> {
        Arc::clone(&self.shared)
    }
}
