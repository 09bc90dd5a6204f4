//! Frames whose departure is stamped (IEEE 1588's event messages), and the token that makes sure each gets an answer.
//!
//! ```text
//!  EventPort::send ──► EventFrame { frame, TxStamp } ──► tx ── the port stamps ──► TxStamp::stamped ─┐
//!                                                        ├──── it stamps late ───► TxStamp::late ────┼─► EventPort::departed
//!                                                        └──── it never does ────► TxStamp::missed ──┘
//! ```
//!
//! A [`TxStamp`] is the duty to say when one frame left. It is neither copied nor cloned, and its three ends consume it, so
//! no departure is told twice; one that is dropped on the way (its ring is taken down) is counted as missed.

use crate::clock::Received;
use core::sync::atomic::{AtomicU64, Ordering};
use roko_ring::spsc::{Consumer, Producer};
use std::sync::Arc;

/// Which event frame, counted from 0 at each [`EventPort`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub u64);

/// What became of an event frame's departure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It left then.
    Stamped(Received),
    /// It left then, and the port said so later than it should: its exchange is over.
    Late(Received),
    /// Nobody knows when it left.
    Missed,
}

/// A departure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepartureReport {
    /// Of which frame.
    pub id: EventId,
    /// When, if that is known.
    pub departure: Departure,
}

/// How the duties of an [`EventPort`] ended. Each ends once.
#[derive(Debug, Default)]
pub struct EventTally {
    /// Frames taken over.
    sent: AtomicU64,
    stamped: AtomicU64,
    late: AtomicU64,
    missed: AtomicU64,
}

impl EventTally {
    /// Frames taken over, and of these: stamped, late, missed. The others are under way.
    #[must_use]
    pub fn read(&self) -> [u64; 4] {
        [&self.sent, &self.stamped, &self.late, &self.missed].map(|count| count.load(Ordering::Relaxed))
    }
}

/// The duty to say when one event frame left. See the module.
#[must_use = "a departure is stamped, late or missed"]
#[derive(Debug)]
pub struct TxStamp {
    id: EventId,
    is_open: bool,
    tally: Arc<EventTally>,
}

impl TxStamp {
    /// It left at `at`.
    pub fn stamped(self, at: Received) -> DepartureReport {
        let tally = Arc::clone(&self.tally);
        self.end(&tally.stamped, Departure::Stamped(at))
    }

    /// It left at `at`, and that is known too late.
    pub fn late(self, at: Received) -> DepartureReport {
        let tally = Arc::clone(&self.tally);
        self.end(&tally.late, Departure::Late(at))
    }

    /// When it left will never be known.
    pub fn missed(self) -> DepartureReport {
        let tally = Arc::clone(&self.tally);
        self.end(&tally.missed, Departure::Missed)
    }

    fn end(mut self, count: &AtomicU64, departure: Departure) -> DepartureReport {
        self.is_open = false;
        count.fetch_add(1, Ordering::Relaxed);
        DepartureReport { id: self.id, departure }
    }
}

impl Drop for TxStamp {
    fn drop(&mut self) {
        if self.is_open {
            self.tally.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// control to tx: a frame to send, and the duty to say when it left.
pub struct EventFrame<B> {
    pub(crate) frame: B,
    pub(crate) stamp: TxStamp,
}

/// Who sends event frames and learns when they left. One exists a data plane.
pub struct EventPort<B> {
    frames: Producer<EventFrame<B>>,
    departures: Consumer<DepartureReport>,
    next: u64,
    tally: Arc<EventTally>,
}

/// The tx stage's side.
pub struct EventDuties<B> {
    pub(crate) frames: Consumer<EventFrame<B>>,
    pub(crate) departures: Producer<DepartureReport>,
}

/// Both sides over their rings.
#[must_use]
pub fn event_ring<B: Send>(
    (frames, departures): (Producer<EventFrame<B>>, Consumer<DepartureReport>),
    (frames_in, departures_out): (Consumer<EventFrame<B>>, Producer<DepartureReport>),
) -> (EventPort<B>, EventDuties<B>) {
    let port = EventPort { frames, departures, next: 0, tally: Arc::default() };
    (port, EventDuties { frames: frames_in, departures: departures_out })
}

impl<B: Send> EventPort<B> {
    /// Sends a whole frame after those before it, one at a time.
    ///
    /// # Errors
    /// The frame, when too many wait.
    pub fn send(&mut self, frame: B) -> Result<EventId, B> {
        if self.frames.free_slots() == 0 {
            return Err(frame);
        }
        let id = EventId(self.next);
        let stamp = TxStamp { id, is_open: true, tally: Arc::clone(&self.tally) };
        self.tally.sent.fetch_add(1, Ordering::Relaxed);
        // This is the ring's one producer, so the place that was free is free.
        self.frames.push(EventFrame { frame, stamp }).map_err(|refused| refused.frame)?;
        self.next += 1;
        Ok(id)
    }

    /// The next departure that became known.
    pub fn departed(&mut self) -> Option<DepartureReport> {
        self.departures.pop()
    }

    /// How duties ended.
    #[must_use]
    pub fn tally(&self) -> Arc<EventTally> {
        Arc::clone(&self.tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_ring::spsc::ring;
    use roko_wire::NanoMoment;
    use roko_wire::nano::ClockSource;
    use roko_wire::port_clock::StampedBy;

    #[test]
    fn every_duty_ends_once_and_one_that_is_dropped_is_missed() {
        let ((frames, frames_in), (out, departures)) = (ring(4), ring(4));
        let (mut port, mut duties) = event_ring((frames, departures), (frames_in, out));
        let ids: Vec<u64> = (0..4).map(|frame: u8| port.send(frame).expect("there is room").0).collect();
        assert_eq!((ids, port.send(9)), (vec![0, 1, 2, 3], Err(9)));
        let at = Received {
            moment: NanoMoment(7),
            bound_ns: 1,
            source: ClockSource::Ptp,
            by: StampedBy::Hardware,
        };
        let mut take = || duties.frames.pop().expect("it was sent").stamp;
        let (first, second, third) = (take(), take(), take());
        let reports = [first.stamped(at), second.late(at), third.missed()];
        let expected = [Departure::Stamped(at), Departure::Late(at), Departure::Missed];
        for (number, (report, departure)) in reports.into_iter().zip(expected).enumerate() {
            assert_eq!(report, DepartureReport { id: EventId(number as u64), departure });
            assert!(duties.departures.push(report).is_ok());
            assert_eq!(port.departed(), Some(report));
        }
        let tally = port.tally();
        assert_eq!(tally.read(), [4, 1, 1, 1]);
        drop((port, duties));
        assert_eq!(tally.read(), [4, 1, 1, 2], "the fourth was in its ring");
    }
}
