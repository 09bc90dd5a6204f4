//! The sending half: datagrams are queued in slots and handed to the kernel together.

use super::{ADDRESS_BYTES, PAYLOAD_BYTES_MAX, UdpRingStats, write_address};
use crate::OsError;
use core::mem::MaybeUninit;
use core::net::SocketAddr;
use io_uring::{IoUring, opcode, types};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// One datagram: what `sendmsg` reads. It does not move, as it points into itself.
struct Slot {
    header: libc::msghdr,
    payload_at: libc::iovec,
    address: [u8; ADDRESS_BYTES],
    payload: [u8; PAYLOAD_BYTES_MAX],
}

/// Sends datagrams over a socket.
pub struct UdpSender {
    ring: IoUring,
    /// `None` once they had to be leaked.
    slots: Option<Box<[Slot]>>,
    free: Vec<u16>,
    socket: Arc<UdpSocket>,
    /// Queued and not yet handed over.
    queued: usize,
    count: usize,
    stats: UdpRingStats,
}

// SAFETY: the raw pointers in the slots point into the slots, which are owned; `&mut self` serialises all use.
unsafe impl Send for UdpSender {}

impl core::fmt::Debug for UdpSender {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("UdpSender")
            .field("slots", &self.count)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl UdpSender {
    /// A sender over `socket` with `slots` datagrams under way at most, a power of two.
    ///
    /// # Errors
    /// [`OsError::UringRefused`] where the kernel or a filter does not permit it.
    pub fn new(socket: Arc<UdpSocket>, slots: u16) -> Result<UdpSender, OsError> {
        let ring = IoUring::new(u32::from(slots).max(8)).map_err(OsError::UringRefused)?;
        socket.set_nonblocking(true).map_err(|source| OsError::Call { call: "fcntl", source })?;
        // SAFETY: all bits zero is a valid slot: null pointers, lengths of 0, bytes.
        let empty = || unsafe { MaybeUninit::<Slot>::zeroed().assume_init() };
        let slots_made: Box<[Slot]> = (0..slots).map(|_| empty()).collect();
        Ok(UdpSender {
            ring,
            slots: Some(slots_made),
            free: (0..slots).rev().collect(),
            socket,
            queued: 0,
            count: usize::from(slots),
            stats: UdpRingStats::default(),
        })
    }

    /// Its figures.
    #[must_use]
    pub fn stats(&self) -> UdpRingStats {
        self.stats
    }

    /// Queues a datagram; it leaves with the next [`UdpSender::flush`]. False when no slot is free, or the payload is longer
    /// than [`PAYLOAD_BYTES_MAX`], which is counted.
    pub fn send(&mut self, to: SocketAddr, payload: &[u8]) -> bool {
        if payload.len() > PAYLOAD_BYTES_MAX {
            self.stats.errors += 1;
            return false;
        }
        let Some(slots) = &mut self.slots else { return false };
        let Some(number) = self.free.pop() else { return false };
        let slot = &mut slots[usize::from(number)];
        slot.payload[..payload.len()].copy_from_slice(payload);
        slot.payload_at = libc::iovec { iov_base: slot.payload.as_mut_ptr().cast(), iov_len: payload.len() };
        slot.header.msg_namelen = write_address(to, &mut slot.address);
        slot.header.msg_name = slot.address.as_mut_ptr().cast();
        slot.header.msg_iov = &raw mut slot.payload_at;
        slot.header.msg_iovlen = 1;
        let header: *const libc::msghdr = &raw const slot.header;
        let fd = types::Fd(self.socket.as_raw_fd());
        let send = opcode::SendMsg::new(fd, header).build().user_data(u64::from(number));
        // SAFETY: the slot is in memory that does not move, is written again only when its completion was seen, and is freed
        // only when nothing is under way (`drop`); the socket is held for as long.
        if unsafe { self.ring.submission().push(&send) }.is_err() {
            self.free.push(number);
            return false;
        }
        self.queued += 1;
        true
    }

    /// Hands everything queued to the kernel, in order, and takes up which slots are free again.
    pub fn flush(&mut self) {
        if self.queued > 0 {
            self.stats.system_calls += 1;
            // Where the kernel has no room now, they stay queued for the next call.
            if let Ok(count) = self.ring.submit() {
                self.queued -= count.min(self.queued);
                self.stats.datagrams += count as u64;
            }
        }
        self.reap();
    }

    fn reap(&mut self) {
        while let Some(entry) = self.ring.completion().next() {
            self.stats.errors += u64::from(entry.result() < 0);
            if let Ok(number) = u16::try_from(entry.user_data()) {
                self.free.push(number);
            }
        }
    }
}

impl Drop for UdpSender {
    fn drop(&mut self) {
        // A datagram leaves at once or waits for room in the socket, which loopback and cards make soon.
        for _ in 0..1_000 {
            self.flush();
            if self.free.len() == self.count {
                return;
            }
            std::thread::sleep(core::time::Duration::from_millis(1));
        }
        // The kernel may still read there: leaking it is what keeps this sound.
        core::mem::forget(self.slots.take());
    }
}
