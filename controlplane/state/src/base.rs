//! What a store begins from when that is not genesis: a file of the accounts after one final block, built up range by range
//! while they are fetched, and kept as it is from then on.
//!
//! The file is a chain of records in the format of [`crate::record`]: first the block with its header, seals and receipts,
//! then ranges, each with the first place (32), depth `u16`, a count `u32` and the accounts (address 20, account 104). The
//! hashes find accidents of the disk; what the file holds was proven against the chain's root before. A range is durable
//! once [`SnapshotBuilder::keep`] has returned, so a fetch that was stopped goes on from there. The store exists from the
//! moment its superblock does: [`SnapshotBuilder::install`] writes that last, after the root of everything was compared.

use crate::range::{Place, ProvenRange};
use crate::record::{self, BlockRecord};
use crate::recovery;
use crate::segment::Segment;
use crate::storage::{Storage, StorageFile, SyncSite};
use crate::store::End;
use crate::superblock::Base;
use crate::{StateError, StoreOptions, Tree};
use roko_wire::codec::{DecodeError, Reader, Sink};
use roko_wire::{Account, Address, BlockId, Hash32, Height};

/// The file's name.
pub const NAME: &str = "base";

/// Where a store begins, as its genesis says.
#[derive(Clone, Copy, Debug)]
struct Origin {
    id: BlockId,
    root: Hash32,
}

impl Origin {
    fn of(genesis: &[(Address, Account)], id: BlockId) -> Origin {
        let changes: Vec<_> = genesis.iter().map(|(address, account)| (*address, Some(*account))).collect();
        Origin { id, root: Tree::new().update(&changes).root() }
    }

    /// The key of the file's hashes, and what its first record names as the one before it.
    fn key(&self) -> [u8; 32] {
        let mut bytes = b"roko/base/1".to_vec();
        bytes.put(&self.id.0);
        bytes.put(&self.root.0);
        *blake3::hash(&bytes).as_bytes()
    }
}

/// A snapshot that is being fetched.
pub struct SnapshotBuilder<S: Storage> {
    storage: S,
    file: Segment<S::File>,
    origin: Origin,
    anchor: BlockRecord,
    end: End,
    covered: Vec<(Place, u16)>,
    accounts: u64,
    buffer: Vec<u8>,
}

impl<S: Storage> SnapshotBuilder<S> {
    /// The fetch that was under way when the node was stopped; `None` when there was none. A torn end is left behind.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn resume(
        storage: &S,
        genesis: &[(Address, Account)],
        genesis_id: BlockId,
    ) -> Result<Option<SnapshotBuilder<S>>, StateError> {
        let Some(file) = storage.open(NAME).map_err(StateError::io("opening a snapshot's file"))? else {
            return Ok(None);
        };
        let origin = Origin::of(genesis, genesis_id);
        let file = Segment::new(file, origin.key());
        let (mut covered, mut accounts) = (Vec::new(), 0);
        let (anchor, end) = read(&file, |range| {
            covered.push((range.from, range.depth));
            accounts += range.accounts.len() as u64;
        })?;
        Ok(anchor.map(|anchor| SnapshotBuilder {
            storage: storage.clone(),
            file,
            origin,
            anchor,
            end,
            covered,
            accounts,
            buffer: Vec::new(),
        }))
    }

    /// Begins to fetch the state after `anchor`, a block that was proven final; whatever was fetched before is forgotten.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn begin(
        storage: &S,
        genesis: &[(Address, Account)],
        genesis_id: BlockId,
        anchor: BlockRecord,
    ) -> Result<SnapshotBuilder<S>, StateError> {
        let origin = Origin::of(genesis, genesis_id);
        let key = origin.key();
        let io = || StateError::io("beginning a snapshot's file");
        let file = Segment::new(storage.create(NAME).map_err(io())?, key);
        let mut buffer = Vec::new();
        let previous = record::write(&key, &anchor, 1, 1, &key, &mut buffer)?;
        file.with_file(|file| file.write_sync(0, &mut buffer, SyncSite::Base)).map_err(io())?;
        storage.sync_dir(SyncSite::DirectoryBase).map_err(io())?;
        let end = End { offset: buffer.len() as u64, previous, sequence: 1 };
        let storage = storage.clone();
        Ok(SnapshotBuilder { storage, file, origin, anchor, end, covered: Vec::new(), accounts: 0, buffer })
    }

    /// Keeps proven ranges, all with one sync. When it returns `Ok` they are durable.
    ///
    /// # Errors
    /// When the disk fails or is full: then the same call can be made again.
    pub fn keep(&mut self, ranges: &[ProvenRange]) -> Result<(), StateError> {
        self.buffer.clear();
        let (key, mut end) = (*self.file.key(), self.end);
        let batch_start = end.sequence + 1;
        for range in ranges {
            end.sequence += 1;
            let (sequence, height) = (end.sequence, self.anchor.height.0);
            let place = record::Place { sequence, height, batch_start, previous: &end.previous };
            let bytes = 32 + 2 + 4 + range.accounts.len() * (20 + Account::BYTES);
            end.previous = record::frame(&key, &place, bytes, &mut self.buffer, |out| write(range, out));
        }
        let (offset, buffer) = (self.end.offset, &mut self.buffer);
        let written = self.file.with_file(|file| file.write_sync(offset, buffer, SyncSite::Base));
        written.map_err(StateError::io("keeping ranges of a snapshot"))?;
        self.end = End { offset: offset + self.buffer.len() as u64, ..end };
        self.covered.extend(ranges.iter().map(|range| (range.from, range.depth)));
        self.accounts += ranges.iter().map(|range| range.accounts.len() as u64).sum::<u64>();
        Ok(())
    }

    /// The block that this is the state after.
    #[must_use]
    pub const fn anchor(&self) -> &BlockRecord {
        &self.anchor
    }

    /// The ranges that are here: first place and depth of each.
    #[must_use]
    pub fn covered(&self) -> &[(Place, u16)] {
        &self.covered
    }

    /// Accounts that are here; some of them may be counted twice.
    #[must_use]
    pub const fn accounts(&self) -> u64 {
        self.accounts
    }

    /// Bytes on the disk.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.end.offset
    }

    /// Compares the root of all accounts with the chain's and makes the store that begins here.
    ///
    /// # Errors
    /// When a range is missing or wrong, which the root shows; when the disk fails.
    pub fn install(self, options: StoreOptions) -> Result<(), StateError> {
        let mut accounts = Vec::new();
        let (_, end) = read(&self.file, |range| {
            accounts.extend(range.accounts.into_iter().map(|(address, account)| (address, Some(account))));
        })?;
        let (computed, expected) = (Tree::new().update(&accounts).root(), self.anchor.expected_root);
        if computed != expected || end.previous != self.end.previous {
            return Err(StateError::RootMismatch { height: self.anchor.height.0, expected, computed });
        }
        let io = || StateError::io("syncing a snapshot");
        let at = self.end.offset;
        self.file.with_file(|file| file.write_sync(at, &mut Vec::new(), SyncSite::Base)).map_err(io())?;
        let base = Base {
            height: self.anchor.height.0,
            block_id: self.anchor.block_id,
            root: expected,
            bytes: at,
            hash: self.end.previous,
        };
        recovery::create(&self.storage, self.origin.root, self.origin.id, Some(base), options).map(drop)
    }

    /// Removes what was fetched: its height is kept by nobody any more.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn discard(self) -> Result<(), StateError> {
        remove(&self.storage)
    }
}

/// Removes an unfinished snapshot, if there is one.
pub(crate) fn remove<S: Storage>(storage: &S) -> Result<(), StateError> {
    let io = || StateError::io("removing a snapshot");
    if storage.open(NAME).map_err(io())?.is_some() {
        storage.remove(NAME).map_err(io())?;
    }
    Ok(())
}

fn write(range: &ProvenRange, out: &mut Vec<u8>) {
    out.put(&range.from);
    out.put_u16(range.depth);
    out.put_u32(range.accounts.len() as u32);
    for (address, account) in &range.accounts {
        out.put(&address.0);
        account.write(out);
    }
}

fn read_range(payload: &[u8]) -> Result<ProvenRange, DecodeError> {
    let mut reader = Reader::new(payload);
    let (from, depth) = (reader.array("first place")?, reader.u16("depth")?);
    let count = record::count(&mut reader, "accounts", 20 + Account::BYTES)?;
    let mut accounts = Vec::with_capacity(count);
    for _ in 0..count {
        accounts.push((Address(reader.array("address")?), Account::read(&mut reader)?));
    }
    reader.finish()?;
    Ok(ProvenRange { from, depth, accounts })
}

/// Follows the records as far as they go, and hands each range to `each`. `None` when not even the first is there.
fn read<F: StorageFile>(
    file: &Segment<F>,
    mut each: impl FnMut(ProvenRange),
) -> Result<(Option<BlockRecord>, End), StateError> {
    let mut end = End { offset: 0, previous: *file.key(), sequence: 0 };
    let mut anchor: Option<BlockRecord> = None;
    loop {
        let height = anchor.as_ref().map(|anchor| anchor.height.0);
        let record = file
            .record_at(end.offset, |header, payload| {
                let follows = (header.sequence, header.previous) == (end.sequence + 1, end.previous)
                    && height.is_none_or(|height| height == header.height);
                follows.then(|| (*header, payload.to_vec()))
            })
            .map_err(StateError::io("reading a snapshot's file"))?;
        let Some(Some((header, payload))) = record else { return Ok((anchor, end)) };
        let what = |error: DecodeError| damaged(end.offset, &error.to_string());
        if anchor.is_none() {
            anchor = Some(record::read(header.height, &payload).map_err(what)?);
        } else {
            each(read_range(&payload).map_err(what)?);
        }
        let offset = end.offset + header.record_bytes();
        end = End { offset, previous: header.hash, sequence: header.sequence };
    }
}

fn damaged(offset: u64, what: &str) -> StateError {
    StateError::BaseDamaged { what: format!("{NAME}, offset {offset}: {what}") }
}

/// Reads the whole file of a store that begins at `base`: the block, and every account.
pub(crate) fn load<S: Storage>(
    storage: &S,
    base: &Base,
    genesis_id: BlockId,
    genesis_root: Hash32,
) -> Result<(BlockRecord, Vec<(Address, Account)>), StateError> {
    let file = storage.open(NAME).map_err(StateError::io("opening a snapshot's file"))?;
    let Some(file) = file else { return Err(damaged(0, "the file is missing")) };
    let file = Segment::new(file, Origin { id: genesis_id, root: genesis_root }.key());
    let mut accounts = Vec::new();
    let (anchor, end) = read(&file, |range| accounts.extend(range.accounts))?;
    let Some(anchor) = anchor.filter(|_| (end.offset, end.previous) == (base.bytes, base.hash)) else {
        let what = format!("the record is damaged or missing, the file has {} bytes of them", base.bytes);
        return Err(damaged(end.offset, &what));
    };
    if (anchor.height, anchor.block_id) != (Height(base.height), base.block_id) {
        return Err(damaged(0, "it is the state after another block"));
    }
    Ok((anchor, accounts))
}
