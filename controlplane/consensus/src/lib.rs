//! Temporal proof of stake: a pure state machine for views, votes and certificates.
//!
//! Read [`quorum`] for the thresholds, [`api`] for what goes in and out, [`machine`] for the rules. Received votes
//! pass [`collector`] (which batch is worth checking now) and [`verify`] (one product of pairings a batch) before
//! the machine sees them. Nothing here reads a clock, a socket, a disk or a source of randomness.
#![forbid(unsafe_code)]

pub mod api;
pub mod bls;
pub mod collector;
pub mod evidence;
pub mod justification;
pub mod machine;
pub mod quorum;
pub mod recovery;
pub mod set;
pub mod timeliness;
pub mod verify;

pub use api::{
    Action, Config, Event, FinalBlock, FinalizedBlock, HaltReason, ProposalRequest, ProposalSummary,
    Recovered, Verdict,
};
pub use bls::{PublicKey, SecretKey};
pub use collector::{Job, JobResult, Lie, Offered, VoteCollector};
pub use evidence::Evidence;
pub use justification::justification_hash;
pub use machine::Machine;
pub use quorum::{Preset, Quorums};
pub use set::{Validator, ValidatorSet};
pub use verify::{
    VerifiedCertificate, VerifiedVote, aggregate_votes, verify_certificate, verify_final, verify_votes,
};
