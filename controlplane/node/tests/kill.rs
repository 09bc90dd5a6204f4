//! `kill -9` of a whole network under load, twice: what a validator has called final is there after each start, and the
//! chain goes on from it.

mod common;

use common::DevnetProcess;
use jsonrpsee::http_client::{HttpClient, HttpClientBuilder};
use roko_services::api::{BlockInfo, BlockSelector};
use roko_services::rpc::TemporalRpcClient;
use roko_wire::{BlockId, Height};
use std::collections::BTreeMap;
use std::time::Duration;

/// Blocks that each run makes at least before it is killed.
const BLOCKS_PER_RUN: u64 = 20;
/// Transfers a second.
const RATE: u64 = 200;

/// A validator's JSON-RPC and everything that it has called final, over all runs.
struct Validator {
    client: HttpClient,
    acknowledged: BTreeMap<Height, BlockId>,
}

impl Validator {
    async fn block(&self, selector: BlockSelector) -> Option<BlockInfo> {
        self.client.get_block(selector).await.expect("the node answers")
    }

    async fn final_height(&self) -> u64 {
        self.block(BlockSelector::Final).await.map_or(0, |block| block.height.0)
    }

    /// Remembers all final blocks from the first that is new.
    async fn remember(&mut self) {
        let Some(last) = self.block(BlockSelector::Final).await else { return };
        let known = self.acknowledged.last_key_value().map_or(0, |(height, _)| height.0);
        for height in known + 1..last.height.0 {
            let block = self.block(BlockSelector::Height(Height(height))).await;
            self.acknowledged.insert(Height(height), block.expect("a block below a final one").id);
        }
        self.acknowledged.insert(last.height, last.id);
    }

    /// Every acknowledged block is there with the same id, in one chain.
    async fn check(&self) {
        let mut parent = None;
        for (height, id) in &self.acknowledged {
            let block = self.block(BlockSelector::Height(*height)).await;
            let block = block.unwrap_or_else(|| panic!("final block {height} ({id}) is gone"));
            assert_eq!(block.id, *id, "height {height} has another block now");
            assert!(parent.is_none_or(|parent| parent == block.parent), "height {height} has another parent");
            parent = Some(block.id);
        }
    }
}

fn connect(url: &str) -> HttpClient {
    HttpClientBuilder::default().request_timeout(common::PATIENCE).build(url).expect("a URL")
}

async fn until_height(validators: &[Validator], height: u64) {
    for validator in validators {
        let mut now = 0;
        for _ in 0..common::PATIENCE.as_millis() / 20 {
            now = validator.final_height().await;
            if now >= height {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(now >= height, "the chain stands still at height {now}, below {height}");
    }
}

/// Transactions in the blocks from `height` on.
async fn transactions_from(validator: &Validator, height: u64) -> usize {
    let mut count = 0;
    for height in height..=validator.final_height().await {
        let block = validator.block(BlockSelector::Height(Height(height))).await;
        count += block.map_or(0, |block| block.transactions.len());
    }
    count
}

/// Validators never differ about a height.
fn assert_one_chain(validators: &[Validator]) {
    let mut ids: BTreeMap<Height, BlockId> = BTreeMap::new();
    for (height, id) in validators.iter().flat_map(|validator| &validator.acknowledged) {
        assert_eq!(ids.entry(*height).or_insert(*id), id, "a fork at height {height}");
    }
}

#[tokio::test]
async fn what_was_final_survives_kill_9_and_the_chain_goes_on() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut acknowledged = vec![BTreeMap::new(); 4];
    for run in 0..3 {
        let devnet = DevnetProcess::start(dir.path(), RATE, &[]);
        let mut validators: Vec<Validator> = devnet
            .rpc
            .iter()
            .zip(&acknowledged)
            .map(|(url, known)| Validator { client: connect(url), acknowledged: known.clone() })
            .collect();
        assert_eq!(validators.len(), 4);
        for validator in &validators {
            validator.check().await;
        }
        let before = acknowledged.iter().filter_map(|known| known.last_key_value()).map(|(h, _)| h.0).max();
        let start = before.unwrap_or(0);
        until_height(&validators, start + BLOCKS_PER_RUN).await;
        // The load takes up its accounts' nonces where the chain is: its transfers get into the new blocks.
        let mut transactions = 0;
        for _ in 0..100 {
            transactions = transactions_from(&validators[0], start + 1).await;
            if transactions as u64 >= RATE / 10 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(transactions as u64 >= RATE / 10, "run {run}: {transactions} transfers became final");
        for validator in &mut validators {
            validator.remember().await;
        }
        devnet.kill();
        assert_one_chain(&validators);
        acknowledged = validators.into_iter().map(|validator| validator.acknowledged).collect();
    }
    let last = acknowledged.iter().filter_map(|known| known.last_key_value()).map(|(height, _)| height.0);
    assert!(last.min() >= Some(3 * BLOCKS_PER_RUN));
}
