//! Ranges of the state: a subtree's accounts with the path to the root, made from one version and proven against its root
//! by whoever has nothing but that.

use crate::tree::{Key, Leaf, Link, Tree, accounts_in, accounts_of, bit, build, fold, hash_of, key_of};
use roko_wire::snapshot::StateRange;
use roko_wire::{Account, Address, Hash32};

/// A place at which a range begins.
pub type Place = Key;

/// Accounts that are proven to be all there are in a subtree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenRange {
    /// The first place of the subtree.
    pub from: Place,
    /// How many bits its places share.
    pub depth: u16,
    /// Its accounts, in the order of their places.
    pub accounts: Vec<(Address, Account)>,
}

/// Why a range proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// An account whose place is not in the subtree.
    #[error("account {0} is not in the range that was asked for")]
    Outside(Address),
    /// Places do not rise.
    #[error("account {0} is out of order, or there twice")]
    Order(Address),
    /// The accounts and the path lead to another root.
    #[error("its accounts lead to state root {computed}, the chain's is {root}")]
    Root {
        /// What they lead to.
        computed: Hash32,
        /// What the header says.
        root: Hash32,
    },
}

impl Tree {
    /// The largest subtree that begins at `from`, is `depth` deep at least, and holds `accounts_max` accounts at most. Where
    /// a subtree above holds one account or none, that one.
    #[must_use]
    pub fn range(&self, from: &Place, depth: usize, accounts_max: usize) -> StateRange {
        let (mut link, mut siblings) = (self.top(), Vec::new());
        while let Link::Branch(branch) = link
            && (siblings.len() < depth || accounts_in(link) > accounts_max)
        {
            let (left, right) = (&branch.left, &branch.right);
            let (next, beside) = if bit(from, siblings.len()) { (right, left) } else { (left, right) };
            siblings.push(hash_of(beside));
            link = next;
        }
        StateRange { siblings, accounts: accounts_of(link).collect() }
    }
}

/// Whether `range` is all there is under `root` in the subtree around the place `from` that is as deep as it has siblings.
///
/// # Errors
/// When it is not: what is wrong with it.
pub fn prove(range: StateRange, root: &Hash32, from: &Place) -> Result<ProvenRange, RangeError> {
    let StateRange { siblings, accounts } = range;
    let depth = siblings.len();
    let mut leaves: Vec<Leaf> = Vec::with_capacity(accounts.len());
    for (address, account) in &accounts {
        let key = key_of(address);
        if (0..depth).any(|level| bit(&key, level) != bit(from, level)) {
            return Err(RangeError::Outside(*address));
        }
        if leaves.last().is_some_and(|last| last.key >= key) {
            return Err(RangeError::Order(*address));
        }
        leaves.push(Leaf { key, address: *address, account: *account });
    }
    let computed = fold(&siblings, from, hash_of(&build(depth, &leaves)));
    if computed != *root {
        return Err(RangeError::Root { computed, root: *root });
    }
    Ok(ProvenRange { from: first_place(from, depth), depth: depth as u16, accounts })
}

/// `place` with the bits from `depth` on zero: where its subtree begins.
#[must_use]
pub fn first_place(place: &Place, depth: usize) -> Place {
    core::array::from_fn(|byte| match depth.saturating_sub(8 * byte) {
        0 => 0,
        bits @ 1..8 => place[byte] & (0xff << (8 - bits)),
        _ => place[byte],
    })
}

/// Where the subtree after this one begins; `None` behind the last place.
#[must_use]
pub fn after(from: &Place, depth: usize) -> Option<Place> {
    let mut next = first_place(from, depth);
    for level in (0..depth).rev() {
        let mask = 0x80 >> (level % 8);
        next[level / 8] ^= mask;
        if next[level / 8] & mask != 0 {
            return Some(next);
        }
    }
    None
}
