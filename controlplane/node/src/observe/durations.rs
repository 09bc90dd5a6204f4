//! Durations: percentiles over everything, and over a recent window.

use hdrhistogram::Histogram;
use roko_services::metrics::DurationSummary;
use serde::{Deserialize, Serialize};

/// Longest duration that is told from longer ones: ten minutes.
const NANOS_MAX: u64 = 600_000_000_000;
/// Samples after which the window moves on.
const WINDOW_SAMPLES: u64 = 20_000;

/// A histogram that keeps the tail to two significant digits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Recorded", into = "Recorded")]
pub struct Durations {
    total: Histogram<u64>,
    recent: Histogram<u64>,
    previous: Histogram<u64>,
    sum_ns: u128,
}

impl Default for Durations {
    fn default() -> Self {
        let empty = || Histogram::new_with_bounds(1, NANOS_MAX, 2).expect("the bounds and digits are valid");
        Durations { total: empty(), recent: empty(), previous: empty(), sum_ns: 0 }
    }
}

/// Durations as text: pairs of a duration and how often it came, of everything and of the recent window.
#[derive(Serialize, Deserialize)]
struct Recorded {
    all: Vec<(u64, u64)>,
    recent: Vec<(u64, u64)>,
    sum_ns: u64,
}

impl From<Durations> for Recorded {
    fn from(durations: Durations) -> Recorded {
        let pairs = |histogram: &Histogram<u64>| {
            let pair = |at: hdrhistogram::iterators::IterationValue<u64>| {
                (at.value_iterated_to(), at.count_at_value())
            };
            histogram.iter_recorded().map(pair).collect()
        };
        let mut window = durations.recent;
        // Both have the same bounds, so adding cannot fail.
        let _ = window.add(&durations.previous);
        let sum_ns = u64::try_from(durations.sum_ns).unwrap_or(u64::MAX);
        Recorded { all: pairs(&durations.total), recent: pairs(&window), sum_ns }
    }
}

impl From<Recorded> for Durations {
    fn from(recorded: Recorded) -> Durations {
        let mut durations = Durations { sum_ns: recorded.sum_ns.into(), ..Durations::default() };
        let fill = |histogram: &mut Histogram<u64>, pairs: Vec<(u64, u64)>| {
            for (nanos, count) in pairs {
                histogram.saturating_record_n(nanos.clamp(1, NANOS_MAX), count);
            }
        };
        fill(&mut durations.total, recorded.all);
        fill(&mut durations.recent, recorded.recent);
        durations
    }
}

impl Durations {
    /// Records one duration; longer than ten minutes counts as ten.
    pub fn record(&mut self, nanos: u64) {
        let clamped = nanos.clamp(1, NANOS_MAX);
        self.total.saturating_record(clamped);
        self.recent.saturating_record(clamped);
        self.sum_ns += u128::from(nanos);
        if self.recent.len() >= WINDOW_SAMPLES {
            std::mem::swap(&mut self.recent, &mut self.previous);
            self.recent.reset();
        }
    }

    /// A quantile (0 to 1) of everything, nanoseconds; 0 when there is nothing.
    #[must_use]
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        if self.total.is_empty() { 0 } else { self.total.value_at_quantile(quantile) }
    }

    /// The longest, nanoseconds.
    #[must_use]
    pub fn max_ns(&self) -> u64 {
        self.total.max()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.total.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total.is_empty()
    }

    /// Takes in all of another's samples.
    pub fn merge(&mut self, other: &Durations) {
        // Both have the same bounds, so adding cannot fail.
        let _ = self.total.add(&other.total);
        let _ = self.recent.add(&other.recent);
        let _ = self.previous.add(&other.previous);
        self.sum_ns += other.sum_ns;
    }

    /// Percentiles of the last samples, and the sum and count of all.
    #[must_use]
    pub fn summary(&self) -> DurationSummary {
        let mut window = self.recent.clone();
        let _ = window.add(&self.previous);
        let at = |quantile| (!window.is_empty()).then(|| window.value_at_quantile(quantile));
        DurationSummary { p50_ns: at(0.5), p99_ns: at(0.99), sum_ns: self.sum_ns, count: self.total.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_cover_everything_and_the_window_moves_on() {
        let mut durations = Durations::default();
        (0..WINDOW_SAMPLES).for_each(|_| durations.record(1_000));
        (0..WINDOW_SAMPLES).for_each(|_| durations.record(9_000));
        (0..WINDOW_SAMPLES).for_each(|_| durations.record(9_000));
        let summary = durations.summary();
        assert_eq!(summary.count, 3 * WINDOW_SAMPLES);
        assert!(summary.p50_ns.is_some_and(|p50| (8_900..9_100).contains(&p50)));
        assert!((990..1_010).contains(&durations.quantile_ns(0.3)));
        assert_eq!(Durations::default().summary().p50_ns, None);
    }
}
