//! The validity check: right blocks pass and come out parsed, each kind of wrong one is named; and what the proposer's
//! selection keeps always passes.

use crate::selection::{BlockFrame, Candidate, Exclusion, StampStanding, select};
use crate::senders::SenderRefusal;
use crate::test_chain::*;
use crate::validity::{BlockError, TxError, Verified};
use proptest::prelude::*;
use roko_wire::block::{Body, Header};
use roko_wire::order::{OrderError, Ordered};
use roko_wire::rules::TxRefusal;
use roko_wire::stamp::SignedRoot;
use roko_wire::tx::{SignatureError, parse, tx_id};
use roko_wire::{Account, Address, ChainId, Hash32, Height, NanoMoment, TxId, ValidatorIndex};
use ruint::aliases::U256;
use std::cell::Cell;

/// Three senders, one of whom sends twice.
fn four() -> Vec<Stamped> {
    vec![
        stamped(1, &native(0, 500), 1_000_000),
        stamped(2, &native(0, 500), 1_100_000),
        stamped(1, &native(1, 500), 1_200_000),
        stamped(3, &native(0, 500), 1_300_000),
    ]
}

#[test]
fn a_right_block_passes_and_comes_out_parsed() {
    let chain = TestChain::new();
    let checked = chain.check(chain.draft(&four())).unwrap();
    assert_eq!(checked.last_moment, NanoMoment(1_300_000));
    let senders: Vec<Address> = checked.txs.iter().map(|tx| tx.sender).collect();
    assert_eq!(senders, [1, 2, 1, 3].map(user_address));
    assert_eq!((checked.txs[2].nonce, checked.txs[2].value), (1, U256::from(500u64)));
    assert_eq!(checked.txs[2].intrinsic_gas, 21_000);
    let empty = chain.check(chain.draft(&[])).unwrap();
    assert_eq!((empty.txs.len(), empty.last_moment), (0, NanoMoment(999_000)));
}

struct Everything<'a>(&'a Cell<u32>);

impl Verified for Everything<'_> {
    fn sender(&self, _: usize, _: &TxId) -> Option<Address> {
        self.0.set(self.0.get() + 1);
        Some(user_address(1))
    }
    fn stamp_root(&self, _: &SignedRoot) -> bool {
        true
    }
}

#[test]
fn what_was_verified_before_is_not_verified_again() {
    let chain = TestChain::new();
    let mut draft =
        chain.draft(&[stamped(1, &native(0, 5), 1_000_000), stamped(1, &native(1, 5), 1_000_001)]);
    draft.body.batches[0].signature = [0; 64];
    let (calls, last) = (Cell::new(0), draft.body.tx_bytes.len() - 1);
    draft.body.tx_bytes[last] ^= 1;
    // The changed signature changes the id, so the stamp no longer fits; the first transaction had passed by the cache.
    let refused = chain.check_spoilt(draft, &Everything(&calls), |_| ());
    assert_eq!(refused, Err(BlockError::Tx { index: 1, reason: TxError::StampPath { batch: 0 } }));
    assert_eq!(calls.get(), 1);
}

#[test]
fn a_header_that_is_not_the_chains_is_named() {
    let chain = TestChain::new();
    let refused = |spoil: fn(&mut Header)| {
        chain.check_spoilt(chain.draft(&four()), &nothing_verified, spoil).unwrap_err()
    };
    let root = |error| match error {
        BlockError::Root { name, .. } => name,
        _ => "no root",
    };
    assert!(matches!(refused(|h| h.chain_id = ChainId(8)), BlockError::ChainId { .. }));
    assert!(matches!(refused(|h| h.height = Height(5)), BlockError::Height { .. }));
    assert!(matches!(refused(|h| h.watermark = NanoMoment(FROM.0 - 1)), BlockError::Watermark { .. }));
    assert!(matches!(refused(|h| h.watermark = NanoMoment(h.time.0 + 1)), BlockError::Watermark { .. }));
    assert!(matches!(refused(|h| h.gas_limit += 1), BlockError::GasLimit { .. }));
    assert!(matches!(refused(|h| h.base_fee -= 1), BlockError::BaseFee { have: 9, want: 10 }));
    assert_eq!(root(refused(|h| h.parent_state_root = Hash32::ZERO)), "parent state root");
    assert_eq!(root(refused(|h| h.parent_receipts_root = Hash32::ZERO)), "parent receipts root");
    assert_eq!(root(refused(|h| h.tx_root = Hash32::ZERO)), "transaction root");
    assert!(matches!(refused(|h| h.tx_count += 1), BlockError::Count { what: "transactions", .. }));
    assert!(matches!(refused(|h| h.body_bytes += 1), BlockError::Count { what: "bytes", .. }));
    assert!(matches!(
        refused(|h| h.watermark = NanoMoment(1_300_000)),
        BlockError::Order(OrderError::Span { index: 3 })
    ));
}

#[test]
fn limits_of_genesis_are_held() {
    let mut chain = TestChain::new();
    chain.rules.txs_max = 3;
    let over = chain.check(chain.draft(&four()));
    assert!(matches!(over, Err(BlockError::OverLimit { what: "transactions", have: 4, limit: 3 })));
    chain.rules.txs_max = 4;
    chain.rules.body_bytes_max = 1_000;
    assert!(matches!(chain.check(chain.draft(&four())), Err(BlockError::OverLimit { what: "bytes", .. })));
}

#[test]
fn batches_and_stamps_that_do_not_hold_are_named() {
    let chain = TestChain::new();
    let refused = |spoil: fn(&mut Body)| {
        let mut draft = chain.draft(&four());
        spoil(&mut draft.body);
        chain.check(draft).unwrap_err()
    };
    let batch = |error| match error {
        BlockError::Batch { batch, what, .. } => (batch, what),
        _ => (99, "no batch"),
    };
    assert!(batch(refused(|b| b.batches[1].signature[5] ^= 1)).1.contains("signature"));
    assert!(batch(refused(|b| b.batches[1].ingress = 2)).1.contains("signature"));
    assert!(batch(refused(|b| b.batches[1].ingress = 4)).1.contains("not in the epoch's set"));
    assert!(batch(refused(|b| b.batches[0].leaves = 6)).1.contains("leaves"));
    assert_eq!(batch(refused(|b| b.batches.push(b.batches[0]))), (2, "no transaction refers to it"));
    let path = |index, batch| BlockError::Tx { index, reason: TxError::StampPath { batch } };
    assert_eq!(refused(|b| b.txs[1].stamp_time += 1), path(1, 0));
    assert_eq!(refused(|b| b.txs[1].bound_ns -= 1), path(1, 0));
    assert_eq!(refused(|b| b.txs[1].leaf_index = 0), path(1, 0));
    assert_eq!(refused(|b| b.paths[3][0] ^= 1), path(3, 1));
    assert_eq!(refused(|b| b.txs[2].batch = 0), path(2, 0));
    let moment = refused(|b| b.txs[3].moment += 1);
    assert!(matches!(moment, BlockError::Order(OrderError::Moment { index: 3, .. })), "{moment}");
}

/// The reason for which the block of these transactions is refused, and where.
fn reason(chain: &TestChain, txs: &[Stamped]) -> (usize, TxError) {
    match chain.check(chain.draft(txs)) {
        Err(BlockError::Tx { index, reason }) => (index, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn transactions_that_may_not_be_in_the_block_are_named() {
    let chain = TestChain::new();
    let one = |tx: Stamped| reason(&chain, &[stamped(9, &native(0, 5), 1_000_000), tx]);
    let at = 1_000_001;
    let with = |change: fn(&mut roko_wire::tx::NativeTx<'static>)| {
        let mut tx = native(0, 5);
        change(&mut tx);
        stamped(1, &tx, at)
    };
    let refused = |tx| match one(tx) {
        (1, TxError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(with(|tx| tx.chain_id = ChainId(8))), TxRefusal::WrongChain { .. }));
    assert!(matches!(refused(with(|tx| tx.valid_until = NanoMoment(1_000_100))), TxRefusal::Expired { .. }));
    assert!(matches!(refused(with(|tx| tx.gas_limit = 20_999)), TxRefusal::BadGas { .. }));
    let fee = one(with(|tx| tx.max_fee = 9));
    assert_eq!(fee, (1, TxError::FeeBelowBase { max_fee: 9, base_fee: 10 }));
    let gas = one(with(|tx| tx.gas_limit = GAS_LIMIT - 20_999));
    assert!(matches!(gas, (1, TxError::GasOverLimit { .. })));
    let value = one(with(|tx| tx.value = U256::MAX));
    assert!(matches!(value, (1, TxError::Sender(SenderRefusal::OverBalance { .. }))));

    let mut cut = with(|_| ());
    cut.wire.pop();
    assert!(matches!(one(cut), (1, TxError::Decode(_))));
    let mut forged = with(|_| ());
    *forged.wire.last_mut().unwrap() ^= 1;
    assert_eq!(one(forged), (1, TxError::Signature(SignatureError::BadSignature)));
}

#[test]
fn nonces_and_balances_are_those_after_the_parent() {
    let mut chain = TestChain::new();
    let exact = 10_000_000 - 2 * 21_000 * 20;
    let twice =
        |value| [stamped(1, &native(0, value), 1_000_000), stamped(1, &native(1, exact - 600), 1_000_001)];
    assert!(chain.check(chain.draft(&twice(600))).is_ok(), "to the last unit");
    let over =
        (1, TxError::Sender(SenderRefusal::OverBalance { left: U256::from(exact - 601 + 21_000 * 20) }));
    assert_eq!(reason(&chain, &twice(601)), over);

    let repeated = [four()[0].clone(), four()[1].clone(), four()[0].clone()];
    assert_eq!(reason(&chain, &repeated), (2, TxError::Duplicate { first: 0 }));
    let gap = [stamped(1, &native(1, 5), 1_000_000)];
    assert_eq!(reason(&chain, &gap), (0, TxError::Sender(SenderRefusal::NonceGap { have: 1, want: 0 })));
    chain.state.insert(user_address(1), Account { nonce: 2, ..Account::default() });
    assert_eq!(reason(&chain, &gap), (0, TxError::Sender(SenderRefusal::StaleNonce { have: 1, want: 2 })));
    chain
        .state
        .insert(user_address(1), Account { nonce: u64::MAX, balance: U256::MAX, ..Account::default() });
    let last = [stamped(1, &native(u64::MAX, 5), 1_000_000)];
    assert_eq!(reason(&chain, &last), (0, TxError::Sender(SenderRefusal::NonceLimit)));
}

#[test]
fn a_moment_that_a_collision_moves_past_the_window_is_refused() {
    let chain = TestChain::new();
    let mut tx = native(0, 5);
    tx.valid_until = NanoMoment(1_000_100);
    let mut txs: Vec<Stamped> = (2..=8u8).map(|n| stamped(n, &native(0, 5), 1_000_000)).collect();
    txs.sort_by_key(|tx| tie(&tx_id(&tx.wire)));
    let mut draft = chain.draft(&[vec![stamped(1, &tx, 1_000_000)], txs].concat());
    draft.body.txs[0].moment = 1_000_101;
    let refused = chain.check(draft).unwrap_err();
    let expired =
        TxError::MomentExpired { moment: NanoMoment(1_000_101), valid_until: NanoMoment(1_000_100) };
    assert_eq!(refused, BlockError::Tx { index: 0, reason: expired });
}

fn candidate(chain: &TestChain, tx: &Stamped, from: u8) -> Candidate {
    let terms = parse(&tx.wire).unwrap().terms();
    let id = tx_id(&tx.wire);
    let order = Ordered {
        id,
        sender: user_address(from),
        nonce: terms.nonce,
        time: tx.time,
        tie_break: tie(&id),
        moment: NanoMoment::ZERO,
    };
    Candidate::new(order, &terms, &chain.rules, tx.wire.len() + 200, StampStanding::Plausible)
}

fn frame(chain: &TestChain) -> BlockFrame<'_> {
    BlockFrame {
        rules: &chain.rules,
        state: &chain.state,
        from: FROM,
        watermark: WATERMARK,
        last_moment: chain.parent().last_moment,
        base_fee: BASE_FEE,
        body_bytes_empty: 64,
        implausible_permille_max: 25,
    }
}

#[test]
fn the_selection_says_why_each_is_left_out() {
    let mut chain = TestChain::new();
    chain.rules.txs_max = 3;
    chain.state.get_mut(&user_address(4)).unwrap().nonce = 1;
    let mut cheap = native(0, 5);
    cheap.max_fee = 9;
    let txs = [
        (1, stamped(1, &native(0, 5), 999_999)),            // before the span
        (1, stamped(1, &native(0, 6), 1_000_000)),          // kept
        (1, stamped(1, &native(0, 6), 1_000_000)),          // the same
        (2, stamped(2, &native(1, 5), 1_000_010)),          // gap
        (3, stamped(3, &cheap, 1_000_020)),                 // fee
        (4, stamped(4, &native(0, 5), 1_000_050)),          // stale
        (4, stamped(4, &native(1, 5), 1_000_040)),          // kept: nothing kept has a larger key
        (5, stamped(5, &native(0, 5), 1_000_030)),          // out of order
        (6, stamped(6, &native(0, 10_000_000), 1_000_060)), // balance
        (7, stamped(7, &native(0, 5), WATERMARK.0)),        // after the span
        (8, stamped(8, &native(0, 5), 1_000_080)),          // kept
        (9, stamped(9, &native(0, 5), 1_000_090)),          // full
        (9, stamped(9, &native(1, 5), 1_000_091)),          // still full
    ];
    let candidates: Vec<Candidate> = txs.iter().map(|(from, tx)| candidate(&chain, tx, *from)).collect();
    let selection = select(&frame(&chain), &candidates);
    let kept: Vec<usize> = selection.kept.iter().map(|(index, _)| *index).collect();
    assert_eq!(kept, [1, 6, 10]);
    let reasons: Vec<(usize, Exclusion)> = selection.excluded;
    let left = U256::from(10_000_000u64);
    assert_eq!(
        reasons,
        [
            (0, Exclusion::BeforeSpan),
            (2, Exclusion::Duplicate),
            (3, Exclusion::Sender(SenderRefusal::NonceGap { have: 1, want: 0 })),
            (4, Exclusion::FeeBelowBase { base_fee: 10 }),
            (5, Exclusion::Sender(SenderRefusal::StaleNonce { have: 0, want: 1 })),
            (7, Exclusion::OutOfOrder),
            (8, Exclusion::Sender(SenderRefusal::OverBalance { left })),
            (9, Exclusion::NoMoment),
            (11, Exclusion::BlockFull),
            (12, Exclusion::BlockFull),
        ]
    );
}

/// Of 200 candidates, every fourth without an opinion, those at `implausible` are implausible.
fn left_out_as_implausible(implausible: &[usize], permille: u32) -> Vec<usize> {
    let mut chain = TestChain::new();
    (chain.rules.txs_max, chain.rules.body_bytes_max) = (1_000, 1_000_000);
    let candidates: Vec<Candidate> = (0..200)
        .map(|index| {
            let from = (index % 19) as u8 + 1;
            let tx = stamped(from, &native(index as u64 / 19, 1), 1_000_000 + index as u128);
            let stamp = match index % 4 {
                _ if implausible.contains(&index) => StampStanding::Implausible,
                3 => StampStanding::Unknown,
                _ => StampStanding::Plausible,
            };
            Candidate { stamp, ..candidate(&chain, &tx, from) }
        })
        .collect();
    let frame = BlockFrame { implausible_permille_max: permille, ..frame(&chain) };
    let excluded = select(&frame, &candidates).excluded;
    excluded.iter().filter(|(_, why)| *why == Exclusion::ImplausibleStamp).map(|(at, _)| *at).collect()
}

#[test]
fn a_proposer_puts_up_with_few_implausible_stamps() {
    // 25 of 1,000 judged: the first is one too many until 39 others were judged.
    assert_eq!(left_out_as_implausible(&[50], 25), [50]);
    assert!(left_out_as_implausible(&[52], 25).is_empty());
    assert_eq!(left_out_as_implausible(&[60, 61], 25), [61]);
    assert!(left_out_as_implausible(&[60, 180], 25).is_empty());
    assert_eq!(left_out_as_implausible(&[180], 0), [180]);
    let all: Vec<usize> = (0..200).collect();
    assert!(left_out_as_implausible(&all, 1_000).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Random candidates, stale, poor, colliding and displaced: a block of what is kept passes the check, with just the
    /// moments that the selection gave; and with room for all, each exclusion has its reason in the whole.
    #[test]
    fn what_is_selected_passes_the_check(
        picks in prop::collection::vec(
            (1u8..6, 0u64..4, 0u128..8, 0u64..9_000_000, 8u128..30, prop::option::weighted(0.1, 0u128..3)), 0..24),
        displaced: bool,
    ) {
        let mut chain = TestChain::new();
        chain.state.get_mut(&user_address(5)).unwrap().nonce = 1;
        let mut txs: Vec<(u8, Stamped)> = picks
            .into_iter()
            .map(|(from, nonce, time, value, max_fee, window)| {
                let mut tx = native(nonce, value);
                tx.max_fee = max_fee;
                let at = FROM.0 + time;
                if let Some(after) = window {
                    tx.valid_until = NanoMoment(at + 100 + after);
                }
                (from, stamped(from, &tx, at))
            })
            .collect();
        txs.sort_by_key(|(_, tx)| { let id = tx_id(&tx.wire); (tx.time, tie(&id), id) });
        if displaced && txs.len() > 2 {
            // A sender's transactions with lower keys behind its later one, as the order's rule displaces them.
            let from = txs[txs.len() - 1].0;
            let (mut own, mut others): (Vec<_>, Vec<_>) = txs.into_iter().partition(|(sender, _)| *sender == from);
            own.sort_by_key(|(_, tx)| parse(&tx.wire).unwrap().terms().nonce);
            others.extend(own);
            txs = others;
        }
        let candidates: Vec<Candidate> = txs.iter().map(|(from, tx)| candidate(&chain, tx, *from)).collect();
        let selection = select(&frame(&chain), &candidates);
        prop_assert_eq!(selection.kept.len() + selection.excluded.len(), txs.len());
        let kept: Vec<Stamped> = selection
            .kept
            .iter()
            .map(|(index, _)| txs[*index].1.clone())
            .collect();
        // Pairs share a batch and with it an ingress validator; the draft takes the first one's.
        let checked = chain.check(chain.draft(&kept));
        let checked = match checked {
            Ok(checked) => checked,
            Err(error) => return Err(TestCaseError::fail(format!("{error}"))),
        };
        let moments: Vec<NanoMoment> = selection.kept.iter().map(|(_, moment)| *moment).collect();
        let in_block: Vec<NanoMoment> = checked.txs.iter().map(|tx| tx.moment).collect();
        prop_assert_eq!(moments, in_block);
    }
}

#[test]
fn an_unknown_ingress_is_said_by_its_index() {
    let chain = TestChain::new();
    let mut draft = chain.draft(&four());
    draft.body.batches[0].ingress = 77;
    let error = chain.check(draft).unwrap_err();
    assert!(matches!(error, BlockError::Batch { batch: 0, ingress: ValidatorIndex(77), .. }));
}
