//! The two ends of a started port: receive queues and send queues, one handle each.

use std::sync::Arc;

use crate::Burst;
use crate::error::{Errno, Error};
use crate::mbuf::{receive_into, send_from};
use crate::port::Device;
use crate::timestamp::{RxClock, StampEvery, Stamper, TimestampField};

/// A receive queue. There is one handle, so one thread polls it.
#[derive(Debug)]
pub struct RxQueue {
    port: u16,
    queue: u16,
    chained: u64,
    /// The driver may deliver a frame in several mbufs.
    may_chain: bool,
    stamper: Option<Stamper>,
    device: Arc<Device>,
}

impl RxQueue {
    pub(crate) fn new(device: &Arc<Device>, queue: u16, may_chain: bool) -> Self {
        RxQueue { port: device.id(), queue, chained: 0, may_chain, stamper: None, device: Arc::clone(device) }
    }

    /// Moves received packets behind those in `out`, as many as fit, and returns how many came.
    ///
    /// A packet of more than one segment is returned to its pool and counted: frames of this system fit one
    /// buffer, so a chain is a frame that is too long or a driver that scatters.
    #[inline]
    pub fn rx_burst(&mut self, out: &mut Burst) -> usize {
        let held = out.len();
        let (port, queue) = (self.port, self.queue);
        let poll = |place: *mut *mut dpdk_sys::rte_mbuf, room: u16| {
            // SAFETY: the device is started while a queue handle exists (stop needs all of them back),
            // `queue` was set up, this is its only poller, and `place` has room for `room` pointers.
            unsafe { dpdk_sys::rte_eth_rx_burst(port, queue, place, room) }
        };
        // SAFETY: a driver writes the packets it counts from the front, and gives them up.
        let received = unsafe { receive_into(out, poll) };
        if self.may_chain && out[held..].iter().any(|mbuf| mbuf.segments() != 1) {
            self.drop_chained(out, held)
        } else {
            received
        }
    }

    #[cold]
    fn drop_chained(&mut self, out: &mut Burst, held: usize) -> usize {
        let mut at = held;
        while at < out.len() {
            if out[at].segments() == 1 {
                at += 1;
            } else {
                // Freeing an mbuf frees the segments behind it.
                drop(out.remove(at));
                self.chained += 1;
            }
        }
        out.len() - held
    }

    /// Packets dropped because they had more than one segment.
    pub fn chained_packets(&self) -> u64 {
        self.chained
    }

    /// The port's number.
    pub fn port_id(&self) -> u16 {
        self.port
    }

    /// Stamps every packet of this queue with `clock` as it is received, into the timestamp field. It is
    /// the receive clock of ports that have none. A second call replaces the clock.
    pub fn stamp_with(
        &mut self,
        field: TimestampField,
        every: StampEvery,
        clock: Box<dyn RxClock>,
    ) -> Result<(), Error> {
        self.unstamp();
        self.stamper = Some(Stamper::attach(&self.device, self.queue, field, every, clock)?);
        Ok(())
    }

    /// Ends the stamping.
    pub fn unstamp(&mut self) {
        if let Some(stamper) = self.stamper.take() {
            stamper.detach();
        }
    }
}

impl Drop for RxQueue {
    fn drop(&mut self) {
        self.unstamp();
    }
}

/// A send queue. There is one handle, so one thread fills it.
#[derive(Debug)]
pub struct TxQueue {
    port: u16,
    queue: u16,
    refused: u64,
    _device: Arc<Device>,
}

impl TxQueue {
    pub(crate) fn new(device: &Arc<Device>, queue: u16) -> Self {
        TxQueue { port: device.id(), queue, refused: 0, _device: Arc::clone(device) }
    }

    /// Sends packets from the front of `burst`, returns how many went, and leaves the others in it. What a
    /// full queue did not take is counted by [`refused_packets`](Self::refused_packets).
    ///
    /// A packet is sent as it is: one segment, no offloads but the departure stamp and a tag that was asked for.
    #[inline]
    pub fn tx_burst(&mut self, burst: &mut Burst) -> usize {
        let (port, queue) = (self.port, self.queue);
        let send = |first: *mut *mut dpdk_sys::rte_mbuf, count: u16| {
            // SAFETY: the device is started while a queue handle exists, `queue` was set up, this is its
            // only filler, and `first` points to `count` mbufs that the burst owns.
            unsafe { dpdk_sys::rte_eth_tx_burst(port, queue, first, count) }
        };
        // SAFETY: a driver takes packets from the front and keeps none that it did not count.
        let sent = unsafe { send_from(burst, send) };
        self.refused += burst.len() as u64;
        sent
    }

    /// Packets that a full queue left with the caller, summed over the calls.
    pub fn refused_packets(&self) -> u64 {
        self.refused
    }

    /// The port's number.
    pub fn port_id(&self) -> u16 {
        self.port
    }
}

/// Turns a driver's answer into a port error.
pub(crate) fn port_result(port: u16, operation: &'static str, code: i32) -> Result<i32, Error> {
    Errno::check(code).map_err(|errno| Error::Port { port, operation, errno })
}

#[cfg(test)]
mod tests {
    use crate::mbuf::Mbuf;
    use crate::{Burst, Eal, EalConfig, PoolConfig, PortConfig, ring_port};

    /// A frame in two segments, as a driver that scatters would deliver it.
    fn chain(head: Mbuf, tail: Mbuf) -> Mbuf {
        let (head, tail) = (head.into_raw(), tail.into_raw());
        // SAFETY: both mbufs are live and given up above; the tail belongs to the head from here on.
        assert_eq!(unsafe { dpdk_sys::rte_pktmbuf_chain(head.as_ptr(), tail.as_ptr()) }, 0);
        // SAFETY: the head is live, and nobody else has it. Two segments are what the test is about.
        unsafe { Mbuf::from_raw(head) }
    }

    #[test]
    fn chained_packets_are_dropped_and_counted() {
        let eal = Eal::start(&EalConfig::unprivileged(64)).expect("EAL without privilege");
        let config = PoolConfig { mbufs: 255, cache_mbufs: 0, ..PoolConfig::default() };
        let pool = eal.pool("frames", &config).expect("a small pool");
        let (mut port, mut end) = ring_port(&eal, "chained", 64).expect("a port");
        let mut queues = port.start(&PortConfig::default(), &pool).expect("it starts");
        queues.rx[0].may_chain = true;
        let frame = |byte: u8| pool.alloc_from(&[byte; 60]).expect("the pool is large enough");
        let mut burst = Burst::new();
        burst.push(chain(frame(1), frame(2)));
        burst.push(frame(3));
        burst.push(chain(frame(4), frame(5)));
        burst.push(chain(frame(6), frame(7)));
        burst.push(frame(8));
        assert_eq!(end.tx_burst(&mut burst), 5);
        burst.push(frame(9));
        assert_eq!(queues.rx[0].rx_burst(&mut burst), 2);
        let bytes: Vec<u8> = burst.iter().map(|mbuf| mbuf.data()[0]).collect();
        assert_eq!((bytes, queues.rx[0].chained_packets()), (vec![9, 3, 8], 3));
        burst.clear();
        assert_eq!(pool.available_count(), pool.count(), "both segments came back");
    }
}
