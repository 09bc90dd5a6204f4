//! The methods: Ethereum's execution API as far as a chain of transfers has answers.

use super::errors::{refused, server_error};
use super::shapes::{Block, BlockTransactions, Call, FeeHistory, Receipt, Transaction};
use super::values::{BlockRef, Data, Quantity};
use super::view::EthereumView;
use crate::api::{BlockInfo, BlockSelector, NodeApi};
use crate::refusal::before_snapshot;
use jsonrpsee::proc_macros::rpc;
use jsonrpsee::types::ErrorObjectOwned;
use roko_wire::ethereum::wire;
use roko_wire::rules::intrinsic;
use roko_wire::{Address, BlockId, Height, TxId};
use ruint::aliases::U256;
use std::sync::Arc;

/// Most blocks of one `eth_feeHistory`: each is read from the store.
const FEE_HISTORY_BLOCKS_MAX: u64 = 64;
/// Most percentiles of one `eth_feeHistory`, as go-ethereum's.
const PERCENTILES_MAX: usize = 100;
/// Most transactions that a block is shown with whole: each costs the recovery of its sender, and takes about a kilobyte.
const WHOLE_TXS_MAX: usize = 512;

type Answer<T> = Result<T, ErrorObjectOwned>;

/// Ethereum's methods.
#[rpc(server)]
pub trait EthereumRpc {
    /// The chain's id (EIP-695).
    #[method(name = "eth_chainId")]
    fn chain_id(&self) -> Answer<Quantity>;

    /// The chain's id in decimal digits.
    #[method(name = "net_version")]
    fn net_version(&self) -> Answer<String>;

    /// The node's name and version.
    #[method(name = "web3_clientVersion")]
    fn client_version(&self) -> Answer<String>;

    /// False: what this node shows, it has.
    #[method(name = "eth_syncing")]
    fn syncing(&self) -> Answer<bool>;

    /// None: the node holds no keys of accounts.
    #[method(name = "eth_accounts")]
    fn accounts(&self) -> Answer<Vec<Address>>;

    /// Height of the highest final block.
    #[method(name = "eth_blockNumber")]
    fn block_number(&self) -> Answer<Quantity>;

    /// An account's balance.
    #[method(name = "eth_getBalance")]
    fn balance(&self, address: Address, block: Option<BlockRef>) -> Answer<Quantity>;

    /// An account's next nonce; with `pending` after its pending transactions.
    #[method(name = "eth_getTransactionCount")]
    fn transaction_count(&self, address: Address, block: Option<BlockRef>) -> Answer<Quantity>;

    /// An account's code: none has any.
    #[method(name = "eth_getCode")]
    fn code(&self, address: Address, block: Option<BlockRef>) -> Answer<Data>;

    /// A price that the next blocks take: the next base fee and the most that it can rise by once.
    #[method(name = "eth_gasPrice")]
    fn gas_price(&self) -> Answer<Quantity>;

    /// A tip that gets a transaction in: none is needed, because order is time order.
    #[method(name = "eth_maxPriorityFeePerGas")]
    fn max_priority_fee(&self) -> Answer<Quantity>;

    /// Fees of the blocks up to one.
    #[method(name = "eth_feeHistory")]
    fn fee_history(
        &self,
        blocks: Quantity,
        newest: BlockRef,
        percentiles: Option<Vec<f64>>,
    ) -> Answer<FeeHistory>;

    /// Gas of a transfer.
    #[method(name = "eth_estimateGas")]
    fn estimate_gas(&self, call: Call, block: Option<BlockRef>) -> Answer<Quantity>;

    /// Submits raw EIP-2718 bytes; returns the transaction's id: queued, not included.
    #[method(name = "eth_sendRawTransaction")]
    fn send_raw_transaction(&self, raw: Data) -> Answer<TxId>;

    /// A transaction; `null` when it is unknown.
    #[method(name = "eth_getTransactionByHash")]
    fn transaction(&self, id: TxId) -> Answer<Option<Transaction>>;

    /// What became of a transaction; `null` while it is in no final block.
    #[method(name = "eth_getTransactionReceipt")]
    fn receipt(&self, id: TxId) -> Answer<Option<Receipt>>;

    /// A block with its transactions' ids or whole; `null` when it is not here.
    #[method(name = "eth_getBlockByNumber")]
    fn block_by_number(&self, block: BlockRef, whole: Option<bool>) -> Answer<Option<Block>>;

    /// The same by the block's id.
    #[method(name = "eth_getBlockByHash")]
    fn block_by_hash(&self, id: BlockId, whole: Option<bool>) -> Answer<Option<Block>>;
}

/// Serves the methods from a node that has an [`EthereumView`].
pub struct EthereumMethods {
    node: Arc<dyn NodeApi>,
}

impl EthereumMethods {
    /// The methods of a node; `None` when it has nothing to show to Ethereum's clients.
    #[must_use]
    pub fn of(node: Arc<dyn NodeApi>) -> Option<EthereumMethods> {
        node.ethereum()?;
        Some(EthereumMethods { node })
    }

    fn view(&self) -> Answer<&dyn EthereumView> {
        self.node.ethereum().ok_or_else(|| server_error("this node serves no eth_* methods"))
    }

    fn info(&self, block: BlockRef) -> Option<Arc<BlockInfo>> {
        self.node.block(match block {
            BlockRef::Latest | BlockRef::Pending => BlockSelector::Final,
            BlockRef::Number(height) => BlockSelector::Height(height),
            BlockRef::Hash(id) => BlockSelector::Id(id),
        })
    }

    /// Only the newest state is kept.
    fn newest_state(&self, block: Option<BlockRef>) -> Answer<()> {
        let asked = match block {
            None | Some(BlockRef::Latest | BlockRef::Pending) => return Ok(()),
            Some(BlockRef::Number(height)) => height,
            Some(block @ BlockRef::Hash(_)) => {
                self.info(block).ok_or_else(|| server_error("header not found"))?.height
            }
        };
        let newest = self.node.consensus_time().height;
        if asked > newest {
            return Err(server_error("header not found"));
        }
        if asked < newest {
            let why =
                format!("the state after block {asked} is not kept: ask for \"latest\", which is {newest}");
            return Err(server_error(why));
        }
        Ok(())
    }

    fn shown(&self, block: BlockRef, whole: bool) -> Answer<Option<Block>> {
        if let BlockRef::Number(height) = block
            && let Some(why) = before_snapshot(height, self.node.first_block())
        {
            return Err(server_error(why));
        }
        let (view, Some(info)) = (self.view()?, self.info(block)) else { return Ok(None) };
        let transactions = if whole {
            let count = info.transactions.len();
            if count > WHOLE_TXS_MAX {
                let why = format!(
                    "block has {count} transactions, more than the {WHOLE_TXS_MAX} shown whole: ask for ids"
                );
                return Err(server_error(why));
            }
            let details = view.block_details(info.height).unwrap_or_default();
            BlockTransactions::Whole(details.iter().filter_map(Transaction::new).collect())
        } else {
            BlockTransactions::Ids(info.transactions.clone())
        };
        Ok(Some(Block::new(&info, view.proposer_account(info.proposer), transactions)))
    }
}

impl EthereumRpcServer for EthereumMethods {
    fn chain_id(&self) -> Answer<Quantity> {
        Ok(self.view()?.chain_id().0.into())
    }

    fn net_version(&self) -> Answer<String> {
        Ok(self.view()?.chain_id().to_string())
    }

    fn client_version(&self) -> Answer<String> {
        Ok(concat!("roko/v", env!("CARGO_PKG_VERSION")).to_owned())
    }

    fn syncing(&self) -> Answer<bool> {
        Ok(false)
    }

    fn accounts(&self) -> Answer<Vec<Address>> {
        Ok(Vec::new())
    }

    fn block_number(&self) -> Answer<Quantity> {
        Ok(self.node.consensus_time().height.into())
    }

    fn balance(&self, address: Address, block: Option<BlockRef>) -> Answer<Quantity> {
        self.newest_state(block)?;
        Ok(Quantity(self.node.balance(address).balance))
    }

    fn transaction_count(&self, address: Address, block: Option<BlockRef>) -> Answer<Quantity> {
        if block == Some(BlockRef::Pending) {
            return Ok(self.view()?.pending_nonce(address).into());
        }
        self.newest_state(block)?;
        Ok(self.node.balance(address).nonce.into())
    }

    fn code(&self, _address: Address, block: Option<BlockRef>) -> Answer<Data> {
        self.newest_state(block)?;
        Ok(Data::default())
    }

    fn gas_price(&self) -> Answer<Quantity> {
        let base_fee = self.view()?.next_base_fee();
        // EIP-1559 lets it rise by an eighth from block to block.
        Ok(base_fee.saturating_add(base_fee.div_ceil(8)).into())
    }

    fn max_priority_fee(&self) -> Answer<Quantity> {
        Ok(Quantity::default())
    }

    fn fee_history(
        &self,
        blocks: Quantity,
        newest: BlockRef,
        percentiles: Option<Vec<f64>>,
    ) -> Answer<FeeHistory> {
        let percentiles = percentiles.unwrap_or_default();
        let ascend = percentiles.iter().all(|p| (0.0..=100.0).contains(p)) && percentiles.is_sorted();
        if !ascend || percentiles.len() > PERCENTILES_MAX {
            return Err(server_error(
                "invalid reward percentile: at most 100 of them, ascending, from 0 to 100",
            ));
        }
        let view = self.view()?;
        let tip = self.node.consensus_time().height;
        let newest = match newest {
            BlockRef::Number(height) if height > tip => {
                return Err(server_error(format!(
                    "request beyond head block: requested {height}, head {tip}"
                )));
            }
            BlockRef::Number(height) => height,
            _ => tip,
        };
        let count = blocks.as_u64().unwrap_or(u64::MAX).min(FEE_HISTORY_BLOCKS_MAX).min(newest.0);
        let oldest = newest.0 + 1 - count;
        let mut history = FeeHistory { oldest_block: oldest.into(), ..FeeHistory::default() };
        let mut rewards = Vec::new();
        for height in oldest..=newest.0 {
            let fees = view.block_fees(Height(height)).ok_or_else(|| server_error("header not found"))?;
            history.base_fee_per_gas.push(fees.base_fee.into());
            history.gas_used_ratio.push(fees.gas_used as f64 / fees.gas_limit.max(1) as f64);
            rewards.push(fees.rewards(&percentiles).into_iter().map(Quantity::from).collect());
        }
        // While this was read, blocks may have followed.
        let after = view.block_fees(newest.next()).map_or_else(|| view.next_base_fee(), |fees| fees.base_fee);
        history.base_fee_per_gas.push(after.into());
        history.reward = (!percentiles.is_empty()).then_some(rewards);
        Ok(history)
    }

    fn estimate_gas(&self, call: Call, block: Option<BlockRef>) -> Answer<Quantity> {
        self.newest_state(block)?;
        if call.to.is_none() {
            return Err(server_error("contract creation is not supported: this chain runs transfers only"));
        }
        let items = call.access_list.unwrap_or_default();
        let keys: usize = items.iter().map(|item| item.storage_keys.len()).sum();
        let counts = (u16::try_from(items.len()), u32::try_from(keys));
        let (Ok(items), Ok(keys)) = counts else { return Err(server_error("access list too long")) };
        let input = call.input.or(call.data).unwrap_or_default();
        let gas = intrinsic(&input.0, false, items, keys);
        if let Some(from) = call.from {
            let price = call.max_fee_per_gas.or(call.gas_price).unwrap_or_default();
            let balance = self.node.balance(from).balance;
            let cost = price.0.checked_mul(U256::from(gas)).and_then(|fee| fee.checked_add(call.value.0));
            if cost.is_none_or(|cost| cost > balance) {
                let why =
                    format!("insufficient funds for gas * price + value: address {from} have {balance}");
                return Err(server_error(why));
            }
        }
        Ok(gas.into())
    }

    fn send_raw_transaction(&self, raw: Data) -> Answer<TxId> {
        self.node.submit(wire(&raw.0)).map_err(|error| refused(&error))
    }

    fn transaction(&self, id: TxId) -> Answer<Option<Transaction>> {
        Ok(self.view()?.transaction_detail(id).as_ref().and_then(Transaction::new))
    }

    fn receipt(&self, id: TxId) -> Answer<Option<Receipt>> {
        Ok(self.view()?.transaction_detail(id).as_ref().and_then(Receipt::new))
    }

    fn block_by_number(&self, block: BlockRef, whole: Option<bool>) -> Answer<Option<Block>> {
        self.shown(block, whole.unwrap_or(false))
    }

    fn block_by_hash(&self, id: BlockId, whole: Option<bool>) -> Answer<Option<Block>> {
        self.shown(BlockRef::Hash(id), whole.unwrap_or(false))
    }
}
