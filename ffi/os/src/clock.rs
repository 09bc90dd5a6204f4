//! The kernel's clocks as plain nanoseconds.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// `CLOCK_MONOTONIC_RAW`: nanoseconds since an arbitrary start, at the oscillator's own rate. No servo of the
/// host bends it, so it is what the chain's clock is disciplined on.
#[inline]
#[must_use]
pub fn monotonic_raw_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::MonotonicRaw))
}

/// `CLOCK_MONOTONIC`: nanoseconds since an arbitrary start, at a rate bent by the host's time service.
#[inline]
#[must_use]
pub fn monotonic_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// `CLOCK_REALTIME`: Unix time in nanoseconds. It jumps when the host's time is set. 0 before 1970.
#[inline]
#[must_use]
pub fn realtime_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}

/// A reading as nanoseconds: enough until the year 2554.
const fn nanoseconds(at: Timespec) -> u64 {
    if at.tv_sec < 0 { 0 } else { at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_run_forward_and_real_time_is_past_2020() {
        let (raw, steady) = (monotonic_raw_ns(), monotonic_ns());
        std::thread::sleep(core::time::Duration::from_millis(2));
        assert!(monotonic_raw_ns() >= raw + 1_500_000);
        assert!(monotonic_ns() >= steady + 2_000_000);
        assert!(realtime_ns() > 1_577_836_800_000_000_000);
    }
}
