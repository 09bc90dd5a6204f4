//! Certificates by their exact bytes: what a proposal's justification is compared with.
//!
//! A proposal's header commits to the very certificates that its leader holds. Checking their signatures again would
//! cost a pairing each; but BLS signatures are unique, so a certificate whose signers' votes were all verified here is
//! valid exactly when its signature is the sum of theirs.

use roko_consensus::justification::certificate_hash;
use roko_consensus::verify::{VerifiedVote, aggregate_votes};
use roko_wire::vote::{Ballot, Certificate};
use roko_wire::{Hash32, ValidatorIndex, View};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Certificates kept for each sender and view: one of each kind.
const KINDS: usize = 8;
/// Received certificates kept of each sender, verified or not: two for each of a streak of skipped views that is longer
/// than any that does not end in catch-up.
const RECEIVED_PER_SENDER_MAX: usize = 512;

/// Verified votes and received certificates of views that are not final.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    votes: BTreeMap<(View, Ballot), Vec<VerifiedVote>>,
    verified: BTreeMap<View, HashSet<Hash32>>,
    received: BTreeMap<(View, ValidatorIndex), Vec<Certificate>>,
    received_counts: HashMap<ValidatorIndex, usize>,
}

impl Certificates {
    /// Remembers a verified vote.
    pub(super) fn add_vote(&mut self, vote: &VerifiedVote) {
        let votes = self.votes.entry((vote.vote().view, vote.vote().ballot)).or_default();
        if votes.iter().all(|known| known.vote().signer != vote.vote().signer) {
            votes.push(vote.clone());
        }
    }

    /// Remembers that these bytes are a valid certificate.
    pub(super) fn add_verified(&mut self, certificate: &Certificate) {
        self.verified.entry(certificate.view).or_default().insert(certificate_hash(certificate));
    }

    /// Remembers a certificate as `from` sent it: its proposals may refer to it.
    pub(super) fn add_received(&mut self, from: ValidatorIndex, certificate: &Certificate) {
        let count = self.received_counts.entry(from).or_default();
        if *count >= RECEIVED_PER_SENDER_MAX {
            return;
        }
        let list = self.received.entry((certificate.view, from)).or_default();
        if list.len() < KINDS && !list.contains(certificate) {
            list.push(certificate.clone());
            *count += 1;
        }
    }

    /// Certificates of `view` that `from` sent.
    pub(super) fn received(&self, from: ValidatorIndex, view: View) -> &[Certificate] {
        self.received.get(&(view, from)).map_or(&[], Vec::as_slice)
    }

    /// Whether the certificate is known to be valid without a pairing.
    pub(super) fn is_known(&mut self, certificate: &Certificate) -> bool {
        let hash = certificate_hash(certificate);
        if self.verified.get(&certificate.view).is_some_and(|known| known.contains(&hash)) {
            return true;
        }
        let holds = self.sum_of_votes(certificate) == Some(certificate.signature);
        if holds {
            self.verified.entry(certificate.view).or_default().insert(hash);
        }
        holds
    }

    fn sum_of_votes(&self, certificate: &Certificate) -> Option<[u8; 96]> {
        let parts = [
            (certificate.kind.first_ballot(), &certificate.signers),
            (Ballot::SkipFallback, &certificate.fallback_signers),
        ];
        let mut votes = Vec::new();
        for (ballot, signers) in parts.iter().filter(|(_, signers)| !signers.is_empty()) {
            let known = self.votes.get(&(certificate.view, *ballot))?;
            for signer in signers.iter() {
                votes.push(known.iter().find(|vote| vote.vote().signer == signer)?);
            }
        }
        (!votes.is_empty()).then(|| aggregate_votes(&votes))
    }

    /// Forgets what is below a final view. A justification starts at the parent, which may be the last final block, so
    /// that view's own are kept.
    pub(super) fn prune(&mut self, final_view: View) {
        self.votes = self.votes.split_off(&(final_view, Ballot::Notarize(roko_wire::BlockId::ZERO)));
        self.verified = self.verified.split_off(&final_view);
        self.received = self.received.split_off(&(final_view, ValidatorIndex(0)));
        self.received_counts.clear();
        for ((_, from), list) in &self.received {
            *self.received_counts.entry(*from).or_default() += list.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_consensus::SecretKey;
    use roko_wire::vote::{Bitmap, CertificateKind, SigningDomain};
    use roko_wire::{BlockId, ChainId, Epoch};

    #[test]
    fn a_certificate_of_known_votes_needs_no_pairing_and_a_forged_one_is_not_known() {
        let domain = SigningDomain { chain_id: ChainId(1), epoch: Epoch(0) };
        let ballot = Ballot::Notarize(BlockId([7; 32]));
        let votes: Vec<VerifiedVote> = (0..3u16)
            .map(|n| {
                let key = SecretKey::from_seed(&[n as u8 + 1; 32]).unwrap();
                VerifiedVote::sign(domain, &key, ValidatorIndex(n), View(5), ballot)
            })
            .collect();
        let mut signers = Bitmap::default();
        (0..3).for_each(|n| assert!(signers.insert(ValidatorIndex(n))));
        let mut certificate = Certificate {
            view: View(5),
            kind: CertificateKind::SlowBlock(BlockId([7; 32])),
            signers,
            fallback_signers: Bitmap::default(),
            signature: aggregate_votes(&votes.iter().collect::<Vec<_>>()),
        };
        let mut known = Certificates::default();
        votes[..2].iter().for_each(|vote| known.add_vote(vote));
        assert!(!known.is_known(&certificate), "one signer's vote is missing");
        known.add_vote(&votes[2]);
        assert!(known.is_known(&certificate));
        certificate.signature[5] ^= 1;
        assert!(!known.is_known(&certificate));
        certificate.signature[5] ^= 1;
        known.prune(View(6));
        assert!(!known.is_known(&certificate));
    }
}
