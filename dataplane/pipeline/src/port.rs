//! The port: where frames come from and go to. Generic, so that no call per packet is dynamic.
//!
//! `dpdk` drives what DPDK drives: cards, `net_af_packet`, `net_af_xdp`, `net_ring` and the like. [`udp`] takes over a
//! socket of the kernel by io_uring. [`inprocess`] joins two ends in one process. [`replay`] plays a capture back. All pass
//! one conformance suite, `tests/port_conformance`. [`record`] wraps any of them.

use arrayvec::ArrayVec;

#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod inprocess;
pub mod record;
pub mod replay;
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
    /// When the port's own clock saw a frame that this port received, in that clock's ticks; `None` when the port has
    /// no clock or it did not stamp the frame.
    fn hardware_time(&self, frame: &Self::Buf) -> Option<u64>;
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

/// Where a port's receive times come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampKind {
    /// The NIC stamps each frame.
    Hardware,
    /// The first poll that sees a burst stamps it.
    Software,
}

/// A port: two halves and a pool.
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
    /// Where receive times come from.
    fn timestamps(&self) -> TimestampKind;
    /// Takes the port apart.
    fn split(self) -> (Self::Rx, Self::Tx, Self::Pool);
}
