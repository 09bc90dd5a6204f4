//! The first stage: takes bursts from the port and says when they came.
//!
//! The port's own stamp counts where there is one: its clock is mapped to the time-stamp counter, and the counter to the
//! moment. Else one reading of the counter, taken right after the burst, stands for all its frames, further off by the time
//! since the queue was last seen empty. A stamp that contradicts what the poll itself knows is not used: no frame comes
//! after the poll that took it, or long before a poll that found the queue empty. So a clock that was stepped, or a
//! map that is wrong, costs precision and never truth.
//!
//! Ingress never backpressures: a frame that finds the ring full is dropped and counted, because a NIC queue that nobody
//! empties would drop blindly and later.

use crate::clock::{ClockPage, PortClockPage, Received};
use crate::link::RxFrame;
use crate::metrics::{Counters, StageMetrics};
use crate::poll::{PollContext, Progress, Stage};
use crate::port::{BURST, Burst, FrameBuf, RxPort, RxStamps};
use roko_os::tsc::tsc;
use roko_ring::spsc::Producer;
use roko_wire::clock::ClockMap;
use roko_wire::port_clock::{PortMap, PortTime, StampedBy};
use std::sync::Arc;

crate::counters!(
    /// Counters of [`Rx`].
    RxCounter {
        /// Frames that the port gave.
        Received = "received",
        /// Their bytes.
        Bytes = "bytes",
        /// Frames with a stamp of the card, or of a capture.
        HardwareStamped = "hardware_stamped",
        /// Frames with a stamp of the kernel.
        KernelStamped = "kernel_stamped",
        /// Frames that the poll stamped.
        PollStamped = "poll_stamped",
        /// Stamps of the port that were not used: its clock is not mapped now, or the stamp cannot be true.
        StampRefused = "stamp_refused",
        /// Error bound of the last frame's time, nanoseconds.
        StampBoundNs = "stamp_bound_ns",
        /// Frames passed on.
        Passed = "passed",
        /// Frames dropped because the ring to the filter was full.
        DroppedRingFull = "dropped_ring_full",
        /// Frames that the port itself dropped.
        PortDropped = "port_dropped",
        /// System calls that the port made.
        PortSystemCalls = "port_system_calls",
    }
);

/// What a burst's frames are stamped by: read once a burst.
struct Stamper {
    stamps: RxStamps,
    clock: ClockMap,
    port: Option<PortMap>,
    /// The counter right after the burst.
    polled_at: u64,
    /// The counter before the last poll that left the queue empty.
    empty_at: Option<u64>,
}

impl Stamper {
    /// The time by the poll: a frame came since the queue was empty, and not after the poll.
    fn poll(&self) -> Received {
        let since_empty = self.empty_at.map_or(0, |at| self.polled_at.saturating_sub(at));
        Received::from_map(&self.clock, self.polled_at, StampedBy::Poll).widened(&self.clock, since_empty)
    }

    /// The time by the port's stamp; `None` when the stamp cannot be used.
    fn port(&self, at: PortTime) -> Option<Received> {
        if let (RxStamps::Capture, PortTime::Nanoseconds(time)) = (self.stamps, at) {
            // The capture's time is the counter that the clock is a map of.
            return Some(Received::from_map(&self.clock, time, StampedBy::Hardware));
        }
        let reading = self.port.as_ref()?.reading(at)?;
        if reading.tsc > self.polled_at.saturating_add(reading.bound_ticks) {
            return None;
        }
        let latest = reading.tsc.saturating_add(reading.bound_ticks);
        if let Some(early_by) = self.empty_at.and_then(|empty_at| empty_at.checked_sub(latest))
            && self.clock.ticks_to_nanos(early_by) > self.stamps.delivery_ns_max()
        {
            return None;
        }
        let tsc = reading.tsc.min(self.polled_at);
        let received = Received::from_map(&self.clock, tsc, self.stamps.by());
        Some(received.widened(&self.clock, reading.bound_ticks))
    }
}

/// The stage.
pub struct Rx<R: RxPort> {
    port: R,
    stamps: RxStamps,
    clock: ClockPage,
    /// Maps the port's own clock to the counter; without it the port's stamps are not used.
    port_clock: Option<PortClockPage>,
    out: Producer<RxFrame<R::Buf>>,
    burst: Burst<R::Buf>,
    empty_at: Option<u64>,
    counters: Counters<RxCounter>,
}

impl<R: RxPort> Rx<R> {
    /// The stage over `port`, which gives `stamps`.
    #[must_use]
    pub fn new(
        (port, stamps): (R, RxStamps),
        clock: ClockPage,
        port_clock: Option<PortClockPage>,
        out: Producer<RxFrame<R::Buf>>,
    ) -> Rx<R> {
        let (burst, counters) = (Burst::new(), Counters::new("rx"));
        Rx { port, stamps, clock, port_clock, out, burst, empty_at: None, counters }
    }

    /// The same, as the stage of one lane.
    #[must_use]
    pub fn in_lane(mut self, lane: Option<u8>) -> Rx<R> {
        self.counters = self.counters.in_lane(lane);
        self
    }
}

impl<R: RxPort> Stage for Rx<R> {
    fn name(&self) -> &'static str {
        "rx"
    }

    fn poll(&mut self, cx: &mut PollContext) -> Progress {
        let count = self.port.rx_burst(&mut self.burst);
        if count == 0 {
            self.empty_at = Some(cx.tsc);
            return Progress::default();
        }
        let stamper = Stamper {
            stamps: self.stamps,
            clock: self.clock.read(),
            port: self.port_clock.as_ref().map(|page| page.read()),
            polled_at: tsc(),
            empty_at: self.empty_at,
        };
        let polled = stamper.poll();
        self.counters.add(RxCounter::Received, count as u64);
        let mut dropped = 0;
        for buf in self.burst.drain(..) {
            self.counters.add(RxCounter::Bytes, buf.data().len() as u64);
            let stamped = self.port.stamp(&buf).map(|at| stamper.port(at));
            self.counters.add(RxCounter::StampRefused, u64::from(stamped == Some(None)));
            let received = stamped.flatten().unwrap_or(polled);
            self.counters.count(match received.by {
                StampedBy::Poll => RxCounter::PollStamped,
                StampedBy::Kernel => RxCounter::KernelStamped,
                StampedBy::Hardware => RxCounter::HardwareStamped,
            });
            self.counters.set(RxCounter::StampBoundNs, received.bound_ns);
            dropped += u64::from(self.out.push(RxFrame { buf, received }).is_err());
        }
        if count < BURST {
            self.empty_at = Some(cx.tsc);
        }
        self.counters.add(RxCounter::DroppedRingFull, dropped);
        self.counters.add(RxCounter::Passed, count as u64 - dropped);
        Progress::worked(count)
    }

    fn housekeeping(&mut self, _cx: &mut PollContext) {
        let port = self.port.counts();
        self.counters.set(RxCounter::PortDropped, port.dropped);
        self.counters.set(RxCounter::PortSystemCalls, port.system_calls);
        self.counters.publish();
    }

    fn metrics(&self) -> Arc<StageMetrics> {
        self.counters.shared()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_wire::NanoMoment;
    use roko_wire::nano::{ClockSource, ClockState};
    use roko_wire::port_clock::PortUnit;

    /// A counter of 1 GHz, and a card's clock that showed 0 when the counter showed 5,000,000.
    fn stamper(stamps: RxStamps, polled_at: u64, empty_at: u64) -> Stamper {
        let clock = ClockMap {
            tsc_base: 0,
            base: NanoMoment(1_000_000_000),
            nanos_per_tick_q32: 1 << 32,
            bound_ns: 100,
            drift_ppb: 0,
            bound_ns_max: 1_000,
            source: ClockSource::Ptp,
            state: ClockState::Converged,
        };
        let port = PortMap {
            tsc_base: 5_000_000,
            tsc_per_count_q32: 1 << 32,
            tsc_per_count_q32_before: 1 << 32,
            bound_ticks: 20,
            bound_ticks_max: 1_000,
            state: ClockState::Converged,
            ..PortMap::none(PortUnit::Nanoseconds)
        };
        Stamper { stamps, clock, port: Some(port), polled_at, empty_at: Some(empty_at) }
    }

    const EVERY: RxStamps = RxStamps::EveryFrame(PortUnit::Nanoseconds);

    #[test]
    fn the_ports_stamp_counts_with_both_bounds() {
        let received = stamper(EVERY, 8_000_000, 7_900_000).port(PortTime::Nanoseconds(2_950_000));
        let received = received.expect("it came between two polls");
        assert_eq!((received.moment.0, received.bound_ns), (1_007_950_000, 120));
        assert_eq!((received.by, received.source), (StampedBy::Hardware, ClockSource::Ptp));
        // Within its bound a stamp may seem to lie after the poll; no frame does.
        let received = stamper(EVERY, 8_000_000, 7_900_000).port(PortTime::Nanoseconds(3_000_015));
        assert_eq!(received.map(|received| received.moment.0), Some(1_008_000_000));
    }

    #[test]
    fn a_stamp_that_contradicts_the_poll_is_refused() {
        let at = |stamps, count| stamper(stamps, 8_000_000, 7_900_000).port(PortTime::Nanoseconds(count));
        assert!(at(EVERY, 3_000_021).is_none(), "it is after the poll");
        assert!(at(EVERY, 1_900_000).is_some(), "the card took its time");
        assert!(at(EVERY, 1_899_979).is_none(), "the queue was empty a millisecond later");
        assert!(at(RxStamps::Kernel, 1_899_979).is_some(), "the kernel may take four");
        assert!(stamper(EVERY, 8_000_000, 7_900_000).port(PortTime::Ticks(2_950_000)).is_none());
        let unmapped = Stamper { port: None, ..stamper(EVERY, 8_000_000, 7_900_000) };
        assert!(unmapped.port(PortTime::Nanoseconds(2_950_000)).is_none());
    }

    #[test]
    fn the_polls_time_is_as_sure_as_the_queue_was_lately_empty() {
        let received = stamper(RxStamps::Poll, 8_000_000, 7_900_000).poll();
        assert_eq!((received.moment.0, received.bound_ns), (1_008_000_000, 100_100));
        assert_eq!(received.by, StampedBy::Poll);
    }

    #[test]
    fn a_captures_time_is_the_clocks_own() {
        let received = stamper(RxStamps::Capture, 1, 1).port(PortTime::Nanoseconds(77));
        assert_eq!(received.map(|at| (at.moment.0, at.by)), Some((1_000_000_077, StampedBy::Hardware)));
    }
}
