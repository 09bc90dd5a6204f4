//! Signature checks: a transaction's (ed25519 by ZIP-215, secp256k1 by recovery) and consensus' (BLS).
//!
//! The first case is what the verify stage does: eight checks at once where the CPU has AVX-512 IFMA (the table's note
//! says which method ran). Floors: 40,000 ed25519 checks a second and core, each of a whole transaction (reading, and key
//! to address included); and no slower than the bare check of the same bytes, one by one.

use arrayvec::ArrayVec;
use ed25519_zebra::{Signature, SigningKey, VerificationKey};
use ring::signature::{ED25519, UnparsedPublicKey};
use roko_benches::{Comparison, Report, fixtures};
use roko_consensus::verify::verify_certificate;
use roko_consensus::{
    Quorums, SecretKey, Validator, ValidatorSet, VerifiedVote, aggregate_votes, verify_votes,
};
use roko_ed25519::{Check, LANES};
use roko_wire::account::address_of_ed25519;
use roko_wire::tx::{Authorization, Ed25519Check, ParsedTx, parse};
use roko_wire::vote::{
    Ballot, Bitmap, Certificate, CertificateKind, SigningDomain, Vote, vote_signing_bytes,
};
use roko_wire::{BlockId, Epoch, ValidatorIndex, View};

/// Transactions of different senders, so that no check profits from the one before.
const TXS: u64 = 64;

fn native(criterion: &mut criterion::Criterion, report: &mut Report) {
    let keys: Vec<SigningKey> = (0..TXS).map(|index| fixtures::user(index as u32)).collect();
    let wires: Vec<Vec<u8>> = keys.iter().map(|key| fixtures::transfer(7).sign_ed25519(key)).collect();
    // The peers check a signature over as many bytes.
    let messages: Vec<&[u8]> = wires.iter().map(|wire| &wire[..wire.len() - 64 + 10]).collect();
    let signatures: Vec<[u8; 64]> =
        keys.iter().zip(&messages).map(|(key, message)| key.sign(message).to_bytes()).collect();
    let publics: Vec<[u8; 32]> = keys.iter().map(|key| VerificationKey::from(key).into()).collect();
    Comparison::new("tx_verify/scheme=ed25519", TXS)
        .call(&format!("roko_{}", roko_ed25519::method()), || wires.chunks(LANES).for_each(check_together))
        .floor_rate(40_000.0)
        .call("roko_signed_native", || {
            for wire in &wires {
                let Ok(ParsedTx::Native(tx)) = parse(wire) else { panic!("a native transaction") };
                core::hint::black_box(tx.verify().expect("it is signed"));
            }
        })
        .call("ed25519_zebra_bare", || {
            for ((public, signature), message) in publics.iter().zip(&signatures).zip(&messages) {
                let key = VerificationKey::try_from(*public).expect("a point");
                key.verify(&Signature::from(*signature), message).expect("it is signed");
            }
        })
        .floor_ratio(1.0)
        .call("ring_bare", || {
            for ((public, signature), message) in publics.iter().zip(&signatures).zip(&messages) {
                UnparsedPublicKey::new(&ED25519, public).verify(message, signature).expect("it is signed");
            }
        })
        .run(criterion, report);
}

/// Reads and checks up to eight transactions, and derives their senders.
fn check_together(wires: &[Vec<u8>]) {
    let mut messages: [ArrayVec<u8, 512>; LANES] = Default::default();
    let mut signed: ArrayVec<_, LANES> = ArrayVec::new();
    for (wire, message) in wires.iter().zip(&mut messages) {
        let Ok(ParsedTx::Native(tx)) = parse(wire) else { panic!("a native transaction") };
        let check = tx.ed25519_check().expect("an ed25519 key");
        check.message.iter().for_each(|part| message.try_extend_from_slice(part).expect("it is short"));
        signed.push(tx);
    }
    let checks: ArrayVec<Ed25519Check<'_>, LANES> =
        signed.iter().filter_map(|tx| tx.ed25519_check()).collect();
    let lanes: ArrayVec<Check<'_>, LANES> = checks
        .iter()
        .zip(&messages)
        .map(|(check, message)| Check { key: check.key, signature: check.signature, message })
        .collect();
    assert_eq!(roko_ed25519::verify(&lanes), 0xff, "all are signed");
    for check in &checks {
        core::hint::black_box(address_of_ed25519(check.key));
    }
}

fn recovered(criterion: &mut criterion::Criterion, report: &mut Report) {
    let keys = (0..TXS).map(|index| {
        k256::ecdsa::SigningKey::from_slice(&[index as u8 + 1; 32]).expect("a number below the group's order")
    });
    let wires: Vec<Vec<u8>> = keys.map(|key| fixtures::transfer(7).sign_secp256k1(&key)).collect();
    let bare: Vec<(k256::ecdsa::Signature, k256::ecdsa::RecoveryId)> = wires
        .iter()
        .map(|wire| {
            let Ok(ParsedTx::Native(tx)) = parse(wire) else { panic!("a native transaction") };
            let Authorization::Secp256k1 { signature } = tx.authorization else { panic!("secp256k1") };
            let id = k256::ecdsa::RecoveryId::from_byte(signature[64]).expect("0 or 1");
            (k256::ecdsa::Signature::from_slice(&signature[..64]).expect("two numbers"), id)
        })
        .collect();
    Comparison::new("tx_verify/scheme=secp256k1", TXS)
        .call("roko_signed_native", || {
            for wire in &wires {
                let Ok(ParsedTx::Native(tx)) = parse(wire) else { panic!("a native transaction") };
                core::hint::black_box(tx.verify().expect("it is signed"));
            }
        })
        .call("k256_recover_bare", || {
            for (signature, id) in &bare {
                // Whatever the digest, some key is recovered from it.
                let key = k256::ecdsa::VerifyingKey::recover_from_prehash(&[7; 32], signature, *id);
                core::hint::black_box(key.expect("a point"));
            }
        })
        .floor_ratio(1.05)
        .run(criterion, report);
}

fn consensus(criterion: &mut criterion::Criterion, report: &mut Report) {
    let domain = SigningDomain { chain_id: fixtures::CHAIN, epoch: Epoch(1) };
    let (view, ballot) = (View(9), Ballot::Notarize(BlockId([5; 32])));
    let keys: Vec<SecretKey> =
        (0..4).map(|index| SecretKey::from_seed(&[index + 1; 32]).expect("long enough")).collect();
    let validators = keys.iter().map(|key| Validator { public_key: key.public_key(), stake: 1 }).collect();
    let set = ValidatorSet::new(validators).expect("four validators");
    let quorums = Quorums::new(4, 1, 0).expect("one of four may be Byzantine");
    let votes: Vec<VerifiedVote> = keys[..3]
        .iter()
        .enumerate()
        .map(|(index, key)| VerifiedVote::sign(domain, key, ValidatorIndex(index as u16), view, ballot))
        .collect();
    let received: Vec<Vote> = votes.iter().map(|vote| vote.vote().clone()).collect();
    let mut signers = Bitmap::default();
    received.iter().for_each(|vote| assert!(signers.insert(vote.signer), "each signs once"));
    let certificate = Certificate {
        view,
        kind: CertificateKind::SlowBlock(BlockId([5; 32])),
        signers,
        fallback_signers: Bitmap::default(),
        signature: aggregate_votes(&votes.iter().collect::<Vec<_>>()),
    };
    let message = vote_signing_bytes(domain, view, &ballot);
    let (point, public) = (keys[0].sign(&message), keys[0].public_key());
    Comparison::new("bls/signers=3", 1)
        .call("roko_verify_votes_of_3", || {
            assert_eq!(verify_votes(&received, domain, &set).verified.len(), 3);
        })
        .call("three_single_checks", || {
            for vote in &received {
                let one = core::slice::from_ref(vote);
                assert_eq!(verify_votes(one, domain, &set).verified.len(), 1);
            }
        })
        .floor_ratio(1.0)
        .call("single_signature_check", || point.verify(&public, &message).expect("it is signed"))
        .call("verify_certificate", || {
            verify_certificate(certificate.clone(), domain, &set, &quorums).expect("three of four signed")
        })
        .call("sign", || keys[0].sign(&message))
        .run(criterion, report);
}

fn main() {
    let mut report = Report::new("signatures", "none; one core");
    let mut criterion = Report::criterion();
    native(&mut criterion, &mut report);
    recovered(&mut criterion, &mut report);
    consensus(&mut criterion, &mut report);
    report.finish(criterion);
}
