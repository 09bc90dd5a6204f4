//! Datagrams of a UDP socket through io_uring: many received for one request, many sent for one system call.
//!
//! [`UdpReceiver`] arms one multishot receive over a ring of registered buffers, and from then on the kernel fills buffers
//! by itself; [`UdpSender`] queues datagrams in memory of its own and hands them over together. Each has a ring of its
//! own, so each may be on another thread. Payloads are copied once on either side, which costs a hundredth of what the
//! kernel's UDP path does.
//!
//! The kernel writes to and reads from memory that these structures own. It is given back only when the kernel has
//! said that it is done with it; where it does not say so, the memory is leaked.

mod receive;
mod send;

pub use receive::UdpReceiver;
pub use send::UdpSender;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Bytes of a datagram's payload, at most: what an Ethernet frame of 1,500 bytes carries, with room to spare.
pub const PAYLOAD_BYTES_MAX: usize = 1_600;
/// Bytes of the longest socket address here: `sockaddr_in6`.
const ADDRESS_BYTES: usize = 28;

/// Figures of one half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpRingStats {
    /// Datagrams received or handed to the kernel.
    pub datagrams: u64,
    /// Datagrams that were too long, or that the kernel refused to send.
    pub errors: u64,
    /// System calls.
    pub system_calls: u64,
}

/// `sockaddr_in` or `sockaddr_in6` (bits/socket.h): the family in the machine's byte order, the rest in the network's.
/// Returns how many bytes count.
fn write_address(address: SocketAddr, out: &mut [u8; ADDRESS_BYTES]) -> u32 {
    out.fill(0);
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    out[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    out[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) => {
            out[4..8].copy_from_slice(&v4.ip().octets());
            16
        }
        SocketAddr::V6(v6) => {
            out[8..24].copy_from_slice(&v6.ip().octets());
            out[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            ADDRESS_BYTES as u32
        }
    }
}

/// Reads what [`write_address`] writes; `None` for another family.
fn read_address(bytes: &[u8]) -> Option<SocketAddr> {
    let array = |at: usize| bytes.get(at..at + 2).map(|two| [two[0], two[1]]);
    let port = u16::from_be_bytes(array(2)?);
    match i32::from(u16::from_ne_bytes(array(0)?)) {
        libc::AF_INET => {
            let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), port))
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            let scope: [u8; 4] = bytes.get(24..28)?.try_into().ok()?;
            let scope = u32::from_ne_bytes(scope);
            Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, scope)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    #[test]
    fn addresses_survive_their_bytes() {
        for text in ["10.77.0.1:7700", "[2001:db8::7]:1", "[fe80::1%5]:65535", "0.0.0.0:0"] {
            let address: SocketAddr = text.parse().expect("an address");
            let mut bytes = [0xff; ADDRESS_BYTES];
            let used = write_address(address, &mut bytes) as usize;
            assert_eq!(read_address(&bytes[..used]), Some(address));
            // An IPv4 address ends in bytes that say nothing.
            assert_eq!(read_address(&bytes[..used - 1]).is_some(), address.is_ipv4());
        }
        assert_eq!(read_address(&[]), None);
    }

    fn pair(slots: u16) -> Option<(UdpReceiver, UdpSender, SocketAddr, SocketAddr)> {
        let bind = || Arc::new(UdpSocket::bind("127.0.0.1:0").expect("loopback"));
        let (to, from) = (bind(), bind());
        let addresses = (to.local_addr().expect("bound"), from.local_addr().expect("bound"));
        let receiver = match UdpReceiver::new(to, slots) {
            Ok(receiver) => receiver,
            Err(refusal) => {
                eprintln!("skipped: {refusal}");
                return None;
            }
        };
        Some((receiver, UdpSender::new(from, slots).expect("as the receiver"), addresses.0, addresses.1))
    }

    #[test]
    fn datagrams_of_every_size_arrive_with_their_source_many_times_round_the_buffers() {
        let Some((mut receiver, mut sender, to, from)) = pair(16) else { return };
        let until = Instant::now() + Duration::from_secs(20);
        let receiver_stamped = receiver.is_stamped();
        for round in 0..200_u32 {
            let sizes = [0, 1, 17, 1_000, 1_472, PAYLOAD_BYTES_MAX];
            for (index, bytes) in sizes.into_iter().enumerate() {
                assert!(sender.send(to, &vec![(round as usize + index) as u8; bytes]));
            }
            sender.flush();
            let mut arrived = 0;
            while arrived < sizes.len() && Instant::now() < until {
                receiver.receive(4, |source, payload, time_ns| {
                    let now = crate::clock::realtime_ns();
                    let age_ns = now.saturating_sub(time_ns.expect("the kernel stamps"));
                    assert!(receiver_stamped && age_ns < 20_000_000_000, "{age_ns} ns old");
                    assert_eq!((source, payload.len()), (from, sizes[arrived]));
                    assert!(payload.iter().all(|byte| *byte == (round as usize + arrived) as u8));
                    arrived += 1;
                });
            }
            assert_eq!(arrived, sizes.len(), "round {round}");
        }
        assert_eq!(receiver.stats().datagrams, 200 * 6);
        assert_eq!(sender.stats(), UdpRingStats { datagrams: 1_200, errors: 0, ..sender.stats() });
        assert!(!sender.send(to, &[0; PAYLOAD_BYTES_MAX + 1]) && sender.stats().errors == 1);
    }

    #[test]
    fn a_burst_beyond_the_buffers_waits_in_the_socket() {
        let Some((mut receiver, mut sender, to, _)) = pair(8) else { return };
        assert_eq!(receiver.receive(1, |_, _, _| {}), 0);
        for number in 0..100_u8 {
            while !sender.send(to, &[number; 100]) {
                sender.flush();
            }
        }
        sender.flush();
        let (mut next, until) = (0, Instant::now() + Duration::from_secs(20));
        while next < 100 && Instant::now() < until {
            receiver.receive(32, |_, payload, _| {
                assert_eq!(payload, [next; 100]);
                next += 1;
            });
        }
        assert_eq!(next, 100);
        assert_eq!(receiver.kernel_drops(), Some(0));
    }
}
