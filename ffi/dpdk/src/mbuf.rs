//! One packet's buffer: owned, a single segment, one pointer wide.
//!
//! An `Mbuf` is what a pool gives, a queue receives and a queue sends. Whoever holds it owns its
//! bytes; dropping it returns it to its pool. The fields are read where they lie in `rte_mbuf`, by the
//! offsets that the C compiler computed for the installed version.

use std::fmt;
use std::ptr::NonNull;

use arrayvec::ArrayVec;

use crate::error::Error;

const BUF_ADDR: usize = dpdk_sys::DPDK_MBUF_OFFSET_BUF_ADDR as usize;
const DATA_OFF: usize = dpdk_sys::DPDK_MBUF_OFFSET_DATA_OFF as usize;
const NB_SEGS: usize = dpdk_sys::DPDK_MBUF_OFFSET_NB_SEGS as usize;
const PORT: usize = dpdk_sys::DPDK_MBUF_OFFSET_PORT as usize;
const OL_FLAGS: usize = dpdk_sys::DPDK_MBUF_OFFSET_OL_FLAGS as usize;
const PKT_LEN: usize = dpdk_sys::DPDK_MBUF_OFFSET_PKT_LEN as usize;
const DATA_LEN: usize = dpdk_sys::DPDK_MBUF_OFFSET_DATA_LEN as usize;
const BUF_LEN: usize = dpdk_sys::DPDK_MBUF_OFFSET_BUF_LEN as usize;
const VLAN_TCI: usize = dpdk_sys::DPDK_MBUF_OFFSET_VLAN_TCI as usize;
const TX_OFFLOAD: usize = dpdk_sys::DPDK_MBUF_OFFSET_TX_OFFLOAD as usize;
const TIMESYNC: usize = dpdk_sys::DPDK_MBUF_OFFSET_TIMESYNC as usize;

/// An owned packet buffer of one segment.
///
/// `repr(transparent)`: an array of `Mbuf` is DPDK's array of `struct rte_mbuf *`, so bursts are
/// passed without being copied.
#[repr(transparent)]
pub struct Mbuf {
    raw: NonNull<dpdk_sys::rte_mbuf>,
}

// SAFETY: an mbuf is owned by one handle, its pool takes it back from any thread.
unsafe impl Send for Mbuf {}
// SAFETY: `&Mbuf` only reads, and nobody writes while the shared borrow lives.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// Takes over an mbuf.
    ///
    /// # Safety
    /// `raw` is a live mbuf that nobody else holds, with one reference, from a pool made by this crate.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: NonNull<dpdk_sys::rte_mbuf>) -> Self {
        Mbuf { raw }
    }

    /// Gives the mbuf away, without returning it to its pool.
    #[cfg(test)]
    pub(crate) fn into_raw(self) -> NonNull<dpdk_sys::rte_mbuf> {
        std::mem::ManuallyDrop::new(self).raw
    }

    #[inline(always)]
    fn field<T: Copy>(&self, offset: usize) -> T {
        // SAFETY: the handle owns a live rte_mbuf, and the offset and type are those of the C structure.
        unsafe { self.raw.as_ptr().cast::<u8>().add(offset).cast::<T>().read() }
    }

    #[inline(always)]
    fn set_field<T: Copy>(&mut self, offset: usize, value: T) {
        // SAFETY: as in `field`, and `&mut self` is the only access to it.
        unsafe { self.raw.as_ptr().cast::<u8>().add(offset).cast::<T>().write(value) }
    }

    /// Reads eight bytes of the dynamic area.
    #[inline(always)]
    pub(crate) fn dynamic_u64(&self, offset: u16) -> u64 {
        debug_assert!(usize::from(offset) + 8 <= size_of::<dpdk_sys::rte_mbuf>());
        self.field(usize::from(offset))
    }

    /// Writes eight bytes of the dynamic area.
    #[inline(always)]
    pub(crate) fn set_dynamic_u64(&mut self, offset: u16, value: u64) {
        debug_assert!(usize::from(offset) + 8 <= size_of::<dpdk_sys::rte_mbuf>());
        self.set_field(usize::from(offset), value);
    }

    #[inline]
    fn buffer(&self) -> *mut u8 {
        self.field::<*mut u8>(BUF_ADDR)
    }

    /// Offset of the first byte of the frame in the buffer.
    #[inline]
    fn data_off(&self) -> usize {
        usize::from(self.field::<u16>(DATA_OFF))
    }

    /// The frame's bytes.
    #[inline]
    pub fn data(&self) -> &[u8] {
        // SAFETY: data_off + data_len <= buf_len is DPDK's invariant, kept by every setter here; the
        // pool's memory is mapped from zeroed pages, so all of it is initialised; the borrow of `self`
        // keeps others from writing.
        unsafe { std::slice::from_raw_parts(self.buffer().add(self.data_off()), self.len()) }
    }

    /// The frame's bytes, to write.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `data`; the handle owns the only reference, so `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.buffer().add(self.data_off()), self.len()) }
    }

    /// Bytes in the frame.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.field::<u16>(DATA_LEN))
    }

    /// Whether the frame has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the whole buffer: head room, frame and tail room.
    #[inline]
    pub fn buffer_len(&self) -> usize {
        usize::from(self.field::<u16>(BUF_LEN))
    }

    /// Bytes free in front of the frame.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.data_off()
    }

    /// Bytes free behind the frame.
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.buffer_len() - self.data_off() - self.len()
    }

    #[inline]
    fn write_len(&mut self, bytes: u16) {
        self.set_field(DATA_LEN, bytes);
        self.set_field(PKT_LEN, u32::from(bytes));
    }

    /// Sets the frame's length. Bytes that come into the frame by it hold what the buffer held before.
    #[inline]
    pub fn set_len(&mut self, bytes: usize) -> Result<(), Error> {
        let room_bytes = self.buffer_len() - self.data_off();
        match u16::try_from(bytes) {
            Ok(narrow) if bytes <= room_bytes => {
                self.write_len(narrow);
                Ok(())
            }
            _ => Err(Error::NoRoom { wanted_bytes: bytes, room_bytes }),
        }
    }

    /// Lengthens the frame at its end and returns the new part, to be written.
    #[inline]
    pub fn append(&mut self, bytes: usize) -> Result<&mut [u8], Error> {
        let old = self.len();
        if bytes > self.tailroom() {
            return Err(Error::NoRoom { wanted_bytes: bytes, room_bytes: self.tailroom() });
        }
        self.set_len(old + bytes)?;
        Ok(&mut self.data_mut()[old..])
    }

    /// Copies bytes to the frame's end.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.append(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Lengthens the frame at its front, into the head room, and returns the new part, to be written.
    #[inline]
    pub fn prepend(&mut self, bytes: usize) -> Result<&mut [u8], Error> {
        let (headroom, len) = (self.headroom(), self.len());
        if bytes > headroom {
            return Err(Error::NoRoom { wanted_bytes: bytes, room_bytes: headroom });
        }
        // Both fit 16 bits: the offset shrinks, and offset + length stays below the 16-bit buf_len.
        self.set_field(DATA_OFF, (headroom - bytes) as u16);
        self.write_len((len + bytes) as u16);
        Ok(&mut self.data_mut()[..bytes])
    }

    /// Takes bytes off the frame's front; they become head room. More than there are takes all.
    #[inline]
    pub fn trim_front(&mut self, bytes: usize) {
        let bytes = bytes.min(self.len());
        let (offset, len) = (self.data_off() + bytes, self.len() - bytes);
        self.set_field(DATA_OFF, offset as u16);
        self.write_len(len as u16);
    }

    /// Empties the frame and restores the head room that a fresh mbuf has.
    #[inline]
    pub fn clear(&mut self) {
        let headroom = (dpdk_sys::DPDK_MBUF_HEADROOM as usize).min(self.buffer_len());
        self.set_field(DATA_OFF, headroom as u16);
        self.write_len(0);
    }

    /// The port that received the packet; a number without meaning on a packet that was not received.
    #[inline]
    pub fn port(&self) -> u16 {
        self.field(PORT)
    }

    #[inline]
    pub(crate) fn segments(&self) -> u16 {
        self.field(NB_SEGS)
    }

    /// The offload flags (`RTE_MBUF_F_*` and dynamic ones).
    #[inline]
    pub(crate) fn flags(&self) -> u64 {
        self.field(OL_FLAGS)
    }

    #[inline]
    pub(crate) fn set_flags(&mut self, flags: u64) {
        self.set_field(OL_FLAGS, flags);
    }

    /// Whether the NIC stamped this packet's arrival in its own registers (IEEE 1588), to be read by
    /// [`Timesync::read_rx_ns`](crate::Timesync::read_rx_ns).
    #[inline]
    pub fn has_rx_register_timestamp(&self) -> bool {
        self.flags() & dpdk_sys::DPDK_MBUF_RX_IEEE1588_TMST != 0
    }

    /// Which of the NIC's receive timestamp registers holds this packet's time.
    #[inline]
    pub fn timesync_register(&self) -> u16 {
        self.field(TIMESYNC)
    }

    /// Whether the NIC has found a checksum of this packet wrong: the IPv4 header's, or the UDP datagram's.
    #[inline]
    pub fn has_bad_checksum(&self) -> bool {
        let flags = self.flags();
        flags & dpdk_sys::DPDK_MBUF_RX_IP_CHECKSUM_MASK == dpdk_sys::DPDK_MBUF_RX_IP_CHECKSUM_BAD
            || flags & dpdk_sys::DPDK_MBUF_RX_L4_CHECKSUM_MASK == dpdk_sys::DPDK_MBUF_RX_L4_CHECKSUM_BAD
    }

    /// Marks the packet as a NIC does that finds its UDP checksum wrong: for emulated ones.
    pub fn mark_bad_checksum(&mut self) {
        self.set_flags(self.flags() | dpdk_sys::DPDK_MBUF_RX_L4_CHECKSUM_BAD);
    }

    /// The number of the virtual LAN whose tag the NIC took off this packet; `None` when it took none off.
    #[inline]
    pub fn stripped_vlan(&self) -> Option<u16> {
        let stripped = self.flags() & dpdk_sys::DPDK_MBUF_RX_VLAN_STRIPPED != 0;
        stripped.then(|| self.field::<u16>(VLAN_TCI) & 0x0fff)
    }

    /// Asks the NIC to put the tag of virtual LAN `vlan`, priority 0, on this packet. Asked twice, it is put on once.
    #[inline]
    pub fn request_vlan_tag(&mut self, vlan: u16) {
        self.set_field(VLAN_TCI, vlan & 0x0fff);
        self.set_flags(self.flags() | dpdk_sys::DPDK_MBUF_TX_VLAN);
    }

    /// Asks the NIC to fill in the UDP checksum of this packet, whose IPv6 header of `ip_bytes` comes after `link_bytes`. In the
    /// checksum's place is the sum of the pseudo-header. Asked twice, it is filled in once.
    #[inline]
    pub fn request_udp6_checksum(&mut self, link_bytes: usize, ip_bytes: usize) {
        let lengths = link_bytes as u64 | (ip_bytes as u64) << dpdk_sys::DPDK_MBUF_L2_LEN_BITS;
        self.set_field(TX_OFFLOAD, lengths);
        self.set_flags(self.flags() | dpdk_sys::DPDK_MBUF_TX_UDP6_CHECKSUM);
    }

    /// What was asked by [`Mbuf::request_udp6_checksum`]: the bytes of the link's header and of IPv6's. For emulated NICs.
    #[must_use]
    pub fn requested_udp6_checksum(&self) -> Option<(usize, usize)> {
        let wanted = dpdk_sys::DPDK_MBUF_TX_UDP6_CHECKSUM;
        let (lengths, link_bits) = (self.field::<u64>(TX_OFFLOAD), dpdk_sys::DPDK_MBUF_L2_LEN_BITS);
        let lengths = (lengths & ((1 << link_bits) - 1), lengths >> link_bits);
        (self.flags() & wanted == wanted).then_some((lengths.0 as usize, lengths.1 as usize))
    }

    /// Asks the NIC to stamp this packet's departure (IEEE 1588), to be read by
    /// [`Timesync::read_tx_ns`](crate::Timesync::read_tx_ns).
    #[inline]
    pub fn request_tx_register_timestamp(&mut self) {
        self.set_flags(self.flags() | dpdk_sys::DPDK_MBUF_TX_IEEE1588_TMST);
    }

    /// Returns a whole burst to its pools at once. It spares a thread without a `ThreadGuard` a visit to the
    /// pool's ring per packet.
    #[inline]
    pub fn free_burst<const N: usize>(burst: &mut ArrayVec<Mbuf, N>) {
        let count = burst.len();
        let first = burst.as_mut_ptr().cast::<*mut dpdk_sys::rte_mbuf>();
        // SAFETY: the elements are moved out: nothing reads them again, and none is dropped.
        unsafe { burst.set_len(0) };
        // SAFETY: `first` points to `count` initialised mbuf pointers (Mbuf is transparent), each owned
        // by the burst until the line above, and by nobody since.
        unsafe { dpdk_sys::rte_pktmbuf_free_bulk(first, count as u32) };
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the handle owns the mbuf's only reference and gives it up; the pool outlives every
        // mbuf, because the EAL is not cleaned up while one is out.
        unsafe { dpdk_sys::rte_pktmbuf_free(self.raw.as_ptr()) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf").field("len", &self.len()).field("headroom", &self.headroom()).finish()
    }
}

/// Moves up to `max` packets into the free part of a burst: `fill` gets the place and its size, and says
/// how many pointers it wrote.
///
/// # Safety
/// `fill` writes that many pointers to live single-reference mbufs, from the front, and nobody else holds them.
#[inline(always)]
pub(crate) unsafe fn receive_into<const N: usize>(
    burst: &mut ArrayVec<Mbuf, N>,
    fill: impl FnOnce(*mut *mut dpdk_sys::rte_mbuf, u16) -> u16,
) -> usize {
    let held = burst.len();
    let room = burst.remaining_capacity().min(usize::from(u16::MAX)) as u16;
    // SAFETY: `held` is at most the capacity, so the place is inside the array or one past its end.
    let place = unsafe { burst.as_mut_ptr().add(held) }.cast::<*mut dpdk_sys::rte_mbuf>();
    let received = usize::from(fill(place, room).min(room));
    // SAFETY: `fill` initialised that many elements past `held` (the caller's promise), and they fit.
    unsafe { burst.set_len(held + received) };
    received
}

/// Moves packets off the front of a burst: `take` gets the pointers and says how many it took over.
///
/// # Safety
/// `take` owns the packets it counts, from the front, and keeps no pointer to the others.
#[inline(always)]
pub(crate) unsafe fn send_from<const N: usize>(
    burst: &mut ArrayVec<Mbuf, N>,
    take: impl FnOnce(*mut *mut dpdk_sys::rte_mbuf, u16) -> u16,
) -> usize {
    let held = burst.len().min(usize::from(u16::MAX));
    if held == 0 {
        return 0;
    }
    let first = burst.as_mut_ptr();
    let sent = usize::from(take(first.cast(), held as u16)).min(held);
    let left = burst.len() - sent;
    if left > 0 {
        // SAFETY: both ranges lie inside the array; the first `sent` elements have been moved out, so
        // overwriting them loses nothing.
        unsafe { std::ptr::copy(first.add(sent), first, left) };
    }
    // SAFETY: the first `left` elements are the ones not sent, each of them once.
    unsafe { burst.set_len(left) };
    sent
}
