//! Whether a proposal's time lies inside a validator's own window: proposer-based timestamps with a local check.
//!
//! A pure function. An untimely block is skipped, nothing more: clocks never decide safety.

use roko_wire::NanoMoment;

/// Growth of the window for each skipped view, percent.
pub const WINDOW_GROWTH_PERCENT: u64 = 10;
/// The window stops growing after this many skipped views, at seven times its size.
pub const WINDOW_GROWTH_VIEWS_MAX: u64 = 60;

/// The window's two parts, from genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWindow {
    /// Longest way of a proposal from its leader, and no longer.
    pub delay_ns: u64,
    /// How far two good clocks may be apart.
    pub precision_ns: u64,
}

/// How a proposal's time compares with the window at the moment it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeliness {
    /// Inside.
    Timely,
    /// Before the window by this much.
    TooOld {
        /// Nanoseconds before the window's start.
        by_ns: u64,
    },
    /// After the window by this much.
    TooNew {
        /// Nanoseconds after the window's end.
        by_ns: u64,
    },
    /// Not above its parent's time, whatever the window.
    NotAboveParent,
}

/// Compares a block's time with `[received - delay - precision, received + precision]`, both parts grown by
/// 10 % for each view skipped between the parent's view and the block's.
#[must_use]
pub fn timeliness(
    block_time: NanoMoment,
    parent_time: NanoMoment,
    received: NanoMoment,
    window: TimeWindow,
    skipped_views: u64,
) -> Timeliness {
    if block_time <= parent_time {
        return Timeliness::NotAboveParent;
    }
    let grow = |nanos: u64| {
        let percent = 100 + WINDOW_GROWTH_PERCENT * skipped_views.min(WINDOW_GROWTH_VIEWS_MAX);
        u64::try_from(u128::from(nanos) * u128::from(percent) / 100).unwrap_or(u64::MAX)
    };
    let (delay_ns, precision_ns) = (grow(window.delay_ns), grow(window.precision_ns));
    let earliest = received.saturating_sub(delay_ns).saturating_sub(precision_ns);
    let latest = received.saturating_add(precision_ns);
    if block_time < earliest {
        Timeliness::TooOld { by_ns: earliest.nanos_since(block_time) }
    } else if block_time > latest {
        Timeliness::TooNew { by_ns: block_time.nanos_since(latest) }
    } else {
        Timeliness::Timely
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: TimeWindow = TimeWindow { delay_ns: 100, precision_ns: 10 };

    fn at(block: u128, skipped: u64) -> Timeliness {
        timeliness(NanoMoment(block), NanoMoment(5), NanoMoment(1_000), WINDOW, skipped)
    }

    #[test]
    fn the_window_includes_its_edges() {
        assert_eq!(at(890, 0), Timeliness::Timely);
        assert_eq!(at(1_010, 0), Timeliness::Timely);
        assert_eq!(at(889, 0), Timeliness::TooOld { by_ns: 1 });
        assert_eq!(at(1_011, 0), Timeliness::TooNew { by_ns: 1 });
    }

    #[test]
    fn the_window_grows_with_skipped_views_and_stops() {
        assert_eq!(at(879, 1), Timeliness::Timely);
        assert_eq!(at(878, 1), Timeliness::TooOld { by_ns: 1 });
        assert_eq!(at(230, 60), Timeliness::Timely);
        assert_eq!(at(229, u64::MAX), Timeliness::TooOld { by_ns: 1 });
    }

    #[test]
    fn time_must_rise() {
        assert_eq!(at(5, 0), Timeliness::NotAboveParent);
        let whole = TimeWindow { delay_ns: u64::MAX, precision_ns: u64::MAX };
        let edge = timeliness(NanoMoment::MAX, NanoMoment::ZERO, NanoMoment::MAX, whole, u64::MAX);
        assert_eq!(edge, Timeliness::Timely);
    }
}
