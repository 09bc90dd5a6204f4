//! What a node knows of one view: verified votes by ballot, certificates, its own votes, proposals.

use crate::evidence::{Evidence, slashable};
use crate::quorum::Quorums;
use crate::set::ValidatorSet;
use crate::verify::{Aggregator, VerifiedVote};
use roko_wire::vote::{Ballot, Bitmap, Certificate, CertificateKind};
use roko_wire::{BlockId, ValidatorIndex, View};
use std::collections::BTreeMap;

/// Ballots counted for one signer in a view: an honest one sends at most three, and a second of each of the two
/// exclusive kinds is kept as evidence.
const BALLOTS_PER_SIGNER_MAX: usize = 5;

/// The stake and signatures behind a ballot.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) stake: u64,
    votes: BTreeMap<ValidatorIndex, VerifiedVote>,
}

/// What this node has sent, or has decided to send, in a view.
#[derive(Debug, Default)]
pub(crate) struct OwnVotes {
    /// `Notarize` or `Skip`.
    pub(crate) first: Option<Ballot>,
    /// `SkipFallback`.
    pub(crate) fallback: bool,
    /// `Final` or `FinalSkip`.
    pub(crate) second: Option<Ballot>,
    /// Those that are durable, for repetition.
    pub(crate) durable: Vec<VerifiedVote>,
}

impl OwnVotes {
    /// Takes note that a ballot is sent.
    pub(crate) fn note(&mut self, ballot: Ballot) {
        match ballot {
            Ballot::Notarize(_) | Ballot::Skip => self.first = self.first.or(Some(ballot)),
            Ballot::SkipFallback => self.fallback = true,
            Ballot::Final(_) | Ballot::FinalSkip => self.second = self.second.or(Some(ballot)),
        }
    }
}

/// One view.
#[derive(Debug, Default)]
pub(crate) struct ViewState {
    tallies: BTreeMap<Ballot, Tally>,
    by_signer: BTreeMap<ValidatorIndex, Vec<Ballot>>,
    first_voters: Bitmap,
    pub(crate) first_stake: u64,
    skip_voters: Bitmap,
    skip_stake: u64,
    accused: Bitmap,
    certificates: BTreeMap<CertificateKind, Certificate>,
    pub(crate) own: OwnVotes,
    /// Blocks proposed by the leader, in order of arrival.
    pub(crate) proposals: Vec<BlockId>,
    pub(crate) proposer_accused: bool,
    /// The own proposal.
    pub(crate) proposed: Option<BlockId>,
    pub(crate) proposal_requested: bool,
    pub(crate) proof_forwarded: bool,
    /// Both skip certificates are held and the votes are dropped: nothing in the view can become final.
    pub(crate) settled: bool,
}

/// The arguments that every question about thresholds needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) view: View,
    pub(crate) set: &'a ValidatorSet,
    pub(crate) quorums: &'a Quorums,
    pub(crate) aggregator: Aggregator,
}

impl ViewState {
    /// Counts a vote once; returns evidence when it breaks a rule together with one counted before.
    pub(crate) fn insert(&mut self, vote: &VerifiedVote, context: Context<'_>) -> Option<Evidence> {
        let (signer, ballot) = (vote.vote().signer, vote.vote().ballot);
        let stake = context.set.stake(signer);
        let sent = self.by_signer.entry(signer).or_default();
        if self.settled || stake == 0 || sent.contains(&ballot) || sent.len() >= BALLOTS_PER_SIGNER_MAX {
            return None;
        }
        let rival = sent.iter().copied().find(|before| slashable(before, &ballot));
        // A third Notarize proves nothing that two do not.
        if rival.is_some()
            && sent.iter().filter(|before| before.kind_byte() == ballot.kind_byte()).count() > 1
        {
            return None;
        }
        sent.push(ballot);
        let tally = self.tallies.entry(ballot).or_default();
        tally.stake += stake;
        tally.votes.insert(signer, vote.clone());
        if matches!(ballot, Ballot::Notarize(_) | Ballot::Skip) && self.first_voters.insert(signer) {
            self.first_stake += stake;
        }
        if matches!(ballot, Ballot::Skip | Ballot::SkipFallback) && self.skip_voters.insert(signer) {
            self.skip_stake += stake;
        }
        let before = self.tallies.get(&rival?)?.votes.get(&signer)?;
        let (first, second) = (before.vote().clone(), vote.vote().clone());
        self.accused.insert(signer).then_some(Evidence::Votes { first, second })
    }

    /// Keeps a certificate; returns whether it is new.
    pub(crate) fn insert_certificate(&mut self, certificate: Certificate) -> bool {
        let fresh = !self.certificates.contains_key(&certificate.kind);
        if fresh {
            self.certificates.insert(certificate.kind, certificate);
        }
        fresh
    }

    fn stake(&self, ballot: &Ballot) -> u64 {
        self.tallies.get(ballot).map_or(0, |tally| tally.stake)
    }

    fn has(&self, kind: &CertificateKind) -> bool {
        self.certificates.contains_key(kind)
    }

    /// Whether the view's votes and certificates amount to this kind.
    pub(crate) fn holds(&self, kind: &CertificateKind, quorums: &Quorums) -> bool {
        use CertificateKind::{CommitFast, CommitSlow, FastBlock, FastSkip, SlowBlock, SlowSkip};
        if self.has(kind) {
            return true;
        }
        match kind {
            FastBlock(b) => {
                self.stake(&Ballot::Notarize(*b)) >= quorums.fast_certificate
                    || self.has(&SlowBlock(*b))
                    || self.has(&CommitFast(*b))
            }
            SlowBlock(b) => self.stake(&Ballot::Notarize(*b)) >= quorums.slow || self.has(&CommitFast(*b)),
            CommitFast(b) => self.stake(&Ballot::Notarize(*b)) >= quorums.fast_commit,
            CommitSlow(b) => self.stake(&Ballot::Final(*b)) >= quorums.slow,
            FastSkip => self.skip_stake >= quorums.fast_certificate,
            SlowSkip => self.stake(&Ballot::FinalSkip) >= quorums.slow,
        }
    }

    /// Blocks that votes or certificates name.
    pub(crate) fn named_blocks(&self) -> Vec<BlockId> {
        let voted = self.tallies.keys().filter_map(Ballot::block);
        let mut blocks: Vec<BlockId> =
            voted.chain(self.certificates.keys().filter_map(|k| k.block())).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks
    }

    /// Blocks with a fast certificate or better.
    pub(crate) fn fast_blocks(&self, quorums: &Quorums) -> Vec<BlockId> {
        let mut blocks = self.named_blocks();
        blocks.retain(|block| self.holds(&CertificateKind::FastBlock(*block), quorums));
        blocks
    }

    /// A block with a slow certificate or better.
    pub(crate) fn slow_block(&self, quorums: &Quorums) -> Option<BlockId> {
        let slow = |block: &BlockId| self.holds(&CertificateKind::SlowBlock(*block), quorums);
        self.named_blocks().into_iter().find(slow)
    }

    /// A block that is committed: by F notarizations, or by S finals beside its slow certificate.
    pub(crate) fn committed(&self, quorums: &Quorums) -> Option<BlockId> {
        use CertificateKind::{CommitFast, CommitSlow, SlowBlock};
        let committed = |block: &BlockId| {
            self.holds(&CommitFast(*block), quorums)
                || self.holds(&CommitSlow(*block), quorums) && self.holds(&SlowBlock(*block), quorums)
        };
        self.named_blocks().into_iter().find(committed)
    }

    pub(crate) fn fast_skip(&self, quorums: &Quorums) -> bool {
        self.holds(&CertificateKind::FastSkip, quorums)
    }

    pub(crate) fn slow_skip(&self, quorums: &Quorums) -> bool {
        self.holds(&CertificateKind::SlowSkip, quorums)
    }

    /// Whether a fast and a slow certificate of any value are held: the view can be left.
    pub(crate) fn complete(&self, quorums: &Quorums) -> bool {
        self.slow_block(quorums).is_some()
            || self.slow_skip(quorums) && (self.fast_skip(quorums) || !self.fast_blocks(quorums).is_empty())
    }

    /// The certificate of a kind, or a stronger one that contains it: held, or made of the votes.
    pub(crate) fn certificate(
        &mut self,
        kind: &CertificateKind,
        context: Context<'_>,
    ) -> Option<Certificate> {
        use CertificateKind::{CommitFast, FastBlock, SlowBlock};
        let stronger: [CertificateKind; 3] = match kind {
            FastBlock(b) => [CommitFast(*b), SlowBlock(*b), *kind],
            SlowBlock(b) => [CommitFast(*b), *kind, *kind],
            other => [*other; 3],
        };
        stronger.iter().find_map(|kind| self.exact_certificate(kind, context))
    }

    fn exact_certificate(&mut self, kind: &CertificateKind, context: Context<'_>) -> Option<Certificate> {
        if let Some(certificate) = self.certificates.get(kind) {
            return Some(certificate.clone());
        }
        if !self.holds(kind, context.quorums) {
            return None;
        }
        let mut certificate = Certificate {
            view: context.view,
            kind: *kind,
            signers: Bitmap::default(),
            fallback_signers: Bitmap::default(),
            signature: [0; 96],
        };
        let mut votes: Vec<&VerifiedVote> = Vec::new();
        for vote in self.tallies.get(&kind.first_ballot()).into_iter().flat_map(|tally| tally.votes.values())
        {
            certificate.signers.insert(vote.vote().signer);
            votes.push(vote);
        }
        if *kind == CertificateKind::FastSkip {
            let fallbacks = self.tallies.get(&Ballot::SkipFallback);
            for vote in fallbacks.into_iter().flat_map(|tally| tally.votes.values()) {
                if !certificate.signers.contains(vote.vote().signer) {
                    certificate.fallback_signers.insert(vote.vote().signer);
                    votes.push(vote);
                }
            }
        }
        // A kind held only through a stronger certificate has no votes of its own to be made of.
        let signers = [&certificate.signers, &certificate.fallback_signers];
        let stake: u64 = signers.iter().filter_map(|bitmap| context.set.stake_of(bitmap)).sum();
        if votes.is_empty() || stake < crate::verify::stake_needed(context.quorums, kind) {
            return None;
        }
        certificate.signature = (context.aggregator)(&votes);
        self.certificates.insert(*kind, certificate.clone());
        Some(certificate)
    }

    /// The certificates that prove a committed block final.
    pub(crate) fn proof(&mut self, block: BlockId, context: Context<'_>) -> Vec<Certificate> {
        use CertificateKind::{CommitFast, CommitSlow, SlowBlock};
        if let Some(commit) = self.exact_certificate(&CommitFast(block), context) {
            return vec![commit];
        }
        let pair = [SlowBlock(block), CommitSlow(block)];
        pair.iter().filter_map(|kind| self.certificate(kind, context)).collect()
    }

    /// The pair that lets a node leave the view; one when it counts as both.
    pub(crate) fn exit_pair(&mut self, context: Context<'_>) -> Vec<Certificate> {
        if let Some(block) = self.slow_block(context.quorums) {
            return self.certificate(&CertificateKind::SlowBlock(block), context).into_iter().collect();
        }
        let fast = match self.fast_blocks(context.quorums).first() {
            Some(block) => CertificateKind::FastBlock(*block),
            None => CertificateKind::FastSkip,
        };
        let pair = [fast, CertificateKind::SlowSkip];
        pair.iter().filter_map(|kind| self.certificate(kind, context)).collect()
    }

    /// Makes every certificate that is held, so that others can pull it.
    pub(crate) fn all_certificates(&mut self, context: Context<'_>) -> Vec<Certificate> {
        let mut kinds = vec![CertificateKind::FastSkip, CertificateKind::SlowSkip];
        for block in self.fast_blocks(context.quorums) {
            kinds.extend([CertificateKind::FastBlock(block), CertificateKind::CommitSlow(block)]);
        }
        let made: Vec<_> = kinds.iter().filter_map(|kind| self.certificate(kind, context)).collect();
        made
    }

    /// Drops the votes of a view that both skip certificates have closed: no block of it can be committed, and
    /// its certificates are all that later proposals need.
    pub(crate) fn settle_if_skipped(&mut self, context: Context<'_>) {
        if !self.settled && self.fast_skip(context.quorums) && self.slow_skip(context.quorums) {
            self.all_certificates(context);
            self.tallies.clear();
            self.by_signer.clear();
            self.settled = true;
        }
    }

    /// Who voted for a block, as far as votes and certificates tell.
    pub(crate) fn voters_for(&self, block: BlockId) -> Bitmap {
        let mut all = Bitmap::default();
        for ballot in [Ballot::Notarize(block), Ballot::Final(block)] {
            let votes = self.tallies.get(&ballot).into_iter().flat_map(|tally| tally.votes.keys());
            votes.for_each(|signer| {
                all.insert(*signer);
            });
        }
        for certificate in self.certificates.values().filter(|c| c.kind.block() == Some(block)) {
            certificate.signers.iter().for_each(|signer| {
                all.insert(signer);
            });
        }
        all
    }
}
