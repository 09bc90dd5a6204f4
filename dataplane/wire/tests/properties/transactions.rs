//! Native transactions: one encoding, exact ends, and signatures that cover every byte.

use crate::samples::{secp_sender, sender};
use proptest::collection::vec;
use proptest::prelude::*;
use roko_wire::account::address_of_ed25519;
use roko_wire::codec::DecodeError;
use roko_wire::ids::{Address, ChainId};
use roko_wire::limits::{ACCESS_LIST_MAX, TX_BYTES_MAX};
use roko_wire::nano::NanoMoment;
use roko_wire::tx::{self, Authorization, NativeTx, ParsedTx, SignedNative};
use ruint::aliases::U256;

/// A transaction's variable parts, owned.
#[derive(Clone, Debug)]
struct Parts {
    numbers: ([u64; 3], [u128; 4], [u64; 4]),
    to: Option<[u8; 20]>,
    input: Vec<u8>,
    /// Storage keys of each item.
    items: Vec<usize>,
}

fn parts() -> impl Strategy<Value = Parts> {
    let items = vec(0usize..4, 0..4);
    (any::<([u64; 3], [u128; 4], [u64; 4])>(), any::<Option<[u8; 20]>>(), vec(any::<u8>(), 0..300), items)
        .prop_map(|(numbers, to, input, items)| Parts { numbers, to, input, items })
}

fn access_list(items: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    for keys in items {
        out.extend([0xab; 20]);
        out.extend((*keys as u16).to_le_bytes());
        out.extend(vec![0xcd; 32 * keys]);
    }
    out
}

fn native<'a>(parts: &'a Parts, list: &'a [u8]) -> NativeTx<'a> {
    let ([chain_id, nonce, gas_limit], [max_fee, max_priority_fee, from, until], value) = parts.numbers;
    NativeTx {
        chain_id: ChainId(chain_id),
        nonce,
        gas_limit,
        max_fee,
        max_priority_fee,
        valid_from: NanoMoment(from),
        valid_until: NanoMoment(until),
        value: U256::from_limbs(value),
        to: parts.to.map(Address),
        input: &parts.input,
        access_list: list,
        access_items: parts.items.len() as u16,
        access_keys: parts.items.iter().sum::<usize>() as u32,
    }
}

fn parsed(wire: &[u8]) -> SignedNative<'_> {
    match tx::parse(wire).expect("what is written is read") {
        ParsedTx::Native(native) => native,
        ParsedTx::Ethereum(_) => panic!("it is native"),
    }
}

/// The bytes of a parsed transaction.
fn rewritten(native: &SignedNative<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match native.authorization {
        Authorization::Ed25519 { public_key, signature } => {
            native.tx.write(0, &mut out);
            out.extend(public_key);
            out.extend(signature);
        }
        Authorization::Secp256k1 { signature } => {
            native.tx.write(1, &mut out);
            out.extend(signature);
        }
    }
    out
}

fn fields(tx: &NativeTx<'_>) -> String {
    format!("{tx:?}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn transactions(parts in parts(), ed25519 in any::<bool>()) {
        let list = access_list(&parts.items);
        let tx = native(&parts, &list);
        let wire = if ed25519 { tx.sign_ed25519(&sender()) } else { tx.sign_secp256k1(&secp_sender()) };
        prop_assert!(wire.len() <= TX_BYTES_MAX);
        let read = parsed(&wire);
        prop_assert_eq!(fields(&read.tx), fields(&tx));
        prop_assert_eq!(rewritten(&read), &wire[..]);
        for len in 0..wire.len() {
            let cut = tx::parse(&wire[..len]);
            prop_assert!(matches!(cut, Err(DecodeError::Truncated { .. })), "{} of {}: {:?}", len, wire.len(), cut);
        }
        let longer = [&wire[..], &[0]].concat();
        prop_assert_eq!(tx::parse(&longer).err(), Some(DecodeError::Trailing { extra: 1 }));
    }

    #[test]
    fn one_bit_more_or_less_is_another_senders_or_nobodys(
        parts in parts(), ed25519 in any::<bool>(), at in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let list = access_list(&parts.items);
        let tx = native(&parts, &list);
        let wire = if ed25519 { tx.sign_ed25519(&sender()) } else { tx.sign_secp256k1(&secp_sender()) };
        let signed_by = parsed(&wire).verify().expect("it is signed");
        let mut altered = wire.clone();
        altered[at.index(wire.len())] ^= 1 << bit;
        if let Ok(ParsedTx::Native(read)) = tx::parse(&altered) {
            prop_assert_eq!(rewritten(&read), &altered[..]);
            prop_assert_ne!(read.verify().ok(), Some(signed_by));
            prop_assert_ne!(tx::tx_id(&altered), tx::tx_id(&wire));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..1_300), scheme in 0u8..3) {
        let mut bytes = bytes;
        let _ = tx::parse(&bytes);
        if bytes.len() > 144 {
            (bytes[0], bytes[1], bytes[122]) = (0, scheme, bytes[122] % 3);
            if let Ok(ParsedTx::Native(read)) = tx::parse(&bytes) {
                assert_eq!(rewritten(&read), bytes);
                let _ = read.verify();
            }
        }
    }
}

#[test]
fn a_transaction_may_be_as_long_as_its_limit_and_no_longer() {
    let empty = native(&PLAIN, &[]).sign_ed25519(&sender()).len();
    let input = vec![0x5a; TX_BYTES_MAX - empty + 1];
    let wire = |len: usize| NativeTx { input: &input[..len], ..native(&PLAIN, &[]) }.sign_ed25519(&sender());
    let longest = wire(input.len() - 1);
    assert_eq!(longest.len(), TX_BYTES_MAX);
    let public = crate::samples::public(&sender());
    assert_eq!(parsed(&longest).verify(), Ok(address_of_ed25519(&public)));
    let refused = tx::parse(&wire(input.len())).err();
    let (value, limit) = (TX_BYTES_MAX as u64 + 1, TX_BYTES_MAX as u64);
    assert_eq!(refused, Some(DecodeError::OverLimit { field: "transaction length", value, limit }));
}

const PLAIN: Parts = Parts {
    numbers: ([1; 3], [1; 4], [1, 0, 0, 0]),
    to: Some([7; 20]),
    input: Vec::new(),
    items: Vec::new(),
};

/// The plain transaction's wire bytes with `value` at `at`, parsed.
fn replaced(at: usize, value: &[u8]) -> Result<(), DecodeError> {
    let mut wire = native(&PLAIN, &[]).sign_ed25519(&sender());
    wire[at..at + value.len()].copy_from_slice(value);
    tx::parse(&wire).map(|_| ())
}

#[test]
fn flags_kinds_and_counts_that_mean_nothing_are_refused() {
    let bad = |field, value| Err(DecodeError::BadValue { field, value });
    assert_eq!(replaced(0, &[0]), Ok(()));
    assert_eq!(replaced(0, &[2]), bad("transaction kind", 2));
    assert_eq!(replaced(1, &[2]), bad("signature scheme", 2));
    assert_eq!(replaced(122, &[2]), bad("recipient flag", 2));
    let over = |field, value: usize, limit: usize| {
        Err(DecodeError::OverLimit { field, value: value as u64, limit: limit as u64 })
    };
    let len = TX_BYTES_MAX + 1;
    assert_eq!(replaced(143, &(len as u32).to_le_bytes()), over("input length", len, TX_BYTES_MAX));
    let items = ACCESS_LIST_MAX + 1;
    assert_eq!(
        replaced(147, &(items as u16).to_le_bytes()),
        over("access list length", items, ACCESS_LIST_MAX)
    );
}

#[test]
fn an_access_list_may_be_as_long_as_its_limit() {
    let with_items = |items: Vec<usize>| {
        let list = access_list(&items);
        let parts = Parts { items, ..PLAIN };
        let wire = native(&parts, &list).sign_secp256k1(&secp_sender());
        tx::parse(&wire).map(|_| ())
    };
    assert_eq!(with_items(vec![0; ACCESS_LIST_MAX]), Ok(()));
    assert_eq!(with_items(vec![ACCESS_LIST_MAX - 2]), Ok(()));
    assert!(with_items(vec![0; ACCESS_LIST_MAX + 1]).is_err());
}
