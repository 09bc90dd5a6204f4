//! Rings of mbufs between two threads: a pointer passed, nothing copied.
//!
//! A ring has one producer and one consumer, each a handle that exists once. They are the far side of a
//! virtual port ([`ring_port`](crate::ring_port)), and they stand alone where a whole port is not needed
//! or not to be had: DPDK is built for 32 ports in Debian, and rings do not count among them.
//!
//! State of a ring: `head` and `tail` of the producer run ahead of the consumer's by at most `depth`. The
//! producer publishes with a release store of its tail, the consumer acquires it (`rte_ring`, SP/SC mode).

use std::ptr::NonNull;
use std::sync::Arc;

use crate::Burst;
use crate::eal::{Eal, Running};
use crate::error::{Errno, Error, c_name};
use crate::mbuf::{Mbuf, receive_into, send_from};

/// `RTE_RING_NAMESIZE` less the closing NUL.
pub(crate) const NAME_BYTES_MAX: usize = 28;
/// A million pointers: 8 MiB.
const DEPTH_MAX: usize = 1 << 20;

/// The ring itself: freed, and what is left in it returned, with the last of its handles.
#[derive(Debug)]
pub(crate) struct MbufRing {
    raw: NonNull<dpdk_sys::rte_ring>,
    eal: Arc<Running>,
}

// SAFETY: the ring is made for one producer and one consumer on different threads; the handles that
// enqueue and dequeue exist once each and take `&mut self`.
unsafe impl Send for MbufRing {}
// SAFETY: as above; `&MbufRing` alone only counts, which reads two integers.
unsafe impl Sync for MbufRing {}

impl MbufRing {
    pub(crate) fn create(eal: &Arc<Running>, name: &str, depth: usize) -> Result<Arc<Self>, Error> {
        if depth == 0 || depth > DEPTH_MAX {
            return Err(Error::OutOfRange { what: "a ring's depth", value: depth, min: 1, max: DEPTH_MAX });
        }
        let c_name = c_name(name, NAME_BYTES_MAX)?;
        let flags = dpdk_sys::DPDK_RING_SINGLE_PRODUCER
            | dpdk_sys::DPDK_RING_SINGLE_CONSUMER
            | dpdk_sys::DPDK_RING_EXACT_SIZE;
        let _control = eal.control();
        // SAFETY: the EAL runs (`eal` is held), the name is NUL-terminated and copied. Null says failure.
        let raw = unsafe {
            dpdk_sys::rte_ring_create(c_name.as_ptr(), depth as u32, dpdk_sys::DPDK_SOCKET_ANY, flags)
        };
        match NonNull::new(raw) {
            Some(raw) => Ok(Arc::new(MbufRing { raw, eal: Arc::clone(eal) })),
            None => Err(Error::RingCreate { name: name.to_owned(), errno: Errno::last() }),
        }
    }

    pub(crate) fn raw(&self) -> *mut dpdk_sys::rte_ring {
        self.raw.as_ptr()
    }

    fn count(&self) -> usize {
        // SAFETY: reads the ring's two tails; the ring is alive while this handle is.
        unsafe { dpdk_sys::rte_ring_count(self.raw.as_ptr()) as usize }
    }

    /// # Safety
    /// The caller is the ring's only consumer.
    #[inline(always)]
    unsafe fn dequeue(&self, place: *mut *mut dpdk_sys::rte_mbuf, room: u16) -> u16 {
        // SAFETY: the ring is alive; `place` has room for `room` pointers; one consumer is the caller's promise.
        unsafe {
            dpdk_sys::rte_ring_sc_dequeue_burst(
                self.raw.as_ptr(),
                place.cast(),
                u32::from(room),
                std::ptr::null_mut(),
            ) as u16
        }
    }
}

impl Drop for MbufRing {
    fn drop(&mut self) {
        let mut left = Burst::new();
        loop {
            // SAFETY: the last handle is dropped, so this is the only consumer; a ring holds mbufs that
            // their producer gave up, each once.
            let received = unsafe { receive_into(&mut left, |place, room| self.dequeue(place, room)) };
            if received == 0 {
                break;
            }
            Mbuf::free_burst(&mut left);
        }
        let _control = self.eal.control();
        // SAFETY: no producer or consumer is left, and no port refers to the ring: each holds an Arc of it.
        unsafe { dpdk_sys::rte_ring_free(self.raw.as_ptr()) };
    }
}

/// The consuming end of a ring. There is one.
#[derive(Debug)]
pub struct RingRx {
    ring: Arc<MbufRing>,
}

impl RingRx {
    /// # Safety of use
    /// One `RingRx` is made for a ring, by the module that makes the ring.
    pub(crate) fn new(ring: Arc<MbufRing>) -> Self {
        RingRx { ring }
    }

    /// Moves waiting packets behind those in `out`, as many as fit, and returns how many came.
    #[inline]
    pub fn rx_burst(&mut self, out: &mut Burst) -> usize {
        // SAFETY: this handle is the only consumer and is borrowed exclusively; the ring holds mbufs
        // that their producer gave up.
        unsafe { receive_into(out, |place, room| self.ring.dequeue(place, room)) }
    }

    /// Packets waiting.
    pub fn waiting(&self) -> usize {
        self.ring.count()
    }
}

/// The producing end of a ring. There is one.
#[derive(Debug)]
pub struct RingTx {
    ring: Arc<MbufRing>,
    refused: u64,
}

impl RingTx {
    pub(crate) fn new(ring: Arc<MbufRing>) -> Self {
        RingTx { ring, refused: 0 }
    }

    /// Sends packets from the front of `burst`, returns how many went, and leaves the others in it. What
    /// a full ring did not take is counted by [`refused_packets`](Self::refused_packets).
    #[inline]
    pub fn tx_burst(&mut self, burst: &mut Burst) -> usize {
        let raw = self.ring.raw.as_ptr();
        let take = |first: *mut *mut dpdk_sys::rte_mbuf, count: u16| {
            // SAFETY: the ring is alive; this handle is its only producer and is borrowed exclusively;
            // `first` points to `count` mbufs that the burst owns.
            unsafe {
                dpdk_sys::rte_ring_sp_enqueue_burst(raw, first.cast(), u32::from(count), std::ptr::null_mut())
                    as u16
            }
        };
        // SAFETY: a ring takes from the front and keeps no pointer to what it did not count.
        let sent = unsafe { send_from(burst, take) };
        self.refused += burst.len() as u64;
        sent
    }

    /// Packets that a full ring left with the caller, summed over the calls.
    pub fn refused_packets(&self) -> u64 {
        self.refused
    }
}

/// One end of a two-way link: it receives from one ring and sends to the other.
#[derive(Debug)]
pub struct RingEnd {
    /// Packets that the other side sent.
    pub rx: RingRx,
    /// Packets for the other side.
    pub tx: RingTx,
}

impl RingEnd {
    /// Moves waiting packets behind those in `out`, as many as fit, and returns how many came.
    #[inline]
    pub fn rx_burst(&mut self, out: &mut Burst) -> usize {
        self.rx.rx_burst(out)
    }

    /// Sends packets from the front of `burst`, returns how many went, and leaves the others in it.
    #[inline]
    pub fn tx_burst(&mut self, burst: &mut Burst) -> usize {
        self.tx.tx_burst(burst)
    }
}

/// A one-way ring of `depth` packets.
pub fn ring_pipe(eal: &Eal, name: &str, depth: usize) -> Result<(RingTx, RingRx), Error> {
    let ring = MbufRing::create(eal.inner(), name, depth)?;
    Ok((RingTx::new(Arc::clone(&ring)), RingRx::new(ring)))
}

/// A two-way link of bare rings, `depth` packets each way, without a port on either side.
pub fn ring_link(eal: &Eal, name: &str, depth: usize) -> Result<(RingEnd, RingEnd), Error> {
    let (a_tx, b_rx) = ring_pipe(eal, &format!("{name}.ab"), depth)?;
    let (b_tx, a_rx) = ring_pipe(eal, &format!("{name}.ba"), depth)?;
    Ok((RingEnd { rx: a_rx, tx: a_tx }, RingEnd { rx: b_rx, tx: b_tx }))
}
