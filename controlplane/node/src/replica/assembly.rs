//! Puts blocks together from proposals and chunks, which arrive in any order.
//!
//! A chunk is kept only when it proves by its path that it belongs under the chunk root of a header whose proposer
//! signed it; chunks that come before their header wait in a small bounded store.

use roko_wire::block::{Header, chunk_count, chunk_leaf};
use roko_wire::chunk::Chunk;
use roko_wire::limits::CHUNK_DATA_BYTES;
use roko_wire::{BlockId, Hash32, ValidatorIndex};
use std::collections::VecDeque;

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

/// Chunk messages whose header has not come yet, by who sent them: bounded in blocks and in bytes. Whoever sent the most
/// bytes makes room, its oldest block first, so that what one sends pushes out nothing of the others.
#[derive(Debug, Default)]
pub struct EarlyChunks {
    /// In the order in which their first chunks came.
    blocks: VecDeque<Early>,
    bytes: usize,
    /// Messages that were let go because the store was full.
    pub dropped: u64,
}

#[derive(Debug)]
struct Early {
    block: BlockId,
    from: ValidatorIndex,
    messages: Vec<Vec<u8>>,
    bytes: usize,
}

impl EarlyChunks {
    const BLOCKS_MAX: usize = 8;
    const BYTES_MAX: usize = 2 * roko_wire::limits::BLOCK_BYTES_MAX;

    /// Whether something of a block is kept, so that its proposer's signature is known to hold.
    #[must_use]
    pub fn knows(&self, block: &BlockId) -> bool {
        self.blocks.iter().any(|early| early.block == *block)
    }

    /// Keeps the message of a chunk whose header is unknown.
    pub fn keep(&mut self, block: BlockId, from: ValidatorIndex, message: &[u8]) {
        let known = self.blocks.iter_mut().position(|early| early.block == block && early.from == from);
        let place = known.unwrap_or_else(|| {
            self.blocks.push_back(Early { block, from, messages: Vec::new(), bytes: 0 });
            self.blocks.len() - 1
        });
        let early = &mut self.blocks[place];
        early.messages.push(message.to_vec());
        early.bytes += message.len();
        self.bytes += message.len();
        while self.blocks.len() > Self::BLOCKS_MAX || self.bytes > Self::BYTES_MAX {
            let Some(place) = self.first_of_greediest() else { break };
            let Some(let_go) = self.blocks.remove(place) else { break };
            self.bytes -= let_go.bytes;
            self.dropped += let_go.messages.len() as u64;
        }
    }

    /// The oldest block of the sender with the most bytes.
    fn first_of_greediest(&self) -> Option<usize> {
        let of = |from| {
            self.blocks.iter().filter(|early| early.from == from).map(|early| early.bytes).sum::<usize>()
        };
        let greediest = self.blocks.iter().map(|early| (of(early.from), early.from)).max()?.1;
        self.blocks.iter().position(|early| early.from == greediest)
    }

    /// The messages kept for a block, with who sent each; the block is forgotten.
    pub fn take(&mut self, block: &BlockId) -> Vec<(ValidatorIndex, Vec<u8>)> {
        let mut taken = Vec::new();
        for early in std::mem::take(&mut self.blocks) {
            if early.block == *block {
                self.bytes -= early.bytes;
                taken.extend(early.messages.into_iter().map(|message| (early.from, message)));
            } else {
                self.blocks.push_back(early);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_wire::{ChainId, Epoch, Height, NanoMoment, View, merkle};

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
        let (mut early, from) = (EarlyChunks::default(), ValidatorIndex(3));
        for n in 0..=EarlyChunks::BLOCKS_MAX as u8 {
            early.keep(BlockId([n; 32]), from, &[n; 10]);
        }
        assert_eq!((early.dropped, early.take(&BlockId([0; 32])).len()), (1, 0));
        assert_eq!(early.take(&BlockId([1; 32])), vec![(from, vec![1; 10])]);
        assert_eq!(early.bytes, 10 * (EarlyChunks::BLOCKS_MAX - 1));
        assert!(early.knows(&BlockId([2; 32])) && !early.knows(&BlockId([1; 32])));
    }

    #[test]
    fn a_flood_of_early_chunks_pushes_out_nothing_of_others() {
        let (mut early, honest, liar) = (EarlyChunks::default(), ValidatorIndex(0), ValidatorIndex(3));
        let block = BlockId([200; 32]);
        early.keep(block, honest, &[1; 900]);
        for n in 0..10_000u32 {
            early.keep(BlockId([(n % 100) as u8; 32]), liar, &[2; 900]);
            early.keep(block, liar, &[2; 900]);
        }
        assert!(early.blocks.len() <= EarlyChunks::BLOCKS_MAX && early.bytes <= EarlyChunks::BYTES_MAX);
        let kept = early.take(&block);
        assert_eq!(kept.first(), Some(&(honest, vec![1; 900])));
        let left: usize = early.blocks.iter().map(|early| early.bytes).sum();
        assert_eq!(left, early.bytes);
    }
}
