//! A port's own clock: what it counts, and the map from its counts to the CPU's time-stamp counter. Plain data in a seqlock
//! page, as the node clock's map is. The time crate calibrates and publishes it.
//!
//! Two maps make a moment of a card's stamp: this one, and [`ClockMap`](crate::clock::ClockMap) from the counter to moments.
//! So a stamp of the card and a reading of the counter, taken at one time, give one moment.

use crate::nano::ClockState;
use serde::{Deserialize, Serialize};

/// What a port's clock counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum PortUnit {
    /// Nanoseconds since an epoch of its own (IEEE 1588 clocks, the kernel's clocks).
    Nanoseconds = 0,
    /// Periods of a free-running oscillator, whose rate is measured.
    Ticks = 1,
}

/// What took a receive time: the greater its number, the closer to the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum StampedBy {
    /// Software: the poll that first saw the frame.
    Poll = 0,
    /// The kernel, when its driver handed the frame over.
    Kernel = 1,
    /// The card, at the wire; or a capture that is played back, for what was at the wire then.
    Hardware = 2,
}

impl StampedBy {
    /// Reads the wire's number; `None` for one that names nothing.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<StampedBy> {
        Some(match number {
            0 => StampedBy::Poll,
            1 => StampedBy::Kernel,
            2 => StampedBy::Hardware,
            _ => return None,
        })
    }
}

/// A time by a port's clock. The two kinds are never compared or added: a card that was set from one mode to the other
/// would put every stamp off by decades.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortTime {
    /// Nanoseconds.
    Nanoseconds(u64),
    /// Ticks.
    Ticks(u64),
}

impl PortTime {
    /// A count in `unit`.
    #[must_use]
    pub const fn new(unit: PortUnit, count: u64) -> PortTime {
        match unit {
            PortUnit::Nanoseconds => PortTime::Nanoseconds(count),
            PortUnit::Ticks => PortTime::Ticks(count),
        }
    }

    /// What it counts.
    #[must_use]
    pub const fn unit(self) -> PortUnit {
        match self {
            PortTime::Nanoseconds(_) => PortUnit::Nanoseconds,
            PortTime::Ticks(_) => PortUnit::Ticks,
        }
    }

    /// The count if it is in `unit`.
    #[must_use]
    pub const fn count(self, unit: PortUnit) -> Option<u64> {
        match (self, unit) {
            (PortTime::Nanoseconds(count), PortUnit::Nanoseconds)
            | (PortTime::Ticks(count), PortUnit::Ticks) => Some(count),
            _ => None,
        }
    }
}

/// `tsc = tsc_base + (count - base) * rate`, with one rate before the base and one after it, and an error bound that grows
/// with the distance from the base.
///
/// A map's base lies a little ahead of its publication, and before the base it is the map that was published before. So
/// readers of either agree on every stamp that exists, and order by one is order by the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMap {
    /// What the clock counts.
    pub unit: PortUnit,
    /// The port's count at the base.
    pub base: u64,
    /// The time-stamp counter at the base.
    pub tsc_base: u64,
    /// Ticks of the time-stamp counter per count, 32.32 fixed point, from the base on.
    pub tsc_per_count_q32: u64,
    /// The same before the base.
    pub tsc_per_count_q32_before: u64,
    /// Error bound at the base, ticks of the time-stamp counter.
    pub bound_ticks: u64,
    /// How fast the bound grows: parts per billion of the distance.
    pub drift_ppb: u32,
    /// Past this bound there is no reading.
    pub bound_ticks_max: u64,
    /// Health: there are readings in `Converging`, `Converged` and `Holdover`.
    pub state: ClockState,
}

/// What a [`PortMap`] says of a time by the port's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortReading {
    /// The time-stamp counter at that time.
    pub tsc: u64,
    /// How far it may be off, ticks.
    pub bound_ticks: u64,
}

impl PortMap {
    /// A map that gives no reading yet.
    #[must_use]
    pub const fn none(unit: PortUnit) -> PortMap {
        PortMap {
            unit,
            base: 0,
            tsc_base: 0,
            tsc_per_count_q32: 1,
            tsc_per_count_q32_before: 1,
            bound_ticks: 0,
            drift_ppb: 0,
            bound_ticks_max: 0,
            state: ClockState::Initializing,
        }
    }

    /// The counter at `at`; `None` when the map is not fit for use, counts in another unit, or would be further off than
    /// its limit. Whoever gets none stamps by other means.
    #[must_use]
    pub const fn reading(&self, at: PortTime) -> Option<PortReading> {
        if matches!(self.state, ClockState::Initializing | ClockState::Degraded) {
            return None;
        }
        let Some(count) = at.count(self.unit) else { return None };
        let bound_ticks = self.bound_ticks_at(count);
        if bound_ticks > self.bound_ticks_max {
            return None;
        }
        match self.tsc_at(count) {
            Some(tsc) => Some(PortReading { tsc, bound_ticks }),
            None => None,
        }
    }

    /// The counter at `count`, whatever the map's health; `None` when it would be below zero or past 64 bits.
    #[must_use]
    pub const fn tsc_at(&self, count: u64) -> Option<u64> {
        if count >= self.base {
            let ahead = scaled(count - self.base, self.tsc_per_count_q32);
            if ahead > (u64::MAX - self.tsc_base) as u128 { None } else { Some(self.tsc_base + ahead as u64) }
        } else {
            let behind = scaled(self.base - count, self.tsc_per_count_q32_before);
            if behind > self.tsc_base as u128 { None } else { Some(self.tsc_base - behind as u64) }
        }
    }

    /// How far [`PortMap::tsc_at`] may be off, ticks of the counter; saturating.
    #[must_use]
    pub const fn bound_ticks_at(&self, count: u64) -> u64 {
        let distance = scaled(count.abs_diff(self.base), self.tsc_per_count_q32);
        let growth = distance.saturating_mul(self.drift_ppb as u128) / 1_000_000_000;
        if growth > (u64::MAX - self.bound_ticks) as u128 {
            u64::MAX
        } else {
            self.bound_ticks + growth as u64
        }
    }
}

/// `count` by a rate in 32.32 fixed point.
const fn scaled(count: u64, per_count_q32: u64) -> u128 {
    (count as u128 * per_count_q32 as u128) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: PortMap = PortMap {
        unit: PortUnit::Nanoseconds,
        base: 1_000_000,
        tsc_base: 5_000_000,
        tsc_per_count_q32: 3 << 32,
        tsc_per_count_q32_before: 2 << 32,
        bound_ticks: 30,
        drift_ppb: 1_000_000,
        bound_ticks_max: 330,
        state: ClockState::Converged,
    };

    #[test]
    fn a_map_has_a_rate_before_and_after_its_base_and_a_bound_that_grows_both_ways() {
        let reading = |count| MAP.reading(PortTime::Nanoseconds(count));
        assert_eq!(reading(1_000_000), Some(PortReading { tsc: 5_000_000, bound_ticks: 30 }));
        assert_eq!(reading(1_010_000), Some(PortReading { tsc: 5_030_000, bound_ticks: 60 }));
        assert_eq!(reading(990_000), Some(PortReading { tsc: 4_980_000, bound_ticks: 60 }));
        assert_eq!(reading(1_100_000).map(|reading| reading.bound_ticks), Some(330));
        assert_eq!(reading(1_100_400), None, "past the limit there is no reading");
    }

    #[test]
    fn another_unit_an_unfit_map_and_overflow_give_no_reading() {
        assert_eq!(MAP.reading(PortTime::Ticks(1_000_000)), None);
        assert_eq!(PortMap { unit: PortUnit::Ticks, ..MAP }.reading(PortTime::Nanoseconds(1_000_000)), None);
        for state in [ClockState::Initializing, ClockState::Degraded] {
            assert_eq!(PortMap { state, ..MAP }.reading(PortTime::Nanoseconds(1_000_000)), None);
        }
        assert_eq!(PortMap::none(PortUnit::Ticks).reading(PortTime::Ticks(0)), None);
        assert_eq!(PortMap { tsc_base: 10, ..MAP }.tsc_at(1), None);
        assert_eq!(MAP.tsc_at(u64::MAX), None);
        assert_eq!(PortMap { drift_ppb: u32::MAX, ..MAP }.bound_ticks_at(u64::MAX), u64::MAX);
        assert_eq!(PortTime::new(PortUnit::Ticks, 7).count(PortUnit::Ticks), Some(7));
        assert_eq!(PortTime::new(PortUnit::Nanoseconds, 7).unit(), PortUnit::Nanoseconds);
    }
}
