//! Reading accounts: from the durable state, or from it with the changes of blocks that are not final laid over.

use roko_wire::{Account, Address};
use std::collections::HashMap;
use std::sync::Arc;

/// Accounts as they are after some block.
pub trait StateView {
    /// The account at `address`; `None` when there is none.
    fn account(&self, address: &Address) -> Option<Account>;
}

impl<T: StateView + ?Sized> StateView for &T {
    fn account(&self, address: &Address) -> Option<Account> {
        (**self).account(address)
    }
}

impl<T: StateView + ?Sized> StateView for Arc<T> {
    fn account(&self, address: &Address) -> Option<Account> {
        (**self).account(address)
    }
}

/// What one block changes: an account's new value, or `None` for an account that is gone.
pub type Changes = HashMap<Address, Option<Account>>;

/// A plain map of accounts is a state too: genesis' balances, and every test's.
impl StateView for HashMap<Address, Account> {
    fn account(&self, address: &Address) -> Option<Account> {
        self.get(address).copied()
    }
}

/// One block's changes over the state before it. Blocks that branch belong in a [`crate::tree::OverlayTree`].
#[derive(Clone, Debug)]
pub struct Overlay<P> {
    changes: Arc<Changes>,
    parent: P,
}

impl<P: StateView> Overlay<P> {
    /// Lays `changes` over `parent`.
    #[must_use]
    pub fn new(changes: Arc<Changes>, parent: P) -> Overlay<P> {
        Overlay { changes, parent }
    }
}

impl<P: StateView> StateView for Overlay<P> {
    fn account(&self, address: &Address) -> Option<Account> {
        match self.changes.get(address) {
            Some(change) => *change,
            None => self.parent.account(address),
        }
    }
}
