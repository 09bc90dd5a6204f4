//! The two lemmas of one view, checked over every way in which honest validators can vote, with Byzantine votes
//! always available: a fast commit excludes every other fast certificate, and a slow commit every other slow one.
//!
//! Validators have one unit of stake, so honest ones differ in their votes only and multisets of them suffice.
//! Each mutation of a threshold must be caught at the case that is tight for it.

use roko_consensus::Quorums;

/// An honest first vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    A,
    B,
    Skip,
    None,
}

/// An honest second vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    A,
    B,
    Skip,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Honest {
    first: First,
    fallback: bool,
    second: Second,
    /// A mutation: Final of A beside FinalSkip.
    both: bool,
}

/// The rules under test.
#[derive(Clone, Copy)]
struct Rules {
    quorums: Quorums,
    byzantine: u64,
    two_finals: bool,
}

fn count(votes: &[Honest], wanted: impl Fn(&Honest) -> bool) -> u64 {
    votes.iter().filter(|vote| wanted(vote)).count() as u64
}

/// Whether rule 7 can fire for somebody: some first votes of N stake, Byzantine ones chosen at will, in which
/// neither block has C.
fn fallback_can_fire(a: u64, b: u64, skip: u64, rules: &Rules) -> bool {
    let below = rules.quorums.fast_certificate - 1;
    a.min(below) + b.min(below) + skip + rules.byzantine >= rules.quorums.wait
}

/// Whether the votes can have been cast by honest validators under the rules.
fn lawful(votes: &[Honest], rules: &Rules) -> bool {
    let first = |wanted| count(votes, |vote| vote.first == wanted);
    let (a, b, skip) = (first(First::A), first(First::B), first(First::Skip));
    let fallback_used = votes.iter().any(|vote| vote.fallback);
    let slow = |stake: u64| stake + rules.byzantine >= rules.quorums.slow;
    let finals = |wanted| votes.iter().any(|vote| vote.second == wanted || vote.both && wanted == Second::A);
    (!fallback_used || fallback_can_fire(a, b, skip, rules))
        && (!finals(Second::A) || slow(a))
        && (!finals(Second::B) || slow(b))
}

/// A lemma that the votes break, if any.
fn broken(votes: &[Honest], rules: &Rules) -> Option<&'static str> {
    let quorums = &rules.quorums;
    let reaches = |stake: u64, threshold: u64| stake + rules.byzantine >= threshold;
    let first = |wanted| count(votes, |vote| vote.first == wanted);
    let (a, b) = (first(First::A), first(First::B));
    let skips = count(votes, |vote| vote.first == First::Skip || vote.fallback);
    let finals_a = count(votes, |vote| vote.second == Second::A || vote.both);
    let final_skips = count(votes, |vote| vote.second == Second::Skip);
    if reaches(a, quorums.fast_commit) {
        if reaches(b, quorums.fast_certificate) {
            return Some("a fast commit beside another block's fast certificate");
        }
        if reaches(skips, quorums.fast_certificate) {
            return Some("a fast commit beside a fast skip");
        }
    }
    if reaches(finals_a, quorums.slow) && reaches(a, quorums.slow) {
        if reaches(b, quorums.slow) {
            return Some("a slow commit beside another block's slow certificate");
        }
        if reaches(final_skips, quorums.slow) {
            return Some("a slow commit beside a slow skip");
        }
    }
    None
}

fn behaviours(two_finals: bool) -> Vec<Honest> {
    let mut all = Vec::new();
    for first in [First::A, First::B, First::Skip, First::None] {
        for fallback in [false, true] {
            for second in [Second::A, Second::B, Second::Skip, Second::None] {
                all.push(Honest { first, fallback, second, both: false });
            }
            if two_finals {
                all.push(Honest { first, fallback, second: Second::Skip, both: true });
            }
        }
    }
    all
}

/// Tries every multiset of honest behaviours; returns the first breach.
fn search(rules: &Rules) -> Option<(&'static str, Vec<Honest>)> {
    fn extend(
        votes: &mut Vec<Honest>,
        from: usize,
        left: u64,
        all: &[Honest],
        rules: &Rules,
    ) -> Option<(&'static str, Vec<Honest>)> {
        if left == 0 {
            let what = broken(votes, rules).filter(|_| lawful(votes, rules))?;
            return Some((what, votes.clone()));
        }
        for place in from..all.len() {
            votes.push(all[place]);
            let found = extend(votes, place, left - 1, all, rules);
            votes.pop();
            if found.is_some() {
                return found;
            }
        }
        None
    }
    let honest = rules.quorums.total - rules.byzantine;
    extend(&mut Vec::new(), 0, honest, &behaviours(rules.two_finals), rules)
}

fn rules(total: u64, byzantine: u64, silent: u64) -> Rules {
    Rules { quorums: Quorums::new(total, byzantine, silent).unwrap(), byzantine, two_finals: false }
}

#[test]
fn both_lemmas_hold_at_the_tight_cases() {
    for (total, byzantine, silent) in [(4, 1, 0), (6, 1, 1), (5, 1, 0)] {
        let found = search(&rules(total, byzantine, silent));
        assert!(found.is_none(), "T = {total}, f = {byzantine}, p = {silent}: {found:?}");
    }
}

fn must_be_caught(what: &str, rules: Rules) {
    assert!(search(&rules).is_some(), "nothing notices: {what}");
}

#[test]
fn every_threshold_less_one_is_caught() {
    let mut mutated = rules(4, 1, 0);
    mutated.quorums.fast_certificate -= 1;
    must_be_caught("C less one at (4, 1, 0)", mutated);
    let mut mutated = rules(4, 1, 0);
    mutated.quorums.slow -= 1;
    must_be_caught("S less one at (4, 1, 0)", mutated);
    let mut mutated = rules(6, 1, 1);
    mutated.quorums.fast_commit -= 1;
    must_be_caught("F less one at (6, 1, 1)", mutated);
    let mut mutated = rules(6, 1, 1);
    mutated.quorums.wait -= 1;
    must_be_caught("rule 7 waiting for N - p, which is N - 1, at (6, 1, 1)", mutated);
    let mut mutated = rules(4, 1, 0);
    mutated.quorums.wait -= 1;
    must_be_caught("rule 7 waiting for N - 1 at (4, 1, 0)", mutated);
}

#[test]
fn one_byzantine_more_and_two_finals_are_caught() {
    for (total, byzantine, silent) in [(4, 1, 0), (6, 1, 1)] {
        let mut mutated = rules(total, byzantine, silent);
        mutated.byzantine += 1;
        must_be_caught("f + 1 Byzantine", mutated);
        let mut mutated = rules(total, byzantine, silent);
        mutated.two_finals = true;
        must_be_caught("Final and FinalSkip both allowed", mutated);
    }
}
