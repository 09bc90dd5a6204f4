//! A checked transaction, parsed once by the validity check and carried to execution.

use roko_wire::tx::ParsedTx;
use roko_wire::{Address, NanoMoment, TxId};
use ruint::aliases::U256;

/// A transaction ready to execute. It owns its parts, because a block's body may leave memory before it is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutableTx {
    /// Its id.
    pub id: TxId,
    /// Who signed it.
    pub sender: Address,
    /// The sender's count of executed transactions.
    pub nonce: u64,
    /// The recipient; `None` creates a contract.
    pub to: Option<Address>,
    /// What it transfers, smallest unit.
    pub value: U256,
    /// Most gas it may use.
    pub gas_limit: u64,
    /// Gas charged before anything runs; at most `gas_limit`.
    pub intrinsic_gas: u64,
    /// Most it pays per gas, base fee included.
    pub max_fee: u128,
    /// Most of that which goes to the proposer.
    pub max_priority_fee: u128,
    /// Call data or init code; empty, and then without an allocation, for a plain transfer.
    pub input: Vec<u8>,
    /// The access list's items in a native transaction's layout, whatever the transaction's own.
    pub access_list: Vec<u8>,
    /// Its unique moment: what a contract reads as the time.
    pub moment: NanoMoment,
}

impl ExecutableTx {
    /// Takes over a parsed transaction.
    #[must_use]
    pub fn new(id: TxId, sender: Address, tx: &ParsedTx<'_>, moment: NanoMoment) -> ExecutableTx {
        let terms = tx.terms();
        let mut access_list = Vec::new();
        tx.write_access_list(&mut access_list);
        ExecutableTx {
            id,
            sender,
            nonce: terms.nonce,
            to: terms.to,
            value: terms.value,
            gas_limit: terms.gas_limit,
            intrinsic_gas: terms.intrinsic_gas,
            max_fee: terms.max_fee,
            max_priority_fee: terms.max_priority_fee,
            input: tx.input().to_vec(),
            access_list,
            moment,
        }
    }

    /// What it pays per gas in a block with this base fee, and the proposer's part of it (EIP-1559).
    #[must_use]
    pub fn fee_per_gas(&self, base_fee: u128) -> (u128, u128) {
        let tip = self.max_priority_fee.min(self.max_fee.saturating_sub(base_fee));
        (base_fee.saturating_add(tip), tip)
    }
}
