//! Received votes and certificates before their signatures are checked: what is worth checking, and when.
//!
//! A product of pairings costs about a thousand times what a vote costs to receive, so votes are gathered and
//! checked in one batch when a batch can change something: at once when it would complete all that is useful, or
//! after a short linger when it could cross a threshold. The collector only decides; a worker runs
//! [`Job::run`] and the driver gives the [`JobResult`] back. Memory is bounded by the views between the last
//! final one and a horizon, one vote for each signer and class.
//!
//! A vote speaks for its signer whoever brings it. Who brings it is remembered all the same: what does not verify is its
//! bringer's lie, and a vote that its signer brings goes before one that somebody else brings in his name.

mod gain;

use crate::quorum::Quorums;
use crate::set::ValidatorSet;
use crate::verify::{self, VerifiedCertificate, VerifiedVote};
use gain::Gain;
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
/// Of those, most that one peer brings, so that no liar takes the room of all.
pub const CERTIFICATES_PER_PEER_MAX: usize = CERTIFICATES_PER_VIEW_MAX / 2;
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

/// Something with who sent it here.
#[derive(Clone, Debug)]
struct Brought<T> {
    what: T,
    by: ValidatorIndex,
}

/// What became of a vote or a certificate that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It is kept.
    Kept,
    /// It is late, or here already.
    NotNeeded,
    /// It is of a view beyond the horizon.
    FarAhead,
    /// No honest peer sends it: of nobody in the set, or of too little stake.
    Wrong,
}

/// What did not verify, and who brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A vote.
    Vote(ValidatorIndex),
    /// A certificate.
    Certificate(ValidatorIndex),
}

#[derive(Clone, Debug)]
enum Slot {
    /// Waits for a job.
    Pending(Brought<Vote>),
    /// In a job; who brought it.
    Checking(ValidatorIndex),
    /// Verified, this ballot.
    Verified(Ballot),
}

#[derive(Debug, Default)]
struct ViewVotes {
    slots: BTreeMap<(ValidatorIndex, Class), Slot>,
    /// A second, different vote of a class: checked when the first turns out bad, or as evidence beside it.
    rivals: BTreeMap<(ValidatorIndex, Class), Brought<Vote>>,
    /// Who brought the rivals that are in a job.
    rivals_checking: BTreeMap<(ValidatorIndex, Class), ValidatorIndex>,
    /// Who has been shown to send two ballots of a class: a third shows nothing new.
    exposed: BTreeSet<(ValidatorIndex, Class)>,
    certificates: Vec<Brought<Certificate>>,
    certificates_checking: Vec<Brought<Certificate>>,
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

    /// What becomes of a vote for its view; counts it when it is not kept.
    fn keeps(&mut self, view: View) -> Offered {
        if view < self.lowest_view() {
            self.counts.stale += 1;
            return Offered::NotNeeded;
        }
        if view.0 > self.current_view.0.saturating_add(VIEW_HORIZON) {
            self.counts.beyond_horizon += 1;
            return Offered::FarAhead;
        }
        Offered::Kept
    }

    /// Takes in a vote that `by` sent.
    pub fn offer(&mut self, vote: Vote, by: ValidatorIndex, now: NanoMoment) -> Offered {
        if self.set.get(vote.signer).is_none() {
            self.counts.unknown_signer += 1;
            return Offered::Wrong;
        }
        let kept = self.keeps(vote.view);
        if kept != Offered::Kept {
            return kept;
        }
        if Some(vote.signer) == self.own_index {
            self.counts.unknown_signer += 1;
            return Offered::NotNeeded;
        }
        let entry = self.views.entry(vote.view).or_default();
        if !entry.insert(Brought { what: vote, by }) {
            self.counts.duplicate += 1;
            return Offered::NotNeeded;
        }
        entry.pending_since.get_or_insert(now);
        self.counts.accepted += 1;
        Offered::Kept
    }

    /// Takes in a certificate that `by` sent and whose kind the machine still wants. It is
    /// verified after the linger, and only if the votes at hand have not made it useless by then. Certificates
    /// may be of any view above the final one: their stake vouches for the view once they verify.
    pub fn offer_certificate(
        &mut self,
        certificate: Certificate,
        by: ValidatorIndex,
        now: NanoMoment,
    ) -> Offered {
        if verify::check_stake(&certificate, &self.set, &self.quorums).is_err() {
            self.counts.refused_certificates += 1;
            return Offered::Wrong;
        }
        if certificate.view < self.lowest_view() {
            self.counts.stale += 1;
            return Offered::NotNeeded;
        }
        let horizon = View(self.current_view.0.saturating_add(VIEW_HORIZON));
        if certificate.view > horizon && self.views.range(horizon..).count() > VIEW_HORIZON as usize {
            self.counts.beyond_horizon += 1;
            return Offered::FarAhead;
        }
        let entry = self.views.entry(certificate.view).or_default();
        let held = entry.certificates.iter().chain(&entry.certificates_checking);
        if held.clone().any(|held| held.what == certificate) {
            self.counts.duplicate += 1;
            return Offered::NotNeeded;
        }
        if held.filter(|held| held.by == by).count() >= CERTIFICATES_PER_PEER_MAX
            || entry.certificates.len() >= CERTIFICATES_PER_VIEW_MAX
        {
            self.counts.refused_certificates += 1;
            return Offered::NotNeeded;
        }
        entry.certificates.push(Brought { what: certificate, by });
        entry.pending_since.get_or_insert(now);
        self.counts.accepted += 1;
        Offered::Kept
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
                if let Slot::Pending(Brought { what, by }) = slot {
                    votes.push(what.clone());
                    *slot = Slot::Checking(*by);
                }
            }
            let (slots, rivals_checking) = (&entry.slots, &mut entry.rivals_checking);
            entry.rivals.retain(|key, rival| {
                let evidence = matches!(slots.get(key), Some(Slot::Verified(_)));
                if evidence {
                    votes.push(rival.what.clone());
                    rivals_checking.insert(*key, rival.by);
                }
                !evidence
            });
            entry.certificates_checking = std::mem::take(&mut entry.certificates);
            entry.certificates_checking.retain(|held| wants(view, &held.what.kind));
            let certificates: Vec<Certificate> =
                entry.certificates_checking.iter().map(|held| held.what.clone()).collect();
            entry.pending_since = None;
            if !votes.is_empty() || !certificates.is_empty() {
                entry.checking = true;
                self.counts.jobs += 1;
                return Some(Job { view, votes, certificates });
            }
            self.forget_if_empty(view);
        }
    }

    /// Takes note of a job's result, which then goes to the machine. Returns who brought what does not verify.
    pub fn finish(&mut self, result: &JobResult, now: NanoMoment) -> Vec<Lie> {
        self.counts.bad += (result.bad_votes.len() + result.bad_certificates.len()) as u64;
        let Some(entry) = self.views.get_mut(&result.view) else { return Vec::new() };
        let mut lies = Vec::new();
        entry.checking = false;
        for held in std::mem::take(&mut entry.certificates_checking) {
            if result.bad_certificates.contains(&held.what) {
                lies.push(Lie::Certificate(held.by));
            }
        }
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
            if let Some(Slot::Checking(by)) = entry.slots.get(&key) {
                lies.push(Lie::Vote(*by));
                // A forgery in a validator's name must not shut its true vote out.
                entry.slots.remove(&key);
                if let Some(rival) = entry.rivals.remove(&key) {
                    entry.slots.insert(key, Slot::Pending(rival));
                }
            } else if let Some(by) = entry.rivals_checking.get(&key) {
                lies.push(Lie::Vote(*by));
            }
        }
        entry.rivals_checking.clear();
        // A copy that came while the same ballot was checked tells nothing new.
        let slots = &entry.slots;
        entry.rivals.retain(|key, rival| {
            !matches!(slots.get(key), Some(Slot::Verified(ballot)) if *ballot == rival.what.ballot)
        });
        let waiting = entry.slots.values().any(|slot| matches!(slot, Slot::Pending(_)));
        if waiting || !entry.rivals.is_empty() || !entry.certificates.is_empty() {
            entry.pending_since.get_or_insert(now);
        }
        self.forget_if_empty(result.view);
        lies
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

impl ViewVotes {
    /// Keeps a vote for the next job, or as a rival of the one that is here; false when it adds nothing.
    fn insert(&mut self, vote: Brought<Vote>) -> bool {
        let key = (vote.what.signer, Class::of(&vote.what.ballot));
        let own = vote.by == vote.what.signer;
        let same = match self.slots.get_mut(&key) {
            None => {
                self.slots.insert(key, Slot::Pending(vote));
                return true;
            }
            Some(Slot::Pending(held)) if held.what == vote.what => true,
            Some(Slot::Pending(held)) if own && held.by != vote.by => {
                let stranger = std::mem::replace(held, vote);
                // A rival that the signer brought, if there is one, is the better evidence.
                self.rivals.entry(key).or_insert(stranger);
                return true;
            }
            Some(Slot::Pending(_)) => false,
            Some(Slot::Checking(by)) => !own || *by == vote.by,
            Some(Slot::Verified(ballot)) => *ballot == vote.what.ballot || self.exposed.contains(&key),
        };
        let rival = self.rivals.get(&key);
        if same || rival.is_some_and(|rival| !own || rival.by == vote.by) {
            return false;
        }
        self.rivals.insert(key, vote);
        true
    }
}

#[cfg(test)]
#[path = "collector_tests.rs"]
mod tests;
