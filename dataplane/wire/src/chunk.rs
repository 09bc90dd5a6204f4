//! Chunks: how a block's body travels. Each proves by itself that it belongs to the block that the proposer
//! signed, because a link's AEAD proves the relayer only.

use crate::block::{Header, chunk_leaf};
use crate::codec::{DecodeError, Reader, Sink};
use crate::ids::{BlockId, ChainId, Epoch, View};
use crate::limits::{CHUNK_DATA_BYTES, CHUNKS_MAX, PROPOSE_CERTIFICATES_MAX};
use crate::merkle::{self, Path};
use crate::vote::{Certificate, SigningDomain};
use arrayvec::ArrayVec;
use ed25519_zebra::{Signature, SigningKey, VerificationKey};

/// A piece of a block's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// The block.
    pub block: BlockId,
    /// The block's view: lets a receiver bound what it keeps.
    pub view: View,
    /// Which piece.
    pub index: u32,
    /// How many data pieces the body has.
    pub count: u32,
    /// The proposer's signature over the block's id, see [`sign_proposal`].
    pub signature: [u8; 64],
    /// Merkle path to the header's chunk root.
    pub path: Path,
    /// The piece: [`CHUNK_DATA_BYTES`], the last one shorter.
    pub data: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Appends the wire layout: block, view, index, count, signature, path, data length, data.
    pub fn write(&self, out: &mut impl Sink) {
        out.put(&self.block.0);
        out.put_u64(self.view.0);
        out.put_u32(self.index);
        out.put_u32(self.count);
        out.put(&self.signature);
        merkle::write_path(&self.path, out);
        out.put_u16(self.data.len() as u16);
        out.put(self.data);
    }

    /// Reads the wire layout. Neither signature nor path is checked here.
    pub fn read(reader: &mut Reader<'a>) -> Result<Chunk<'a>, DecodeError> {
        let block = BlockId(reader.array("chunk block")?);
        let view = View(reader.u64("chunk view")?);
        let (index, count) = (reader.u32("chunk index")?, reader.u32("chunk count")?);
        if count as usize > CHUNKS_MAX {
            let limit = CHUNKS_MAX as u64;
            return Err(DecodeError::OverLimit { field: "chunk count", value: u64::from(count), limit });
        }
        if index >= count {
            let limit = u64::from(count).saturating_sub(1);
            return Err(DecodeError::OverLimit { field: "chunk index", value: u64::from(index), limit });
        }
        let signature = reader.array("chunk signature")?;
        let path = merkle::read_path(reader)?;
        let len = reader.count_u16("chunk data length", CHUNK_DATA_BYTES)?;
        Ok(Chunk { block, view, index, count, signature, path, data: reader.bytes("chunk data", len)? })
    }

    /// Whether the data is what the header's chunk root has at this place, and as long as that place is: a root over
    /// pieces of other lengths cannot make two receivers put together two bodies.
    #[must_use]
    pub fn belongs_to(&self, header: &Header) -> bool {
        let body_bytes = header.body_bytes as usize;
        let start = self.index as usize * CHUNK_DATA_BYTES;
        crate::block::chunk_count(body_bytes) == self.count as usize
            && self.data.len() == body_bytes.saturating_sub(start).min(CHUNK_DATA_BYTES)
            && merkle::root_from_path(
                chunk_leaf(self.index, self.data),
                self.index as usize,
                self.count as usize,
                &self.path,
            ) == Some(header.chunk_root)
    }
}

const PROPOSE_SIGNING_BYTES: usize = 15 + 8 + 8 + 8 + 32;

/// What a proposer signs.
#[must_use]
pub fn propose_signing_bytes(
    domain: SigningDomain,
    view: View,
    block: &BlockId,
) -> [u8; PROPOSE_SIGNING_BYTES] {
    let mut out = ArrayVec::<u8, PROPOSE_SIGNING_BYTES>::new();
    out.put(b"roko/propose/1\0");
    out.put_u64(domain.chain_id.0);
    out.put_u64(domain.epoch.0);
    out.put_u64(view.0);
    out.put(&block.0);
    out.into_inner().expect("every field is fixed in size")
}

/// Signs a proposal with the proposer's ed25519 node key. A proposal is never aggregated, so a BLS signature would
/// only cost fifty times as much to check; one signature serves the Propose, each chunk, and evidence of two proposals.
#[must_use]
pub fn sign_proposal(key: &SigningKey, domain: SigningDomain, view: View, block: &BlockId) -> [u8; 64] {
    key.sign(&propose_signing_bytes(domain, view, block)).to_bytes()
}

/// Whether `key` signed the proposal of `block` in `view`.
#[must_use]
pub fn verify_proposal(
    key: &VerificationKey,
    domain: SigningDomain,
    view: View,
    block: &BlockId,
    signature: &[u8; 64],
) -> bool {
    key.verify(&Signature::from(*signature), &propose_signing_bytes(domain, view, block)).is_ok()
}

/// The domain of a header's signatures.
#[must_use]
pub fn domain(chain_id: ChainId, epoch: Epoch) -> SigningDomain {
    SigningDomain { chain_id, epoch }
}

/// A proposal: the header, the proposer's signature, and the certificates that justify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Propose {
    /// The block's header.
    pub header: Header,
    /// See [`sign_proposal`].
    pub signature: [u8; 64],
    /// The justification's certificates, the parent's first; at most [`PROPOSE_CERTIFICATES_MAX`] travel whole. The
    /// rest are sent before as messages of their own: what their views and kinds are follows from the parent's view
    /// and the block's, and the header's justification hash says whether a receiver has the right ones.
    pub certificates: ArrayVec<Certificate, PROPOSE_CERTIFICATES_MAX>,
    /// How many certificates the justification has in all.
    pub certificate_count: u16,
}

impl Propose {
    /// Appends the wire layout: header, signature, counts, certificates.
    pub fn write(&self, out: &mut impl Sink) {
        self.header.write(out);
        out.put(&self.signature);
        out.put_u16(self.certificate_count);
        out.put_u8(self.certificates.len() as u8);
        self.certificates.iter().for_each(|certificate| certificate.write(out));
    }

    /// Reads the wire layout. No signature is checked here.
    pub fn read(reader: &mut Reader<'_>) -> Result<Propose, DecodeError> {
        let header = Header::read(reader)?;
        let signature = reader.array("proposal signature")?;
        let certificate_count = reader.u16("certificate count")?;
        let carried = reader.u8("carried certificates")?;
        if usize::from(carried) > PROPOSE_CERTIFICATES_MAX.min(usize::from(certificate_count)) {
            let limit = PROPOSE_CERTIFICATES_MAX.min(usize::from(certificate_count)) as u64;
            return Err(DecodeError::OverLimit {
                field: "carried certificates",
                value: u64::from(carried),
                limit,
            });
        }
        let certificates = (0..carried).map(|_| Certificate::read(reader)).collect::<Result<_, _>>()?;
        Ok(Propose { header, signature, certificates, certificate_count })
    }
}
