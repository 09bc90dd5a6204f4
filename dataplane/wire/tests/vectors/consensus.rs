//! Vectors of votes, certificates and proposals.

use super::Vector;
use crate::samples::*;
use blst::min_pk::{AggregateSignature, SecretKey};
use roko_wire::chunk::{Propose, sign_proposal};
use roko_wire::ids::{BlockId, ValidatorIndex, View};
use roko_wire::message::Message;
use roko_wire::vote::{Ballot, Bitmap, BlsSignature, Certificate, CertificateKind, Vote, vote_signing_bytes};

/// Ciphersuite of votes (draft-irtf-cfrg-bls-signature-05, 4.2.3).
pub(crate) const DST: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
/// Ciphersuite of proofs of possession.
const POSSESSION_DST: &[u8] = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

fn secret() -> SecretKey {
    SecretKey::key_gen(&bytes::<32>(BLS_SEED), &[]).expect("32 bytes of key material")
}

fn sign(view: View, ballot: &Ballot) -> blst::min_pk::Signature {
    secret().sign(&vote_signing_bytes(DOMAIN, view, ballot), DST, &[])
}

fn vote(ballot: Ballot) -> Vote {
    let view = View(41);
    Vote { view, ballot, signer: ValidatorIndex(2), signature: sign(view, &ballot).to_bytes() }
}

fn bitmap(members: &[u16]) -> Bitmap {
    let mut bitmap = Bitmap::default();
    members.iter().for_each(|index| assert!(bitmap.insert(ValidatorIndex(*index))));
    bitmap
}

/// A certificate of one signature: the aggregate of one is itself.
pub(crate) fn slow_block() -> Certificate {
    let kind = CertificateKind::SlowBlock(BlockId(counting(0x01)));
    let signature = sign(View(40), &kind.first_ballot()).to_bytes();
    Certificate {
        view: View(40),
        kind,
        signers: bitmap(&[2]),
        fallback_signers: Bitmap::default(),
        signature,
    }
}

/// A certificate with both bitmaps: validator 2 signs `Skip`, validator 9 `SkipFallback`, here with one key.
fn fast_skip() -> Certificate {
    let parts = [sign(View(41), &Ballot::Skip), sign(View(41), &Ballot::SkipFallback)];
    let both = AggregateSignature::aggregate(&[&parts[0], &parts[1]], true).expect("two signatures");
    let signature: BlsSignature = both.to_signature().to_bytes();
    let (signers, fallback_signers) = (bitmap(&[2]), bitmap(&[9]));
    Certificate { view: View(41), kind: CertificateKind::FastSkip, signers, fallback_signers, signature }
}

fn message(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.write(&mut out);
    out
}

pub(crate) fn vectors() -> Vec<Vector> {
    let public = secret().sk_to_pk().to_bytes();
    let possession = secret().sign(&public, POSSESSION_DST, &[]).to_bytes();
    let block = header().id();
    let notarize = Ballot::Notarize(block);
    let propose = Propose {
        header: header(),
        signature: sign_proposal(&node(), DOMAIN, View(41), &block),
        certificates: [slow_block()].into_iter().collect(),
        certificate_count: 1,
    };
    let signed = |vector: Vector| vector.from("key_material", BLS_SEED).from("view", 41).from("signer", 2);
    vec![
        Vector::new("bls_public", public).from("key_material", BLS_SEED),
        Vector::new("bls_possession", possession).from("key_material", BLS_SEED),
        Vector::new("vote_signing_bytes", vote_signing_bytes(DOMAIN, View(41), &notarize))
            .from("chain_id", CHAIN)
            .from("epoch", 3)
            .from("view", 41)
            .from("ballot", "notarize block/header_id"),
        signed(Vector::new("vote_notarize", message(&Message::Vote(vote(notarize)))))
            .from("block", "block/header_id"),
        signed(Vector::new("vote_final_skip", message(&Message::Vote(vote(Ballot::FinalSkip))))),
        Vector::new("certificate_slow_block", message(&Message::Certificate(slow_block())))
            .from("key_material", BLS_SEED)
            .from("view", 40)
            .from("block", BlockId(counting(0x01)))
            .from("signers", 2),
        Vector::new("certificate_fast_skip", message(&Message::Certificate(fast_skip())))
            .from("key_material", BLS_SEED)
            .from("view", 41)
            .from("signers", 2)
            .from("fallback_signers", 9),
        Vector::new("proposal_signature", propose.signature)
            .from("secret", NODE_SECRET)
            .from("view", 41)
            .from("block", "block/header_id"),
        Vector::new("propose", message(&Message::Propose(propose)))
            .from("header", "block/header")
            .from("certificates", "consensus/certificate_slow_block"),
    ]
}
