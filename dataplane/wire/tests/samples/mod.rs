//! Fixed keys and values that the vectors and the properties are made from. All keys are public knowledge.
#![allow(dead_code, reason = "each test uses some of them")]

use ed25519_zebra::{SigningKey, VerificationKey};
use roko_wire::block::{Body, BodyBatch, BodyTx, Header};
use roko_wire::ethereum::{Envelope, EthereumTx};
use roko_wire::ids::{Address, BlockId, ChainId, Epoch, Hash32, Height, ValidatorIndex, View};
use roko_wire::merkle::Tree;
use roko_wire::nano::{ClockSource, NanoMoment};
use roko_wire::stamp::{SignedRoot, Stamp};
use roko_wire::tx::{self, NativeTx};
use roko_wire::vote::SigningDomain;
use ruint::aliases::U256;

/// The chain of every vector.
pub(crate) const CHAIN: ChainId = ChainId(0x524f_4b4f);
/// A moment in November 2026.
pub(crate) const MOMENT: NanoMoment = NanoMoment(1_795_000_000_123_456_789);
/// Epoch and chain of every consensus vector.
pub(crate) const DOMAIN: SigningDomain = SigningDomain { chain_id: CHAIN, epoch: Epoch(3) };

/// Secret key of RFC 8032's first ed25519 test: the sender.
pub(crate) const SENDER_SECRET: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
/// Secret key of RFC 8032's second ed25519 test: the validator's node key.
pub(crate) const NODE_SECRET: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
/// The secp256k1 secret of EIP-155's example.
pub(crate) const SECP_SECRET: &str = "4646464646464646464646464646464646464646464646464646464646464646";
/// Key material of the BLS voting key (IKM of KeyGen).
pub(crate) const BLS_SEED: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Bytes of a hexadecimal constant.
pub(crate) fn bytes<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [0; N];
    hex::decode_to_slice(text, &mut out).expect("a hexadecimal constant of the right length");
    out
}

/// The sender's ed25519 key.
pub(crate) fn sender() -> SigningKey {
    SigningKey::from(bytes::<32>(SENDER_SECRET))
}

/// The validator's ed25519 node key.
pub(crate) fn node() -> SigningKey {
    SigningKey::from(bytes::<32>(NODE_SECRET))
}

/// The public half of a key.
pub(crate) fn public(key: &SigningKey) -> [u8; 32] {
    VerificationKey::from(key).into()
}

/// The sender's secp256k1 key.
pub(crate) fn secp_sender() -> k256::ecdsa::SigningKey {
    k256::ecdsa::SigningKey::from_slice(&bytes::<32>(SECP_SECRET)).expect("a scalar in range")
}

/// Bytes that count up from `start`.
pub(crate) fn counting<const N: usize>(start: u8) -> [u8; N] {
    core::array::from_fn(|i| start.wrapping_add(i as u8))
}

/// A transfer of 1 ROKO.
pub(crate) fn transfer() -> NativeTx<'static> {
    NativeTx {
        chain_id: CHAIN,
        nonce: 7,
        gas_limit: 21_000,
        max_fee: 2_000_000_000,
        max_priority_fee: 1_000_000,
        valid_from: NanoMoment(MOMENT.0 - 1_000_000_000),
        valid_until: NanoMoment(MOMENT.0 + 60_000_000_000),
        value: U256::from(1_000_000_000_000_000_000u64),
        to: Some(Address(counting(0xa0))),
        input: &[],
        access_list: &[],
        access_items: 0,
        access_keys: 0,
    }
}

/// An access list of two items: one with two keys, one with none.
pub(crate) fn access_list() -> Vec<u8> {
    let mut out = counting::<20>(0x10).to_vec();
    out.extend(2u16.to_le_bytes());
    out.extend(counting::<32>(0x20));
    out.extend(counting::<32>(0x40));
    out.extend(counting::<20>(0x60));
    out.extend(0u16.to_le_bytes());
    out
}

/// A creation with input and an access list.
pub(crate) fn creation(access_list: &[u8]) -> NativeTx<'_> {
    NativeTx {
        nonce: 8,
        gas_limit: 100_000,
        to: None,
        value: U256::ZERO,
        input: &[0x60, 0x00, 0x60, 0x00, 0xf3],
        access_list,
        access_items: 2,
        access_keys: 2,
        ..transfer()
    }
}

/// An Ethereum transfer of 1 ROKO.
pub(crate) fn ethereum_transfer(envelope: Envelope) -> EthereumTx<'static> {
    EthereumTx {
        envelope,
        chain_id: Some(CHAIN),
        nonce: 7,
        gas_limit: 40_000,
        max_fee: 2_000_000_000,
        max_priority_fee: if envelope == Envelope::DynamicFee { 1_000_000 } else { 2_000_000_000 },
        value: U256::from(1_000_000_000_000_000_000u64),
        to: Some(Address(counting(0xa0))),
        input: &[],
        access_list: &[],
        access_items: 0,
        access_keys: 0,
    }
}

/// An Ethereum access list of two items: one with two keys, one with none; in RLP.
pub(crate) fn ethereum_access_list() -> Vec<u8> {
    let items = [
        (Address(counting(0x10)), vec![counting(0x20), counting(0x40)]),
        (Address(counting(0x60)), Vec::new()),
    ];
    roko_wire::ethereum::access_list(&items)
}

/// A stamp of the validator with index 2.
pub(crate) fn stamp() -> Stamp {
    Stamp { time: MOMENT, bound_ns: 850, source: ClockSource::Ptp.into(), ingress: ValidatorIndex(2) }
}

/// Times and wire bytes of a batch of two.
pub(crate) fn batch_txs() -> [(NanoMoment, Vec<u8>); 2] {
    [
        (MOMENT, transfer().sign_ed25519(&sender())),
        (NanoMoment(MOMENT.0 + 1_500), transfer().sign_secp256k1(&secp_sender())),
    ]
}

/// A body that holds [`batch_txs`].
pub(crate) fn body() -> Body {
    let txs = batch_txs();
    let mut tree = Tree::default();
    tree.rebuild(
        txs.iter().map(|(time, wire)| Stamp { time: *time, ..stamp() }.leaf(CHAIN, &tx::tx_id(wire))),
    );
    let signed = SignedRoot::sign(&node(), CHAIN, ValidatorIndex(2), 2, tree.root());
    let batch = BodyBatch { ingress: 2, leaves: 2, root: signed.root.0, signature: signed.signature };
    let mut body = Body { batches: vec![batch], ..Body::default() };
    for (index, (time, wire)) in txs.iter().enumerate() {
        let path = tree.path(index).expect("a leaf of the tree");
        body.txs.push(BodyTx {
            moment: time.0,
            stamp_time: time.0,
            bound_ns: 850,
            source: ClockSource::Ptp as u8,
            leaf_index: index as u8,
            path_len: path.len() as u8,
            batch: 0,
            tx_len: wire.len() as u32,
        });
        body.paths.extend(path.iter().map(|hash| hash.0));
        body.tx_bytes.extend_from_slice(wire);
    }
    body
}

/// The archive of [`body`].
pub(crate) fn archive(body: &Body) -> Vec<u8> {
    rkyv::to_bytes::<rkyv::rancor::Panic>(body).expect("a body serialises").to_vec()
}

/// A header whose fields all differ.
pub(crate) fn header() -> Header {
    Header {
        chain_id: CHAIN,
        epoch: DOMAIN.epoch,
        view: View(41),
        height: Height(40),
        parent: BlockId(counting(0x01)),
        justification_hash: Hash32(counting(0x11)),
        proposer: ValidatorIndex(2),
        time: NanoMoment(MOMENT.0 + 5_000_000),
        watermark: NanoMoment(MOMENT.0 + 2_000_000),
        tx_root: Hash32(counting(0x21)),
        chunk_root: Hash32(counting(0x31)),
        body_bytes: 867,
        tx_count: 2,
        parent_state_root: Hash32(counting(0x41)),
        parent_receipts_root: Hash32(counting(0x51)),
        gas_limit: 344_064_000,
        base_fee: 1_000_000_000,
        next_set_root: None,
    }
}
