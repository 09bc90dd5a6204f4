//! Ports over DPDK: NICs, `net_ring` and the other virtual devices, and bare links for load clients.
//!
//! An mbuf is the frame's memory as it is: one pointer, moved from the driver through all stages and back. Whoever polls
//! holds an `roko_dpdk::ThreadGuard`, so that the pool's per-thread cache works.

use super::{Burst, FrameBuf, FramePool, Port, RxPort, TimestampKind, TxPort};
use roko_dpdk::{Mbuf, MbufPool, RingEnd, RingRx, RingTx, RxQueue, TimestampField, TxQueue};

// A burst of this crate is DPDK's burst: one type, so no frame is moved between two kinds of array.
const _: () = assert!(super::BURST == roko_dpdk::BURST_PACKETS);

impl FrameBuf for Mbuf {
    fn data(&self) -> &[u8] {
        Mbuf::data(self)
    }
    fn data_mut(&mut self) -> &mut [u8] {
        Mbuf::data_mut(self)
    }
    fn set_len(&mut self, bytes: usize) {
        Mbuf::set_len(self, bytes).expect("the caller keeps within the capacity");
    }
    fn capacity(&self) -> usize {
        self.buffer_len() - self.headroom()
    }
}

impl FramePool for MbufPool {
    type Buf = Mbuf;
    fn alloc(&self) -> Option<Mbuf> {
        MbufPool::alloc(self)
    }
}

/// A receive queue and where its frames carry their time.
pub struct DpdkRx {
    queue: RxQueue,
    timestamp: Option<TimestampField>,
}

impl RxPort for DpdkRx {
    type Buf = Mbuf;
    fn rx_burst(&mut self, out: &mut Burst<Mbuf>) -> usize {
        self.queue.rx_burst(out)
    }
    fn hardware_time(&self, frame: &Mbuf) -> Option<u64> {
        self.timestamp.as_ref()?.get(frame)
    }
}

impl TxPort for TxQueue {
    type Buf = Mbuf;
    fn tx_burst(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        TxQueue::tx_burst(self, burst)
    }
}

/// A pair of queues of a started DPDK port.
pub struct DpdkPort {
    rx: RxQueue,
    tx: TxQueue,
    pool: MbufPool,
    kind: &'static str,
    timestamp: Option<TimestampField>,
}

impl DpdkPort {
    /// The port over one receive and one send queue; `kind` is the driver's name. `timestamp` says where the NIC (or a
    /// receive callback, `RxQueue::stamp_with`) leaves each frame's time; without it times are the poll's.
    #[must_use]
    pub fn new(
        rx: RxQueue,
        tx: TxQueue,
        pool: MbufPool,
        kind: &'static str,
        timestamp: Option<TimestampField>,
    ) -> DpdkPort {
        DpdkPort { rx, tx, pool, kind, timestamp }
    }
}

impl Port for DpdkPort {
    type Buf = Mbuf;
    type Rx = DpdkRx;
    type Tx = TxQueue;
    type Pool = MbufPool;
    fn kind(&self) -> &'static str {
        self.kind
    }
    fn timestamps(&self) -> TimestampKind {
        if self.timestamp.is_some() { TimestampKind::Hardware } else { TimestampKind::Software }
    }
    fn split(self) -> (DpdkRx, TxQueue, MbufPool) {
        (DpdkRx { queue: self.rx, timestamp: self.timestamp }, self.tx, self.pool)
    }
}

impl RxPort for RingRx {
    type Buf = Mbuf;
    fn rx_burst(&mut self, out: &mut Burst<Mbuf>) -> usize {
        RingRx::rx_burst(self, out)
    }
    fn hardware_time(&self, _frame: &Mbuf) -> Option<u64> {
        None
    }
}

impl TxPort for RingTx {
    type Buf = Mbuf;
    fn tx_burst(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        RingTx::tx_burst(self, burst)
    }
}

/// One end of a bare link: a load client's port, which spends none of DPDK's port numbers. The other end, and the far
/// end of a `net_ring` port, go to a [`Switch`](crate::switch::Switch) as their halves.
pub struct DpdkLink {
    end: RingEnd,
    pool: MbufPool,
}

impl DpdkLink {
    /// A port over `end` that allocates from `pool`.
    #[must_use]
    pub fn new(end: RingEnd, pool: MbufPool) -> DpdkLink {
        DpdkLink { end, pool }
    }
}

impl Port for DpdkLink {
    type Buf = Mbuf;
    type Rx = RingRx;
    type Tx = RingTx;
    type Pool = MbufPool;
    fn kind(&self) -> &'static str {
        "rte_ring"
    }
    fn timestamps(&self) -> TimestampKind {
        TimestampKind::Software
    }
    fn split(self) -> (RingRx, RingTx, MbufPool) {
        (self.end.rx, self.end.tx, self.pool)
    }
}
