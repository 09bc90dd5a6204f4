//! Repairing a damaged store: what stands before the damage is kept, the rest is cut and comes again from peers.
//!
//! The superblock goes first, then the damaged segment's end, then the segments behind it: stopped anywhere, the store
//! still counts as damaged and can be repaired again, and what was kept stays.

use crate::base;
use crate::recovery::{Replay, find_existing};
use crate::segment::{self, Segment};
use crate::storage::{Storage, StorageFile, SyncSite};
use crate::{StateError, StoreOptions, Tree};
use roko_wire::{Account, Address, BlockId, Height};

/// What a repair kept and cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The last block that was kept.
    pub kept: Height,
    /// The file in which the damage is.
    pub segment: String,
    /// Where it begins, bytes.
    pub offset: u64,
    /// Files behind it, which were removed.
    pub removed: Vec<String>,
}

/// Cuts a damaged store where the damage begins. Only for a store that cannot be opened: a torn end is no damage, and
/// opening cuts it.
///
/// # Errors
/// When neither superblock can be read, or the snapshot that the store begins from is damaged: nothing can be kept then. When the store is another chain's, or the disk fails.
pub fn repair<S: Storage>(
    storage: &S,
    genesis: &[(Address, Account)],
    genesis_id: BlockId,
    options: StoreOptions,
) -> Result<Repair, StateError> {
    let genesis: Vec<_> = genesis.iter().map(|(address, account)| (*address, Some(*account))).collect();
    let root = Tree::new().update(&genesis).root();
    let (superblock, file) = find_existing(storage, genesis_id, root)?;
    if let Some(base) = &superblock.base {
        base::load(storage, base, genesis_id, root)?;
    }
    let mut replay = Replay::new(superblock, Vec::new(), options);
    let (mut number, mut kept) = (0, None);
    while number < superblock.segments {
        let opened = storage.open(&segment::name(number)).map_err(StateError::io("opening a segment"))?;
        let Some(opened) = opened else { break };
        let opened = Segment::new(opened, superblock.key);
        let before = replay.last_state().0;
        // What is wrong there ends the good part; opening has said what it is.
        let _ = replay.records(number, &opened);
        if number > 0 && replay.last_state().0 == before {
            break;
        }
        kept = Some((opened, replay.end_offset()));
        number += 1;
    }
    let Some((newest, offset)) = kept else {
        let what = format!("{} is missing, so that nothing can be kept", segment::name(0));
        return Err(StateError::Corrupt { what });
    };
    let last = number - 1;
    let mut next = superblock;
    next.sequence += 1;
    next.segments = number;
    (next.durable_height, next.root) = replay.last_state();
    let io = || StateError::io("repairing the store");
    next.write_sync(&file, SyncSite::SuperblockReopen, &mut Vec::new()).map_err(io())?;
    newest.with_file(|file| zero_from(file, offset)).map_err(io())?;
    let removed = remove_behind(storage, number)?;
    Ok(Repair { kept: Height(next.durable_height), segment: segment::name(last), offset, removed })
}

fn zero_from(file: &impl StorageFile, offset: u64) -> std::io::Result<()> {
    let (mut at, end) = (offset, file.len_bytes()?);
    let zeros = vec![0; 1 << 16];
    while at < end {
        let bytes = (end - at).min(zeros.len() as u64) as usize;
        file.write_at(at, &zeros[..bytes])?;
        at += bytes as u64;
    }
    file.write_sync(offset, &mut Vec::new(), SyncSite::RecordReopen)
}

fn remove_behind<S: Storage>(storage: &S, segments: u32) -> Result<Vec<String>, StateError> {
    let io = || StateError::io("removing segments behind the damage");
    let mut removed: Vec<String> = storage.list().map_err(io())?;
    removed.retain(|name| segment::number(name).is_some_and(|number| number >= segments));
    removed.sort();
    for name in &removed {
        storage.remove(name).map_err(io())?;
    }
    storage.sync_dir(SyncSite::DirectoryRoll).map_err(io())?;
    Ok(removed)
}
