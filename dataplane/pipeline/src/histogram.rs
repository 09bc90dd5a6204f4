//! A log-linear histogram of fixed size: every octave of durations is cut into 64 buckets of one width.
//!
//! A figure read from it lies within 1/128 (0.8 %) of the duration that was recorded, whatever its size: durations below
//! 128 ns are exact, and above that a bucket is a 64th of its octave and answers with its middle. The idea is Gil Tene's
//! HdrHistogram; this one has a fixed array that a poll thread owns, so that recording is an index and an addition.

/// Buckets in one octave, as a power of two.
const OCTAVE_BITS: u32 = 6;
const OCTAVE: usize = 1 << OCTAVE_BITS;
/// Longest duration that is told from longer ones, as a power of two of nanoseconds: 18 minutes.
const NANOS_BITS: u32 = 40;
/// Buckets of a histogram.
pub const BUCKETS: usize = OCTAVE * (NANOS_BITS - OCTAVE_BITS + 1) as usize;

/// The bucket of a duration.
#[inline]
#[must_use]
pub const fn bucket_of(nanos: u64) -> usize {
    if nanos < OCTAVE as u64 {
        return nanos as usize;
    }
    let octave = nanos.ilog2();
    if octave >= NANOS_BITS {
        return BUCKETS - 1;
    }
    let shift = octave - OCTAVE_BITS;
    shift as usize * OCTAVE + (nanos >> shift) as usize
}

/// The shortest duration of a bucket, nanoseconds.
#[must_use]
pub const fn bucket_start_ns(bucket: usize) -> u64 {
    if bucket < 2 * OCTAVE {
        return bucket as u64;
    }
    let shift = bucket / OCTAVE - 1;
    ((OCTAVE + bucket % OCTAVE) as u64) << shift
}

/// The duration that stands for a bucket: its middle, nanoseconds.
#[must_use]
pub const fn bucket_middle_ns(bucket: usize) -> u64 {
    let width = bucket_start_ns(bucket + 1) - bucket_start_ns(bucket);
    bucket_start_ns(bucket) + width / 2
}

/// How often which duration came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: Box<[u64]>,
    sum_ns: u64,
    max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; BUCKETS].into_boxed_slice(), sum_ns: 0, max_ns: 0 }
    }
}

impl Histogram {
    /// A histogram of what was recorded elsewhere: pairs of a duration and how often it came.
    #[must_use]
    pub fn of_pairs(pairs: &[(u64, u64)], sum_ns: u64, max_ns: u64) -> Histogram {
        let mut all = Histogram { sum_ns, max_ns, ..Histogram::default() };
        for (nanos, count) in pairs {
            let bucket = &mut all.counts[bucket_of(*nanos)];
            *bucket = bucket.saturating_add(*count);
        }
        all
    }

    /// Records one duration, nanoseconds. Returns its bucket.
    #[inline]
    pub fn record(&mut self, nanos: u64) -> usize {
        self.record_many(nanos, 1)
    }

    /// Records a duration that came so often. Returns its bucket.
    #[inline]
    pub fn record_many(&mut self, nanos: u64, count: u64) -> usize {
        let bucket = bucket_of(nanos);
        self.counts[bucket] += count;
        self.sum_ns = self.sum_ns.saturating_add(nanos.saturating_mul(count));
        self.max_ns = self.max_ns.max(nanos);
        bucket
    }

    /// Takes in all of another's.
    pub fn merge(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// What was recorded since `before`, an earlier copy. The longest is exact when it came since then; else it is the
    /// longest bucket's middle.
    #[must_use]
    pub fn after(&self, before: &Histogram) -> Histogram {
        let counts = self.counts.iter().zip(&before.counts).map(|(now, then)| now.saturating_sub(*then));
        let counts: Box<[u64]> = counts.collect();
        let longest = counts.iter().rposition(|count| *count > 0).map_or(0, bucket_middle_ns);
        let max_ns = if self.max_ns > before.max_ns { self.max_ns } else { longest.min(self.max_ns) };
        Histogram { counts, sum_ns: self.sum_ns.saturating_sub(before.sum_ns), max_ns }
    }

    /// How many durations were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Sum of all durations, nanoseconds.
    #[must_use]
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// The longest, nanoseconds: exact.
    #[must_use]
    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The duration that a share of `quantile` (0 to 1) does not exceed, nanoseconds, within 0.8 %; `None` when nothing
    /// was recorded. It is the nearest rank: the smallest recorded duration with at least that share at or below it.
    #[must_use]
    pub fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        let count = self.count();
        let rank = ((quantile * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut below = 0u64;
        for (bucket, in_bucket) in self.counts.iter().enumerate() {
            below = below.saturating_add(*in_bucket);
            if below >= rank {
                // Nothing longer than the longest was recorded.
                return Some(bucket_middle_ns(bucket).min(self.max_ns));
            }
        }
        None
    }

    /// How many durations are shorter than `nanos`, exact where that is the start of a bucket (every power of two is).
    #[must_use]
    pub fn count_below(&self, nanos: u64) -> u64 {
        let below = &self.counts[..bucket_of(nanos)];
        below.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The buckets that hold something, as the duration that stands for each and how often it came.
    pub fn pairs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let counts = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counts.map(|(bucket, count)| (bucket_middle_ns(bucket), *count))
    }

    pub(crate) fn counts(&self) -> &[u64] {
        &self.counts
    }

    pub(crate) fn of_counts(counts: Box<[u64]>, sum_ns: u64, max_ns: u64) -> Histogram {
        debug_assert_eq!(counts.len(), BUCKETS, "one count for each bucket");
        Histogram { counts, sum_ns, max_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for bucket in 0..BUCKETS {
            let (start, end) = (bucket_start_ns(bucket), bucket_start_ns(bucket + 1));
            assert!(start < end, "{bucket}");
            assert_eq!((bucket_of(start), bucket_of(end - 1)), (bucket, bucket));
            assert_eq!(bucket_of(bucket_middle_ns(bucket)), bucket);
        }
        assert_eq!(bucket_start_ns(BUCKETS), 1 << NANOS_BITS);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_sorted_durations_within_a_hundredth(
            durations in prop::collection::vec((0u32..40, any::<u64>()), 1..400),
            quantile in 0.0f64..=1.0,
        ) {
            // Every octave is as likely as any other.
            let mut durations: Vec<u64> = durations.iter().map(|(bits, noise)| noise & ((2 << bits) - 1)).collect();
            let mut histogram = Histogram::default();
            durations.iter().for_each(|nanos| {
                histogram.record(*nanos);
            });
            durations.sort_unstable();
            let rank = (quantile * durations.len() as f64).ceil().max(1.0) as usize;
            let exact = durations[rank - 1];
            let told = histogram.quantile_ns(quantile).expect("something was recorded");
            prop_assert!(told.abs_diff(exact) <= exact / 128 + 1, "{told} for {exact}");
            prop_assert_eq!(histogram.max_ns(), *durations.last().expect("at least one"));
            prop_assert_eq!(histogram.sum_ns(), durations.iter().sum::<u64>());
            let edge = 1 << (exact % 40);
            let below = durations.iter().filter(|nanos| **nanos < edge).count();
            prop_assert_eq!(histogram.count_below(edge), below as u64);
        }

        #[test]
        fn what_two_recorded_is_what_one_would_have(
            ours in prop::collection::vec(0u64..1 << 40, 0..50),
            theirs in prop::collection::vec(0u64..1 << 40, 0..50),
        ) {
            let of = |durations: &[u64]| {
                let mut histogram = Histogram::default();
                durations.iter().for_each(|nanos| {
                    histogram.record(*nanos);
                });
                histogram
            };
            let mut merged = of(&ours);
            merged.merge(&of(&theirs));
            prop_assert_eq!(&merged, &of(&[ours.clone(), theirs.clone()].concat()));
            let since = merged.after(&of(&ours));
            let only_theirs = of(&theirs);
            prop_assert_eq!((since.counts(), since.sum_ns()), (only_theirs.counts(), only_theirs.sum_ns()));
            prop_assert!(since.max_ns().abs_diff(only_theirs.max_ns()) <= only_theirs.max_ns() / 128 + 1);
            let pairs: Vec<(u64, u64)> = merged.pairs().collect();
            prop_assert_eq!(&Histogram::of_pairs(&pairs, merged.sum_ns(), merged.max_ns()), &merged);
        }
    }

    #[test]
    fn an_empty_one_has_no_quantiles() {
        assert_eq!(Histogram::default().quantile_ns(0.5), None);
    }
}
