//! The receive time in an mbuf: DPDK's dynamic timestamp field, and clocks that fill it in software.
//!
//! A NIC that stamps every packet writes the field itself, when `PortConfig` asks it to. On every other port an
//! [`RxClock`] does, in a receive callback that runs inside `rx_burst`. The unit is the writer's: ns for our
//! clocks, ticks for some NICs.

use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::eal::{Eal, Running};
use crate::error::{Errno, Error};
use crate::mbuf::Mbuf;
use crate::port::Device;

/// Where the timestamp lies in an mbuf, and the flag that says it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampField {
    offset: u16,
    flag: u64,
}

impl TimestampField {
    /// Registers the field; a second call gives the same place.
    pub fn register(eal: &Eal) -> Result<TimestampField, Error> {
        let (mut offset, mut flag) = (0, 0);
        let _control = eal.inner().control();
        // SAFETY: both integers are ours to write; the EAL runs and the control lock is held.
        if unsafe { dpdk_sys::rte_mbuf_dyn_rx_timestamp_register(&mut offset, &mut flag) } < 0 {
            return Err(Error::TimestampField { errno: Errno::last() });
        }
        let place =
            u16::try_from(offset).ok().filter(|&at| usize::from(at) + 8 <= size_of::<dpdk_sys::rte_mbuf>());
        let offset = place.ok_or(Error::TimestampField { errno: Errno::INVALID })?;
        Ok(TimestampField { offset, flag })
    }

    /// The packet's receive time, if somebody wrote one.
    #[inline]
    pub fn get(&self, mbuf: &Mbuf) -> Option<u64> {
        (mbuf.flags() & self.flag != 0).then(|| mbuf.dynamic_u64(self.offset))
    }

    /// Writes the packet's receive time.
    #[inline]
    pub fn set(&self, mbuf: &mut Mbuf, time: u64) {
        mbuf.set_dynamic_u64(self.offset, time);
        mbuf.set_flags(mbuf.flags() | self.flag);
    }

    /// Takes the receive time away. A packet that is forwarded keeps it otherwise.
    #[inline]
    pub fn clear(&self, mbuf: &mut Mbuf) {
        mbuf.set_flags(mbuf.flags() & !self.flag);
    }
}

/// A clock that stamps received packets. It is called on the thread that polls the queue.
pub trait RxClock: Send {
    /// The time now.
    fn read(&mut self) -> u64;
}

/// How often the clock is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StampEvery {
    /// Once a burst: its packets bear one time. A clock read costs more than receiving a packet.
    Burst,
    /// Once a packet.
    Packet,
}

/// The CPU's time-stamp counter, in ticks. Its rate is for the caller to calibrate.
#[derive(Debug, Clone, Copy, Default)]
pub struct TscClock;

impl RxClock for TscClock {
    #[inline]
    fn read(&mut self) -> u64 {
        // SAFETY: reads a counter of the CPU; touches no memory.
        unsafe { dpdk_sys::rte_get_tsc_cycles() }
    }
}

/// A clock that somebody else sets, with a step for every read: the simulated clock of tests and devnets.
#[derive(Debug, Clone)]
pub struct ManualClock {
    now: Arc<AtomicU64>,
    step: u64,
}

impl ManualClock {
    /// Shows what `now` holds and advances it by `step` at every read.
    pub fn new(now: Arc<AtomicU64>, step: u64) -> Self {
        ManualClock { now, step }
    }
}

impl RxClock for ManualClock {
    fn read(&mut self) -> u64 {
        // Relaxed: the value is all there is to it; it orders nothing else.
        self.now.fetch_add(self.step, Ordering::Relaxed)
    }
}

/// What the callback works with.
struct StampState {
    field: TimestampField,
    every: StampEvery,
    clock: Box<dyn RxClock>,
}

/// A receive callback on one queue. The queue's handle holds it and is the only one to run it.
pub(crate) struct Stamper {
    callback: *const dpdk_sys::rte_eth_rxtx_callback,
    state: *mut StampState,
    port: u16,
    queue: u16,
    eal: Arc<Running>,
}

// SAFETY: the callback is DPDK's memory and the state a box whose clock is Send; both are used by the queue's
// one handle, whichever thread it is on.
unsafe impl Send for Stamper {}
// SAFETY: `&Stamper` gives access to nothing.
unsafe impl Sync for Stamper {}

impl Stamper {
    /// The caller borrows the queue's handle exclusively, so no burst runs meanwhile.
    pub(crate) fn attach(
        device: &Arc<Device>,
        queue: u16,
        field: TimestampField,
        every: StampEvery,
        clock: Box<dyn RxClock>,
    ) -> Result<Stamper, Error> {
        let state = Box::into_raw(Box::new(StampState { field, every, clock }));
        let control = device.eal().control();
        // SAFETY: the port and queue are valid; `state` stays alive until the callback is removed, in `detach`.
        let callback =
            unsafe { dpdk_sys::rte_eth_add_rx_callback(device.id(), queue, Some(stamp_burst), state.cast()) };
        let errno = Errno::last();
        drop(control);
        if callback.is_null() {
            // SAFETY: the box was made above, and DPDK did not take it.
            drop(unsafe { Box::from_raw(state) });
            return Err(Error::RxCallback { port: device.id(), errno });
        }
        Ok(Stamper { callback, state, port: device.id(), queue, eal: Arc::clone(device.eal()) })
    }

    /// Removes the callback. The caller borrows the queue's handle exclusively, so no burst runs meanwhile.
    pub(crate) fn detach(self) {
        let _control = self.eal.control();
        // SAFETY: the callback was added to this queue and is removed once (`self` is consumed).
        let code = unsafe { dpdk_sys::rte_eth_remove_rx_callback(self.port, self.queue, self.callback) };
        if code != 0 {
            // The callback may still be listed, so what it points to is left to it.
            return;
        }
        // SAFETY: no burst of this queue runs, so nothing uses the callback or its state any more; DPDK
        // leaves the callback's memory to us, and the state is our own box.
        unsafe {
            dpdk_sys::rte_free(self.callback.cast_mut().cast());
            drop(Box::from_raw(self.state));
        }
    }
}

impl fmt::Debug for Stamper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stamper").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// Runs inside `rte_eth_rx_burst`. A clock that panics aborts the process: it must not unwind into C.
unsafe extern "C" fn stamp_burst(
    _port: u16,
    _queue: u16,
    packets: *mut *mut dpdk_sys::rte_mbuf,
    count: u16,
    _room: u16,
    state: *mut c_void,
) -> u16 {
    if count == 0 {
        return 0;
    }
    // SAFETY: `state` is the box that `attach` gave; the queue's one handle runs this, so the borrow is exclusive.
    let state = unsafe { &mut *state.cast::<StampState>() };
    // SAFETY: DPDK passes `count` received mbufs; Mbuf is transparent over the pointer, and these handles
    // are borrowed, never dropped.
    let packets = unsafe { std::slice::from_raw_parts_mut(packets.cast::<Mbuf>(), usize::from(count)) };
    let mut now = state.clock.read();
    for (index, mbuf) in packets.iter_mut().enumerate() {
        if index > 0 && state.every == StampEvery::Packet {
            now = state.clock.read();
        }
        state.field.set(mbuf, now);
    }
    count
}
