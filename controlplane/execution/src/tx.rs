//! A checked transaction, parsed once by the validity check and carried to execution.

use roko_wire::tx::NativeTx;
use roko_wire::{Address, NanoMoment, TxId, rules};
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
    /// The access list's encoded items, as on the wire.
    pub access_list: Vec<u8>,
    /// Its unique moment: what a contract reads as the time.
    pub moment: NanoMoment,
}

impl ExecutableTx {
    /// Takes over a parsed transaction.
    #[must_use]
    pub fn new(id: TxId, sender: Address, tx: &NativeTx<'_>, moment: NanoMoment) -> ExecutableTx {
        ExecutableTx {
            id,
            sender,
            nonce: tx.nonce,
            to: tx.to,
            value: tx.value,
            gas_limit: tx.gas_limit,
            intrinsic_gas: rules::intrinsic_gas(tx),
            max_fee: tx.max_fee,
            max_priority_fee: tx.max_priority_fee,
            input: tx.input.to_vec(),
            access_list: tx.access_list.to_vec(),
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
