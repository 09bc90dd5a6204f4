//! The tree of blocks above the last final one: headers, verdicts, and who descends from whom.

use crate::api::{FinalBlock, ProposalSummary, Verdict};
use roko_wire::{BlockId, Height, NanoMoment, View};
use std::collections::BTreeMap;

/// A block that is not final yet.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) view: View,
    pub(crate) parent: BlockId,
    pub(crate) parent_view: View,
    pub(crate) height: Height,
    pub(crate) time: NanoMoment,
    pub(crate) empty: bool,
    pub(crate) signature: [u8; 64],
    pub(crate) verdict: Option<Verdict>,
    pub(crate) validation_asked: bool,
}

/// How far a block's ancestry is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ancestry {
    /// Every block from the last final one is at hand with a good payload; oldest first, the block itself last.
    Ready(Vec<BlockId>),
    /// This block's header or payload is missing.
    Missing(BlockId),
    /// This block of the ancestry is invalid.
    Invalid(BlockId),
    /// The ancestry goes past the last final block without meeting it.
    Conflict,
}

/// The blocks above the last final one.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) last_final: FinalBlock,
    pub(crate) blocks: BTreeMap<BlockId, Block>,
}

impl Chain {
    pub(crate) const fn new(last_final: FinalBlock) -> Chain {
        Chain { last_final, blocks: BTreeMap::new() }
    }

    /// Adds a header; returns whether it is new. Own blocks come with their verdict.
    pub(crate) fn insert(&mut self, summary: &ProposalSummary, verdict: Option<Verdict>) -> bool {
        if self.blocks.contains_key(&summary.block) {
            return false;
        }
        let block = Block {
            view: summary.view,
            parent: summary.parent,
            parent_view: summary.parent_view,
            height: summary.height,
            time: summary.time,
            empty: summary.empty,
            signature: summary.signature,
            verdict,
            validation_asked: verdict.is_some(),
        };
        self.blocks.insert(summary.block, block);
        true
    }

    /// View, height and time of a block that is final last or not final yet.
    pub(crate) fn position(&self, block: &BlockId) -> Option<(View, Height, NanoMoment)> {
        if *block == self.last_final.block {
            return Some((self.last_final.view, self.last_final.height, self.last_final.time));
        }
        self.blocks.get(block).map(|held| (held.view, held.height, held.time))
    }

    /// Whether a header continues its parent's; `None` while the parent is unknown.
    fn continues_parent(&self, block: &Block) -> Option<bool> {
        let (view, height, time) = self.position(&block.parent)?;
        Some(
            view == block.parent_view && height.0.checked_add(1) == Some(block.height.0) && block.time > time,
        )
    }

    /// The way from the last final block to this one.
    pub(crate) fn ancestry(&self, block: BlockId) -> Ancestry {
        let (mut path, mut at) = (Vec::new(), block);
        while at != self.last_final.block {
            let Some(held) = self.blocks.get(&at) else { return Ancestry::Missing(at) };
            match held.verdict {
                Some(Verdict::Invalid) => return Ancestry::Invalid(at),
                _ if held.height <= self.last_final.height || held.view <= self.last_final.view => {
                    return Ancestry::Conflict;
                }
                _ => path.push(at),
            }
            at = held.parent;
        }
        path.reverse();
        let unchecked = path.iter().find(|id| self.blocks[*id].verdict.is_none());
        unchecked.map_or(Ancestry::Ready(path.clone()), |id| Ancestry::Missing(*id))
    }

    /// Whether a block and all its ancestors are at hand and valid.
    pub(crate) fn is_ready(&self, block: BlockId) -> bool {
        matches!(self.ancestry(block), Ancestry::Ready(_))
    }

    /// Whether a block or an ancestor of it holds transactions that are not final.
    pub(crate) fn has_open_transactions(&self, block: BlockId) -> bool {
        let mut at = block;
        while let Some(held) = self.blocks.get(&at) {
            if !held.empty {
                return true;
            }
            at = held.parent;
        }
        false
    }

    /// Blocks whose payload can be validated now and has not been asked for. A header that does not continue
    /// its parent's is found invalid here and now.
    pub(crate) fn newly_validatable(&mut self) -> Vec<BlockId> {
        let waiting: Vec<BlockId> =
            self.blocks.iter().filter(|(_, held)| !held.validation_asked).map(|(id, _)| *id).collect();
        let mut ready = Vec::new();
        for id in waiting {
            let held = &self.blocks[&id];
            let verdict = match self.continues_parent(held) {
                Some(false) => Some(Verdict::Invalid),
                Some(true) if self.is_ready(held.parent) => None,
                _ => continue,
            };
            let held = self.blocks.get_mut(&id).expect("the id comes from the map");
            held.validation_asked = true;
            held.verdict = verdict;
            if verdict.is_none() {
                ready.push(id);
            }
        }
        ready
    }

    /// Moves the last final block up; returns the blocks that can no longer become final.
    pub(crate) fn finalize(&mut self, last_final: FinalBlock, path: &[BlockId]) -> Vec<BlockId> {
        self.last_final = last_final;
        path.iter().for_each(|id| {
            self.blocks.remove(id);
        });
        let mut by_view: Vec<(View, BlockId)> =
            self.blocks.iter().map(|(id, held)| (held.view, *id)).collect();
        by_view.sort_unstable();
        let mut dead = Vec::new();
        for (_, id) in by_view {
            let held = &self.blocks[&id];
            let parent_lives = held.parent == self.last_final.block || self.blocks.contains_key(&held.parent);
            // An unknown parent may still be a descendant; below the final view or height nothing can be.
            let may_live =
                parent_lives || held.parent_view > self.last_final.view && !dead.contains(&held.parent);
            let above = held.view > self.last_final.view && held.height > self.last_final.height;
            if !above || !may_live {
                self.blocks.remove(&id);
                dead.push(id);
            }
        }
        dead
    }
}
