//! Received votes and certificates before their signatures are checked: what is worth checking, and when.
//!
//! A product of pairings costs about a thousand times what a vote costs to receive, so votes are gathered and
//! checked in one batch when a batch can change something: at once when it would complete all that is useful, or
//! after a short linger when it could cross a threshold. The collector only decides; a worker runs
//! [`Job::run`] and the driver gives the [`JobResult`] back. Memory is bounded by the views between the last
//! final one and a horizon, one vote for each signer and class.

use crate::quorum::Quorums;
use crate::set::ValidatorSet;
use crate::verify::{self, VerifiedCertificate, VerifiedVote};
use roko_wire::vote::{Ballot, Certificate, CertificateKind, SigningDomain, Vote};
use roko_wire::{NanoMoment, ValidatorIndex, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How far above the current view votes are kept. Votes further up come again once the node has caught up.
pub const VIEW_HORIZON: u64 = 64;
/// How far below the horizon's end views are kept when nothing becomes final.
pub const VIEWS_KEPT: u64 = 4_096;
/// Certificates kept unverified for each view: one for each kind of an honest view, and room for lies.
pub const CERTIFICATES_PER_VIEW_MAX: usize = 12;
/// The default linger: a tenth of the devnet's block interval.
pub const LINGER_NS: u64 = 1_000_000;

/// Ballots of which an honest validator sends one a view. `Skip` and `SkipFallback` are two, for a validator may
/// lawfully notarize and then fall back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Class {
    Notarize,
    Skip,
    SkipFallback,
    Second,
}

impl Class {
    const fn of(ballot: &Ballot) -> Class {
        match ballot {
            Ballot::Notarize(_) => Class::Notarize,
            Ballot::Skip => Class::Skip,
            Ballot::SkipFallback => Class::SkipFallback,
            Ballot::Final(_) | Ballot::FinalSkip => Class::Second,
        }
    }
}

#[derive(Clone, Debug)]
enum Slot {
    /// Waits for a job.
    Pending(Vote),
    /// In a job.
    Checking,
    /// Verified, this ballot.
    Verified(Ballot),
}

#[derive(Debug, Default)]
struct ViewVotes {
    slots: BTreeMap<(ValidatorIndex, Class), Slot>,
    /// A second, different vote of a class: checked when the first turns out bad, or as evidence beside it.
    rivals: BTreeMap<(ValidatorIndex, Class), Vote>,
    /// Who has been shown to send two ballots of a class: a third shows nothing new.
    exposed: BTreeSet<(ValidatorIndex, Class)>,
    certificates: Vec<Certificate>,
    pending_since: Option<NanoMoment>,
    checking: bool,
}

/// What became of what was offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectorCounts {
    /// Votes taken in.
    pub accepted: u64,
    /// Votes and certificates of views that are final or too old to keep.
    pub stale: u64,
    /// Votes and certificates of views beyond the horizon.
    pub beyond_horizon: u64,
    /// Votes and certificates that were here already.
    pub duplicate: u64,
    /// Votes of signers outside the set.
    pub unknown_signer: u64,
    /// Certificates whose bitmaps or stake are wrong, or beyond the room of their view.
    pub refused_certificates: u64,
    /// Votes and certificates that did not verify.
    pub bad: u64,
    /// Jobs given out.
    pub jobs: u64,
}

/// A batch to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The view it is of.
    pub view: View,
    /// Its votes.
    pub votes: Vec<Vote>,
    /// Its certificates.
    pub certificates: Vec<Certificate>,
}

/// What a [`Job`] found.
#[derive(Clone, Debug)]
pub struct JobResult {
    /// The view it is of.
    pub view: View,
    /// Votes that verify.
    pub votes: Vec<VerifiedVote>,
    /// Votes that do not.
    pub bad_votes: Vec<Vote>,
    /// Certificates that verify.
    pub certificates: Vec<VerifiedCertificate>,
    /// Certificates that do not.
    pub bad_certificates: Vec<Certificate>,
}

impl Job {
    /// Checks everything. Takes about a millisecond for the votes together and as much for each certificate.
    #[must_use]
    pub fn run(self, domain: SigningDomain, set: &ValidatorSet, quorums: &Quorums) -> JobResult {
        let batch = verify::verify_votes(&self.votes, domain, set);
        let (mut certificates, mut bad_certificates) = (Vec::new(), Vec::new());
        for certificate in self.certificates {
            match verify::verify_certificate(certificate.clone(), domain, set, quorums) {
                Ok(verified) => certificates.push(verified),
                Err(_) => bad_certificates.push(certificate),
            }
        }
        JobResult {
            view: self.view,
            votes: batch.verified,
            bad_votes: batch.bad,
            certificates,
            bad_certificates,
        }
    }
}

/// Gathers unverified votes and certificates and says when which batch is due.
#[derive(Debug)]
pub struct VoteCollector {
    set: Arc<ValidatorSet>,
    quorums: Quorums,
    own_index: Option<ValidatorIndex>,
    linger_ns: u64,
    views: BTreeMap<View, ViewVotes>,
    final_view: View,
    current_view: View,
    counts: CollectorCounts,
}

impl VoteCollector {
    /// An empty collector. Votes of `own_index` that come back from others are dropped.
    #[must_use]
    pub fn new(
        set: Arc<ValidatorSet>,
        quorums: Quorums,
        own_index: Option<ValidatorIndex>,
        linger_ns: u64,
    ) -> VoteCollector {
        let (views, counts) = (BTreeMap::new(), CollectorCounts::default());
        let (final_view, current_view) = (View(0), View(1));
        VoteCollector { set, quorums, own_index, linger_ns, views, final_view, current_view, counts }
    }

    /// What became of everything so far.
    #[must_use]
    pub const fn counts(&self) -> CollectorCounts {
        self.counts
    }

    /// Tells where the machine is; forgets what that makes useless.
    pub fn set_views(&mut self, final_view: View, current_view: View) {
        self.final_view = self.final_view.max(final_view);
        self.current_view = self.current_view.max(current_view);
        let lowest = self.lowest_view();
        self.views = self.views.split_off(&lowest);
    }

    fn lowest_view(&self) -> View {
        self.final_view.next().max(View(self.current_view.0.saturating_sub(VIEWS_KEPT)))
    }

    /// Whether a view is one to keep; counts it otherwise.
    fn keeps(&mut self, view: View) -> bool {
        if view < self.lowest_view() {
            self.counts.stale += 1;
            return false;
        }
        if view.0 > self.current_view.0.saturating_add(VIEW_HORIZON) {
            self.counts.beyond_horizon += 1;
            return false;
        }
        true
    }

    /// Takes in a received vote; returns whether it is kept.
    pub fn offer(&mut self, vote: Vote, now: NanoMoment) -> bool {
        if !self.keeps(vote.view) {
            return false;
        }
        if self.set.get(vote.signer).is_none() || Some(vote.signer) == self.own_index {
            self.counts.unknown_signer += 1;
            return false;
        }
        let key = (vote.signer, Class::of(&vote.ballot));
        let entry = self.views.entry(vote.view).or_default();
        if let Some(slot) = entry.slots.get(&key) {
            let same = match slot {
                Slot::Pending(held) => *held == vote,
                Slot::Checking => true,
                Slot::Verified(ballot) => *ballot == vote.ballot || entry.exposed.contains(&key),
            };
            if same || entry.rivals.contains_key(&key) {
                self.counts.duplicate += 1;
                return false;
            }
            entry.rivals.insert(key, vote);
        } else {
            entry.slots.insert(key, Slot::Pending(vote));
        }
        entry.pending_since.get_or_insert(now);
        self.counts.accepted += 1;
        true
    }

    /// Takes in a received certificate whose kind the machine still wants; returns whether it is kept. It is
    /// verified after the linger, and only if the votes at hand have not made it useless by then. Certificates
    /// may be of any view above the final one: their stake vouches for the view once they verify.
    pub fn offer_certificate(&mut self, certificate: Certificate, now: NanoMoment) -> bool {
        if certificate.view < self.lowest_view() {
            self.counts.stale += 1;
            return false;
        }
        let horizon = View(self.current_view.0.saturating_add(VIEW_HORIZON));
        if certificate.view > horizon && self.views.range(horizon..).count() > VIEW_HORIZON as usize {
            self.counts.beyond_horizon += 1;
            return false;
        }
        if verify::check_stake(&certificate, &self.set, &self.quorums).is_err() {
            self.counts.refused_certificates += 1;
            return false;
        }
        let entry = self.views.entry(certificate.view).or_default();
        if entry.certificates.contains(&certificate) {
            self.counts.duplicate += 1;
            return false;
        }
        if entry.certificates.len() >= CERTIFICATES_PER_VIEW_MAX {
            self.counts.refused_certificates += 1;
            return false;
        }
        entry.certificates.push(certificate);
        entry.pending_since.get_or_insert(now);
        self.counts.accepted += 1;
        true
    }

    /// When [`VoteCollector::take_job`] may next have something, `None` while nothing useful waits.
    #[must_use]
    pub fn next_due(&self, now: NanoMoment) -> Option<NanoMoment> {
        self.views.values().filter_map(|entry| self.due_at(entry, now)).min()
    }

    fn due_at(&self, entry: &ViewVotes, now: NanoMoment) -> Option<NanoMoment> {
        let since = entry.pending_since.filter(|_| !entry.checking)?;
        let gain = Gain::of(entry, &self.set, &self.quorums, self.own_index);
        if gain.complete {
            return Some(now);
        }
        gain.useful.then(|| since.saturating_add(self.linger_ns))
    }

    /// The next batch that is due, newest view first: it is the one that the chain waits for. `wants` says
    /// whether the machine still wants a certificate ([`crate::Machine::wants`]).
    pub fn take_job(
        &mut self,
        now: NanoMoment,
        wants: impl Fn(View, &CertificateKind) -> bool,
    ) -> Option<Job> {
        loop {
            let due = |entry: &ViewVotes| self.due_at(entry, now).is_some_and(|at| at <= now);
            let view = *self.views.iter().rev().find(|(_, entry)| due(entry))?.0;
            let entry = self.views.get_mut(&view)?;
            let mut votes = Vec::new();
            for slot in entry.slots.values_mut().filter(|slot| matches!(slot, Slot::Pending(_))) {
                if let Slot::Pending(vote) = std::mem::replace(slot, Slot::Checking) {
                    votes.push(vote);
                }
            }
            let slots = &entry.slots;
            entry.rivals.retain(|key, rival| {
                let evidence = matches!(slots.get(key), Some(Slot::Verified(_)));
                if evidence {
                    votes.push(rival.clone());
                }
                !evidence
            });
            let mut certificates = std::mem::take(&mut entry.certificates);
            certificates.retain(|certificate| wants(view, &certificate.kind));
            entry.pending_since = None;
            if !votes.is_empty() || !certificates.is_empty() {
                entry.checking = true;
                self.counts.jobs += 1;
                return Some(Job { view, votes, certificates });
            }
            self.forget_if_empty(view);
        }
    }

    /// Takes note of a job's result, which then goes to the machine.
    pub fn finish(&mut self, result: &JobResult, now: NanoMoment) {
        self.counts.bad += (result.bad_votes.len() + result.bad_certificates.len()) as u64;
        let Some(entry) = self.views.get_mut(&result.view) else { return };
        entry.checking = false;
        for vote in result.votes.iter().map(VerifiedVote::vote) {
            let key = (vote.signer, Class::of(&vote.ballot));
            match entry.slots.get_mut(&key) {
                Some(Slot::Verified(first)) if *first != vote.ballot => {
                    entry.exposed.insert(key);
                }
                _ => {
                    entry.slots.insert(key, Slot::Verified(vote.ballot));
                }
            }
        }
        for vote in &result.bad_votes {
            let key = (vote.signer, Class::of(&vote.ballot));
            if matches!(entry.slots.get(&key), Some(Slot::Checking)) {
                // A forgery in a validator's name must not shut its true vote out.
                entry.slots.remove(&key);
                if let Some(rival) = entry.rivals.remove(&key) {
                    entry.slots.insert(key, Slot::Pending(rival));
                }
            }
        }
        let waiting = entry.slots.values().any(|slot| matches!(slot, Slot::Pending(_)));
        if waiting || !entry.rivals.is_empty() || !entry.certificates.is_empty() {
            entry.pending_since.get_or_insert(now);
        }
        self.forget_if_empty(result.view);
    }

    fn forget_if_empty(&mut self, view: View) {
        let empty = |entry: &ViewVotes| {
            entry.slots.is_empty()
                && entry.rivals.is_empty()
                && entry.certificates.is_empty()
                && !entry.checking
        };
        if self.views.get(&view).is_some_and(empty) {
            self.views.remove(&view);
        }
    }
}

/// What checking a view's pending votes could bring.
struct Gain {
    /// It would bring all that further waiting could.
    complete: bool,
    /// It could cross a threshold, or show a broken rule.
    useful: bool,
}

/// Stake behind a ballot: checked, and waiting to be.
#[derive(Clone, Copy, Default)]
struct Stakes {
    verified: u64,
    pending: u64,
}

impl Stakes {
    fn add(&mut self, stake: u64, pending: bool) {
        *(if pending { &mut self.pending } else { &mut self.verified }) += stake;
    }

    /// Whether checking what waits would bring this to a threshold that it is not at yet.
    const fn crosses(self, own: u64, threshold: u64) -> bool {
        let verified = self.verified + own;
        self.pending > 0 && verified < threshold && verified + self.pending >= threshold
    }

    /// The same, with the node's own vote here or not: it does not pass through the collector.
    const fn may_cross(self, own: u64, threshold: u64) -> bool {
        self.crosses(own, threshold) || self.crosses(0, threshold)
    }
}

impl Gain {
    fn of(entry: &ViewVotes, set: &ValidatorSet, quorums: &Quorums, own: Option<ValidatorIndex>) -> Gain {
        let own = own.map_or(0, |own| set.stake(own));
        let mut ballots: BTreeMap<Ballot, Stakes> = BTreeMap::new();
        let (mut firsts, mut skips) = (Stakes::default(), Stakes::default());
        for ((signer, class), slot) in &entry.slots {
            let (ballot, pending) = match slot {
                Slot::Pending(vote) => (vote.ballot, true),
                Slot::Verified(ballot) => (*ballot, false),
                Slot::Checking => continue,
            };
            let stake = set.stake(*signer);
            ballots.entry(ballot).or_default().add(stake, pending);
            if matches!(class, Class::Skip | Class::SkipFallback) {
                skips.add(stake, pending);
            }
            if matches!(class, Class::Notarize | Class::Skip) {
                firsts.add(stake, pending);
            }
        }
        let (c, s, f) = (quorums.fast_certificate, quorums.slow, quorums.fast_commit);
        let evidence = entry.rivals.keys().any(|key| matches!(entry.slots.get(key), Some(Slot::Verified(_))));
        let mut complete = skips.crosses(own, s) || firsts.crosses(own, set.total_stake());
        let mut useful = evidence || !entry.certificates.is_empty();
        useful |= skips.may_cross(own, c) || firsts.may_cross(own, quorums.wait);
        for (ballot, stakes) in &ballots {
            match ballot {
                Ballot::Notarize(_) => {
                    complete |= stakes.crosses(own, f);
                    useful |= [c, s, f].iter().any(|threshold| stakes.may_cross(own, *threshold));
                }
                Ballot::Final(_) | Ballot::FinalSkip => {
                    complete |= stakes.crosses(own, s);
                    useful |= stakes.may_cross(own, s);
                }
                Ballot::Skip | Ballot::SkipFallback => {}
            }
        }
        Gain { complete, useful: useful || complete }
    }
}

#[cfg(test)]
#[path = "collector_tests.rs"]
mod tests;
