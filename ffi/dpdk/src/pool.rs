//! Pools of mbufs. A pool is made once and lives until the EAL ends.
//!
//! A pool's free mbufs are in a lock-free stack, not in DPDK's default ring: threads that the scheduler may interrupt
//! return mbufs here too, and whoever is interrupted inside that ring makes all others spin until he runs again (DPDK
//! Programmer's Guide, "Known Issues" of the EAL, on preemption).

use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::eal::{PoolEntry, Running};
use crate::error::{Errno, Error, c_name};
use crate::mbuf::{Mbuf, receive_into};

/// Handlers of a pool's free mbufs by preference: the second where the first needs what the CPU or the installation does
/// not have. Neither makes a thread wait for an interrupted one.
const HANDLERS: [&CStr; 2] = [c"lf_stack", c"ring_mt_rts"];

/// `RTE_MEMPOOL_NAMESIZE` less the closing NUL.
const NAME_BYTES_MAX: usize = 25;

/// The size of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Mbufs in the pool.
    pub mbufs: u32,
    /// Mbufs that each registered thread keeps for itself, at most. They come on top of what the queues
    /// hold: plan `mbufs` for every thread's one and a half caches.
    pub cache_mbufs: u32,
    /// Bytes in a buffer, with the head room of 128.
    pub data_room_bytes: u16,
    /// Mbufs lie one behind the other in one range of addresses and may cross pages. Without hugepages that takes
    /// two thirds of the memory, and net_af_xdp needs it, as it gives the kernel the range. No device that
    /// does DMA by itself works with it.
    pub packed: bool,
}

impl Default for PoolConfig {
    /// 8,191 mbufs of 2,048 bytes behind the head room: a full-size Ethernet frame with room to spare.
    fn default() -> Self {
        PoolConfig { mbufs: 8191, cache_mbufs: 256, data_room_bytes: 2048 + 128, packed: false }
    }
}

impl PoolConfig {
    fn check(&self) -> Result<(), Error> {
        let cache_max = (dpdk_sys::DPDK_MEMPOOL_CACHE_MAX as usize).min(self.mbufs as usize * 2 / 3);
        let range = |what, value: usize, min, max| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(Error::OutOfRange { what, value, min, max })
            }
        };
        range("PoolConfig::mbufs", self.mbufs as usize, 1, i32::MAX as usize)?;
        range("PoolConfig::cache_mbufs", self.cache_mbufs as usize, 0, cache_max)?;
        let headroom = dpdk_sys::DPDK_MBUF_HEADROOM as usize;
        range("PoolConfig::data_room_bytes", self.data_room_bytes.into(), headroom + 64, u16::MAX.into())
    }
}

/// A handle on a pool. Clones are the same pool, and it may be used from any thread.
#[derive(Debug, Clone)]
pub struct MbufPool {
    entry: PoolEntry,
    /// Keeps the EAL, and by it the pool's memory.
    _eal: Arc<Running>,
}

impl MbufPool {
    pub(crate) fn create(eal: &Arc<Running>, name: &str, config: &PoolConfig) -> Result<Self, Error> {
        config.check()?;
        let c_name = c_name(name, NAME_BYTES_MAX)?;
        let mut control = eal.control();
        let create = |handler: &&CStr| {
            let socket = dpdk_sys::DPDK_SOCKET_ANY;
            if config.packed {
                let (name, ops) = (c_name.as_ptr(), handler.as_ptr());
                let (mbufs, cache, room) = (config.mbufs, config.cache_mbufs, config.data_room_bytes);
                // SAFETY: as below.
                let pool = unsafe { dpdk_sys::dpdk_packed_pool(name, mbufs, cache, room, socket, ops) };
                return NonNull::new(pool);
            }
            // SAFETY: the EAL runs (`eal` is held); the names are NUL-terminated and copied by DPDK; the
            // sizes are within what the library accepts. On failure it returns null.
            NonNull::new(unsafe {
                dpdk_sys::rte_pktmbuf_pool_create_by_ops(
                    c_name.as_ptr(),
                    config.mbufs,
                    config.cache_mbufs,
                    0,
                    config.data_room_bytes,
                    socket,
                    handler.as_ptr(),
                )
            })
        };
        let Some(raw) = HANDLERS.iter().find_map(create) else {
            return Err(Error::PoolCreate { name: name.to_owned(), errno: Errno::last() });
        };
        let entry = PoolEntry {
            raw,
            name: name.into(),
            mbufs: config.mbufs,
            data_room_bytes: config.data_room_bytes,
        };
        control.pools.push(entry.clone());
        drop(control);
        Ok(MbufPool { entry, _eal: Arc::clone(eal) })
    }

    pub(crate) fn find(eal: &Arc<Running>, name: &str) -> Result<Self, Error> {
        let control = eal.control();
        let entry = control.pools.iter().find(|entry| &*entry.name == name).cloned();
        drop(control);
        let entry = entry.ok_or_else(|| Error::NoSuchPool { name: name.to_owned() })?;
        Ok(MbufPool { entry, _eal: Arc::clone(eal) })
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// Mbufs of the pool, in it and out of it.
    pub fn count(&self) -> usize {
        self.entry.mbufs as usize
    }

    /// Bytes in a buffer, with the head room.
    pub fn data_room_bytes(&self) -> usize {
        usize::from(self.entry.data_room_bytes)
    }

    /// Mbufs in the pool and in its caches. Exact while no thread takes or returns any; it walks the
    /// caches, so it is for reports and not for the packet path.
    pub fn available_count(&self) -> usize {
        self.entry.available()
    }

    pub(crate) fn raw(&self) -> *mut dpdk_sys::rte_mempool {
        self.entry.raw.as_ptr()
    }

    /// Takes an mbuf with an empty frame; none when the pool is exhausted.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool lives as long as the EAL, which this handle keeps; allocation is safe from any thread.
        let raw = unsafe { dpdk_sys::rte_pktmbuf_alloc(self.entry.raw.as_ptr()) };
        // SAFETY: a fresh mbuf has one reference and one segment, and only this call has it.
        NonNull::new(raw).map(|raw| unsafe { Mbuf::from_raw(raw) })
    }

    /// Takes an mbuf whose frame holds a copy of these bytes; none when the pool is exhausted or the
    /// bytes do not fit into a buffer.
    #[inline]
    pub fn alloc_from(&self, bytes: &[u8]) -> Option<Mbuf> {
        let mut mbuf = self.alloc()?;
        mbuf.extend_from_slice(bytes).ok()?;
        Some(mbuf)
    }

    /// Takes `count` mbufs, or none: the number taken is returned. At most what the burst has room for
    /// is asked of the pool. It spares a thread without a `ThreadGuard` a visit to the pool's ring per packet.
    #[inline]
    pub fn alloc_burst<const N: usize>(&self, count: usize, out: &mut ArrayVec<Mbuf, N>) -> usize {
        let fill = |place: *mut *mut dpdk_sys::rte_mbuf, room: u16| {
            let count = count.min(usize::from(room)) as u16;
            // SAFETY: `place` has room for `room` pointers; the pool is alive as in `alloc`. All or
            // nothing is written, and zero says that all were.
            let code =
                unsafe { dpdk_sys::rte_pktmbuf_alloc_bulk(self.entry.raw.as_ptr(), place, u32::from(count)) };
            if code == 0 { count } else { 0 }
        };
        // SAFETY: `fill` reports exactly the fresh mbufs it wrote; nobody else has them.
        unsafe { receive_into(out, fill) }
    }
}
