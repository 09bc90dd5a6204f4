//! Marzullo's intersection: from the intervals of several sources, the one that enough of them agree on (K. Marzullo,
//! "Maintaining the time in a distributed system", 1984; RFC 5905, 11.2.1). Pure.
//!
//! Each source says that the true time lies in its interval. If a quorum of them is right, the truth is at a point that
//! a quorum's intervals cover; those points' hull is therefore safe, and the points that most cover are the best guess
//! in it. A source that has no point in common with the best guess is a falseticker.

/// What one source says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Earliest, nanoseconds.
    pub low: i128,
    /// Latest, nanoseconds; below `low` the source says nothing and counts against the quorum.
    pub high: i128,
    /// What its word counts: 1, or stake.
    pub weight: u64,
}

/// How much weight must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quorum {
    /// More than half.
    Half,
    /// More than two thirds: where consensus depends on it.
    TwoThirds,
}

impl Quorum {
    const fn is_met(self, weight: u128, total: u128) -> bool {
        match self {
            Quorum::Half => 2 * weight > total,
            Quorum::TwoThirds => 3 * weight > 2 * total,
        }
    }
}

/// What a quorum agrees on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Hull of the points that a quorum covers: the truth is in it if a quorum is right.
    pub safe: (i128, i128),
    /// The first stretch of the points that most weight covers.
    pub best: (i128, i128),
    /// The weight that covers `best`.
    pub weight: u128,
}

impl Agreement {
    /// Whether a source contradicts the agreement.
    #[must_use]
    pub const fn is_falseticker(&self, source: &Interval) -> bool {
        source.low > source.high || source.high < self.best.0 || source.low > self.best.1
    }
}

/// What the sources agree on; `None` when no point is covered by a quorum: hold over then.
#[must_use]
pub fn intersect(sources: &[Interval], quorum: Quorum) -> Option<Agreement> {
    let total: u128 = sources.iter().map(|source| u128::from(source.weight)).sum();
    // At a point where one interval ends and another begins both hold, so beginnings go first.
    let mut edges: Vec<(i128, bool, u128)> = sources
        .iter()
        .filter(|source| source.low <= source.high)
        .flat_map(|source| {
            let weight = u128::from(source.weight);
            [(source.low, false, weight), (source.high, true, weight)]
        })
        .collect();
    edges.sort_unstable();
    let mut agreement: Option<Agreement> = None;
    let (mut covered, mut in_best) = (0, false);
    for (at, is_end, weight) in edges {
        if is_end {
            if let Some(found) = agreement.as_mut() {
                if quorum.is_met(covered, total) {
                    found.safe.1 = at;
                }
                if in_best && covered == found.weight && weight > 0 {
                    (found.best.1, in_best) = (at, false);
                }
            }
            covered -= weight;
        } else {
            covered += weight;
            if quorum.is_met(covered, total) && agreement.is_none_or(|found| covered > found.weight) {
                let safe_low = agreement.map_or(at, |found| found.safe.0);
                agreement = Some(Agreement { safe: (safe_low, at), best: (at, at), weight: covered });
                in_best = true;
            }
        }
    }
    agreement
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn interval(low: i128, high: i128) -> Interval {
        Interval { low, high, weight: 1 }
    }

    #[test]
    fn the_textbook_cases() {
        // Marzullo's own example, and RFC 5905's: 8..12, 11..13, 10..12 agree on 11..12.
        let found = intersect(&[interval(8, 12), interval(11, 13), interval(10, 12)], Quorum::Half).unwrap();
        assert_eq!((found.best, found.safe, found.weight), ((11, 12), (10, 12), 3));
        let with_false = [interval(8, 12), interval(11, 13), interval(14, 15)];
        let found = intersect(&with_false, Quorum::Half).unwrap();
        assert_eq!((found.best, found.weight), ((11, 12), 2));
        assert_eq!(with_false.map(|source| found.is_falseticker(&source)), [false, false, true]);
        assert_eq!(intersect(&with_false, Quorum::TwoThirds), None);
        assert_eq!(intersect(&[interval(0, 1), interval(2, 3)], Quorum::Half), None);
        assert_eq!(intersect(&[], Quorum::Half), None);
        assert_eq!(intersect(&[interval(5, 5), interval(5, 9)], Quorum::Half).unwrap().best, (5, 5));
    }

    #[test]
    fn an_empty_interval_counts_against_the_quorum_and_stake_outweighs_numbers() {
        assert_eq!(intersect(&[interval(1, 2), interval(9, 3)], Quorum::Half), None);
        let heavy = Interval { weight: 10, ..interval(0, 1) };
        let found = intersect(&[heavy, interval(5, 6), interval(5, 6)], Quorum::TwoThirds).unwrap();
        assert_eq!(found.best, (0, 1));
    }

    fn any_source() -> impl Strategy<Value = Interval> {
        (-20i128..20, -2i128..15, 1u64..4).prop_map(|(low, width, weight)| Interval {
            low,
            high: low + width,
            weight,
        })
    }

    fn coverage(sources: &[Interval], at: i128) -> u128 {
        let covers = |source: &&Interval| source.low <= at && at <= source.high;
        sources.iter().filter(covers).map(|source| u128::from(source.weight)).sum()
    }

    proptest! {
        /// Every integer point is tried: edges are integers, so coverage between two points is at most theirs.
        #[test]
        fn as_by_trying_every_point(sources in prop::collection::vec(any_source(), 0..8), two_thirds: bool) {
            let quorum = if two_thirds { Quorum::TwoThirds } else { Quorum::Half };
            let total: u128 = sources.iter().map(|source| u128::from(source.weight)).sum();
            let met: Vec<i128> =
                (-25..40).filter(|at| quorum.is_met(coverage(&sources, *at), total)).collect();
            let found = intersect(&sources, quorum);
            prop_assert_eq!(found.is_some(), !met.is_empty());
            if let Some(found) = found {
                prop_assert_eq!(found.safe, (met[0], met[met.len() - 1]));
                let most = (-25..40).map(|at| coverage(&sources, at)).max().unwrap();
                prop_assert_eq!(found.weight, most);
                let first = (-25..40).find(|at| coverage(&sources, *at) == most).unwrap();
                prop_assert_eq!(found.best.0, first);
                prop_assert!((found.best.0..=found.best.1).all(|at| coverage(&sources, at) == most));
                prop_assert!(found.safe.0 <= found.best.0 && found.best.1 <= found.safe.1);
            }
        }

        #[test]
        fn the_truth_is_in_the_safe_interval_when_a_quorum_is_right(
            truth in -20i128..20,
            right in prop::collection::vec((0i128..10, 0i128..10), 3..6),
            wrong in prop::collection::vec(any_source(), 0..3),
        ) {
            let mut sources: Vec<Interval> =
                right.iter().map(|(before, after)| interval(truth - before, truth + after)).collect();
            sources.extend(wrong.iter().map(|source| Interval { weight: 1, ..*source }));
            let found = intersect(&sources, Quorum::Half).expect("a quorum meets at the truth");
            prop_assert!(found.safe.0 <= truth && truth <= found.safe.1);
        }
    }
}
