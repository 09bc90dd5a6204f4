//! The jitter ledger: which cause each gap in a poll loop has, from what the kernel counted meanwhile.
//!
//! A loop that does nothing but read the time-stamp counter sees every moment at which it did not run as a gap between two
//! readings. [`attribute`] is given a gap with what the kernel's counters did since they were last read, and names the
//! cause that explains at least half of it. [`Ledger`] adds gaps up by cause. All of it is arithmetic on its arguments;
//! who spins and who reads the counters is elsewhere.

mod attribute;
mod counts;
mod ledger;

pub use attribute::{Activity, Cause, Evidence, attribute};
pub use counts::{CoreColumn, steal_ticks};
pub use ledger::{Ledger, LedgerReport, LedgerRow, explained};
