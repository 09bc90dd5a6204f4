//! Catch-up: a node that was away, or is new, fetches final blocks from its peers over authenticated streams.
//!
//! ```text
//!   peers' streams --> plan (ranges, in order) --> check (proof, links, execution) --> control thread (disk, consensus)
//! ```
//! One [`Driver`] a node, on the handshakes' runtime. It asks peers for their tips; when they are ahead by more than
//! [`Settings::lag_min`] blocks, or at all while nothing becomes final here, it asks the control thread for the last final block, and builds on that: ranges from
//! several peers at once ([`plan`]), each checked before anything of it is believed ([`check`]): what is committed to is
//! proven by a quorum's certificate, and every block is executed here. The control thread takes a checked piece as
//! final ([`crate::replica::catchup`]). What is on disk stays, so a fetch that was cut off goes on from there. A peer
//! that sends what does not hold is left alone for a while. [`server`] is the other end. A new node may begin from the state
//! after a recent block instead of genesis: [`snapshot`].

pub mod check;
pub mod driver;
pub mod link;
pub mod plan;
pub mod server;
pub mod snapshot;
pub mod stream;
mod talk;

pub use driver::{Dial, Driver, Settings, ToControl};
pub use link::{Catchup, CatchupParts};
