//! The canonical order: a constructor written from the rule's text is accepted, and every swap of its output refused.

use proptest::collection::vec;
use proptest::prelude::*;
use roko_wire::ids::{Address, TxId};
use roko_wire::nano::NanoMoment;
use roko_wire::order::{OrderError, Ordered, check_order};
use std::collections::BTreeMap;

const FROM: NanoMoment = NanoMoment(1_000);
const WATERMARK: NanoMoment = NanoMoment(2_000);
const PREVIOUS: NanoMoment = NanoMoment(1_003);

type Key = (NanoMoment, u64, TxId);

fn key(tx: &Ordered) -> Key {
    (tx.time, tx.tie_break, tx.id)
}

/// The order by the rule: a transaction stands at its own key, or at its predecessor's place when that is higher.
fn construct(mut txs: Vec<Ordered>) -> Vec<Ordered> {
    txs.sort_by_key(|tx| (tx.sender, tx.nonce));
    let mut stands_at: BTreeMap<Address, Key> = BTreeMap::new();
    let mut placed: Vec<(Key, u64, Ordered)> = Vec::new();
    for tx in txs {
        let place = stands_at
            .entry(tx.sender)
            .and_modify(|place| *place = (*place).max(key(&tx)))
            .or_insert(key(&tx));
        placed.push((*place, tx.nonce, tx));
    }
    placed.sort_by_key(|(place, nonce, _)| (*place, *nonce));
    let mut last = PREVIOUS;
    placed
        .into_iter()
        .map(|(_, _, tx)| {
            last = tx.time.max(NanoMoment(last.0 + 1));
            Ordered { moment: last, ..tx }
        })
        .collect()
}

/// Transactions of a few senders in a few nanoseconds: collisions and displacements are frequent.
fn transactions() -> impl Strategy<Value = Vec<Ordered>> {
    vec((0u8..6, 1_000u128..1_040, 0u64..3), 0..30).prop_map(|given| {
        let mut nonces = [5u64; 6];
        let tx = |(at, (sender, time, tie_break)): (usize, (u8, u128, u64))| {
            let nonce = &mut nonces[usize::from(sender)];
            *nonce += 1;
            let mut id = TxId::ZERO;
            (id.0[0], id.0[1]) = ((at as u8).wrapping_mul(37), at as u8);
            let (sender, nonce) = (Address([sender; 20]), *nonce);
            Ordered { id, sender, nonce, time: NanoMoment(time), tie_break, moment: NanoMoment::ZERO }
        };
        given.into_iter().enumerate().map(tx).collect()
    })
}

fn check(txs: &[Ordered]) -> Result<(), OrderError> {
    check_order(txs, FROM, WATERMARK, PREVIOUS)
}

/// The moments that the rule gives to transactions in this order.
fn with_moments(txs: &[Ordered]) -> Vec<Ordered> {
    let mut last = PREVIOUS;
    let moment = |tx: &Ordered| {
        last = tx.time.max(NanoMoment(last.0 + 1));
        Ordered { moment: last, ..*tx }
    };
    txs.iter().map(moment).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_rule_constructs_is_accepted(txs in transactions()) {
        let ordered = construct(txs);
        prop_assert_eq!(check(&ordered), Ok(()));
        prop_assert!(ordered.windows(2).all(|pair| pair[0].moment < pair[1].moment), "moments are unique and ascend");
        prop_assert!(ordered.iter().all(|tx| tx.moment >= tx.time && tx.moment > PREVIOUS));
    }

    #[test]
    fn every_swap_is_refused(txs in transactions(), a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
        prop_assume!(txs.len() > 1);
        let mut ordered = construct(txs);
        let (a, b) = (a.index(ordered.len()), b.index(ordered.len()));
        prop_assume!(a != b);
        ordered.swap(a, b);
        prop_assert!(check(&ordered).is_err());
        // Not for their moments only: no other order of the same transactions is canonical.
        prop_assert!(check(&with_moments(&ordered)).is_err(), "{} and {} of {}", a, b, ordered.len());
    }

    #[test]
    fn every_other_moment_is_refused(txs in transactions(), at in any::<prop::sample::Index>(), later in any::<bool>()) {
        prop_assume!(!txs.is_empty());
        let mut ordered = construct(txs);
        let at = at.index(ordered.len());
        let moment = &mut ordered[at].moment.0;
        *moment = if later { *moment + 1 } else { *moment - 1 };
        let refused = check(&ordered);
        prop_assert!(matches!(refused, Err(OrderError::Moment { index, .. }) if index == at), "{:?}", refused);
    }

    #[test]
    fn a_gap_or_a_repetition_of_a_nonce_is_refused(txs in transactions(), at in any::<prop::sample::Index>()) {
        let mut ordered = construct(txs);
        let followers: Vec<usize> = (1..ordered.len())
            .filter(|at| ordered[..*at].iter().any(|before| before.sender == ordered[*at].sender))
            .collect();
        prop_assume!(!followers.is_empty());
        let at = followers[at.index(followers.len())];
        for nonce in [ordered[at].nonce + 1, ordered[at].nonce - 1, 0, u64::MAX] {
            ordered[at].nonce = nonce;
            prop_assert_eq!(check(&ordered), Err(OrderError::Nonce { index: at }));
        }
    }
}
