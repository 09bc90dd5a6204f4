//! The port: where frames come from and go to. Generic, so that no call per packet is dynamic.
//!
//! `dpdk` drives what DPDK drives: cards, `net_af_packet`, `net_af_xdp`, `net_ring` and the like. [`udp`] takes over a
//! socket of the kernel by io_uring. [`inprocess`] joins two ends in one process; [`rss`] spreads flows over the queues of
//! such a port as a card does. [`replay`] plays a capture back. All pass
//! one conformance suite, `tests/port_conformance`. [`record`] wraps any of them.

use arrayvec::ArrayVec;
use roko_wire::port_clock::{PortTime, PortUnit, StampedBy};

#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod inprocess;
pub mod record;
pub mod replay;
pub mod rss;
pub mod udp;

/// Frames in a burst, at most: what NIC drivers are tuned for.
pub const BURST: usize = 32;

/// A burst of frames.
pub type Burst<B> = ArrayVec<B, BURST>;

/// A frame's memory. Dropping it returns it to its pool.
pub trait FrameBuf: Send + 'static {
    /// The frame.
    fn data(&self) -> &[u8];
    /// The frame, to write.
    fn data_mut(&mut self) -> &mut [u8];
    /// Sets the frame's length; bytes past the old length hold anything.
    ///
    /// # Panics
    /// When `bytes` is over [`FrameBuf::capacity`]: a limit of our own is wrong.
    fn set_len(&mut self, bytes: usize);
    /// The longest frame it holds.
    fn capacity(&self) -> usize;
}

/// What a half of a port counts by itself, since its start. A driver whose device counts shows it elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounts {
    /// Frames that the half dropped: no frame was free, or they cannot be sent this way.
    pub dropped: u64,
    /// System calls that it made.
    pub system_calls: u64,
}

/// The receiving half.
pub trait RxPort: Send + 'static {
    /// A frame's memory.
    type Buf: FrameBuf;
    /// Appends the frames that have arrived, as many as fit. Returns how many.
    fn rx_burst(&mut self, out: &mut Burst<Self::Buf>) -> usize;
    /// When a frame that this port received came, by the port's own clock; `None` when the port has none or it did not stamp
    /// the frame.
    fn stamp(&self, frame: &Self::Buf) -> Option<PortTime>;
    /// What it counts by itself.
    fn counts(&self) -> PortCounts {
        PortCounts::default()
    }
}

/// The sending half.
pub trait TxPort: Send + 'static {
    /// A frame's memory.
    type Buf: FrameBuf;
    /// Sends from the front of `burst` and leaves what the port does not take. Returns how many were sent.
    fn tx_burst(&mut self, burst: &mut Burst<Self::Buf>) -> usize;
    /// Whether the port stamps the departure of [`TxPort::tx_event`]'s frames.
    fn stamps_departures(&self) -> bool {
        false
    }
    /// Sends one frame whose departure is to be stamped; gives it back when the port takes none. Cards stamp one at a time.
    ///
    /// # Errors
    /// The frame, when the port takes none.
    fn tx_event(&mut self, frame: Self::Buf) -> Result<(), Self::Buf> {
        let mut burst = Burst::new();
        burst.push(frame);
        self.tx_burst(&mut burst);
        burst.pop().map_or(Ok(()), Err)
    }
    /// The stamp of a departure, by the port's own clock, once: of the last such frame, or of one before that nobody waited
    /// for.
    fn departure(&mut self) -> Option<PortTime> {
        None
    }
    /// What it counts by itself.
    fn counts(&self) -> PortCounts {
        PortCounts::default()
    }
}

/// Where frames to be written come from.
pub trait FramePool: Clone + Send + 'static {
    /// A frame's memory.
    type Buf: FrameBuf;
    /// An empty frame; `None` when all are in use.
    fn alloc(&self) -> Option<Self::Buf>;
}

/// What receive times a port can give, known when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxStamps {
    /// The card stamps every frame, by a clock that counts this.
    EveryFrame(PortUnit),
    /// The card stamps PTP's event frames only, in registers; the poll stamps the others.
    PtpFrames,
    /// The kernel stamps every frame, by `CLOCK_REALTIME`.
    Kernel,
    /// The port has no clock: the poll that first sees a burst stamps it.
    Poll,
    /// Each frame has the time of a capture, nanoseconds since 1970.
    Capture,
}

impl RxStamps {
    /// As it is shown everywhere.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            RxStamps::EveryFrame(PortUnit::Nanoseconds) => "hardware (nanoseconds)",
            RxStamps::EveryFrame(PortUnit::Ticks) => "hardware (ticks)",
            RxStamps::PtpFrames => "software (hardware for PTP frames only)",
            RxStamps::Kernel => "kernel",
            RxStamps::Poll => "software",
            RxStamps::Capture => "capture",
        }
    }

    /// What takes the time of a frame that has a stamp.
    #[must_use]
    pub const fn by(self) -> StampedBy {
        match self {
            RxStamps::EveryFrame(_) | RxStamps::Capture => StampedBy::Hardware,
            RxStamps::Kernel => StampedBy::Kernel,
            RxStamps::PtpFrames | RxStamps::Poll => StampedBy::Poll,
        }
    }

    /// From the stamp to the frame in the queue, at most, nanoseconds: a card writes descriptors back within its moderation
    /// time, which is below a millisecond; the kernel's soft interrupt may wait for a tick of 250 Hz.
    #[must_use]
    pub const fn delivery_ns_max(self) -> u64 {
        match self {
            RxStamps::Kernel => 4_000_000,
            _ => 1_000_000,
        }
    }
}

/// A port: a receiving half for each of its queues, a sending half and a pool.
pub trait Port {
    /// A frame's memory.
    type Buf: FrameBuf;
    /// The receiving half.
    type Rx: RxPort<Buf = Self::Buf>;
    /// The sending half.
    type Tx: TxPort<Buf = Self::Buf>;
    /// The pool.
    type Pool: FramePool<Buf = Self::Buf>;
    /// Which driver, as it is shown everywhere: `in-process`, `net_ring`, ...
    fn kind(&self) -> &'static str;
    /// What receive times it gives.
    fn rx_stamps(&self) -> RxStamps;
    /// What its device does so that no core has to, in words; empty where there is no device, or it does nothing.
    fn offloads(&self) -> Vec<&'static str> {
        Vec::new()
    }
    /// Whether its sending half fills in the UDP checksums that IPv6 demands, so that nobody need do it before. Not a port that is
    /// recorded: its capture shows frames as they are on the wire.
    fn fills_udp6_checksums(&self) -> bool {
        false
    }
    /// Its receive queues. Frames of one flow come by one queue, in order.
    fn rx_queues(&self) -> usize {
        1
    }
    /// Takes the port apart: a receiving half for each queue.
    fn split_queues(self) -> (Vec<Self::Rx>, Self::Tx, Self::Pool);
    /// Takes a port of one queue apart.
    ///
    /// # Panics
    /// When it has another number of queues: what only one of them received would be all there is.
    fn split(self) -> (Self::Rx, Self::Tx, Self::Pool)
    where
        Self: Sized,
    {
        let (mut rx, tx, pool) = self.split_queues();
        assert_eq!(rx.len(), 1, "the port has several queues: use split_queues");
        (rx.remove(0), tx, pool)
    }
}
