//! Strategies: any value of each type.

use proptest::collection::vec;
use proptest::prelude::*;
use roko_wire::block::Header;
use roko_wire::chunk::{Chunk, Propose};
use roko_wire::frame::{FrameHeader, PriorityClass};
use roko_wire::ids::{BlockId, ChainId, Epoch, Hash32, Height, ValidatorIndex, View};
use roko_wire::limits::*;
use roko_wire::nano::NanoMoment;
use roko_wire::stamp::{Stamp, StampSource};
use roko_wire::vote::{Ballot, Bitmap, BlsSignature, Certificate, CertificateKind, Vote};

pub(crate) fn hash() -> impl Strategy<Value = Hash32> {
    any::<[u8; 32]>().prop_map(Hash32)
}

pub(crate) fn block() -> impl Strategy<Value = BlockId> {
    prop_oneof![9 => any::<[u8; 32]>().prop_map(BlockId), 1 => Just(BlockId::ZERO)]
}

pub(crate) fn signer() -> impl Strategy<Value = ValidatorIndex> {
    (0..VALIDATORS_MAX as u16).prop_map(ValidatorIndex)
}

pub(crate) fn signature_64() -> impl Strategy<Value = [u8; 64]> {
    any::<([u8; 32], [u8; 32])>().prop_map(|(a, b)| [a, b].concat().try_into().expect("64 bytes"))
}

fn bls_signature() -> impl Strategy<Value = BlsSignature> {
    any::<([u8; 32], [u8; 32], [u8; 32])>()
        .prop_map(|(a, b, c)| [a, b, c].concat().try_into().expect("96 bytes"))
}

pub(crate) fn source() -> impl Strategy<Value = StampSource> {
    (0u8..5, 0u8..3)
        .prop_map(|(clock, by)| StampSource::from_byte(by << 4 | clock).expect("five clocks, three ways"))
}

pub(crate) fn stamp() -> impl Strategy<Value = Stamp> {
    (any::<u64>(), any::<u64>(), source(), signer()).prop_map(|(time, bound_ns, source, ingress)| Stamp {
        time: NanoMoment(time.into()),
        bound_ns,
        source,
        ingress,
    })
}

pub(crate) fn vote() -> impl Strategy<Value = Vote> {
    let ballot = prop_oneof![
        block().prop_map(Ballot::Notarize),
        Just(Ballot::Skip),
        Just(Ballot::SkipFallback),
        block().prop_map(Ballot::Final),
        Just(Ballot::FinalSkip),
    ];
    (any::<u64>(), ballot, signer(), bls_signature()).prop_map(|(view, ballot, signer, signature)| Vote {
        view: View(view),
        ballot,
        signer,
        signature,
    })
}

fn bitmap() -> impl Strategy<Value = Bitmap> {
    vec(signer(), 0..40).prop_map(|members| {
        let mut bitmap = Bitmap::default();
        members.into_iter().for_each(|index| {
            bitmap.insert(index);
        });
        bitmap
    })
}

pub(crate) fn certificate() -> impl Strategy<Value = Certificate> {
    let kind = prop_oneof![
        block().prop_map(CertificateKind::FastBlock),
        block().prop_map(CertificateKind::SlowBlock),
        Just(CertificateKind::FastSkip),
        Just(CertificateKind::SlowSkip),
        block().prop_map(CertificateKind::CommitFast),
        block().prop_map(CertificateKind::CommitSlow),
    ];
    (any::<u64>(), kind, bitmap(), bitmap(), bls_signature()).prop_map(
        |(view, kind, signers, fallback, signature)| {
            let has_fallback = kind == CertificateKind::FastSkip;
            let fallback_signers = if has_fallback { fallback } else { Bitmap::default() };
            Certificate { view: View(view), kind, signers, fallback_signers, signature }
        },
    )
}

pub(crate) fn header() -> impl Strategy<Value = Header> {
    let numbers = (any::<[u64; 5]>(), any::<[u128; 3]>(), signer());
    let sizes = (0..=BLOCK_BYTES_MAX as u32, 0..=BLOCK_TXS_MAX as u32);
    let next_set_root = proptest::option::of(hash());
    (numbers, sizes, any::<[[u8; 32]; 6]>(), next_set_root).prop_map(
        |(numbers, sizes, hashes, next_set_root)| {
            let ([chain_id, epoch, view, height, gas_limit], [time, watermark, base_fee], proposer) = numbers;
            Header {
                chain_id: ChainId(chain_id),
                epoch: Epoch(epoch),
                view: View(view),
                height: Height(height),
                parent: BlockId(hashes[0]),
                justification_hash: Hash32(hashes[1]),
                proposer,
                time: NanoMoment(time),
                watermark: NanoMoment(watermark),
                tx_root: Hash32(hashes[2]),
                chunk_root: Hash32(hashes[3]),
                body_bytes: sizes.0,
                tx_count: sizes.1,
                parent_state_root: Hash32(hashes[4]),
                parent_receipts_root: Hash32(hashes[5]),
                gas_limit,
                base_fee,
                next_set_root,
            }
        },
    )
}

pub(crate) fn propose() -> impl Strategy<Value = Propose> {
    (header(), signature_64(), vec(certificate(), 0..=PROPOSE_CERTIFICATES_MAX), any::<u8>()).prop_map(
        |(header, signature, certificates, more)| Propose {
            header,
            signature,
            certificate_count: certificates.len() as u16 + u16::from(more),
            certificates: certificates.into_iter().collect(),
        },
    )
}

/// A chunk over bytes that outlive the test.
pub(crate) fn chunk() -> impl Strategy<Value = Chunk<'static>> {
    static DATA: [u8; CHUNK_DATA_BYTES] = [0x77; CHUNK_DATA_BYTES];
    let place = (1..=CHUNKS_MAX as u32).prop_flat_map(|count| (0..count, Just(count)));
    (block(), any::<u64>(), place, signature_64(), vec(hash(), 0..=MERKLE_DEPTH_MAX), 0..=CHUNK_DATA_BYTES)
        .prop_map(|(block, view, (index, count), signature, path, len)| Chunk {
            block,
            view: View(view),
            index,
            count,
            signature,
            path: path.into_iter().collect(),
            data: &DATA[..len],
        })
}

pub(crate) fn frame_header() -> impl Strategy<Value = FrameHeader> {
    (any::<(u8, u8, u64, u64)>(), 0u8..4).prop_map(|((key_phase, core, session, sequence), class)| {
        FrameHeader {
            key_phase,
            core,
            class: PriorityClass::from_byte(class).expect("four classes"),
            session,
            sequence,
        }
    })
}
