//! Threads beside the control thread for work that takes long: pairings, and waiting for the disk.

pub mod bls;
pub mod journal;
pub mod store;
