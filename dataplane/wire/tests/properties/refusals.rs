//! The transaction rules at both sides of every border.

use crate::samples::{CHAIN, MOMENT, access_list, creation, stamp, transfer};
use roko_wire::ids::ChainId;
use roko_wire::nano::NanoMoment;
use roko_wire::rules::{FEE_ABSURD, TRANSFER_GAS, TxRefusal, TxRules, intrinsic_gas};
use roko_wire::stamp::Stamp;
use roko_wire::tx::NativeTx;
use ruint::aliases::U256;

const RULES: TxRules = TxRules { chain_id: CHAIN, window_ns_max: 61_000_000_000, gas_max: 30_000_000 };

fn check(tx: &NativeTx<'_>) -> Result<(), TxRefusal> {
    RULES.check(&tx.terms(), &stamp())
}

#[test]
fn the_chain_is_this_one() {
    assert_eq!(check(&transfer()), Ok(()));
    let have = ChainId(CHAIN.0 + 1);
    let refused = TxRefusal::WrongChain { have, want: CHAIN };
    assert_eq!(check(&NativeTx { chain_id: have, ..transfer() }), Err(refused));
}

#[test]
fn the_window_is_as_long_as_genesis_allows() {
    let until = |valid_until| check(&NativeTx { valid_until, ..transfer() });
    let longest = transfer().valid_from.saturating_add(RULES.window_ns_max);
    assert_eq!(until(longest), Ok(()));
    let window_ns_max = RULES.window_ns_max;
    let refused = TxRefusal::BadWindow { window_ns: window_ns_max + 1, window_ns_max };
    assert_eq!(until(longest.saturating_add(1)), Err(refused));
    let reversed = transfer().valid_from.saturating_sub(1);
    assert_eq!(until(reversed), Err(TxRefusal::BadWindow { window_ns: 0, window_ns_max }));
    // A window of one moment is no reversed one: it is refused for the stamp that it misses.
    assert!(matches!(until(transfer().valid_from), Err(TxRefusal::Expired { .. })));
}

#[test]
fn the_bound_counts_against_the_sender_on_both_sides() {
    let bound_ns = stamp().bound_ns;
    let (tx, time) = (transfer(), MOMENT);
    let valid_until = time.saturating_add(bound_ns);
    assert_eq!(check(&NativeTx { valid_until, ..tx }), Ok(()));
    let valid_until = valid_until.saturating_sub(1);
    assert_eq!(check(&NativeTx { valid_until, ..tx }), Err(TxRefusal::Expired { valid_until, time }));
    let valid_from = time.saturating_sub(bound_ns);
    assert_eq!(check(&NativeTx { valid_from, ..tx }), Ok(()));
    let valid_from = valid_from.saturating_add(1);
    assert_eq!(check(&NativeTx { valid_from, ..tx }), Err(TxRefusal::NotYetValid { valid_from, time }));
    let exact = NativeTx { valid_from: time, valid_until: time, ..tx };
    assert_eq!(RULES.check(&exact.terms(), &Stamp { bound_ns: 0, ..stamp() }), Ok(()));
    assert!(check(&exact).is_err());
}

#[test]
fn stamps_at_the_ends_of_time_do_not_wrap() {
    let (valid_from, valid_until) = (NanoMoment::ZERO, NanoMoment(5));
    let tx = NativeTx { valid_from, valid_until, ..transfer() };
    let at =
        |time, bound_ns| RULES.check(&tx.terms(), &Stamp { time: NanoMoment(time), bound_ns, ..stamp() });
    assert_eq!(at(2, 3), Ok(()));
    assert!(matches!(at(2, 4), Err(TxRefusal::Expired { .. })));
    assert!(matches!(at(u128::MAX, u64::MAX), Err(TxRefusal::Expired { .. })));
}

#[test]
fn fees_are_below_the_absurd_and_the_priority_fee_below_the_maximum() {
    let fees = |max_fee, max_priority_fee| check(&NativeTx { max_fee, max_priority_fee, ..transfer() });
    assert_eq!(fees(FEE_ABSURD, FEE_ABSURD), Ok(()));
    let refused = |max_fee, max_priority_fee| Err(TxRefusal::FeeAbsurd { max_fee, max_priority_fee });
    assert_eq!(fees(FEE_ABSURD + 1, 0), refused(FEE_ABSURD + 1, 0));
    assert_eq!(fees(5, 5), Ok(()));
    assert_eq!(fees(5, 6), refused(5, 6));
    assert_eq!(fees(0, 0), Ok(()));
}

#[test]
fn gas_is_between_the_intrinsic_and_the_maximum() {
    let gas = |gas_limit| check(&NativeTx { gas_limit, ..transfer() });
    let refused =
        |gas_limit| Err(TxRefusal::BadGas { gas_limit, intrinsic: TRANSFER_GAS, gas_max: RULES.gas_max });
    assert_eq!(gas(TRANSFER_GAS), Ok(()));
    assert_eq!(gas(TRANSFER_GAS - 1), refused(TRANSFER_GAS - 1));
    assert_eq!(gas(RULES.gas_max), Ok(()));
    assert_eq!(gas(RULES.gas_max + 1), refused(RULES.gas_max + 1));
}

#[test]
fn intrinsic_gas_is_ethereums() {
    assert_eq!(intrinsic_gas(&transfer()), 21_000);
    assert_eq!(intrinsic_gas(&NativeTx { input: &[0, 0, 1], ..transfer() }), 21_000 + 2 * 4 + 16);
    let list = access_list();
    let tx = creation(&list);
    // Three bytes of the input are not zero; the list has two items with two keys together.
    assert_eq!(intrinsic_gas(&tx), 21_000 + 32_000 + (3 * 16 + 2 * 4) + 2 * 2_400 + 2 * 1_900);
}

#[test]
fn the_highest_cost_is_checked_arithmetic() {
    let tx = NativeTx { value: U256::ZERO, max_fee: u128::MAX, gas_limit: u64::MAX, ..transfer() };
    let gas = U256::from(u128::MAX) * U256::from(u64::MAX);
    assert_eq!(tx.terms().cost_max(), Some(gas));
    assert_eq!((NativeTx { value: U256::MAX - gas, ..tx }).terms().cost_max(), Some(U256::MAX));
    assert_eq!((NativeTx { value: U256::MAX - gas + U256::from(1), ..tx }).terms().cost_max(), None);
}
