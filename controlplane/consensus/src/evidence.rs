//! Portable evidence of broken voting rules: anybody with the validator set can check it.
//!
//! Slashable pairs of one validator in one view: two Proposes; two different Notarizes; Notarize and Skip; any two
//! different of Final and FinalSkip. Not slashable, because honest validators do it: Notarize and SkipFallback,
//! Skip and Final.

use crate::bls::Signature;
use crate::set::ValidatorSet;
use roko_wire::codec::{DecodeError, Reader, Sink};
use roko_wire::vote::{Ballot, SigningDomain, Vote, read_signer, vote_signing_bytes};
use roko_wire::{BlockId, ValidatorIndex, View};

/// Bytes that a Propose's signature covers: a domain string, chain id, epoch, view, block id.
pub const PROPOSE_SIGNING_BYTES: usize = 15 + 8 + 8 + 8 + 32;

/// The canonical bytes signed by a proposer with its ed25519 node key.
#[must_use]
pub fn propose_signing_bytes(
    domain: SigningDomain,
    view: View,
    block: BlockId,
) -> [u8; PROPOSE_SIGNING_BYTES] {
    let mut out = Vec::with_capacity(PROPOSE_SIGNING_BYTES);
    out.put(b"roko/propose/1\0");
    out.put_u64(domain.chain_id.0);
    out.put_u64(domain.epoch.0);
    out.put_u64(view.0);
    out.put(&block.0);
    out.try_into().expect("every field is fixed in size")
}

/// Checks a proposer's signature by ZIP-215.
#[must_use]
pub fn propose_verifies(
    domain: SigningDomain,
    view: View,
    block: BlockId,
    node_key: &[u8; 32],
    signature: &[u8; 64],
) -> bool {
    let Ok(key) = ed25519_zebra::VerificationKey::try_from(*node_key) else { return false };
    key.verify(&(*signature).into(), &propose_signing_bytes(domain, view, block)).is_ok()
}

/// A Propose without its block: enough to show that two were signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedProposal {
    /// The block's id.
    pub block: BlockId,
    /// The proposer's ed25519 signature.
    pub signature: [u8; 64],
}

/// A validator broke a rule, with the signatures that show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Two votes of a view that no honest validator casts both.
    Votes {
        /// One vote.
        first: Vote,
        /// The other.
        second: Vote,
    },
    /// Two blocks proposed in a view.
    Proposals {
        /// The view.
        view: View,
        /// Who proposed.
        proposer: ValidatorIndex,
        /// One Propose.
        first: SignedProposal,
        /// The other.
        second: SignedProposal,
    },
}

/// Why evidence shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// The two are of different signers or views.
    #[error("the two messages are of different validators or views, which breaks no rule")]
    Unrelated,
    /// The pair is lawful.
    #[error("an honest validator may send both of these ballots in a view")]
    Lawful,
    /// The signer is not in the set.
    #[error("validator {0} is not in the validator set: check it with the set of its epoch")]
    UnknownSigner(ValidatorIndex),
    /// A signature does not fit.
    #[error("a signature of the evidence does not verify")]
    Signature,
}

/// Whether one validator's two ballots in one view break a rule.
#[must_use]
pub fn slashable(first: &Ballot, second: &Ballot) -> bool {
    use Ballot::{Final, FinalSkip, Notarize, Skip};
    match (first, second) {
        (Notarize(a), Notarize(b)) | (Final(a), Final(b)) => a != b,
        (Notarize(_), Skip) | (Skip, Notarize(_)) => true,
        (Final(_), FinalSkip) | (FinalSkip, Final(_)) => true,
        _ => false,
    }
}

impl Evidence {
    /// Who broke the rule.
    #[must_use]
    pub const fn accused(&self) -> ValidatorIndex {
        match self {
            Evidence::Votes { first, .. } => first.signer,
            Evidence::Proposals { proposer, .. } => *proposer,
        }
    }

    /// Checks everything. `node_key` gives a validator's ed25519 key in the epoch.
    pub fn verify(
        &self,
        domain: SigningDomain,
        set: &ValidatorSet,
        node_key: impl Fn(ValidatorIndex) -> Option<[u8; 32]>,
    ) -> Result<(), EvidenceError> {
        match self {
            Evidence::Votes { first, second } => verify_votes(first, second, domain, set),
            Evidence::Proposals { view, proposer, first, second } => {
                if first.block == second.block {
                    return Err(EvidenceError::Lawful);
                }
                let key = node_key(*proposer).ok_or(EvidenceError::UnknownSigner(*proposer))?;
                let fits =
                    |one: &SignedProposal| propose_verifies(domain, *view, one.block, &key, &one.signature);
                if fits(first) && fits(second) { Ok(()) } else { Err(EvidenceError::Signature) }
            }
        }
    }

    /// Appends the canonical layout: a kind byte, then two votes, or view, proposer and two Proposes.
    pub fn write(&self, out: &mut impl Sink) {
        match self {
            Evidence::Votes { first, second } => {
                out.put_u8(1);
                first.write(out);
                second.write(out);
            }
            Evidence::Proposals { view, proposer, first, second } => {
                out.put_u8(2);
                out.put_u64(view.0);
                out.put_u16(proposer.0);
                for one in [first, second] {
                    out.put(&one.block.0);
                    out.put(&one.signature);
                }
            }
        }
    }

    /// Reads the canonical layout. Nothing is verified here.
    pub fn read(reader: &mut Reader<'_>) -> Result<Evidence, DecodeError> {
        match reader.u8("evidence kind")? {
            1 => Ok(Evidence::Votes { first: Vote::read(reader)?, second: Vote::read(reader)? }),
            2 => {
                let view = View(reader.u64("evidence view")?);
                let proposer = read_signer(reader)?;
                let mut one = || -> Result<SignedProposal, DecodeError> {
                    let block = BlockId(reader.array("evidence block")?);
                    Ok(SignedProposal { block, signature: reader.array("evidence signature")? })
                };
                Ok(Evidence::Proposals { view, proposer, first: one()?, second: one()? })
            }
            kind => Err(DecodeError::BadValue { field: "evidence kind", value: u64::from(kind) }),
        }
    }
}

fn verify_votes(
    first: &Vote,
    second: &Vote,
    domain: SigningDomain,
    set: &ValidatorSet,
) -> Result<(), EvidenceError> {
    if first.signer != second.signer || first.view != second.view {
        return Err(EvidenceError::Unrelated);
    }
    if !slashable(&first.ballot, &second.ballot) {
        return Err(EvidenceError::Lawful);
    }
    let validator = set.get(first.signer).ok_or(EvidenceError::UnknownSigner(first.signer))?;
    for vote in [first, second] {
        let message = vote_signing_bytes(domain, vote.view, &vote.ballot);
        Signature::from_bytes(&vote.signature)
            .and_then(|signature| signature.verify(&validator.public_key, &message))
            .map_err(|_| EvidenceError::Signature)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
