//! Real keys and signatures: what verifies, what does not, and that bad signers are named.

use super::*;
use crate::set::Validator;
use roko_wire::{BlockId, ChainId, Epoch};

const DOMAIN: SigningDomain = SigningDomain { chain_id: ChainId(7), epoch: Epoch(2) };
const BLOCK: BlockId = BlockId([5; 32]);

fn keys(n: usize) -> Vec<SecretKey> {
    (0..n).map(|i| SecretKey::from_seed(&[i as u8 + 1; 32]).unwrap()).collect()
}

fn set(keys: &[SecretKey]) -> ValidatorSet {
    let validators = keys.iter().map(|key| Validator { public_key: key.public_key(), stake: 1 });
    ValidatorSet::new(validators.collect()).unwrap()
}

fn vote(keys: &[SecretKey], signer: u16, view: u64, ballot: Ballot) -> VerifiedVote {
    VerifiedVote::sign(DOMAIN, &keys[usize::from(signer)], ValidatorIndex(signer), View(view), ballot)
}

fn plain(votes: &[VerifiedVote]) -> Vec<Vote> {
    votes.iter().map(|vote| vote.vote().clone()).collect()
}

fn certificate(kind: CertificateKind, first: &[VerifiedVote], second: &[VerifiedVote]) -> Certificate {
    let (mut signers, mut fallback_signers) = (Bitmap::default(), Bitmap::default());
    first.iter().for_each(|vote| assert!(signers.insert(vote.vote().signer)));
    second.iter().for_each(|vote| assert!(fallback_signers.insert(vote.vote().signer)));
    let all: Vec<&VerifiedVote> = first.iter().chain(second).collect();
    Certificate { view: View(9), kind, signers, fallback_signers, signature: aggregate_votes(&all) }
}

#[test]
fn a_mixed_batch_verifies_at_once() {
    let keys = keys(6);
    let ballots =
        [Ballot::Notarize(BLOCK), Ballot::Notarize(BLOCK), Ballot::Skip, Ballot::FinalSkip, Ballot::Skip];
    let votes: Vec<_> = (0..5).map(|i| vote(&keys, i, 9, ballots[usize::from(i)])).collect();
    let batch = verify_votes(&plain(&votes), DOMAIN, &set(&keys));
    assert_eq!((batch.verified.len(), batch.bad.len()), (5, 0));
}

#[test]
fn bad_signers_are_named_and_the_others_kept() {
    let keys = keys(8);
    let mut votes = plain(&(0..8).map(|i| vote(&keys, i, 9, Ballot::Notarize(BLOCK))).collect::<Vec<_>>());
    // Another view's signature, another validator's, no point at all, the point at infinity, an unknown signer.
    votes[1].signature = vote(&keys, 1, 10, Ballot::Notarize(BLOCK)).vote().signature;
    votes[3].signature = votes[2].signature;
    votes[4].signature = [0xff; 96];
    votes[5].signature = [0; 96];
    votes[5].signature[0] = 0xc0;
    votes[7].signer = ValidatorIndex(200);
    let batch = verify_votes(&votes, DOMAIN, &set(&keys));
    let mut bad: Vec<u16> = batch.bad.iter().map(|vote| vote.signer.0).collect();
    bad.sort_unstable();
    assert_eq!(bad, [1, 3, 4, 5, 200]);
    let good: Vec<u16> = batch.verified.iter().map(|vote| vote.vote().signer.0).collect();
    assert_eq!(good, [0, 2, 6]);
}

#[test]
fn signatures_that_cancel_out_do_not_pass_together() {
    let keys = keys(4);
    let mut votes = plain(&[0, 1].map(|i| vote(&keys, i, 9, Ballot::Notarize(BLOCK))));
    // The two signatures swapped have the right sum, so only weights tell that neither is its signer's.
    let first = votes[0].signature;
    votes[0].signature = std::mem::replace(&mut votes[1].signature, first);
    let batch = verify_votes(&votes, DOMAIN, &set(&keys));
    assert_eq!((batch.verified.len(), batch.bad.len()), (0, 2));
}

#[test]
fn points_outside_the_subgroup_are_refused() {
    // Compressed points x = c0 on the curve but, the cofactor being huge, outside the subgroup.
    let mut outside = 0;
    for x in 0..16u8 {
        let mut bytes = [0; 96];
        (bytes[0], bytes[95]) = (0x80, x);
        let on_curve = blst::min_pk::Signature::uncompress(&bytes).is_ok();
        outside += usize::from(on_curve);
        assert_eq!(Signature::from_bytes(&bytes), Err(bls::BlsError::Signature));
        let mut key = [0; 48];
        (key[0], key[47]) = (0x80, x);
        assert_eq!(PublicKey::from_bytes(&key), Err(bls::BlsError::PublicKey));
    }
    assert!(outside > 0, "no tried point is on the curve");
}

#[test]
fn certificates_verify_and_every_change_spoils_them() {
    let keys = keys(4);
    let (set, quorums) = (set(&keys), Quorums::new(4, 1, 0).unwrap());
    let check = |certificate: Certificate| verify_certificate(certificate, DOMAIN, &set, &quorums);
    let votes: Vec<_> = (0..3).map(|i| vote(&keys, i, 9, Ballot::Notarize(BLOCK))).collect();
    let good = certificate(CertificateKind::SlowBlock(BLOCK), &votes, &[]);
    assert_eq!(check(good.clone()).unwrap().certificate(), &good);
    let few = certificate(CertificateKind::SlowBlock(BLOCK), &votes[..2], &[]);
    assert_eq!(check(few), Err(CertificateError::Stake { stake: 2, needed: 3 }));
    let mut other = good.clone();
    other.view = View(10);
    assert!(matches!(check(other), Err(CertificateError::Signature(_))));
    let mut other = good.clone();
    other.kind = CertificateKind::CommitSlow(BLOCK);
    assert!(matches!(check(other), Err(CertificateError::Signature(_))));
    let mut other = good.clone();
    other.signers.insert(ValidatorIndex(3));
    assert!(matches!(check(other), Err(CertificateError::Signature(_))));
    let mut other = good;
    other.signers.insert(ValidatorIndex(99));
    assert_eq!(check(other), Err(CertificateError::UnknownSigner));
}

#[test]
fn a_fast_skip_has_two_messages_and_each_signer_once() {
    let keys = keys(4);
    let (set, quorums) = (set(&keys), Quorums::new(4, 1, 0).unwrap());
    let check = |certificate: Certificate| verify_certificate(certificate, DOMAIN, &set, &quorums);
    let (skip, fallback) = (vote(&keys, 0, 9, Ballot::Skip), vote(&keys, 2, 9, Ballot::SkipFallback));
    let good =
        certificate(CertificateKind::FastSkip, std::slice::from_ref(&skip), std::slice::from_ref(&fallback));
    assert!(check(good.clone()).is_ok());
    let only =
        certificate(CertificateKind::FastSkip, &[], &[fallback, vote(&keys, 3, 9, Ballot::SkipFallback)]);
    assert!(check(only).is_ok());
    let mut swapped = good;
    std::mem::swap(&mut swapped.signers, &mut swapped.fallback_signers);
    assert!(matches!(check(swapped), Err(CertificateError::Signature(_))));
    let twice = certificate(CertificateKind::FastSkip, &[skip], &[vote(&keys, 0, 9, Ballot::SkipFallback)]);
    assert_eq!(check(twice), Err(CertificateError::SignerTwice));
}

#[test]
fn possession_is_of_one_key_and_no_vote() {
    let keys = keys(2);
    let (proof, own) = (keys[0].prove_possession(), keys[0].public_key());
    assert_eq!(bls::verify_possession(&own, &proof), Ok(()));
    assert_eq!(bls::verify_possession(&keys[1].public_key(), &proof), Err(bls::BlsError::Mismatch));
    // A vote over the key's bytes is under another tag and proves nothing.
    let vote = keys[0].sign(&own.to_bytes()).to_bytes();
    assert_eq!(bls::verify_possession(&own, &vote), Err(bls::BlsError::Mismatch));
}

#[test]
fn secret_keys_round_trip_and_stay_secret() {
    let key = SecretKey::from_seed(&[3; 32]).unwrap();
    let again = SecretKey::from_bytes(&key.to_bytes()).unwrap();
    assert_eq!(again.public_key(), key.public_key());
    assert_eq!(format!("{key:?}"), "SecretKey(..)");
    assert_eq!(SecretKey::from_bytes(&[0; 32]).unwrap_err(), bls::BlsError::SecretKey);
    assert_eq!(SecretKey::from_seed(&[1; 31]).unwrap_err(), bls::BlsError::ShortSeed { bytes: 31 });
}

#[test]
fn a_commit_of_this_very_block_proves_it_final() {
    let keys = keys(4);
    let (set, quorums) = (set(&keys), Quorums::new(4, 1, 0).unwrap());
    let votes = |ballot: Ballot, signers: &[u16]| -> Vec<_> {
        signers.iter().map(|signer| vote(&keys, *signer, 9, ballot)).collect()
    };
    let of =
        |kind: CertificateKind, signers: &[u16]| certificate(kind, &votes(kind.first_ballot(), signers), &[]);
    let proves = |certificates: &[Certificate], view: u64, block: BlockId| {
        verify_final(block, View(view), certificates, DOMAIN, &set, &quorums)
    };
    let fast = of(CertificateKind::CommitFast(BLOCK), &[0, 1, 2, 3]);
    let slow = of(CertificateKind::SlowBlock(BLOCK), &[0, 1, 2]);
    let commit = of(CertificateKind::CommitSlow(BLOCK), &[1, 2, 3]);
    assert_eq!(proves(&[slow.clone(), fast.clone()], 9, BLOCK), Ok(vec![fast.clone()]));
    assert_eq!(proves(&[commit.clone(), slow.clone()], 9, BLOCK), Ok(vec![slow.clone(), commit.clone()]));
    assert_eq!(proves(std::slice::from_ref(&slow), 9, BLOCK), Err(ProofError::NoCommit));
    assert_eq!(proves(std::slice::from_ref(&commit), 9, BLOCK), Err(ProofError::NoCommit));
    assert_eq!(proves(std::slice::from_ref(&fast), 8, BLOCK), Err(ProofError::NoCommit));
    assert_eq!(proves(std::slice::from_ref(&fast), 9, BlockId([6; 32])), Err(ProofError::NoCommit));
    let poor = of(CertificateKind::CommitSlow(BLOCK), &[1, 2]);
    assert!(matches!(
        proves(&[slow.clone(), poor], 9, BLOCK),
        Err(ProofError::Certificate(CertificateError::Stake { .. }))
    ));
    let forged = Certificate { signature: slow.signature, ..commit };
    assert!(matches!(
        proves(&[slow, forged], 9, BLOCK),
        Err(ProofError::Certificate(CertificateError::Signature(_)))
    ));
}
