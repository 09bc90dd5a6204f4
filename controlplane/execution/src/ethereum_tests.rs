//! Ethereum transactions in blocks: one rule with native ones, from the check to the receipt.

use crate::executor::{BlockContext, Executor, TransferExecutor};
use crate::receipt::Status;
use crate::selection::{Candidate, StampStanding};
use crate::senders::SenderRefusal;
use crate::test_chain::{
    BASE_FEE, CHAIN, GAS_LIMIT, Stamped, TestChain, native, nothing_verified, stamped, tie,
};
use crate::validity::{BlockError, Checked, TxError};
use k256::ecdsa::SigningKey;
use roko_wire::account::address_of_secp256k1;
use roko_wire::ethereum::{Envelope, EthereumTx, access_list, wire};
use roko_wire::order::Ordered;
use roko_wire::rules::TxRefusal;
use roko_wire::tx::{SignatureError, parse, tx_id};
use roko_wire::{Account, Address, ChainId, Height, NanoMoment};
use ruint::aliases::U256;

const BALANCE: u64 = 10_000_000;
const TO: Address = Address([0xee; 20]);
const ENVELOPES: [Envelope; 3] = [Envelope::Legacy, Envelope::AccessList, Envelope::DynamicFee];

fn key(n: u8) -> SigningKey {
    SigningKey::from_slice(&[n; 32]).unwrap()
}

fn address(n: u8) -> Address {
    let point = key(n).verifying_key().to_sec1_point(false);
    address_of_secp256k1(point.as_bytes()[1..].try_into().unwrap())
}

fn tx(envelope: Envelope, nonce: u64) -> EthereumTx<'static> {
    EthereumTx {
        envelope,
        chain_id: Some(CHAIN),
        nonce,
        gas_limit: 21_000,
        max_fee: 20,
        max_priority_fee: if envelope == Envelope::DynamicFee { 3 } else { 20 },
        value: U256::from(1_000),
        to: Some(TO),
        input: &[],
        access_list: &[],
        access_items: 0,
        access_keys: 0,
    }
}

fn sent(from: u8, tx: &EthereumTx<'_>, time: u128) -> Stamped {
    Stamped { wire: wire(&tx.sign(&key(from))), time: NanoMoment(time), ingress: 0 }
}

/// The test chain with three secp256k1 accounts beside.
fn chain() -> TestChain {
    let mut chain = TestChain::new();
    let account = Account { balance: U256::from(BALANCE), ..Account::default() };
    chain.state.extend((1..=3).map(|n| (address(n), account)));
    chain
}

fn refused(txs: &[Stamped]) -> TxError {
    let chain = chain();
    match chain.check(chain.draft(txs)).unwrap_err() {
        BlockError::Tx { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

fn execute(chain: &TestChain, checked: &Checked) -> crate::executor::Executed {
    let block = BlockContext {
        height: Height(4),
        time: NanoMoment(5),
        base_fee: BASE_FEE,
        gas_limit: GAS_LIMIT,
        proposer_account: Address([9; 20]),
    };
    TransferExecutor.execute(&block, &checked.txs, &chain.state)
}

#[test]
fn each_envelope_is_executed_as_a_native_transfer_is() {
    let chain = chain();
    let mut txs: Vec<Stamped> =
        (0..3).map(|n| sent(n + 1, &tx(ENVELOPES[usize::from(n)], 0), 1_100_000 + u128::from(n))).collect();
    txs.push(stamped(1, &native(0, 1_000), 1_200_000));
    let checked = chain.check(chain.draft(&txs)).unwrap();
    let executed = execute(&chain, &checked);
    // The older envelopes pay their gas price, type 2 the base fee and its tip, the native one too.
    let paid: Vec<u128> = executed.receipts.iter().map(|receipt| receipt.fee_per_gas).collect();
    assert_eq!(paid, [20, 20, 13, 11]);
    assert!(executed.receipts.iter().all(|r| r.status == Status::Succeeded && r.gas_used == 21_000));
    let of =
        |who: Address| executed.changes.iter().find(|(at, _)| *at == who).and_then(|(_, account)| *account);
    for (n, fee) in [(1, 20), (2, 20), (3, 13)] {
        let account = of(address(n)).unwrap();
        assert_eq!((account.nonce, account.balance), (1, U256::from(BALANCE - 1_000 - 21_000 * fee)));
    }
    assert_eq!(of(TO).unwrap().balance, U256::from(4_000));
}

#[test]
fn creations_and_access_lists_cost_what_they_cost_native_ones() {
    let chain = chain();
    let creation = EthereumTx { to: None, input: &[0, 1], gas_limit: 60_000, ..tx(Envelope::Legacy, 0) };
    let items = [(TO, vec![[7; 32]; 2])];
    let list = access_list(&items);
    let listed = EthereumTx {
        access_list: &list,
        access_items: 1,
        access_keys: 2,
        gas_limit: 27_200,
        input: &[],
        ..tx(Envelope::DynamicFee, 0)
    };
    let txs = [sent(1, &creation, 1_100_000), sent(2, &listed, 1_100_001)];
    let checked = chain.check(chain.draft(&txs)).unwrap();
    let in_native_layout = [&TO.0[..], &[2, 0], &[7; 64]].concat();
    assert_eq!(checked.txs[1].access_list, in_native_layout);
    let executed = execute(&chain, &checked);
    let seen: Vec<_> = executed.receipts.iter().map(|receipt| (receipt.status, receipt.gas_used)).collect();
    assert_eq!(seen, [(Status::NoCodeSupport, 53_020), (Status::Succeeded, 21_000 + 2_400 + 2 * 1_900)]);
}

#[test]
fn each_refusal_has_its_reason() {
    let one = |tx: EthereumTx<'_>| refused(&[sent(1, &tx, 1_100_000)]);
    let good = || tx(Envelope::Legacy, 0);
    assert_eq!(one(EthereumTx { chain_id: None, ..good() }), TxError::Refused(TxRefusal::NoChainId));
    let wrong = one(EthereumTx { chain_id: Some(ChainId(1)), ..good() });
    assert!(matches!(wrong, TxError::Refused(TxRefusal::WrongChain { .. })));
    let gas = one(EthereumTx { gas_limit: 20_999, ..good() });
    assert!(matches!(gas, TxError::Refused(TxRefusal::BadGas { .. })));
    let cheap = EthereumTx { max_fee: 9, max_priority_fee: 9, ..good() };
    assert_eq!(one(cheap), TxError::FeeBelowBase { max_fee: 9, base_fee: BASE_FEE });
    assert_eq!(
        one(tx(Envelope::AccessList, 1)),
        TxError::Sender(SenderRefusal::NonceGap { have: 1, want: 0 })
    );
    let poor = one(EthereumTx { value: U256::from(BALANCE), ..good() });
    assert!(matches!(poor, TxError::Sender(SenderRefusal::OverBalance { .. })));
    let mut cut = sent(1, &good(), 1_100_000);
    cut.wire.pop();
    assert!(matches!(refused(&[cut]), TxError::Decode(_)));
    // With r = 0 it is nobody's signature.
    let raw = sent(1, &good(), 1_100_000).wire;
    let signed = roko_wire::ethereum::SignedEthereum::parse(&raw[1..]).unwrap();
    let mut forged = signed;
    forged.signature[..32].fill(0);
    let mut bytes = Vec::new();
    forged.write(&mut bytes);
    let forged = Stamped { wire: wire(&bytes), time: NanoMoment(1_100_000), ingress: 0 };
    assert_eq!(refused(&[forged]), TxError::Signature(SignatureError::BadSignature));
}

#[test]
fn what_the_data_plane_verified_is_not_verified_again() {
    let chain = chain();
    let good = sent(1, &tx(Envelope::DynamicFee, 0), 1_100_000);
    let draft = || chain.draft(std::slice::from_ref(&good));
    let known = |_: &roko_wire::TxId| Some(address(2));
    assert_eq!(chain.check_spoilt(draft(), &known, |_| ()).unwrap().txs[0].sender, address(2));
    assert_eq!(chain.check_spoilt(draft(), &nothing_verified, |_| ()).unwrap().txs[0].sender, address(1));
}

#[test]
fn the_window_ends_as_long_after_the_stamp_as_genesis_allows() {
    let mut chain = chain();
    chain.rules.tx.window_ns_max = 1_000;
    let txs = [sent(1, &tx(Envelope::Legacy, 0), 1_100_000)];
    let moved = |moment: u128| {
        let mut draft = chain.draft(&txs);
        draft.body.txs[0].moment = moment;
        chain.check(draft).unwrap_err()
    };
    let late = TxError::MomentExpired { moment: NanoMoment(1_101_001), valid_until: NanoMoment(1_101_000) };
    assert_eq!(moved(1_101_001), BlockError::Tx { index: 0, reason: late });
    // Within the window the moment is wrong for another reason: the order gives it.
    assert!(matches!(moved(1_101_000), BlockError::Order(_)));
    // The proposer's selection sees the same end.
    let id = tx_id(&txs[0].wire);
    let time = txs[0].time;
    let order = Ordered { id, sender: address(1), nonce: 0, time, tie_break: tie(&id), moment: time };
    let candidate = Candidate::new(
        order,
        &parse(&txs[0].wire).unwrap().terms(),
        &chain.rules,
        200,
        StampStanding::Unknown,
    );
    assert_eq!(candidate.valid_until, NanoMoment(1_101_000));
}
