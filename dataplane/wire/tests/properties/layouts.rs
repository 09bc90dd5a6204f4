//! Votes, certificates, headers, proposals, chunks, batches, frame headers, accounts and paths.

use super::{assert_exact, values};
use crate::samples::{CHAIN, node};
use proptest::collection::vec;
use proptest::prelude::*;
use roko_wire::block::Header;
use roko_wire::chunk::{Chunk, Propose};
use roko_wire::codec::{DecodeError, Reader};
use roko_wire::frame::FrameHeader;
use roko_wire::ids::{ChainId, View};
use roko_wire::limits::*;
use roko_wire::merkle::{read_path, write_path};
use roko_wire::message::{Message, MessageKind, write_submit};
use roko_wire::nano::NanoMoment;
use roko_wire::snapshot::{Anchor, StateRange};
use roko_wire::stamp::{StampedBatch, write_signed_batch};
use roko_wire::sync::{SealedBlock, Seals, Signature, SyncMessage};
use roko_wire::tx::tx_id;
use roko_wire::vote::{Certificate, Vote};
use roko_wire::{Account, Address, BlockId, Hash32};
use ruint::aliases::U256;

/// The bytes that `write` appends.
fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// A message's own round trip, over its kind byte.
fn assert_message(bytes: &[u8]) {
    let read = Message::read(bytes).expect("what is written is read");
    assert_eq!(read.kind() as u8, bytes[0]);
    assert_eq!(MessageKind::from_byte(bytes[0]), Some(read.kind()));
    assert_eq!(written(|out| read.write(out)), bytes);
    assert!(bytes.len() <= MESSAGE_BYTES_MAX);
}

/// Reads back what is accepted of altered bytes, and checks that it has this one encoding.
fn assert_canonical(bytes: &[u8]) {
    if let Ok(read) = Message::read(bytes) {
        assert_eq!(written(|out| read.write(out)), bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn votes(vote in values::vote()) {
        let bytes = written(|out| vote.write(out));
        prop_assert_eq!(Vote::read(&mut Reader::new(&bytes)), Ok(vote.clone()));
        assert_exact(&bytes, Vote::read);
        assert_message(&written(|out| Message::Vote(vote).write(out)));
    }

    #[test]
    fn certificates(certificate in values::certificate()) {
        let bytes = written(|out| certificate.write(out));
        prop_assert!(bytes.len() <= Certificate::BYTES_MAX);
        prop_assert_eq!(Certificate::read(&mut Reader::new(&bytes)), Ok(certificate.clone()));
        assert_exact(&bytes, Certificate::read);
        prop_assert_eq!(certificate.signers.iter().count(), certificate.signers.len());
        assert_message(&written(|out| Message::Certificate(certificate).write(out)));
    }

    #[test]
    fn final_blocks(
        header in values::header(),
        signature in values::signature_64(),
        justification in vec(values::certificate(), 0..4),
        proof in vec(values::certificate(), 0..3),
        body in vec(any::<u8>(), 0..300),
    ) {
        let header = Header { body_bytes: body.len() as u32, ..header };
        let seals = Seals { signature: Signature(signature), justification, proof };
        let message = SyncMessage::Block(SealedBlock { header, seals, body: &body });
        let bytes = written(|out| message.write(out));
        prop_assert_eq!(SyncMessage::read(&bytes), Ok(message));
        for end in 0..bytes.len() {
            prop_assert!(SyncMessage::read(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn snapshots(
        headers in vec(values::header(), 2..6),
        signature in values::signature_64(),
        proof in vec(values::certificate(), 0..3),
        receipts in vec(any::<u8>(), 0..300),
    ) {
        let seals = Seals { signature: Signature(signature), justification: proof.clone(), proof: Vec::new() };
        let message = SyncMessage::Snapshot(Anchor { headers, seals, proof, receipts: &receipts });
        let bytes = written(|out| message.write(out));
        prop_assert_eq!(SyncMessage::read(&bytes), Ok(message));
        for end in 0..bytes.len() {
            prop_assert!(SyncMessage::read(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn ranges_of_the_state(
        siblings in vec(prop_oneof![Just([0; 32]), any::<[u8; 32]>()], 0..=256),
        accounts in vec((any::<[u8; 20]>(), any::<u64>(), any::<[u8; 32]>()), 0..20),
    ) {
        let account = |nonce, hash| Account { nonce, code_hash: Hash32(hash), ..Account::default() };
        let range = StateRange {
            siblings: siblings.into_iter().map(Hash32).collect(),
            accounts: accounts.into_iter().map(|(at, nonce, hash)| (Address(at), account(nonce, hash))).collect(),
        };
        let bytes = written(|out| range.write(out));
        prop_assert_eq!(StateRange::read(&mut Reader::new(&bytes)), Ok(range.clone()));
        assert_exact(&bytes, StateRange::read);
        let message = SyncMessage::Range(range);
        let bytes = written(|out| message.write(out));
        prop_assert_eq!(SyncMessage::read(&bytes), Ok(message));
    }

    #[test]
    fn headers(header in values::header()) {
        let bytes = written(|out| header.write(out));
        prop_assert_eq!(Header::read(&mut Reader::new(&bytes)), Ok(header));
        assert_exact(&bytes, Header::read);
    }

    #[test]
    fn header_ids_differ_in_every_byte(header in values::header(), at in any::<prop::sample::Index>()) {
        let mut bytes = written(|out| header.write(out));
        let at = at.index(bytes.len());
        bytes[at] ^= 1;
        if let Ok(other) = Header::read(&mut Reader::new(&bytes)) {
            prop_assert_ne!(other.id(), header.id());
        }
    }

    #[test]
    fn proposals(propose in values::propose()) {
        let bytes = written(|out| propose.write(out));
        prop_assert_eq!(Propose::read(&mut Reader::new(&bytes)), Ok(propose.clone()));
        assert_exact(&bytes, Propose::read);
        assert_message(&written(|out| Message::Propose(propose).write(out)));
    }

    #[test]
    fn chunks(chunk in values::chunk()) {
        let bytes = written(|out| chunk.write(out));
        prop_assert_eq!(Chunk::read(&mut Reader::new(&bytes)), Ok(chunk.clone()));
        assert_exact(&bytes, |reader| Chunk::read(reader).map(|_| ()));
        assert_message(&written(|out| Message::Chunk(chunk).write(out)));
    }

    #[test]
    fn pulls(block in values::block(), view in any::<u64>()) {
        assert_message(&written(|out| Message::PullBlock(block).write(out)));
        assert_message(&written(|out| Message::PullCertificate(View(view)).write(out)));
    }

    #[test]
    fn batches(
        first in values::stamp(),
        txs in vec((any::<u32>(), vec(any::<u8>(), 0..=200)), 1..=TXS_PER_MESSAGE_MAX),
    ) {
        let times: Vec<_> = txs.iter().map(|(offset, _)| NanoMoment(first.time.0 + u128::from(*offset))).collect();
        let given: Vec<(NanoMoment, &[u8])> = times.iter().copied().zip(txs.iter().map(|(_, wire)| &wire[..])).collect();
        let bytes = written(|out| write_signed_batch(&node(), CHAIN, &first, &given, out));
        let batch = StampedBatch::read(&mut Reader::new(&bytes)).expect("what is written is read");
        let read: Vec<_> = batch.txs.iter().map(|tx| (tx.stamp.time, tx.wire)).collect();
        prop_assert_eq!(&read, &given);
        prop_assert!(batch.txs.iter().all(|tx| tx.stamp.bound_ns == first.bound_ns && tx.stamp.source == first.source));
        let ids: Vec<_> = given.iter().map(|(_, wire)| tx_id(wire)).collect();
        let key = ed25519_zebra::VerificationKey::from(&node());
        prop_assert!(batch.signed_root(&batch.leaves(CHAIN, &ids)).verify(&key, CHAIN));
        prop_assert!(!batch.signed_root(&batch.leaves(ChainId(1), &ids)).verify(&key, CHAIN));
        assert_exact(&bytes, |reader| StampedBatch::read(reader).map(|_| ()));
        assert_message(&[&[MessageKind::Batch as u8], &bytes[..]].concat());
    }

    #[test]
    fn submissions(txs in vec(vec(any::<u8>(), 0..=200), 1..=TXS_PER_MESSAGE_MAX)) {
        let wires: Vec<&[u8]> = txs.iter().map(|wire| &wire[..]).collect();
        let bytes = written(|out| write_submit(&wires, out));
        assert_message(&bytes);
        for len in 0..bytes.len() {
            prop_assert!(Message::read(&bytes[..len]).is_err());
        }
        prop_assert_eq!(Message::read(&[&bytes[..], &[0]].concat()).err(), Some(DecodeError::Trailing { extra: 1 }));
    }

    #[test]
    fn frame_headers(header in values::frame_header()) {
        let bytes = header.to_bytes();
        prop_assert_eq!(FrameHeader::read(&mut Reader::new(&bytes)), Ok(header));
        assert_exact(&bytes, FrameHeader::read);
    }

    #[test]
    fn accounts(nonce in any::<u64>(), balance in any::<[u64; 4]>(), hashes in any::<[[u8; 32]; 2]>()) {
        let account = Account {
            nonce,
            balance: U256::from_limbs(balance),
            code_hash: Hash32(hashes[0]),
            storage_root: Hash32(hashes[1]),
        };
        let bytes = written(|out| account.write(out));
        prop_assert_eq!(Account::read(&mut Reader::new(&bytes)), Ok(account));
        assert_exact(&bytes, Account::read);
    }

    #[test]
    fn paths(path in vec(values::hash(), 0..=MERKLE_DEPTH_MAX)) {
        let bytes = written(|out| write_path(&path, out));
        prop_assert_eq!(&read_path(&mut Reader::new(&bytes)).expect("it is within its limit")[..], &path[..]);
        assert_exact(&bytes, read_path);
    }

    #[test]
    fn altered_messages_have_one_encoding(
        propose in values::propose(),
        certificate in values::certificate(),
        vote in values::vote(),
        alterations in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let messages = [Message::Propose(propose), Message::Certificate(certificate), Message::Vote(vote)];
        for message in messages {
            let mut bytes = written(|out| message.write(out));
            for (at, value) in &alterations {
                let at = at.index(bytes.len());
                bytes[at] = *value;
                assert_canonical(&bytes);
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..1_500), kind in 0u8..10) {
        assert_canonical(&bytes);
        assert_canonical(&[&[kind], &bytes[..]].concat());
    }
}

/// The vote's 139 bytes with one of them replaced.
fn vote_with(at: usize, value: u8) -> Result<Vote, DecodeError> {
    let mut bytes = [0u8; Vote::BYTES];
    bytes[8] = 2;
    bytes[at] = value;
    Vote::read(&mut Reader::new(&bytes))
}

#[test]
fn second_encodings_of_a_vote_are_refused() {
    assert!(vote_with(8, 2).is_ok());
    for kind in [0, 6, 255] {
        let refused = DecodeError::BadValue { field: "ballot kind", value: kind.into() };
        assert_eq!(vote_with(8, kind), Err(refused));
    }
    for at in 9..41 {
        assert!(matches!(
            vote_with(at, 1),
            Err(DecodeError::BadValue { field: "block of a skip ballot", .. })
        ));
    }
    assert!(vote_with(41, 255).is_ok());
    assert_eq!(
        vote_with(42, 1),
        Err(DecodeError::OverLimit { field: "validator index", value: 256, limit: 255 })
    );
}

#[test]
fn second_encodings_of_a_certificate_are_refused() {
    let read = |kind: u8, block: u8, maps: &[u8]| {
        let bytes = [&[0; 8][..], &[kind], &[block; 32], maps, &[0; 96]].concat();
        let mut reader = Reader::new(&bytes);
        Certificate::read(&mut reader).and_then(|_| reader.finish())
    };
    assert_eq!(read(2, 7, &[1, 4, 0]), Ok(()));
    assert_eq!(read(3, 0, &[0, 1, 4]), Ok(()));
    let bad = |field| Err(DecodeError::BadValue { field, value: 0 });
    assert_eq!(read(2, 7, &[2, 4, 0, 0]), bad("last byte of a bitmap"));
    assert_eq!(read(0, 0, &[0, 0]), bad("certificate kind"));
    let field = "fallback signers of a certificate that has none";
    assert_eq!(read(2, 7, &[1, 4, 1, 4]), Err(DecodeError::BadValue { field, value: 1 }));
    let field = "block of a skip certificate";
    assert_eq!(read(4, 7, &[1, 4, 0]), Err(DecodeError::BadValue { field, value: 7 }));
    let over = DecodeError::OverLimit { field: "bitmap length", value: 33, limit: 32 };
    assert_eq!(read(2, 7, &[33]), Err(over));
}

#[test]
fn counts_over_their_limits_are_refused() {
    let over = |bytes: &[u8], wanted| {
        let Err(DecodeError::OverLimit { field, .. }) = Message::read(bytes) else {
            panic!("{wanted} was accepted")
        };
        assert_eq!(field, wanted);
    };
    over(&[1, 0], "submitted transactions");
    over(&[1, TXS_PER_MESSAGE_MAX as u8 + 1], "submitted transactions");
    over(&[1, 1, 0xd1, 0x04], "transaction length");
    over(&[2, 0, 1, 1], "validator index");
    over(&[2, 0, 0, 0], "batch count");
    over(&[2, 0, 0, TXS_PER_MESSAGE_MAX as u8 + 1], "batch count");
    let chunk = |index: u32, count: u32| {
        [&[6][..], &BlockId::ZERO.0, &[0; 8], &index.to_le_bytes(), &count.to_le_bytes()].concat()
    };
    over(&chunk(0, 0), "chunk index");
    over(&chunk(3, 3), "chunk index");
    over(&chunk(0, CHUNKS_MAX as u32 + 1), "chunk count");
    over(&[&chunk(0, 1)[..], &[0; 64], &[MERKLE_DEPTH_MAX as u8 + 1]].concat(), "Merkle path length");
    over(&[&chunk(0, 1)[..], &[0; 64], &[0, 0x61, 0x03]].concat(), "chunk data length");
    assert_eq!(0x0361, CHUNK_DATA_BYTES + 1);
    assert_eq!(0x04d1, TX_BYTES_MAX + 1);
}
