//! The secret of tables that strangers' frames are looked up in.

use core::hash::{BuildHasher, Hasher};
use std::collections::hash_map::RandomState;

/// A secret for a table, from the operating system's random numbers. Drawn at start-up.
pub(crate) fn secret() -> u64 {
    // The standard library's keys are random; the hash of nothing under them is as random.
    RandomState::new().build_hasher().finish()
}
