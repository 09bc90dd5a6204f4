//! Ingress stamps: when a transaction first reached a validator, signed in batches.
//!
//! The validator that first receives a transaction attests (transaction id, time, bound, source). Attestations
//! of one batch are the leaves of a Merkle tree whose root is signed once, so that a stamp costs a fraction of a
//! signature. A stamp always names its transaction: one over a time alone could be replayed.

use crate::codec::{DecodeError, Reader, Sink};
use crate::ids::{ChainId, Hash32, TxId, ValidatorIndex};
use crate::limits::{TX_BYTES_MAX, TXS_PER_MESSAGE_MAX};
use crate::merkle;
use crate::nano::{ClockSource, NanoMoment};
use crate::port_clock::StampedBy;
use crate::tx;
use crate::vote::read_signer;
use arrayvec::ArrayVec;
use ed25519_zebra::{Signature, SigningKey, VerificationKey};

/// Where a stamp's time comes from: one byte on the wire, the clock in its low half and what took the time in its high half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StampSource {
    /// The clock that the time is by.
    pub clock: ClockSource,
    /// What took it.
    pub by: StampedBy,
}

impl StampSource {
    /// The wire's byte.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        (self.by as u8) << 4 | self.clock as u8
    }

    /// Reads the wire's byte; `None` when either half names nothing.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<StampSource> {
        match (ClockSource::from_byte(byte & 0xf), StampedBy::from_number(byte >> 4)) {
            (Some(clock), Some(by)) => Some(StampSource { clock, by }),
            _ => None,
        }
    }
}

impl From<ClockSource> for StampSource {
    /// A time that software took.
    fn from(clock: ClockSource) -> StampSource {
        StampSource { clock, by: StampedBy::Poll }
    }
}

/// What an ingress validator attests of one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When the transaction's frame arrived.
    pub time: NanoMoment,
    /// Half the width of the interval in which the true time lies, nanoseconds.
    pub bound_ns: u64,
    /// Where the time comes from.
    pub source: StampSource,
    /// Who attests.
    pub ingress: ValidatorIndex,
}

impl Stamp {
    /// The leaf of this stamp in its batch's tree.
    #[must_use]
    pub fn leaf(&self, chain_id: ChainId, id: &TxId) -> Hash32 {
        merkle::leaf(&[
            b"roko/stamp-leaf/1",
            &chain_id.0.to_le_bytes(),
            &id.0,
            &self.time.to_le_bytes(),
            &self.bound_ns.to_le_bytes(),
            &[self.source.to_byte()],
            &self.ingress.0.to_le_bytes(),
        ])
    }
}

/// Signed root of a batch of stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SignedRoot {
    /// Who attests.
    pub ingress: ValidatorIndex,
    /// Leaves of the tree.
    pub leaves: u8,
    /// The tree's root.
    pub root: Hash32,
    /// ed25519 by the ingress validator's node key.
    pub signature: [u8; 64],
}

/// Bytes that the signature of a [`SignedRoot`] covers.
pub const ROOT_SIGNING_BYTES: usize = 13 + 8 + 2 + 1 + 32;

fn root_signing_bytes(
    chain: ChainId,
    ingress: ValidatorIndex,
    leaves: u8,
    root: &Hash32,
) -> [u8; ROOT_SIGNING_BYTES] {
    let mut out = ArrayVec::<u8, ROOT_SIGNING_BYTES>::new();
    out.put(b"roko/stamp/1\0");
    out.put_u64(chain.0);
    out.put_u16(ingress.0);
    out.put_u8(leaves);
    out.put(&root.0);
    out.into_inner().expect("every field is fixed in size")
}

impl SignedRoot {
    /// Signs the root of a batch.
    #[must_use]
    pub fn sign(
        key: &SigningKey,
        chain: ChainId,
        ingress: ValidatorIndex,
        leaves: u8,
        root: Hash32,
    ) -> SignedRoot {
        let signature = key.sign(&root_signing_bytes(chain, ingress, leaves, &root)).to_bytes();
        SignedRoot { ingress, leaves, root, signature }
    }

    /// The bytes that the signature covers.
    #[must_use]
    pub fn signing_bytes(&self, chain: ChainId) -> [u8; ROOT_SIGNING_BYTES] {
        root_signing_bytes(chain, self.ingress, self.leaves, &self.root)
    }

    /// Whether `key` signed this root for `chain`.
    #[must_use]
    pub fn verify(&self, key: &VerificationKey, chain: ChainId) -> bool {
        let message = self.signing_bytes(chain);
        key.verify(&Signature::from(self.signature), &message).is_ok()
    }
}

/// A transaction in a [`StampedBatch`].
#[derive(Clone, Copy, Debug)]
pub struct StampedTx<'a> {
    /// Its stamp.
    pub stamp: Stamp,
    /// Its wire bytes.
    pub wire: &'a [u8],
}

/// Stamped transactions as a validator passes them on: one message, one signature.
#[derive(Clone, Debug)]
pub struct StampedBatch<'a> {
    /// Who attests.
    pub ingress: ValidatorIndex,
    /// Signature over the root of the stamps' tree.
    pub signature: [u8; 64],
    /// The transactions in the order of the tree's leaves.
    pub txs: ArrayVec<StampedTx<'a>, TXS_PER_MESSAGE_MAX>,
}

/// Bytes of a batch before its transactions: ingress, count, signature, base time, bound, source.
pub const BATCH_HEADER_BYTES: usize = 2 + 1 + 64 + 16 + 8 + 1;
/// Bytes of a batch's transaction beside its wire bytes: time offset and length.
pub const BATCH_TX_BYTES: usize = 4 + 2;

impl<'a> StampedBatch<'a> {
    /// Reads the message: ingress `u16`, count `u8`, signature, base time `u128`, bound `u64`, source `u8`, then for
    /// each transaction its time after the base `u32`, its length `u16` and its bytes. The base is the least time.
    pub fn read(reader: &mut Reader<'a>) -> Result<StampedBatch<'a>, DecodeError> {
        let ingress = read_signer(reader)?;
        let count = reader.u8("batch count")?;
        if count == 0 || usize::from(count) > TXS_PER_MESSAGE_MAX {
            let limit = TXS_PER_MESSAGE_MAX as u64;
            return Err(DecodeError::OverLimit { field: "batch count", value: u64::from(count), limit });
        }
        let signature = reader.array("batch signature")?;
        let base = NanoMoment(reader.u128("batch base time")?);
        let bound_ns = reader.u64("batch error bound")?;
        let byte = reader.u8("batch clock source")?;
        let source = StampSource::from_byte(byte)
            .ok_or(DecodeError::BadValue { field: "batch clock source", value: u64::from(byte) })?;
        let mut txs = ArrayVec::new();
        let mut offset_min = u32::MAX;
        for _ in 0..count {
            let offset = reader.u32("stamp offset")?;
            offset_min = offset_min.min(offset);
            let overflow = DecodeError::BadValue { field: "stamp offset", value: u64::from(offset) };
            let time = base.checked_add(u64::from(offset)).ok_or(overflow)?;
            let len = reader.count_u16("transaction length", TX_BYTES_MAX)?;
            let wire = reader.bytes("transaction", len)?;
            txs.push(StampedTx { stamp: Stamp { time, bound_ns, source, ingress }, wire });
        }
        // The base is the least time: any lower base would be a second encoding of the same batch.
        if offset_min != 0 {
            return Err(DecodeError::BadValue { field: "least stamp offset", value: u64::from(offset_min) });
        }
        Ok(StampedBatch { ingress, signature, txs })
    }

    /// Appends the layout that [`StampedBatch::read`] reads: a batch is passed on as it came.
    ///
    /// # Panics
    /// When the batch is empty or its times are over 4 s apart: no batch that was read is.
    pub fn write(&self, out: &mut impl Sink) {
        let first = self.txs.first().expect("a batch is not empty").stamp;
        let base = self.txs.iter().map(|tx| tx.stamp.time).min().unwrap_or(first.time);
        out.put_u16(self.ingress.0);
        out.put_u8(self.txs.len() as u8);
        out.put(&self.signature);
        out.put_u128(base.0);
        out.put_u64(first.bound_ns);
        out.put_u8(first.source.to_byte());
        for tx in &self.txs {
            let offset_ns = tx.stamp.time.nanos_since(base);
            out.put_u32(u32::try_from(offset_ns).expect("a batch spans under 4 s"));
            out.put_u16(tx.wire.len() as u16);
            out.put(tx.wire);
        }
    }

    /// The leaves of the batch's tree; `ids` are its transactions' ids in order.
    #[must_use]
    pub fn leaves(&self, chain: ChainId, ids: &[TxId]) -> ArrayVec<Hash32, TXS_PER_MESSAGE_MAX> {
        self.txs.iter().zip(ids).map(|(tx, id)| tx.stamp.leaf(chain, id)).collect()
    }

    /// The signed root of `leaves`.
    #[must_use]
    pub fn signed_root(&self, leaves: &[Hash32]) -> SignedRoot {
        let mut level: ArrayVec<Hash32, TXS_PER_MESSAGE_MAX> = leaves.iter().copied().collect();
        let root = merkle::root_in_place(&mut level);
        SignedRoot { ingress: self.ingress, leaves: self.txs.len() as u8, root, signature: self.signature }
    }
}

/// Appends the message that [`StampedBatch::read`] reads, signed with `key`. All stamps share the bound, source and
/// ingress of `first`; `txs` holds (time, wire bytes), in any order of time.
///
/// # Panics
/// When `txs` is empty, too long, or its times are over 4 s apart: the caller batches so.
pub fn write_signed_batch<'a>(
    key: &SigningKey,
    chain: ChainId,
    first: &Stamp,
    txs: &[(NanoMoment, &'a [u8])],
    out: &mut impl Sink,
) {
    assert!(!txs.is_empty() && txs.len() <= TXS_PER_MESSAGE_MAX, "a batch holds 1 to {TXS_PER_MESSAGE_MAX}");
    let stamped =
        |(time, wire): &(NanoMoment, &'a [u8])| StampedTx { stamp: Stamp { time: *time, ..*first }, wire };
    let txs: ArrayVec<StampedTx<'a>, TXS_PER_MESSAGE_MAX> = txs.iter().map(stamped).collect();
    let mut batch = StampedBatch { ingress: first.ingress, signature: [0; 64], txs };
    let ids: ArrayVec<TxId, TXS_PER_MESSAGE_MAX> = batch.txs.iter().map(|tx| tx::tx_id(tx.wire)).collect();
    let root = batch.signed_root(&batch.leaves(chain, &ids)).root;
    batch.signature = SignedRoot::sign(key, chain, first.ingress, batch.txs.len() as u8, root).signature;
    batch.write(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base: u128, offsets: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u16(3);
        out.put_u8(offsets.len() as u8);
        out.put(&[7; 64]);
        out.put_u128(base);
        out.put_u64(250);
        out.put_u8(ClockSource::Ptp as u8);
        for offset in offsets {
            out.put_u32(*offset);
            out.put_u16(1);
            out.put_u8(9);
        }
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<u128>, DecodeError> {
        let batch = StampedBatch::read(&mut Reader::new(bytes))?;
        Ok(batch.txs.iter().map(|tx| tx.stamp.time.0).collect())
    }

    #[test]
    fn a_batch_had_as_many_encodings_as_bases_below_its_least_time() {
        assert_eq!(read(&batch(1_000, &[5, 0, 9])), Ok(vec![1_005, 1_000, 1_009]));
        let lower_base = DecodeError::BadValue { field: "least stamp offset", value: 1 };
        assert_eq!(read(&batch(999, &[6, 1, 10])), Err(lower_base));
    }

    #[test]
    fn a_stamp_past_the_end_of_time_was_read_as_the_end_of_time() {
        assert_eq!(read(&batch(u128::MAX - 1, &[0, 1])), Ok(vec![u128::MAX - 1, u128::MAX]));
        let past = DecodeError::BadValue { field: "stamp offset", value: 2 };
        assert_eq!(read(&batch(u128::MAX - 1, &[0, 2])), Err(past));
    }

    #[test]
    fn a_source_is_one_byte_and_only_those_that_name_something_are_read() {
        let read: Vec<u8> = (0..=u8::MAX).filter(|byte| StampSource::from_byte(*byte).is_some()).collect();
        let named: Vec<u8> = [0x00, 0x10, 0x20].into_iter().flat_map(|by| by..by + 5).collect();
        assert_eq!(read, named);
        assert!(named.iter().all(|byte| StampSource::from_byte(*byte).unwrap().to_byte() == *byte));
        let system = StampSource::from(ClockSource::System);
        assert_eq!((system.to_byte(), system.by), (4, StampedBy::Poll));
    }

    #[test]
    fn times_need_not_ascend_in_a_batch() {
        let key = SigningKey::from([5; 32]);
        let stamp = Stamp {
            time: NanoMoment(1_000),
            bound_ns: 40,
            source: ClockSource::Gnss.into(),
            ingress: ValidatorIndex(2),
        };
        let txs: [(NanoMoment, &[u8]); 2] = [(NanoMoment(1_000), b"a"), (NanoMoment(990), b"b")];
        let mut bytes = Vec::new();
        write_signed_batch(&key, ChainId(7), &stamp, &txs, &mut bytes);
        assert_eq!(read(&bytes), Ok(vec![1_000, 990]));
    }
}
