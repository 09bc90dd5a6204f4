//! The tree of blocks that are not final, each as the changes it makes above the last final state.
//!
//! ```text
//! durable state (last final block = root) <- a <- b <- c
//!                                              ^- d        finalize(b): a and b leave (they are durable now), d is dropped
//! ```
//! The caller commits a block to the durable state first, then calls [`OverlayTree::finalize`]; in between a view finds the
//! same values in both places.

use crate::view::{Changes, StateView};
use roko_wire::{Account, Address, BlockId};
use std::collections::HashMap;
use std::sync::Arc;

struct Node {
    parent: BlockId,
    changes: Arc<Changes>,
}

/// Changes of the blocks above the last final one.
pub struct OverlayTree {
    root: BlockId,
    nodes: HashMap<BlockId, Node>,
}

/// A block that the tree does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("block {0} is neither the last final block nor above it: execute its ancestors first")]
pub struct UnknownBlock(pub BlockId);

impl OverlayTree {
    /// A tree above `root`, whose state is durable.
    #[must_use]
    pub fn new(root: BlockId) -> OverlayTree {
        OverlayTree { root, nodes: HashMap::new() }
    }

    /// The last final block.
    #[must_use]
    pub fn root(&self) -> BlockId {
        self.root
    }

    /// How many blocks are above the root.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether the state after `block` can be viewed.
    #[must_use]
    pub fn contains(&self, block: &BlockId) -> bool {
        *block == self.root || self.nodes.contains_key(block)
    }

    /// Puts the changes of `block` over `parent`. A block that is there already stays as it is.
    pub fn insert(
        &mut self,
        block: BlockId,
        parent: BlockId,
        changes: &[(Address, Option<Account>)],
    ) -> Result<(), UnknownBlock> {
        if !self.contains(&parent) {
            return Err(UnknownBlock(parent));
        }
        if block != self.root {
            let changes = || Node { parent, changes: Arc::new(changes.iter().copied().collect()) };
            self.nodes.entry(block).or_insert_with(changes);
        }
        Ok(())
    }

    /// The state after `block`, above the durable state `base`. It shares the changes, so it may outlive the tree.
    pub fn view<B: StateView>(&self, block: &BlockId, base: B) -> Result<Layers<B>, UnknownBlock> {
        let mut layers = Vec::new();
        let mut at = *block;
        while at != self.root {
            let node = self.nodes.get(&at).ok_or(UnknownBlock(*block))?;
            layers.push(Arc::clone(&node.changes));
            at = node.parent;
        }
        Ok(Layers { layers, base })
    }

    /// Makes `block` the root: its ancestors leave the tree, and so does every block that is not above it. Returns the
    /// blocks that were dropped for good, that is, neither final nor above.
    pub fn finalize(&mut self, block: &BlockId) -> Result<Vec<BlockId>, UnknownBlock> {
        if !self.contains(block) {
            return Err(UnknownBlock(*block));
        }
        let mut final_path = Vec::new();
        let mut at = *block;
        while let Some(node) = self.nodes.remove(&at) {
            final_path.push(at);
            at = node.parent;
        }
        self.root = *block;
        let dropped: Vec<BlockId> = self.nodes.keys().filter(|id| !self.is_above_root(id)).copied().collect();
        dropped.iter().for_each(|id| {
            self.nodes.remove(id);
        });
        Ok(dropped)
    }

    fn is_above_root(&self, block: &BlockId) -> bool {
        let mut at = *block;
        while at != self.root {
            match self.nodes.get(&at) {
                Some(node) => at = node.parent,
                None => return false,
            }
        }
        true
    }
}

/// A chain of changes over a base, nearest first.
#[derive(Clone, Debug)]
pub struct Layers<B> {
    layers: Vec<Arc<Changes>>,
    base: B,
}

impl<B: StateView> StateView for Layers<B> {
    fn account(&self, address: &Address) -> Option<Account> {
        match self.layers.iter().find_map(|changes| changes.get(address)) {
            Some(change) => *change,
            None => self.base.account(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Overlay;

    fn block(n: u8) -> BlockId {
        BlockId([n; 32])
    }

    fn change(address: u8, nonce: Option<u64>) -> (Address, Option<Account>) {
        (Address([address; 20]), nonce.map(|nonce| Account { nonce, ..Account::default() }))
    }

    fn nonce(view: &impl StateView, address: u8) -> Option<u64> {
        view.account(&Address([address; 20])).map(|account| account.nonce)
    }

    #[test]
    fn a_view_sees_its_own_branch_and_finality_prunes_the_others() {
        let base: HashMap<Address, Account> =
            [change(1, Some(10)), change(2, Some(20))].map(|(at, account)| (at, account.unwrap())).into();
        let mut tree = OverlayTree::new(block(0));
        tree.insert(block(1), block(0), &[change(1, Some(11))]).unwrap();
        tree.insert(block(2), block(1), &[change(2, None)]).unwrap();
        tree.insert(block(3), block(1), &[change(1, Some(13))]).unwrap();
        tree.insert(block(4), block(2), &[change(3, Some(34))]).unwrap();
        assert_eq!(tree.insert(block(9), block(8), &[]), Err(UnknownBlock(block(8))));

        let four = tree.view(&block(4), &base).unwrap();
        assert_eq!((nonce(&four, 1), nonce(&four, 2), nonce(&four, 3)), (Some(11), None, Some(34)));
        let three = tree.view(&block(3), &base).unwrap();
        assert_eq!((nonce(&three, 1), nonce(&three, 2), nonce(&three, 3)), (Some(13), Some(20), None));

        assert_eq!(tree.finalize(&block(2)), Ok(vec![block(3)]));
        assert_eq!((tree.root(), tree.len(), tree.contains(&block(4))), (block(2), 1, true));
        assert!(tree.view(&block(3), &base).is_err());
        // The durable state is as it was: the view now shows only what is above the root.
        assert_eq!(nonce(&tree.view(&block(4), &base).unwrap(), 1), Some(10));
        assert_eq!(nonce(&three, 1), Some(13), "a view outlives the pruning");
    }

    #[test]
    fn an_overlay_hides_what_it_changes_and_shows_the_rest() {
        let base: HashMap<Address, Account> =
            [change(1, Some(1)), change(2, Some(2))].map(|(at, account)| (at, account.unwrap())).into();
        let over = Overlay::new(Arc::new([change(1, None), change(3, Some(3))].into()), &base);
        assert_eq!((nonce(&over, 1), nonce(&over, 2), nonce(&over, 3)), (None, Some(2), Some(3)));
    }
}
