//! Two port ends joined by rings, in one process: a devnet without DPDK, and tests.
//!
//! A frame moves by its pointer, never by copy. Its memory goes back to the pool it came from when it is dropped, on
//! whichever thread that happens.

use super::rss::RssTx;
use super::{Burst, FrameBuf, FramePool, Port, RxPort, RxStamps, TxPort};
use crossbeam::queue::ArrayQueue;
use roko_ring::spsc::{Consumer, Producer, ring};
use roko_wire::port_clock::PortTime;
use std::sync::Arc;

/// Bytes of a frame's memory: the largest Ethernet frame, rounded up to a power of two.
pub const FRAME_CAPACITY: usize = 2048;
const _: () = assert!(FRAME_CAPACITY >= roko_wire::limits::FRAME_BYTES_MAX);

struct Frame {
    bytes_used: usize,
    bytes: [u8; FRAME_CAPACITY],
}

/// A pool of fixed size.
#[derive(Clone)]
pub struct InProcessPool {
    free: Arc<ArrayQueue<Box<Frame>>>,
}

impl InProcessPool {
    /// A pool of `frames` frames, all allocated now.
    #[must_use]
    pub fn new(frames: usize) -> InProcessPool {
        let free = ArrayQueue::new(frames.max(1));
        for _ in 0..frames {
            let pushed = free.push(Box::new(Frame { bytes_used: 0, bytes: [0; FRAME_CAPACITY] }));
            debug_assert!(pushed.is_ok(), "the queue has room for every frame");
        }
        InProcessPool { free: Arc::new(free) }
    }

    /// Frames that are free now.
    #[must_use]
    pub fn available(&self) -> usize {
        self.free.len()
    }
}

/// A frame of an [`InProcessPool`].
pub struct InProcessBuf {
    /// Always `Some` until the drop takes it.
    frame: Option<Box<Frame>>,
    free: Arc<ArrayQueue<Box<Frame>>>,
}

impl InProcessBuf {
    fn frame(&self) -> &Frame {
        self.frame.as_ref().expect("only the drop takes the frame")
    }

    fn frame_mut(&mut self) -> &mut Frame {
        self.frame.as_mut().expect("only the drop takes the frame")
    }
}

impl Drop for InProcessBuf {
    fn drop(&mut self) {
        if let Some(frame) = self.frame.take() {
            let returned = self.free.push(frame);
            debug_assert!(returned.is_ok(), "the queue has room for every frame of its pool");
        }
    }
}

impl FrameBuf for InProcessBuf {
    fn data(&self) -> &[u8] {
        let frame = self.frame();
        &frame.bytes[..frame.bytes_used]
    }
    fn data_mut(&mut self) -> &mut [u8] {
        let frame = self.frame_mut();
        &mut frame.bytes[..frame.bytes_used]
    }
    fn set_len(&mut self, bytes: usize) {
        assert!(bytes <= FRAME_CAPACITY, "a frame holds {FRAME_CAPACITY} bytes");
        self.frame_mut().bytes_used = bytes;
    }
    fn capacity(&self) -> usize {
        FRAME_CAPACITY
    }
}

impl FramePool for InProcessPool {
    type Buf = InProcessBuf;
    fn alloc(&self) -> Option<InProcessBuf> {
        let mut frame = self.free.pop()?;
        frame.bytes_used = 0;
        Some(InProcessBuf { frame: Some(frame), free: Arc::clone(&self.free) })
    }
}

/// A frame of an [`InProcessPool`] that may have come with a time.
pub struct StampedBuf {
    buf: InProcessBuf,
    /// Nanoseconds since 1970; `None` for the node's own frames.
    pub(super) time_ns: Option<u64>,
}

impl StampedBuf {
    pub(super) const fn new(buf: InProcessBuf, time_ns: Option<u64>) -> StampedBuf {
        StampedBuf { buf, time_ns }
    }
}

impl FrameBuf for StampedBuf {
    fn data(&self) -> &[u8] {
        self.buf.data()
    }
    fn data_mut(&mut self) -> &mut [u8] {
        self.buf.data_mut()
    }
    fn set_len(&mut self, bytes: usize) {
        self.buf.set_len(bytes);
    }
    fn capacity(&self) -> usize {
        self.buf.capacity()
    }
}

/// A pool of [`StampedBuf`]s.
#[derive(Clone)]
pub struct StampedPool(pub(super) InProcessPool);

impl FramePool for StampedPool {
    type Buf = StampedBuf;
    fn alloc(&self) -> Option<StampedBuf> {
        Some(StampedBuf::new(self.0.alloc()?, None))
    }
}

/// The receiving half.
pub struct InProcessRx {
    from: Consumer<InProcessBuf>,
}

/// The sending half.
pub struct InProcessTx {
    to: Producer<InProcessBuf>,
}

impl RxPort for InProcessRx {
    type Buf = InProcessBuf;
    fn rx_burst(&mut self, out: &mut Burst<InProcessBuf>) -> usize {
        self.from.pop_burst(out)
    }
    fn stamp(&self, _frame: &InProcessBuf) -> Option<PortTime> {
        None
    }
}

impl TxPort for InProcessTx {
    type Buf = InProcessBuf;
    fn tx_burst(&mut self, burst: &mut Burst<InProcessBuf>) -> usize {
        self.to.push_burst(burst)
    }
}

/// One end of a pair.
pub struct InProcessPort {
    rx: Vec<InProcessRx>,
    tx: RssTx<InProcessTx>,
    pool: InProcessPool,
}

/// Two ends: what one sends the other receives. `frames` is the depth of each direction, a power of two; each end
/// allocates from its own pool.
#[must_use]
pub fn pair(frames: usize, pools: (InProcessPool, InProcessPool)) -> (InProcessPort, InProcessPort) {
    pair_of_queues(frames, pools, (1, 1))
}

/// The same, with this many receive queues at each end, each `frames` deep: flows are spread over them as cards do it.
#[must_use]
pub fn pair_of_queues(
    frames: usize,
    pools: (InProcessPool, InProcessPool),
    queues: (usize, usize),
) -> (InProcessPort, InProcessPort) {
    let way = |queues: usize| -> (RssTx<InProcessTx>, Vec<InProcessRx>) {
        let rings = (0..queues).map(|_| ring(frames));
        let (to, from): (Vec<_>, Vec<_>) =
            rings.map(|(to, from)| (InProcessTx { to }, InProcessRx { from })).unzip();
        (RssTx::new(to), from)
    };
    let ((to_left, from_right), (to_right, from_left)) = (way(queues.0), way(queues.1));
    let left = InProcessPort { rx: from_right, tx: to_right, pool: pools.0 };
    (left, InProcessPort { rx: from_left, tx: to_left, pool: pools.1 })
}

impl Port for InProcessPort {
    type Buf = InProcessBuf;
    type Rx = InProcessRx;
    type Tx = RssTx<InProcessTx>;
    type Pool = InProcessPool;
    fn kind(&self) -> &'static str {
        "in-process"
    }
    fn rx_stamps(&self) -> RxStamps {
        RxStamps::Poll
    }
    fn rx_queues(&self) -> usize {
        self.rx.len()
    }
    fn split_queues(self) -> (Vec<InProcessRx>, RssTx<InProcessTx>, InProcessPool) {
        (self.rx, self.tx, self.pool)
    }
}
