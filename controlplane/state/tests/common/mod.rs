//! A chain of random blocks with its oracle: what the state must be at every height.
#![allow(dead_code, unreachable_pub, missing_docs)]

use roko_state::fault::Sequence;
use roko_state::{CommitBlock, StateStore, Storage, StoreOptions, Tree};
use roko_wire::{Account, Address, BlockId, Hash32, Height, TxId};
use std::collections::BTreeMap;

pub const GENESIS_ID: BlockId = BlockId([9; 32]);

pub fn address(index: u64) -> Address {
    let mut address = Address::ZERO;
    address.0[..8].copy_from_slice(&index.to_be_bytes());
    address
}

pub fn account(number: u64) -> Account {
    let balance = ruint::aliases::U256::from(number) << 70;
    Account { nonce: number, balance, code_hash: Hash32([number as u8; 32]), storage_root: Hash32::ZERO }
}

pub fn genesis() -> Vec<(Address, Account)> {
    (0..4).map(|index| (address(index), account(index + 1))).collect()
}

pub fn options() -> StoreOptions {
    StoreOptions { segment_bytes: 8 * 1024, indexed_transactions_max: 1000, checkpoint_blocks: 5 }
}

/// Blocks and the accounts after each of them; index 0 is genesis.
pub struct Chain {
    pub blocks: Vec<CommitBlock>,
    pub states: Vec<BTreeMap<Address, Account>>,
    pub roots: Vec<Hash32>,
    /// How many blocks each commit takes.
    pub batches: Vec<usize>,
}

pub fn bytes(random: &mut Sequence, max: u64) -> Vec<u8> {
    (0..random.below(max + 1)).map(|_| random.next_number() as u8).collect()
}

pub fn hash(random: &mut Sequence) -> [u8; 32] {
    core::array::from_fn(|_| random.next_number() as u8)
}

impl Chain {
    pub fn random(seed: u64, batches: usize) -> Chain {
        let mut random = Sequence(seed);
        let mut state: BTreeMap<Address, Account> = genesis().into_iter().collect();
        let initial: Vec<_> = state.iter().map(|(address, account)| (*address, Some(*account))).collect();
        let mut tree = Tree::new().update(&initial);
        let mut chain = Chain {
            blocks: Vec::new(),
            states: vec![state.clone()],
            roots: vec![tree.root()],
            batches: Vec::new(),
        };
        for _ in 0..batches {
            let size = 1 + random.below(3) as usize;
            chain.batches.push(size);
            for _ in 0..size {
                let changes: Vec<_> = (0..random.below(6))
                    .map(|_| {
                        let value = (random.below(4) != 0).then(|| account(random.below(1000)));
                        (address(random.below(16)), value)
                    })
                    .collect();
                for (address, value) in &changes {
                    match value {
                        Some(account) => drop(state.insert(*address, *account)),
                        None => drop(state.remove(address)),
                    }
                }
                tree = tree.update(&changes);
                let block = CommitBlock {
                    height: Height(chain.blocks.len() as u64 + 1),
                    block_id: BlockId(hash(&mut random)),
                    header: bytes(&mut random, 200),
                    body: bytes(&mut random, 1500),
                    certificates: bytes(&mut random, 100),
                    receipts: bytes(&mut random, 300),
                    tx_ids: (0..random.below(4)).map(|_| TxId(hash(&mut random))).collect(),
                    changes,
                    expected_root: tree.root(),
                };
                chain.blocks.push(block);
                chain.states.push(state.clone());
                chain.roots.push(tree.root());
            }
        }
        chain
    }

    /// Commits from the store's last height on, in the chain's batches; returns the last acknowledged height.
    pub fn commit_rest<S: Storage>(&self, store: &mut StateStore<S>) -> (u64, bool) {
        let mut acknowledged = store.last().height.0;
        let mut from = 0;
        for (index, size) in self.batches.iter().enumerate() {
            let (start, end) = (from.max(acknowledged as usize), from + size);
            from = end;
            if start >= end {
                continue;
            }
            if store.commit_batch(&self.blocks[start..end]).is_err() {
                return (acknowledged, false);
            }
            acknowledged = end as u64;
            if index % 2 == 0 && store.maintain().is_err() {
                return (acknowledged, false);
            }
        }
        (acknowledged, true)
    }

    /// Everything the store says must be what the oracle says at its height.
    pub fn check<S: Storage>(&self, store: &StateStore<S>) -> Result<(), String> {
        let last = store.last();
        let height = last.height.0 as usize;
        if height >= self.roots.len() || last.root != self.roots[height] || store.tree().root() != last.root {
            return Err(format!("the root at height {height} is not the oracle's"));
        }
        let state: BTreeMap<_, _> = store.tree().iter().collect();
        if state != self.states[height] {
            return Err(format!("the accounts at height {height} are not the oracle's"));
        }
        for block in &self.blocks[..height] {
            let read = store.block(block.height).map_err(|error| error.to_string())?;
            if read.as_ref() != Some(block) || store.height_of(&block.block_id) != Some(block.height) {
                return Err(format!("block {} is not what was committed", block.height));
            }
            for (index, id) in (0..).zip(&block.tx_ids) {
                if store.transaction(id) != Some((block.height, index)) {
                    return Err(format!("transaction {index} of block {} is not found", block.height));
                }
            }
        }
        let above = Height(height as u64 + 1);
        match store.block(above) {
            Ok(None) => Ok(()),
            _ => Err(format!("there is a block at height {above}, above the last one")),
        }
    }
}
