//! A chain of one state and four stamping validators, from which tests build blocks: right ones, and ones that are wrong
//! in one place.

use crate::validity::{BlockError, BlockRules, Chain, Checked, Parent, Verified, check};
use ed25519_zebra::{SigningKey, VerificationKey};
use roko_wire::account::address_of_ed25519;
use roko_wire::block::{Body, BodyBatch, BodyTx, BodyView, Header, tx_leaf};
use roko_wire::nano::ClockSource;
use roko_wire::rules::TxRules;
use roko_wire::stamp::{SignedRoot, Stamp};
use roko_wire::tx::{NativeTx, tie_break, tx_id};
use roko_wire::{
    Account, Address, BlockId, ChainId, Epoch, Hash32, Height, NanoMoment, TxId, ValidatorIndex, View, merkle,
};
use ruint::aliases::U256;
use std::collections::HashMap;

pub(crate) const CHAIN: ChainId = ChainId(7);
pub(crate) const BASE_FEE: u128 = 10;
pub(crate) const GAS_LIMIT: u64 = 10_000_000;
/// The block's span of stamps.
pub(crate) const FROM: NanoMoment = NanoMoment(1_000_000);
pub(crate) const WATERMARK: NanoMoment = NanoMoment(2_000_000);
pub(crate) const SEED: Hash32 = Hash32([5; 32]);
const BOUND_NS: u64 = 100;

pub(crate) fn user(n: u8) -> SigningKey {
    SigningKey::from([n; 32])
}

pub(crate) fn user_address(n: u8) -> Address {
    address_of_ed25519(&VerificationKey::from(&user(n)).into())
}

fn validator(n: u16) -> SigningKey {
    SigningKey::from([100 + n as u8; 32])
}

pub(crate) fn native(nonce: u64, value: u64) -> NativeTx<'static> {
    NativeTx {
        chain_id: CHAIN,
        nonce,
        gas_limit: 21_000,
        max_fee: 20,
        max_priority_fee: 1,
        valid_from: NanoMoment(0),
        valid_until: NanoMoment(5_000_000),
        value: U256::from(value),
        to: Some(Address([0xee; 20])),
        input: &[],
        access_list: &[],
        access_items: 0,
        access_keys: 0,
    }
}

/// A stamped transaction.
#[derive(Clone)]
pub(crate) struct Stamped {
    pub(crate) wire: Vec<u8>,
    pub(crate) time: NanoMoment,
    pub(crate) ingress: u16,
}

pub(crate) fn stamped(from: u8, tx: &NativeTx<'_>, time: u128) -> Stamped {
    Stamped { wire: tx.sign_ed25519(&user(from)), time: NanoMoment(time), ingress: u16::from(from % 4) }
}

/// A block before its body is written.
pub(crate) struct Draft {
    pub(crate) header: Header,
    pub(crate) body: Body,
}

pub(crate) struct TestChain {
    pub(crate) rules: BlockRules,
    pub(crate) keys: Vec<VerificationKey>,
    pub(crate) state: HashMap<Address, Account>,
}

impl TestChain {
    /// Users 1 to 19 hold 10 million each.
    pub(crate) fn new() -> TestChain {
        let account = Account { balance: U256::from(10_000_000u64), ..Account::default() };
        TestChain {
            rules: BlockRules {
                tx: TxRules { chain_id: CHAIN, window_ns_max: 10_000_000, gas_max: GAS_LIMIT },
                body_bytes_max: 100_000,
                txs_max: 100,
                gas_limit: GAS_LIMIT,
                base_fee_floor: 7,
            },
            keys: (0..4).map(|n| VerificationKey::from(&validator(n))).collect(),
            state: (1..20).map(|n| (user_address(n), account)).collect(),
        }
    }

    pub(crate) fn parent(&self) -> Parent<'_> {
        Parent {
            height: Height(3),
            watermark: FROM,
            last_moment: NanoMoment(999_000),
            state: &self.state,
            state_root: Hash32([1; 32]),
            receipts_root: Hash32([2; 32]),
            base_fee_next: BASE_FEE,
        }
    }

    /// A right block of these transactions in this order: moments by the rule, one batch a pair of them.
    pub(crate) fn draft(&self, txs: &[Stamped]) -> Draft {
        let mut body = Body::default();
        let mut last = self.parent().last_moment;
        for pair in txs.chunks(2) {
            let ingress = ValidatorIndex(pair[0].ingress);
            let stamps: Vec<Stamp> = pair
                .iter()
                .map(|tx| Stamp {
                    time: tx.time,
                    bound_ns: BOUND_NS,
                    source: ClockSource::System.into(),
                    ingress,
                })
                .collect();
            let mut tree = merkle::Tree::default();
            tree.rebuild(pair.iter().zip(&stamps).map(|(tx, stamp)| stamp.leaf(CHAIN, &tx_id(&tx.wire))));
            let leaves = pair.len() as u8;
            let signed = SignedRoot::sign(&validator(ingress.0), CHAIN, ingress, leaves, tree.root());
            let batch = body.batches.len() as u32;
            let (root, signature) = (signed.root.0, signed.signature);
            body.batches.push(BodyBatch { ingress: ingress.0, leaves, root, signature });
            for (leaf, tx) in pair.iter().enumerate() {
                last = last.saturating_add(1).max(tx.time);
                let path = tree.path(leaf).unwrap();
                body.txs.push(BodyTx {
                    moment: last.0,
                    stamp_time: tx.time.0,
                    bound_ns: BOUND_NS,
                    source: ClockSource::System as u8,
                    leaf_index: leaf as u8,
                    path_len: path.len() as u8,
                    batch,
                    tx_len: tx.wire.len() as u32,
                });
                body.paths.extend(path.iter().map(|hash| hash.0));
                body.tx_bytes.extend_from_slice(&tx.wire);
            }
        }
        Draft { header: self.header(txs.len()), body }
    }

    fn header(&self, tx_count: usize) -> Header {
        let parent = self.parent();
        Header {
            chain_id: CHAIN,
            epoch: Epoch(0),
            view: View(9),
            height: Height(4),
            parent: BlockId::ZERO,
            justification_hash: Hash32::ZERO,
            proposer: ValidatorIndex(0),
            time: NanoMoment(WATERMARK.0 + 5),
            watermark: WATERMARK,
            tx_root: Hash32::ZERO,
            chunk_root: Hash32::ZERO,
            body_bytes: 0,
            tx_count: tx_count as u32,
            parent_state_root: parent.state_root,
            parent_receipts_root: parent.receipts_root,
            gas_limit: GAS_LIMIT,
            base_fee: BASE_FEE,
            next_set_root: None,
        }
    }

    /// Writes the body, fills in what the header says of it, lets `spoil` change the header, and checks the block.
    pub(crate) fn check_spoilt(
        &self,
        mut draft: Draft,
        verified: &dyn Verified,
        spoil: impl FnOnce(&mut Header),
    ) -> Result<Checked, BlockError> {
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&draft.body).unwrap();
        let body = BodyView::access(&bytes).unwrap();
        let mut leaves: Vec<Hash32> =
            body.entries().map(|entry| tx_leaf(&tx_id(entry.wire), entry.moment, &entry.stamp)).collect();
        draft.header.tx_root = merkle::root_in_place(&mut leaves);
        draft.header.body_bytes = bytes.len() as u32;
        spoil(&mut draft.header);
        let chain = Chain { rules: &self.rules, epoch_seed: &SEED, node_keys: &self.keys };
        check(&chain, &self.parent(), &draft.header, &body, bytes.len(), verified)
    }

    pub(crate) fn check(&self, draft: Draft) -> Result<Checked, BlockError> {
        self.check_spoilt(draft, &nothing_verified, |_| ())
    }
}

pub(crate) fn nothing_verified(_: &TxId) -> Option<Address> {
    None
}

/// The tie-break of a transaction on this chain.
pub(crate) fn tie(id: &TxId) -> u64 {
    tie_break(&SEED, id)
}
