//! Opening a store: finds what is durable, cuts a torn end, refuses damage, and rebuilds the index and the tree.
//!
//! What may be lost is only the end of the newest segment, and only records of the one write that was under way:
//! a gap with a record of a later write behind it, or below the superblock's durable height, or in a sealed
//! segment, was acknowledged and is damage. What is found is synced again before it is relied on, because a killed
//! process leaves records in the page cache that a power cut would still take.

use crate::error::is_full;
use crate::index::{Index, Location};
use crate::pins::Pins;
use crate::reader::{Last, Shared, Snapshot};
use crate::record;
use crate::segment::{self, Segment, damaged};
use crate::storage::{Storage, StorageFile, SyncSite};
use crate::store::{End, StateStore, StoreOptions};
use crate::superblock::{self, Base, Superblock};
use crate::{StateError, Tree, base};
use roko_wire::codec::Reader;
use roko_wire::{Account, Address, BlockId, Hash32, Height, TxId};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, RwLock};

/// What was cut off the end of the newest segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub segment: u32,
    /// Where the cut begins, bytes.
    pub offset: u64,
    /// How much was written behind it, bytes.
    pub bytes: u64,
    /// The height of the block that was never acknowledged.
    pub height: Height,
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Whether the store was created just now.
    pub created: bool,
    /// The last block.
    pub height: Height,
    /// The first block that is here; 1 when the store begins at genesis.
    pub first: Height,
    /// The state root, computed from the accounts and equal to the last record's.
    pub root: Hash32,
    /// Accounts in the state.
    pub accounts: usize,
    /// Segments read.
    pub segments: u32,
    /// Transactions that can be looked up.
    pub transactions: usize,
    /// The torn end that was cut, if there was one.
    pub cut: Option<Cut>,
    /// The superblock slot that was damaged (0 or 1), if one was; the other one was used.
    pub superblock_damaged: Option<u8>,
    /// Segments without a record that no superblock lists, left by a crash and removed.
    pub removed: Vec<String>,
    /// How durable writes are done.
    pub storage_kind: &'static str,
}

/// What replaying the records collects.
pub(crate) struct Replay {
    /// The accounts after the block in `pinned`; without one, those that the store begins from.
    accounts: HashMap<Address, Option<Account>>,
    /// What has changed since.
    recent: HashMap<Address, Option<Account>>,
    /// The last block whose state is kept for new nodes.
    pinned: Option<Last>,
    pin_blocks: u64,
    index: Index,
    /// The transactions of the newest blocks, up to the limit.
    transactions: VecDeque<(u64, Vec<TxId>)>,
    transactions_count: usize,
    transactions_max: usize,
    last: Last,
    end: End,
    superblock: Superblock,
}

/// Opens or creates the store.
pub(crate) fn open<S: Storage>(
    storage: S,
    genesis: &[(Address, Account)],
    genesis_id: BlockId,
    options: StoreOptions,
) -> Result<(StateStore<S>, OpenReport), StateError> {
    let genesis: Vec<_> = genesis.iter().map(|(address, account)| (*address, Some(*account))).collect();
    let tree = Tree::new().update(&genesis);
    let mut report = OpenReport { storage_kind: storage.kind(), ..OpenReport::default() };
    let (superblock, file) = find_superblock(&storage, tree.root(), genesis_id, options, &mut report)?;
    check_genesis(&superblock, genesis_id, tree.root())?;

    let genesis_root = tree.root();
    drop(tree);
    let (anchor, accounts) = match &superblock.base {
        Some(base) => {
            let (anchor, accounts) = base::load(&storage, base, genesis_id, genesis_root)?;
            (Some(anchor), accounts.into_iter().map(|(at, account)| (at, Some(account))).collect())
        }
        None => (None, genesis),
    };
    let mut replay = Replay::new(superblock, accounts, options);
    let segments = replay_segments(&storage, &mut replay, &mut report)?;
    if report.superblock_damaged.is_some() {
        // The next sequence goes to the damaged slot, so the good one stays until this is durable.
        replay.superblock.sequence += 1;
        let written = replay.superblock.write_sync(&file, SyncSite::SuperblockReopen, &mut Vec::new());
        written.map_err(StateError::io("repairing the superblock"))?;
    }
    if !report.created {
        settle::<S>(&file, &segments, options, &replay)?;
    }

    let changes: Vec<_> = replay.accounts.into_iter().collect();
    let before = Tree::new().update(&changes);
    let tree = before.update(&replay.recent.into_iter().collect::<Vec<_>>());
    if tree.root() != replay.last.root {
        let what = format!(
            "the accounts' root is {}, block {} says {}",
            tree.root(),
            replay.last.height,
            replay.last.root
        );
        return Err(StateError::Corrupt { what });
    }
    (report.height, report.root, report.accounts) = (replay.last.height, tree.root(), tree.accounts());
    report.segments = replay.superblock.segments;
    report.first = Height(replay.index.base() + 1);
    replay.index.set_height(genesis_id, 0);
    if let Some(anchor) = &anchor {
        replay.index.set_height(anchor.block_id, anchor.height.0);
    }
    let mut pins = Pins::default();
    if let Some(last) = replay.pinned {
        pins.add(Snapshot { last, tree: before });
    }
    let shared = Shared {
        snapshot: RwLock::new(Snapshot { last: replay.last, tree }),
        index: replay.index,
        segments: RwLock::new(segments),
        anchor,
        pins: Mutex::new(pins),
    };
    let mut store = StateStore::assemble(storage, options, shared, (replay.superblock, file), replay.end);
    replay.transactions.iter().for_each(|(height, ids)| store.index_transactions(*height, ids));
    report.transactions = store.indexed_transactions;
    Ok((store, report))
}

/// The newest superblock of a store that exists, for its repair.
pub(crate) fn find_existing<S: Storage>(
    storage: &S,
    genesis_id: BlockId,
    genesis_root: Hash32,
) -> Result<(Superblock, S::File), StateError> {
    let file = storage.open(superblock::NAME).map_err(StateError::io("opening the superblock"))?;
    if let Some(file) = file
        && let Some(newest) = Superblock::find(&file)?.newest
    {
        check_genesis(&newest, genesis_id, genesis_root)?;
        return Ok((newest, file));
    }
    Err(StateError::Corrupt { what: "no superblock can be read, so that nothing can be kept".into() })
}

/// Whether there is a store: its superblock, or a segment that holds something.
///
/// # Errors
/// When the disk fails.
pub fn exists<S: Storage>(storage: &S) -> Result<bool, StateError> {
    if let Some(file) = storage.open(superblock::NAME).map_err(StateError::io("opening the superblock"))?
        && Superblock::find(&file)?.newest.is_some()
    {
        return Ok(true);
    }
    for name in storage.list().map_err(StateError::io("listing the data directory"))? {
        if segment::number(&name).is_some() && !is_blank(storage, &name)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The hash that the first record names as the one before it.
fn genesis_hash(superblock: &Superblock) -> [u8; 32] {
    let mut bytes = superblock.genesis_id.0.to_vec();
    bytes.extend_from_slice(&superblock.genesis_root.0);
    if let Some(base) = &superblock.base {
        bytes.extend_from_slice(&base.block_id.0);
        bytes.extend_from_slice(&base.hash);
    }
    *blake3::keyed_hash(&superblock.key, &bytes).as_bytes()
}

fn check_genesis(superblock: &Superblock, id: BlockId, root: Hash32) -> Result<(), StateError> {
    if superblock.genesis_id == id && superblock.genesis_root == root {
        return Ok(());
    }
    let stored = format!("{} with root {}", superblock.genesis_id, superblock.genesis_root);
    Err(StateError::WrongGenesis { stored, given: format!("{id} with root {root}") })
}

/// The newest superblock, or that of a store that is created now.
fn find_superblock<S: Storage>(
    storage: &S,
    genesis_root: Hash32,
    genesis_id: BlockId,
    options: StoreOptions,
    report: &mut OpenReport,
) -> Result<(Superblock, S::File), StateError> {
    if let Some(file) = storage.open(superblock::NAME).map_err(StateError::io("opening the superblock"))? {
        let found = Superblock::find(&file)?;
        report.superblock_damaged = found.damaged_slot;
        if let Some(newest) = found.newest {
            return Ok((newest, file));
        }
    }
    // Without a superblock nothing was ever acknowledged, unless a record says otherwise.
    for name in storage.list().map_err(StateError::io("listing the data directory"))? {
        if segment::number(&name).is_some() && !is_blank(storage, &name)? {
            let what = format!("neither superblock is readable, but {name} holds data");
            return Err(StateError::Corrupt { what });
        }
    }
    report.created = true;
    report.superblock_damaged = None;
    base::remove(storage)?;
    create(storage, genesis_root, genesis_id, None, options)
}

/// Creates the files of a new store. The superblock comes last: with it the store exists.
pub(crate) fn create<S: Storage>(
    storage: &S,
    genesis_root: Hash32,
    genesis_id: BlockId,
    base: Option<Base>,
    options: StoreOptions,
) -> Result<(Superblock, S::File), StateError> {
    let io = || StateError::io("creating the store");
    let first = Superblock {
        sequence: 1,
        segments: 1,
        durable_height: base.map_or(0, |base| base.height),
        root: base.map_or(genesis_root, |base| base.root),
        genesis_id,
        genesis_root,
        key: storage.random_key().map_err(io())?,
        base,
    };
    let segment = storage.create(&segment::name(0)).map_err(io())?;
    segment.preallocate(0, options.segment_bytes).map_err(io())?;
    let file = storage.create(superblock::NAME).map_err(io())?;
    file.preallocate(0, superblock::FILE_BYTES).map_err(io())?;
    storage.sync_dir(SyncSite::DirectoryCreate).map_err(io())?;
    first.write_sync(&file, SyncSite::SuperblockCreate, &mut Vec::new()).map_err(io())?;
    Ok((first, file))
}

/// Whether a segment holds nothing but zeros.
fn is_blank<S: Storage>(storage: &S, name: &str) -> Result<bool, StateError> {
    let io = || StateError::io("reading a segment");
    let Some(file) = storage.open(name).map_err(io())? else { return Ok(true) };
    let tail = Segment::new(file, [0; 32]).tail(0, u64::MAX).map_err(io())?;
    Ok(tail.written_to == 0)
}

/// Reads every listed segment in order, then looks at what no superblock lists.
fn replay_segments<S: Storage>(
    storage: &S,
    replay: &mut Replay,
    report: &mut OpenReport,
) -> Result<Vec<Arc<Segment<S::File>>>, StateError> {
    let mut segments = Vec::new();
    let mut number = 0;
    while number < replay.superblock.segments {
        let name = segment::name(number);
        let file = storage.open(&name).map_err(StateError::io("opening a segment"))?;
        let Some(file) = file else {
            return Err(StateError::Corrupt { what: format!("{name} is listed and missing") });
        };
        let segment = Segment::new(file, replay.superblock.key);
        replay.records(number, &segment)?;
        // A damaged newest superblock may have listed one more: the records chain on to it.
        if number + 1 == replay.superblock.segments && report.superblock_damaged.is_some() {
            replay.adopt_next(storage, number + 1)?;
        }
        if number + 1 < replay.superblock.segments {
            segment.seal();
        }
        segments.push(Arc::new(segment));
        number += 1;
    }
    if let Some(newest) = segments.last() {
        report.cut = replay.cut(newest)?;
    }
    remove_unlisted(storage, replay, report)?;
    Ok(segments)
}

/// Removes what a crash left of a segment that was never listed. One that holds data was written against the rules.
fn remove_unlisted<S: Storage>(
    storage: &S,
    replay: &Replay,
    report: &mut OpenReport,
) -> Result<(), StateError> {
    for name in storage.list().map_err(StateError::io("listing the data directory"))? {
        if segment::number(&name).is_none_or(|number| number < replay.superblock.segments) {
            continue;
        }
        if !is_blank(storage, &name)? {
            return Err(StateError::Corrupt {
                what: format!("{name} holds data and no superblock lists it"),
            });
        }
        storage.remove(&name).map_err(StateError::io("removing an empty segment"))?;
        report.removed.push(name);
    }
    Ok(())
}

/// Makes durable what was found, and the newest segment as long as it should be.
fn settle<S: Storage>(
    superblock: &S::File,
    segments: &[Arc<Segment<S::File>>],
    options: StoreOptions,
    replay: &Replay,
) -> Result<(), StateError> {
    let io = || StateError::io("syncing what was recovered");
    superblock.write_sync(0, &mut Vec::new(), SyncSite::SuperblockReopen).map_err(io())?;
    let Some(newest) = segments.last() else { return Ok(()) };
    newest
        .with_file(|file| file.write_sync(replay.end.offset, &mut Vec::new(), SyncSite::RecordReopen))
        .map_err(io())?;
    let len = newest.len_bytes().map_err(io())?;
    match newest.with_file(|file| file.preallocate(len, options.segment_bytes)) {
        Err(error) if !is_full(&error) => {
            Err(StateError::Io { action: "preallocating a segment", source: error })
        }
        _ => Ok(()),
    }
}

impl Replay {
    /// Before the first record, with the accounts that the store begins from.
    pub(crate) fn new(
        superblock: Superblock,
        accounts: Vec<(Address, Option<Account>)>,
        options: StoreOptions,
    ) -> Replay {
        let previous = genesis_hash(&superblock);
        let last = superblock.base.map_or(
            Last { height: Height(0), block_id: superblock.genesis_id, root: superblock.genesis_root },
            |base| Last { height: Height(base.height), block_id: base.block_id, root: base.root },
        );
        Replay {
            accounts: accounts.into_iter().collect(),
            recent: HashMap::new(),
            pinned: Some(last).filter(|last| last.height.0 > 0),
            pin_blocks: options.pin_blocks,
            index: Index::new(last.height.0),
            transactions: VecDeque::new(),
            transactions_count: 0,
            transactions_max: options.indexed_transactions_max,
            last,
            end: End { offset: 0, previous, sequence: 0 },
            superblock,
        }
    }

    /// Height of the last record, and the state root after it.
    pub(crate) fn last_state(&self) -> (u64, Hash32) {
        (self.last.height.0, self.last.root)
    }

    /// Where the next record would begin, in the segment that was replayed last.
    pub(crate) fn end_offset(&self) -> u64 {
        self.end.offset
    }

    /// Follows the chain of records through a segment, as far as it goes.
    pub(crate) fn records<F: StorageFile>(
        &mut self,
        number: u32,
        segment: &Segment<F>,
    ) -> Result<(), StateError> {
        self.end.offset = 0;
        loop {
            let offset = self.end.offset;
            let expected = (self.end.sequence + 1, self.last.height.0 + 1, self.end.previous);
            let digest = segment
                .record_at(offset, |header, payload| {
                    let follows = (header.sequence, header.height, header.previous) == expected;
                    follows.then(|| (*header, record::read_digest(&mut Reader::new(payload))))
                })
                .map_err(StateError::io("reading a segment"))?;
            let Some(Some((header, digest))) = digest else { break };
            let digest = digest.map_err(|error| damaged(number, offset, &error.to_string()))?;
            self.index.add_block(digest.block_id, Location::new(number, offset, header.record_bytes()));
            self.recent.extend(digest.changes);
            self.last = Last { height: Height(header.height), block_id: digest.block_id, root: digest.root };
            if header.height.is_multiple_of(self.pin_blocks) {
                self.accounts.extend(self.recent.drain());
                self.pinned = Some(self.last);
            }
            self.remember(header.height, digest.tx_ids);
            self.end = End {
                offset: offset + header.record_bytes(),
                previous: header.hash,
                sequence: header.sequence,
            };
            if header.height == self.superblock.durable_height && digest.root != self.superblock.root {
                return Err(damaged(number, offset, "the superblock gives this block another state root"));
            }
        }
        Ok(())
    }

    /// Keeps the transactions of the newest blocks.
    fn remember(&mut self, height: u64, ids: Vec<TxId>) {
        self.transactions_count += ids.len();
        self.transactions.push_back((height, ids));
        while self.transactions_count > self.transactions_max && self.transactions.len() > 1 {
            let Some((_, oldest)) = self.transactions.pop_front() else { break };
            self.transactions_count -= oldest.len();
        }
    }

    /// Lists segment `number` if it exists and its first record follows the last one.
    fn adopt_next<S: Storage>(&mut self, storage: &S, number: u32) -> Result<(), StateError> {
        let io = || StateError::io("reading a segment");
        let Some(file) = storage.open(&segment::name(number)).map_err(io())? else { return Ok(()) };
        let previous = self.end.previous;
        let first =
            Segment::new(file, self.superblock.key).record_at(0, |header, _| header.previous).map_err(io())?;
        if first == Some(previous) {
            self.superblock.segments = number + 1;
        }
        Ok(())
    }

    /// Cuts the torn end of the newest segment, or refuses when it is damage. The zeros become durable with the
    /// next record, before anything relies on them.
    fn cut<F: StorageFile>(&self, newest: &Segment<F>) -> Result<Option<Cut>, StateError> {
        let number = self.superblock.segments - 1;
        let offset = self.end.offset;
        if self.last.height.0 < self.superblock.durable_height {
            let durable = self.superblock.durable_height;
            let what =
                format!("block {} is missing, blocks up to {durable} were durable", self.last.height.next());
            return Err(damaged(number, offset, &what));
        }
        let io = || StateError::io("reading the end of the newest segment");
        let tail = newest.tail(offset, self.end.sequence + 1).map_err(io())?;
        if let Some(later) = tail.later {
            let what = format!("the record is damaged, and one written later stands at offset {later}");
            return Err(damaged(number, offset, &what));
        }
        let bytes = tail.written_to - offset;
        if bytes == 0 {
            return Ok(None);
        }
        let zeros = vec![0; 1 << 16];
        let mut at = offset;
        while at < tail.written_to {
            let len = (tail.written_to - at).min(zeros.len() as u64);
            newest.with_file(|file| file.write_at(at, &zeros[..len as usize])).map_err(io())?;
            at += len;
        }
        Ok(Some(Cut { segment: number, offset, bytes, height: self.last.height.next() }))
    }
}
