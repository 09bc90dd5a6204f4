//! What the operating system may refuse.

/// A service of the host that is not to be had, and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum OsError {
    /// The kernel or a seccomp filter refuses io_uring.
    #[error("io_uring is not permitted here ({0}): allow the io_uring system calls or use plain writes")]
    UringRefused(std::io::Error),
    /// The core is not in this process' affinity mask.
    #[error("core {core} is not in the affinity mask {allowed:?}: choose one of these or widen the cpuset")]
    CoreNotAllowed {
        /// The core that was asked for.
        core: usize,
        /// The cores of the mask.
        allowed: Vec<usize>,
    },
    /// The mask could not be read.
    #[error("the affinity mask cannot be read: pin by the profile's cores with taskset instead")]
    MaskUnreadable,
    /// The kernel refused to pin the thread.
    #[error("the kernel refused to pin this thread to core {core}: check the cpuset of the process")]
    PinRefused {
        /// The core that was asked for.
        core: usize,
    },
    /// A thread's name holds a NUL byte.
    #[error("thread name {name:?} holds a NUL byte: remove it")]
    BadThreadName {
        /// The name.
        name: String,
    },
    /// A PTP clock that cannot be opened or read.
    #[error("the PTP clock {}: {source}; name a /dev/ptpN that this user may read (`ls -l /dev/ptp*`)", path.display())]
    PtpClock {
        /// Its file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A system call failed.
    #[error("{call} failed: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// Why.
        source: std::io::Error,
    },
}
