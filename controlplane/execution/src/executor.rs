//! Executing a block: the seam at which an EVM comes in, and the executor of plain transfers.
//!
//! It may assume that the block passed [`crate::validity::check`]. Conservation holds even where that is not so: what a
//! sender cannot pay is not paid.

use crate::receipt::{Receipt, Status};
use crate::tx::ExecutableTx;
use crate::view::StateView;
use roko_wire::{Account, Address, Hash32, Height, NanoMoment};
use ruint::aliases::U256;
use std::collections::HashMap;

/// What execution knows of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockContext {
    /// Its height.
    pub height: Height,
    /// Its time.
    pub time: NanoMoment,
    /// Base fee per gas, which is burned.
    pub base_fee: u128,
    /// Most gas of its transactions together.
    pub gas_limit: u64,
    /// Where the tips go: the proposer's withdrawal account.
    pub proposer_account: Address,
}

/// What a block's execution yields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// Accounts that differ from before, in address order; `None` for one that is gone.
    pub changes: Vec<(Address, Option<Account>)>,
    /// One for each transaction, in order.
    pub receipts: Vec<Receipt>,
    /// Gas of all transactions.
    pub gas_used: u64,
    /// Base fees, which nobody gets.
    pub burned: U256,
    /// What the proposer gets.
    pub tips: U256,
}

/// Executes blocks. The same arguments give the same result, bit by bit.
pub trait Executor {
    /// Executes `txs` in order on top of `state`.
    fn execute(&self, block: &BlockContext, txs: &[ExecutableTx], state: &dyn StateView) -> Executed;
}

/// Executes transfers of the native token; whatever needs code pays its intrinsic gas and fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct TransferExecutor;

impl Executor for TransferExecutor {
    fn execute(&self, block: &BlockContext, txs: &[ExecutableTx], state: &dyn StateView) -> Executed {
        let mut run =
            Run { block, touched: Touched::new(state, 2 * txs.len() + 1), out: Executed::default() };
        run.out.receipts.reserve_exact(txs.len());
        txs.iter().for_each(|tx| run.transaction(tx));
        run.out.changes = run.touched.into_changes();
        run.out
    }
}

struct Run<'a> {
    block: &'a BlockContext,
    touched: Touched<'a>,
    out: Executed,
}

impl Run<'_> {
    fn transaction(&mut self, tx: &ExecutableTx) {
        let (fee_per_gas, _) = tx.fee_per_gas(self.block.base_fee);
        // Without code, what runs is the transfer itself: it uses the intrinsic gas and the rest of the limit is not
        // charged.
        let gas_used = tx.intrinsic_gas;
        self.charge(tx, gas_used, fee_per_gas);
        let status = self.transfer(tx);
        self.out.gas_used = self.out.gas_used.saturating_add(gas_used);
        self.out.receipts.push(Receipt { id: tx.id, status, gas_used, fee_per_gas, moment: tx.moment });
    }

    /// Takes the gas from the sender, burns the base fee's part and gives the rest to the proposer.
    fn charge(&mut self, tx: &ExecutableTx, gas_used: u64, fee_per_gas: u128) {
        let gas = U256::from(gas_used);
        let sender = self.touched.account(&tx.sender);
        let paid = (gas * U256::from(fee_per_gas)).min(sender.balance);
        sender.balance -= paid;
        sender.nonce = sender.nonce.saturating_add(1);
        let burned = (gas * U256::from(self.block.base_fee)).min(paid);
        let tip = paid - burned;
        add(&mut self.out.burned, burned);
        add(&mut self.out.tips, tip);
        if !tip.is_zero() {
            add(&mut self.touched.account(&self.block.proposer_account).balance, tip);
        }
    }

    fn transfer(&mut self, tx: &ExecutableTx) -> Status {
        let Some(to) = tx.to else {
            return Status::NoCodeSupport;
        };
        if self.touched.account(&tx.sender).balance < tx.value {
            return Status::InsufficientBalance;
        }
        if self.touched.account(&to).code_hash != Hash32::ZERO {
            return Status::NoCodeSupport;
        }
        // One account after the other, so that a transfer to oneself moves nothing.
        self.touched.account(&tx.sender).balance -= tx.value;
        add(&mut self.touched.account(&to).balance, tx.value);
        Status::Succeeded
    }
}

/// Adds to a balance. Balances add up to at most genesis' supply, so an overflow is a broken state, not an input.
fn add(balance: &mut U256, amount: U256) {
    *balance = balance.checked_add(amount).expect("genesis checks that the supply is below 2^256");
}

/// Accounts that the block has touched, each with its value before.
struct Touched<'a> {
    state: &'a dyn StateView,
    accounts: HashMap<Address, (Option<Account>, Account)>,
}

impl<'a> Touched<'a> {
    fn new(state: &'a dyn StateView, capacity: usize) -> Touched<'a> {
        Touched { state, accounts: HashMap::with_capacity(capacity) }
    }

    fn account(&mut self, address: &Address) -> &mut Account {
        let (_, now) = self.accounts.entry(*address).or_insert_with(|| {
            let before = self.state.account(address);
            (before, before.unwrap_or_default())
        });
        now
    }

    /// What differs from before, sorted. An empty account is none (EIP-161).
    fn into_changes(self) -> Vec<(Address, Option<Account>)> {
        let changed = |(address, (before, now)): (Address, (Option<Account>, Account))| {
            let now = (now != Account::default()).then_some(now);
            (now != before).then_some((address, now))
        };
        let mut changes: Vec<_> = self.accounts.into_iter().filter_map(changed).collect();
        changes.sort_unstable_by_key(|(address, _)| *address);
        changes
    }
}
