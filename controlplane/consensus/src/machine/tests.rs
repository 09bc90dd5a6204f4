//! Unit tests of the rules: one machine, everything around it scripted.

use super::*;
use crate::api::{HaltReason, ProposalRequest};
use crate::bls::SecretKey;
use crate::quorum::Quorums;
use crate::recovery::{ProposalRecord, VoteRecord};
use crate::set::{Validator, ValidatorSet};
use roko_wire::vote::{Ballot, Bitmap, SigningDomain, Vote};
use roko_wire::{ChainId, Epoch, Height};
use std::sync::Arc;

const DELTA: u64 = 1_000;
const START: NanoMoment = NanoMoment(1_000_000);
const GENESIS: BlockId = BlockId([0xee; 32]);
/// The node under test is validator 0 of four.
const OWN: u16 = 0;

struct Harness {
    machine: Machine,
    now: NanoMoment,
    actions: Vec<Action>,
}

fn zero_aggregate(_: &[&VerifiedVote]) -> [u8; 96] {
    [0; 96]
}

fn config() -> Config {
    let key = |i: u8| SecretKey::from_seed(&[i + 1; 32]).unwrap().public_key();
    let validators = (0..4).map(|i| Validator { public_key: key(i), stake: 1 }).collect();
    Config {
        domain: SigningDomain { chain_id: ChainId(1), epoch: Epoch(0) },
        set: Arc::new(ValidatorSet::new(validators).unwrap()),
        quorums: Quorums::new(4, 1, 0).unwrap(),
        own_index: Some(ValidatorIndex(OWN)),
        leader_seed: [3; 32],
        delta_ns: DELTA,
        delta_ns_max: 4 * DELTA,
        delta_growth_percent: 5,
        min_block_interval_ns: 100,
        empty_block_interval_ns: 100_000,
        standstill_ns: 1_000_000,
        aggregator: zero_aggregate,
    }
}

fn vote(signer: u16, view: u64, ballot: Ballot) -> VerifiedVote {
    VerifiedVote::assume(Vote {
        view: View(view),
        ballot,
        signer: ValidatorIndex(signer),
        signature: [0; 96],
    })
}

fn block(n: u8) -> BlockId {
    BlockId([n; 32])
}

fn certificate(view: u64, kind: CertificateKind, signers: &[u16]) -> VerifiedCertificate {
    let mut bitmap = Bitmap::default();
    signers.iter().for_each(|signer| assert!(bitmap.insert(ValidatorIndex(*signer))));
    let fallback_signers = Bitmap::default();
    let certificate =
        Certificate { view: View(view), kind, signers: bitmap, fallback_signers, signature: [0; 96] };
    VerifiedCertificate::assume(certificate)
}

impl Harness {
    fn new() -> Harness {
        Harness::recovered(Recovered::genesis(GENESIS, NanoMoment(0)))
    }

    fn recovered(recovered: Recovered) -> Harness {
        let mut harness =
            Harness { machine: Machine::new(config(), recovered, START), now: START, actions: vec![] };
        harness.step(Event::PendingTransactions(true));
        harness
    }

    /// Steps and answers validations with `Valid` and votes with their durability.
    fn step(&mut self, event: Event) -> Vec<Action> {
        let mut events = vec![event];
        let mut all = Vec::new();
        while let Some(event) = events.pop() {
            let mut out = Vec::new();
            self.machine.step(event, self.now, &mut out);
            for action in &out {
                match action {
                    Action::ValidatePayload { block } => {
                        events.push(Event::Verdict { block: *block, verdict: Verdict::Valid });
                    }
                    Action::CastVote { view, ballot } => {
                        events.push(Event::OwnVoteDurable(vote(OWN, view.0, *ballot)));
                    }
                    _ => {}
                }
            }
            all.extend(out);
        }
        self.actions.extend(all.iter().cloned());
        all
    }

    fn after(&mut self, nanos: u64) -> Vec<Action> {
        self.now = self.now.saturating_add(nanos);
        self.step(Event::Tick)
    }

    fn votes(&mut self, signers: &[u16], view: u64, ballot: Ballot) -> Vec<Action> {
        self.step(Event::Votes(signers.iter().map(|signer| vote(*signer, view, ballot)).collect()))
    }

    fn header(&self, view: u64, n: u8, parent: BlockId, parent_view: u64, height: u64) -> ProposalSummary {
        ProposalSummary {
            view: View(view),
            block: block(n),
            parent,
            parent_view: View(parent_view),
            height: Height(height),
            proposer: self.machine.leader(View(view)),
            time: NanoMoment(u128::from(view)),
            empty: false,
            signature: [n; 64],
            certificates: vec![],
        }
    }

    /// A header on genesis.
    fn propose(&mut self, view: u64, n: u8) -> Vec<Action> {
        let header = self.header(view, n, GENESIS, 0, 1);
        self.step(Event::Proposal(header))
    }

    fn cast(&self) -> Vec<(u64, Ballot)> {
        cast(&self.actions)
    }
}

fn cast(actions: &[Action]) -> Vec<(u64, Ballot)> {
    let one = |action: &Action| match action {
        Action::CastVote { view, ballot } => Some((view.0, *ballot)),
        _ => None,
    };
    actions.iter().filter_map(one).collect()
}

fn broadcast(actions: &[Action]) -> Vec<CertificateKind> {
    let one = |action: &Action| match action {
        Action::BroadcastCertificate(certificate) => Some(certificate.kind),
        _ => None,
    };
    actions.iter().filter_map(one).collect()
}

fn finalized(actions: &[Action]) -> Vec<BlockId> {
    let one = |action: &Action| match action {
        Action::Finalize { blocks, .. } => Some(blocks.iter().map(|block| block.block).collect::<Vec<_>>()),
        _ => None,
    };
    actions.iter().filter_map(one).flatten().collect()
}

#[test]
fn a_fast_commit_needs_one_round_and_sends_no_final() {
    let mut h = Harness::new();
    assert_eq!(cast(&h.propose(1, 1)), [(1, Ballot::Notarize(block(1)))]);
    let out = h.votes(&[1, 2, 3], 1, Ballot::Notarize(block(1)));
    assert_eq!(finalized(&out), [block(1)]);
    assert_eq!(broadcast(&out), [CertificateKind::CommitFast(block(1))]);
    assert_eq!(h.machine.current_view(), View(2));
    assert!(cast(&out).is_empty());
}

#[test]
fn rule_2_notarizes_once_and_only_what_is_lawful_and_valid() {
    let mut h = Harness::new();
    // Of another's making, or on a parent that is not certified.
    let mut stranger = h.header(1, 9, GENESIS, 0, 1);
    stranger.proposer = ValidatorIndex((stranger.proposer.0 + 1) % 4);
    h.step(Event::Proposal(stranger));
    h.propose(2, 8);
    assert!(h.cast().is_empty());
    h.propose(1, 1);
    let out = h.propose(1, 2);
    assert_eq!(h.cast(), [(1, Ballot::Notarize(block(1)))]);
    assert!(out.iter().any(|action| matches!(action, Action::Evidence(_))));
}

#[test]
fn rule_2_waits_for_every_skip_certificate_between_parent_and_view() {
    let mut h = Harness::new();
    h.step(Event::Certificates(vec![
        certificate(2, CertificateKind::FastSkip, &[1, 2]),
        certificate(2, CertificateKind::SlowSkip, &[1, 2, 3]),
        certificate(1, CertificateKind::FastSkip, &[1, 2]),
    ]));
    assert_eq!(h.machine.current_view(), View(3));
    h.propose(3, 3);
    assert!(h.cast().is_empty(), "one skip certificate of view 1 is not enough");
    h.step(Event::Certificates(vec![certificate(1, CertificateKind::SlowSkip, &[1, 2, 3])]));
    assert_eq!(h.cast(), [(3, Ballot::Notarize(block(3)))]);
}

#[test]
fn rule_2_wants_a_slow_skip_above_a_fast_parent() {
    let mut h = Harness::new();
    h.propose(1, 1);
    h.step(Event::Certificates(vec![certificate(1, CertificateKind::FastBlock(block(1)), &[1, 2])]));
    let child = h.header(2, 2, block(1), 1, 2);
    h.step(Event::Proposal(child));
    assert_eq!(h.cast().len(), 1);
    let out = h.step(Event::Certificates(vec![certificate(1, CertificateKind::SlowSkip, &[1, 2, 3])]));
    assert_eq!(cast(&out), [(2, Ballot::Notarize(block(2)))]);
    assert!(broadcast(&out).contains(&CertificateKind::FastBlock(block(1))), "rule 8 forwards both");
    assert!(broadcast(&out).contains(&CertificateKind::SlowSkip));
}

#[test]
fn untimely_and_discontinuous_blocks_are_not_notarized() {
    let mut h = Harness::new();
    let mut out = Vec::new();
    let header = h.header(1, 1, GENESIS, 0, 1);
    h.machine.step(Event::Proposal(header), h.now, &mut out);
    h.step(Event::Verdict { block: block(1), verdict: Verdict::Untimely });
    let mut jump = h.header(1, 2, GENESIS, 0, 5);
    jump.height = Height(5);
    h.step(Event::Proposal(jump));
    assert!(h.cast().is_empty());
}

#[test]
fn rule_3_and_4_commit_in_two_rounds_also_after_leaving() {
    let mut h = Harness::new();
    h.propose(1, 1);
    let out = h.votes(&[1, 2], 1, Ballot::Notarize(block(1)));
    assert_eq!(cast(&out), [(1, Ballot::Final(block(1)))]);
    assert_eq!(h.machine.current_view(), View(2));
    assert_eq!(broadcast(&out), [CertificateKind::SlowBlock(block(1))]);
    let out = h.votes(&[1, 2], 1, Ballot::Final(block(1)));
    assert_eq!(finalized(&out), [block(1)]);
    let proof: Vec<CertificateKind> = h.machine.last_final().proof.iter().map(|c| c.kind).collect();
    assert_eq!(proof, [CertificateKind::SlowBlock(block(1)), CertificateKind::CommitSlow(block(1))]);
}

#[test]
fn finals_without_the_slow_certificate_are_no_commit() {
    let mut h = Harness::new();
    h.propose(1, 1);
    let out = h.votes(&[1, 2, 3], 1, Ballot::Final(block(1)));
    assert!(finalized(&out).is_empty());
    let out = h.after(DELTA);
    let kind = Some(CertificateKind::SlowBlock(block(1)));
    assert!(out.contains(&Action::PullCertificate { view: View(1), kind }));
}

#[test]
fn rules_5_and_6_fire_at_two_and_three_delta_and_exclude_their_opposites() {
    let mut h = Harness::new();
    assert!(cast(&h.after(2 * DELTA - 1)).is_empty());
    assert_eq!(cast(&h.after(1)), [(1, Ballot::Skip)]);
    assert!(cast(&h.propose(1, 1)).is_empty(), "no Notarize after Skip");
    assert!(cast(&h.after(DELTA - 1)).is_empty());
    assert_eq!(cast(&h.after(1)), [(1, Ballot::FinalSkip)]);
    let out = h.votes(&[1, 2, 3], 1, Ballot::Notarize(block(1)));
    assert!(cast(&out).is_empty(), "no Final after FinalSkip");
    assert!(cast(&h.after(10)).is_empty());
}

#[test]
fn rule_7_falls_back_after_a_notarize_when_no_block_can_gather_a_certificate() {
    let mut h = Harness::new();
    h.propose(1, 1);
    assert!(cast(&h.votes(&[1], 1, Ballot::Skip)).is_empty());
    assert_eq!(cast(&h.votes(&[2], 1, Ballot::Notarize(block(2)))), [(1, Ballot::SkipFallback)]);
    assert!(cast(&h.votes(&[3], 1, Ballot::Skip)).is_empty(), "once");
    let mut other = Harness::new();
    other.propose(1, 1);
    other.votes(&[1], 1, Ballot::Notarize(block(1)));
    assert!(cast(&other.votes(&[2, 3], 1, Ballot::Skip)).is_empty(), "a fast certificate is there");
}

#[test]
fn rule_8_leaves_on_skip_certificates_and_the_leader_builds_below() {
    let mut h = Harness::new();
    let mut view = 1;
    while h.machine.leader(View(view)).0 != OWN || view == 1 {
        h.votes(&[1, 2], view, Ballot::Skip);
        let out = h.votes(&[1, 2, 3], view, Ballot::FinalSkip);
        assert_eq!(broadcast(&out), [CertificateKind::FastSkip, CertificateKind::SlowSkip]);
        view += 1;
        assert_eq!(h.machine.current_view(), View(view));
    }
    h.after(200);
    let requests: Vec<&ProposalRequest> = h
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::RequestProposal(request) if request.view == View(view) => Some(request),
            _ => None,
        })
        .collect();
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].parent, requests[0].certificates.len() as u64), (GENESIS, 2 * (view - 1)));
    assert_eq!(h.machine.counts().skipped_views, view - 1);
}

#[test]
fn a_restart_never_votes_or_proposes_twice() {
    let mut recovered = Recovered::genesis(GENESIS, NanoMoment(0));
    let records = [Ballot::Notarize(block(7)), Ballot::FinalSkip];
    recovered.votes = records.map(|ballot| VoteRecord { vote: vote(OWN, 1, ballot).vote().clone() }).to_vec();
    let own_view = (2..).find(|view| config().set.leader(&[3; 32], View(*view)).0 == OWN).unwrap();
    recovered.proposals = vec![ProposalRecord { view: View(own_view), block: block(8) }];
    let mut h = Harness::recovered(recovered);
    h.propose(1, 1);
    h.votes(&[1, 2, 3], 1, Ballot::Notarize(block(1)));
    h.after(10 * DELTA);
    assert!(h.cast().iter().all(|(view, _)| *view != 1), "{:?}", h.cast());
    for view in 2..own_view {
        h.step(Event::Certificates(vec![
            certificate(view, CertificateKind::FastSkip, &[1, 2]),
            certificate(view, CertificateKind::SlowSkip, &[1, 2, 3]),
        ]));
    }
    h.after(10 * DELTA);
    assert_eq!(h.machine.current_view(), View(own_view));
    let asked = h.actions.iter().any(|a| matches!(a, Action::RequestProposal(r) if r.view == View(own_view)));
    assert!(!asked);
    let resent =
        h.actions.iter().any(|a| matches!(a, Action::Resend { proposal: Some(b), .. } if *b == block(8)));
    assert!(resent, "the proposal on disk is sent again");
}

#[test]
fn votes_are_sent_again_each_delta_and_missing_blocks_pulled_from_voters() {
    let mut h = Harness::new();
    h.step(Event::Certificates(vec![certificate(1, CertificateKind::FastBlock(block(5)), &[1, 3])]));
    let out = h.after(DELTA / 4);
    let pull = out.iter().find_map(|action| match action {
        Action::PullBlock { block, signers } => {
            Some((*block, signers.iter().map(|s| s.0).collect::<Vec<_>>()))
        }
        _ => None,
    });
    assert_eq!(pull, Some((block(5), vec![1, 3])));
    h.after(3 * DELTA);
    for _ in 0..3 {
        let out = h.after(DELTA);
        let resent = out.iter().any(|action| {
            matches!(action, Action::Resend { votes, .. } if votes.iter().any(|v| v.ballot == Ballot::Skip))
        });
        assert!(resent, "{out:?}");
    }
}

#[test]
fn ancestors_become_final_with_their_descendant_and_rivals_are_abandoned() {
    let mut h = Harness::new();
    h.propose(1, 1);
    h.propose(1, 9);
    h.votes(&[1, 2], 1, Ballot::Notarize(block(1)));
    let child = h.header(2, 2, block(1), 1, 2);
    h.step(Event::Proposal(child));
    let out = h.votes(&[1, 2, 3], 2, Ballot::Notarize(block(2)));
    assert_eq!(finalized(&out), [block(1), block(2)]);
    assert!(out.contains(&Action::Abandoned { block: block(9) }));
    assert_eq!((h.machine.counts().finalized, h.machine.last_final().height), (2, Height(2)));
}

#[test]
fn a_commit_waits_for_its_ancestors() {
    let mut h = Harness::new();
    let child = h.header(2, 2, block(1), 1, 2);
    let commit = certificate(2, CertificateKind::CommitFast(block(2)), &[0, 1, 2, 3]);
    assert!(finalized(&h.step(Event::Certificates(vec![commit]))).is_empty());
    assert!(finalized(&h.step(Event::Proposal(child))).is_empty());
    let asked = h.after(DELTA);
    let asks = |action: &Action| matches!(action, Action::PullBlock { block: b, signers } if *b == block(1) && !signers.is_empty());
    assert!(asked.iter().any(asks), "{asked:?}");
    assert_eq!(finalized(&h.propose(1, 1)), [block(1), block(2)]);
}

#[test]
fn a_node_that_was_away_goes_on_above_what_it_fetched_and_never_votes_twice() {
    let voted = vote(OWN, 10, Ballot::Skip);
    let genesis = Recovered::genesis(GENESIS, NanoMoment(0)).last_final;
    let votes = vec![VoteRecord { vote: voted.vote().clone() }];
    let mut h = Harness::recovered(Recovered { last_final: genesis.clone(), votes, proposals: vec![] });
    h.propose(1, 1);
    let caught_up =
        FinalBlock { block: block(9), view: View(9), height: Height(9), time: NanoMoment(9), ..genesis };
    let actions = h.step(Event::CaughtUp(caught_up.clone()));
    assert!(actions.contains(&Action::EnterView(View(10))));
    assert!(actions.contains(&Action::Abandoned { block: block(1) }), "{actions:?}");
    assert_eq!(h.machine.last_final(), &caught_up);
    // A child of the fetched block is validated; the own Skip of its view stands in the way of another first vote.
    let child = h.header(10, 10, block(9), 9, 10);
    let actions = h.step(Event::Proposal(child));
    assert!(actions.contains(&Action::ValidatePayload { block: block(10) }), "{actions:?}");
    let actions = h.step(Event::Verdict { block: block(10), verdict: Verdict::Valid });
    assert!(!cast(&actions).iter().any(|(_, ballot)| matches!(ballot, Ballot::Notarize(_))), "{actions:?}");
    // What is older than the last final block changes nothing.
    let old = FinalBlock { view: View(5), height: Height(5), ..caught_up.clone() };
    h.step(Event::CaughtUp(old));
    assert_eq!(h.machine.last_final(), &caught_up);
    assert_eq!(h.machine.current_view(), View(10));
}

#[test]
fn two_commits_that_exclude_each_other_halt_the_machine() {
    let mut h = Harness::new();
    h.propose(1, 1);
    h.votes(&[1, 2, 3], 1, Ballot::Notarize(block(1)));
    let kind = CertificateKind::CommitFast(block(6));
    assert!(h.machine.wants(View(1), &kind));
    assert!(!h.machine.wants(View(1), &CertificateKind::CommitFast(block(1))));
    let out = h.step(Event::Certificates(vec![certificate(1, kind, &[0, 1, 2, 3])]));
    let halted = out.iter().find_map(|action| match action {
        Action::Halt { reason: HaltReason::Fork { first, second, .. }, proofs } => {
            Some((*first, *second, proofs.len()))
        }
        _ => None,
    });
    assert_eq!(halted, Some((block(1), block(6), 2)));
    assert!(h.machine.is_halted() && h.after(100 * DELTA).is_empty());
}

#[test]
fn an_idle_view_waits_and_others_wake_it() {
    let fresh = config();
    let genesis = Recovered::genesis(GENESIS, START);
    let mut h = Harness { machine: Machine::new(fresh, genesis, START), now: START, actions: vec![] };
    h.after(50_000);
    assert!(h.cast().is_empty(), "the interval of an empty block is not over");
    h.votes(&[1, 2], 1, Ballot::Skip);
    assert_eq!(cast(&h.after(2 * DELTA)).first(), Some(&(1, Ballot::Skip)));
}

#[test]
fn delta_grows_five_percent_a_failed_view_up_to_its_limit() {
    let mut h = Harness::new();
    assert_eq!(h.machine.delta_ns(), DELTA);
    let mut grown = vec![];
    for view in 1..60 {
        h.step(Event::Certificates(vec![
            certificate(view, CertificateKind::FastSkip, &[1, 2]),
            certificate(view, CertificateKind::SlowSkip, &[1, 2, 3]),
        ]));
        grown.push(h.machine.delta_ns());
    }
    assert_eq!((grown[0], grown[1], *grown.last().unwrap()), (1_050, 1_102, 4 * DELTA));
    h.step(Event::Certificates(vec![certificate(60, CertificateKind::CommitFast(block(4)), &[0, 1, 2, 3])]));
    assert_eq!(h.machine.delta_ns(), DELTA);
}

#[test]
fn garbage_neither_panics_nor_fills_memory() {
    let mut h = Harness::new();
    for n in 0..1_000u64 {
        let far = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let id = BlockId(std::array::from_fn(|i| (far >> (i % 8 * 8)) as u8));
        for view in [far, u64::MAX, n % 80, 1] {
            h.step(Event::Votes(vec![vote(1, view, Ballot::Notarize(id)), vote(2, view, Ballot::Final(id))]));
            let mut header = h.header(view, 0, id, view.wrapping_sub(n % 3), n);
            (header.block, header.height, header.time) = (id, Height(far), NanoMoment(u128::MAX));
            h.step(Event::Proposal(header));
        }
        h.step(Event::Verdict { block: id, verdict: Verdict::Valid });
        h.actions.clear();
    }
    let limit = VIEW_HORIZON as usize + 2;
    assert!(h.machine.views.len() <= limit && h.machine.chain.blocks.len() <= 4 * limit);
}

#[test]
fn a_view_whose_leader_is_not_listened_to_is_skipped_at_once_and_another_is_not() {
    let mut h = Harness::new();
    let leader = h.machine.leader(View(1));
    assert_ne!(leader, ValidatorIndex(OWN), "the test needs another's view");
    let all_but_the_leader: Vec<u16> = (0..4).filter(|index| *index != leader.0).collect();
    let bitmap = |signers: &[u16]| {
        let mut bitmap = Bitmap::default();
        signers.iter().for_each(|signer| assert!(bitmap.insert(ValidatorIndex(*signer))));
        bitmap
    };
    assert_eq!(cast(&h.step(Event::Unheard(bitmap(&all_but_the_leader)))), []);
    let out = h.step(Event::Unheard(bitmap(&[leader.0])));
    assert_eq!(cast(&out), [(1, Ballot::Skip), (1, Ballot::FinalSkip)]);
    let others: Vec<u16> = all_but_the_leader.into_iter().filter(|index| *index != OWN).collect();
    h.votes(&others, 1, Ballot::Skip);
    h.votes(&others, 1, Ballot::FinalSkip);
    assert_eq!(h.machine.current_view(), View(2), "the others can skip it without him");
    assert!(cast(&h.after(2 * DELTA - 1)).is_empty() || h.machine.leader(View(2)) == leader);
}
