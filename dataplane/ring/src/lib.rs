//! The lock-free structures of the data plane.
//!
//! - [`spsc`]: the bounded ring between two stages; items move, nothing is shared.
//! - [`broadcast`]: one writer, many readers; never backpressures, a lapped reader learns what it lost.
//! - [`seqlock`]: a page that one thread publishes and any thread reads without a system call.
//! - [`table`]: a hash table of fixed size whose memory can be fetched ahead, for a burst of keys at once.
//! - [`mempool`]: the temporal mempool ring's owner side; transactions leave it in attested time order.
//!
//! After construction nothing here allocates, locks, logs or makes a system call. `unsafe` is confined to
//! [`spsc`] and to the hints of [`prefetch`]; the other structures are built from atomic words and indices.

pub mod broadcast;
mod index;
pub mod mempool;
pub mod prefetch;
pub mod seqlock;
pub mod spsc;
mod stamped;
mod sync;
pub mod table;
pub mod words;
