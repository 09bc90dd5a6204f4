//! A chain of random blocks with its oracle: what the state must be at every height.
#![allow(dead_code, unreachable_pub, missing_docs)]

use roko_state::fault::Sequence;
use roko_state::{
    CommitBlock, OpenReport, ProvenRange, SnapshotBuilder, StateError, StateStore, Storage, StoreOptions,
    Tree, range, recovery,
};
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
    StoreOptions {
        segment_bytes: 8 * 1024,
        indexed_transactions_max: 1000,
        checkpoint_blocks: 5,
        pin_blocks: 4,
    }
}

/// Blocks and the accounts after each of them; index 0 is genesis.
pub struct Chain {
    pub blocks: Vec<CommitBlock>,
    pub states: Vec<BTreeMap<Address, Account>>,
    pub roots: Vec<Hash32>,
    /// How many blocks each commit takes.
    pub batches: Vec<usize>,
    /// The height whose state the store begins from; 0 is genesis.
    pub base: usize,
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
            base: 0,
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

    /// The same chain for a store that begins from the state after its `height`th block.
    pub fn beginning_at(mut self, height: usize) -> Chain {
        assert!(height > 0 && height < self.blocks.len());
        self.base = height;
        self
    }

    /// The block that the store begins from, as it is kept.
    pub fn anchor(&self) -> CommitBlock {
        let block = &self.blocks[self.base - 1];
        CommitBlock { body: Vec::new(), tx_ids: Vec::new(), changes: Vec::new(), ..block.clone() }
    }

    /// The ranges of the state at the base, each of a few accounts at most.
    pub fn ranges(&self) -> Vec<ProvenRange> {
        let accounts: Vec<_> =
            self.states[self.base].iter().map(|(address, account)| (*address, Some(*account))).collect();
        let tree = Tree::new().update(&accounts);
        let (mut ranges, mut next) = (Vec::new(), Some([0; 32]));
        while let Some(from) = next {
            let zeros =
                256 - (0..256).rev().take_while(|bit| from[bit / 8] >> (7 - bit % 8) & 1 == 0).count();
            let proven = range::prove(tree.range(&from, zeros, 2), &tree.root(), &from).unwrap();
            next = range::after(&proven.from, proven.depth.into());
            ranges.push(proven);
        }
        ranges
    }

    /// Opens the store; one that begins from a snapshot is made first, from where that was stopped.
    pub fn open<S: Storage>(&self, storage: &S) -> Result<(StateStore<S>, OpenReport), StateError> {
        if self.base > 0 && !recovery::exists(storage)? {
            self.fetch(storage, &mut 0)?.install(options())?;
        }
        StateStore::open_with(storage.clone(), &genesis(), GENESIS_ID, options())
    }

    /// Goes on with the snapshot's ranges, two with each sync; `kept` says how many are durable.
    pub fn fetch<S: Storage>(&self, storage: &S, kept: &mut usize) -> Result<SnapshotBuilder<S>, StateError> {
        let mut builder = match SnapshotBuilder::resume(storage, &genesis(), GENESIS_ID)? {
            Some(builder) => builder,
            None => SnapshotBuilder::begin(storage, &genesis(), GENESIS_ID, self.anchor())?,
        };
        assert_eq!(builder.anchor(), &self.anchor());
        let ranges = self.ranges();
        let missing: Vec<_> = ranges
            .into_iter()
            .filter(|range| !builder.covered().contains(&(range.from, range.depth)))
            .collect();
        *kept = builder.covered().len();
        for two in missing.chunks(2) {
            builder.keep(two)?;
            *kept += two.len();
        }
        Ok(builder)
    }

    /// Commits from the store's last height on, in the chain's batches; returns the last acknowledged height.
    pub fn commit_rest<S: Storage>(&self, store: &mut StateStore<S>) -> (u64, bool) {
        let mut acknowledged = store.last().height.0;
        assert!(acknowledged as usize >= self.base);
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
        if self.base > 0 && store.anchor() != Some(&self.anchor()) {
            return Err("the block that the store begins from is not the oracle's".into());
        }
        for block in &self.blocks[..self.base] {
            let known = block.height.0 as usize == self.base;
            if store.block(block.height).ok() != Some(None)
                || store.height_of(&block.block_id).is_some() != known
            {
                return Err(format!("block {} is before the snapshot and there", block.height));
            }
        }
        // Of the heights whose state is kept for others, the last one is.
        let pin = (height / options().pin_blocks as usize * options().pin_blocks as usize).max(self.base);
        let kept = store.reader().newest_pin().map(|pin| (pin.last.height.0 as usize, pin.tree.root()));
        if kept != Some((pin, self.roots[pin])).filter(|_| pin > 0) {
            return Err(format!("the state at {pin} is not kept: {kept:?}"));
        }
        for block in &self.blocks[self.base..height] {
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
