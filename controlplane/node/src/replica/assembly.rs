//! Puts blocks together from proposals and chunks, which arrive in any order.
//!
//! A chunk is kept only when it proves by its path that it belongs under the chunk root of a header whose proposer
//! signed it; chunks that come before their header wait in a small bounded store.

use roko_wire::block::{Header, chunk_count, chunk_leaf};
use roko_wire::chunk::Chunk;
use roko_wire::limits::CHUNK_DATA_BYTES;
use roko_wire::{BlockId, Hash32};
use std::collections::{HashMap, VecDeque};

/// A body that grows chunk by chunk.
#[derive(Debug)]
pub struct Assembly {
    body: Vec<u8>,
    have: Vec<bool>,
    missing: usize,
}

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// Kept; more are missing.
    Kept,
    /// Was here already.
    Duplicate,
    /// Does not belong to the block.
    Wrong,
    /// Kept, and the body is whole.
    Complete,
}

impl Assembly {
    /// An empty assembly for a header's body.
    #[must_use]
    pub fn new(header: &Header) -> Assembly {
        let chunks = chunk_count(header.body_bytes as usize);
        Assembly { body: vec![0; header.body_bytes as usize], have: vec![false; chunks], missing: chunks }
    }

    /// Adds a chunk after checking its path.
    pub fn add(&mut self, header: &Header, chunk: &Chunk<'_>) -> Added {
        let index = chunk.index as usize;
        match self.have.get(index) {
            Some(true) => return Added::Duplicate,
            None => return Added::Wrong,
            Some(false) => {}
        }
        let at = index * CHUNK_DATA_BYTES;
        let len = CHUNK_DATA_BYTES.min(self.body.len() - at);
        if chunk.data.len() != len || !chunk.belongs_to(header) {
            return Added::Wrong;
        }
        self.body[at..at + len].copy_from_slice(chunk.data);
        self.have[index] = true;
        self.missing -= 1;
        if self.missing == 0 { Added::Complete } else { Added::Kept }
    }

    /// Whether every chunk is here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// The body, once it is complete.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        debug_assert!(self.is_complete());
        self.body
    }
}

/// Whether a body hashes to its header's chunk root: for bodies that came by another way than chunks.
#[must_use]
pub fn body_matches(header: &Header, body: &[u8]) -> bool {
    let mut leaves: Vec<Hash32> = body
        .chunks(CHUNK_DATA_BYTES)
        .enumerate()
        .map(|(index, data)| chunk_leaf(index as u32, data))
        .collect();
    body.len() == header.body_bytes as usize
        && roko_wire::merkle::root_in_place(&mut leaves) == header.chunk_root
}

/// Chunk messages whose header has not come yet: bounded in blocks and in bytes, the oldest block goes first.
#[derive(Debug, Default)]
pub struct EarlyChunks {
    by_block: HashMap<BlockId, Vec<Vec<u8>>>,
    order: VecDeque<BlockId>,
    bytes: usize,
    /// Messages that were let go because the store was full.
    pub dropped: u64,
}

impl EarlyChunks {
    const BLOCKS_MAX: usize = 8;
    const BYTES_MAX: usize = 2 * roko_wire::limits::BLOCK_BYTES_MAX;

    /// Keeps the message of a chunk whose header is unknown.
    pub fn keep(&mut self, block: BlockId, message: &[u8]) {
        if !self.by_block.contains_key(&block) {
            self.order.push_back(block);
        }
        self.bytes += message.len();
        self.by_block.entry(block).or_default().push(message.to_vec());
        while self.order.len() > Self::BLOCKS_MAX || self.bytes > Self::BYTES_MAX {
            let Some(oldest) = self.order.front().copied() else { break };
            self.dropped += self.take(&oldest).len() as u64;
        }
    }

    /// The messages kept for a block, which is forgotten.
    pub fn take(&mut self, block: &BlockId) -> Vec<Vec<u8>> {
        let messages = self.by_block.remove(block).unwrap_or_default();
        self.order.retain(|other| other != block);
        self.bytes -= messages.iter().map(Vec::len).sum::<usize>();
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_wire::{ChainId, Epoch, Height, NanoMoment, ValidatorIndex, View, merkle};

    fn header_of(body: &[u8]) -> (Header, merkle::Tree) {
        let mut leaves = Vec::new();
        roko_wire::block::chunk_leaves(body, &mut leaves);
        let mut tree = merkle::Tree::default();
        tree.rebuild(leaves.into_iter());
        let header = Header {
            chain_id: ChainId(1),
            epoch: Epoch(0),
            view: View(1),
            height: Height(1),
            parent: BlockId::ZERO,
            justification_hash: Hash32::ZERO,
            proposer: ValidatorIndex(0),
            time: NanoMoment(1),
            watermark: NanoMoment(1),
            tx_root: Hash32::ZERO,
            chunk_root: tree.root(),
            body_bytes: body.len() as u32,
            tx_count: 0,
            parent_state_root: Hash32::ZERO,
            parent_receipts_root: Hash32::ZERO,
            gas_limit: 0,
            base_fee: 0,
            next_set_root: None,
        };
        (header, tree)
    }

    fn chunk<'a>(header: &Header, tree: &merkle::Tree, body: &'a [u8], index: usize) -> Chunk<'a> {
        Chunk {
            block: header.id(),
            view: header.view,
            index: index as u32,
            count: tree.leaves() as u32,
            signature: [0; 64],
            path: tree.path(index).unwrap(),
            data: body.chunks(CHUNK_DATA_BYTES).nth(index).unwrap(),
        }
    }

    #[test]
    fn a_body_comes_together_from_chunks_in_any_order() {
        let body: Vec<u8> = (0..5 * CHUNK_DATA_BYTES + 17).map(|at| (at % 251) as u8).collect();
        let (header, tree) = header_of(&body);
        let mut assembly = Assembly::new(&header);
        for index in [3, 0, 5, 1, 4] {
            assert_eq!(assembly.add(&header, &chunk(&header, &tree, &body, index)), Added::Kept);
        }
        assert_eq!(assembly.add(&header, &chunk(&header, &tree, &body, 3)), Added::Duplicate);
        let mut forged = chunk(&header, &tree, &body, 2);
        forged.data = &body[..CHUNK_DATA_BYTES];
        assert_eq!(assembly.add(&header, &forged), Added::Wrong);
        forged.index = 9;
        assert_eq!(assembly.add(&header, &forged), Added::Wrong);
        assert_eq!(assembly.add(&header, &chunk(&header, &tree, &body, 2)), Added::Complete);
        assert!(body_matches(&header, &body) && !body_matches(&header, &body[1..]));
        assert_eq!(assembly.into_body(), body);
    }

    #[test]
    fn early_chunks_are_bounded_and_the_oldest_block_goes_first() {
        let mut early = EarlyChunks::default();
        for n in 0..=EarlyChunks::BLOCKS_MAX as u8 {
            early.keep(BlockId([n; 32]), &[n; 10]);
        }
        assert_eq!((early.dropped, early.take(&BlockId([0; 32])).len()), (1, 0));
        assert_eq!(early.take(&BlockId([1; 32])), vec![vec![1; 10]]);
        assert_eq!(early.bytes, 10 * (EarlyChunks::BLOCKS_MAX - 1));
    }
}
