//! Ports over DPDK: NICs, `net_ring` and the other virtual devices, and bare links for load clients.
//!
//! An mbuf is the frame's memory as it is: one pointer, moved from the driver through all stages and back. Whoever polls
//! holds an `roko_dpdk::ThreadGuard`, so that the pool's per-thread cache works.

use super::{Burst, FrameBuf, FramePool, Port, PortCounts, RxPort, RxStamps, TxPort};
use roko_dpdk::{
    Mbuf, MbufPool, Offloads, RingEnd, RingRx, RingTx, RxQueue, TimestampField, TxQueue, TxTimestamps,
};
use roko_wire::net::{IPV6_BYTES, begin_udp6_checksum};
use roko_wire::port_clock::{PortTime, PortUnit};
use roko_wire::vlan::{VLAN_TAG_BYTES, put_tag_on, take_tag_off, vlan_of};

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

/// What a port's device stamps, and where the times are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DpdkStamps {
    /// The card (or a receive callback, `RxQueue::stamp_with`) writes each frame's time into this field, in this unit.
    EveryFrame(TimestampField, PortUnit),
    /// The kernel's packet socket does, by `CLOCK_REALTIME`.
    Kernel(TimestampField),
    /// The card keeps the times of PTP's event frames in registers.
    PtpFrames,
    /// Nothing stamps.
    None,
}

impl DpdkStamps {
    fn field(&self) -> Option<(TimestampField, PortUnit)> {
        match *self {
            DpdkStamps::EveryFrame(field, unit) => Some((field, unit)),
            DpdkStamps::Kernel(field) => Some((field, PortUnit::Nanoseconds)),
            DpdkStamps::PtpFrames | DpdkStamps::None => None,
        }
    }
}

/// What stamps departures: the card's registers, or a clock of a test.
pub trait Departures: Send + 'static {
    /// Marks a frame whose departure is to be stamped, before it is sent.
    fn mark(&mut self, frame: &mut Mbuf);
    /// The frame was given to the driver.
    fn sent(&mut self);
    /// The departure's stamp, once.
    fn take(&mut self) -> Option<PortTime>;
}

impl Departures for TxTimestamps {
    fn mark(&mut self, frame: &mut Mbuf) {
        frame.request_tx_register_timestamp();
    }
    fn sent(&mut self) {}
    fn take(&mut self) -> Option<PortTime> {
        let nanoseconds = self.read_ns()?;
        u64::try_from(nanoseconds).ok().map(PortTime::Nanoseconds)
    }
}

/// A receive queue and where its frames carry their time.
pub struct DpdkRx {
    queue: RxQueue,
    field: Option<(TimestampField, PortUnit)>,
    vlan: Option<u16>,
    /// The device marks wrong checksums.
    checksums: bool,
    counts: PortCounts,
}

impl DpdkRx {
    /// Drops of the frames from `first` on those of another virtual LAN or of none, and those whose checksums the device
    /// has found wrong. Takes tags off that the device left on.
    fn sift(&mut self, first: usize, out: &mut Burst<Mbuf>) {
        let (before, mut at) = (out.len(), 0);
        out.retain(|frame| {
            at += 1;
            let is_older = at <= first;
            let is_bad = self.checksums && frame.has_bad_checksum();
            is_older || !is_bad && self.vlan.is_none_or(|vlan| untag(frame, vlan))
        });
        self.counts.dropped += (before - out.len()) as u64;
    }
}

/// Whether a frame is of this virtual LAN; without its tag then.
fn untag(frame: &mut Mbuf, vlan: u16) -> bool {
    if let Some(stripped) = frame.stripped_vlan() {
        return stripped == vlan;
    }
    let ours = take_tag_off(frame.data_mut(), vlan);
    if ours {
        frame.trim_front(VLAN_TAG_BYTES);
    }
    ours
}

/// Puts the tag on, once, or asks the device to: nothing before the port writes tags, so a frame that has one was offered
/// before.
fn tag(frame: &mut Mbuf, vlan: u16, by_device: bool) {
    if by_device {
        frame.request_vlan_tag(vlan);
    } else if vlan_of(frame.data()).is_none() && frame.prepend(VLAN_TAG_BYTES).is_ok() {
        put_tag_on(frame.data_mut(), vlan);
    }
}

impl RxPort for DpdkRx {
    type Buf = Mbuf;
    fn rx_burst(&mut self, out: &mut Burst<Mbuf>) -> usize {
        let first = out.len();
        let count = self.queue.rx_burst(out);
        if count == 0 || self.vlan.is_none() && !self.checksums {
            return count;
        }
        self.sift(first, out);
        out.len() - first
    }
    fn counts(&self) -> PortCounts {
        self.counts
    }
    fn stamp(&self, frame: &Mbuf) -> Option<PortTime> {
        let (field, unit) = self.field.as_ref()?;
        field.get(frame).map(|count| PortTime::new(*unit, count))
    }
}

/// A send queue and what stamps departures from it.
pub struct DpdkTx {
    queue: TxQueue,
    departures: Option<Box<dyn Departures>>,
    vlan: Option<u16>,
    offloads: Offloads,
}

impl DpdkTx {
    /// Puts the tag on, and leaves to the device what it does by itself. A frame that was offered before is left as it is.
    fn prepare(&self, frame: &mut Mbuf) {
        if let Some(vlan) = self.vlan {
            tag(frame, vlan, self.offloads.vlan_insert);
        }
        if self.offloads.tx_udp6_checksums
            && let Some(link_bytes) = begin_udp6_checksum(frame.data_mut())
        {
            frame.request_udp6_checksum(link_bytes, IPV6_BYTES);
        }
    }

    fn prepares(&self) -> bool {
        self.vlan.is_some() || self.offloads.tx_udp6_checksums
    }
}

impl TxPort for DpdkTx {
    type Buf = Mbuf;
    fn tx_burst(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        if self.prepares() {
            burst.iter_mut().for_each(|frame| self.prepare(frame));
        }
        self.queue.tx_burst(burst)
    }
    fn stamps_departures(&self) -> bool {
        self.departures.is_some()
    }
    fn tx_event(&mut self, mut frame: Mbuf) -> Result<(), Mbuf> {
        if let Some(departures) = &mut self.departures {
            departures.mark(&mut frame);
        }
        self.prepare(&mut frame);
        let mut burst = Burst::new();
        burst.push(frame);
        self.queue.tx_burst(&mut burst);
        match burst.pop() {
            Some(refused) => Err(refused),
            None => {
                if let Some(departures) = &mut self.departures {
                    departures.sent();
                }
                Ok(())
            }
        }
    }
    fn departure(&mut self) -> Option<PortTime> {
        self.departures.as_mut()?.take()
    }
}

/// The receive queues and a send queue of a started DPDK port.
pub struct DpdkPort {
    rx: Vec<RxQueue>,
    tx: DpdkTx,
    pool: MbufPool,
    kind: &'static str,
    stamps: DpdkStamps,
    vlan: Option<u16>,
    offloads: Offloads,
}

impl DpdkPort {
    /// The port over one receive and one send queue; `kind` is the driver's name.
    #[must_use]
    pub fn new(rx: RxQueue, tx: TxQueue, pool: MbufPool, kind: &'static str, stamps: DpdkStamps) -> DpdkPort {
        DpdkPort::over(vec![rx], tx, pool, kind, stamps)
    }

    /// The port over all receive queues of a device, which spreads flows over them, and one send queue.
    #[must_use]
    pub fn over(
        rx: Vec<RxQueue>,
        tx: TxQueue,
        pool: MbufPool,
        kind: &'static str,
        stamps: DpdkStamps,
    ) -> DpdkPort {
        DpdkPort {
            rx,
            tx: DpdkTx { queue: tx, departures: None, vlan: None, offloads: Offloads::default() },
            pool,
            kind,
            stamps,
            vlan: None,
            offloads: Offloads::default(),
        }
    }

    /// The same, on a virtual LAN: frames are received without its tag and sent with it; others' are dropped and counted.
    #[must_use]
    pub fn on_vlan(mut self, vlan: Option<u16>) -> DpdkPort {
        (self.vlan, self.tx.vlan) = (vlan, vlan);
        self
    }

    /// The same, over a device that does these things by itself.
    #[must_use]
    pub fn with_offloads(mut self, offloads: Offloads) -> DpdkPort {
        (self.offloads, self.tx.offloads) = (offloads, offloads);
        self
    }

    /// The same, with departures of event frames stamped.
    #[must_use]
    pub fn with_departures(mut self, departures: Box<dyn Departures>) -> DpdkPort {
        self.tx.departures = Some(departures);
        self
    }
}

impl Port for DpdkPort {
    type Buf = Mbuf;
    type Rx = DpdkRx;
    type Tx = DpdkTx;
    type Pool = MbufPool;
    fn kind(&self) -> &'static str {
        self.kind
    }
    fn rx_stamps(&self) -> RxStamps {
        match self.stamps {
            DpdkStamps::EveryFrame(_, unit) => RxStamps::EveryFrame(unit),
            DpdkStamps::Kernel(_) => RxStamps::Kernel,
            DpdkStamps::PtpFrames => RxStamps::PtpFrames,
            DpdkStamps::None => RxStamps::Poll,
        }
    }
    fn offloads(&self) -> Vec<&'static str> {
        let Offloads { rx_checksums, tx_udp6_checksums, vlan_strip, vlan_insert } = self.offloads;
        let all = [
            (rx_checksums, "checks received checksums"),
            (tx_udp6_checksums, "fills in IPv6's checksums"),
            (vlan_strip, "takes VLAN tags off"),
            (vlan_insert, "puts VLAN tags on"),
        ];
        all.into_iter().filter_map(|(on, what)| on.then_some(what)).collect()
    }
    fn fills_udp6_checksums(&self) -> bool {
        self.offloads.tx_udp6_checksums
    }
    fn rx_queues(&self) -> usize {
        self.rx.len()
    }
    fn split_queues(self) -> (Vec<DpdkRx>, DpdkTx, MbufPool) {
        let (field, vlan, checksums) = (self.stamps.field(), self.vlan, self.offloads.rx_checksums);
        let of = |queue| DpdkRx { queue, field, vlan, checksums, counts: PortCounts::default() };
        (self.rx.into_iter().map(of).collect(), self.tx, self.pool)
    }
}

impl RxPort for RingRx {
    type Buf = Mbuf;
    fn rx_burst(&mut self, out: &mut Burst<Mbuf>) -> usize {
        RingRx::rx_burst(self, out)
    }
    fn stamp(&self, _frame: &Mbuf) -> Option<PortTime> {
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
    fn rx_stamps(&self) -> RxStamps {
        RxStamps::Poll
    }
    fn split_queues(self) -> (Vec<RingRx>, RingTx, MbufPool) {
        (vec![self.end.rx], self.end.tx, self.pool)
    }
}
