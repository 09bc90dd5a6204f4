//! One batch of votes as a frame of the vote log.
//!
//! Layout, little-endian: BLAKE3 of everything after it (32), magic `u32`, number of records `u32`, payload length
//! `u32`, zero `u32`, frame number `u64`, sequence of the first record `u64`, watermark `u64`, then each record as
//! length `u16` and bytes, then zeros up to a whole sector.

use crate::storage::whole_sectors;
use roko_wire::codec::{Reader, Sink};

/// Largest record: a vote with its certificate fits a network frame, and this is above that.
pub const VOTE_BYTES_MAX: usize = 2048;
/// Bytes before the records.
pub(crate) const HEADER_BYTES: usize = 32 + 4 * 4 + 3 * 8;
const MAGIC: u32 = u32::from_le_bytes(*b"RKV1");

/// A frame as it is found in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Counts frames.
    pub(crate) number: u64,
    /// Sequence of the first record; the next frame's when there is none.
    pub(crate) first: u64,
    /// Records below this sequence are not needed any more.
    pub(crate) watermark: u64,
    pub(crate) records: Vec<Vec<u8>>,
}

/// Bytes on disk of a frame with these records.
pub(crate) fn frame_bytes(records: &[&[u8]]) -> u64 {
    let payload: usize = records.iter().map(|record| 2 + record.len()).sum();
    whole_sectors((HEADER_BYTES + payload) as u64)
}

/// Writes a frame into `out`, replacing what is there.
pub(crate) fn encode(number: u64, first: u64, watermark: u64, records: &[&[u8]], out: &mut Vec<u8>) {
    out.clear();
    let whole = frame_bytes(records) as usize;
    let payload: usize = records.iter().map(|record| 2 + record.len()).sum();
    out.put(&[0; 32]);
    out.put_u32(MAGIC);
    out.put_u32(records.len() as u32);
    out.put_u32(payload as u32);
    out.put_u32(0);
    out.put_u64(number);
    out.put_u64(first);
    out.put_u64(watermark);
    for record in records {
        out.put_u16(record.len() as u16);
        out.put(record);
    }
    out.resize(whole, 0);
    let hash = blake3::hash(&out[32..]);
    out[..32].copy_from_slice(hash.as_bytes());
}

/// Whether a frame, whole or not, seems to begin here.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    bytes.get(32..36) == Some(MAGIC.to_le_bytes().as_slice())
}

/// Reads the frame at the start of `bytes`; its length on disk beside it. `None` when there is no whole one.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Frame, u64)> {
    if !begins(bytes) {
        return None;
    }
    let mut reader = Reader::new(bytes.get(..HEADER_BYTES)?);
    let hash = reader.array::<32>("hash").ok()?;
    reader.u32("magic").ok()?;
    let count = reader.u32("records").ok()? as usize;
    let payload = reader.u32("payload length").ok()? as usize;
    reader.u32("zero").ok()?;
    let number = reader.u64("frame number").ok()?;
    let (first, watermark) = (reader.u64("first record").ok()?, reader.u64("watermark").ok()?);
    let whole = whole_sectors((HEADER_BYTES + payload) as u64);
    let covered = bytes.get(32..usize::try_from(whole).ok()?)?;
    if blake3::hash(covered) != hash {
        return None;
    }
    let mut reader = Reader::new(&bytes[HEADER_BYTES..HEADER_BYTES + payload]);
    let mut records = Vec::new();
    for _ in 0..count {
        let len = reader.count_u16("record length", VOTE_BYTES_MAX).ok()?;
        records.push(reader.bytes("record", len).ok()?.to_vec());
    }
    reader.finish().ok()?;
    Some((Frame { number, first, watermark, records }, whole))
}
