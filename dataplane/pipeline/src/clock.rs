//! The clock page as stages see it: a counter value becomes a moment with its bound, without a system call.

use roko_ring::seqlock::Page;
use roko_wire::NanoMoment;
use roko_wire::clock::ClockMap;
use roko_wire::nano::ClockSource;
use roko_wire::port_clock::{PortMap, StampedBy};

/// A page that holds the map from the time-stamp counter to moments.
pub type ClockPage = Page<ClockMap>;
/// A page that holds the map from a port's own clock to the time-stamp counter.
pub type PortClockPage = Page<PortMap>;

/// When a frame was received, and how sure that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The moment of receipt.
    pub moment: NanoMoment,
    /// Half the width of the interval in which the true time lies, nanoseconds.
    pub bound_ns: u64,
    /// Where the time comes from.
    pub source: ClockSource,
    /// What took the time.
    pub by: StampedBy,
}

impl Received {
    /// What `map` says of counter value `ticks`.
    #[must_use]
    pub const fn from_map(map: &ClockMap, ticks: u64, by: StampedBy) -> Received {
        let reading = map.reading(ticks);
        Received { moment: reading.now, bound_ns: reading.error_bound_ns, source: reading.source, by }
    }

    /// The same, further off by at most `ticks` of the counter.
    #[must_use]
    pub const fn widened(self, map: &ClockMap, ticks: u64) -> Received {
        Received { bound_ns: self.bound_ns.saturating_add(map.ticks_to_nanos(ticks)), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_ring::seqlock::page;
    use roko_wire::nano::ClockState;

    #[test]
    fn a_map_survives_its_page() {
        let map = ClockMap {
            tsc_base: 7,
            base: NanoMoment(u128::from(u64::MAX) * 3),
            nanos_per_tick_q32: 11,
            bound_ns: 13,
            drift_ppb: 17,
            bound_ns_max: 19,
            source: ClockSource::Peers,
            state: ClockState::Holdover,
        };
        let (mut writer, reader) = page(map);
        assert_eq!(reader.read(), map);
        let later = ClockMap { tsc_base: 23, source: ClockSource::Gnss, ..map };
        writer.write(&later);
        assert_eq!(reader.read(), later);
    }
}
