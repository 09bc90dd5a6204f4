//! From received bytes to evidence that the machine may count: verified votes and verified certificates.
//!
//! The types can be made only by checking a signature, by signing, or by `assume`, whose callers vouch for it.

use crate::bls::{self, PublicKey, SecretKey, Signature, WeightedTerm};
use crate::quorum::Quorums;
use crate::set::ValidatorSet;
use roko_wire::codec::Sink;
use roko_wire::vote::{
    Ballot, Bitmap, BlsSignature, Certificate, CertificateKind, SigningDomain, Vote, vote_signing_bytes,
};
use roko_wire::{BlockId, ValidatorIndex, View};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A vote whose signature has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedVote {
    vote: Vote,
    point: Option<Signature>,
}

impl VerifiedVote {
    /// Signs a ballot.
    #[must_use]
    pub fn sign(
        domain: SigningDomain,
        key: &SecretKey,
        signer: ValidatorIndex,
        view: View,
        ballot: Ballot,
    ) -> VerifiedVote {
        let point = key.sign(&vote_signing_bytes(domain, view, &ballot));
        VerifiedVote { vote: Vote { view, ballot, signer, signature: point.to_bytes() }, point: Some(point) }
    }

    /// Takes a vote as verified: a node's own from its own log, or a simulator's.
    #[must_use]
    pub const fn assume(vote: Vote) -> VerifiedVote {
        VerifiedVote { vote, point: None }
    }

    /// The vote.
    #[must_use]
    pub const fn vote(&self) -> &Vote {
        &self.vote
    }
}

/// How a certificate's signature is made of its votes'. The machine takes it as an argument, so that a simulator
/// of millions of runs need not compute curve points.
pub type Aggregator = fn(&[&VerifiedVote]) -> BlsSignature;

/// The [`Aggregator`] of a real chain: the sum of the signatures.
#[must_use]
pub fn aggregate_votes(votes: &[&VerifiedVote]) -> BlsSignature {
    let point =
        |vote: &&VerifiedVote| vote.point.or_else(|| Signature::from_bytes(&vote.vote.signature).ok());
    let points: Vec<Signature> = votes.iter().filter_map(point).collect();
    bls::sum_signatures(&points).map_or([0; 96], |sum| sum.to_bytes())
}

/// A certificate whose signature and stake have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCertificate(Certificate);

impl VerifiedCertificate {
    /// Takes a certificate as verified: made of verified votes, from a node's own log, or a simulator's.
    #[must_use]
    pub const fn assume(certificate: Certificate) -> VerifiedCertificate {
        VerifiedCertificate(certificate)
    }

    /// The certificate.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.0
    }

    /// The certificate.
    #[must_use]
    pub fn into_inner(self) -> Certificate {
        self.0
    }
}

/// Why a certificate proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// A bit outside the validator set.
    #[error("the certificate names a signer outside the validator set: it is of another epoch or forged")]
    UnknownSigner,
    /// A signer in both bitmaps would count twice.
    #[error("a signer is in both bitmaps of the certificate: each may count once")]
    SignerTwice,
    /// Fewer stake than the kind needs.
    #[error("the certificate's signers hold {stake} ROKO, its kind needs {needed}")]
    Stake {
        /// Stake of the signers.
        stake: u64,
        /// Stake that the kind needs.
        needed: u64,
    },
    /// The aggregate signature does not fit.
    #[error("the certificate's aggregate signature: {0}")]
    Signature(#[from] bls::BlsError),
}

/// Stake that a kind of certificate needs.
#[must_use]
pub const fn stake_needed(quorums: &Quorums, kind: &CertificateKind) -> u64 {
    match kind {
        CertificateKind::FastBlock(_) | CertificateKind::FastSkip => quorums.fast_certificate,
        CertificateKind::SlowBlock(_) | CertificateKind::SlowSkip | CertificateKind::CommitSlow(_) => {
            quorums.slow
        }
        CertificateKind::CommitFast(_) => quorums.fast_commit,
    }
}

/// Checks bitmaps and stake of a certificate, not its signature.
pub fn check_stake(
    certificate: &Certificate,
    set: &ValidatorSet,
    quorums: &Quorums,
) -> Result<(), CertificateError> {
    let (first, second) = (&certificate.signers, &certificate.fallback_signers);
    if first.iter().any(|signer| second.contains(signer)) {
        return Err(CertificateError::SignerTwice);
    }
    let stake = set.stake_of(first).zip(set.stake_of(second)).ok_or(CertificateError::UnknownSigner)?;
    // The sets are disjoint parts of a validator set whose sum is representable.
    let (stake, needed) = (stake.0 + stake.1, stake_needed(quorums, &certificate.kind));
    if stake < needed { Err(CertificateError::Stake { stake, needed }) } else { Ok(()) }
}

/// Checks everything about a received certificate.
pub fn verify_certificate(
    certificate: Certificate,
    domain: SigningDomain,
    set: &ValidatorSet,
    quorums: &Quorums,
) -> Result<VerifiedCertificate, CertificateError> {
    check_stake(&certificate, set, quorums)?;
    let signature = Signature::from_bytes(&certificate.signature)?;
    let keys_of = |bitmap: &Bitmap| -> Vec<&PublicKey> {
        bitmap.iter().filter_map(|signer| set.get(signer)).map(|validator| &validator.public_key).collect()
    };
    let (first, second) = (keys_of(&certificate.signers), keys_of(&certificate.fallback_signers));
    let first_message = vote_signing_bytes(domain, certificate.view, &certificate.kind.first_ballot());
    let second_message = vote_signing_bytes(domain, certificate.view, &Ballot::SkipFallback);
    signature.verify_groups(&[(&first, &first_message), (&second, &second_message)])?;
    Ok(VerifiedCertificate(certificate))
}

/// Why a block is not proven final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// No CommitFast, and not both SlowBlock and CommitSlow, of this block in its view.
    #[error("there is no commit of the block among its certificates")]
    NoCommit,
    /// One of them does not hold.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Checks that `certificates` prove `block` of `view` final: a CommitFast, or SlowBlock and CommitSlow. Returns those.
///
/// # Errors
/// When they are not there, or do not hold.
pub fn verify_final(
    block: BlockId,
    view: View,
    certificates: &[Certificate],
    domain: SigningDomain,
    set: &ValidatorSet,
    quorums: &Quorums,
) -> Result<Vec<Certificate>, ProofError> {
    let of = |kind: CertificateKind| certificates.iter().find(|c| c.view == view && c.kind == kind);
    let proof = match of(CertificateKind::CommitFast(block)) {
        Some(fast) => vec![fast.clone()],
        None => {
            let pair = of(CertificateKind::SlowBlock(block)).zip(of(CertificateKind::CommitSlow(block)));
            let (slow, commit) = pair.ok_or(ProofError::NoCommit)?;
            vec![slow.clone(), commit.clone()]
        }
    };
    for certificate in &proof {
        verify_certificate(certificate.clone(), domain, set, quorums)?;
    }
    Ok(proof)
}

/// What became of a batch of votes.
#[derive(Clone, Debug, Default)]
pub struct VerifiedBatch {
    /// Votes that verify, in the order given.
    pub verified: Vec<VerifiedVote>,
    /// Votes that do not: their signatures do not fit, or are no points, or their signers are unknown.
    pub bad: Vec<Vote>,
}

/// Checks votes in one product of pairings, and bisects when that fails until the bad ones are named.
#[must_use]
pub fn verify_votes(votes: &[Vote], domain: SigningDomain, set: &ValidatorSet) -> VerifiedBatch {
    let mut batch = VerifiedBatch::default();
    let mut points = Vec::with_capacity(votes.len());
    for vote in votes {
        match (Signature::from_bytes(&vote.signature), set.get(vote.signer)) {
            (Ok(point), Some(validator)) => points.push((vote, point, &validator.public_key)),
            _ => batch.bad.push(vote.clone()),
        }
    }
    let weights = weights_of(votes);
    bisect(&points, &weights, domain, &mut batch);
    batch
}

type Candidate<'a> = (&'a Vote, Signature, &'a PublicKey);

fn bisect(candidates: &[Candidate<'_>], weights: &[u64], domain: SigningDomain, batch: &mut VerifiedBatch) {
    if candidates.is_empty() {
        return;
    }
    if group_verifies(candidates, weights, domain) {
        let verified = candidates.iter().map(|(vote, point, _)| (*vote, *point));
        batch
            .verified
            .extend(verified.map(|(vote, point)| VerifiedVote { vote: vote.clone(), point: Some(point) }));
    } else if let [(vote, _, _)] = candidates {
        batch.bad.push((*vote).clone());
    } else {
        let middle = candidates.len() / 2;
        bisect(&candidates[..middle], &weights[..middle], domain, batch);
        bisect(&candidates[middle..], &weights[middle..], domain, batch);
    }
}

fn group_verifies(candidates: &[Candidate<'_>], weights: &[u64], domain: SigningDomain) -> bool {
    if let [(vote, point, key)] = candidates {
        return point.verify(key, &vote_signing_bytes(domain, vote.view, &vote.ballot)).is_ok();
    }
    let mut groups: BTreeMap<(View, Ballot), Vec<WeightedTerm<'_>>> = BTreeMap::new();
    for ((vote, signature, key), weight) in candidates.iter().zip(weights) {
        let term = WeightedTerm { key, signature, weight: *weight };
        groups.entry((vote.view, vote.ballot)).or_default().push(term);
    }
    let messages: Vec<_> =
        groups.keys().map(|(view, ballot)| vote_signing_bytes(domain, *view, ballot)).collect();
    let terms: Vec<(Vec<WeightedTerm<'_>>, &[u8])> =
        groups.into_values().zip(&messages).map(|(terms, message)| (terms, &message[..])).collect();
    bls::batch_verifies(&terms)
}

/// Weights that depend on every vote of the batch, so that a signer would have to search 2^64 of them.
fn weights_of(votes: &[Vote]) -> Vec<u64> {
    let mut hash = Sha256::new();
    hash.put(b"roko/batch/1\0");
    for vote in votes {
        vote.write(&mut hash);
    }
    let seed = hash.finalize();
    let weight = |place: usize| {
        // Only the ratios matter: the first needs none.
        if place == 0 {
            return 1;
        }
        let mut hash = Sha256::new();
        hash.put(&seed);
        hash.put_u64(place as u64);
        let digest = hash.finalize();
        u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes")).max(1)
    };
    (0..votes.len()).map(weight).collect()
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
