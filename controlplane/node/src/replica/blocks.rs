//! The blocks this node knows that are not final: headers, bodies, what was found of them, what they yield.

use super::assembly::Assembly;
use roko_consensus::Verdict;
use roko_execution::{ExecutableTx, Receipt};
use roko_pipeline::spread::SpreadBlock;
use roko_state::tree::Tree;
use roko_wire::block::Header;
use roko_wire::vote::Certificate;
use roko_wire::{Account, Address, BlockId, Hash32, Height, NanoMoment, View};
use std::collections::HashMap;
use std::sync::Arc;

/// What a block yields when it is executed: what its children are checked against.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The block.
    pub block: BlockId,
    /// Its height.
    pub height: Height,
    /// Its time.
    pub time: NanoMoment,
    /// Its watermark.
    pub watermark: NanoMoment,
    /// The moment of its last transaction, or of the last one before it.
    pub last_moment: NanoMoment,
    /// The state after it.
    pub tree: Tree,
    /// Root of its receipts.
    pub receipts_root: Hash32,
    /// Its receipts in chain order.
    pub receipts: Vec<Receipt>,
    /// Accounts it changes.
    pub changes: Vec<(Address, Option<Account>)>,
    /// Its transactions in chain order.
    pub txs: Vec<ExecutableTx>,
    /// Gas its transactions used.
    pub gas_used: u64,
    /// Base fee that its children must have.
    pub next_base_fee: u128,
}

/// How much of a block's body is here.
pub enum BodyState {
    /// Some chunks are missing.
    Assembling(Assembly),
    /// All of it.
    Whole(Arc<SpreadBlock>),
}

/// When a block passed each step on this node; what finality is split into.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockTimes {
    /// Its header came.
    pub header: Option<NanoMoment>,
    /// It was found valid.
    pub valid: Option<NanoMoment>,
    /// The own vote for it was on disk.
    pub vote_durable: Option<NanoMoment>,
}

/// One block that is not final.
pub struct Block {
    /// Its header.
    pub header: Header,
    /// The proposer's signature.
    pub signature: [u8; 64],
    /// The justification's certificates.
    pub certificates: Vec<Certificate>,
    /// Its body.
    pub body: BodyState,
    /// Whether consensus waits for the verdict.
    pub verdict_wanted: bool,
    /// What was found.
    pub verdict: Option<Verdict>,
    /// What it yields, once it is found valid.
    pub outcome: Option<Arc<Outcome>>,
    /// The mempool's tag of its transactions.
    pub tag: u64,
    /// Whether the body is in the journal.
    pub journaled: bool,
    /// When it passed each step.
    pub times: BlockTimes,
}

impl Block {
    /// The body, when all of it is here.
    #[must_use]
    pub fn body(&self) -> Option<&Arc<SpreadBlock>> {
        match &self.body {
            BodyState::Whole(body) => Some(body),
            BodyState::Assembling(_) => None,
        }
    }
}

/// Blocks that are not final, and the outcome of the last final one.
pub struct Blocks {
    open: HashMap<BlockId, Block>,
    last_final: Arc<Outcome>,
    last_final_view: View,
    next_tag: u64,
}

/// Blocks kept beyond the last final one. A proposal costs its leader a view, so honest ones are few; a leader who
/// signs many for one view fills this table only up to here.
pub const OPEN_BLOCKS_MAX: usize = 256;

impl Blocks {
    /// Starts above the last final block.
    #[must_use]
    pub fn new(last_final: Outcome, last_final_view: View) -> Blocks {
        Blocks { open: HashMap::new(), last_final: Arc::new(last_final), last_final_view, next_tag: 1 }
    }

    /// A mempool tag that no block had before.
    pub fn fresh_tag(&mut self) -> u64 {
        self.next_tag += 1;
        self.next_tag
    }

    /// Adds a block; false when it is known or the table is full of others.
    pub fn insert(&mut self, id: BlockId, block: Block) -> bool {
        if self.open.contains_key(&id) || self.open.len() >= OPEN_BLOCKS_MAX {
            return false;
        }
        self.open.insert(id, block);
        true
    }

    /// A block that is not final.
    #[must_use]
    pub fn get(&self, id: &BlockId) -> Option<&Block> {
        self.open.get(id)
    }

    /// A block that is not final.
    pub fn get_mut(&mut self, id: &BlockId) -> Option<&mut Block> {
        self.open.get_mut(id)
    }

    /// Forgets a block.
    pub fn remove(&mut self, id: &BlockId) -> Option<Block> {
        self.open.remove(id)
    }

    /// Open blocks of views up to `view`.
    #[must_use]
    pub fn not_above(&self, view: View) -> Vec<BlockId> {
        self.open.iter().filter(|(_, block)| block.header.view <= view).map(|(id, _)| *id).collect()
    }

    /// Blocks that are not final.
    pub fn iter(&self) -> impl Iterator<Item = (&BlockId, &Block)> {
        self.open.iter()
    }

    /// The outcome of a block, final or not.
    #[must_use]
    pub fn outcome(&self, id: &BlockId) -> Option<Arc<Outcome>> {
        if *id == self.last_final.block {
            return Some(Arc::clone(&self.last_final));
        }
        self.open.get(id)?.outcome.clone()
    }

    /// The outcome of the last final block.
    #[must_use]
    pub fn last_final(&self) -> &Arc<Outcome> {
        &self.last_final
    }

    /// The view of the last final block.
    #[must_use]
    pub fn last_final_view(&self) -> View {
        self.last_final_view
    }

    /// Makes a block the last final one that was fetched.
    pub fn go_on_from(&mut self, last_final: Arc<Outcome>, view: View) {
        (self.last_final, self.last_final_view) = (last_final, view);
    }

    /// Makes a block the last final one and takes it out; `None` when it is not here or was not executed.
    pub fn finalize(&mut self, id: &BlockId) -> Option<(Block, Arc<Outcome>)> {
        let outcome = self.open.get(id)?.outcome.clone()?;
        let block = self.open.remove(id)?;
        self.last_final = Arc::clone(&outcome);
        self.last_final_view = block.header.view;
        Some((block, outcome))
    }
}
