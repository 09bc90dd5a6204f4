//! Byzantine roles: what a node sends in place of what its machine decided.

use crate::network::Message;
use crate::node::{fake_vote, variant_of};
use crate::rng::Rng;
use roko_consensus::ProposalSummary;
use roko_wire::vote::{Ballot, Vote};
use roko_wire::{BlockId, View};
use std::collections::BTreeMap;

/// How a node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// By the rules.
    Honest,
    /// Different blocks and ballots to different nodes, any that help a fork.
    Equivocator,
    /// Says most things to a few only.
    Withholder,
    /// Says nothing.
    Silent,
}

/// Blocks that an equivocator has seen proposed, by view.
pub(crate) type Seen = BTreeMap<View, Vec<BlockId>>;

/// What goes to one receiver.
pub(crate) fn twist(role: Role, message: Message, to: usize, seen: &Seen, rng: &mut Rng) -> Vec<Message> {
    match role {
        Role::Honest => vec![message],
        Role::Silent => vec![],
        Role::Withholder => {
            let kept = to == 0 || rng.percent(25);
            if kept { vec![message] } else { vec![] }
        }
        Role::Equivocator => match message {
            Message::Vote(vote) => equivocal_votes(&vote, seen, rng),
            Message::Proposal(summary) => equivocal_proposal(summary, to, rng),
            other => {
                if rng.percent(50) {
                    vec![other]
                } else {
                    vec![]
                }
            }
        },
    }
}

fn equivocal_votes(vote: &Vote, seen: &Seen, rng: &mut Rng) -> Vec<Message> {
    let mut ballots = vec![Ballot::Skip, Ballot::SkipFallback, Ballot::FinalSkip];
    for block in seen.get(&vote.view).into_iter().flatten() {
        ballots.extend([Ballot::Notarize(*block), Ballot::Final(*block)]);
    }
    let count = rng.below(4);
    let pick = |rng: &mut Rng| ballots[rng.below(ballots.len() as u64) as usize];
    (0..count).map(|_| Message::Vote(fake_vote(vote.signer, vote.view, pick(rng)))).collect()
}

fn equivocal_proposal(summary: ProposalSummary, to: usize, rng: &mut Rng) -> Vec<Message> {
    let other = variant_of(&summary);
    match rng.below(8) {
        0 => vec![],
        1 => vec![Message::Proposal(summary), Message::Proposal(other)],
        _ if to.is_multiple_of(2) => vec![Message::Proposal(summary)],
        _ => vec![Message::Proposal(other)],
    }
}
