//! A kernel UDP socket as a port, through io_uring: for machines whose card cannot be given to DPDK.
//!
//! The kernel keeps the Ethernet, IP and UDP headers to itself. What is received gets headers written in front of its
//! payload, from what the socket knows: the source's address and port, the socket's own, no options, a time to live of
//! 64, and a checksum that holds. The source's Ethernet address is not known and is shown as all zeros. What is sent is
//! stripped of its headers; the kernel writes its own and resolves the destination's Ethernet address. A frame whose source
//! is not the socket's address cannot be sent that way and is dropped and counted.
//!
//! The kernel stamps each datagram when its driver hands it over (`SO_TIMESTAMPNS`), by `CLOCK_REALTIME`.
//!
//! Polling makes a system call only when the kernel has something; each is counted.

use super::inprocess::{InProcessPool, StampedBuf, StampedPool};
use super::{Burst, FrameBuf, FramePool, Port, PortCounts, RxPort, RxStamps, TxPort};
use core::net::SocketAddr;
use roko_os::OsError;
use roko_os::udp_ring::{UdpReceiver, UdpRingStats, UdpSender};
use roko_wire::net::{Addresses, Mac, fill_udp6_checksum, headers_bytes, parse_udp, write_headers};
use roko_wire::port_clock::PortTime;
use std::net::UdpSocket;
use std::sync::Arc;

/// Why there is no such port.
#[derive(Debug, thiserror::Error)]
pub enum UdpPortError {
    /// The socket.
    #[error("UDP {at}: {source}; the address must be one of this host's, and its port free")]
    Bind {
        /// The address.
        at: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// io_uring.
    #[error(transparent)]
    Os(#[from] OsError),
}

/// The receiving half.
pub struct UdpRx {
    receiver: UdpReceiver,
    pool: InProcessPool,
    own: SocketAddr,
    own_mac: Mac,
    /// The kernel's times are used.
    is_stamped: bool,
    no_frame: u64,
}

/// The sending half.
pub struct UdpTx {
    sender: UdpSender,
    own: SocketAddr,
    not_sendable: u64,
}

/// See the module.
pub struct UdpPort {
    rx: UdpRx,
    tx: UdpTx,
    pool: InProcessPool,
}

impl UdpPort {
    /// A port on the address `own`, which frames are received on and sent from, with `slots` datagrams in the kernel's
    /// hands each way (a power of two up to 32,768). `own_mac` is what received frames are addressed to.
    ///
    /// # Errors
    /// When the address cannot be bound, or io_uring is not permitted.
    pub fn open(
        own: SocketAddr,
        own_mac: Mac,
        pool: InProcessPool,
        slots: u16,
    ) -> Result<UdpPort, UdpPortError> {
        let bound = |source| UdpPortError::Bind { at: own, source };
        let socket = Arc::new(UdpSocket::bind(own).map_err(bound)?);
        let own = socket.local_addr().map_err(bound)?;
        let receiver = UdpReceiver::new(Arc::clone(&socket), slots)?;
        let sender = UdpSender::new(socket, slots)?;
        let is_stamped = receiver.is_stamped();
        let rx = UdpRx { receiver, pool: pool.clone(), own, own_mac, is_stamped, no_frame: 0 };
        Ok(UdpPort { rx, tx: UdpTx { sender, own, not_sendable: 0 }, pool })
    }

    /// The same, whose datagrams the poll stamps.
    #[must_use]
    pub fn unstamped(mut self) -> UdpPort {
        self.rx.is_stamped = false;
        self
    }

    /// The socket's address.
    #[must_use]
    pub fn own(&self) -> SocketAddr {
        self.rx.own
    }
}

impl UdpRx {
    /// Datagrams, errors and system calls.
    #[must_use]
    pub fn stats(&self) -> UdpRingStats {
        self.receiver.stats()
    }

    /// Datagrams dropped because the pool was empty.
    #[must_use]
    pub fn no_frame(&self) -> u64 {
        self.no_frame
    }

    /// Datagrams that the kernel dropped because nobody polled in time; `None` where it does not tell. It reads a file.
    #[must_use]
    pub fn missed(&self) -> Option<u64> {
        self.receiver.kernel_drops()
    }
}

impl UdpTx {
    /// Datagrams, errors and system calls.
    #[must_use]
    pub fn stats(&self) -> UdpRingStats {
        self.sender.stats()
    }

    /// Frames dropped because they are no UDP from this port's address, or too long for a datagram.
    #[must_use]
    pub fn not_sendable(&self) -> u64 {
        self.not_sendable
    }
}

/// Headers in front of a payload, in a frame of the pool; `None` when there is no frame or it is too small.
fn framed(
    pool: &InProcessPool,
    addresses: &Addresses,
    payload: &[u8],
    time_ns: Option<u64>,
) -> Option<StampedBuf> {
    let start = headers_bytes(&addresses.source_ip);
    let mut buf = pool.alloc()?;
    if start + payload.len() > buf.capacity() {
        return None;
    }
    buf.set_len(start + payload.len());
    write_headers(addresses, payload.len(), buf.data_mut())?;
    buf.data_mut()[start..].copy_from_slice(payload);
    fill_udp6_checksum(buf.data_mut());
    Some(StampedBuf::new(buf, time_ns))
}

impl RxPort for UdpRx {
    type Buf = StampedBuf;
    fn rx_burst(&mut self, out: &mut Burst<StampedBuf>) -> usize {
        let held = out.len();
        let UdpRx { receiver, pool, own, own_mac, is_stamped, no_frame } = self;
        receiver.receive(out.remaining_capacity(), |source, payload, time_ns| {
            let addresses = Addresses {
                source_mac: Mac::default(),
                destination_mac: *own_mac,
                source_ip: source.ip(),
                destination_ip: own.ip(),
                source_port: source.port(),
                destination_port: own.port(),
            };
            match framed(pool, &addresses, payload, time_ns.filter(|_| *is_stamped)) {
                Some(buf) => out.push(buf),
                None => *no_frame += 1,
            }
        });
        out.len() - held
    }
    fn stamp(&self, frame: &StampedBuf) -> Option<PortTime> {
        frame.time_ns.map(PortTime::Nanoseconds)
    }
    fn counts(&self) -> PortCounts {
        let stats = self.receiver.stats();
        PortCounts { dropped: self.no_frame + stats.errors, system_calls: stats.system_calls }
    }
}

impl TxPort for UdpTx {
    type Buf = StampedBuf;
    fn tx_burst(&mut self, burst: &mut Burst<StampedBuf>) -> usize {
        let mut sent = 0;
        for buf in burst.iter() {
            let frame = buf.data();
            let from_here =
                |from: &Addresses| (from.source_ip, from.source_port) == (self.own.ip(), self.own.port());
            let Some(udp) = parse_udp(frame).ok().filter(|udp| from_here(&udp.addresses)) else {
                self.not_sendable += 1;
                sent += 1;
                continue;
            };
            let payload = &frame[udp.payload_at..udp.payload_at + udp.payload_bytes];
            if payload.len() > roko_os::udp_ring::PAYLOAD_BYTES_MAX {
                self.not_sendable += 1;
                sent += 1;
                continue;
            }
            let to = SocketAddr::new(udp.addresses.destination_ip, udp.addresses.destination_port);
            if !self.sender.send(to, payload) {
                break;
            }
            sent += 1;
        }
        self.sender.flush();
        burst.drain(..sent);
        sent
    }
    fn counts(&self) -> PortCounts {
        let stats = self.sender.stats();
        PortCounts { dropped: self.not_sendable + stats.errors, system_calls: stats.system_calls }
    }
}

impl Port for UdpPort {
    type Buf = StampedBuf;
    type Rx = UdpRx;
    type Tx = UdpTx;
    type Pool = StampedPool;
    fn kind(&self) -> &'static str {
        "io_uring"
    }
    fn rx_stamps(&self) -> RxStamps {
        if self.rx.is_stamped { RxStamps::Kernel } else { RxStamps::Poll }
    }
    fn split_queues(self) -> (Vec<UdpRx>, UdpTx, StampedPool) {
        (vec![self.rx], self.tx, StampedPool(self.pool))
    }
}
