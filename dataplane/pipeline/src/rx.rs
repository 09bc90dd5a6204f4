//! The first stage: takes bursts from the port and says when they came.
//!
//! The NIC's stamp counts where there is one; else one reading of the time-stamp counter, taken right after the burst,
//! stands for all its frames. Ingress never backpressures: a frame that finds the ring full is dropped and counted,
//! because a NIC queue that nobody empties would drop blindly and later.

use crate::clock::{ClockPage, Received};
use crate::link::RxFrame;
use crate::metrics::{Counters, StageMetrics};
use crate::poll::{PollContext, Progress, Stage};
use crate::port::{Burst, FrameBuf, RxPort};
use roko_os::tsc::tsc;
use roko_ring::spsc::Producer;
use std::sync::Arc;

crate::counters!(
    /// Counters of [`Rx`].
    RxCounter {
        /// Frames that the port gave.
        Received = "received",
        /// Their bytes.
        Bytes = "bytes",
        /// Frames with a hardware stamp.
        HardwareStamped = "hardware_stamped",
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

/// The stage.
pub struct Rx<R: RxPort> {
    port: R,
    clock: ClockPage,
    /// Maps the port's own clock; without it hardware stamps are not used.
    port_clock: Option<ClockPage>,
    out: Producer<RxFrame<R::Buf>>,
    burst: Burst<R::Buf>,
    counters: Counters<RxCounter>,
}

impl<R: RxPort> Rx<R> {
    /// The stage over `port`.
    #[must_use]
    pub fn new(
        port: R,
        clock: ClockPage,
        port_clock: Option<ClockPage>,
        out: Producer<RxFrame<R::Buf>>,
    ) -> Rx<R> {
        Rx { port, clock, port_clock, out, burst: Burst::new(), counters: Counters::new("rx") }
    }
}

impl<R: RxPort> Stage for Rx<R> {
    fn name(&self) -> &'static str {
        "rx"
    }

    fn poll(&mut self, _cx: &mut PollContext) -> Progress {
        let count = self.port.rx_burst(&mut self.burst);
        if count == 0 {
            return Progress::default();
        }
        // Read after the burst: a stamp may be late by the poll's gap, never early.
        let software = Received::from_map(&self.clock.read(), tsc(), false);
        let port_map = self.port_clock.as_ref().map(|page| page.read());
        self.counters.add(RxCounter::Received, count as u64);
        let mut dropped = 0;
        for buf in self.burst.drain(..) {
            self.counters.add(RxCounter::Bytes, buf.data().len() as u64);
            let hardware = port_map.as_ref().zip(self.port.hardware_time(&buf));
            let received = hardware.map_or(software, |(map, ticks)| Received::from_map(map, ticks, true));
            self.counters.add(RxCounter::HardwareStamped, u64::from(received.hardware));
            dropped += u64::from(self.out.push(RxFrame { buf, received }).is_err());
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
