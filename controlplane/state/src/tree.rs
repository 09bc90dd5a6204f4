//! The state tree: a sparse binary Merkle tree over SHA-256 that commits to every account.
//!
//! An account's place is the bits of `SHA-256(address)`, most significant first, so that nobody can choose
//! neighbours cheaply. A subtree with one account *is* that account's leaf, whatever its depth, so a tree of n
//! accounts is about log2(n) deep. A leaf's hash holds its whole key and therefore its place. Leaves, nodes and
//! the ledger's other Merkle trees are in separate hash domains (first byte 2, 3; those use 0 and 1).
//!
//! A [`Tree`] is persistent: an update shares every untouched node with the version before it, so a version for
//! a block that is not final costs its changes only, and a clone is one reference count.

use roko_wire::codec::Sink;
use roko_wire::{Account, Address, Hash32};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// First byte of a leaf's hash input.
const LEAF_DOMAIN: u8 = 2;
/// First byte of an inner node's hash input.
const NODE_DOMAIN: u8 = 3;

/// A place in the tree: SHA-256 of an address.
pub(crate) type Key = [u8; 32];

/// The place of an address.
pub(crate) fn key_of(address: &Address) -> Key {
    Sha256::digest(address.0).into()
}

/// The bit that decides between left (0) and right (1) at `depth`.
pub(crate) const fn bit(key: &Key, depth: usize) -> bool {
    key[depth / 8] >> (7 - depth % 8) & 1 == 1
}

/// The hash of an account's leaf.
pub(crate) fn leaf_hash(key: &Key, account: &Account) -> Hash32 {
    let mut hasher = Sha256::new();
    hasher.put_u8(LEAF_DOMAIN);
    hasher.put(key);
    account.write(&mut hasher);
    Hash32(hasher.finalize().into())
}

/// The hash of an inner node; an empty child is all zeros.
pub(crate) fn node_hash(left: &Hash32, right: &Hash32) -> Hash32 {
    let mut hasher = Sha256::new();
    hasher.put_u8(NODE_DOMAIN);
    hasher.put(&left.0);
    hasher.put(&right.0);
    Hash32(hasher.finalize().into())
}

/// The root above a subtree of hash `start` on the path of `key`, whose hashes beside it are `siblings`, top first.
pub(crate) fn fold(siblings: &[Hash32], key: &Key, start: Hash32) -> Hash32 {
    siblings.iter().enumerate().rev().fold(start, |hash, (depth, sibling)| {
        if bit(key, depth) { node_hash(sibling, &hash) } else { node_hash(&hash, sibling) }
    })
}

/// An account and its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf {
    pub(crate) key: Key,
    pub(crate) address: Address,
    pub(crate) account: Account,
}

/// A subtree. Leaves and branches are apart, so that a branch, of which a path has many, fits a cache line or two.
#[derive(Clone, Debug, Default)]
pub(crate) enum Link {
    #[default]
    Empty,
    Leaf(Arc<(Hash32, Leaf)>),
    Branch(Arc<Branch>),
}

#[derive(Debug)]
pub(crate) struct Branch {
    hash: Hash32,
    accounts: usize,
    pub(crate) left: Link,
    pub(crate) right: Link,
}

/// The hash of a subtree; all zeros when it is empty.
pub(crate) fn hash_of(link: &Link) -> Hash32 {
    match link {
        Link::Empty => Hash32::ZERO,
        Link::Leaf(leaf) => leaf.0,
        Link::Branch(branch) => branch.hash,
    }
}

pub(crate) fn accounts_in(link: &Link) -> usize {
    match link {
        Link::Empty => 0,
        Link::Leaf(_) => 1,
        Link::Branch(branch) => branch.accounts,
    }
}

/// One version of the state. Cheap to clone, immutable, shared between threads.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    top: Link,
}

/// What happens to one place.
struct Change {
    key: Key,
    address: Address,
    account: Option<Account>,
}

impl Tree {
    /// The tree without accounts; its root is all zeros.
    #[must_use]
    pub const fn new() -> Tree {
        Tree { top: Link::Empty }
    }

    /// The commitment to every account.
    #[must_use]
    pub fn root(&self) -> Hash32 {
        hash_of(&self.top)
    }

    /// How many accounts there are.
    #[must_use]
    pub fn accounts(&self) -> usize {
        accounts_in(&self.top)
    }

    /// The account at `address`.
    #[must_use]
    pub fn get(&self, address: &Address) -> Option<Account> {
        let key = key_of(address);
        let (mut link, mut depth) = (&self.top, 0);
        loop {
            match link {
                Link::Empty => return None,
                Link::Leaf(leaf) => return (leaf.1.key == key).then_some(leaf.1.account),
                Link::Branch(branch) => {
                    link = if bit(&key, depth) { &branch.right } else { &branch.left };
                    depth += 1;
                }
            }
        }
    }

    /// A version with `changes` applied; `None` deletes. Each touched node is hashed once. The order does not
    /// matter, except that the last of several changes to one address wins.
    #[must_use]
    pub fn update(&self, changes: &[(Address, Option<Account>)]) -> Tree {
        let mut sorted: Vec<Change> = changes
            .iter()
            .map(|(address, account)| Change { key: key_of(address), address: *address, account: *account })
            .collect();
        // Later changes first among equals, then only the first of each place is kept.
        sorted.reverse();
        sorted.sort_by_key(|change| change.key);
        sorted.dedup_by_key(|change| change.key);
        Tree { top: update(&self.top, 0, &sorted) }
    }

    /// Every account, in the order of the places (not of the addresses).
    pub fn iter(&self) -> impl Iterator<Item = (Address, Account)> + '_ {
        accounts_of(&self.top)
    }

    pub(crate) const fn top(&self) -> &Link {
        &self.top
    }
}

/// A subtree's accounts, in the order of their places.
pub(crate) fn accounts_of(link: &Link) -> impl Iterator<Item = (Address, Account)> + '_ {
    let mut stack = vec![link];
    core::iter::from_fn(move || {
        loop {
            match stack.pop()? {
                Link::Empty => {}
                Link::Leaf(leaf) => return Some((leaf.1.address, leaf.1.account)),
                Link::Branch(branch) => stack.extend([&branch.right, &branch.left]),
            }
        }
    })
}

/// Applies sorted, distinct changes to a subtree.
fn update(link: &Link, depth: usize, changes: &[Change]) -> Link {
    if changes.is_empty() {
        return link.clone();
    }
    match link {
        Link::Empty => build(depth, &leaves_of(changes, None)),
        Link::Leaf(leaf) => build(depth, &leaves_of(changes, Some(&leaf.1))),
        Link::Branch(branch) => {
            let Branch { left, right, .. } = &**branch;
            let middle = changes.partition_point(|change| !bit(&change.key, depth));
            let new_left = update(left, depth + 1, &changes[..middle]);
            let new_right = update(right, depth + 1, &changes[middle..]);
            if same(left, &new_left) && same(right, &new_right) {
                return link.clone();
            }
            join(new_left, new_right)
        }
    }
}

/// Whether two links are the same node in memory, and so nothing has changed below.
fn same(one: &Link, two: &Link) -> bool {
    match (one, two) {
        (Link::Empty, Link::Empty) => true,
        (Link::Leaf(one), Link::Leaf(two)) => Arc::ptr_eq(one, two),
        (Link::Branch(one), Link::Branch(two)) => Arc::ptr_eq(one, two),
        _ => false,
    }
}

/// The accounts that are left of `old` and `changes`, in order of their places.
fn leaves_of(changes: &[Change], old: Option<&Leaf>) -> Vec<Leaf> {
    let mut leaves: Vec<Leaf> = changes
        .iter()
        .filter_map(|change| {
            let account = change.account?;
            Some(Leaf { key: change.key, address: change.address, account })
        })
        .collect();
    if let Some(old) = old
        && changes.binary_search_by_key(&old.key, |change| change.key).is_err()
    {
        let place = leaves.partition_point(|leaf| leaf.key < old.key);
        leaves.insert(place, *old);
    }
    leaves
}

/// A subtree of sorted, distinct leaves.
pub(crate) fn build(depth: usize, leaves: &[Leaf]) -> Link {
    match leaves {
        [] => Link::Empty,
        [leaf] => Link::Leaf(Arc::new((leaf_hash(&leaf.key, &leaf.account), *leaf))),
        _ => {
            let middle = leaves.partition_point(|leaf| !bit(&leaf.key, depth));
            join(build(depth + 1, &leaves[..middle]), build(depth + 1, &leaves[middle..]))
        }
    }
}

/// The subtree of two children: a lone leaf moves up, everything else is a branch.
fn join(left: Link, right: Link) -> Link {
    match (&left, &right) {
        (Link::Leaf(_) | Link::Empty, Link::Empty) => return left,
        (Link::Empty, Link::Leaf(_)) => return right,
        _ => {}
    }
    let hash = node_hash(&hash_of(&left), &hash_of(&right));
    let accounts = accounts_in(&left) + accounts_in(&right);
    Link::Branch(Arc::new(Branch { hash, accounts, left, right }))
}
