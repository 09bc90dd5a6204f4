//! What can be changed on a running machine: which files to write, apply with a record, and revert from it.
//!
//! [`wanted()`] only reads. [`apply()`] writes down what was there, durably, before each write; [`revert()`] writes it back. A
//! crash anywhere between leaves a record that [`revert()`] understands, and applying again keeps the first record.

mod apply;
mod record;
mod wanted;

pub use apply::{ApplyError, Event, Outcome, apply, revert};
pub use record::{Record, RecordError, Recorded};
pub use wanted::{Change, Wanted, wanted};

pub(crate) use wanted::{c_states, governors, hugepages, irqs, thp};
