//! Which pairs are slashable, and that evidence stands on its own signatures.

use super::*;
use crate::bls::SecretKey;
use crate::set::Validator;
use crate::verify::VerifiedVote;
use roko_wire::{ChainId, Epoch};

const DOMAIN: SigningDomain = SigningDomain { chain_id: ChainId(1), epoch: Epoch(0) };
const A: BlockId = BlockId([1; 32]);
const B: BlockId = BlockId([2; 32]);

fn nobody(_: ValidatorIndex) -> Option<[u8; 32]> {
    None
}

fn fixture() -> (SecretKey, ValidatorSet) {
    let key = SecretKey::from_seed(&[1; 32]).unwrap();
    let set = ValidatorSet::new(vec![Validator { public_key: key.public_key(), stake: 1 }]).unwrap();
    (key, set)
}

fn vote(key: &SecretKey, view: u64, ballot: Ballot) -> Vote {
    VerifiedVote::sign(DOMAIN, key, ValidatorIndex(0), View(view), ballot).vote().clone()
}

#[test]
fn only_exclusive_pairs_are_slashable() {
    use Ballot::{Final, FinalSkip, Notarize, Skip, SkipFallback};
    let all = [Notarize(A), Notarize(B), Skip, SkipFallback, Final(A), Final(B), FinalSkip];
    let listed = [
        (Notarize(A), Notarize(B)),
        (Notarize(A), Skip),
        (Notarize(B), Skip),
        (Final(A), Final(B)),
        (Final(A), FinalSkip),
        (Final(B), FinalSkip),
    ];
    for first in all {
        for second in all {
            let expected = listed.contains(&(first, second)) || listed.contains(&(second, first));
            assert_eq!(slashable(&first, &second), expected, "{first:?} {second:?}");
        }
    }
}

#[test]
fn two_votes_prove_themselves_and_lawful_or_forged_pairs_do_not() {
    let (key, set) = fixture();
    let pair = |first: Vote, second: Vote| Evidence::Votes { first, second }.verify(DOMAIN, &set, nobody);
    let (a, b) = (vote(&key, 4, Ballot::Notarize(A)), vote(&key, 4, Ballot::Notarize(B)));
    assert_eq!(pair(a.clone(), b.clone()), Ok(()));
    assert_eq!(pair(a.clone(), a.clone()), Err(EvidenceError::Lawful));
    assert_eq!(pair(a.clone(), vote(&key, 4, Ballot::SkipFallback)), Err(EvidenceError::Lawful));
    assert_eq!(pair(a.clone(), vote(&key, 5, Ballot::Notarize(B))), Err(EvidenceError::Unrelated));
    let mut forged = b;
    forged.signature = a.signature;
    assert_eq!(pair(a, forged), Err(EvidenceError::Signature));
}

#[test]
fn two_proposals_prove_themselves_with_the_node_key() {
    let (_, set) = fixture();
    let node = ed25519_zebra::SigningKey::from([9; 32]);
    let public: [u8; 32] = ed25519_zebra::VerificationKey::from(&node).into();
    let signed = |view, block| {
        let signature = node.sign(&propose_signing_bytes(DOMAIN, View(view), block)).into();
        SignedProposal { block, signature }
    };
    let check = |first, second| {
        let evidence = Evidence::Proposals { view: View(4), proposer: ValidatorIndex(0), first, second };
        let mut bytes = Vec::new();
        evidence.write(&mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(Evidence::read(&mut reader).as_ref(), Ok(&evidence));
        assert!(evidence.verify(DOMAIN, &set, nobody).is_err());
        evidence.verify(DOMAIN, &set, |index| (index.0 == 0).then_some(public))
    };
    assert_eq!(check(signed(4, A), signed(4, B)), Ok(()));
    assert_eq!(check(signed(4, A), signed(4, A)), Err(EvidenceError::Lawful));
    assert_eq!(check(signed(4, A), signed(5, B)), Err(EvidenceError::Signature));
}

#[test]
fn vote_evidence_round_trips_and_truncation_is_an_error() {
    let (key, _) = fixture();
    let (first, second) = (vote(&key, 4, Ballot::Final(A)), vote(&key, 4, Ballot::FinalSkip));
    let evidence = Evidence::Votes { first, second };
    let mut bytes = Vec::new();
    evidence.write(&mut bytes);
    assert_eq!(Evidence::read(&mut Reader::new(&bytes)), Ok(evidence));
    assert!((0..bytes.len()).all(|len| Evidence::read(&mut Reader::new(&bytes[..len])).is_err()));
}
