//! Consensus messages: votes, certificates, and the canonical bytes that their BLS signatures cover.

use crate::codec::{DecodeError, Reader, Sink};
use crate::ids::{BlockId, ChainId, Epoch, ValidatorIndex, View};
use crate::limits::{BITMAP_BYTES, VALIDATORS_MAX};

/// Bytes of a compressed BLS12-381 signature (G2).
pub const BLS_SIGNATURE_BYTES: usize = 96;
/// Bytes of a compressed BLS12-381 public key (G1).
pub const BLS_PUBLIC_KEY_BYTES: usize = 48;
/// A compressed BLS12-381 signature in G2.
pub type BlsSignature = [u8; BLS_SIGNATURE_BYTES];

/// What a validator can vote for in a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ballot {
    /// First vote: this block is the view's.
    Notarize(BlockId),
    /// First vote: no timely proposal came.
    Skip,
    /// After first votes that cannot give any block a fast certificate.
    SkipFallback,
    /// Second vote: this block is final.
    Final(BlockId),
    /// Second vote: nothing is final by the slow path.
    FinalSkip,
}

impl Ballot {
    /// The byte of the wire and of the signed layout.
    #[must_use]
    pub const fn kind_byte(&self) -> u8 {
        match self {
            Ballot::Notarize(_) => 1,
            Ballot::Skip => 2,
            Ballot::SkipFallback => 3,
            Ballot::Final(_) => 4,
            Ballot::FinalSkip => 5,
        }
    }

    /// The block voted for; `None` for the skip ballots.
    #[must_use]
    pub const fn block(&self) -> Option<BlockId> {
        match self {
            Ballot::Notarize(block) | Ballot::Final(block) => Some(*block),
            _ => None,
        }
    }

    fn write(&self, out: &mut impl Sink) {
        out.put_u8(self.kind_byte());
        out.put(&self.block().unwrap_or(BlockId::ZERO).0);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Ballot, DecodeError> {
        let kind = reader.u8("ballot kind")?;
        let block = BlockId(reader.array("ballot block")?);
        match kind {
            1 => Ok(Ballot::Notarize(block)),
            4 => Ok(Ballot::Final(block)),
            // A skip names no block: any other value would be a second encoding of the same vote.
            2 | 3 | 5 if block != BlockId::ZERO => {
                Err(DecodeError::BadValue { field: "block of a skip ballot", value: u64::from(block.0[0]) })
            }
            2 => Ok(Ballot::Skip),
            3 => Ok(Ballot::SkipFallback),
            5 => Ok(Ballot::FinalSkip),
            _ => Err(DecodeError::BadValue { field: "ballot kind", value: u64::from(kind) }),
        }
    }
}

/// The chain and epoch that a consensus signature is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SigningDomain {
    /// Chain id of the genesis.
    pub chain_id: ChainId,
    /// Epoch of the validator set.
    pub epoch: Epoch,
}

/// Bytes that a vote's BLS signature covers: a domain string, chain id, epoch, view, kind, block id.
pub const VOTE_SIGNING_BYTES: usize = 12 + 8 + 8 + 8 + 1 + 32;

/// The canonical bytes signed by a vote for `ballot` in `view`.
#[must_use]
pub fn vote_signing_bytes(domain: SigningDomain, view: View, ballot: &Ballot) -> [u8; VOTE_SIGNING_BYTES] {
    let mut out = arrayvec::ArrayVec::<u8, VOTE_SIGNING_BYTES>::new();
    out.put(b"roko/vote/1\0");
    out.put_u64(domain.chain_id.0);
    out.put_u64(domain.epoch.0);
    out.put_u64(view.0);
    ballot.write(&mut out);
    out.into_inner().expect("every field is fixed in size")
}

/// One validator's signed ballot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The view voted in.
    pub view: View,
    /// What is voted for.
    pub ballot: Ballot,
    /// Who votes.
    pub signer: ValidatorIndex,
    /// BLS signature over [`vote_signing_bytes`].
    pub signature: BlsSignature,
}

impl Vote {
    /// Bytes of an encoded vote.
    pub const BYTES: usize = 8 + 33 + 2 + BLS_SIGNATURE_BYTES;

    /// Appends the wire layout: view, kind, block id, signer, signature.
    pub fn write(&self, out: &mut impl Sink) {
        out.put_u64(self.view.0);
        self.ballot.write(out);
        out.put_u16(self.signer.0);
        out.put(&self.signature);
    }

    /// Reads the wire layout. The signature is not checked here.
    pub fn read(reader: &mut Reader<'_>) -> Result<Vote, DecodeError> {
        Ok(Vote {
            view: View(reader.u64("vote view")?),
            ballot: Ballot::read(reader)?,
            signer: read_signer(reader)?,
            signature: reader.array("vote signature")?,
        })
    }
}

/// Reads a validator index below [`VALIDATORS_MAX`].
pub fn read_signer(reader: &mut Reader<'_>) -> Result<ValidatorIndex, DecodeError> {
    let index = reader.u16("validator index")?;
    if usize::from(index) >= VALIDATORS_MAX {
        let limit = VALIDATORS_MAX as u64 - 1;
        return Err(DecodeError::OverLimit { field: "validator index", value: u64::from(index), limit });
    }
    Ok(ValidatorIndex(index))
}

/// A set of validators, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bitmap(pub [u8; BITMAP_BYTES]);

impl Bitmap {
    /// Adds a validator; returns whether it was absent.
    ///
    /// # Panics
    /// When the index is not below [`VALIDATORS_MAX`]: every reader refuses such an index.
    pub fn insert(&mut self, index: ValidatorIndex) -> bool {
        let (byte, bit) = (index.as_usize() / 8, 1 << (index.0 % 8));
        let absent = self.0[byte] & bit == 0;
        self.0[byte] |= bit;
        absent
    }

    /// Whether a validator is in the set.
    #[must_use]
    pub fn contains(&self, index: ValidatorIndex) -> bool {
        self.0.get(index.as_usize() / 8).is_some_and(|byte| byte & (1 << (index.0 % 8)) != 0)
    }

    /// The members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = ValidatorIndex> + '_ {
        (0..VALIDATORS_MAX as u16).map(ValidatorIndex).filter(|index| self.contains(*index))
    }

    /// How many members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

/// What a certificate proves, with the ballots that make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertificateKind {
    /// C stake of `Notarize(b)`.
    FastBlock(BlockId),
    /// S stake of `Notarize(b)`.
    SlowBlock(BlockId),
    /// C stake of `Skip` (first bitmap) or `SkipFallback` (second bitmap), each signer once.
    FastSkip,
    /// S stake of `FinalSkip`.
    SlowSkip,
    /// F stake of `Notarize(b)`: final in one round.
    CommitFast(BlockId),
    /// S stake of `Final(b)`: final in two rounds, beside a `SlowBlock(b)`.
    CommitSlow(BlockId),
}

impl CertificateKind {
    /// The byte of the wire.
    #[must_use]
    pub const fn kind_byte(&self) -> u8 {
        match self {
            CertificateKind::FastBlock(_) => 1,
            CertificateKind::SlowBlock(_) => 2,
            CertificateKind::FastSkip => 3,
            CertificateKind::SlowSkip => 4,
            CertificateKind::CommitFast(_) => 5,
            CertificateKind::CommitSlow(_) => 6,
        }
    }

    /// The block certified; `None` for the skip certificates.
    #[must_use]
    pub const fn block(&self) -> Option<BlockId> {
        match self {
            CertificateKind::FastBlock(block)
            | CertificateKind::SlowBlock(block)
            | CertificateKind::CommitFast(block)
            | CertificateKind::CommitSlow(block) => Some(*block),
            CertificateKind::FastSkip | CertificateKind::SlowSkip => None,
        }
    }

    /// The ballot that the first bitmap's signers signed.
    #[must_use]
    pub const fn first_ballot(&self) -> Ballot {
        match self {
            CertificateKind::FastBlock(block)
            | CertificateKind::SlowBlock(block)
            | CertificateKind::CommitFast(block) => Ballot::Notarize(*block),
            CertificateKind::FastSkip => Ballot::Skip,
            CertificateKind::SlowSkip => Ballot::FinalSkip,
            CertificateKind::CommitSlow(block) => Ballot::Final(*block),
        }
    }
}

/// An aggregate of ballots: one BLS signature and the bitmaps of who signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The view it is of.
    pub view: View,
    /// What it proves.
    pub kind: CertificateKind,
    /// Signers of [`CertificateKind::first_ballot`].
    pub signers: Bitmap,
    /// Signers of `SkipFallback`; empty except in a `FastSkip`.
    pub fallback_signers: Bitmap,
    /// The aggregate BLS signature.
    pub signature: BlsSignature,
}

impl Certificate {
    /// Most bytes of an encoded certificate.
    pub const BYTES_MAX: usize = 8 + 33 + 2 * (1 + BITMAP_BYTES) + BLS_SIGNATURE_BYTES;

    /// Appends the wire layout: view, kind, block id, two bitmaps (a length byte, then that many bytes without
    /// trailing zero bytes), signature.
    pub fn write(&self, out: &mut impl Sink) {
        out.put_u64(self.view.0);
        out.put_u8(self.kind.kind_byte());
        out.put(&self.kind.block().unwrap_or(BlockId::ZERO).0);
        for bitmap in [&self.signers, &self.fallback_signers] {
            let len = BITMAP_BYTES - bitmap.0.iter().rev().take_while(|byte| **byte == 0).count();
            out.put_u8(len as u8);
            out.put(&bitmap.0[..len]);
        }
        out.put(&self.signature);
    }

    /// Reads the wire layout. Neither the signature nor the stake is checked here.
    pub fn read(reader: &mut Reader<'_>) -> Result<Certificate, DecodeError> {
        let view = View(reader.u64("certificate view")?);
        let byte = reader.u8("certificate kind")?;
        let block = BlockId(reader.array("certificate block")?);
        let kind = match byte {
            1 => CertificateKind::FastBlock(block),
            2 => CertificateKind::SlowBlock(block),
            3 => CertificateKind::FastSkip,
            4 => CertificateKind::SlowSkip,
            5 => CertificateKind::CommitFast(block),
            6 => CertificateKind::CommitSlow(block),
            _ => return Err(DecodeError::BadValue { field: "certificate kind", value: u64::from(byte) }),
        };
        if kind.block().is_none() && block != BlockId::ZERO {
            let value = u64::from(block.0[0]);
            return Err(DecodeError::BadValue { field: "block of a skip certificate", value });
        }
        let signers = read_bitmap(reader)?;
        let fallback_signers = read_bitmap(reader)?;
        if kind != CertificateKind::FastSkip && !fallback_signers.is_empty() {
            let value = fallback_signers.len() as u64;
            return Err(DecodeError::BadValue {
                field: "fallback signers of a certificate that has none",
                value,
            });
        }
        Ok(Certificate {
            view,
            kind,
            signers,
            fallback_signers,
            signature: reader.array("certificate signature")?,
        })
    }
}

fn read_bitmap(reader: &mut Reader<'_>) -> Result<Bitmap, DecodeError> {
    let len = usize::from(reader.u8("bitmap length")?);
    if len > BITMAP_BYTES {
        let limit = BITMAP_BYTES as u64;
        return Err(DecodeError::OverLimit { field: "bitmap length", value: len as u64, limit });
    }
    let bytes = reader.bytes("bitmap", len)?;
    if bytes.last() == Some(&0) {
        return Err(DecodeError::BadValue { field: "last byte of a bitmap", value: 0 });
    }
    let mut bitmap = Bitmap::default();
    bitmap.0[..len].copy_from_slice(bytes);
    Ok(bitmap)
}
