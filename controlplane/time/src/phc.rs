//! Clocks of hardware, as the driver reads them: a card's by DPDK (in `controlplane/node`), `/dev/ptpN`, the kernel's own, and
//! a simulated one.

use crate::map::Sample;
use crate::port_map::JointReading;
use roko_os::ptp::{PtpDevice, SystemClock};
use roko_os::{OsError, clock, tsc};
use roko_wire::port_clock::PortUnit;

/// Joint readings in a burst: enough that one of them is not interrupted.
pub const BURST: usize = 8;

/// A burst of joint readings.
pub type Readings = [JointReading; BURST];

/// A clock that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PhcError {
    /// The operating system.
    #[error(transparent)]
    Os(#[from] OsError),
    /// The card's driver.
    #[error("the port's clock cannot be read: {0}; its stamps are not used until it can")]
    Port(String),
    /// A simulated failure.
    #[error("the simulated clock fails, as it was told to")]
    Simulated,
}

/// A clock of hardware (a PTP hardware clock, or whatever counts beside the CPU). Readings may make system calls and wait for
/// the bus: only the clock's thread takes them.
pub trait Phc: Send {
    /// What it counts.
    fn unit(&self) -> PortUnit;
    /// What it is, for people.
    fn name(&self) -> String;
    /// Reads it a few times, each time between two readings of the counter.
    ///
    /// # Errors
    /// When it cannot be read now. The caller holds over and asks again.
    fn read(&mut self) -> Result<Readings, PhcError>;
}

/// Reads `clock` between two readings of the counter, a few times.
pub fn joint<E>(mut clock: impl FnMut() -> Result<u64, E>) -> Result<Readings, E> {
    let mut readings = [JointReading { tsc_before: 0, count: 0, tsc_after: 0 }; BURST];
    for reading in &mut readings {
        let tsc_before = tsc::tsc_ordered();
        let count = clock()?;
        *reading = JointReading { tsc_before, count, tsc_after: tsc::tsc_ordered() };
    }
    Ok(readings)
}

/// `CLOCK_REALTIME`: what the kernel stamps received packets with.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostRealtime;

impl Phc for HostRealtime {
    fn unit(&self) -> PortUnit {
        PortUnit::Nanoseconds
    }
    fn name(&self) -> String {
        "CLOCK_REALTIME".to_owned()
    }
    fn read(&mut self) -> Result<Readings, PhcError> {
        joint(|| Ok(clock::realtime_ns()))
    }
}

/// A PTP hardware clock of the kernel's: of a card that the kernel drives, of a time card, of a hypervisor.
pub struct DevPtp {
    device: PtpDevice,
}

impl DevPtp {
    /// Over an open device.
    #[must_use]
    pub const fn new(device: PtpDevice) -> DevPtp {
        DevPtp { device }
    }
}

impl Phc for DevPtp {
    fn unit(&self) -> PortUnit {
        PortUnit::Nanoseconds
    }
    fn name(&self) -> String {
        format!("{} ({})", self.device.path().display(), self.device.method().name())
    }
    /// The kernel reads the clock between two readings of `CLOCK_MONOTONIC_RAW` or `CLOCK_REALTIME`; where the counter was
    /// then follows from readings of that clock and the counter together, before and after the call.
    fn read(&mut self) -> Result<Readings, PhcError> {
        let system = self.device.method().system_clock();
        let before = system_reading(system);
        let offsets = self.device.offsets::<BURST>()?;
        let line = Line { before, after: system_reading(system) };
        Ok(offsets.map(|offset| JointReading {
            tsc_before: line.tsc_at(offset.system_before_ns).saturating_sub(line.half_width_ticks()),
            count: offset.device_ns,
            tsc_after: line.tsc_at(offset.system_after_ns).saturating_add(line.half_width_ticks()),
        }))
    }
}

/// Reads `phc` and places each reading on the host's raw clock too. `ahead_ns` is what the clock shows beyond the chain's
/// time.
///
/// # Errors
/// When it cannot be read now.
pub fn sample(phc: &mut dyn Phc, ahead_ns: u64) -> Result<[Sample; BURST], PhcError> {
    let before = system_reading(SystemClock::MonotonicRaw);
    let readings = phc.read()?;
    let line = Line { before, after: system_reading(SystemClock::MonotonicRaw) };
    Ok(readings.map(|reading| Sample {
        tsc_before: reading.tsc_before,
        monotonic_raw_ns: line.system_at(reading.tsc_middle()),
        source_ns: reading.count.saturating_sub(ahead_ns),
        tsc_after: reading.tsc_after,
    }))
}

/// The best of some readings of a system clock between two of the counter.
fn system_reading(system: SystemClock) -> JointReading {
    let read = || match system {
        SystemClock::MonotonicRaw => clock::monotonic_raw_ns(),
        SystemClock::Realtime => clock::realtime_ns(),
    };
    let one = || {
        let tsc_before = tsc::tsc_ordered();
        let count = read();
        JointReading { tsc_before, count, tsc_after: tsc::tsc_ordered() }
    };
    let first = one();
    (1..4).map(|_| one()).fold(first, |best, next| {
        let width = |reading: &JointReading| reading.width_ticks().unwrap_or(u64::MAX);
        if width(&next) < width(&best) { next } else { best }
    })
}

/// The counter by a system clock, through two joint readings.
#[derive(Clone, Copy)]
struct Line {
    before: JointReading,
    after: JointReading,
}

impl Line {
    /// The system clock at counter value `tsc`, nanoseconds.
    fn system_at(&self, tsc: u64) -> u64 {
        let (from, to) = (self.before.tsc_middle(), self.after.tsc_middle());
        let nanos = i128::from(self.after.count) - i128::from(self.before.count);
        let since = i128::from(tsc) - i128::from(from);
        let nanos = nanos * since / i128::from(to.saturating_sub(from).max(1));
        u64::try_from(i128::from(self.before.count) + nanos).unwrap_or(0)
    }

    /// The counter when the system clock showed `system_ns`.
    fn tsc_at(&self, system_ns: u64) -> u64 {
        let (from, to) = (self.before.tsc_middle(), self.after.tsc_middle());
        let nanos = i128::from(self.after.count) - i128::from(self.before.count);
        let since = i128::from(system_ns) - i128::from(self.before.count);
        let ticks = i128::from(to.saturating_sub(from)) * since / nanos.max(1);
        u64::try_from(i128::from(from) + ticks).unwrap_or(0)
    }

    /// What either end may be off.
    fn half_width_ticks(&self) -> u64 {
        let width = |reading: &JointReading| reading.width_ticks().unwrap_or(u64::MAX);
        width(&self.before).max(width(&self.after)).div_ceil(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_found_between_two_readings_of_a_system_clock() {
        let at = |tsc: u64, count| JointReading { tsc_before: tsc - 10, count, tsc_after: tsc + 10 };
        let line = Line { before: at(1_000_000, 500_000), after: at(1_030_000, 510_000) };
        assert_eq!(line.tsc_at(500_000), 1_000_000);
        assert_eq!(line.tsc_at(505_000), 1_015_000);
        assert_eq!(line.tsc_at(499_000), 997_000, "a little before it too");
        assert_eq!((line.system_at(1_015_000), line.system_at(997_000)), (505_000, 499_000));
        assert_eq!(line.half_width_ticks(), 10);
        // A clock that stood still, or a time before the counter began, is no reason to panic.
        let still = Line { before: at(100, 7), after: at(200, 7) };
        assert_eq!((still.tsc_at(0), still.system_at(0)), (0, 7));
    }

    #[test]
    fn the_kernels_clock_is_read_between_two_readings_of_the_counter() {
        let readings = HostRealtime.read().expect("every host has it");
        for pair in readings.windows(2) {
            assert!(pair[0].tsc_after <= pair[1].tsc_before && pair[0].tsc_before < pair[0].tsc_after);
        }
    }
}
