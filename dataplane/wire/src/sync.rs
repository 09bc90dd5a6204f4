//! Catch-up: what members say to each other over a stream to bring one of them to the chain's end.
//!
//! Messages are framed by a length (`u32`, little-endian, of what follows it) and begin with their kind. The asker
//! sends questions one at a time; answers come in order.
//!
//! ```text
//! 1 GetTip                      ->  2 Tip       height u64 | view u64 | block id (32) | first height u64
//! 3 GetBlocks  from u64 | count u16  ->  4 Block     header | seals | body    as many as there are, at most `count`,
//!                                   5 End       ends the answer
//! 6 GetSnapshot                 ->  7 Snapshot  anchor          or 5 End, when there is none
//! 8 GetRange   height u64 | from (32) | depth u16  ->  9 Range  a subtree, or 5 End, when that height is not kept
//! ```
//! A block's header and seals are canonical layouts; its body is the rest, as long as the header says. What snapshots
//! are made of stands in [`crate::snapshot`].

use crate::block::Header;
use crate::codec::{DecodeError, Reader, Sink};
use crate::ids::{BlockId, Hash32, Height, View};
use crate::limits::{BLOCK_BYTES_MAX, SYNC_BLOCKS_MAX};
use crate::snapshot::{Anchor, STATE_DEPTH_MAX, StateRange};
use crate::vote::Certificate;

/// Bytes of a frame's length field.
pub const LENGTH_BYTES: usize = 4;
/// Largest message: a body of the largest size, and half a megabyte of header and certificates.
pub const SYNC_BYTES_MAX: usize = BLOCK_BYTES_MAX + 512 * 1024;

/// What stands beside a final block: enough to send it again, to prove it final, and to start from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seals {
    /// The proposer's ed25519 signature.
    pub signature: Signature,
    /// What justifies it: the certificates of its parent and of the views between.
    pub justification: Vec<Certificate>,
    /// What proves it final; or what certifies it, when a descendant's proof makes it final.
    pub proof: Vec<Certificate>,
}

/// An ed25519 signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl Default for Signature {
    fn default() -> Signature {
        Signature([0; 64])
    }
}

impl Seals {
    /// Appends the layout: signature (64), then for justification and proof a count (`u16`) and the certificates.
    pub fn write(&self, out: &mut impl Sink) {
        out.put(&self.signature.0);
        write_certificates(&self.justification, out);
        write_certificates(&self.proof, out);
    }

    /// Reads the layout.
    ///
    /// # Errors
    /// When a field is cut short or means nothing.
    pub fn read(reader: &mut Reader<'_>) -> Result<Seals, DecodeError> {
        let signature = Signature(reader.array("proposal signature")?);
        Ok(Seals { signature, justification: read_certificates(reader)?, proof: read_certificates(reader)? })
    }
}

/// Appends certificates: a count (`u16`), then each.
pub(crate) fn write_certificates(list: &[Certificate], out: &mut impl Sink) {
    out.put_u16(list.len() as u16);
    list.iter().for_each(|certificate| certificate.write(out));
}

pub(crate) fn read_certificates(reader: &mut Reader<'_>) -> Result<Vec<Certificate>, DecodeError> {
    let count = reader.u16("certificate count")?;
    (0..count).map(|_| Certificate::read(reader)).collect()
}

/// A final block as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBlock<'a> {
    /// Its header.
    pub header: Header,
    /// What stands beside it.
    pub seals: Seals,
    /// Its body's archive.
    pub body: &'a [u8],
}

/// A parsed message.
#[derive(Clone, Debug, PartialEq, Eq)]
// A message lives for the length of one match.
#[allow(clippy::large_enum_variant)]
pub enum SyncMessage<'a> {
    /// Asks where the chain's end is.
    GetTip,
    /// The last final block.
    Tip {
        /// Its height.
        height: Height,
        /// Its view.
        view: View,
        /// Its id.
        block: BlockId,
        /// Height of the first block that is there: above 1 where a snapshot was the beginning.
        first: Height,
    },
    /// Asks for final blocks, oldest first.
    GetBlocks {
        /// The first one's height.
        from: Height,
        /// How many, at most.
        count: u16,
    },
    /// One of them.
    Block(SealedBlock<'a>),
    /// There are no more for this question.
    End,
    /// Asks for the newest snapshot of the state.
    GetSnapshot,
    /// What it is the state after.
    Snapshot(Anchor<'a>),
    /// Asks for accounts of a snapshot.
    GetRange {
        /// The snapshot's height.
        height: Height,
        /// The place at which the subtree begins.
        from: Hash32,
        /// How many bits its places share at least; the others of `from` are zero. A subtree of one account or none
        /// may be larger.
        depth: u16,
    },
    /// The largest subtree there that fits an answer.
    Range(StateRange),
}

const GET_TIP: u8 = 1;
const TIP: u8 = 2;
const GET_BLOCKS: u8 = 3;
const BLOCK: u8 = 4;
const END: u8 = 5;
const GET_SNAPSHOT: u8 = 6;
const SNAPSHOT: u8 = 7;
const GET_RANGE: u8 = 8;
const RANGE: u8 = 9;

impl<'a> SyncMessage<'a> {
    /// Appends the message without its length.
    pub fn write(&self, out: &mut impl Sink) {
        match self {
            SyncMessage::GetTip => out.put_u8(GET_TIP),
            SyncMessage::Tip { height, view, block, first } => {
                out.put_u8(TIP);
                out.put_u64(height.0);
                out.put_u64(view.0);
                out.put(&block.0);
                out.put_u64(first.0);
            }
            SyncMessage::GetBlocks { from, count } => {
                out.put_u8(GET_BLOCKS);
                out.put_u64(from.0);
                out.put_u16(*count);
            }
            SyncMessage::Block(block) => {
                out.put_u8(BLOCK);
                block.header.write(out);
                block.seals.write(out);
                out.put(block.body);
            }
            SyncMessage::End => out.put_u8(END),
            SyncMessage::GetSnapshot => out.put_u8(GET_SNAPSHOT),
            SyncMessage::Snapshot(anchor) => {
                out.put_u8(SNAPSHOT);
                anchor.write(out);
            }
            SyncMessage::GetRange { height, from, depth } => {
                out.put_u8(GET_RANGE);
                out.put_u64(height.0);
                out.put(&from.0);
                out.put_u16(*depth);
            }
            SyncMessage::Range(range) => {
                out.put_u8(RANGE);
                range.write(out);
            }
        }
    }

    /// Reads a message without its length.
    ///
    /// # Errors
    /// When a field is cut short, above its limit or means nothing, or bytes are left.
    pub fn read(bytes: &'a [u8]) -> Result<SyncMessage<'a>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let message = match reader.u8("kind")? {
            GET_TIP => SyncMessage::GetTip,
            TIP => SyncMessage::Tip {
                height: Height(reader.u64("height")?),
                view: View(reader.u64("view")?),
                block: BlockId(reader.array("block id")?),
                first: Height(reader.u64("first height")?),
            },
            GET_BLOCKS => read_get_blocks(&mut reader)?,
            BLOCK => {
                let header = Header::read(&mut reader)?;
                let seals = Seals::read(&mut reader)?;
                let body = reader.bytes("body", header.body_bytes as usize)?;
                SyncMessage::Block(SealedBlock { header, seals, body })
            }
            END => SyncMessage::End,
            GET_SNAPSHOT => SyncMessage::GetSnapshot,
            SNAPSHOT => SyncMessage::Snapshot(Anchor::read(&mut reader)?),
            GET_RANGE => SyncMessage::GetRange {
                height: Height(reader.u64("snapshot height")?),
                from: Hash32(reader.array("first place")?),
                depth: reader.count_u16("depth", STATE_DEPTH_MAX)? as u16,
            },
            RANGE => SyncMessage::Range(StateRange::read(&mut reader)?),
            other => return Err(DecodeError::BadValue { field: "kind", value: u64::from(other) }),
        };
        reader.finish()?;
        Ok(message)
    }
}

fn read_get_blocks<'a>(reader: &mut Reader<'_>) -> Result<SyncMessage<'a>, DecodeError> {
    let (from, count) = (Height(reader.u64("first height")?), reader.u16("block count")?);
    if from.0 == 0 {
        return Err(DecodeError::BadValue { field: "first height", value: 0 });
    }
    match usize::from(count) {
        0 => Err(DecodeError::BadValue { field: "block count", value: 0 }),
        1..=SYNC_BLOCKS_MAX => Ok(SyncMessage::GetBlocks { from, count }),
        _ => {
            let (value, limit) = (u64::from(count), SYNC_BLOCKS_MAX as u64);
            Err(DecodeError::OverLimit { field: "block count", value, limit })
        }
    }
}

/// Appends a block as the store keeps it: header and seals are laid out already.
pub fn write_stored_block(header: &[u8], seals: &[u8], body: &[u8], out: &mut impl Sink) {
    out.put_u8(BLOCK);
    [header, seals, body].into_iter().for_each(|part| out.put(part));
}
