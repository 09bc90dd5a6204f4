//! The lock-free structures of the data plane.
//!
//! - [`spsc`]: the bounded ring between two stages; items move, nothing is shared.
//! - [`broadcast`]: one writer, many readers; never backpressures, a lapped reader learns what it lost.
//! - [`seqlock`]: a page that one thread publishes and any thread reads without a system call.
//! - [`mempool`]: the temporal mempool ring's owner side; transactions leave it in attested time order.
//!
//! After construction nothing here allocates, locks, logs or makes a system call. `unsafe` is confined to
//! [`spsc`]; the other structures are built from atomic words and indices.

pub mod broadcast;
pub mod mempool;
pub mod seqlock;
pub mod spsc;
mod stamped;
mod sync;
pub mod words;
