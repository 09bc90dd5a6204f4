//! [`EthereumView`]: what the `eth_*` methods ask of a node beside [`crate::NodeApi`].

use roko_wire::{Address, BlockId, ChainId, Height, NanoMoment, TxId, ValidatorIndex};

/// A node as Ethereum's clients see it. As with [`crate::NodeApi`], calls answer from memory and the store's read side.
pub trait EthereumView: Send + Sync {
    /// The chain's id, which every transaction signs.
    fn chain_id(&self) -> ChainId;

    /// The base fee of the next block, in the smallest unit per gas.
    fn next_base_fee(&self) -> u128;

    /// The sender's next nonce after its pending transactions that follow one another without a gap.
    fn pending_nonce(&self, sender: Address) -> u64;

    /// Where a validator's tips go: what Ethereum calls a block's miner.
    fn proposer_account(&self, proposer: ValidatorIndex) -> Address;

    /// A transaction in a final block, or an Ethereum transaction that was submitted here and is pending.
    fn transaction_detail(&self, id: TxId) -> Option<TransactionDetail>;

    /// All transactions of a final block, in chain order; `None` when the node does not have it.
    fn block_details(&self, height: Height) -> Option<Vec<TransactionDetail>>;

    /// What a final block says of fees; `None` when the node does not have it.
    fn block_fees(&self, height: Height) -> Option<BlockFees>;
}

/// A transaction with everything that Ethereum's clients ask about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionDetail {
    /// Its id.
    pub id: TxId,
    /// Its wire bytes, which parse.
    pub wire: Vec<u8>,
    /// Who signed it.
    pub sender: Address,
    /// Its place and result; `None` while pending.
    pub executed: Option<ExecutedDetail>,
}

/// Where a transaction is, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutedDetail {
    /// Height of its block.
    pub height: Height,
    /// Its block.
    pub block: BlockId,
    /// Its place in the block, from 0.
    pub index: u32,
    /// The moment that is its own.
    pub moment: NanoMoment,
    /// Whether its effects are in the state.
    pub success: bool,
    /// Gas it paid for.
    pub gas_used: u64,
    /// Gas of the block's transactions up to it, itself included.
    pub gas_used_so_far: u64,
    /// What it paid per gas, base fee and tip.
    pub fee_per_gas: u128,
}

/// A block's fees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockFees {
    /// Base fee per gas.
    pub base_fee: u128,
    /// Gas of its transactions.
    pub gas_used: u64,
    /// Most gas it may use.
    pub gas_limit: u64,
    /// Of each transaction: gas used, and tip per gas.
    pub tips: Vec<(u64, u128)>,
}

impl BlockFees {
    /// The tip per gas at each percentile of the block's gas, which ascend (`eth_feeHistory`); 0 for an empty block.
    #[must_use]
    pub fn rewards(&self, percentiles: &[f64]) -> Vec<u128> {
        let mut tips = self.tips.clone();
        tips.sort_unstable_by_key(|(_, tip)| *tip);
        let at = |percentile: &f64| {
            let threshold = self.gas_used as f64 * percentile / 100.0;
            let mut gas = 0.0;
            let found = tips.iter().find(|(used, _)| {
                gas += *used as f64;
                gas >= threshold
            });
            found.or(tips.last()).map_or(0, |(_, tip)| *tip)
        };
        percentiles.iter().map(at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewards_are_weighed_by_gas() {
        let tips = vec![(79_000, 30), (21_000, 10)];
        let fees = BlockFees { base_fee: 1, gas_used: 100_000, gas_limit: 200_000, tips };
        assert_eq!(fees.rewards(&[0.0, 21.0, 21.1, 100.0]), [10, 10, 30, 30]);
        assert_eq!(BlockFees { tips: Vec::new(), gas_used: 0, ..fees }.rewards(&[50.0]), [0]);
    }
}
