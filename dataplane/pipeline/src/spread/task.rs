//! Sending a block's body: one chunk a frame, each with its path to the header's chunk root.

use super::Target;
use super::outbox::{Outbox, Sent};
use crate::port::FramePool;
use core::ops::Range;
use roko_wire::block::{chunk_count, chunk_leaf};
use roko_wire::chunk::Chunk;
use roko_wire::codec::{Length, Sink};
use roko_wire::frame::PriorityClass;
use roko_wire::limits::CHUNK_DATA_BYTES;
use roko_wire::merkle::Tree;
use roko_wire::message::MessageKind;
use roko_wire::{BlockId, Hash32, View};
use std::sync::Arc;

/// A block that can be sent: shared with the control plane, which keeps it to answer requests.
pub struct SpreadBlock {
    block: BlockId,
    view: View,
    signature: [u8; 64],
    body: Vec<u8>,
    chunks: Tree,
}

impl SpreadBlock {
    /// A block whose chunk tree is known, as the builder hands it over.
    #[must_use]
    pub fn new(block: BlockId, view: View, signature: [u8; 64], body: Vec<u8>, chunks: Tree) -> SpreadBlock {
        SpreadBlock { block, view, signature, body, chunks }
    }

    /// A block whose chunk tree is computed now; for blocks that came from elsewhere.
    #[must_use]
    pub fn from_body(block: BlockId, view: View, signature: [u8; 64], body: Vec<u8>) -> SpreadBlock {
        let mut chunks = Tree::with_capacity(chunk_count(body.len()));
        let leaves = body.chunks(CHUNK_DATA_BYTES).enumerate();
        chunks.rebuild(leaves.map(|(index, data)| chunk_leaf(index as u32, data)));
        SpreadBlock { block, view, signature, body, chunks }
    }

    /// The block's id.
    #[must_use]
    pub fn id(&self) -> BlockId {
        self.block
    }

    /// The block's view.
    #[must_use]
    pub fn view(&self) -> View {
        self.view
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The header's chunk root.
    #[must_use]
    pub fn chunk_root(&self) -> Hash32 {
        self.chunks.root()
    }

    /// How many chunks the body has.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        chunk_count(self.body.len())
    }

    /// Chunk `index`, which is below [`SpreadBlock::chunk_count`].
    fn chunk(&self, index: usize) -> Chunk<'_> {
        let end = ((index + 1) * CHUNK_DATA_BYTES).min(self.body.len());
        Chunk {
            block: self.block,
            view: self.view,
            index: index as u32,
            count: self.chunk_count() as u32,
            signature: self.signature,
            path: self.chunks.path(index).unwrap_or_default(),
            data: &self.body[index * CHUNK_DATA_BYTES..end],
        }
    }
}

/// Which chunks of a block go where.
pub struct SpreadBlockTask {
    /// The block.
    pub block: Arc<SpreadBlock>,
    /// Where to.
    pub to: Target,
    /// Which chunks; what is past the last is ignored.
    pub chunks: Range<u32>,
}

/// A block on its way.
pub(super) struct BlockJob {
    task: SpreadBlockTask,
    next_chunk: usize,
    next_destination: usize,
}

impl BlockJob {
    pub(super) fn new(task: SpreadBlockTask) -> BlockJob {
        let next_chunk = task.chunks.start as usize;
        BlockJob { task, next_chunk, next_destination: 0 }
    }

    pub(super) fn into_block(self) -> Arc<SpreadBlock> {
        self.task.block
    }

    /// Sends up to `frames_max` frames. Returns how many, and whether the block is done. A chunk goes to every
    /// destination before the next one, so that all of them receive at one rate.
    pub(super) fn send<P: FramePool>(&mut self, outbox: &mut Outbox<P>, frames_max: usize) -> (usize, bool) {
        let end = (self.task.chunks.end as usize).min(self.task.block.chunk_count());
        let mut frames = 0;
        while self.next_chunk < end {
            let chunk = self.task.block.chunk(self.next_chunk);
            let mut message_bytes = Length(1);
            chunk.write(&mut message_bytes);
            let destinations = match self.task.to {
                Target::Validators => outbox.validators(),
                Target::Peer(_) => 1,
            };
            while self.next_destination < destinations {
                if frames == frames_max {
                    return (frames, false);
                }
                let peer = match self.task.to {
                    Target::Validators => outbox.validator(self.next_destination),
                    Target::Peer(peer) => peer,
                };
                // The body's bytes go into the frame and nowhere before.
                let write = |mut place: &mut [u8]| {
                    place.put_u8(MessageKind::Chunk as u8);
                    chunk.write(&mut place);
                };
                match outbox.send(peer, PriorityClass::Block, None, message_bytes.0, write) {
                    Sent::NoRoom => return (frames, false),
                    Sent::Yes | Sent::Never => frames += 1,
                }
                self.next_destination += 1;
            }
            self.next_destination = 0;
            self.next_chunk += 1;
        }
        (frames, true)
    }
}
