//! The stored vectors read back: signatures verify, and known answers from elsewhere agree.

use super::stored;
use crate::samples::*;
use blst::BLST_ERROR;
use blst::min_pk::{PublicKey, Signature};
use ed25519_zebra::VerificationKey;
use roko_wire::block::BodyView;
use roko_wire::chunk::verify_proposal;
use roko_wire::message::Message;
use roko_wire::net::parse_udp;
use roko_wire::tx::{self, ParsedTx};
use roko_wire::vote::vote_signing_bytes;

#[test]
fn answers_known_from_elsewhere_agree() {
    // RFC 8032, 7.1, tests 1 and 2.
    let rfc_8032 = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    assert_eq!(hex::encode(stored("keys", "ed25519_public")), rfc_8032);
    let rfc_8032 = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    assert_eq!(hex::encode(stored("keys", "node_public")), rfc_8032);
    // EIP-155's example: its sender and its transaction's hash.
    let sender = "9d8a62f656a8d1615c1294fd71e9cfb3e4855a4f";
    assert_eq!(hex::encode(stored("keys", "secp256k1_address")), sender);
    let hash = "33469b22e9f636356c4160a87eb19df52b7412e8eac32a4a55ffe88ea8350788";
    assert_eq!(hex::encode(stored("transaction", "ethereum_id")), hash);
}

#[test]
fn the_transactions_are_signed_by_their_keys() {
    for (name, key) in
        [("ed25519", "ed25519_address"), ("creation", "ed25519_address"), ("secp256k1", "secp256k1_address")]
    {
        let wire = stored("transaction", name);
        let ParsedTx::Native(native) = tx::parse(&wire).expect(name) else { panic!("{name} is native") };
        assert_eq!(native.verify().expect(name).0[..], stored("keys", key));
        assert_eq!(tx::tx_id(&wire).0[..], stored("transaction", &format!("{name}_id")));
        let last = wire.len() - 5;
        let mut tampered = wire.clone();
        tampered[last] ^= 1;
        let ParsedTx::Native(native) = tx::parse(&tampered).expect(name) else { panic!("{name} is native") };
        assert_ne!(native.verify().ok().map(|address| address.0.to_vec()), Some(stored("keys", key)));
    }
}

#[test]
fn the_ethereum_transactions_are_signed_by_their_key() {
    for (name, type_byte, items) in
        [("ethereum", 0, 0), ("ethereum_access_list", 1, 2), ("ethereum_dynamic_fee", 2, 0)]
    {
        let wire = stored("transaction", name);
        let ParsedTx::Ethereum(signed) = tx::parse(&wire).expect(name) else {
            panic!("{name} is not native")
        };
        assert_eq!((signed.tx.envelope.type_byte(), signed.tx.access_items), (type_byte, items));
        assert_eq!(signed.verify().expect(name).0[..], stored("keys", "secp256k1_address"));
        assert_eq!(tx::tx_id(&wire).0[..], stored("transaction", &format!("{name}_id")));
    }
}

#[test]
fn the_batch_and_the_body_prove_their_stamps() {
    let bytes = stored("stamp", "batch");
    let Message::Batch(batch) = Message::read(&bytes).expect("a batch") else { panic!("a batch") };
    let ids: Vec<_> = batch.txs.iter().map(|tx| tx::tx_id(tx.wire)).collect();
    let leaves = batch.leaves(CHAIN, &ids);
    let root = batch.signed_root(&leaves);
    let key = VerificationKey::from(&node());
    assert!(root.verify(&key, CHAIN) && !root.verify(&key, roko_wire::ChainId(1)));
    assert_eq!(
        (leaves[0].0.to_vec(), root.root.0.to_vec()),
        (stored("stamp", "leaf"), stored("stamp", "root"))
    );
    let archive = stored("block", "body");
    let body = BodyView::access(&archive).expect("a body");
    assert_eq!(body.batch(0), Some(root));
    for (entry, leaf) in body.entries().zip(&leaves) {
        let path: Vec<_> = entry.path.iter().map(|hash| roko_wire::Hash32(*hash)).collect();
        assert_eq!(entry.stamp.leaf(CHAIN, &tx::tx_id(entry.wire)), *leaf);
        assert_eq!(roko_wire::merkle::root_from_path(*leaf, entry.leaf_index, 2, &path), Some(root.root));
    }
}

#[test]
fn votes_certificates_and_proposals_verify() {
    let public = PublicKey::key_validate(&stored("consensus", "bls_public")).expect("a key");
    let verify = |signature: &[u8], message: &[u8]| {
        let signature = Signature::sig_validate(signature, true).expect("a signature");
        signature.verify(true, message, super::consensus::DST, &[], &public, true) == BLST_ERROR::BLST_SUCCESS
    };
    for name in ["vote_notarize", "vote_final_skip"] {
        let bytes = stored("consensus", name);
        let Message::Vote(vote) = Message::read(&bytes).expect(name) else { panic!("{name} is a vote") };
        assert!(verify(&vote.signature, &vote_signing_bytes(DOMAIN, vote.view, &vote.ballot)), "{name}");
        assert!(
            !verify(&vote.signature, &vote_signing_bytes(DOMAIN, vote.view.next(), &vote.ballot)),
            "{name}"
        );
    }
    let bytes = stored("consensus", "propose");
    let Message::Propose(propose) = Message::read(&bytes).expect("a proposal") else { panic!("a proposal") };
    let certificate = &propose.certificates[0];
    let signed = vote_signing_bytes(DOMAIN, certificate.view, &certificate.kind.first_ballot());
    assert!(verify(&certificate.signature, &signed));
    let (key, id) = (VerificationKey::from(&node()), propose.header.id());
    assert!(verify_proposal(&key, DOMAIN, propose.header.view, &id, &propose.signature));
    let bytes = stored("block", "chunk");
    let Message::Chunk(chunk) = Message::read(&bytes).expect("a chunk") else { panic!("a chunk") };
    assert_eq!((chunk.block, chunk.signature), (id, propose.signature));
}

#[test]
fn the_frames_hold_the_sealed_message() {
    for (name, start) in [("udp4", 42), ("udp6", 62)] {
        let frame = stored("frame", name);
        let parsed = parse_udp(&frame).expect(name);
        assert_eq!(parsed.payload_at, start);
        assert_eq!(frame[start..start + parsed.payload_bytes], stored("frame", "sealed")[..]);
    }
}
