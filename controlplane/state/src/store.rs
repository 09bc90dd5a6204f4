//! The store: one writer that commits final blocks, and snapshot readers on any thread.
//!
//! The commit protocol is [`StateStore::commit_batch`], one short function: check and encode, make room, write the
//! records and sync (one operation), publish. A block that was acknowledged is never lost; a batch that fails
//! because the disk is full changes nothing and can be tried again; any other failure closes the store to
//! commits, since what is on the disk is then unknown until it is opened again.

use crate::error::is_full;
use crate::index::Location;
use crate::reader::{Last, Reader, Shared, Snapshot};
use crate::record::{self, BlockRecord, CommitBlock};
use crate::segment::{self, Segment};
use crate::storage::{CrashPoint, Storage, StorageFile, SyncSite, whole_sectors};
use crate::superblock::Superblock;
use crate::tree::Tree;
use crate::{OpenReport, StateError, recovery};
use roko_wire::{Account, Address, BlockId, Hash32, Height, TxId};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, PoisonError};

/// Bytes that are zeroed by one call of [`StateStore::maintain`].
const PREPARE_BYTES: u64 = 4 << 20;

/// What can be chosen about a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Bytes of a segment. A larger block gets a segment of its own size.
    pub segment_bytes: u64,
    /// Transactions that can be looked up by id; past it the oldest blocks' are forgotten.
    pub indexed_transactions_max: usize,
    /// Blocks after which [`StateStore::maintain`] writes a superblock, so that damage to older ones is told from a
    /// torn end.
    pub checkpoint_blocks: u64,
    /// Blocks between two heights whose state is kept for new nodes; see [`crate::pins`].
    pub pin_blocks: u64,
}

impl Default for StoreOptions {
    /// 64 MiB segments; 4,194,304 transactions, which is about 400 MB of index; a checkpoint every 1,024 blocks; a state kept at
    /// every height that the wire says.
    fn default() -> StoreOptions {
        StoreOptions {
            segment_bytes: 64 << 20,
            indexed_transactions_max: 1 << 22,
            checkpoint_blocks: 1024,
            pin_blocks: roko_wire::limits::SNAPSHOT_BLOCKS as u64,
        }
    }
}

/// What a commit hands back.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The block's height.
    pub height: Height,
    /// The state root after it.
    pub root: Hash32,
    /// The version of the state after it.
    pub tree: Tree,
}

/// The end of the log: what the next record follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// Where the next record goes in the newest segment.
    pub(crate) offset: u64,
    /// Hash of the last record.
    pub(crate) previous: [u8; 32],
    /// Sequence of the last record.
    pub(crate) sequence: u64,
}

/// A segment that is being made ready before it is needed.
struct Prepared<F> {
    file: F,
    zeroed_bytes: u64,
}

/// The durable state of the chain. One per directory; see [`Reader`] for other threads.
pub struct StateStore<S: Storage> {
    pub(crate) storage: S,
    pub(crate) options: StoreOptions,
    pub(crate) shared: Arc<Shared<S::File>>,
    pub(crate) superblock: Superblock,
    pub(crate) superblock_file: S::File,
    pub(crate) end: End,
    /// Height and number of transactions of the blocks whose transactions are indexed, oldest first.
    pub(crate) indexed: VecDeque<(u64, usize)>,
    pub(crate) indexed_transactions: usize,
    prepared: Option<Prepared<S::File>>,
    poisoned: bool,
    buffer: Vec<u8>,
}

/// A checked and encoded batch.
struct Staged {
    /// Offset within the batch, length, and version after it, of each block.
    records: Vec<(u64, u64, Tree)>,
    end: End,
}

impl<S: Storage> StateStore<S> {
    /// Opens the store, recovering what was durable, or creates it with the accounts of genesis.
    pub fn open(
        storage: S,
        genesis: &[(Address, Account)],
        genesis_block_id: BlockId,
    ) -> Result<(StateStore<S>, OpenReport), StateError> {
        StateStore::open_with(storage, genesis, genesis_block_id, StoreOptions::default())
    }

    /// [`StateStore::open`] with other options than the default.
    pub fn open_with(
        storage: S,
        genesis: &[(Address, Account)],
        genesis_block_id: BlockId,
        options: StoreOptions,
    ) -> Result<(StateStore<S>, OpenReport), StateError> {
        recovery::open(storage, genesis, genesis_block_id, options)
    }

    pub(crate) fn assemble(
        storage: S,
        options: StoreOptions,
        shared: Shared<S::File>,
        superblock: (Superblock, S::File),
        end: End,
    ) -> StateStore<S> {
        let (superblock, superblock_file) = superblock;
        StateStore {
            storage,
            options,
            shared: Arc::new(shared),
            superblock,
            superblock_file,
            end,
            indexed: VecDeque::new(),
            indexed_transactions: 0,
            prepared: None,
            poisoned: false,
            buffer: Vec::new(),
        }
    }

    /// Commits one block. When it returns `Ok` the block is durable.
    pub fn commit(&mut self, block: &CommitBlock) -> Result<Committed, StateError> {
        let mut committed = self.commit_batch(core::slice::from_ref(block))?;
        committed.pop().ok_or(StateError::Poisoned)
    }

    /// Commits consecutive blocks with one sync. All of them are durable when it returns `Ok`; after
    /// [`StateError::NoSpace`] none is committed and the same call can be made again.
    pub fn commit_batch(&mut self, blocks: &[CommitBlock]) -> Result<Vec<Committed>, StateError> {
        self.commit_executed(blocks, &[])
    }

    /// [`StateStore::commit_batch`] for a caller that has executed the blocks: `versions` holds the state after each, so
    /// that it is not computed twice. A block without one has its changes applied here.
    pub fn commit_executed(
        &mut self,
        blocks: &[CommitBlock],
        versions: &[Tree],
    ) -> Result<Vec<Committed>, StateError> {
        if self.poisoned {
            return Err(StateError::Poisoned);
        }
        if blocks.is_empty() {
            return Ok(Vec::new());
        }
        let staged = self.stage(blocks, versions)?;
        self.make_room()?;
        self.crash_point(CrashPoint::BeforeRecord)?;
        self.write_records()?;
        self.crash_point(CrashPoint::RecordDurable)?;
        let committed = self.publish(blocks, staged);
        self.crash_point(CrashPoint::Published)?;
        Ok(committed)
    }

    /// Checks heights and roots and encodes the records into the buffer.
    fn stage(&mut self, blocks: &[CommitBlock], versions: &[Tree]) -> Result<Staged, StateError> {
        let Snapshot { last, mut tree } = self.snapshot();
        let (batch_start, mut end) = (self.end.sequence + 1, self.end);
        let mut records = Vec::with_capacity(blocks.len());
        self.buffer.clear();
        for (place, block) in blocks.iter().enumerate() {
            let expected = last.height.0 + 1 + place as u64;
            if block.height.0 != expected {
                return Err(StateError::WrongHeight { expected, got: block.height.0 });
            }
            tree = versions.get(place).cloned().unwrap_or_else(|| tree.update(&block.changes));
            if tree.root() != block.expected_root {
                let (height, expected) = (block.height.0, block.expected_root);
                return Err(StateError::RootMismatch { height, expected, computed: tree.root() });
            }
            let from = self.buffer.len() as u64;
            end.sequence += 1;
            let key = &self.superblock.key;
            end.previous =
                record::write(key, block, end.sequence, batch_start, &end.previous, &mut self.buffer)?;
            records.push((from, self.buffer.len() as u64 - from, tree.clone()));
        }
        Ok(Staged { records, end })
    }

    /// Goes on to a new segment when the batch does not fit the newest one.
    fn make_room(&mut self) -> Result<(), StateError> {
        let needed = self.buffer.len() as u64;
        let capacity = self.newest().len_bytes().map_err(StateError::io("reading a segment's length"))?;
        let capacity = capacity.max(self.options.segment_bytes);
        if self.end.offset == 0 || self.end.offset + needed <= capacity {
            return Ok(());
        }
        let sealed = self.newest();
        let file = self.prepare_segment(needed)?;
        self.crash_point(CrashPoint::SegmentCreated)?;
        let result = self.list_segment();
        if let Err(error) = result {
            // Listed or not, the file stays: the superblock may have reached the disk.
            self.prepared = Some(file);
            return Err(self.refuse("writing the superblock of a new segment", error));
        }
        let segment = Arc::new(Segment::new(file.file, self.superblock.key));
        self.shared.segments.write().unwrap_or_else(PoisonError::into_inner).push(segment);
        self.end.offset = 0;
        sealed.seal();
        self.crash_point(CrashPoint::SegmentListed)
    }

    /// The next segment's file, zeroed and with a durable name.
    fn prepare_segment(&mut self, needed: u64) -> Result<Prepared<S::File>, StateError> {
        let capacity = whole_sectors(self.options.segment_bytes.max(needed));
        let result = (|| {
            let mut prepared = match self.prepared.take() {
                Some(prepared) => prepared,
                None => self.create_segment()?,
            };
            prepared.file.preallocate(prepared.zeroed_bytes, capacity)?;
            prepared.zeroed_bytes = prepared.zeroed_bytes.max(capacity);
            self.storage.sync_dir(SyncSite::DirectoryRoll)?;
            Ok(prepared)
        })();
        result.map_err(|error| {
            // What is there of it would only take the room that is missing.
            let _ = self.storage.remove(&segment::name(self.superblock.segments));
            self.refuse("creating a segment", error)
        })
    }

    fn create_segment(&self) -> io::Result<Prepared<S::File>> {
        let file = self.storage.create(&segment::name(self.superblock.segments))?;
        Ok(Prepared { file, zeroed_bytes: 0 })
    }

    /// Makes the superblock that lists one more segment durable.
    fn list_segment(&mut self) -> io::Result<()> {
        let last = self.last();
        let mut next = self.superblock;
        next.sequence += 1;
        next.segments += 1;
        (next.durable_height, next.root) = (last.height.0, last.root);
        next.write_sync(&self.superblock_file, SyncSite::SuperblockRoll, &mut Vec::new())?;
        self.superblock = next;
        Ok(())
    }

    /// Writes the encoded batch and syncs it: after this it is durable.
    fn write_records(&mut self) -> Result<(), StateError> {
        let newest = self.newest();
        let (offset, buffer) = (self.end.offset, &mut self.buffer);
        let result = newest.with_file(|file| file.write_sync(offset, buffer, SyncSite::Record));
        result.map_err(|error| self.refuse("writing a block's record", error))
    }

    /// Shows the durable batch to readers.
    fn publish(&mut self, blocks: &[CommitBlock], staged: Staged) -> Vec<Committed> {
        let segment = self.superblock.segments - 1;
        let base = self.end.offset;
        let mut committed = Vec::with_capacity(blocks.len());
        for (block, (from, bytes, tree)) in blocks.iter().zip(staged.records) {
            let location = Location::new(segment, base + from, bytes);
            let height = self.shared.index.add_block(block.block_id, location);
            self.index_transactions(height, &block.tx_ids);
            if height.is_multiple_of(self.options.pin_blocks) {
                let last = Last { height: block.height, block_id: block.block_id, root: block.expected_root };
                let snapshot = Snapshot { last, tree: tree.clone() };
                self.shared.pins.lock().unwrap_or_else(PoisonError::into_inner).add(snapshot);
            }
            committed.push(Committed { height: block.height, root: block.expected_root, tree });
        }
        self.end = End { offset: base + self.buffer.len() as u64, ..staged.end };
        if let (Some(block), Some(done)) = (blocks.last(), committed.last()) {
            let last = Last { height: block.height, block_id: block.block_id, root: block.expected_root };
            let snapshot = Snapshot { last, tree: done.tree.clone() };
            *self.shared.snapshot.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
        }
        committed
    }

    /// Adds a block's transactions to the index and forgets the oldest blocks' past the limit.
    pub(crate) fn index_transactions(&mut self, height: u64, ids: &[TxId]) {
        self.shared.index.add_transactions(height, ids);
        self.indexed.push_back((height, ids.len()));
        self.indexed_transactions += ids.len();
        while self.indexed_transactions > self.options.indexed_transactions_max && self.indexed.len() > 1 {
            let Some((oldest, count)) = self.indexed.pop_front() else { break };
            self.indexed_transactions -= count;
            // A record that cannot be read keeps its entries, which then lead to the error of reading it.
            if let Ok(Some(old)) = self.shared.read_ids(oldest) {
                self.shared.index.forget_transactions(oldest, &old);
            }
        }
    }

    /// Work for idle moments, bounded at each call: makes the next segment ready, and writes a superblock every
    /// [`StoreOptions::checkpoint_blocks`]. Without it a commit that needs a new segment waits for its zeroing.
    /// A full disk is not an error here.
    pub fn maintain(&mut self) -> Result<(), StateError> {
        if self.poisoned {
            return Err(StateError::Poisoned);
        }
        if self.last().height.0 >= self.superblock.durable_height + self.options.checkpoint_blocks {
            self.checkpoint()?;
        }
        if self.end.offset < self.options.segment_bytes / 2 {
            return Ok(());
        }
        let result = match self.prepared.take() {
            Some(prepared) => Ok(prepared),
            None => self.create_segment(),
        }
        .and_then(|mut prepared| {
            let to = (prepared.zeroed_bytes + PREPARE_BYTES).min(self.options.segment_bytes);
            prepared.file.preallocate(prepared.zeroed_bytes, to)?;
            prepared.zeroed_bytes = prepared.zeroed_bytes.max(to);
            Ok(prepared)
        });
        match result {
            Ok(prepared) => {
                self.prepared = Some(prepared);
                Ok(())
            }
            Err(error) if is_full(&error) => Ok(()),
            Err(error) => Err(self.refuse("preparing a segment", error)),
        }
    }

    /// Writes a superblock that says how far the store is durable.
    pub fn checkpoint(&mut self) -> Result<(), StateError> {
        if self.poisoned {
            return Err(StateError::Poisoned);
        }
        let last = self.last();
        if last.height.0 == self.superblock.durable_height {
            return Ok(());
        }
        let mut next = self.superblock;
        next.sequence += 1;
        (next.durable_height, next.root) = (last.height.0, last.root);
        let result = next.write_sync(&self.superblock_file, SyncSite::SuperblockCheckpoint, &mut Vec::new());
        result.map_err(|error| self.refuse("writing a checkpoint", error))?;
        self.superblock = next;
        Ok(())
    }

    /// Ends the store in order: after it, any damage to what is stored is told from a torn end.
    pub fn close(mut self) -> Result<(), StateError> {
        self.checkpoint()
    }

    /// Turns an I/O error into the store's: a full disk can be mended, anything else closes the store.
    fn refuse(&mut self, action: &'static str, source: io::Error) -> StateError {
        if is_full(&source) {
            let free_bytes = self.storage.free_bytes().unwrap_or(0);
            return StateError::NoSpace { needed_bytes: self.buffer.len() as u64, free_bytes };
        }
        self.poisoned = true;
        StateError::Io { action, source }
    }

    fn crash_point(&mut self, point: CrashPoint) -> Result<(), StateError> {
        let result = self.storage.crash_point(point);
        result.map_err(|error| self.refuse("passing a crash point", error))
    }

    fn newest(&self) -> Arc<Segment<S::File>> {
        self.shared.segment(self.superblock.segments - 1)
    }

    /// A handle for readers on other threads.
    #[must_use]
    pub fn reader(&self) -> Reader<S> {
        Reader { shared: Arc::clone(&self.shared) }
    }

    /// The final state, and the block it is the state after.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// The final version of the state tree: the base of overlays for blocks that are not final.
    #[must_use]
    pub fn tree(&self) -> Tree {
        self.shared.snapshot().tree
    }

    /// The last final block.
    #[must_use]
    pub fn last(&self) -> Last {
        self.shared.snapshot().last
    }

    /// The final value of an account.
    #[must_use]
    pub fn account(&self, address: &Address) -> Option<Account> {
        self.shared.snapshot().tree.get(address)
    }

    /// The block that the store begins from, without its body; `None` when that is genesis.
    #[must_use]
    pub fn anchor(&self) -> Option<&BlockRecord> {
        self.shared.anchor.as_ref()
    }

    /// The block at `height`; `None` above the last one, and for what the store begins from and all before it.
    pub fn block(&self, height: Height) -> Result<Option<BlockRecord>, StateError> {
        self.shared.read_block(height.0)
    }

    /// The height of a final block.
    #[must_use]
    pub fn height_of(&self, block_id: &BlockId) -> Option<Height> {
        self.reader().height_of(block_id)
    }

    /// Where a final transaction is: its block's height and its place in the block.
    #[must_use]
    pub fn transaction(&self, id: &TxId) -> Option<(Height, u32)> {
        self.shared.index.transaction(id)
    }

    /// How durable writes are done, for the start-up report.
    #[must_use]
    pub fn storage_kind(&self) -> &'static str {
        self.storage.kind()
    }
}
