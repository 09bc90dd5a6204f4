//! PTP hardware clocks of the kernel (`/dev/ptpN`, linux/ptp_clock.h): a card's that the kernel drives, a time card's, a
//! hypervisor's. They are read, never set or steered.
//!
//! The kernel reads such a clock between two readings of a system clock, so that its time can be placed. Three ways are
//! tried, the best first: a cross stamp that the hardware takes in one moment (`PTP_SYS_OFFSET_PRECISE`), readings closely
//! around the bus access against `CLOCK_MONOTONIC_RAW` (`PTP_SYS_OFFSET_EXTENDED` with a clock id, Linux 6.12), the same
//! against `CLOCK_REALTIME`.

use crate::OsError;
use core::mem::MaybeUninit;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// The clock that a PTP clock is read beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemClock {
    /// `CLOCK_MONOTONIC_RAW`: no servo bends it.
    MonotonicRaw,
    /// `CLOCK_REALTIME`.
    Realtime,
}

/// How a clock is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PtpMethod {
    /// `PTP_SYS_OFFSET_PRECISE`.
    Precise,
    /// `PTP_SYS_OFFSET_EXTENDED`, beside this clock.
    Extended(SystemClock),
}

impl PtpMethod {
    /// The clock that it is read beside.
    #[must_use]
    pub const fn system_clock(self) -> SystemClock {
        match self {
            PtpMethod::Precise => SystemClock::MonotonicRaw,
            PtpMethod::Extended(clock) => clock,
        }
    }

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            PtpMethod::Precise => "cross stamps",
            PtpMethod::Extended(SystemClock::MonotonicRaw) => "beside the raw clock",
            PtpMethod::Extended(SystemClock::Realtime) => "beside the real-time clock",
        }
    }
}

/// One reading: the clock between two readings of the system clock; one moment with [`PtpMethod::Precise`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemOffset {
    /// The system clock before, nanoseconds.
    pub system_before_ns: u64,
    /// The PTP clock, nanoseconds since its epoch.
    pub device_ns: u64,
    /// The system clock after, nanoseconds.
    pub system_after_ns: u64,
}

/// An open PTP clock.
#[derive(Debug)]
pub struct PtpDevice {
    file: File,
    path: PathBuf,
    method: PtpMethod,
}

impl PtpDevice {
    /// Opens a clock and finds how it can be read.
    ///
    /// # Errors
    /// When there is no such file, it may not be read, or is no PTP clock.
    pub fn open(path: &Path) -> Result<PtpDevice, OsError> {
        let refused = |source| OsError::PtpClock { path: path.to_owned(), source };
        let file = File::open(path).map_err(refused)?;
        // SAFETY: all bits zero is a valid structure of integers.
        let mut caps: libc::ptp_clock_caps = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the request writes one ptp_clock_caps, which is borrowed for the call.
        unsafe { request(&file, libc::PTP_CLOCK_GETCAPS, &mut caps) }.map_err(refused)?;
        let precise = (caps.cross_timestamping != 0).then_some(PtpMethod::Precise);
        let others = [SystemClock::MonotonicRaw, SystemClock::Realtime].map(PtpMethod::Extended);
        let mut device = PtpDevice { file, path: path.to_owned(), method: PtpMethod::Precise };
        let mut last =
            Err(OsError::PtpClock { path: path.to_owned(), source: std::io::ErrorKind::Unsupported.into() });
        for method in precise.into_iter().chain(others) {
            device.method = method;
            last = device.offsets::<1>();
            if last.is_ok() {
                break;
            }
        }
        last.map(|_| device)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is read.
    #[must_use]
    pub fn method(&self) -> PtpMethod {
        self.method
    }

    /// Reads it `N` times, up to 25.
    ///
    /// # Errors
    /// When the driver cannot read it now, or it shows a time before its epoch.
    pub fn offsets<const N: usize>(&self) -> Result<[SystemOffset; N], OsError> {
        const { assert!(N > 0 && N <= 25, "PTP_MAX_SAMPLES") };
        let refused = |source| OsError::PtpClock { path: self.path.clone(), source };
        let mut offsets = [SystemOffset::default(); N];
        match self.method {
            PtpMethod::Precise => {
                for offset in &mut offsets {
                    *offset = self.precise().map_err(refused)?;
                }
            }
            PtpMethod::Extended(clock) => self.extended(clock, &mut offsets).map_err(refused)?,
        }
        Ok(offsets)
    }

    fn precise(&self) -> std::io::Result<SystemOffset> {
        // SAFETY: all bits zero is a valid structure of integers.
        let mut stamp: libc::ptp_sys_offset_precise = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the request reads and writes one ptp_sys_offset_precise, which is borrowed for the call.
        unsafe { request(&self.file, libc::PTP_SYS_OFFSET_PRECISE, &mut stamp) }?;
        let system = nanoseconds(&stamp.sys_monoraw)?;
        Ok(SystemOffset {
            system_before_ns: system,
            device_ns: nanoseconds(&stamp.device)?,
            system_after_ns: system,
        })
    }

    fn extended(&self, clock: SystemClock, out: &mut [SystemOffset]) -> std::io::Result<()> {
        // SAFETY: all bits zero is a valid structure of integers.
        let mut samples: libc::ptp_sys_offset_extended = unsafe { MaybeUninit::zeroed().assume_init() };
        samples.n_samples = out.len() as u32;
        // A reserved word before Linux 6.12, which had to be 0: CLOCK_REALTIME's number.
        samples.clockid = match clock {
            SystemClock::MonotonicRaw => libc::CLOCK_MONOTONIC_RAW,
            SystemClock::Realtime => libc::CLOCK_REALTIME,
        };
        // SAFETY: the request reads and writes one ptp_sys_offset_extended, which is borrowed for the call.
        unsafe { request(&self.file, libc::PTP_SYS_OFFSET_EXTENDED, &mut samples) }?;
        for (offset, [before, device, after]) in out.iter_mut().zip(&samples.ts) {
            *offset = SystemOffset {
                system_before_ns: nanoseconds(before)?,
                device_ns: nanoseconds(device)?,
                system_after_ns: nanoseconds(after)?,
            };
        }
        Ok(())
    }
}

/// One ioctl of the PTP clock interface.
///
/// # Safety
/// `argument` is of the type that the request is defined with.
unsafe fn request<T>(file: &File, number: u64, argument: &mut T) -> std::io::Result<()> {
    // SAFETY: the descriptor is open for the call, and the kernel reads and writes what the request's type has, which is
    // the caller's promise.
    let code = unsafe { libc::ioctl(file.as_raw_fd(), number, core::ptr::from_mut(argument)) };
    if code < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

fn nanoseconds(time: &libc::ptp_clock_time) -> std::io::Result<u64> {
    let out_of_range =
        || std::io::Error::other(format!("it shows {} s, before its epoch or past 2554", time.sec));
    let seconds = u64::try_from(time.sec).map_err(|_| out_of_range())?;
    seconds
        .checked_mul(1_000_000_000)
        .and_then(|whole| whole.checked_add(time.nsec.into()))
        .ok_or_else(out_of_range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    /// By linux/ptp_clock.h and asm-generic/ioctl.h: the direction, the size and the number make the request.
    #[test]
    fn structures_and_requests_are_the_kernels() {
        assert_eq!((size_of::<libc::ptp_clock_time>(), offset_of!(libc::ptp_clock_time, nsec)), (16, 8));
        assert_eq!(size_of::<libc::ptp_clock_caps>(), 20 * 4);
        assert_eq!(offset_of!(libc::ptp_clock_caps, cross_timestamping), 6 * 4);
        assert_eq!(size_of::<libc::ptp_sys_offset_precise>(), 3 * 16 + 4 * 4);
        assert_eq!(size_of::<libc::ptp_sys_offset_extended>(), 4 * 4 + 25 * 3 * 16);
        assert_eq!(offset_of!(libc::ptp_sys_offset_extended, clockid), 4);
        assert_eq!(offset_of!(libc::ptp_sys_offset_extended, ts), 16);
        let request = |direction: u64, bytes: usize, number: u64| {
            direction << 30 | (bytes as u64) << 16 | u64::from(b'=') << 8 | number
        };
        assert_eq!(libc::PTP_CLOCK_GETCAPS, request(2, 80, 1));
        assert_eq!(libc::PTP_SYS_OFFSET_PRECISE, request(3, 64, 8));
        assert_eq!(libc::PTP_SYS_OFFSET_EXTENDED, request(3, 1_216, 9));
    }

    #[test]
    fn what_is_no_clock_is_refused_by_name() {
        let refusal = |path: &str| PtpDevice::open(Path::new(path)).expect_err("no clock").to_string();
        let missing = refusal("/dev/ptp4095");
        assert!(missing.contains("/dev/ptp4095") && missing.contains("No such file"), "{missing}");
        let null = refusal("/dev/null");
        assert!(null.contains("/dev/null") && null.contains("Inappropriate ioctl"), "{null}");
    }

    #[test]
    fn times_before_the_epoch_and_past_64_bits_are_refused() {
        let time = |sec, nsec| libc::ptp_clock_time { sec, nsec, reserved: 0 };
        assert_eq!(nanoseconds(&time(3, 7)).ok(), Some(3_000_000_007));
        assert!(nanoseconds(&time(-1, 0)).is_err());
        assert!(nanoseconds(&time(i64::MAX, 0)).is_err());
    }

    /// Where a machine has a clock, it is read; others have nothing to test here and say so.
    #[test]
    fn a_clock_of_this_machine_runs() {
        let mut found = 0;
        for number in 0..8 {
            let path = PathBuf::from(format!("/dev/ptp{number}"));
            if !path.exists() {
                continue;
            }
            let device = match PtpDevice::open(&path) {
                Ok(device) => device,
                Err(refusal) => {
                    eprintln!("skipped: {refusal}");
                    continue;
                }
            };
            let (first, second) = (device.offsets::<4>(), device.offsets::<4>());
            let (first, second) = (first.expect("it was read"), second.expect("it was read"));
            assert!(first[0].system_before_ns <= first[0].system_after_ns);
            assert!(second[0].device_ns > first[0].device_ns, "{}: {first:?} {second:?}", path.display());
            found += 1;
        }
        eprintln!("{found} PTP clocks on this machine");
    }
}
