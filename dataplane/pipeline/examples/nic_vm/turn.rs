//! The stage between `rx` and `tx`: sends each event message back where it came from and notes the card's stamps; sends
//! datagrams back without a checksum, which the card fills in.

use crate::{datagram, ptp};
use roko_dpdk::{Mbuf, Timesync};
use roko_pipeline::counters;
use roko_pipeline::link::{OutFrame, RxFrame};
use roko_pipeline::metrics::{Counters, StageMetrics};
use roko_pipeline::poll::{PollContext, Progress, Stage};
use roko_ring::spsc::{Consumer, Producer};
use std::sync::Arc;

/// Polls after which a departure stamp is given up: half a millisecond, as each reads a register over PCIe, about 1 us. A frame
/// on an idle cable leaves within microseconds; the emulator sends while the driver rings its bell.
const TX_STAMP_POLLS: u32 = 500;

counters!(
    /// Counters of [`Turn`].
    TurnCounter {
        /// Event messages sent back.
        Turned = "turned",
        /// Datagrams sent back.
        Datagrams = "datagrams",
        /// Frames that are neither.
        Other = "other",
        /// What found its ring full.
        DroppedRingFull = "dropped_ring_full",
    }
);

/// What the card said of one event message. Times are ns of the card's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turned {
    pub(crate) port: usize,
    pub(crate) event: ptp::Event,
    pub(crate) sequence: u16,
    /// The driver said in the mbuf that the card stamped this frame.
    pub(crate) flagged: bool,
    pub(crate) rx_ns: Option<i64>,
    pub(crate) tx_ns: Option<i64>,
    /// The clock itself, after both stamps were read.
    pub(crate) clock_ns: Option<i64>,
}

/// The stage.
pub(crate) struct Turn {
    port: usize,
    clock: Timesync,
    frames: Consumer<RxFrame<Mbuf>>,
    out: Producer<OutFrame<Mbuf>>,
    turned: Producer<Turned>,
    /// A message that is on its way out, and the polls since.
    leaving: Option<(Turned, u32)>,
    counters: Counters<TurnCounter>,
}

impl Turn {
    pub(crate) fn new(
        port: usize,
        clock: Timesync,
        frames: Consumer<RxFrame<Mbuf>>,
        out: Producer<OutFrame<Mbuf>>,
        turned: Producer<Turned>,
    ) -> Turn {
        Turn { port, clock, frames, out, turned, leaving: None, counters: Counters::new("turn") }
    }

    /// Answers a datagram; what else it is goes no further.
    fn answer(&mut self, mut buf: Mbuf) -> TurnCounter {
        if !datagram::is_one(buf.data()) {
            return TurnCounter::Other;
        }
        datagram::turn(buf.data_mut());
        match self.out.push(OutFrame { buf, origin: None }) {
            Ok(()) => TurnCounter::Datagrams,
            Err(_) => TurnCounter::DroppedRingFull,
        }
    }

    /// Takes one frame. The card holds one stamp, so the next frame waits until this one's are read.
    fn take(&mut self) -> Progress {
        let Some(RxFrame { mut buf, .. }) = self.frames.pop() else { return Progress::default() };
        let Some((event, sequence)) = ptp::read(buf.data()) else {
            let what = self.answer(buf);
            self.counters.count(what);
            return Progress::worked(1);
        };
        let flagged = buf.has_rx_register_timestamp();
        let rx_ns = self.clock.read_rx_ns(buf.timesync_register());
        let data = buf.data_mut();
        let (to, from) = data[..12].split_at_mut(6);
        to.copy_from_slice(from);
        ptp::set_origin_time(data, rx_ns.map_or(0, |ns| ns.max(0) as u64));
        buf.request_tx_register_timestamp();
        let port = self.port;
        let turned = Turned { port, event, sequence, flagged, rx_ns, tx_ns: None, clock_ns: None };
        match self.out.push(OutFrame { buf, origin: None }) {
            Ok(()) => self.leaving = Some((turned, 0)),
            Err(_) => self.counters.count(TurnCounter::DroppedRingFull),
        }
        Progress::worked(1)
    }
}

impl Stage for Turn {
    fn name(&self) -> &'static str {
        "turn"
    }

    fn poll(&mut self, _cx: &mut PollContext) -> Progress {
        let Some((mut turned, polls)) = self.leaving.take() else { return self.take() };
        turned.tx_ns = self.clock.read_tx_ns();
        if turned.tx_ns.is_none() && polls < TX_STAMP_POLLS {
            self.leaving = Some((turned, polls + 1));
        } else {
            turned.clock_ns = self.clock.read_ns().ok();
            self.counters.count(TurnCounter::Turned);
            let kept = self.turned.push(turned);
            self.counters.add(TurnCounter::DroppedRingFull, u64::from(kept.is_err()));
        }
        Progress::worked(1)
    }

    fn housekeeping(&mut self, _cx: &mut PollContext) {
        self.counters.publish();
    }

    fn metrics(&self) -> Arc<StageMetrics> {
        self.counters.shared()
    }
}
