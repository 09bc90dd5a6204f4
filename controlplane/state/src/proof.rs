//! Proofs from the state root: that an address holds an account, or that it holds none.
//!
//! Canonical layout: depth `u16`; a bitmap of `ceil(depth / 8)` bytes, bit i (least significant first) set when
//! level i from the top has a sibling that is not empty; those siblings, 32 bytes each, top first; an end byte
//! (0 empty, 1 the address' own leaf, 2 another leaf); for 2 the other leaf's key (32) and account (104). What
//! is inside an inclusion proof's own leaf is not in the proof: the verifier brings the account.

use crate::tree::{Key, Link, Tree, bit, fold, hash_of, key_of, leaf_hash};
use roko_wire::codec::{DecodeError, Reader, Sink};
use roko_wire::snapshot::{STATE_DEPTH_MAX, read_siblings, write_siblings};
use roko_wire::{Account, Address, Hash32};

/// Longest canonical layout of a proof: every level with a sibling, and another leaf at the end.
pub const PROOF_BYTES_MAX: usize = 2 + STATE_DEPTH_MAX / 8 + 32 * STATE_DEPTH_MAX + 1 + 32 + Account::BYTES;

/// What the path ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// An empty subtree: the address holds nothing.
    Empty,
    /// The address' own leaf.
    Own,
    /// A leaf of another address stands where this address' would: it holds nothing.
    Other { key: Key, account: Account },
}

/// A path from the root to where an address is or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The hash beside the path at each level, top first; zero where that side is empty.
    siblings: Vec<Hash32>,
    end: End,
}

impl Tree {
    /// A proof of what `address` holds in this version.
    #[must_use]
    pub fn prove(&self, address: &Address) -> Proof {
        let key = key_of(address);
        let (mut link, mut siblings) = (self.top(), Vec::new());
        let end = loop {
            match link {
                Link::Empty => break End::Empty,
                Link::Leaf(leaf) if leaf.1.key == key => break End::Own,
                Link::Leaf(leaf) => {
                    break End::Other { key: leaf.1.key, account: leaf.1.account };
                }
                Link::Branch(branch) => {
                    let (left, right) = (&branch.left, &branch.right);
                    let (next, beside) =
                        if bit(&key, siblings.len()) { (right, left) } else { (left, right) };
                    siblings.push(hash_of(beside));
                    link = next;
                }
            }
        };
        Proof { siblings, end }
    }
}

impl Proof {
    /// Whether the proof shows that under `root` the `address` holds exactly `account` (`None`: nothing).
    #[must_use]
    pub fn verify(&self, root: &Hash32, address: &Address, account: Option<&Account>) -> bool {
        let key = key_of(address);
        let start = match (&self.end, account) {
            (End::Own, Some(account)) => leaf_hash(&key, account),
            (End::Empty, None) => Hash32::ZERO,
            (End::Other { key: other, account }, None) if self.shares_path(other, &key) => {
                leaf_hash(other, account)
            }
            _ => return false,
        };
        fold(&self.siblings, &key, start) == *root
    }

    /// Another leaf excludes the address only if it is a different one and stands on the address' own path.
    fn shares_path(&self, other: &Key, key: &Key) -> bool {
        other != key && (0..self.siblings.len()).all(|depth| bit(other, depth) == bit(key, depth))
    }

    /// Appends the canonical layout.
    pub fn write(&self, out: &mut impl Sink) {
        write_siblings(&self.siblings, out);
        match &self.end {
            End::Empty => out.put_u8(0),
            End::Own => out.put_u8(1),
            End::Other { key, account } => {
                out.put_u8(2);
                out.put(key);
                account.write(out);
            }
        }
    }

    /// Reads the canonical layout; every proof has exactly one.
    pub fn read(reader: &mut Reader<'_>) -> Result<Proof, DecodeError> {
        let siblings = read_siblings(reader)?;
        let end = match reader.u8("proof end")? {
            0 => End::Empty,
            1 => End::Own,
            2 => End::Other { key: reader.array("proof key")?, account: Account::read(reader)? },
            other => return Err(DecodeError::BadValue { field: "proof end", value: u64::from(other) }),
        };
        Ok(Proof { siblings, end })
    }

    /// Reads a proof that is all of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Proof, DecodeError> {
        let mut reader = Reader::new(bytes);
        let proof = Proof::read(&mut reader)?;
        reader.finish()?;
        Ok(proof)
    }

    /// The canonical layout as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}
