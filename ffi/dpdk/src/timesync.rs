//! A NIC's own clock (IEEE 1588): read it, set it, and fetch the stamps of event messages.
//!
//! No virtual device has one; the drivers that do are axgbe, bnxt, cnxk, dpaa2, e1000, hns3, i40e, ice, ixgbe, ngbe
//! and txgbe. The clock's rate is left alone: the servo that disciplines time is ours, in software.
//!
//! # What igb (82576) does
//!
//! Read in the driver of DPDK 22.11, and seen with 22.11 and 24.11 on QEMU's emulated card (`scripts/nic-vm`):
//!
//! * Without `RTE_LIBRTE_IEEE1588`, which Debian does not set, received mbufs are never marked
//!   (`Mbuf::has_rx_register_timestamp`), and a departure stamp that is wanted is silently not asked for. `read_rx_ns` works
//!   all the same.
//! * There is one register for receipt and one for departure, whatever number is asked for. A stamp stays until it is read,
//!   and frames that come meanwhile get none. So it belongs to the oldest stamped frame since the last reading, which without
//!   the mark nobody can tell.
//! * Only PTP over Ethernet is stamped, and of its event messages only Sync: the driver leaves `TSYNCRXCFG`, which names the message
//!   type, at 0. The arrival of a Delay_Req, which a master needs, has no stamp.
//! * PTP's multicast addresses pass the card's filter only when the port is promiscuous.
//! * Enabling restarts the clock, from 0 on the card and from anywhere in the emulator; starting the port disables it, so enable
//!   it after the start.
//! * The clock, receipt and departure are three sums that the driver keeps in software. Its call that sets the time gives all
//!   three the new value, but not the count to which it belongs: each is then ahead by the time since it was last read. Moving
//!   the time is right for all three, so [`Timesync::write_ns`] moves it.
//! * The sums are not guarded: one thread may use a port's clock at a time.

use std::sync::Arc;

use crate::error::{Errno, Error};
use crate::port::Device;
use crate::queue::port_result;

/// The enabled clock of a port. Dropping it disables the stamping.
#[derive(Debug)]
pub struct Timesync {
    device: Arc<Device>,
}

impl Timesync {
    pub(crate) fn enable(device: &Arc<Device>) -> Result<Option<Timesync>, Error> {
        let _control = device.eal().control();
        // SAFETY: the port is valid while the device is held; the control lock is held.
        match Errno::check(unsafe { dpdk_sys::rte_eth_timesync_enable(device.id()) }) {
            Ok(_) => Ok(Some(Timesync { device: Arc::clone(device) })),
            Err(errno) if errno.means_unsupported() => Ok(None),
            Err(errno) => Err(Error::Port { port: device.id(), operation: "enable its clock", errno }),
        }
    }

    /// The clock's time in ns.
    pub fn read_ns(&mut self) -> Result<i64, Error> {
        let (mut seconds, mut nanoseconds) = (0, 0);
        let port = self.device.id();
        // SAFETY: both integers are ours to write; the port is valid.
        let code = unsafe { dpdk_sys::dpdk_timesync_read_time(port, &mut seconds, &mut nanoseconds) };
        port_result(port, "tell its time", code)?;
        Ok(in_ns(seconds, nanoseconds))
    }

    /// Sets the clock, in ns, by moving it: what a read and a move take (microseconds) is its error. The driver's own call is
    /// not used, see the head of this file.
    pub fn write_ns(&mut self, time_ns: i64) -> Result<(), Error> {
        let now_ns = self.read_ns()?;
        self.adjust_ns(time_ns.saturating_sub(now_ns))
    }

    /// Moves the clock by this many ns, forwards or back.
    pub fn adjust_ns(&mut self, delta_ns: i64) -> Result<(), Error> {
        let port = self.device.id();
        // SAFETY: the port is valid; the difference is passed by value.
        let code = unsafe { dpdk_sys::rte_eth_timesync_adjust_time(port, delta_ns) };
        port_result(port, "move its time", code).map(drop)
    }

    /// The arrival time of the packet that bears this register's number, if the NIC holds one.
    pub fn read_rx_ns(&mut self, register: u16) -> Option<i64> {
        let (mut seconds, mut nanoseconds) = (0, 0);
        // SAFETY: both integers are ours to write; the port is valid.
        let code = unsafe {
            dpdk_sys::dpdk_timesync_read_rx(self.device.id(), register.into(), &mut seconds, &mut nanoseconds)
        };
        (code == 0).then(|| in_ns(seconds, nanoseconds))
    }

    /// The departure time of the packet that asked for it last, if it has left: poll it after sending.
    pub fn read_tx_ns(&mut self) -> Option<i64> {
        let (mut seconds, mut nanoseconds) = (0, 0);
        // SAFETY: both integers are ours to write; the port is valid.
        let code =
            unsafe { dpdk_sys::dpdk_timesync_read_tx(self.device.id(), &mut seconds, &mut nanoseconds) };
        (code == 0).then(|| in_ns(seconds, nanoseconds))
    }
}

impl Drop for Timesync {
    fn drop(&mut self) {
        let _control = self.device.eal().control();
        // SAFETY: the port is valid and its clock was enabled by this handle.
        unsafe { dpdk_sys::rte_eth_timesync_disable(self.device.id()) };
    }
}

fn in_ns(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
