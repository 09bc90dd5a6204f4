//! What Ethereum's clients ask of a node: transactions and fees of final blocks, and what is pending.

use super::{NodeHandle, lock, receipts};
use roko_execution::{Receipt, Status};
use roko_services::NodeApi;
use roko_services::ethereum::view::{BlockFees, EthereumView, ExecutedDetail, TransactionDetail};
use roko_state::BlockRecord;
use roko_state::storage::Storage;
use roko_wire::block::{BodyEntry, BodyView};
use roko_wire::tx::parse;
use roko_wire::{Address, ChainId, Height, TxId, ValidatorIndex};

/// A transaction of a stored block, with its receipt and the gas up to it.
fn detail(
    record: &BlockRecord,
    height: Height,
    entry: &BodyEntry<'_>,
    (index, receipt, gas_used_so_far): (usize, &Receipt, u64),
) -> Option<TransactionDetail> {
    Some(TransactionDetail {
        id: receipt.id,
        wire: entry.wire.to_vec(),
        sender: parse(entry.wire).ok()?.sender_once_verified().ok()?,
        executed: Some(ExecutedDetail {
            height,
            block: record.block_id,
            index: index as u32,
            moment: entry.moment,
            success: receipt.status == Status::Succeeded,
            gas_used: receipt.gas_used,
            gas_used_so_far,
            fee_per_gas: receipt.fee_per_gas,
        }),
    })
}

/// Receipts in chain order, each with its place and the gas up to it.
fn with_gas(record: &BlockRecord) -> impl Iterator<Item = (usize, Receipt, u64)> + '_ {
    receipts(&record.receipts).enumerate().scan(0u64, |gas, (index, receipt)| {
        *gas = gas.saturating_add(receipt.gas_used);
        Some((index, receipt, *gas))
    })
}

impl<S: Storage> EthereumView for NodeHandle<S> {
    fn chain_id(&self) -> ChainId {
        self.chain.domain.chain_id
    }

    fn next_base_fee(&self) -> u128 {
        self.observer.state().map_or(self.chain.rules.base_fee_floor, |state| state.next_base_fee)
    }

    fn pending_nonce(&self, sender: Address) -> u64 {
        let next = self.balance(sender).nonce;
        lock(&self.submitted).next_nonce(&sender, next, self.clock.now().now)
    }

    fn proposer_account(&self, proposer: ValidatorIndex) -> Address {
        self.chain.tips_to(proposer)
    }

    fn transaction_detail(&self, id: TxId) -> Option<TransactionDetail> {
        // A block is told of when it is published: until then, the store may be ahead.
        let published = self.observer.state().map_or(Height(0), |state| state.height);
        let placed = self.reader.transaction(&id).filter(|(height, _)| *height <= published);
        let Some((height, index)) = placed else {
            let submitted = lock(&self.submitted);
            let waiting = submitted.get(&id)?;
            let wire = waiting.wire.as_deref()?.to_vec();
            return Some(TransactionDetail { id, wire, sender: waiting.info.sender, executed: None });
        };
        let (_, record) = self.stored(height)?;
        let view = BodyView::access(&record.body).ok()?;
        let entry = view.entries().nth(index as usize)?;
        let (place, receipt, gas) = with_gas(&record).nth(index as usize)?;
        detail(&record, height, &entry, (place, &receipt, gas))
    }

    fn block_details(&self, height: Height) -> Option<Vec<TransactionDetail>> {
        let (_, record) = self.stored(height)?;
        let view = BodyView::access(&record.body).ok()?;
        let all = view.entries().zip(with_gas(&record));
        all.map(|(entry, (index, receipt, gas))| detail(&record, height, &entry, (index, &receipt, gas)))
            .collect()
    }

    fn block_fees(&self, height: Height) -> Option<BlockFees> {
        let (header, record) = self.stored(height)?;
        let tip = |receipt: Receipt| (receipt.gas_used, receipt.fee_per_gas.saturating_sub(header.base_fee));
        let tips: Vec<(u64, u128)> = receipts(&record.receipts).map(tip).collect();
        Some(BlockFees {
            base_fee: header.base_fee,
            gas_used: tips.iter().map(|(gas, _)| gas).sum(),
            gas_limit: header.gas_limit,
            tips,
        })
    }
}
