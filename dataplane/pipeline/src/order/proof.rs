//! What the pool keeps with a transaction: the proof of its place in time.

use roko_wire::Hash32;
use roko_wire::limits::STAMP_DEPTH_MAX;
use roko_wire::stamp::{SignedRoot, Stamp};

/// A transaction's stamp, its batch's signed root, and the path between the two: what the pool keeps with it.
#[derive(Clone, Copy, Debug)]
pub struct StampProof {
    /// The stamp.
    pub stamp: Stamp,
    /// The signed root of its batch.
    pub root: SignedRoot,
    /// The leaf's index in the batch.
    pub leaf_index: u8,
    /// How often it was stamped anew because it was below the watermark.
    pub late_times: u8,
    path_len: u8,
    path: [Hash32; STAMP_DEPTH_MAX],
    /// Counts the seeds; tells by which one the tie-break was computed.
    pub(super) seed_count: u32,
}

impl StampProof {
    pub(super) fn new(
        stamp: Stamp,
        root: SignedRoot,
        leaf_index: u8,
        path: &[Hash32],
        seed_count: u32,
    ) -> StampProof {
        let mut hashes = [Hash32::ZERO; STAMP_DEPTH_MAX];
        hashes[..path.len()].copy_from_slice(path);
        let path_len = path.len() as u8;
        StampProof { stamp, root, leaf_index, late_times: 0, path_len, path: hashes, seed_count }
    }

    /// The Merkle path from the leaf to the root.
    #[must_use]
    pub fn path(&self) -> &[Hash32] {
        &self.path[..usize::from(self.path_len)]
    }
}
