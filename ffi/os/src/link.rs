//! The link of a network device that the kernel owns.

use crate::OsError;
use core::mem::MaybeUninit;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// A device of the network namespace in which this was made. It may go down, or be taken away.
#[derive(Debug)]
pub struct DeviceLink {
    socket: UdpSocket,
    name: String,
}

impl DeviceLink {
    /// Watches the device `name`, which need not be there yet. The calling thread's namespace counts.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn new(name: &str) -> Result<DeviceLink, OsError> {
        let refused = |source| OsError::Call { call: "socket", source };
        let any = (std::net::Ipv4Addr::UNSPECIFIED, 0);
        Ok(DeviceLink { socket: UdpSocket::bind(any).map_err(refused)?, name: name.to_owned() })
    }

    /// Whether the device is there, switched on, and has a carrier (`SIOCGIFFLAGS`, netdevice(7)). One system call.
    #[must_use]
    pub fn is_up(&self) -> bool {
        // SAFETY: an `ifreq` is plain data, for which all zeros are valid.
        let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
        // The last byte stays zero: no device has a longer name.
        let room = request.ifr_name.len() - 1;
        if self.name.len() > room {
            return false;
        }
        for (place, byte) in request.ifr_name.iter_mut().zip(self.name.bytes()) {
            *place = byte as libc::c_char;
        }
        // SAFETY: the socket is open, and SIOCGIFFLAGS reads the name of and writes the flags to an `ifreq`, which this is.
        let answer = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
        if answer != 0 {
            return false;
        }
        // SAFETY: the call succeeded, so the flags are the union's member that is set.
        let flags = i32::from(unsafe { request.ifr_ifru.ifru_flags });
        let wanted = libc::IFF_UP | libc::IFF_RUNNING;
        flags & wanted == wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_up_and_no_device_is_not() {
        assert!(DeviceLink::new("lo").expect("a socket").is_up());
        for name in ["", "nosuchdevice0", "a name that is longer than any"] {
            assert!(!DeviceLink::new(name).expect("a socket").is_up(), "{name}");
        }
    }
}
