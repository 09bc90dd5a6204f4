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

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::error::{Errno, Error};
use crate::port::Device;
use crate::queue::port_result;

/// What the handles of one clock share. Dropping the last disables the stamping.
#[derive(Debug)]
struct Enabled {
    device: Arc<Device>,
    /// Drivers keep state of their own beside the registers: one call at a time.
    call: Mutex<()>,
}

impl Enabled {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The enabled clock of a port. Dropping it, and its [`TxTimestamps`], disables the stamping.
#[derive(Debug)]
pub struct Timesync {
    enabled: Arc<Enabled>,
}

/// The free-running clock of a port, which counts ticks of an oscillator: what some cards (mlx5) stamp received packets with.
#[derive(Debug)]
pub struct TickClock {
    device: Arc<Device>,
}

impl TickClock {
    pub(crate) fn open(device: &Arc<Device>) -> Result<Option<TickClock>, Error> {
        let mut clock = TickClock { device: Arc::clone(device) };
        match clock.read() {
            Ok(_) => Ok(Some(clock)),
            Err(Error::Port { errno, .. }) if errno.means_unsupported() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The ticks now.
    pub fn read(&mut self) -> Result<u64, Error> {
        let mut ticks = 0;
        let port = self.device.id();
        let _control = self.device.eal().control();
        // SAFETY: the integer is ours to write; the port is valid while the device is held; the control lock is held.
        let code = unsafe { dpdk_sys::rte_eth_read_clock(port, &mut ticks) };
        port_result(port, "tell its ticks", code)?;
        Ok(ticks)
    }
}

/// Reads the departure stamps of a port with an enabled clock, on the thread that sends.
#[derive(Debug)]
pub struct TxTimestamps {
    enabled: Arc<Enabled>,
}

impl TxTimestamps {
    /// As [`Timesync::read_tx_ns`]. It never waits: while another thread reads the clock there is no answer, and the next call
    /// has it.
    pub fn read_ns(&mut self) -> Option<i64> {
        let _call = match self.enabled.call.try_lock() {
            Ok(call) => call,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        read_tx_ns(self.enabled.device.id())
    }
}

impl Timesync {
    pub(crate) fn enable(device: &Arc<Device>) -> Result<Option<Timesync>, Error> {
        let _control = device.eal().control();
        // SAFETY: the port is valid while the device is held; the control lock is held.
        match Errno::check(unsafe { dpdk_sys::rte_eth_timesync_enable(device.id()) }) {
            Ok(_) => {
                let enabled = Enabled { device: Arc::clone(device), call: Mutex::new(()) };
                Ok(Some(Timesync { enabled: Arc::new(enabled) }))
            }
            Err(errno) if errno.means_unsupported() => Ok(None),
            Err(errno) => Err(Error::Port { port: device.id(), operation: "enable its clock", errno }),
        }
    }

    /// A handle for the thread that sends: it reads departure stamps.
    pub fn tx_timestamps(&self) -> TxTimestamps {
        TxTimestamps { enabled: Arc::clone(&self.enabled) }
    }

    /// The clock's time in ns.
    pub fn read_ns(&mut self) -> Result<i64, Error> {
        let (mut seconds, mut nanoseconds) = (0, 0);
        let port = self.enabled.device.id();
        let _call = self.enabled.lock();
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
        let port = self.enabled.device.id();
        let _call = self.enabled.lock();
        // SAFETY: the port is valid; the difference is passed by value.
        let code = unsafe { dpdk_sys::rte_eth_timesync_adjust_time(port, delta_ns) };
        port_result(port, "move its time", code).map(drop)
    }

    /// The arrival time of the packet that bears this register's number, if the NIC holds one.
    pub fn read_rx_ns(&mut self, register: u16) -> Option<i64> {
        let (mut seconds, mut nanoseconds) = (0, 0);
        let port = self.enabled.device.id();
        let _call = self.enabled.lock();
        // SAFETY: both integers are ours to write; the port is valid.
        let code =
            unsafe { dpdk_sys::dpdk_timesync_read_rx(port, register.into(), &mut seconds, &mut nanoseconds) };
        (code == 0).then(|| in_ns(seconds, nanoseconds))
    }

    /// The departure time of the packet that asked for it last, if it has left: poll it after sending.
    pub fn read_tx_ns(&mut self) -> Option<i64> {
        let _call = self.enabled.lock();
        read_tx_ns(self.enabled.device.id())
    }
}

/// The caller holds the port's clock and its lock.
fn read_tx_ns(port: u16) -> Option<i64> {
    let (mut seconds, mut nanoseconds) = (0, 0);
    // SAFETY: both integers are ours to write; the port is valid while its clock is held.
    let code = unsafe { dpdk_sys::dpdk_timesync_read_tx(port, &mut seconds, &mut nanoseconds) };
    (code == 0).then(|| in_ns(seconds, nanoseconds))
}

impl Drop for Enabled {
    fn drop(&mut self) {
        let _control = self.device.eal().control();
        // SAFETY: the port is valid and its clock was enabled by this handle.
        unsafe { dpdk_sys::rte_eth_timesync_disable(self.device.id()) };
    }
}

fn in_ns(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
