//! Operating-system services: time-stamp counter, affinity, clocks, PTP clocks, links, io_uring files, read-only mappings.
//!
//! Beside `ffi/dpdk` this is the only place for OS-level `unsafe`. The face of every module is safe: a caller
//! cannot cause undefined behaviour through it, given the one duty that [`mapping`] states. What the host refuses (io_uring in a container, a core outside
//! the mask) comes back as a typed [`OsError`], never as a panic.

pub mod affinity;
pub mod alloc_count;
pub mod clock;
mod error;
pub mod file;
pub mod link;
pub mod mapping;
pub mod netns;
pub mod ptp;
pub mod stolen;
pub mod tsc;
pub mod udp_ring;
pub mod uring;
pub mod usage;

pub use error::OsError;
pub use mapping::Mapping;
