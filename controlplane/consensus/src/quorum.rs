//! Quorums in stake: what genesis chooses and every rule of the protocol compares with.
//!
//! All amounts are whole ROKO. All divisions round down and all sums are checked. The formulas and their proofs
//! are those of Concurrent Simplex with separate bounds for Byzantine stake `f` and silent stake `p`, under
//! `3f + 2p + 1 <= T`.

use core::fmt;
use core::str::FromStr;

/// A named choice of `f` and `p`, fixed in genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    /// Most Byzantine stake tolerated: `f = (T-1)/3`, `p = 0`; the fast path needs everybody.
    Classic,
    /// `f = 28T/100` and the largest `p` that is left; the default.
    Balanced,
    /// Largest fast path: `f = p = (T-1)/5`.
    Fast,
}

impl Preset {
    /// The presets in the order from most tolerated faults to largest fast path.
    pub const ALL: [Preset; 3] = [Preset::Classic, Preset::Balanced, Preset::Fast];

    /// The name used in genesis.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Preset::Classic => "classic",
            Preset::Balanced => "balanced",
            Preset::Fast => "fast",
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Preset {
    type Err = QuorumError;

    fn from_str(text: &str) -> Result<Preset, QuorumError> {
        let known = Preset::ALL.into_iter().find(|preset| preset.name() == text);
        known.ok_or_else(|| QuorumError::UnknownPreset { name: text.to_owned() })
    }
}

/// Why a preset and a set of stakes give no usable quorums.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// The name is none of the presets.
    #[error("consensus preset \"{name}\" is unknown: use \"classic\", \"balanced\" or \"fast\"")]
    UnknownPreset {
        /// The name that was given.
        name: String,
    },
    /// Nobody has stake.
    #[error("the validators' stake adds up to 0: give each validator stake in genesis")]
    NoStake,
    /// The sum of the stakes is not representable.
    #[error("the validators' stake adds up to more than {} ROKO: lower the stakes in genesis", u64::MAX)]
    StakeOverflow,
    /// `3f + 2p + 1 <= T` or `p <= f` does not hold.
    #[error(
        "f = {byzantine} and p = {silent} need 3f + 2p + 1 <= T and p <= f, but T is {total}: lower f or p"
    )]
    Bounds {
        /// Total stake T.
        total: u64,
        /// Byzantine stake f.
        byzantine: u64,
        /// Silent stake p.
        silent: u64,
    },
    /// One validator alone can break the assumption that the protocol rests on.
    #[error(
        "preset \"{preset}\" tolerates {byzantine} ROKO of Byzantine stake, less than the {largest} ROKO of the \
         largest validator: {fix}"
    )]
    ToleratesNobody {
        /// The preset.
        preset: Preset,
        /// Byzantine stake tolerated.
        byzantine: u64,
        /// The largest validator's stake.
        largest: u64,
        /// What to change in genesis.
        fix: String,
    },
}

/// Total stake and the thresholds that follow from it, in whole ROKO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quorums {
    /// T: total stake of the epoch's snapshot.
    pub total: u64,
    /// f: Byzantine stake tolerated.
    pub byzantine: u64,
    /// p: further stake that may be silent on the fast path.
    pub silent: u64,
    /// S = T-f-p: a slow certificate.
    pub slow: u64,
    /// C = T-2f-p: a fast certificate.
    pub fast_certificate: u64,
    /// F = T-p: a commit in one round.
    pub fast_commit: u64,
    /// N = T-f: first votes to wait for before a fallback skip.
    pub wait: u64,
}

impl Quorums {
    /// The thresholds for explicit `f` and `p`.
    pub fn new(total: u64, byzantine: u64, silent: u64) -> Result<Quorums, QuorumError> {
        let bounds = QuorumError::Bounds { total, byzantine, silent };
        let needed = byzantine
            .checked_mul(3)
            .and_then(|three| silent.checked_mul(2).and_then(|two| three.checked_add(two)))
            .and_then(|sum| sum.checked_add(1));
        if total == 0 {
            return Err(QuorumError::NoStake);
        }
        if silent > byzantine || needed.is_none_or(|needed| needed > total) {
            return Err(bounds);
        }
        Ok(Quorums {
            total,
            byzantine,
            silent,
            slow: total - byzantine - silent,
            fast_certificate: total - 2 * byzantine - silent,
            fast_commit: total - silent,
            wait: total - byzantine,
        })
    }

    /// The thresholds of a preset, whoever holds the stake.
    pub fn from_preset(preset: Preset, total: u64) -> Result<Quorums, QuorumError> {
        let last = total.checked_sub(1).ok_or(QuorumError::NoStake)?;
        let (byzantine, silent) = match preset {
            Preset::Classic => (last / 3, 0),
            Preset::Balanced => {
                // 28T/100 without the product, which may not fit.
                let byzantine = total / 100 * 28 + total % 100 * 28 / 100;
                // Never negative: at most 84T/100 is subtracted from T-1, and T < 4 gives f = 0.
                (byzantine, byzantine.min(last.saturating_sub(3 * byzantine) / 2))
            }
            Preset::Fast => (last / 5, last / 5),
        };
        Quorums::new(total, byzantine, silent)
    }

    /// The thresholds of a preset for these validators; refuses one under which a single validator is already
    /// more Byzantine stake than is tolerated.
    pub fn for_stakes(preset: Preset, stakes: &[u64]) -> Result<Quorums, QuorumError> {
        let total = stakes
            .iter()
            .try_fold(0u64, |sum, stake| sum.checked_add(*stake))
            .ok_or(QuorumError::StakeOverflow)?;
        let quorums = Quorums::from_preset(preset, total)?;
        let largest = stakes.iter().copied().max().unwrap_or(0);
        if quorums.byzantine < largest {
            let fix = refusal_fix(total, largest);
            return Err(QuorumError::ToleratesNobody { preset, byzantine: quorums.byzantine, largest, fix });
        }
        Ok(quorums)
    }

    /// What the thresholds mean for these validators, for `roko genesis inspect`.
    #[must_use]
    pub fn describe(&self, stakes: &[u64]) -> QuorumReport {
        let mut falling = stakes.to_vec();
        falling.sort_unstable_by(|a, b| b.cmp(a));
        let reach = |threshold: u64| fewest_reaching(&falling, threshold);
        QuorumReport {
            quorums: *self,
            validators: stakes.len(),
            byzantine_any: most_within(&falling, self.byzantine),
            silent_any: most_within(&falling, self.silent),
            slow: reach(self.slow),
            fast_certificate: reach(self.fast_certificate),
            fast_commit: reach(self.fast_commit),
            wait: reach(self.wait),
        }
    }
}

/// How many validators it takes when the largest come first.
fn fewest_reaching(falling: &[u64], threshold: u64) -> usize {
    let mut sum = 0u64;
    falling
        .iter()
        .take_while(|stake| {
            let missing = sum < threshold;
            sum = sum.saturating_add(**stake);
            missing
        })
        .count()
}

/// How many validators may fail whichever they are: the largest come first.
fn most_within(falling: &[u64], budget: u64) -> usize {
    let mut sum = 0u64;
    falling
        .iter()
        .take_while(|stake| {
            sum = sum.saturating_add(**stake);
            sum <= budget
        })
        .count()
}

fn refusal_fix(total: u64, largest: u64) -> String {
    let fits = |preset: &Preset| Quorums::from_preset(*preset, total).is_ok_and(|q| q.byzantine >= largest);
    let names: Vec<String> = Preset::ALL.iter().filter(|p| fits(p)).map(|p| format!("\"{p}\"")).collect();
    if names.is_empty() {
        return "no preset tolerates that validator, so add validators or spread the stake more evenly (four equal \
                validators are the fewest for \"classic\" and \"balanced\", six for \"fast\")"
            .to_owned();
    }
    format!(
        "set the genesis key consensus.preset to {}, or spread the stake over more validators",
        names.join(" or ")
    )
}

/// [`Quorums`] in validators. Counts of a threshold are the fewest that reach it, the largest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumReport {
    /// The thresholds in stake.
    pub quorums: Quorums,
    /// How many validators there are.
    pub validators: usize,
    /// How many may be Byzantine, whichever they are.
    pub byzantine_any: usize,
    /// How many may be silent with the fast path still open, whichever they are.
    pub silent_any: usize,
    /// Fewest that make a slow certificate.
    pub slow: usize,
    /// Fewest that make a fast certificate.
    pub fast_certificate: usize,
    /// Fewest that commit in one round.
    pub fast_commit: usize,
    /// Fewest whose first votes are waited for.
    pub wait: usize,
}

impl fmt::Display for QuorumReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (q, n) = (&self.quorums, self.validators);
        writeln!(f, "T total stake       {:>14} ROKO, {n} validators", q.total)?;
        writeln!(f, "f Byzantine         {:>14} ROKO, any {}", q.byzantine, self.byzantine_any)?;
        writeln!(f, "p silent, fast path {:>14} ROKO, any {}", q.silent, self.silent_any)?;
        writeln!(f, "S slow quorum       {:>14} ROKO, at least {} of {n}", q.slow, self.slow)?;
        writeln!(
            f,
            "C fast certificate  {:>14} ROKO, at least {} of {n}",
            q.fast_certificate, self.fast_certificate
        )?;
        writeln!(f, "F fast commit       {:>14} ROKO, at least {} of {n}", q.fast_commit, self.fast_commit)?;
        write!(f, "N wait              {:>14} ROKO, at least {} of {n}", q.wait, self.wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAKE: u64 = 32_000;

    fn equal(n: usize, preset: Preset) -> QuorumReport {
        let stakes = vec![STAKE; n];
        Quorums::for_stakes(preset, &stakes).unwrap().describe(&stakes)
    }

    #[test]
    fn four_equal_validators_tolerate_one_in_classic_and_balanced() {
        for preset in [Preset::Classic, Preset::Balanced] {
            let report = equal(4, preset);
            assert_eq!(report.byzantine_any, 1, "{preset}");
            assert_eq!((report.slow, report.fast_commit), (3, 4), "{preset}");
            assert_eq!(report.fast_certificate, 2, "{preset}");
        }
    }

    #[test]
    fn fast_with_four_equal_validators_is_refused_and_names_the_fix() {
        let error = Quorums::for_stakes(Preset::Fast, &[STAKE; 4]).unwrap_err().to_string();
        assert!(error.contains("25599") && error.contains("32000"), "{error}");
        assert!(error.contains("\"classic\" or \"balanced\""), "{error}");
        let error = Quorums::for_stakes(Preset::Classic, &[STAKE; 3]).unwrap_err().to_string();
        assert!(error.contains("add validators"), "{error}");
    }

    #[test]
    fn six_equal_validators_in_fast_tolerate_one_and_commit_with_five() {
        let report = equal(6, Preset::Fast);
        assert_eq!((report.byzantine_any, report.silent_any, report.fast_commit), (1, 1, 5));
        assert_eq!((report.slow, report.wait), (4, 5));
    }

    #[test]
    fn tight_unit_cases_match_the_formulas() {
        let q = Quorums::new(4, 1, 0).unwrap();
        assert_eq!((q.slow, q.fast_certificate, q.fast_commit, q.wait), (3, 2, 4, 3));
        let q = Quorums::new(6, 1, 1).unwrap();
        assert_eq!((q.slow, q.fast_certificate, q.fast_commit, q.wait), (4, 3, 5, 5));
        assert!(matches!(Quorums::new(5, 1, 1), Err(QuorumError::Bounds { .. })));
        assert!(matches!(Quorums::new(9, 1, 2), Err(QuorumError::Bounds { .. })));
    }

    #[test]
    fn every_total_keeps_the_two_intersection_bounds() {
        let totals = (1..5_000).chain([u64::MAX / 7, u64::MAX / 3, u64::MAX - 1, u64::MAX]);
        for total in totals {
            for preset in Preset::ALL {
                let q = Quorums::from_preset(preset, total).unwrap();
                // Two slow quorums meet in honest stake; a fast commit leaves less than a fast certificate.
                assert!(
                    2 * u128::from(q.slow) > u128::from(total) + u128::from(q.byzantine),
                    "{preset} {total}"
                );
                assert!(q.fast_certificate > q.byzantine + q.silent, "{preset} {total}");
            }
        }
    }

    #[test]
    fn sums_that_do_not_fit_are_refused() {
        assert_eq!(Quorums::for_stakes(Preset::Fast, &[u64::MAX, 1]), Err(QuorumError::StakeOverflow));
        assert_eq!(Quorums::for_stakes(Preset::Fast, &[]), Err(QuorumError::NoStake));
        assert!(Quorums::new(u64::MAX, u64::MAX, u64::MAX).is_err());
        assert!("quick".parse::<Preset>().unwrap_err().to_string().contains("balanced"));
    }
}
