//! The last stage: hands sealed frames to the port, the most urgent class first.
//!
//! What the port does not take is kept and offered again; nothing is dropped here.
//!
//! Event frames ([`crate::event`]) go before all others, one at a time: a card has one register for a departure. The time
//! comes with a later poll. Where the port stamps no departures, the counter around the call that sends does.

use crate::clock::{ClockPage, PortClockPage, Received};
use crate::event::{DepartureReport, EventDuties, EventFrame, TxStamp};
use crate::latency::{Origin, OutwardLatency};
use crate::link::OutFrame;
use crate::metrics::{Counters, StageMetrics};
use crate::poll::{PollContext, Progress, Stage};
use crate::port::{BURST, Burst, FrameBuf, TxPort};
use arrayvec::ArrayVec;
use roko_os::tsc::tsc;
use roko_ring::spsc::Consumer;
use roko_wire::port_clock::{PortTime, StampedBy};
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
        /// Event frames that were sent.
        EventsSent = "events_sent",
        /// Event frames whose departure is known in time.
        DeparturesStamped = "departures_stamped",
        /// Departures that became known too late.
        DeparturesLate = "departures_late",
        /// Departures that nobody knows.
        DeparturesMissed = "departures_missed",
        /// Stamps of departures that nobody waited for, or that cannot be true.
        DeparturesStray = "departures_stray",
        /// Reports of departures dropped because the ring to control was full.
        DeparturesUnread = "departures_unread",
        /// Frames that the port itself dropped.
        PortDropped = "port_dropped",
        /// System calls that the port made.
        PortSystemCalls = "port_system_calls",
    }
);

/// Past this a departure is late, nanoseconds. A card has the stamp when the frame has left, tens of microseconds after; PTP's
/// shortest interval between two exchanges is 7.8 ms (IEEE 1588-2019, 7.7.2.1: 2^-7 s), so the next is not near.
const LATE_NS: u64 = 2_000_000;
/// Past this it is missed, nanoseconds: linuxptp's `tx_timestamp_timeout`.
const MISSED_NS: u64 = 10_000_000;

/// An event frame that has been sent.
struct Sent {
    stamp: TxStamp,
    /// The counter before it was given to the port.
    from: u64,
}

/// Event frames on their way through the stage.
struct Events<B> {
    duties: EventDuties<B>,
    clock: ClockPage,
    port_clock: Option<PortClockPage>,
    /// The frame that the port did not take yet.
    unsent: Option<EventFrame<B>>,
    sent: Option<Sent>,
}

impl<B: Send> Events<B> {
    /// Sends the next event frame, or asks for the stamp of the last. Returns how much was done.
    fn poll<T: TxPort<Buf = B>>(
        &mut self,
        port: &mut T,
        counters: &mut Counters<TxCounter>,
        now: u64,
    ) -> usize {
        if let Some(sent) = self.sent.take() {
            return self.ask(sent, port, counters, now);
        }
        let Some(EventFrame { frame, stamp }) = self.unsent.take().or_else(|| self.duties.frames.pop())
        else {
            return 0;
        };
        while port.departure().is_some() {
            counters.count(TxCounter::DeparturesStray);
        }
        let from = tsc();
        if let Err(frame) = port.tx_event(frame) {
            self.unsent = Some(EventFrame { frame, stamp });
            return 0;
        }
        let until = tsc();
        counters.count(TxCounter::EventsSent);
        if port.stamps_departures() {
            self.sent = Some(Sent { stamp, from });
        } else {
            let map = self.clock.read();
            let at =
                Received::from_map(&map, until, StampedBy::Poll).widened(&map, until.saturating_sub(from));
            counters.count(TxCounter::DeparturesStamped);
            self.report(stamp.stamped(at), counters);
        }
        1
    }

    fn ask<T: TxPort<Buf = B>>(
        &mut self,
        sent: Sent,
        port: &mut T,
        counters: &mut Counters<TxCounter>,
        now: u64,
    ) -> usize {
        let age_ns = self.clock.read().ticks_to_nanos(now.saturating_sub(sent.from));
        if let Some(at) = port.departure() {
            let Some(at) = self.read(at, sent.from) else {
                counters.count(TxCounter::DeparturesStray);
                self.sent = Some(sent);
                return 1;
            };
            let (counter, report) = if age_ns <= LATE_NS {
                (TxCounter::DeparturesStamped, sent.stamp.stamped(at))
            } else {
                (TxCounter::DeparturesLate, sent.stamp.late(at))
            };
            counters.count(counter);
            self.report(report, counters);
            return 1;
        }
        if age_ns > MISSED_NS {
            counters.count(TxCounter::DeparturesMissed);
            self.report(sent.stamp.missed(), counters);
            return 1;
        }
        self.sent = Some(sent);
        0
    }

    /// A departure's time. `None` when the port's clock is not mapped now, or the stamp is of a frame before: it lies before
    /// this one was sent, or in the future.
    fn read(&self, at: PortTime, from: u64) -> Option<Received> {
        let (map, now) = (self.clock.read(), tsc());
        let reading = self.port_clock.as_ref()?.read().reading(at)?;
        let latest = reading.tsc.saturating_add(reading.bound_ticks);
        if latest < from || reading.tsc > now.saturating_add(reading.bound_ticks) {
            return None;
        }
        let received = Received::from_map(&map, reading.tsc.clamp(from, now), StampedBy::Hardware);
        Some(received.widened(&map, reading.bound_ticks))
    }

    fn report(&mut self, report: DepartureReport, counters: &mut Counters<TxCounter>) {
        let full = self.duties.departures.push(report).is_err();
        counters.add(TxCounter::DeparturesUnread, u64::from(full));
    }
}

/// The stage.
pub struct Tx<T: TxPort> {
    port: T,
    events: Events<T::Buf>,
    by_class: [Consumer<OutFrame<T::Buf>>; 4],
    /// Answers and questions of the slow path: the last class of all.
    slow_path: Option<Consumer<OutFrame<T::Buf>>>,
    burst: Burst<T::Buf>,
    /// Of each frame of the burst.
    origins: ArrayVec<Option<Origin>, BURST>,
    /// Frames of the burst that were offered before.
    retained: usize,
    latency: OutwardLatency,
    counters: Counters<TxCounter>,
}

impl<T: TxPort> Tx<T> {
    /// The stage over `port`; the rings by class, the most urgent first; event frames and what maps their departures.
    #[must_use]
    pub fn new(
        port: T,
        by_class: [Consumer<OutFrame<T::Buf>>; 4],
        duties: EventDuties<T::Buf>,
        (clock, port_clock): (ClockPage, Option<PortClockPage>),
    ) -> Tx<T> {
        let latency = OutwardLatency::new(&clock);
        let counters = latency.counters("tx");
        let events = Events { duties, clock, port_clock, unsent: None, sent: None };
        let (burst, origins) = (Burst::new(), ArrayVec::new());
        Tx { port, events, by_class, slow_path: None, burst, origins, retained: 0, latency, counters }
    }

    /// The same, with frames of the slow path sent when nothing else waits.
    #[must_use]
    pub fn with_slow_path(mut self, frames: Option<Consumer<OutFrame<T::Buf>>>) -> Tx<T> {
        self.slow_path = frames;
        self
    }
}

impl<T: TxPort> Stage for Tx<T> {
    fn name(&self) -> &'static str {
        "tx"
    }

    fn poll(&mut self, cx: &mut PollContext) -> Progress {
        let mut work = self.events.poll(&mut self.port, &mut self.counters, cx.tsc);
        loop {
            for ring in self.by_class.iter_mut().chain(&mut self.slow_path) {
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
