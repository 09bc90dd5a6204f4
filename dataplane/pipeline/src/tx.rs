//! The last stage: hands sealed frames to the port, the most urgent class first.
//!
//! What the port does not take is kept and offered again; nothing is dropped here.

use crate::clock::ClockPage;
use crate::latency::{Origin, OutwardLatency};
use crate::link::OutFrame;
use crate::metrics::{Counters, StageMetrics};
use crate::poll::{PollContext, Progress, Stage};
use crate::port::{BURST, Burst, FrameBuf, TxPort};
use arrayvec::ArrayVec;
use roko_ring::spsc::Consumer;
use std::sync::Arc;

crate::counters!(
    /// Counters of [`Tx`].
    TxCounter {
        /// Frames that the port took.
        Sent = "sent",
        /// Their bytes.
        Bytes = "bytes",
        /// Frames that the port did not take at the first offer.
        Retained = "retained",
        /// Frames that the port itself dropped.
        PortDropped = "port_dropped",
        /// System calls that the port made.
        PortSystemCalls = "port_system_calls",
    }
);

/// The stage.
pub struct Tx<T: TxPort> {
    port: T,
    by_class: [Consumer<OutFrame<T::Buf>>; 4],
    burst: Burst<T::Buf>,
    /// Of each frame of the burst.
    origins: ArrayVec<Option<Origin>, BURST>,
    /// Frames of the burst that were offered before.
    retained: usize,
    latency: OutwardLatency,
    counters: Counters<TxCounter>,
}

impl<T: TxPort> Tx<T> {
    /// The stage over `port`; the rings by class, the most urgent first.
    #[must_use]
    pub fn new(port: T, clock: &ClockPage, by_class: [Consumer<OutFrame<T::Buf>>; 4]) -> Tx<T> {
        let latency = OutwardLatency::new(clock);
        let counters = latency.counters("tx");
        let (burst, origins) = (Burst::new(), ArrayVec::new());
        Tx { port, by_class, burst, origins, retained: 0, latency, counters }
    }
}

impl<T: TxPort> Stage for Tx<T> {
    fn name(&self) -> &'static str {
        "tx"
    }

    fn poll(&mut self, _cx: &mut PollContext) -> Progress {
        let mut work = 0;
        loop {
            for ring in &mut self.by_class {
                while !self.burst.is_full()
                    && let Some(OutFrame { buf, origin }) = ring.pop()
                {
                    self.burst.push(buf);
                    self.origins.push(origin);
                }
            }
            let offered = self.burst.len();
            if offered == 0 {
                return Progress::worked(work);
            }
            let bytes: usize = self.burst.iter().map(|buf| buf.data().len()).sum();
            let sent = self.port.tx_burst(&mut self.burst);
            for origin in self.origins.drain(..sent) {
                self.latency.note(origin);
            }
            self.latency.settle();
            let left: usize = self.burst.iter().map(|buf| buf.data().len()).sum();
            self.counters.add(TxCounter::Sent, sent as u64);
            self.counters.add(TxCounter::Bytes, (bytes - left) as u64);
            work += sent;
            if !self.burst.is_empty() {
                let retained_before = self.retained.saturating_sub(sent);
                self.counters.add(TxCounter::Retained, (self.burst.len() - retained_before) as u64);
                self.retained = self.burst.len();
                return Progress { work, backpressured: true };
            }
            self.retained = 0;
            if offered < BURST || work >= 4 * BURST {
                return Progress::worked(work);
            }
        }
    }

    fn housekeeping(&mut self, _cx: &mut PollContext) {
        let port = self.port.counts();
        self.counters.set(TxCounter::PortDropped, port.dropped);
        self.counters.set(TxCounter::PortSystemCalls, port.system_calls);
        self.latency.publish();
        self.counters.publish();
    }

    fn metrics(&self) -> Arc<StageMetrics> {
        self.counters.shared()
    }
}
