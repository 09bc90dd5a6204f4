//! What goes into the machine and what comes out of it.
//!
//! The driver feeds [`Event`]s with the node clock's reading and carries [`Action`]s out: it signs, stores, sends,
//! builds and validates. The machine decides. Every event may be repeated, late, or about things long past.

use crate::evidence::Evidence;
use crate::quorum::Quorums;
use crate::recovery::{ProposalRecord, VoteRecord};
use crate::set::ValidatorSet;
use crate::verify::{Aggregator, VerifiedCertificate, VerifiedVote};
use roko_wire::vote::{Ballot, Bitmap, Certificate, CertificateKind, SigningDomain, Vote};
use roko_wire::{BlockId, Height, NanoMoment, ValidatorIndex, View};
use std::sync::Arc;

/// What a machine is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Chain and epoch of every signature.
    pub domain: SigningDomain,
    /// The epoch's validators.
    pub set: Arc<ValidatorSet>,
    /// The thresholds.
    pub quorums: Quorums,
    /// This node's place in the set; `None` follows without voting.
    pub own_index: Option<ValidatorIndex>,
    /// The epoch's seed, from which leaders are drawn.
    pub leader_seed: [u8; 32],
    /// Delta: the bound on a message's way that timeouts are made of.
    pub delta_ns: u64,
    /// The most that Delta may grow to.
    pub delta_ns_max: u64,
    /// Growth of Delta for each view entered without a commit, percent.
    pub delta_growth_percent: u64,
    /// Least time between blocks while something wants finality.
    pub min_block_interval_ns: u64,
    /// Time between blocks while nothing does.
    pub empty_block_interval_ns: u64,
    /// Longest pause between two repetitions of certificates when nothing moves.
    pub standstill_ns: u64,
    /// How a certificate's signature is made of its votes': [`crate::verify::aggregate_votes`] on a real chain.
    pub aggregator: Aggregator,
}

/// The last final block that a machine starts from; genesis at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalBlock {
    /// Its id.
    pub block: BlockId,
    /// Its view; 0 for genesis.
    pub view: View,
    /// Its height; 0 for genesis.
    pub height: Height,
    /// Its time.
    pub time: NanoMoment,
    /// What proves it: `CommitFast`, or `SlowBlock` and `CommitSlow`. Empty for an epoch's genesis.
    pub proof: Vec<Certificate>,
}

/// What a node knows from its disk when it starts.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The last final block.
    pub last_final: FinalBlock,
    /// Every own vote on disk above the last final view.
    pub votes: Vec<VoteRecord>,
    /// Every own proposal on disk above the last final view.
    pub proposals: Vec<ProposalRecord>,
}

impl Recovered {
    /// A chain's start.
    #[must_use]
    pub fn genesis(block: BlockId, time: NanoMoment) -> Recovered {
        let last_final = FinalBlock { block, view: View(0), height: Height(0), time, proof: Vec::new() };
        Recovered { last_final, votes: Vec::new(), proposals: Vec::new() }
    }
}

/// A block's header as far as consensus goes, with the certificates that came with it.
///
/// The driver has checked the proposer's signature over the Propose, the block id, the certificates, and that
/// the header's justification hash is that of the certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposalSummary {
    /// The view it is proposed in.
    pub view: View,
    /// Its id.
    pub block: BlockId,
    /// The block it extends.
    pub parent: BlockId,
    /// That block's view.
    pub parent_view: View,
    /// Its height.
    pub height: Height,
    /// Who proposes.
    pub proposer: ValidatorIndex,
    /// Its time.
    pub time: NanoMoment,
    /// Whether it holds no transaction; an empty block does not hurry the next one.
    pub empty: bool,
    /// The proposer's ed25519 signature over [`crate::evidence::propose_signing_bytes`].
    pub signature: [u8; 64],
    /// The certificates that justify it, as far as they were carried.
    pub certificates: Vec<VerifiedCertificate>,
}

/// What the driver found about a block's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// At hand, valid, and its time lies in the window.
    Valid,
    /// At hand and valid, but its time lies outside the window: not voted for, yet good to build on.
    Untimely,
    /// Breaks a rule of the ledger.
    Invalid,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time passed: at least every time that [`Action::SetTimer`] asked for.
    Tick,
    /// A header came, from its leader or pulled.
    Proposal(ProposalSummary),
    /// The answer to [`Action::ValidatePayload`].
    Verdict {
        /// The block.
        block: BlockId,
        /// What was found.
        verdict: Verdict,
    },
    /// Votes of others that verified, as one batch: thresholds are looked at after the last of them.
    Votes(Vec<VerifiedVote>),
    /// Certificates that verified.
    Certificates(Vec<VerifiedCertificate>),
    /// The answer to [`Action::CastVote`]: the own vote is signed and on disk.
    OwnVoteDurable(VerifiedVote),
    /// The answer to [`Action::RequestProposal`]: the own proposal is built and on disk.
    ProposalBuilt(ProposalSummary),
    /// Whether transactions wait for a block.
    PendingTransactions(bool),
    /// The validators whose messages do not come through here, because the driver does not listen to them. A view that one
    /// of them leads is skipped at once instead of after Delta: no proposal would come. Skipping early is always safe.
    Unheard(Bitmap),
    /// The driver was behind, and has fetched, checked and executed every block up to this one, whose proof it has
    /// verified.
    CaughtUp(FinalBlock),
}

/// What a leader needs to build a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposalRequest {
    /// The view to propose in.
    pub view: View,
    /// The block to extend.
    pub parent: BlockId,
    /// Its view.
    pub parent_view: View,
    /// Its height.
    pub parent_height: Height,
    /// Its time; the new block's must be later.
    pub parent_time: NanoMoment,
    /// What justifies it, in the order that [`crate::justification_hash`] takes.
    pub certificates: Vec<Certificate>,
}

/// A block made final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinalizedBlock {
    /// Its id.
    pub block: BlockId,
    /// Its view.
    pub view: View,
    /// Its height.
    pub height: Height,
}

/// Why a machine stops for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HaltReason {
    /// Two blocks that exclude each other are both proven final: more than f stake is Byzantine.
    #[error(
        "final block {first} of view {first_view} and committed block {second} of view {second_view} exclude each \
         other: more stake than f is Byzantine; keep both proofs and the data directory, and do not restart"
    )]
    Fork {
        /// The block that is final here.
        first: BlockId,
        /// Its view.
        first_view: View,
        /// The block that is also proven final.
        second: BlockId,
        /// Its view.
        second_view: View,
    },
    /// A committed block is invalid here: this node's software or state differs from the quorum's.
    #[error(
        "block {block} of view {view} is committed by a quorum but invalid here: compare this node's version and \
         state with another validator's"
    )]
    CommittedInvalid {
        /// The block.
        block: BlockId,
        /// Its view.
        view: View,
    },
}

/// What the driver is to do, in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The current view changed.
    EnterView(View),
    /// Feed [`Event::Tick`] at this moment; replaces the moment asked for before.
    SetTimer(NanoMoment),
    /// Build a block and answer with [`Event::ProposalBuilt`]. Asked at most once a view; a node whose clock is
    /// not fit to propose leaves it unanswered.
    RequestProposal(ProposalRequest),
    /// Validate a block's payload as soon as it is at hand, and answer with [`Event::Verdict`]. Its parent is
    /// final or has been found valid. Asked once a block.
    ValidatePayload {
        /// The block.
        block: BlockId,
    },
    /// Sign this ballot, make it durable, answer with [`Event::OwnVoteDurable`], and send it to all.
    CastVote {
        /// The view voted in.
        view: View,
        /// What is voted for.
        ballot: Ballot,
    },
    /// Send a certificate to all.
    BroadcastCertificate(Certificate),
    /// Blocks are final, oldest first; all their payloads are at hand and valid.
    Finalize {
        /// The blocks, the last one being the committed one.
        blocks: Vec<FinalizedBlock>,
        /// What proves the last one final.
        proof: Vec<Certificate>,
    },
    /// Get a block's header or payload, whichever is missing, from these validators.
    PullBlock {
        /// The block.
        block: BlockId,
        /// Who voted for it and must have it.
        signers: Bitmap,
    },
    /// Ask others for certificates of a view.
    PullCertificate {
        /// The view.
        view: View,
        /// The kind wanted; `None` for any.
        kind: Option<CertificateKind>,
    },
    /// This block can no longer become final: its transactions go back to the pool.
    Abandoned {
        /// The block.
        block: BlockId,
    },
    /// A validator broke a rule, provably.
    Evidence(Box<Evidence>),
    /// Send again what may have been lost.
    Resend {
        /// Own votes of open views.
        votes: Vec<Vote>,
        /// Certificates of the last final block and of the current view's entry.
        certificates: Vec<Certificate>,
        /// The own proposal of the current view.
        proposal: Option<BlockId>,
    },
    /// Stop voting and proposing for good. The machine does nothing from here on.
    Halt {
        /// Why.
        reason: HaltReason,
        /// The proofs of both sides, as far as they are certificates.
        proofs: Vec<Certificate>,
    },
}
