//! Blocks: a header with a canonical layout, and a body that is an rkyv archive read in place.

use crate::codec::{DecodeError, Reader, Sink};
use crate::ids::{BlockId, ChainId, Epoch, Hash32, Height, TxId, ValidatorIndex, View};
use crate::limits::{
    BLOCK_BYTES_MAX, BLOCK_TXS_MAX, CHUNK_DATA_BYTES, STAMP_DEPTH_MAX, TX_BYTES_MAX, VALIDATORS_MAX,
};
use crate::merkle;
use crate::nano::NanoMoment;
use crate::stamp::{SignedRoot, Stamp, StampSource};
use rkyv::{Archive, Serialize};
use sha2::{Digest, Sha256};

/// The version that this code writes.
pub const HEADER_VERSION: u16 = 1;

/// A block's header. Its id commits to everything in it, the justification included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Chain it belongs to.
    pub chain_id: ChainId,
    /// Epoch whose validators vote on it.
    pub epoch: Epoch,
    /// View it was proposed in.
    pub view: View,
    /// Its height.
    pub height: Height,
    /// Its parent's id.
    pub parent: BlockId,
    /// Hash of the certificates that justify it.
    pub justification_hash: Hash32,
    /// Who proposed it.
    pub proposer: ValidatorIndex,
    /// When it was proposed, by the proposer's clock.
    pub time: NanoMoment,
    /// Every stamp in the body is below it, every stamp in the next block at or above it.
    pub watermark: NanoMoment,
    /// Merkle root over the transactions with their moments and stamps.
    pub tx_root: Hash32,
    /// Merkle root over the body's chunks.
    pub chunk_root: Hash32,
    /// Bytes of the body.
    pub body_bytes: u32,
    /// Transactions in the body.
    pub tx_count: u32,
    /// State root after the parent's execution.
    pub parent_state_root: Hash32,
    /// Root of the parent's receipts.
    pub parent_receipts_root: Hash32,
    /// Most gas of the body's transactions together.
    pub gas_limit: u64,
    /// Base fee per gas, smallest unit.
    pub base_fee: u128,
    /// Root of the next epoch's validator set, in an epoch's last block.
    pub next_set_root: Option<Hash32>,
}

impl Header {
    /// Bytes of the canonical layout without a next set root; one with it has 32 more.
    pub const BYTES_MIN: usize = 2 + 4 * 8 + 32 + 32 + 2 + 16 + 16 + 32 + 32 + 4 + 4 + 32 + 32 + 8 + 16 + 1;

    /// Appends the canonical layout: the fields in order, little-endian, after a 16-bit version.
    pub fn write(&self, out: &mut impl Sink) {
        out.put_u16(HEADER_VERSION);
        out.put_u64(self.chain_id.0);
        out.put_u64(self.epoch.0);
        out.put_u64(self.view.0);
        out.put_u64(self.height.0);
        out.put(&self.parent.0);
        out.put(&self.justification_hash.0);
        out.put_u16(self.proposer.0);
        out.put_u128(self.time.0);
        out.put_u128(self.watermark.0);
        out.put(&self.tx_root.0);
        out.put(&self.chunk_root.0);
        out.put_u32(self.body_bytes);
        out.put_u32(self.tx_count);
        out.put(&self.parent_state_root.0);
        out.put(&self.parent_receipts_root.0);
        out.put_u64(self.gas_limit);
        out.put_u128(self.base_fee);
        out.put_u8(u8::from(self.next_set_root.is_some()));
        if let Some(root) = &self.next_set_root {
            out.put(&root.0);
        }
    }

    /// Reads the canonical layout.
    pub fn read(reader: &mut Reader<'_>) -> Result<Header, DecodeError> {
        let version = reader.u16("header version")?;
        if version != HEADER_VERSION {
            return Err(DecodeError::BadValue { field: "header version", value: u64::from(version) });
        }
        Ok(Header {
            chain_id: ChainId(reader.u64("header chain id")?),
            epoch: Epoch(reader.u64("header epoch")?),
            view: View(reader.u64("header view")?),
            height: Height(reader.u64("header height")?),
            parent: BlockId(reader.array("header parent")?),
            justification_hash: Hash32(reader.array("justification hash")?),
            proposer: crate::vote::read_signer(reader)?,
            time: NanoMoment(reader.u128("header time")?),
            watermark: NanoMoment(reader.u128("watermark")?),
            tx_root: Hash32(reader.array("transaction root")?),
            chunk_root: Hash32(reader.array("chunk root")?),
            body_bytes: read_limited(reader, "body bytes", BLOCK_BYTES_MAX)?,
            tx_count: read_limited(reader, "transaction count", BLOCK_TXS_MAX)?,
            parent_state_root: Hash32(reader.array("parent state root")?),
            parent_receipts_root: Hash32(reader.array("parent receipts root")?),
            gas_limit: reader.u64("gas limit")?,
            base_fee: reader.u128("base fee")?,
            next_set_root: match reader.u8("next set flag")? {
                0 => None,
                1 => Some(Hash32(reader.array("next set root")?)),
                flag => return Err(DecodeError::BadValue { field: "next set flag", value: u64::from(flag) }),
            },
        })
    }

    /// The block's id: SHA-256 of a domain string and the canonical layout.
    #[must_use]
    pub fn id(&self) -> BlockId {
        let mut hasher = Sha256::new();
        hasher.put(b"roko/header/1");
        self.write(&mut hasher);
        BlockId(hasher.finalize().into())
    }
}

fn read_limited(reader: &mut Reader<'_>, field: &'static str, limit: usize) -> Result<u32, DecodeError> {
    let value = reader.u32(field)?;
    if value as usize > limit {
        return Err(DecodeError::OverLimit { field, value: u64::from(value), limit: limit as u64 });
    }
    Ok(value)
}

/// The signed root of a stamp batch, as a body keeps it.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct BodyBatch {
    /// Ingress validator.
    pub ingress: u16,
    /// Leaves of the batch's tree.
    pub leaves: u8,
    /// Root of the tree.
    pub root: [u8; 32],
    /// ed25519 signature over the root.
    pub signature: [u8; 64],
}

/// One transaction of a body, in chain order. Its bytes and its stamp's path lie in the body's flat arrays.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct BodyTx {
    /// Its final, unique NanoMoment.
    pub moment: u128,
    /// The stamp's time.
    pub stamp_time: u128,
    /// The stamp's error bound, nanoseconds.
    pub bound_ns: u64,
    /// The stamp's source.
    pub source: u8,
    /// The leaf's index in its batch.
    pub leaf_index: u8,
    /// Hashes of the path in [`Body::paths`]; they follow those of the transaction before.
    pub path_len: u8,
    /// The batch in [`Body::batches`].
    pub batch: u32,
    /// Wire bytes in [`Body::tx_bytes`]; they follow those of the transaction before.
    pub tx_len: u32,
}

/// A block's body: four flat arrays, so that it is written by four copies and read with none.
#[derive(Archive, Serialize, Clone, Debug, Default)]
pub struct Body {
    /// Stamp batches that the transactions refer to.
    pub batches: Vec<BodyBatch>,
    /// Transactions in chain order.
    pub txs: Vec<BodyTx>,
    /// Merkle paths of the stamps, one after the other.
    pub paths: Vec<[u8; 32]>,
    /// Wire bytes of the transactions, one after the other.
    pub tx_bytes: Vec<u8>,
}

/// A body that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The archive's structure is invalid.
    #[error("the body is not a valid archive")]
    Archive,
    /// A transaction refers outside the body's arrays, or they hold more than the transactions refer to.
    #[error("transaction {index} and the body's arrays do not fit: {what}")]
    Range {
        /// The transaction, or the count when something is left over.
        index: usize,
        /// Which array.
        what: &'static str,
    },
}

/// One transaction of a checked body.
#[derive(Clone, Copy, Debug)]
pub struct BodyEntry<'a> {
    /// Its final NanoMoment.
    pub moment: NanoMoment,
    /// Its stamp.
    pub stamp: Stamp,
    /// The batch's index in the body.
    pub batch: usize,
    /// The leaf's index in its batch.
    pub leaf_index: usize,
    /// The stamp's Merkle path, raw.
    pub path: &'a [[u8; 32]],
    /// The transaction's wire bytes.
    pub wire: &'a [u8],
}

/// A checked body, read in place.
#[derive(Clone, Copy)]
pub struct BodyView<'a> {
    archived: &'a ArchivedBody,
}

impl Body {
    /// Empties the body and keeps its memory.
    pub fn clear(&mut self) {
        self.batches.clear();
        self.txs.clear();
        self.paths.clear();
        self.tx_bytes.clear();
    }
}

impl<'a> BodyView<'a> {
    /// Checks `bytes` and gives access to the body in them. Linear in the number of transactions.
    pub fn access(bytes: &'a [u8]) -> Result<BodyView<'a>, BodyError> {
        let archived =
            rkyv::access::<ArchivedBody, rkyv::rancor::Failure>(bytes).map_err(|_| BodyError::Archive)?;
        let view = BodyView { archived };
        view.check_ranges()?;
        Ok(view)
    }

    fn check_ranges(&self) -> Result<(), BodyError> {
        let body = self.archived;
        let count = body.txs.len();
        let bad = |index, what| Err(BodyError::Range { index, what });
        // A validator's index is below the limit everywhere, so that a bitmap or a set can be indexed by it.
        if body.batches.iter().any(|batch| usize::from(batch.ingress.to_native()) >= VALIDATORS_MAX) {
            return bad(count, "ingress validator");
        }
        if count > BLOCK_TXS_MAX {
            return bad(count, "more transactions than a block may hold");
        }
        if body.batches.len() > count {
            return bad(count, "more stamp batches than transactions");
        }
        let (mut path_end, mut tx_end) = (0usize, 0usize);
        for (index, tx) in body.txs.iter().enumerate() {
            if tx.batch.to_native() as usize >= body.batches.len() {
                return bad(index, "batch");
            }
            if StampSource::from_byte(tx.source).is_none() {
                return bad(index, "clock source");
            }
            if usize::from(tx.path_len) > STAMP_DEPTH_MAX || tx.tx_len.to_native() as usize > TX_BYTES_MAX {
                return bad(index, "length over its limit");
            }
            path_end += usize::from(tx.path_len);
            tx_end += tx.tx_len.to_native() as usize;
        }
        if path_end != body.paths.len() {
            return bad(count, "paths");
        }
        if tx_end != body.tx_bytes.len() {
            return bad(count, "transaction bytes");
        }
        Ok(())
    }

    /// How many transactions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.archived.txs.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.archived.txs.is_empty()
    }

    /// The signed root of batch `index`.
    #[must_use]
    pub fn batch(&self, index: usize) -> Option<SignedRoot> {
        let batch = self.archived.batches.get(index)?;
        Some(SignedRoot {
            ingress: ValidatorIndex(batch.ingress.to_native()),
            leaves: batch.leaves,
            root: Hash32(batch.root),
            signature: batch.signature,
        })
    }

    /// How many stamp batches.
    #[must_use]
    pub fn batch_count(&self) -> usize {
        self.archived.batches.len()
    }

    /// The transactions in chain order.
    pub fn entries(&self) -> impl Iterator<Item = BodyEntry<'a>> + use<'a> {
        let body = self.archived;
        let (mut paths, mut tx_bytes) = (&body.paths[..], &body.tx_bytes[..]);
        body.txs.iter().map(move |tx| {
            let (path, paths_left) = paths.split_at(usize::from(tx.path_len));
            let (wire, bytes_left) = tx_bytes.split_at(tx.tx_len.to_native() as usize);
            (paths, tx_bytes) = (paths_left, bytes_left);
            let batch = tx.batch.to_native() as usize;
            BodyEntry {
                moment: NanoMoment(tx.moment.to_native()),
                stamp: Stamp {
                    time: NanoMoment(tx.stamp_time.to_native()),
                    bound_ns: tx.bound_ns.to_native(),
                    source: StampSource::from_byte(tx.source).expect("checked on access"),
                    ingress: ValidatorIndex(body.batches[batch].ingress.to_native()),
                },
                batch,
                leaf_index: usize::from(tx.leaf_index),
                path,
                wire,
            }
        })
    }
}

/// The leaf of one transaction in a block's transaction tree: id, moment, stamp.
#[must_use]
pub fn tx_leaf(id: &TxId, moment: NanoMoment, stamp: &Stamp) -> Hash32 {
    merkle::leaf(&[
        b"roko/tx-leaf/1",
        &id.0,
        &moment.to_le_bytes(),
        &stamp.time.to_le_bytes(),
        &stamp.bound_ns.to_le_bytes(),
        &[stamp.source.to_byte()],
        &stamp.ingress.0.to_le_bytes(),
    ])
}

/// The leaf of chunk `index` of a body.
#[must_use]
pub fn chunk_leaf(index: u32, data: &[u8]) -> Hash32 {
    merkle::leaf(&[b"roko/chunk-leaf/1", &index.to_le_bytes(), data])
}

/// Appends the leaves of a body's chunks to `out`, in order.
pub fn chunk_leaves(body: &[u8], out: &mut Vec<Hash32>) {
    out.extend(body.chunks(CHUNK_DATA_BYTES).enumerate().map(|(index, data)| chunk_leaf(index as u32, data)));
}

/// How many chunks a body of `body_bytes` has.
#[must_use]
pub const fn chunk_count(body_bytes: usize) -> usize {
    body_bytes.div_ceil(CHUNK_DATA_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vote::Bitmap;

    fn body(ingress: u16) -> rkyv::util::AlignedVec {
        let batch = BodyBatch { ingress, leaves: 1, root: [1; 32], signature: [2; 64] };
        let tx = BodyTx {
            moment: 5,
            stamp_time: 5,
            bound_ns: 1,
            source: 0,
            leaf_index: 0,
            path_len: 0,
            batch: 0,
            tx_len: 1,
        };
        let body = Body { batches: vec![batch], txs: vec![tx], paths: vec![], tx_bytes: vec![0] };
        rkyv::to_bytes::<rkyv::rancor::Panic>(&body).expect("a body serialises")
    }

    #[test]
    fn a_body_named_a_validator_that_no_bitmap_has_room_for() {
        let last = body(VALIDATORS_MAX as u16 - 1);
        let entry = BodyView::access(&last).expect("in range").entries().next().expect("one entry");
        assert!(Bitmap::default().insert(entry.stamp.ingress));
        let refused = BodyError::Range { index: 1, what: "ingress validator" };
        assert_eq!(BodyView::access(&body(VALIDATORS_MAX as u16)).err(), Some(refused));
    }

    #[test]
    fn a_body_is_read_where_it_stands() {
        let bytes = body(0);
        let view = BodyView::access(&bytes).expect("in range");
        let read: usize = view
            .entries()
            .map(|entry| {
                let (from, memory) = (entry.wire.as_ptr().addr(), bytes.as_ptr_range());
                assert!(memory.start.addr() <= from && from + entry.wire.len() <= memory.end.addr());
                entry.wire.len()
            })
            .sum();
        assert_eq!(read, 1, "the one transaction of one byte was read");
    }
}
