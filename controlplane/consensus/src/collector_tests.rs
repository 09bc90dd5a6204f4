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

/// Its signer brings it.
fn offer(collector: &mut VoteCollector, vote: Vote, now: NanoMoment) -> bool {
    let by = vote.signer;
    collector.offer(vote, by, now) == Offered::Kept
}

fn offer_certificate(collector: &mut VoteCollector, certificate: Certificate, now: NanoMoment) -> bool {
    collector.offer_certificate(certificate, ValidatorIndex(1), now) == Offered::Kept
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
        assert!(offer(&mut collector, vote(signer, 1, A), NOW));
    }
    assert_eq!(collector.next_due(NOW), Some(NOW));
    assert_eq!(take(&mut collector, NOW).unwrap().votes.len(), 3);
    assert_eq!(take(&mut collector, later(LINGER_NS)), None);
    assert_eq!(collector.next_due(NOW), None);
}

#[test]
fn a_threshold_within_reach_waits_for_the_linger_only() {
    let mut collector = collector();
    offer(&mut collector, vote(1, 1, A), NOW);
    offer(&mut collector, vote(2, 1, A), later(10));
    assert_eq!(take(&mut collector, later(LINGER_NS - 1)), None);
    assert_eq!(collector.next_due(later(20)), Some(later(LINGER_NS)));
    assert_eq!(take(&mut collector, later(LINGER_NS)).unwrap().votes.len(), 2);
}

#[test]
fn a_vote_that_changes_nothing_is_not_checked() {
    let mut collector = collector();
    offer(&mut collector, vote(1, 1, Ballot::FinalSkip), NOW);
    assert_eq!(collector.next_due(NOW), None);
    assert_eq!(take(&mut collector, later(10 * LINGER_NS)), None);
}

#[test]
fn final_and_far_views_outsiders_and_repetitions_are_refused_and_counted() {
    let mut collector = collector();
    offer(&mut collector, vote(1, 3, A), NOW);
    collector.set_views(View(4), View(5));
    assert!(!offer(&mut collector, vote(1, 4, A), NOW));
    assert!(!offer(&mut collector, vote(1, u64::MAX, A), NOW));
    assert!(!offer(&mut collector, vote(99, 5, A), NOW));
    assert!(!offer(&mut collector, vote(0, 5, A), NOW));
    assert!(offer(&mut collector, vote(1, 5, A), NOW));
    assert!(!offer(&mut collector, vote(1, 5, A), NOW));
    let counts = collector.counts();
    assert_eq!((counts.stale, counts.beyond_horizon, counts.unknown_signer, counts.duplicate), (1, 1, 2, 1));
    assert_eq!(collector.views.len(), 1);
}

#[test]
fn a_forgery_does_not_shut_the_true_vote_out() {
    let mut collector = collector();
    let mut forged = vote(1, 1, A);
    forged.signature = [0xbb; 96];
    offer(&mut collector, forged.clone(), NOW);
    assert_eq!(collector.offer(vote(1, 1, A), ValidatorIndex(2), NOW), Offered::Kept);
    offer(&mut collector, vote(2, 1, A), NOW);
    offer(&mut collector, vote(3, 1, A), NOW);
    let job = take(&mut collector, NOW).unwrap();
    assert!(job.votes.contains(&forged));
    assert_eq!(collector.finish(&result(job, &[forged]), NOW), [Lie::Vote(ValidatorIndex(1))]);
    let job = take(&mut collector, later(LINGER_NS)).unwrap();
    assert_eq!(job.votes, [vote(1, 1, A)]);
    assert_eq!(collector.counts().bad, 1);
}

/// A vote in the name of validator 1 whose signature is another's.
fn forged() -> Vote {
    Vote { signature: [0xbb; 96], ..vote(1, 1, A) }
}

#[test]
fn what_a_signer_brings_goes_before_what_others_bring_in_its_name() {
    let (liar, kept) = (ValidatorIndex(3), Offered::Kept);
    let mut collector = collector();
    assert_eq!(collector.offer(forged(), liar, NOW), kept);
    assert!(offer(&mut collector, vote(1, 1, A), NOW), "before the check");
    assert!(!offer(&mut collector, vote(1, 1, A), NOW), "once");
    assert_eq!(collector.offer(forged(), liar, NOW), Offered::NotNeeded);
    offer(&mut collector, vote(2, 1, A), NOW);
    offer(&mut collector, vote(3, 1, A), NOW);
    let job = take(&mut collector, NOW).unwrap();
    assert_eq!(job.votes, [vote(1, 1, A), vote(2, 1, A), vote(3, 1, A)], "no check fails for the lie");
    assert_eq!(collector.finish(&result(job, &[]), NOW), []);
    assert_eq!(take(&mut collector, later(LINGER_NS)), None, "and it shows nothing");
}

#[test]
fn a_vote_that_comes_while_a_forgery_of_it_is_checked_is_not_lost() {
    let mut collector = collector();
    assert_eq!(collector.offer(forged(), ValidatorIndex(3), NOW), Offered::Kept);
    offer(&mut collector, vote(2, 1, A), NOW);
    offer(&mut collector, vote(3, 1, A), NOW);
    let job = take(&mut collector, NOW).unwrap();
    assert!(offer(&mut collector, vote(1, 1, A), NOW));
    assert_eq!(collector.finish(&result(job, &[forged()]), NOW), [Lie::Vote(ValidatorIndex(3))]);
    let job = take(&mut collector, later(LINGER_NS)).unwrap();
    assert_eq!(job.votes, [vote(1, 1, A)]);
}

#[test]
fn one_peer_does_not_take_the_room_of_all_certificates() {
    let mut collector = collector();
    let mut signers = roko_wire::vote::Bitmap::default();
    (0..4).for_each(|i| assert!(signers.insert(ValidatorIndex(i))));
    let certificate = |n: u8| Certificate {
        view: View(1),
        kind: CertificateKind::FastBlock(BlockId([n; 32])),
        signers,
        fallback_signers: Default::default(),
        signature: [0; 96],
    };
    let mut kept = |by: u16| {
        let all = (0..50u8).filter(|n| {
            let certificate = certificate(n.wrapping_add(by as u8 * 50));
            collector.offer_certificate(certificate, ValidatorIndex(by), NOW) == Offered::Kept
        });
        all.count()
    };
    assert_eq!([kept(1), kept(2), kept(3)], [CERTIFICATES_PER_PEER_MAX, CERTIFICATES_PER_PEER_MAX, 0]);
    let job = take(&mut collector, later(LINGER_NS)).unwrap();
    let bad_certificates = job.certificates.clone();
    let result =
        JobResult { view: View(1), votes: vec![], bad_votes: vec![], certificates: vec![], bad_certificates };
    let lies = collector.finish(&result, NOW);
    let of = |by| lies.iter().filter(|lie| **lie == Lie::Certificate(ValidatorIndex(by))).count();
    assert_eq!((of(1), of(2)), (CERTIFICATES_PER_PEER_MAX, CERTIFICATES_PER_PEER_MAX));
}

#[test]
fn a_second_ballot_is_checked_once_as_evidence() {
    let mut collector = collector();
    for signer in 1..4 {
        offer(&mut collector, vote(signer, 1, A), NOW);
    }
    let job = take(&mut collector, NOW).unwrap();
    collector.finish(&result(job, &[]), NOW);
    assert!(offer(&mut collector, vote(3, 1, B), NOW));
    let job = take(&mut collector, later(LINGER_NS)).unwrap();
    assert_eq!(job.votes, [vote(3, 1, B)]);
    collector.finish(&result(job, &[]), NOW);
    assert!(!offer(&mut collector, vote(3, 1, B), NOW));
    assert!(!offer(&mut collector, vote(3, 1, Ballot::Notarize(BlockId([3; 32]))), NOW));
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
    assert!(offer_certificate(&mut collector, certificate.clone(), NOW));
    assert!(!offer_certificate(&mut collector, certificate.clone(), NOW));
    assert_eq!(collector.take_job(later(LINGER_NS), |_, _| false), None);
    assert!(offer_certificate(&mut collector, certificate.clone(), NOW));
    let job = take(&mut collector, later(LINGER_NS)).unwrap();
    assert_eq!(job.certificates, vec![certificate.clone()]);
    let mut weak = certificate;
    weak.signers = Default::default();
    assert!(!offer_certificate(&mut collector, weak, NOW));
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let mut collector = collector();
    let mut signers = roko_wire::vote::Bitmap::default();
    (0..4).for_each(|i| assert!(signers.insert(ValidatorIndex(i))));
    for n in 0..5_000u64 {
        let block = BlockId(std::array::from_fn(|i| (n >> (i % 8 * 8)) as u8));
        offer(&mut collector, vote(1, n * 977, Ballot::Notarize(block)), NOW);
        offer(&mut collector, vote(2, n % 70, Ballot::Final(block)), NOW);
        let kind = CertificateKind::FastBlock(block);
        let forged = Certificate {
            view: View(n * n),
            kind,
            signers,
            fallback_signers: Default::default(),
            signature: [0; 96],
        };
        offer_certificate(&mut collector, forged, NOW);
    }
    assert!(collector.views.len() <= 3 * VIEW_HORIZON as usize, "{}", collector.views.len());
    let votes: usize = collector.views.values().map(|entry| entry.slots.len() + entry.rivals.len()).sum();
    assert!(votes <= 2 * 4 * 4 * (VIEW_HORIZON as usize + 1), "{votes}");
}
