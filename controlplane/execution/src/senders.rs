//! What each sender of a block still has: one rule for the validity check and the proposer's selection.

use crate::view::StateView;
use roko_wire::Address;
use ruint::aliases::U256;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Why a transaction does not fit its sender's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SenderRefusal {
    /// A transaction with this nonce was executed already.
    #[error("nonce {have} is used; the sender's next is {want}")]
    StaleNonce {
        /// The transaction's.
        have: u64,
        /// The sender's next.
        want: u64,
    },
    /// A transaction with a lower nonce must come first.
    #[error("nonce {have} is ahead; the sender's next is {want}: send the missing ones")]
    NonceGap {
        /// The transaction's.
        have: u64,
        /// The sender's next.
        want: u64,
    },
    /// No transaction can follow the largest nonce (EIP-2681).
    #[error("nonce 2^64-1 is not usable: this account has come to its end")]
    NonceLimit,
    /// Value and highest fees of the sender's transactions in the block exceed his balance before it.
    #[error(
        "the sender cannot pay: {left} is left of his balance after his earlier transactions in this block; fund the account or lower value and fees"
    )]
    OverBalance {
        /// What is left of the balance.
        left: U256,
    },
}

struct Sender {
    nonce_next: u64,
    left: U256,
}

/// The senders of one block, in the state before it. What they receive in the block does not count: the check must not
/// depend on execution.
pub(crate) struct Senders<'a> {
    state: &'a dyn StateView,
    senders: HashMap<Address, Sender>,
}

impl<'a> Senders<'a> {
    pub(crate) fn new(state: &'a dyn StateView, capacity: usize) -> Senders<'a> {
        Senders { state, senders: HashMap::with_capacity(capacity) }
    }

    /// What the sender has after this transaction, or why it does not fit. `cost_max` is `None` over 2^256.
    pub(crate) fn after(
        &mut self,
        sender: &Address,
        nonce: u64,
        cost_max: Option<U256>,
    ) -> Result<After<'_>, SenderRefusal> {
        let account = match self.senders.entry(*sender) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let account = self.state.account(sender).unwrap_or_default();
                entry.insert(Sender { nonce_next: account.nonce, left: account.balance })
            }
        };
        let want = account.nonce_next;
        if nonce < want {
            return Err(SenderRefusal::StaleNonce { have: nonce, want });
        }
        if nonce > want {
            return Err(SenderRefusal::NonceGap { have: nonce, want });
        }
        let nonce_next = nonce.checked_add(1).ok_or(SenderRefusal::NonceLimit)?;
        let left = cost_max
            .and_then(|cost| account.left.checked_sub(cost))
            .ok_or(SenderRefusal::OverBalance { left: account.left })?;
        Ok(After { account, next: Sender { nonce_next, left } })
    }
}

/// A transaction that fits its sender; nothing changes until it is taken.
pub(crate) struct After<'a> {
    account: &'a mut Sender,
    next: Sender,
}

impl After<'_> {
    pub(crate) fn take(self) {
        *self.account = self.next;
    }
}
