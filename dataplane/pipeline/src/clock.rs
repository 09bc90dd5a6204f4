//! The clock page as stages see it: a counter value becomes a moment with its bound, without a system call.

use roko_ring::seqlock::Page;
use roko_ring::words::Words;
use roko_wire::NanoMoment;
use roko_wire::clock::ClockMap;
use roko_wire::nano::{ClockSource, ClockState};

/// A [`ClockMap`] as the words of a page. Torn words, which the page throws away, read as a degraded system clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockWords(pub ClockMap);

/// A page that holds the map from a counter to moments.
pub type ClockPage = Page<ClockWords>;

impl Words for ClockWords {
    const WORDS: usize = 9;
    fn put(&self, sink: &mut impl FnMut(u64)) {
        let map = &self.0;
        map.base.0.put(sink);
        for word in [map.tsc_base, map.nanos_per_tick_q32, map.bound_ns, map.bound_ns_max] {
            sink(word);
        }
        sink(u64::from(map.drift_ppb));
        sink(map.source as u64);
        sink(map.state as u64);
    }
    fn take(source: &mut impl FnMut() -> u64) -> ClockWords {
        let base = NanoMoment(u128::take(source));
        let [tsc_base, nanos_per_tick_q32, bound_ns, bound_ns_max] = core::array::from_fn(|_| source());
        ClockWords(ClockMap {
            tsc_base,
            base,
            nanos_per_tick_q32,
            bound_ns,
            bound_ns_max,
            drift_ppb: source() as u32,
            source: ClockSource::from_byte(source() as u8).unwrap_or(ClockSource::System),
            state: match source() {
                0 => ClockState::Initializing,
                1 => ClockState::Converging,
                2 => ClockState::Converged,
                3 => ClockState::Holdover,
                _ => ClockState::Degraded,
            },
        })
    }
}

/// When a frame was received, and how sure that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The moment of receipt.
    pub moment: NanoMoment,
    /// Half the width of the interval in which the true time lies, nanoseconds.
    pub bound_ns: u64,
    /// Where the time comes from.
    pub source: ClockSource,
    /// Stamped by the NIC, not by the poll that first saw the frame.
    pub hardware: bool,
}

impl Received {
    /// What `map` says of counter value `ticks`.
    #[must_use]
    pub const fn from_map(map: &ClockMap, ticks: u64, hardware: bool) -> Received {
        let reading = map.reading(ticks);
        Received { moment: reading.now, bound_ns: reading.error_bound_ns, source: reading.source, hardware }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_ring::seqlock::page;

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
        let (mut writer, reader) = page(ClockWords(map));
        assert_eq!(reader.read(), ClockWords(map));
        let later = ClockWords(ClockMap { tsc_base: 23, source: ClockSource::Gnss, ..map });
        writer.write(&later);
        assert_eq!(reader.read(), later);
    }
}
