//! Gaps added up by cause.

use super::attribute::Cause;
use core::fmt::Write;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;

/// Longest gap that is told from longer ones: an hour.
const GAP_NS_MAX: u64 = 3_600_000_000_000;

/// The gaps of one core.
#[derive(Clone, Debug)]
pub struct Ledger {
    core: usize,
    above_ns: u64,
    by_cause: BTreeMap<Cause, Histogram<u64>>,
    total_ns: BTreeMap<Cause, u64>,
    interrupts: BTreeMap<String, u64>,
    /// Time in which the loop was watched, nanoseconds.
    pub watched_ns: u64,
    /// Time of that in which the counters were read and gaps could not be seen, nanoseconds.
    pub reading_ns: u64,
    /// Gaps that were seen and could not be kept.
    pub lost: u64,
}

/// One cause of one core.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LedgerRow {
    /// The cause.
    pub cause: Cause,
    /// Gaps.
    pub count: u64,
    /// All of them together, nanoseconds.
    pub total_ns: u64,
    /// Median, nanoseconds, within 1 %.
    pub p50_ns: u64,
    /// 99th percentile, nanoseconds, within 1 %.
    pub p99_ns: u64,
    /// The longest, nanoseconds.
    pub max_ns: u64,
    /// Share of the watched time.
    pub share: f64,
}

/// What a ledger says, as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct LedgerReport {
    /// The core.
    pub core: usize,
    /// Shortest gap that is kept, nanoseconds.
    pub above_ns: u64,
    /// Time in which the loop was watched, nanoseconds.
    pub watched_ns: u64,
    /// Time of that in which the counters were read, nanoseconds.
    pub reading_ns: u64,
    /// Gaps that were seen and could not be kept.
    pub lost: u64,
    /// Causes that came.
    pub causes: Vec<LedgerRow>,
    /// Gaps by the interrupt that came most in each.
    pub interrupts: BTreeMap<String, u64>,
}

impl Ledger {
    /// An empty ledger of the gaps of `core` from `above_ns` nanoseconds on.
    #[must_use]
    pub fn new(core: usize, above_ns: u64) -> Ledger {
        Ledger {
            core,
            above_ns,
            by_cause: BTreeMap::new(),
            total_ns: BTreeMap::new(),
            interrupts: BTreeMap::new(),
            watched_ns: 0,
            reading_ns: 0,
            lost: 0,
        }
    }

    /// Adds a gap.
    pub fn add(&mut self, cause: Cause, gap_ns: u64) {
        let empty = || Histogram::new_with_bounds(1, GAP_NS_MAX, 2).expect("the bounds and digits are valid");
        self.by_cause.entry(cause).or_insert_with(empty).saturating_record(gap_ns.clamp(1, GAP_NS_MAX));
        *self.total_ns.entry(cause).or_insert(0) += gap_ns;
    }

    /// Adds that the interrupt `name` came most in a gap that interrupts explain.
    pub fn interrupted_by(&mut self, name: &str) {
        match self.interrupts.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.interrupts.insert(name.to_owned(), 1)),
        }
    }

    /// Gaps so far.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.by_cause.values().map(Histogram::len).sum()
    }

    /// Causes that came, in the order of [`Cause::ALL`].
    #[must_use]
    pub fn rows(&self) -> Vec<LedgerRow> {
        let row = |(cause, gaps): (&Cause, &Histogram<u64>)| {
            let total_ns = self.total_ns.get(cause).copied().unwrap_or(0);
            LedgerRow {
                cause: *cause,
                count: gaps.len(),
                total_ns,
                p50_ns: gaps.value_at_quantile(0.5),
                p99_ns: gaps.value_at_quantile(0.99),
                max_ns: gaps.max(),
                share: total_ns as f64 / self.watched_ns.max(1) as f64,
            }
        };
        self.by_cause.iter().map(row).collect()
    }

    /// For a program.
    #[must_use]
    pub fn report(&self) -> LedgerReport {
        LedgerReport {
            core: self.core,
            above_ns: self.above_ns,
            watched_ns: self.watched_ns,
            reading_ns: self.reading_ns,
            lost: self.lost,
            causes: self.rows(),
            interrupts: self.interrupts.clone(),
        }
    }

    /// For a terminal: a table by cause, then what each cause that came is and what mends it.
    #[must_use]
    pub fn to_text(&self) -> String {
        let watched = self.watched_ns.max(1) as f64;
        let rows = self.rows();
        let lost: u64 = rows.iter().map(|row| row.total_ns).sum();
        let mut out = format!(
            "core {}: {} gaps above {} in {:.1} s; the core was away {:.4} % of the time\n",
            self.core,
            self.gaps(),
            short(self.above_ns),
            watched / 1e9,
            lost as f64 / watched * 100.0
        );
        let _ = writeln!(
            out,
            "  {:<13}{:>9}{:>11}{:>11}{:>11}{:>11}{:>12}",
            "cause", "count", "total", "p50", "p99", "max", "of the time"
        );
        for row in &rows {
            let _ = writeln!(
                out,
                "  {:<13}{:>9}{:>11}{:>11}{:>11}{:>11}{:>10.4} %",
                row.cause.name(),
                row.count,
                short(row.total_ns),
                short(row.p50_ns),
                short(row.p99_ns),
                short(row.max_ns),
                row.share * 100.0
            );
        }
        if !self.interrupts.is_empty() {
            let mut names: Vec<(&String, &u64)> = self.interrupts.iter().collect();
            names.sort_by_key(|(_, count)| core::cmp::Reverse(**count));
            let names: Vec<String> =
                names.iter().take(5).map(|(name, count)| format!("{name} {count}")).collect();
            let _ = writeln!(out, "  interrupts: {}", names.join(", "));
        }
        let _ = writeln!(
            out,
            "  unseen: {:.3} % of the time, while counters were read{}",
            self.reading_ns as f64 / watched * 100.0,
            if self.lost > 0 { format!("; {} gaps could not be kept", self.lost) } else { String::new() }
        );
        out
    }
}

/// A duration in the unit that needs the fewest digits.
fn short(nanos: u64) -> String {
    let nanos = nanos as f64;
    match nanos {
        below if below < 1e3 => format!("{nanos} ns"),
        below if below < 1e6 => format!("{:.1} us", nanos / 1e3),
        below if below < 1e9 => format!("{:.2} ms", nanos / 1e6),
        _ => format!("{:.2} s", nanos / 1e9),
    }
}

/// The causes that came in any of `ledgers`, with what each is and what mends it.
#[must_use]
pub fn explained(ledgers: &[Ledger]) -> String {
    let mut out = String::new();
    for cause in Cause::ALL {
        if ledgers.iter().any(|ledger| ledger.by_cause.contains_key(&cause)) {
            let _ = writeln!(out, "{:<13} {}", cause.name(), cause.mend());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_adds_up_what_each_cause_cost() {
        let mut ledger = Ledger::new(3, 5_000);
        ledger.watched_ns = 1_000_000_000;
        for gap_ns in [6_000, 8_000, 20_000] {
            ledger.add(Cause::Interrupt, gap_ns);
        }
        ledger.add(Cause::Steal, 10_000_000);
        ledger.interrupted_by("Local timer interrupts");
        let rows = ledger.rows();
        assert_eq!(
            rows.iter().map(|row| (row.cause, row.count)).collect::<Vec<_>>(),
            [(Cause::Interrupt, 3), (Cause::Steal, 1)]
        );
        assert_eq!((rows[0].total_ns, rows[1].share), (34_000, 0.01));
        assert!(rows[0].p50_ns.abs_diff(8_000) <= 80 && rows[0].max_ns.abs_diff(20_000) <= 200, "{rows:?}");
        let text = ledger.to_text();
        for part in ["core 3: 4 gaps above 5.0 us", "away 1.0034 %", "steal", "Local timer interrupts 1"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(explained(&[ledger]).lines().count(), 2);
    }

    #[test]
    fn an_empty_ledger_has_no_rows_and_divides_by_nothing() {
        let ledger = Ledger::new(0, 1);
        assert!(ledger.rows().is_empty());
        assert!(ledger.to_text().contains("0 gaps"));
    }
}
