//! What the kernel counts of one thread and of one core, read often and without allocation: who took the core, and when.
//!
//! The files stay open, so that a reading costs a few microseconds for the thread and some tens for the core.

use crate::OsError;
use crate::stolen::{self, ScheduleTimes};
use crate::tsc::tsc;
use core::time::Duration;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Readings of the account until the thread kept its core during one.
const TRIES_MAX: usize = 4;

/// What the kernel counts of a thread since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadUsage {
    /// The time-stamp counter when the rest was so.
    pub tsc: u64,
    /// Time on a core, nanoseconds. Where the kernel knows of stolen time, that is not in it.
    pub running_ns: u64,
    /// Time spent runnable while something else had the core, nanoseconds; 0 where the kernel keeps no scheduler statistics.
    pub waiting_ns: u64,
    /// Times it gave up the core by itself: to wait, or because it was stopped.
    pub voluntary_switches: u64,
    /// Times the core was taken from it.
    pub involuntary_switches: u64,
    /// Page faults that needed no disk.
    pub minor_faults: u64,
    /// Page faults that did.
    pub major_faults: u64,
}

/// Reads the account of the thread that made it.
pub struct ThreadUsageReader {
    schedstat: Option<File>,
}

impl ThreadUsageReader {
    /// A reader for the calling thread, and for no other: [`ThreadUsageReader::read`] is for the same one.
    #[must_use]
    pub fn of_this_thread() -> ThreadUsageReader {
        ThreadUsageReader { schedstat: File::open("/proc/thread-self/schedstat").ok() }
    }

    /// Whether time spent waiting for the core can be told.
    #[must_use]
    pub fn tells_waiting(&self) -> bool {
        self.schedstat.is_some()
    }

    /// The account at one moment, in four system calls. A thread often loses its core on the way back from one; what was read
    /// on both sides of that does not fit together, and is read again.
    ///
    /// # Errors
    /// When the kernel does not tell a thread's use of resources.
    pub fn read(&self) -> Result<ThreadUsage, OsError> {
        let mut before = self.schedule_times();
        for _ in 1..TRIES_MAX {
            let usage = self.read_once(before)?;
            let after = self.schedule_times();
            if before.map(|times| times.slices) == after.map(|times| times.slices) {
                return Ok(usage);
            }
            before = after;
        }
        self.read_once(before)
    }

    fn read_once(&self, times: Option<ScheduleTimes>) -> Result<ThreadUsage, OsError> {
        let usage = thread_rusage()?;
        let running = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let count = |value: libc::c_long| u64::try_from(value).unwrap_or(0);
        Ok(ThreadUsage {
            tsc: tsc(),
            running_ns: Duration::try_from(running).map_or(0, |time| time.as_nanos() as u64),
            waiting_ns: times.map_or(0, |times| times.waiting_ns),
            voluntary_switches: count(usage.ru_nvcsw),
            involuntary_switches: count(usage.ru_nivcsw),
            minor_faults: count(usage.ru_minflt),
            major_faults: count(usage.ru_majflt),
        })
    }

    fn schedule_times(&self) -> Option<ScheduleTimes> {
        // Three numbers of at most twenty digits.
        let mut line = [0; 64];
        let bytes = self.schedstat.as_ref()?.read_at(&mut line, 0).ok()?;
        stolen::parse(core::str::from_utf8(&line[..bytes]).ok()?)
    }
}

fn thread_rusage() -> Result<libc::rusage, OsError> {
    let mut usage = core::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage(2) writes one rusage to the place it is given, which is one and outlives the call.
    let answer = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
    if answer != 0 {
        return Err(OsError::Call {
            call: "getrusage(RUSAGE_THREAD)",
            source: std::io::Error::last_os_error(),
        });
    }
    // SAFETY: all bytes were zero, which is a valid rusage, and the kernel has written over them.
    Ok(unsafe { usage.assume_init() })
}

/// A file of the kernel that is read again and again into the same memory.
pub struct KernelFile {
    file: File,
    text: Vec<u8>,
}

/// Bytes of a kernel file at most; `/proc/interrupts` of a machine of 512 cores has about 3 MiB.
const FILE_BYTES_MAX: usize = 4 << 20;

impl KernelFile {
    /// Opens `path` and takes as much memory as it needs now, and half as much again.
    ///
    /// # Errors
    /// When it is not there or may not be read.
    pub fn open(path: &str) -> Result<KernelFile, OsError> {
        let failed = |source| OsError::Call { call: "reading a file below /proc", source };
        let text = std::fs::read(path).map_err(failed)?;
        let room = (text.len() + text.len() / 2 + 4096).min(FILE_BYTES_MAX);
        Ok(KernelFile { file: File::open(path).map_err(failed)?, text: vec![0; room] })
    }

    /// The text now, cut where the memory ends; empty when it cannot be read any more.
    pub fn read(&mut self) -> &str {
        let mut filled = 0;
        // The kernel gives a page or so at a time.
        while filled < self.text.len() {
            match self.file.read_at(&mut self.text[filled..], filled as u64) {
                Ok(bytes) if bytes > 0 => filled += bytes,
                _ => break,
            }
        }
        core::str::from_utf8(&self.text[..filled]).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_sleep_and_fresh_pages_show_in_the_account() {
        let reader = ThreadUsageReader::of_this_thread();
        let before = reader.read().unwrap();
        std::thread::sleep(Duration::from_millis(2));
        let pages = vec![1u8; 64 * 4096];
        let mut sum = 0u64;
        while reader.read().unwrap().running_ns < before.running_ns + 2_000_000 {
            sum = sum.wrapping_add(u64::from(core::hint::black_box(&pages)[sum as usize % pages.len()]));
        }
        core::hint::black_box(sum);
        let after = reader.read().unwrap();
        assert!(after.voluntary_switches > before.voluntary_switches, "{before:?} {after:?}");
        assert!(after.minor_faults > before.minor_faults, "{before:?} {after:?}");
    }

    #[test]
    fn a_kernel_file_is_whole_and_new_at_each_reading() {
        let mut stat = KernelFile::open("/proc/self/stat").unwrap();
        assert_eq!(stat.read().split(' ').next(), Some(std::process::id().to_string().as_str()));
        let mut interrupts = KernelFile::open("/proc/interrupts").unwrap();
        let lines = interrupts.read().lines().count();
        let whole = std::fs::read_to_string("/proc/interrupts").unwrap();
        assert_eq!(lines, whole.lines().count());
        assert!(KernelFile::open("/proc/no-such-file").is_err());
    }
}
