//! The superblock: which segments exist, and up to where they are known to be durable.
//!
//! Two slots are written in turn, each one sector, so that a crash damages at most the one being written; the
//! newest valid one wins. A segment may hold records only after a superblock that lists it is durable.
//! Layout of a slot: BLAKE3 of the rest of the sector (32), magic (8), format version `u32`, number of segments
//! `u32`, sequence `u64`, durable height `u64`, state root at that height (32), genesis block id (32), genesis
//! state root (32), key of the record hashes (32); in format 2 what the store begins from: height `u64`, block id (32),
//! state root (32), bytes `u64` of the file of its accounts ([`crate::base`]), hash of that file's last record (32); zeros.
//! A store that begins at genesis is written in format 1. Segments are numbered from 0 without gaps, so their number is
//! their list.

use crate::StateError;
use crate::storage::{SECTOR_BYTES, StorageFile, SyncSite};
use roko_wire::codec::{Reader, Sink};
use roko_wire::{BlockId, Hash32};
use std::io;

/// The file's name.
pub const NAME: &str = "superblock";
/// Distance of the two slots: a page, so that they share neither a sector nor a physical block of 4 KiB.
pub const SLOT_STRIDE_BYTES: u64 = 4096;
/// Bytes of the file.
pub const FILE_BYTES: u64 = 2 * SLOT_STRIDE_BYTES;
/// The format of a store that begins at genesis.
pub const FORMAT: u32 = 1;
/// The format of a store that begins at a snapshot.
pub const FORMAT_BASE: u32 = 2;
const MAGIC: [u8; 8] = *b"ROKOSUPR";
const SLOT_BYTES: usize = SECTOR_BYTES as usize;

/// What the store knows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Counts superblocks; the higher one is newer.
    pub sequence: u64,
    /// Segments 0 up to this one, exclusive, exist.
    pub segments: u32,
    /// Every block up to this height was durable when the superblock was written.
    pub durable_height: u64,
    /// The state root at that height.
    pub root: Hash32,
    /// The chain's genesis block.
    pub genesis_id: BlockId,
    /// The state root of genesis.
    pub genesis_root: Hash32,
    /// Random, fixed when the store is created: the key of every record's hash.
    pub key: [u8; 32],
    /// What the store begins from, when that is not genesis.
    pub base: Option<Base>,
}

/// A snapshot that a store begins from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// The height of the block that it is the state after.
    pub height: u64,
    /// That block.
    pub block_id: BlockId,
    /// The state root after it.
    pub root: Hash32,
    /// Bytes of the file that holds the accounts.
    pub bytes: u64,
    /// Hash of that file's last record, which chains to all others.
    pub hash: [u8; 32],
}

/// What both slots say.
pub(crate) struct Found {
    /// The newest valid one.
    pub(crate) newest: Option<Superblock>,
    /// A slot that holds something that is not a superblock (a slot never written is all zeros).
    pub(crate) damaged_slot: Option<u8>,
}

impl Superblock {
    /// Where this one is written: the slots take turns.
    const fn offset(&self) -> u64 {
        (self.sequence % 2) * SLOT_STRIDE_BYTES
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.put(&[0; 32]);
        out.put(&MAGIC);
        out.put_u32(if self.base.is_some() { FORMAT_BASE } else { FORMAT });
        out.put_u32(self.segments);
        out.put_u64(self.sequence);
        out.put_u64(self.durable_height);
        out.put(&self.root.0);
        out.put(&self.genesis_id.0);
        out.put(&self.genesis_root.0);
        out.put(&self.key);
        if let Some(base) = &self.base {
            out.put_u64(base.height);
            out.put(&base.block_id.0);
            out.put(&base.root.0);
            out.put_u64(base.bytes);
            out.put(&base.hash);
        }
        out.resize(SLOT_BYTES, 0);
        let hash = blake3::hash(&out[32..]);
        out[..32].copy_from_slice(hash.as_bytes());
    }

    /// Reads a slot; `Ok(None)` when it is not a valid superblock.
    fn decode(slot: &[u8; SLOT_BYTES]) -> Result<Option<Superblock>, StateError> {
        if blake3::hash(&slot[32..]) != slot[..32] || slot[32..40] != MAGIC {
            return Ok(None);
        }
        let mut reader = Reader::new(&slot[40..]);
        let decoded = (|| {
            let (format, segments) = (reader.u32("format")?, reader.u32("segments")?);
            let (sequence, durable_height) = (reader.u64("sequence")?, reader.u64("durable height")?);
            let root = Hash32(reader.array("root")?);
            let genesis_id = BlockId(reader.array("genesis id")?);
            let genesis_root = Hash32(reader.array("genesis root")?);
            let key = reader.array("key")?;
            let base = if format == FORMAT_BASE { Some(read_base(&mut reader)?) } else { None };
            Ok::<_, roko_wire::codec::DecodeError>((
                format,
                Superblock { sequence, segments, durable_height, root, genesis_id, genesis_root, key, base },
            ))
        })();
        match decoded {
            Ok((FORMAT | FORMAT_BASE, superblock)) => Ok(Some(superblock)),
            Ok((found, _)) => Err(StateError::WrongFormat { found, known: FORMAT_BASE }),
            Err(_) => Ok(None),
        }
    }

    /// Writes this superblock into its slot, durably.
    pub(crate) fn write_sync(
        &self,
        file: &impl StorageFile,
        site: SyncSite,
        buffer: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.encode(buffer);
        file.write_sync(self.offset(), buffer, site)
    }

    /// Reads both slots.
    pub(crate) fn find(file: &impl StorageFile) -> Result<Found, StateError> {
        let len = file.len_bytes().map_err(StateError::io("reading the superblock's length"))?;
        let mut found = Found { newest: None, damaged_slot: None };
        for index in 0..2_u8 {
            let offset = u64::from(index) * SLOT_STRIDE_BYTES;
            let mut slot = [0; SLOT_BYTES];
            if offset + SECTOR_BYTES <= len {
                file.read_at(offset, &mut slot).map_err(StateError::io("reading the superblock"))?;
            }
            match Superblock::decode(&slot)? {
                Some(superblock) if superblock.offset() == offset => {
                    if found.newest.is_none_or(|newest| newest.sequence < superblock.sequence) {
                        found.newest = Some(superblock);
                    }
                }
                _ if slot.iter().all(|byte| *byte == 0) => {}
                _ => found.damaged_slot = Some(index),
            }
        }
        Ok(found)
    }
}

fn read_base(reader: &mut Reader<'_>) -> Result<Base, roko_wire::codec::DecodeError> {
    Ok(Base {
        height: reader.u64("base height")?,
        block_id: BlockId(reader.array("base block id")?),
        root: Hash32(reader.array("base root")?),
        bytes: reader.u64("base bytes")?,
        hash: reader.array("base hash")?,
    })
}
