//! A new node's way in without the chain's past: the state after one final block, fetched in ranges and proven, from which
//! the ordinary catch-up goes on.
//!
//! ```text
//!   peers' streams --> anchor (which block, proven final) --> space (who is asked for what)
//!                                                        --> keeper (each range proven, then on disk) --> a store
//! ```
//! It runs before the node: nothing of the store exists until every range is here and the root of all of them is the one
//! that a quorum has committed to. What is proven stays on disk, so a fetch that was stopped goes on, as long as somebody
//! keeps its height; else it begins anew at a newer one. A peer that sends what does not hold is left alone.

pub mod anchor;
pub mod fetch;
mod keeper;
pub mod space;

pub use fetch::{Ending, FetchError, FetchParts, Progress, fetch};
