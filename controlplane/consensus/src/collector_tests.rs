//! When batches are due, what is refused, and that forgeries shut nobody out.

use super::*;
use crate::bls::SecretKey;
use crate::quorum::Preset;
use crate::set::Validator;
use roko_wire::BlockId;

const NOW: NanoMoment = NanoMoment(1_000_000_000);
const A: Ballot = Ballot::Notarize(BlockId([1; 32]));
const B: Ballot = Ballot::Notarize(BlockId([2; 32]));

fn collector() -> VoteCollector {
    let key = |i: u8| SecretKey::from_seed(&[i + 1; 32]).unwrap().public_key();
    let validators = (0..4).map(|i| Validator { public_key: key(i), stake: 10 }).collect();
    let quorums = Quorums::from_preset(Preset::Classic, 40).unwrap();
    VoteCollector::new(
        Arc::new(ValidatorSet::new(validators).unwrap()),
        quorums,
        Some(ValidatorIndex(0)),
        LINGER_NS,
    )
}

fn vote(signer: u16, view: u64, ballot: Ballot) -> Vote {
    Vote { view: View(view), ballot, signer: ValidatorIndex(signer), signature: [signer as u8; 96] }
}

fn later(nanos: u64) -> NanoMoment {
    NOW.saturating_add(nanos)
}

fn take(collector: &mut VoteCollector, now: NanoMoment) -> Option<Job> {
    collector.take_job(now, |_, _| true)
}

fn result(job: Job, bad: &[Vote]) -> JobResult {
    let (bad_votes, good): (Vec<Vote>, Vec<Vote>) =
        job.votes.into_iter().partition(|vote| bad.contains(vote));
    let votes = good.into_iter().map(VerifiedVote::assume).collect();
    JobResult { view: job.view, votes, bad_votes, certificates: vec![], bad_certificates: vec![] }
}

#[test]
fn all_votes_are_one_job_at_once() {
    let mut collector = collector();
    for signer in 1..4 {
        assert_eq!(take(&mut collector, NOW), None);
        assert!(collector.offer(vote(signer, 1, A), NOW));
    }
    assert_eq!(collector.next_due(NOW), Some(NOW));
    assert_eq!(take(&mut collector, NOW).unwrap().votes.len(), 3);
    assert_eq!(take(&mut collector, later(LINGER_NS)), None);
    assert_eq!(collector.next_due(NOW), None);
}

#[test]
fn a_threshold_within_reach_waits_for_the_linger_only() {
    let mut collector = collector();
    collector.offer(vote(1, 1, A), NOW);
    collector.offer(vote(2, 1, A), later(10));
    assert_eq!(take(&mut collector, later(LINGER_NS - 1)), None);
    assert_eq!(collector.next_due(later(20)), Some(later(LINGER_NS)));
    assert_eq!(take(&mut collector, later(LINGER_NS)).unwrap().votes.len(), 2);
}

#[test]
fn a_vote_that_changes_nothing_is_not_checked() {
    let mut collector = collector();
    collector.offer(vote(1, 1, Ballot::FinalSkip), NOW);
    assert_eq!(collector.next_due(NOW), None);
    assert_eq!(take(&mut collector, later(10 * LINGER_NS)), None);
}

#[test]
fn final_and_far_views_outsiders_and_repetitions_are_refused_and_counted() {
    let mut collector = collector();
    collector.offer(vote(1, 3, A), NOW);
    collector.set_views(View(4), View(5));
    assert!(!collector.offer(vote(1, 4, A), NOW));
    assert!(!collector.offer(vote(1, u64::MAX, A), NOW));
    assert!(!collector.offer(vote(99, 5, A), NOW));
    assert!(!collector.offer(vote(0, 5, A), NOW));
    assert!(collector.offer(vote(1, 5, A), NOW));
    assert!(!collector.offer(vote(1, 5, A), NOW));
    let counts = collector.counts();
    assert_eq!((counts.stale, counts.beyond_horizon, counts.unknown_signer, counts.duplicate), (1, 1, 2, 1));
    assert_eq!(collector.views.len(), 1);
}

#[test]
fn a_forgery_does_not_shut_the_true_vote_out() {
    let mut collector = collector();
    let mut forged = vote(1, 1, A);
    forged.signature = [0xbb; 96];
    collector.offer(forged.clone(), NOW);
    assert!(collector.offer(vote(1, 1, A), NOW));
    collector.offer(vote(2, 1, A), NOW);
    collector.offer(vote(3, 1, A), NOW);
    let job = take(&mut collector, NOW).unwrap();
    assert!(job.votes.contains(&forged));
    collector.finish(&result(job, &[forged]), NOW);
    let job = take(&mut collector, later(LINGER_NS)).unwrap();
    assert_eq!(job.votes, [vote(1, 1, A)]);
    assert_eq!(collector.counts().bad, 1);
}

#[test]
fn a_second_ballot_is_checked_once_as_evidence() {
    let mut collector = collector();
    for signer in 1..4 {
        collector.offer(vote(signer, 1, A), NOW);
    }
    let job = take(&mut collector, NOW).unwrap();
    collector.finish(&result(job, &[]), NOW);
    assert!(collector.offer(vote(3, 1, B), NOW));
    let job = take(&mut collector, later(LINGER_NS)).unwrap();
    assert_eq!(job.votes, [vote(3, 1, B)]);
    collector.finish(&result(job, &[]), NOW);
    assert!(!collector.offer(vote(3, 1, B), NOW));
    assert!(!collector.offer(vote(3, 1, Ballot::Notarize(BlockId([3; 32]))), NOW));
}

#[test]
fn certificates_are_checked_only_if_still_wanted() {
    let mut collector = collector();
    let mut signers = roko_wire::vote::Bitmap::default();
    (0..3).for_each(|i| assert!(signers.insert(ValidatorIndex(i))));
    let kind = CertificateKind::SlowBlock(BlockId([1; 32]));
    let certificate = Certificate {
        view: View(500),
        kind,
        signers,
        fallback_signers: Default::default(),
        signature: [0; 96],
    };
    assert!(collector.offer_certificate(certificate.clone(), NOW));
    assert!(!collector.offer_certificate(certificate.clone(), NOW));
    assert_eq!(collector.take_job(later(LINGER_NS), |_, _| false), None);
    assert!(collector.offer_certificate(certificate.clone(), NOW));
    let job = take(&mut collector, later(LINGER_NS)).unwrap();
    assert_eq!(job.certificates, vec![certificate.clone()]);
    let mut weak = certificate;
    weak.signers = Default::default();
    assert!(!collector.offer_certificate(weak, NOW));
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let mut collector = collector();
    let mut signers = roko_wire::vote::Bitmap::default();
    (0..4).for_each(|i| assert!(signers.insert(ValidatorIndex(i))));
    for n in 0..5_000u64 {
        let block = BlockId(std::array::from_fn(|i| (n >> (i % 8 * 8)) as u8));
        collector.offer(vote(1, n * 977, Ballot::Notarize(block)), NOW);
        collector.offer(vote(2, n % 70, Ballot::Final(block)), NOW);
        let kind = CertificateKind::FastBlock(block);
        let forged = Certificate {
            view: View(n * n),
            kind,
            signers,
            fallback_signers: Default::default(),
            signature: [0; 96],
        };
        collector.offer_certificate(forged, NOW);
    }
    assert!(collector.views.len() <= 3 * VIEW_HORIZON as usize, "{}", collector.views.len());
    let votes: usize = collector.views.values().map(|entry| entry.slots.len() + entry.rivals.len()).sum();
    assert!(votes <= 2 * 4 * 4 * (VIEW_HORIZON as usize + 1), "{votes}");
}
