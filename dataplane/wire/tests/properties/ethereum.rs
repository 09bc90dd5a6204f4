//! Ethereum transactions: one encoding, exact ends, EIP-155's example, and signatures that cover every byte.

use crate::samples::{CHAIN, ethereum_transfer, secp_sender, stamp};
use proptest::collection::vec;
use proptest::prelude::*;
use roko_wire::account::address_of_secp256k1;
use roko_wire::codec::DecodeError;
use roko_wire::ethereum::{Envelope, EthereumTx, SignedEthereum, access_list, wire};
use roko_wire::ids::{Address, ChainId};
use roko_wire::limits::ACCESS_LIST_MAX;
use roko_wire::rlp::{put_list_prefix, put_string};
use roko_wire::rules::{TxRefusal, TxRules};
use roko_wire::tx::{self, ParsedTx, SignatureError};
use ruint::aliases::U256;

/// The signed transaction of EIP-155's example, and its signing hash.
const EIP_155: &str = "f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025a028ef61\
    340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb19\
    66a3b6d83";
const EIP_155_SIGNING_HASH: &str = "daf5a779ae972f972197303d7b574746c7ef83eadac0f2791ad23db92e4c8e53";

const RULES: TxRules = TxRules { chain_id: CHAIN, window_ns_max: 61_000_000_000, gas_max: 30_000_000 };

/// A transfer of type 2 that the rules let through.
fn transfer() -> EthereumTx<'static> {
    let (gas_limit, to) = (21_000, Some(Address([0x35; 20])));
    EthereumTx { gas_limit, to, ..ethereum_transfer(Envelope::DynamicFee) }
}

fn own_address() -> Address {
    let point = secp_sender().verifying_key().to_sec1_point(false);
    address_of_secp256k1(point.as_bytes()[1..].try_into().unwrap())
}

fn rewritten(signed: &SignedEthereum<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    signed.write(&mut out);
    out
}

#[derive(Clone, Debug)]
struct Parts {
    envelope: Envelope,
    /// What is shifted away makes short integers as likely as long ones.
    numbers: ([u64; 3], [u128; 2], [u64; 4], [u32; 6]),
    protected: bool,
    to: Option<[u8; 20]>,
    input: Vec<u8>,
    items: Vec<usize>,
}

fn parts() -> impl Strategy<Value = Parts> {
    let envelope =
        prop_oneof![Just(Envelope::Legacy), Just(Envelope::AccessList), Just(Envelope::DynamicFee)];
    let numbers = any::<([u64; 3], [u128; 2], [u64; 4], [u32; 6])>();
    let rest = (any::<bool>(), any::<Option<[u8; 20]>>(), vec(any::<u8>(), 0..300), vec(0usize..4, 0..4));
    (envelope, numbers, rest).prop_map(|(envelope, numbers, (protected, to, input, items))| Parts {
        envelope,
        numbers,
        protected,
        to,
        input,
        items,
    })
}

fn rlp_list(parts: &Parts) -> Vec<u8> {
    let items: Vec<_> =
        parts.items.iter().map(|keys| (Address([0xab; 20]), vec![[0xcd; 32]; *keys])).collect();
    access_list(&items)
}

fn ethereum<'a>(parts: &'a Parts, list: &'a [u8]) -> EthereumTx<'a> {
    let ([chain, nonce, gas], [fee, tip], value, shift) = parts.numbers;
    let typed = parts.envelope != Envelope::Legacy;
    let max_fee = fee >> (shift[3] % 128);
    EthereumTx {
        envelope: parts.envelope,
        chain_id: (typed || parts.protected).then_some(ChainId(chain >> (shift[0] % 64))),
        nonce: nonce >> (shift[1] % 64),
        gas_limit: gas >> (shift[2] % 64),
        max_fee,
        max_priority_fee: if parts.envelope == Envelope::DynamicFee {
            tip >> (shift[4] % 128)
        } else {
            max_fee
        },
        value: U256::from_limbs(value) >> (shift[5] % 256) as usize,
        to: parts.to.map(Address),
        input: &parts.input,
        access_list: if typed { list } else { &[] },
        access_items: if typed { parts.items.len() as u16 } else { 0 },
        access_keys: if typed { parts.items.iter().sum::<usize>() as u32 } else { 0 },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_signed_is_read_and_written_back(parts in parts()) {
        let list = rlp_list(&parts);
        let tx = ethereum(&parts, &list);
        let raw = tx.sign(&secp_sender());
        let read = SignedEthereum::parse(&raw).unwrap();
        prop_assert_eq!(read.tx, tx);
        prop_assert_eq!(rewritten(&read), &raw[..]);
        prop_assert_eq!(read.verify(), Ok(own_address()));
        let items: Vec<_> = read.tx.items().map(|item| item.keys().len()).collect();
        prop_assert_eq!(items.len(), usize::from(tx.access_items));
        let wire = wire(&raw);
        let ParsedTx::Ethereum(on_wire) = tx::parse(&wire).unwrap() else { panic!("it is no native one") };
        prop_assert_eq!(on_wire.tx, tx);
        for len in 0..raw.len() {
            prop_assert!(SignedEthereum::parse(&raw[..len]).is_err(), "{} of {}", len, raw.len());
        }
        let longer = [&raw[..], &[0]].concat();
        prop_assert_eq!(SignedEthereum::parse(&longer).err(), Some(DecodeError::Trailing { extra: 1 }));
    }

    #[test]
    fn one_bit_more_or_less_is_another_senders_or_nobodys(
        parts in parts(), at in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let list = rlp_list(&parts);
        let raw = ethereum(&parts, &list).sign(&secp_sender());
        let mut altered = raw.clone();
        altered[at.index(raw.len())] ^= 1 << bit;
        if let Ok(read) = SignedEthereum::parse(&altered) {
            prop_assert_eq!(rewritten(&read), &altered[..]);
            prop_assert_ne!(read.verify().ok(), Some(own_address()));
        }
    }

    #[test]
    fn random_bytes_never_panic_and_what_is_read_has_one_encoding(
        bytes in vec(any::<u8>(), 0..400), changes in vec(any::<(prop::sample::Index, u8)>(), 0..6), parts in parts(),
    ) {
        let _ = SignedEthereum::parse(&bytes);
        let list = rlp_list(&parts);
        let mut raw = ethereum(&parts, &list).sign(&secp_sender());
        for (at, byte) in changes {
            let place = at.index(raw.len());
            raw[place] = byte;
        }
        if let Ok(read) = SignedEthereum::parse(&raw) {
            prop_assert_eq!(rewritten(&read), &raw[..]);
            let _ = (read.verify(), read.v(), read.tx.terms().cost_max());
        }
    }
}

#[test]
fn eip_155s_example_is_read_as_the_eip_says() {
    let raw = hex::decode(EIP_155).unwrap();
    let read = SignedEthereum::parse(&raw).unwrap();
    let want = EthereumTx {
        envelope: Envelope::Legacy,
        chain_id: Some(ChainId(1)),
        nonce: 9,
        max_fee: 20_000_000_000,
        max_priority_fee: 20_000_000_000,
        value: U256::from(10u64.pow(18)),
        ..transfer()
    };
    assert_eq!((read.tx, read.v()), (want, 37));
    assert_eq!(hex::encode(read.signing_hash()), EIP_155_SIGNING_HASH);
    // The EIP's secret is the samples' own: the signature is deterministic (RFC 6979), so signing gives the same bytes.
    assert_eq!(read.verify(), Ok(own_address()));
    assert_eq!(hex::encode(want.sign(&secp_sender())), EIP_155);
}

/// Raw bytes of a type 2 transaction made by hand, with one of its fields replaced.
fn with_field(place: usize, field: &[u8]) -> Vec<u8> {
    let mut fields: Vec<Vec<u8>> = [&[1][..], &[], &[2], &[3], &[0x52, 0x08], &[0x35; 20], &[4], &[]]
        .iter()
        .map(|bytes| {
            let mut out = Vec::new();
            put_string(bytes, &mut out);
            out
        })
        .collect();
    fields.extend([vec![0xc0], vec![0x80], vec![0x01], vec![0x02]]);
    fields[place] = field.to_vec();
    let fields = fields.concat();
    let mut out = vec![2];
    put_list_prefix(fields.len(), &mut out);
    out.extend(fields);
    out
}

fn refused(place: usize, field: &[u8]) -> DecodeError {
    SignedEthereum::parse(&with_field(place, field)).expect_err("it is refused")
}

#[test]
fn each_field_has_one_form() {
    assert!(SignedEthereum::parse(&with_field(0, &[1])).is_ok());
    for (place, name) in
        [(0, "chain id"), (1, "nonce"), (2, "max priority fee"), (3, "max fee"), (6, "value")]
    {
        assert_eq!(refused(place, &[0]), DecodeError::NotCanonical { field: name });
        assert_eq!(refused(place, &[0x82, 0, 1]), DecodeError::NotCanonical { field: name });
        assert_eq!(refused(place, &[0x81, 1]), DecodeError::NotCanonical { field: name });
        assert_eq!(refused(place, &[0xc0]), DecodeError::BadValue { field: name, value: 0xc0 });
    }
    let wide = |bytes: usize| [&[0x80 + bytes as u8][..], &vec![1; bytes]].concat();
    let over = |field, bytes: usize| DecodeError::TooWide { field, bytes, bytes_max: bytes - 1 };
    assert_eq!(refused(1, &wide(9)), over("nonce", 9));
    assert_eq!(refused(3, &wide(17)), over("max fee", 17));
    assert_eq!(refused(6, &wide(33)), over("value", 33));
    assert_eq!(refused(10, &wide(33)), over("signature r", 33));
    assert_eq!(refused(5, &wide(19)), DecodeError::BadValue { field: "recipient", value: 19 });
    assert!(SignedEthereum::parse(&with_field(5, &[0x80])).unwrap().tx.to.is_none());
    assert_eq!(refused(9, &[2]), DecodeError::BadValue { field: "signature v", value: 2 });
    assert_eq!(refused(11, &[2, 3]), DecodeError::Trailing { extra: 1 });
}

#[test]
fn an_access_list_is_checked_item_by_item_and_may_be_as_long_as_its_limit() {
    let list = |items: &[(Address, Vec<[u8; 32]>)]| {
        let payload = access_list(items);
        let mut out = Vec::new();
        put_list_prefix(payload.len(), &mut out);
        out.extend(payload);
        SignedEthereum::parse(&with_field(8, &out)).map(|read| (read.tx.access_items, read.tx.access_keys))
    };
    let item = |keys| (Address([7; 20]), vec![[8; 32]; keys]);
    assert_eq!(list(&[item(2), item(0)]), Ok((2, 2)));
    assert_eq!(list(&vec![item(0); ACCESS_LIST_MAX]), Ok((32, 0)));
    assert_eq!(list(&[item(ACCESS_LIST_MAX)]), Ok((1, 32)));
    let over = |field| Err(DecodeError::OverLimit { field, value: 33, limit: 32 });
    assert_eq!(list(&vec![item(0); ACCESS_LIST_MAX + 1]), over("access list length"));
    assert_eq!(list(&[item(ACCESS_LIST_MAX + 1)]), over("access list keys"));
    // An item without keys, a short address, a short key, a third part.
    for bad in [
        "d6d594070707070707070707070707070707070707070707",
        "c3c28080",
        "c482c10780",
        "d8d79407070707070707070707",
    ] {
        assert!(SignedEthereum::parse(&with_field(8, &hex::decode(bad).unwrap())).is_err(), "{bad}");
    }
}

#[test]
fn v_names_the_chain_of_a_legacy_transaction() {
    let legacy = |chain_id| EthereumTx {
        envelope: Envelope::Legacy,
        chain_id,
        max_priority_fee: 2_000_000_000,
        ..transfer()
    };
    for chain in [None, Some(ChainId(0)), Some(ChainId(u64::MAX))] {
        let raw = legacy(chain).sign(&secp_sender());
        let read = SignedEthereum::parse(&raw).unwrap();
        assert_eq!((read.tx.chain_id, read.verify()), (chain, Ok(own_address())));
    }
    // From v = 27 of a transaction without a chain: 26, 29 to 34 mean nothing.
    let raw = legacy(None).sign(&secp_sender());
    let at = raw.iter().rposition(|byte| matches!(byte, 27 | 28)).unwrap();
    let at = (0..=at).rev().find(|at| matches!(raw[*at], 27 | 28) && raw[at + 1] == 0xa0).unwrap();
    for v in [0x80, 1, 26, 29, 34] {
        let mut altered = raw.clone();
        altered[at] = v;
        let value = if v == 0x80 { 0 } else { u64::from(v) };
        let refused = DecodeError::BadValue { field: "signature v", value };
        assert_eq!(SignedEthereum::parse(&altered).err(), Some(refused));
    }
}

#[test]
fn a_high_s_is_refused() {
    let raw = transfer().sign(&secp_sender());
    let read = SignedEthereum::parse(&raw).unwrap();
    let order =
        U256::from_str_radix("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16).unwrap();
    let s = U256::from_be_slice(&read.signature[32..64]);
    let mut high = read;
    high.signature[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
    high.signature[64] ^= 1;
    let raw = rewritten(&high);
    assert_eq!(SignedEthereum::parse(&raw).unwrap().verify(), Err(SignatureError::HighS));
}

#[test]
fn the_rules_of_native_transactions_hold() {
    let check = |tx: EthereumTx<'_>| RULES.check(&tx.terms(), &stamp());
    assert_eq!(check(transfer()), Ok(()));
    assert_eq!(check(EthereumTx { chain_id: None, ..transfer() }), Err(TxRefusal::NoChainId));
    let (have, want) = (ChainId(1), CHAIN);
    assert_eq!(
        check(EthereumTx { chain_id: Some(have), ..transfer() }),
        Err(TxRefusal::WrongChain { have, want })
    );
    let (max_fee, max_priority_fee) = (5, 6);
    let refused = Err(TxRefusal::FeeAbsurd { max_fee, max_priority_fee });
    assert_eq!(check(EthereumTx { max_fee, max_priority_fee, ..transfer() }), refused);
    let list = EthereumTx { access_items: 2, access_keys: 3, gas_limit: 31_499, ..transfer() };
    let refused = TxRefusal::BadGas { gas_limit: 31_499, intrinsic: 31_500, gas_max: RULES.gas_max };
    assert_eq!(check(list), Err(refused));
}

#[test]
fn the_window_is_the_longest_there_is_from_the_stamp_on() {
    let (terms, stamp) = (transfer().terms(), stamp());
    let until = RULES.valid_until(&terms, stamp.time);
    assert_eq!(until, stamp.time.saturating_add(RULES.window_ns_max));
    let vague = roko_wire::stamp::Stamp { bound_ns: RULES.window_ns_max, ..stamp };
    assert_eq!(RULES.check(&terms, &vague), Ok(()));
    let vague = roko_wire::stamp::Stamp { bound_ns: RULES.window_ns_max + 1, ..stamp };
    assert_eq!(RULES.check(&terms, &vague), Err(TxRefusal::Expired { valid_until: until, time: stamp.time }));
}
