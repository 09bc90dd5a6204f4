//! When a peer is banned, for how long, and that no opinion costs the chain its quorum.

use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000;

/// Four equal validators of which one may be Byzantine, and a client; this node is the first.
fn scores() -> Scores {
    Scores::new(ScoreConfig::default(), &[10, 10, 10, 10, 0], 0, 11)
}

fn ban(slot: usize, for_ms: u64) -> Vec<Verdict> {
    vec![Verdict::Ban { slot, for_ms }]
}

#[test]
fn ten_lies_are_a_ban_and_nine_are_not() {
    let mut scores = scores();
    scores.note(1, Offence::BadVote, 9, 5);
    assert_eq!(scores.judge(5), []);
    assert_eq!(scores.permille(1, 5), 900);
    scores.note(1, Offence::BadChunk, 1, 5);
    assert_eq!(scores.judge(5), ban(1, 60 * SECOND));
    assert_eq!(scores.judge(6), [], "once");
    assert_eq!(scores.banned_for_ms(1, 6), Some(60 * SECOND - 1));
}

#[test]
fn suspicion_decays() {
    let mut scores = scores();
    for lie in 0..100 {
        // One in a half-life never adds up to more than two.
        scores.note(2, Offence::BadMessage, 1, lie * 30 * SECOND);
        assert_eq!(scores.judge(lie * 30 * SECOND), []);
    }
    assert!((100..=200).contains(&scores.permille(2, 99 * 30 * SECOND)));
    assert_eq!(scores.permille(2, u64::MAX), 0);
}

#[test]
fn what_is_nobodys_fault_never_bans() {
    let mut scores = scores();
    for offence in [Offence::ImplausibleStamp, Offence::FarAhead, Offence::UntimelyBlock] {
        scores.note(1, offence, u64::MAX, 0);
    }
    assert_eq!((scores.judge(0), scores.permille(1, 0)), (vec![], 0));
    scores.note(0, Offence::Equivocation, 5, 0);
    assert_eq!(scores.judge(0), [], "a node does not ban itself");
    scores.note(99, Offence::Equivocation, 5, 0);
    assert_eq!(scores.judge(0), [], "nobody there");
}

#[test]
fn bans_end_grow_and_are_forgotten() {
    let mut scores = scores();
    let mut now = 0;
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        scores.note(1, Offence::Equivocation, 1, now);
        assert_eq!(scores.judge(now), ban(1, minutes * 60 * SECOND));
        now += minutes * 60 * SECOND;
        assert_eq!(scores.judge(now - 1), []);
        assert_eq!(scores.judge(now), [Verdict::Readmit { slot: 1 }]);
        assert_eq!(scores.permille(1, now), 500, "half the limit is left");
    }
    now += 7 * 3_600 * SECOND;
    scores.note(1, Offence::Equivocation, 1, now);
    assert_eq!(
        scores.judge(now),
        ban(1, 2 * 60 * SECOND),
        "an hour takes one ban back: one of eight is left"
    );
}

#[test]
fn who_was_banned_is_on_probation_for_a_half_life_within_what_may_be_byzantine() {
    let mut scores = scores();
    assert!(scores.unheard(&[]).is_empty());
    scores.note(1, Offence::Equivocation, 1, 0);
    scores.note(4, Offence::Equivocation, 1, 0);
    scores.judge(0);
    assert_eq!(scores.unheard(&[]), [1, 4]);
    let back = 60 * SECOND;
    assert_eq!(scores.judge(back).len(), 2);
    assert_eq!(scores.unheard(&[]), [1, 4], "its frames are listened to, its views are not waited for");
    // Another validator's ban takes the place of the probation, whose stake would be too much beside it.
    scores.note(2, Offence::Equivocation, 1, back + SECOND);
    assert_eq!(scores.judge(back + SECOND), ban(2, 60 * SECOND));
    assert_eq!(scores.unheard(&[]), [2, 4]);
    scores.judge(back + 31 * SECOND);
    assert_eq!(scores.unheard(&[]), [2], "half of what it came back with is left");
    scores.note(1, Offence::BadVote, 9, back + 32 * SECOND);
    scores.judge(back + 32 * SECOND);
    assert_eq!(scores.unheard(&[]), [2], "suspicion alone is no probation");
}

#[test]
fn who_is_lost_is_not_waited_for_within_what_may_be_byzantine() {
    let scores = scores();
    assert_eq!(scores.unheard(&[3]), [3]);
    assert_eq!(scores.unheard(&[2, 3, 4]), [2, 4], "two of four are no minority");
}

#[test]
fn no_more_stake_is_banned_than_may_be_byzantine_and_clients_have_none() {
    let mut scores = scores();
    for slot in 1..=4 {
        scores.note(slot, Offence::Equivocation, 1, 0);
    }
    let verdicts = scores.judge(0);
    let expected = [
        Verdict::Ban { slot: 1, for_ms: 60 * SECOND },
        Verdict::Withhold { slot: 2 },
        Verdict::Withhold { slot: 3 },
        Verdict::Ban { slot: 4, for_ms: 60 * SECOND },
    ];
    assert_eq!(verdicts, expected);
    assert_eq!(scores.judge(1), [], "each is said once");
    scores.note(2, Offence::Equivocation, 1, 60 * SECOND);
    let then = scores.judge(60 * SECOND);
    assert!(then.contains(&Verdict::Ban { slot: 2, for_ms: 60 * SECOND }), "the place is free: {then:?}");
}

#[test]
fn without_bans_scores_only_report() {
    let config = ScoreConfig { bans: false, ..ScoreConfig::default() };
    let mut scores = Scores::new(config, &[10, 10, 10, 10], 0, 11);
    scores.note(3, Offence::Equivocation, 1, 0);
    assert_eq!(scores.judge(0), [Verdict::Withhold { slot: 3 }]);
    assert_eq!((scores.permille(3, 0), scores.banned_stake()), (1_000, 0));
}

#[test]
fn labels_name_one_offence_each() {
    for (place, offence) in Offence::ALL.iter().enumerate() {
        assert_eq!(*offence as usize, place);
        assert_eq!(Offence::from_label(offence.label()), Some(*offence));
        assert!(offence.weight() <= LIMIT);
    }
    assert_eq!((Offence::from_label("none"), Offence::COUNT), (None, Offence::ALL.len()));
}

proptest! {
    #[test]
    fn a_score_never_rises_by_waiting(score in 0..=2 * LIMIT, first in 0u64..400_000, more in 0u64..400_000) {
        let (early, late) = (decayed(score, first, 30_000), decayed(score, first + more, 30_000));
        prop_assert!(late <= early && early <= score);
        prop_assert!(decayed(score, 30_000, 30_000) == score / 2);
    }

    /// Whatever peers do and however time goes: the banned stake stays within its bound, and each ban ends by itself.
    #[test]
    fn bans_are_bounded_and_end(
        stakes in prop::collection::vec(0u64..100, 2..12),
        bound in 0u64..300,
        steps in prop::collection::vec((0usize..12, 0..Offence::COUNT, 0u64..30, 0u64..90_000), 1..200),
    ) {
        let mut scores = Scores::new(ScoreConfig::default(), &stakes, 0, bound);
        let (mut now, mut banned) = (0u64, vec![false; stakes.len()]);
        for (slot, offence, count, later) in steps {
            now += later;
            scores.note(slot, Offence::ALL[offence], count, now);
            for verdict in scores.judge(now) {
                match verdict {
                    Verdict::Ban { slot, .. } => prop_assert!(!std::mem::replace(&mut banned[slot], true)),
                    Verdict::Readmit { slot } => prop_assert!(std::mem::replace(&mut banned[slot], false)),
                    Verdict::Withhold { slot } => prop_assert!(!banned[slot]),
                }
            }
            let stake: u64 = stakes.iter().zip(&banned).filter(|(_, banned)| **banned).map(|(stake, _)| stake).sum();
            prop_assert!(stake == scores.banned_stake() && stake <= bound && !banned[0]);
        }
        let after = scores.judge(now + ScoreConfig::default().ban_ms_max);
        let ended = after.iter().filter(|verdict| matches!(verdict, Verdict::Readmit { .. })).count();
        prop_assert_eq!(ended, banned.iter().filter(|banned| **banned).count());
    }
}
