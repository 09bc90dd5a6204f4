//! The data plane's stages in packet order, and the poll loop that runs them.
//!
//! ```text
//!  port ─ rx ─ filter ─ decode ─ open ─┬─ verify ─ order ─ builder ─┐
//!                                      └───────── control ──────────┤
//!  port ─ tx ────────────────────────────────────────── spread ─────┘
//! ```
//!
//! Read [`assembly`] for the wiring, then one stage a file from [`rx`] to [`tx`]. Stages meet in SPSC rings only, on one
//! core as on many; [`poll`] runs them. After start no stage allocates, locks, logs or makes a system call; ports and
//! idle strategies that must are counted. The control plane holds the [`assembly::ControlEnds`].
#![forbid(unsafe_code)]

pub mod assembly;
pub mod block_buffer;
pub mod builder;
pub mod by_peer;
pub mod client;
pub mod clock;
pub mod decode;
pub mod event;
pub mod filter;
pub mod histogram;
pub mod idle;
pub mod inject;
mod keyed;
pub mod keys;
pub mod lanes;
pub mod latency;
pub mod link;
pub mod metrics;
pub mod open;
pub mod order;
pub mod pcap;
pub mod peer;
pub mod poll;
pub mod port;
pub mod rx;
pub mod session;
pub mod slow_path;
pub mod spread;
pub mod switch;
pub mod tx;
pub mod verify;

pub use assembly::{ControlEnds, DataPlane, DataPlaneConfig, Depths, assemble};
pub use poll::{PollLoop, Stage};
