//! Binary Merkle trees over SHA-256, with leaves and nodes in separate domains.
//!
//! A leaf is `H(0x00 || data)`, a node `H(0x01 || left || right)` (RFC 6962's separation). A level with an odd
//! count hands its last hash up unchanged. The empty tree's root is all zeros. SHA-256 because it is in
//! hardware here and a precompile on every EVM.

use crate::codec::{DecodeError, Reader, Sink};
use crate::ids::Hash32;
use crate::limits::MERKLE_DEPTH_MAX;
use arrayvec::ArrayVec;
use sha2::{Digest, Sha256};

/// A path from a leaf to the root, lowest sibling first. Levels at which the node has no sibling are left out.
pub type Path = ArrayVec<Hash32, MERKLE_DEPTH_MAX>;

/// The hash of a leaf that holds `parts`, one after the other.
#[must_use]
pub fn leaf(parts: &[&[u8]]) -> Hash32 {
    let mut hasher = Sha256::new();
    hasher.put_u8(0);
    parts.iter().for_each(|part| hasher.put(part));
    Hash32(hasher.finalize().into())
}

/// The hash of an inner node.
#[must_use]
pub fn node(left: &Hash32, right: &Hash32) -> Hash32 {
    let mut hasher = Sha256::new();
    hasher.put_u8(1);
    hasher.put(&left.0);
    hasher.put(&right.0);
    Hash32(hasher.finalize().into())
}

/// Folds `level` into its root in place: no allocation; the contents are destroyed.
#[must_use]
pub fn root_in_place(level: &mut [Hash32]) -> Hash32 {
    let mut len = level.len();
    if len == 0 {
        return Hash32::ZERO;
    }
    while len > 1 {
        len = fold_level(level, len);
    }
    level[0]
}

fn fold_level(level: &mut [Hash32], len: usize) -> usize {
    for pair in 0..len / 2 {
        level[pair] = node(&level[2 * pair], &level[2 * pair + 1]);
    }
    if len % 2 == 1 {
        level[len / 2] = level[len - 1];
    }
    len.div_ceil(2)
}

/// The root that `path` leads to from leaf `index` of `count`, or `None` when the path's length cannot be that
/// leaf's.
#[must_use]
pub fn root_from_path(leaf: Hash32, index: usize, count: usize, path: &[Hash32]) -> Option<Hash32> {
    if index >= count {
        return None;
    }
    let (mut hash, mut at, mut len) = (leaf, index, count);
    let mut siblings = path.iter();
    while len > 1 {
        if at ^ 1 < len {
            let sibling = siblings.next()?;
            hash = if at % 2 == 0 { node(&hash, sibling) } else { node(sibling, &hash) };
        }
        at /= 2;
        len = len.div_ceil(2);
    }
    siblings.next().is_none().then_some(hash)
}

/// A whole tree, kept so that many paths cost one hashing. Its memory is reused by the next [`Tree::rebuild`].
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// All levels, leaves first.
    hashes: Vec<Hash32>,
    leaves: usize,
}

impl Tree {
    /// A tree with room for `leaves` without allocating.
    #[must_use]
    pub fn with_capacity(leaves: usize) -> Tree {
        Tree { hashes: Vec::with_capacity(2 * leaves + MERKLE_DEPTH_MAX + 1), leaves: 0 }
    }

    /// Replaces the tree by the one over `leaves`.
    pub fn rebuild(&mut self, leaves: impl Iterator<Item = Hash32>) {
        self.hashes.clear();
        self.hashes.extend(leaves);
        self.leaves = self.hashes.len();
        let (mut start, mut len) = (0, self.leaves);
        while len > 1 {
            for pair in 0..len.div_ceil(2) {
                let left = self.hashes[start + 2 * pair];
                let parent =
                    if 2 * pair + 1 < len { node(&left, &self.hashes[start + 2 * pair + 1]) } else { left };
                self.hashes.push(parent);
            }
            start += len;
            len = len.div_ceil(2);
        }
    }

    /// How many leaves.
    #[must_use]
    pub fn leaves(&self) -> usize {
        self.leaves
    }

    /// The root; zero for the empty tree.
    #[must_use]
    pub fn root(&self) -> Hash32 {
        self.hashes.last().copied().unwrap_or(Hash32::ZERO)
    }

    /// The path of leaf `index`; `None` past the last leaf or [`MERKLE_DEPTH_MAX`].
    #[must_use]
    pub fn path(&self, index: usize) -> Option<Path> {
        let mut out = Path::new();
        let (mut start, mut len, mut at) = (0, self.leaves, index);
        if index >= len {
            return None;
        }
        while len > 1 {
            if at ^ 1 < len {
                out.try_push(self.hashes[start + (at ^ 1)]).ok()?;
            }
            start += len;
            len = len.div_ceil(2);
            at /= 2;
        }
        Some(out)
    }
}

/// Appends a path: a length byte, then the hashes.
pub fn write_path(path: &[Hash32], out: &mut impl Sink) {
    out.put_u8(path.len() as u8);
    path.iter().for_each(|hash| out.put(&hash.0));
}

/// Reads a path of at most [`MERKLE_DEPTH_MAX`] hashes.
pub fn read_path(reader: &mut Reader<'_>) -> Result<Path, DecodeError> {
    let len = usize::from(reader.u8("Merkle path length")?);
    if len > MERKLE_DEPTH_MAX {
        let limit = MERKLE_DEPTH_MAX as u64;
        return Err(DecodeError::OverLimit { field: "Merkle path length", value: len as u64, limit });
    }
    (0..len).map(|_| reader.array("Merkle path").map(Hash32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_every_small_tree_leads_to_its_root() {
        for count in 1..=33usize {
            let leaves: Vec<_> = (0..count).map(|i| leaf(&[&i.to_le_bytes()])).collect();
            let root = root_in_place(&mut leaves.clone());
            let mut tree = Tree::with_capacity(count);
            tree.rebuild(leaves.iter().copied());
            assert_eq!((tree.root(), tree.leaves(), tree.path(count)), (root, count, None));
            for (index, leaf_hash) in leaves.iter().copied().enumerate() {
                let path = tree.path(index).unwrap();
                assert_eq!(root_from_path(leaf_hash, index, count, &path), Some(root), "{index} of {count}");
                let wrong = leaf(&[b"another"]);
                assert_ne!(root_from_path(wrong, index, count, &path), Some(root));
                assert_eq!(root_from_path(leaf_hash, count, count, &path), None);
            }
        }
    }

    #[test]
    fn a_path_of_the_wrong_length_is_refused() {
        let leaves = [leaf(&[b"a"]), leaf(&[b"b"]), leaf(&[b"c"])];
        let mut tree = Tree::default();
        tree.rebuild(leaves.into_iter());
        let mut path = tree.path(0).unwrap();
        path.push(Hash32::ZERO);
        assert_eq!(root_from_path(leaves[0], 0, 3, &path), None);
        path.clear();
        assert_eq!(root_from_path(leaves[0], 0, 3, &path), None);
    }
}
