//! What a client of the `eth_*` methods sees: blocks, transactions, receipts, fees.

use super::NATIVE_TYPE;
use super::values::{Data, Quantity};
use super::view::{ExecutedDetail, TransactionDetail};
use crate::api::BlockInfo;
use roko_wire::ethereum::{Envelope, SignedEthereum};
use roko_wire::tx::ParsedTx;
use roko_wire::{Address, BlockId, Hash32, TxId};
use ruint::aliases::U256;
use serde::{Deserialize, Serialize};

/// Keccak-256 of an empty RLP list: there are no uncles.
const NO_UNCLES: Hash32 = Hash32([
    0x1d, 0xcc, 0x4d, 0xe8, 0xde, 0xc7, 0x5d, 0x7a, 0xab, 0x85, 0xb5, 0x67, 0xb6, 0xcc, 0xd4, 0x1a, 0xd3,
    0x12, 0x45, 0x1b, 0x94, 0x8a, 0x74, 0x13, 0xf0, 0xa1, 0x42, 0xfd, 0x40, 0xd4, 0x93, 0x47,
]);
/// Bytes of a logs bloom; nothing logs.
const BLOOM_BYTES: usize = 256;

/// A block (`eth_getBlockByNumber`).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// Its height.
    pub number: Quantity,
    /// Its id.
    pub hash: BlockId,
    /// Its parent.
    pub parent_hash: BlockId,
    /// Whole seconds since 1970.
    pub timestamp: Quantity,
    /// The transactions' ids, or all of them whole.
    pub transactions: BlockTransactions,
    /// Where the proposer's tips go.
    pub miner: Address,
    /// Most gas.
    pub gas_limit: Quantity,
    /// Gas of its transactions.
    pub gas_used: Quantity,
    /// Base fee per gas (EIP-1559).
    pub base_fee_per_gas: Quantity,
    /// Bytes of its body.
    pub size: Quantity,
    /// Root of its transactions, in this chain's own tree.
    pub transactions_root: Hash32,
    /// The state after its *parent*.
    pub state_root: Hash32,
    /// The receipts of its *parent*.
    pub receipts_root: Hash32,
    sha3_uncles: Hash32,
    uncles: [Hash32; 0],
    logs_bloom: Data,
    extra_data: Data,
    mix_hash: Hash32,
    nonce: Data,
    difficulty: Quantity,
    total_difficulty: Quantity,
}

/// A block's transactions.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum BlockTransactions {
    /// Their ids.
    Ids(Vec<TxId>),
    /// They themselves.
    Whole(Vec<Transaction>),
}

impl Block {
    /// From what the node knows of a block.
    #[must_use]
    pub fn new(info: &BlockInfo, miner: Address, transactions: BlockTransactions) -> Block {
        Block {
            number: info.height.into(),
            hash: info.id,
            parent_hash: info.parent,
            timestamp: (info.time.0 / 1_000_000_000).into(),
            transactions,
            miner,
            gas_limit: info.gas_limit.into(),
            gas_used: info.gas_used.unwrap_or(0).into(),
            base_fee_per_gas: info.base_fee.into(),
            size: info.bytes.into(),
            transactions_root: info.tx_root,
            state_root: info.parent_state_root,
            receipts_root: info.parent_receipts_root,
            sha3_uncles: NO_UNCLES,
            uncles: [],
            logs_bloom: Data(vec![0; BLOOM_BYTES]),
            extra_data: Data::default(),
            mix_hash: Hash32::ZERO,
            nonce: Data(vec![0; 8]),
            difficulty: Quantity::default(),
            total_difficulty: Quantity::default(),
        }
    }
}

/// An access list's item (EIP-2930).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessListItem {
    /// The account.
    pub address: Address,
    /// Its storage keys.
    pub storage_keys: Vec<Hash32>,
}

/// A transaction (`eth_getTransactionByHash`).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Transaction {
    /// Its id.
    pub hash: TxId,
    /// EIP-2718's type.
    #[serde(rename = "type")]
    pub kind: Quantity,
    /// The sender's nonce.
    pub nonce: Quantity,
    /// Its block; `null` while pending.
    pub block_hash: Option<BlockId>,
    /// Its block's height.
    pub block_number: Option<Quantity>,
    /// Its place in the block.
    pub transaction_index: Option<Quantity>,
    /// The sender.
    pub from: Address,
    /// The recipient; `null` for a creation.
    pub to: Option<Address>,
    /// What it transfers.
    pub value: Quantity,
    /// Its gas limit.
    pub gas: Quantity,
    /// What it paid per gas, or while pending pays at most.
    pub gas_price: Quantity,
    /// Of types with two fees: the most it pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_fee_per_gas: Option<Quantity>,
    /// Of types with two fees: the most of it that goes to the proposer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_priority_fee_per_gas: Option<Quantity>,
    /// Call data or init code.
    pub input: Data,
    /// The chain it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<Quantity>,
    /// Of types that have one: the access list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_list: Option<Vec<AccessListItem>>,
    /// Of types 1 and 2: the recovery id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub y_parity: Option<Quantity>,
    /// The recovery id, or EIP-155's number.
    pub v: Quantity,
    /// Half of the signature; 0 for a native transaction, whose signature is none of Ethereum's.
    pub r: Quantity,
    /// The other half.
    pub s: Quantity,
}

impl Transaction {
    /// From what the node knows of a transaction; `None` when its bytes do not parse.
    #[must_use]
    pub fn new(detail: &TransactionDetail) -> Option<Transaction> {
        let parsed = roko_wire::tx::parse(&detail.wire).ok()?;
        let (terms, executed) = (parsed.terms(), detail.executed);
        let kind = kind(&parsed);
        let two_fees = kind >= Envelope::DynamicFee.type_byte();
        let ethereum = match &parsed {
            ParsedTx::Ethereum(signed) => Some(signed),
            ParsedTx::Native(_) => None,
        };
        let typed = ethereum.filter(|_| kind > 0);
        let half =
            |at: usize| ethereum.map_or(U256::ZERO, |tx| U256::from_be_slice(&tx.signature[at..at + 32]));
        Some(Transaction {
            hash: detail.id,
            kind: kind.into(),
            nonce: terms.nonce.into(),
            block_hash: executed.map(|at| at.block),
            block_number: executed.map(|at| at.height.into()),
            transaction_index: executed.map(|at| at.index.into()),
            from: detail.sender,
            to: terms.to,
            value: Quantity(terms.value),
            gas: terms.gas_limit.into(),
            gas_price: executed.map_or(terms.max_fee, |at| at.fee_per_gas).into(),
            max_fee_per_gas: two_fees.then(|| terms.max_fee.into()),
            max_priority_fee_per_gas: two_fees.then(|| terms.max_priority_fee.into()),
            input: Data(parsed.input().to_vec()),
            chain_id: terms.chain_id.map(|chain| chain.0.into()),
            access_list: (kind > 0).then(|| ethereum.map(|tx| access_list(tx)).unwrap_or_default()),
            y_parity: typed.map(|tx| tx.signature[64].into()),
            v: ethereum.map(|tx| tx.v().into()).unwrap_or_default(),
            r: Quantity(half(0)),
            s: Quantity(half(32)),
        })
    }
}

/// EIP-2718's type of a transaction; the native ones have one of their own.
fn kind(parsed: &ParsedTx<'_>) -> u8 {
    match parsed {
        ParsedTx::Ethereum(signed) => signed.tx.envelope.type_byte(),
        ParsedTx::Native(_) => NATIVE_TYPE,
    }
}

fn access_list(signed: &SignedEthereum<'_>) -> Vec<AccessListItem> {
    let key = |key: &[u8]| {
        let mut hash = Hash32::ZERO;
        hash.0.copy_from_slice(key);
        hash
    };
    let item = |item: roko_wire::ethereum::AccessItem<'_>| AccessListItem {
        address: item.address,
        storage_keys: item.keys().map(key).collect(),
    };
    signed.tx.items().map(item).collect()
}

/// What became of a transaction (`eth_getTransactionReceipt`).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The transaction.
    pub transaction_hash: TxId,
    /// Its place in the block.
    pub transaction_index: Quantity,
    /// Its block.
    pub block_hash: BlockId,
    /// Its block's height.
    pub block_number: Quantity,
    /// The sender.
    pub from: Address,
    /// The recipient.
    pub to: Option<Address>,
    /// Gas of the block's transactions up to it, itself included.
    pub cumulative_gas_used: Quantity,
    /// Gas it paid for.
    pub gas_used: Quantity,
    /// What it paid per gas.
    pub effective_gas_price: Quantity,
    /// Always `null`: no contract is created.
    pub contract_address: Option<Address>,
    /// EIP-2718's type.
    #[serde(rename = "type")]
    pub kind: Quantity,
    /// 1 when its effects are in the state, else 0.
    pub status: Quantity,
    logs: [Hash32; 0],
    logs_bloom: Data,
}

impl Receipt {
    /// The receipt of a transaction in a block; `None` while it is in none.
    #[must_use]
    pub fn new(detail: &TransactionDetail) -> Option<Receipt> {
        let parsed = roko_wire::tx::parse(&detail.wire).ok()?;
        let at: ExecutedDetail = detail.executed?;
        Some(Receipt {
            transaction_hash: detail.id,
            transaction_index: at.index.into(),
            block_hash: at.block,
            block_number: at.height.into(),
            from: detail.sender,
            to: parsed.terms().to,
            cumulative_gas_used: at.gas_used_so_far.into(),
            gas_used: at.gas_used.into(),
            effective_gas_price: at.fee_per_gas.into(),
            contract_address: None,
            kind: kind(&parsed).into(),
            status: u8::from(at.success).into(),
            logs: [],
            logs_bloom: Data(vec![0; BLOOM_BYTES]),
        })
    }
}

/// Fees of a range of blocks (`eth_feeHistory`).
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FeeHistory {
    /// The range's first block.
    pub oldest_block: Quantity,
    /// Base fee of each block, and of the one after them.
    pub base_fee_per_gas: Vec<Quantity>,
    /// Part of each block's gas limit that was used.
    pub gas_used_ratio: Vec<f64>,
    /// Of each block: the tip at each percentile that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward: Option<Vec<Vec<Quantity>>>,
}

/// A call whose gas is asked for (`eth_estimateGas`). Fields that change nothing here are ignored.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Call {
    /// The sender.
    pub from: Option<Address>,
    /// The recipient; `None` creates a contract.
    pub to: Option<Address>,
    /// What it transfers.
    pub value: Quantity,
    /// Gas price, or `max_fee_per_gas`.
    pub gas_price: Option<Quantity>,
    /// Most it pays per gas.
    pub max_fee_per_gas: Option<Quantity>,
    /// Call data, by its newer name.
    pub input: Option<Data>,
    /// Call data, by its older name.
    pub data: Option<Data>,
    /// The access list.
    pub access_list: Option<Vec<AccessListItem>>,
}
