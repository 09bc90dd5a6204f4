//! The map from the time-stamp counter to [`NanoMoment`]: plain data in a seqlock page that every core reads without
//! a system call. The time crate calibrates and publishes it.

use crate::nano::{ClockReading, ClockSource, ClockState, NanoMoment};

/// `moment = base + (tsc - tsc_base) * nanos_per_tick`, with an error bound that grows with the map's age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockMap {
    /// Counter at the base.
    pub tsc_base: u64,
    /// Moment at the base.
    pub base: NanoMoment,
    /// Nanoseconds per tick, 32.32 fixed point.
    pub nanos_per_tick_q32: u64,
    /// Error bound at the base, nanoseconds.
    pub bound_ns: u64,
    /// How fast the bound grows: parts per billion of the age.
    pub drift_ppb: u32,
    /// Past this bound the clock is degraded, nanoseconds.
    pub bound_ns_max: u64,
    /// Where the time comes from.
    pub source: ClockSource,
    /// Health at the base.
    pub state: ClockState,
}

impl ClockMap {
    /// The moment of counter value `tsc`; values before the base extrapolate backwards.
    #[must_use]
    pub const fn moment(&self, tsc: u64) -> NanoMoment {
        if tsc >= self.tsc_base {
            self.base.saturating_add(self.ticks_to_nanos(tsc - self.tsc_base))
        } else {
            self.base.saturating_sub(self.ticks_to_nanos(self.tsc_base - tsc))
        }
    }

    /// Ticks as nanoseconds; `u64::MAX` when over 584 years.
    #[must_use]
    pub const fn ticks_to_nanos(&self, ticks: u64) -> u64 {
        saturate((ticks as u128 * self.nanos_per_tick_q32 as u128) >> 32)
    }

    /// The reading at counter value `tsc`, bound and health included.
    #[must_use]
    pub const fn reading(&self, tsc: u64) -> ClockReading {
        let age_ns = self.ticks_to_nanos(tsc.abs_diff(self.tsc_base));
        let growth = saturate(age_ns as u128 * self.drift_ppb as u128 / 1_000_000_000);
        let error_bound_ns = self.bound_ns.saturating_add(growth);
        let state = if error_bound_ns > self.bound_ns_max { ClockState::Degraded } else { self.state };
        ClockReading { now: self.moment(tsc), error_bound_ns, source: self.source, state }
    }
}

const fn saturate(value: u128) -> u64 {
    if value > u64::MAX as u128 { u64::MAX } else { value as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_linear_and_its_bound_grows_until_it_is_degraded() {
        let map = ClockMap {
            tsc_base: 1_000,
            base: NanoMoment(5_000_000_000),
            nanos_per_tick_q32: 1 << 31, // 2 GHz
            bound_ns: 100,
            drift_ppb: 50_000,
            bound_ns_max: 1_000,
            source: ClockSource::System,
            state: ClockState::Converged,
        };
        assert_eq!(map.moment(1_000 + 2_000), NanoMoment(5_000_001_000));
        assert_eq!(map.moment(0), NanoMoment(4_999_999_500));
        let after_10_ms = map.reading(1_000 + 20_000_000);
        assert_eq!((after_10_ms.error_bound_ns, after_10_ms.state), (600, ClockState::Converged));
        assert_eq!(map.reading(1_000 + 40_000_000).state, ClockState::Degraded);
    }

    #[test]
    fn an_age_past_64_bits_wrapped_to_a_small_bound() {
        let map = ClockMap {
            tsc_base: 0,
            base: NanoMoment(0),
            nanos_per_tick_q32: 2 << 32, // 2 ns a tick
            bound_ns: 0,
            drift_ppb: 1_000_000_000,
            bound_ns_max: 1_000,
            source: ClockSource::Gnss,
            state: ClockState::Converged,
        };
        assert_eq!(map.ticks_to_nanos(1 << 63), u64::MAX);
        let reading = map.reading(1 << 63);
        assert_eq!((reading.error_bound_ns, reading.state), (u64::MAX, ClockState::Degraded));
    }
}
