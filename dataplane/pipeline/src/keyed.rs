//! The hash of tables that strangers' frames are looked up in: a few nanoseconds, under a key that nobody outside knows.
//!
//! Strangers choose what is looked up, never what is stored, and see no hash: a key is all that is needed against them.

use core::hash::{BuildHasher, Hasher};
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use std::collections::hash_map::RandomState;
use std::sync::OnceLock;

/// Makes such hashers.
pub(crate) type Keyed = SeedableRandomState;

/// A key of its own for each table, from the operating system's random numbers.
pub(crate) fn keyed() -> Keyed {
    static SHARED: OnceLock<SharedSeed> = OnceLock::new();
    // The standard library's keys are random; the hash of nothing under them is as random.
    let random = || RandomState::new().build_hasher().finish();
    SeedableRandomState::with_seed(random(), SHARED.get_or_init(|| SharedSeed::from_u64(random())))
}
