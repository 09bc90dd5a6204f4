//! The receiving half: one multishot `recvmsg` over a ring of registered buffers.
//!
//! ```text
//!            give(buffer)                 datagram
//!   ours ───────────────────► kernel's ───────────────► filled ─┐
//!     ▲                                                          │ read, in `receive`
//!     └──────────────────────────────────────────────────────────┘
//! ```

use super::{ADDRESS_BYTES, PAYLOAD_BYTES_MAX, UdpRingStats, read_address};
use crate::OsError;
use core::mem::{MaybeUninit, size_of};
use core::net::SocketAddr;
use core::sync::atomic::{AtomicU16, Ordering};
use io_uring::{IoUring, cqueue, opcode, types};
use memmap2::MmapMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Bytes of one buffer: what `recvmsg` puts in front (16 bytes of lengths, the source's address, control data), and the
/// payload.
const BUFFER_BYTES: usize = 2_048;
/// Bytes of control data: one message with a `timespec`, CMSG_SPACE(16).
const CONTROL_BYTES: usize = 32;
const _: () = assert!(16 + ADDRESS_BYTES + CONTROL_BYTES + PAYLOAD_BYTES_MAX < BUFFER_BYTES);
/// The number of the one group of buffers.
const GROUP: u16 = 0;
const RECEIVE: u64 = 1;
const CANCEL: u64 = 2;
/// What the kernel holds of the socket's datagrams beyond the buffers, bytes; less where it permits less.
const SOCKET_BYTES: usize = 8 << 20;

/// Memory that the kernel writes to.
struct Shared {
    /// The ring of buffers, `slots` entries.
    entries: MmapMut,
    /// The buffers, [`BUFFER_BYTES`] each.
    buffers: MmapMut,
    /// What every datagram's layout follows from.
    header: Box<libc::msghdr>,
}

/// Receives a socket's datagrams.
pub struct UdpReceiver {
    ring: IoUring,
    /// `None` once it had to be leaked.
    shared: Option<Shared>,
    socket: Arc<UdpSocket>,
    slots: u16,
    tail: u16,
    armed: bool,
    is_stamped: bool,
    stats: UdpRingStats,
}

// SAFETY: the raw pointers in `header` are null; everything else is owned, and `&mut self` serialises all use.
unsafe impl Send for UdpReceiver {}

impl core::fmt::Debug for UdpReceiver {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("UdpReceiver")
            .field("slots", &self.slots)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl UdpReceiver {
    /// A receiver of `socket` with `slots` buffers, a power of two up to 32,768.
    ///
    /// # Errors
    /// [`OsError::UringRefused`] where the kernel (before 6.0) or a filter does not permit it.
    pub fn new(socket: Arc<UdpSocket>, slots: u16) -> Result<UdpReceiver, OsError> {
        assert!(slots.is_power_of_two() && slots <= 1 << 15, "a power of two up to 32,768");
        let call = |call: &'static str| move |source| OsError::Call { call, source };
        socket.set_nonblocking(true).map_err(call("fcntl"))?;
        // Above the host's limit only with CAP_NET_ADMIN; what is granted is what there is.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BYTES);
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BYTES);
        let ring = IoUring::builder()
            // Completions are posted when this thread enters the kernel, not by interrupting it.
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(2 * u32::from(slots).max(64))
            .build(8)
            .map_err(OsError::UringRefused)?;
        let map = |bytes| MmapMut::map_anon(bytes).map_err(call("mmap"));
        let entries = map(usize::from(slots) * size_of::<types::BufRingEntry>())?;
        let buffers = map(usize::from(slots) * BUFFER_BYTES)?;
        // SAFETY: all bits zero is a valid msghdr: null pointers and lengths of 0.
        let mut header: Box<libc::msghdr> = Box::new(unsafe { MaybeUninit::zeroed().assume_init() });
        header.msg_namelen = ADDRESS_BYTES as u32;
        header.msg_controllen = CONTROL_BYTES;
        // Without it datagrams come without a time, and `is_stamped` says so.
        let is_stamped = stamp_datagrams(&socket);
        // SAFETY: the mapping is page-aligned, holds `slots` entries and lives until the kernel is done with it (`drop`).
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, slots, GROUP, 0) }
            .map_err(OsError::UringRefused)?;
        let shared = Some(Shared { entries, buffers, header });
        let stats = UdpRingStats::default();
        let mut receiver =
            UdpReceiver { ring, shared, socket, slots, tail: 0, armed: false, is_stamped, stats };
        (0..slots).for_each(|buffer| receiver.give(buffer));
        receiver.publish();
        Ok(receiver)
    }

    /// Its figures.
    #[must_use]
    pub fn stats(&self) -> UdpRingStats {
        self.stats
    }

    /// Whether the kernel stamps each datagram.
    #[must_use]
    pub fn is_stamped(&self) -> bool {
        self.is_stamped
    }

    /// Hands over at most `most` datagrams that have arrived: their source, their payload, and when the kernel's driver handed
    /// them over, `CLOCK_REALTIME` in nanoseconds. Returns how many.
    pub fn receive(&mut self, most: usize, mut take: impl FnMut(SocketAddr, &[u8], Option<u64>)) -> usize {
        if !self.armed && !self.arm() {
            return 0;
        }
        if self.ring.submission().taskrun() {
            self.enter();
        }
        let mut taken = 0;
        while taken < most {
            let Some(entry) = self.ring.completion().next() else { break };
            taken += usize::from(self.complete(&entry, &mut take));
        }
        if taken > 0 {
            self.publish();
        }
        taken
    }

    /// One completion. True when a datagram was handed over.
    fn complete(
        &mut self,
        entry: &cqueue::Entry,
        take: &mut impl FnMut(SocketAddr, &[u8], Option<u64>),
    ) -> bool {
        if entry.user_data() != RECEIVE {
            return false;
        }
        // Without the flag the request is over: the buffers were used up, or the socket had an error.
        self.armed &= cqueue::more(entry.flags());
        let (Some(buffer), Some(shared)) = (cqueue::buffer_select(entry.flags()), &self.shared) else {
            return false;
        };
        let bytes = usize::try_from(entry.result()).unwrap_or(0).min(BUFFER_BYTES);
        let at = usize::from(buffer) * BUFFER_BYTES;
        // The kernel has finished with this buffer, and gets it back only after this.
        let filled = shared.buffers.get(at..at + bytes).unwrap_or_default();
        let datagram = types::RecvMsgOut::parse(filled, &shared.header).ok();
        let datagram = datagram
            .filter(|out| out.payload_data().len() <= PAYLOAD_BYTES_MAX && !out.is_payload_truncated());
        let parts = datagram.as_ref().and_then(|out| {
            Some((read_address(out.name_data())?, out.payload_data(), read_time(out.control_data())))
        });
        match parts {
            Some((source, payload, time_ns)) => take(source, payload, time_ns),
            None => self.stats.errors += 1,
        }
        let handed = parts.is_some();
        self.stats.datagrams += u64::from(handed);
        self.give(buffer);
        handed
    }

    /// Arms the receive, on the thread that polls: completions are this thread's work.
    fn arm(&mut self) -> bool {
        let Some(shared) = &self.shared else { return false };
        let header: *const libc::msghdr = &*shared.header;
        let fd = types::Fd(self.socket.as_raw_fd());
        let receive = opcode::RecvMsgMulti::new(fd, header, GROUP).build().user_data(RECEIVE);
        // SAFETY: the header and the buffers live until the kernel has said that the request is over (`drop`), and the
        // socket is held for as long.
        if unsafe { self.ring.submission().push(&receive) }.is_err() {
            return false;
        }
        self.armed = self.enter();
        self.armed
    }

    fn enter(&mut self) -> bool {
        self.stats.system_calls += 1;
        self.ring.submit().is_ok()
    }

    /// Puts a buffer into the ring; the kernel sees it after [`UdpReceiver::publish`].
    fn give(&mut self, buffer: u16) {
        let Some(shared) = &mut self.shared else { return };
        let at = usize::from(self.tail & (self.slots - 1));
        let address = shared.buffers.as_ptr() as u64 + u64::from(buffer) * BUFFER_BYTES as u64;
        // SAFETY: `at` is within the ring, and no more buffers are given than it has entries, so the kernel does not read
        // this entry before the tail passes it. The entry's last field is not written: in the first it is the tail.
        let entry = unsafe { &mut *shared.entries.as_mut_ptr().cast::<types::BufRingEntry>().add(at) };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        let Some(shared) = &mut self.shared else { return };
        let base = shared.entries.as_mut_ptr().cast::<types::BufRingEntry>();
        // SAFETY: the base of the ring, whose first entry's last field is the tail; the kernel reads it with acquire.
        let tail = unsafe { AtomicU16::from_ptr(types::BufRingEntry::tail(base).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Datagrams that the kernel dropped because the socket was full, by /proc (proc_net_udp(5)); `None` where it does not
    /// tell. For reports: it reads a file.
    #[must_use]
    pub fn kernel_drops(&self) -> Option<u64> {
        let local = self.socket.local_addr().ok()?;
        let table = if local.is_ipv4() { "/proc/thread-self/net/udp" } else { "/proc/thread-self/net/udp6" };
        let port = format!(":{:04X}", local.port());
        let text = std::fs::read_to_string(table).ok()?;
        let fields: Vec<&str> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|fields| fields.get(1).is_some_and(|local| local.ends_with(&port)))?;
        fields.last()?.parse().ok()
    }

    /// Cancels the receive and waits until the kernel says that it is over.
    fn disarm(&mut self) -> std::io::Result<()> {
        let cancel = opcode::AsyncCancel::new(RECEIVE).build().user_data(CANCEL);
        // SAFETY: the entry points to no memory.
        let pushed = unsafe { self.ring.submission().push(&cancel) };
        pushed.map_err(|_| std::io::Error::other("the submission queue is full"))?;
        while self.armed {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            while let Some(entry) = self.ring.completion().next() {
                if entry.user_data() == RECEIVE {
                    self.armed &= cqueue::more(entry.flags());
                }
            }
        }
        Ok(())
    }
}

/// Asks the kernel for the time of each datagram. False where it refuses.
fn stamp_datagrams(socket: &UdpSocket) -> bool {
    let on: libc::c_int = 1;
    // SAFETY: the option reads one int, which is borrowed for the call; the descriptor is open.
    let code = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    code == 0
}

/// The time in control data of one message, `cmsghdr` and `timespec` (cmsg(3), socket(7)), nanoseconds since 1970.
fn read_time(control: &[u8]) -> Option<u64> {
    let word =
        |at: usize| control.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes);
    let half =
        |at: usize| control.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    let kind = (half(8)?, half(12)?);
    if kind != (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) || word(0)? < 32 {
        return None;
    }
    word(16)?.checked_mul(1_000_000_000)?.checked_add(word(24)?)
}

impl Drop for UdpReceiver {
    fn drop(&mut self) {
        if self.armed && self.disarm().is_err() {
            // The kernel may still write there: leaking it is what keeps this sound.
            core::mem::forget(self.shared.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_from_control_data_of_its_kind_only() {
        let control = |bytes: u64, kind: i32| {
            let mut control = Vec::from(bytes.to_ne_bytes());
            control.extend(libc::SOL_SOCKET.to_ne_bytes());
            control.extend(kind.to_ne_bytes());
            control.extend(3_u64.to_ne_bytes());
            control.extend(7_u64.to_ne_bytes());
            control
        };
        let good = control(32, libc::SCM_TIMESTAMPNS);
        assert_eq!((good.len(), read_time(&good)), (CONTROL_BYTES, Some(3_000_000_007)));
        assert!((0..good.len()).all(|bytes| read_time(&good[..bytes]).is_none()));
        assert_eq!(read_time(&control(31, libc::SCM_TIMESTAMPNS)), None);
        assert_eq!(read_time(&control(32, libc::SCM_RIGHTS)), None);
        assert_eq!(size_of::<libc::cmsghdr>() + size_of::<libc::timespec>(), CONTROL_BYTES);
    }
}
