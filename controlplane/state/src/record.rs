//! A block as one record of a segment.
//!
//! Layout, little-endian: hash (32), magic `u32`, payload length `u32`, sequence `u64`, height `u64`, sequence of
//! the first record of the same write `u64`, hash of the record before (32), payload, zeros up to a whole
//! sector. The hash is BLAKE3, keyed with the store's random key, of everything after it, zeros included. Every
//! record names the hash of the one before it (the first one that of genesis), so a record left over from a failed
//! or cut write never passes for the next one; and since nobody else knows the key, neither does a transaction
//! whose bytes are made to look like a record.

use crate::StateError;
use crate::storage::whole_sectors;
use roko_wire::codec::{DecodeError, Reader, Sink};
use roko_wire::{Account, Address, BlockId, Hash32, Height, TxId};

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 32 + 4 + 4 + 8 + 8 + 8 + 32;
/// Largest record: sixteen bodies of the largest size, room for receipts and changes of a full block.
pub const RECORD_BYTES_MAX: usize = 16 * roko_wire::limits::BLOCK_BYTES_MAX;
/// "RKB1" in a little-endian word: the record's format.
const MAGIC: u32 = u32::from_le_bytes(*b"RKB1");
/// Bytes of the hash, which it does not cover.
const HASH_BYTES: usize = 32;

/// What the store is given for one final block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitBlock {
    /// One above the last committed height.
    pub height: Height,
    /// The block's id.
    pub block_id: BlockId,
    /// The header's canonical layout.
    pub header: Vec<u8>,
    /// The body, opaque here.
    pub body: Vec<u8>,
    /// The certificates that make it final, opaque here.
    pub certificates: Vec<u8>,
    /// The receipts, opaque here.
    pub receipts: Vec<u8>,
    /// The transactions' ids in block order.
    pub tx_ids: Vec<TxId>,
    /// Every account the block changes, with its new value; `None` deletes it.
    pub changes: Vec<(Address, Option<Account>)>,
    /// The state root after the block.
    pub expected_root: Hash32,
}

/// A committed block as it is read back: the same shape.
pub type BlockRecord = CommitBlock;

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) hash: [u8; HASH_BYTES],
    pub(crate) payload_bytes: usize,
    pub(crate) sequence: u64,
    pub(crate) height: u64,
    pub(crate) batch_start: u64,
    pub(crate) previous: [u8; 32],
}

impl RecordHeader {
    /// Reads a header and checks its magic and length, not its hash.
    pub(crate) fn read(bytes: &[u8; HEADER_BYTES]) -> Option<RecordHeader> {
        let mut reader = Reader::new(bytes);
        let hash = reader.array("hash").ok()?;
        if reader.u32("magic").ok()? != MAGIC {
            return None;
        }
        let header = RecordHeader {
            hash,
            payload_bytes: reader.u32("payload length").ok()? as usize,
            sequence: reader.u64("sequence").ok()?,
            height: reader.u64("height").ok()?,
            batch_start: reader.u64("batch start").ok()?,
            previous: reader.array("previous hash").ok()?,
        };
        (header.payload_bytes <= RECORD_BYTES_MAX).then_some(header)
    }

    /// Bytes of the whole record on disk.
    pub(crate) const fn record_bytes(&self) -> u64 {
        whole_sectors((HEADER_BYTES + self.payload_bytes) as u64)
    }
}

/// Checks the hash of a whole record; `None` when it is not one.
pub(crate) fn check(key: &[u8; 32], record: &[u8]) -> Option<RecordHeader> {
    let header = RecordHeader::read(record.first_chunk()?)?;
    let whole = usize::try_from(header.record_bytes()).ok()?;
    let covered = record.get(HASH_BYTES..whole)?;
    (blake3::keyed_hash(key, covered) == header.hash).then_some(header)
}

/// The payload of a checked record.
pub(crate) fn payload<'a>(record: &'a [u8], header: &RecordHeader) -> &'a [u8] {
    &record[HEADER_BYTES..HEADER_BYTES + header.payload_bytes]
}

/// Appends a block's record to `out`; returns its hash.
pub(crate) fn write(
    key: &[u8; 32],
    block: &CommitBlock,
    sequence: u64,
    batch_start: u64,
    previous: &[u8; 32],
    out: &mut Vec<u8>,
) -> Result<[u8; 32], StateError> {
    let payload_bytes = payload_bytes(block);
    if payload_bytes > RECORD_BYTES_MAX {
        let height = block.height.0;
        return Err(StateError::TooLarge { height, bytes: payload_bytes, limit: RECORD_BYTES_MAX });
    }
    let place = Place { sequence, height: block.height.0, batch_start, previous };
    Ok(frame(key, &place, payload_bytes, out, |out| write_payload(block, out)))
}

/// Where a record stands in its chain.
pub(crate) struct Place<'a> {
    pub(crate) sequence: u64,
    pub(crate) height: u64,
    pub(crate) batch_start: u64,
    pub(crate) previous: &'a [u8; 32],
}

/// Appends a record whose payload `write` appends, of `payload_bytes`; returns its hash.
pub(crate) fn frame(
    key: &[u8; 32],
    place: &Place<'_>,
    payload_bytes: usize,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) -> [u8; 32] {
    let start = out.len();
    out.reserve(payload_bytes + HEADER_BYTES + 512);
    out.put(&[0; HASH_BYTES]);
    out.put_u32(MAGIC);
    out.put_u32(payload_bytes as u32);
    out.put_u64(place.sequence);
    out.put_u64(place.height);
    out.put_u64(place.batch_start);
    out.put(place.previous);
    write(out);
    debug_assert_eq!(out.len() - start, HEADER_BYTES + payload_bytes);
    out.resize(start + whole_sectors((out.len() - start) as u64) as usize, 0);
    let hash = *blake3::keyed_hash(key, &out[start + HASH_BYTES..]).as_bytes();
    out[start..start + HASH_BYTES].copy_from_slice(&hash);
    hash
}

/// Length of the payload's layout.
const fn payload_bytes(block: &CommitBlock) -> usize {
    let blobs = block.header.len() + block.body.len() + block.certificates.len() + block.receipts.len();
    let mut changes = 0;
    let mut index = 0;
    while index < block.changes.len() {
        changes += 21 + if block.changes.as_slice()[index].1.is_some() { Account::BYTES } else { 0 };
        index += 1;
    }
    32 + 32 + 4 + 32 * block.tx_ids.len() + 4 * 4 + blobs + 4 + changes
}

fn write_payload(block: &CommitBlock, out: &mut Vec<u8>) {
    out.put(&block.block_id.0);
    out.put(&block.expected_root.0);
    out.put_u32(block.tx_ids.len() as u32);
    block.tx_ids.iter().for_each(|id| out.put(&id.0));
    out.put_u32(block.changes.len() as u32);
    for (address, account) in &block.changes {
        out.put(&address.0);
        out.put_u8(u8::from(account.is_some()));
        if let Some(account) = account {
            account.write(out);
        }
    }
    for blob in [&block.header, &block.body, &block.certificates, &block.receipts] {
        out.put_u32(blob.len() as u32);
        out.put(blob);
    }
}

/// The part of a record that recovery needs: everything but the four blobs.
pub(crate) struct Digest {
    pub(crate) block_id: BlockId,
    pub(crate) root: Hash32,
    pub(crate) tx_ids: Vec<TxId>,
    pub(crate) changes: Vec<(Address, Option<Account>)>,
}

/// Reads a count whose items take at least `item_bytes` each, so a wrong one cannot make us allocate.
pub(crate) fn count(
    reader: &mut Reader<'_>,
    field: &'static str,
    item_bytes: usize,
) -> Result<usize, DecodeError> {
    let value = reader.u32(field)? as usize;
    let limit = reader.rest().len() / item_bytes;
    if value > limit {
        return Err(DecodeError::OverLimit { field, value: value as u64, limit: limit as u64 });
    }
    Ok(value)
}

/// Reads a payload's transaction ids only.
pub(crate) fn read_tx_ids(payload: &[u8]) -> Result<Vec<TxId>, DecodeError> {
    let mut reader = Reader::new(payload);
    reader.bytes("block id and root", 64)?;
    let transactions = count(&mut reader, "transactions", 32)?;
    (0..transactions).map(|_| reader.array("transaction id").map(TxId)).collect()
}

/// Reads a payload up to the blobs.
pub(crate) fn read_digest(reader: &mut Reader<'_>) -> Result<Digest, DecodeError> {
    let block_id = BlockId(reader.array("block id")?);
    let root = Hash32(reader.array("state root")?);
    let transactions = count(reader, "transactions", 32)?;
    let tx_ids =
        (0..transactions).map(|_| reader.array("transaction id").map(TxId)).collect::<Result<_, _>>()?;
    let changes = count(reader, "changes", 21)?;
    let changes = (0..changes).map(|_| read_change(reader)).collect::<Result<_, _>>()?;
    Ok(Digest { block_id, root, tx_ids, changes })
}

fn read_change(reader: &mut Reader<'_>) -> Result<(Address, Option<Account>), DecodeError> {
    let address = Address(reader.array("changed address")?);
    match reader.u8("change kind")? {
        0 => Ok((address, None)),
        1 => Ok((address, Some(Account::read(reader)?))),
        other => Err(DecodeError::BadValue { field: "change kind", value: u64::from(other) }),
    }
}

/// Reads a whole payload.
pub(crate) fn read(height: u64, payload: &[u8]) -> Result<BlockRecord, DecodeError> {
    let mut reader = Reader::new(payload);
    let Digest { block_id, root, tx_ids, changes } = read_digest(&mut reader)?;
    let mut blob = |field| {
        let len = count(&mut reader, field, 1)?;
        reader.bytes(field, len).map(<[u8]>::to_vec)
    };
    let (header, body) = (blob("header")?, blob("body")?);
    let (certificates, receipts) = (blob("certificates")?, blob("receipts")?);
    reader.finish()?;
    let height = Height(height);
    let expected_root = root;
    Ok(BlockRecord { height, block_id, header, body, certificates, receipts, tx_ids, changes, expected_root })
}
