//! The transfer executor: EIP-1559's charges, failures that pay, and conservation whatever happens.

use crate::executor::{BlockContext, Executor, TransferExecutor};
use crate::receipt::Status;
use crate::tx::ExecutableTx;
use proptest::prelude::*;
use roko_wire::{Account, Address, Hash32, Height, NanoMoment, TxId};
use ruint::aliases::U256;
use std::collections::HashMap;

const PROPOSER: u8 = 9;
const GAS: u64 = 21_000;

fn address(n: u8) -> Address {
    Address([n; 20])
}

fn block(base_fee: u128) -> BlockContext {
    BlockContext {
        height: Height(1),
        time: NanoMoment(1_000),
        base_fee,
        gas_limit: 1_000_000_000,
        proposer_account: address(PROPOSER),
    }
}

fn transfer(from: u8, to: u8, nonce: u64, value: u64) -> ExecutableTx {
    ExecutableTx {
        id: TxId([from; 32]),
        sender: address(from),
        nonce,
        to: Some(address(to)),
        value: U256::from(value),
        gas_limit: 2 * GAS,
        intrinsic_gas: GAS,
        max_fee: 100,
        max_priority_fee: 3,
        input: Vec::new(),
        access_list: Vec::new(),
        moment: NanoMoment(500),
    }
}

fn state(balances: &[(u8, u64)]) -> HashMap<Address, Account> {
    let account = |balance: u64| Account { balance: U256::from(balance), ..Account::default() };
    balances.iter().map(|(n, balance)| (address(*n), account(*balance))).collect()
}

fn after(
    state: &HashMap<Address, Account>,
    changes: &[(Address, Option<Account>)],
) -> HashMap<Address, Account> {
    let mut out = state.clone();
    for (address, change) in changes {
        match change {
            Some(account) => out.insert(*address, *account),
            None => out.remove(address),
        };
    }
    out
}

fn balance(state: &HashMap<Address, Account>, n: u8) -> u64 {
    state.get(&address(n)).map_or(0, |account| account.balance.to::<u64>())
}

fn total(state: &HashMap<Address, Account>) -> U256 {
    state.values().fold(U256::ZERO, |sum, account| sum + account.balance)
}

#[test]
fn a_transfer_moves_the_value_burns_the_base_fee_and_tips_the_proposer() {
    let before = state(&[(1, 10_000_000)]);
    let out = TransferExecutor.execute(&block(10), &[transfer(1, 2, 0, 500)], &before);
    let now = after(&before, &out.changes);
    assert_eq!(balance(&now, 1), 10_000_000 - 500 - GAS * 13);
    assert_eq!((balance(&now, 2), balance(&now, PROPOSER)), (500, GAS * 3));
    assert_eq!(now[&address(1)].nonce, 1);
    assert_eq!((out.burned, out.tips, out.gas_used), (U256::from(GAS * 10), U256::from(GAS * 3), GAS));
    let receipt = out.receipts[0];
    assert_eq!((receipt.status, receipt.fee_per_gas, receipt.gas_used), (Status::Succeeded, 13, GAS));
    assert_eq!((receipt.id, receipt.moment), (TxId([1; 32]), NanoMoment(500)));
    assert!(out.changes.is_sorted_by(|a, b| a.0 < b.0));
}

#[test]
fn the_tip_is_what_the_maximum_leaves_above_the_base_fee() {
    let before = state(&[(1, 10_000_000)]);
    for (base_fee, tip) in [(98, 2), (100, 0), (97, 3), (0, 3)] {
        let out = TransferExecutor.execute(&block(base_fee), &[transfer(1, 2, 0, 0)], &before);
        assert_eq!(out.tips, U256::from(GAS * tip), "at {base_fee}");
        assert_eq!(out.receipts[0].fee_per_gas, base_fee + u128::from(tip));
    }
}

#[test]
fn a_self_transfer_costs_its_gas_only_and_the_proposer_may_send_and_receive() {
    let before = state(&[(1, 10_000_000), (PROPOSER, 10_000_000)]);
    let txs = [transfer(1, 1, 0, 777), transfer(PROPOSER, PROPOSER, 0, 5), transfer(1, PROPOSER, 1, 100)];
    let out = TransferExecutor.execute(&block(10), &txs, &before);
    let now = after(&before, &out.changes);
    assert_eq!(balance(&now, 1), 10_000_000 - 2 * GAS * 13 - 100);
    assert_eq!(balance(&now, PROPOSER), 10_000_000 + 100 + 3 * GAS * 3 - GAS * 13);
}

#[test]
fn what_cannot_be_done_pays_its_gas_and_moves_nothing() {
    let mut before = state(&[(1, 10_000_000), (2, 5)]);
    before.get_mut(&address(2)).unwrap().code_hash = Hash32([1; 32]);
    let creation = ExecutableTx { to: None, intrinsic_gas: 53_000, ..transfer(1, 2, 1, 5) };
    let txs = [transfer(1, 3, 0, 50_000_000), creation, transfer(1, 2, 2, 5)];
    let out = TransferExecutor.execute(&block(10), &txs, &before);
    let statuses: Vec<Status> = out.receipts.iter().map(|receipt| receipt.status).collect();
    assert_eq!(statuses, [Status::InsufficientBalance, Status::NoCodeSupport, Status::NoCodeSupport]);
    let now = after(&before, &out.changes);
    assert_eq!(balance(&now, 1), 10_000_000 - (GAS + 53_000 + GAS) * 13);
    assert_eq!((now[&address(1)].nonce, now.get(&address(3)), balance(&now, 2)), (3, None, 5));
    assert_eq!(out.gas_used, 2 * GAS + 53_000);
}

#[test]
fn accounts_that_stay_empty_or_unchanged_are_no_change() {
    let before = state(&[(1, 10_000_000)]);
    let out = TransferExecutor.execute(&block(10), &[transfer(1, 2, 0, 0)], &before);
    let changed: Vec<Address> = out.changes.iter().map(|(address, _)| *address).collect();
    assert_eq!(changed, [address(1), address(PROPOSER)], "a transfer of nothing makes no account");
    assert!(TransferExecutor.execute(&block(10), &[], &before).changes.is_empty());
}

proptest! {
    /// Whatever is executed, valid or not: what the accounts held is what they hold and what was burned.
    #[test]
    fn balances_are_conserved(
        balances in prop::collection::vec(0u64..20_000_000, 10),
        base_fee in 0u128..120,
        txs in prop::collection::vec(
            (0u8..10, prop::option::of(0u8..12), 0u64..20_000_000, 0u128..150, 0u128..150, 0u64..60_000), 0..40),
    ) {
        let numbered: Vec<(u8, u64)> = (0u8..).zip(balances).collect();
        let before = state(&numbered);
        let txs: Vec<ExecutableTx> = txs
            .into_iter()
            .map(|(from, to, value, max_fee, max_priority_fee, gas)| ExecutableTx {
                to: to.map(address),
                max_fee,
                max_priority_fee,
                intrinsic_gas: gas,
                ..transfer(from, 0, 0, value)
            })
            .collect();
        let out = TransferExecutor.execute(&block(base_fee), &txs, &before);
        let now = after(&before, &out.changes);
        prop_assert_eq!(total(&before), total(&now) + out.burned);
        prop_assert_eq!(out.receipts.len(), txs.len());
        prop_assert_eq!(out.gas_used, out.receipts.iter().map(|receipt| receipt.gas_used).sum::<u64>());
        prop_assert!(out.changes.is_sorted_by(|a, b| a.0 < b.0));
        let again = TransferExecutor.execute(&block(base_fee), &txs, &before);
        prop_assert_eq!(again, out);
    }
}
