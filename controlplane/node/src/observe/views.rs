//! The last views as this node lived them: who voted what, which certificates there were, and when.
//!
//! Written by the control thread as it verifies votes and certificates; what it does not need any more (a vote for a
//! view that is final already) it does not verify, so it is not here either.

use super::peers::signed_nanos;
use roko_wire::message::certificate_name;
use roko_wire::vote::{Ballot, Certificate, CertificateKind};
use roko_wire::{BlockId, NanoMoment, ValidatorIndex, View};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Views that are kept.
pub const VIEWS_KEPT: usize = 12;
/// Ballots of one view that are kept: five kinds, and a leader that proposes several blocks.
const BALLOTS_MAX: usize = 16;
/// Certificates of one view that are kept.
const CERTIFICATES_MAX: usize = 16;

#[derive(Clone, Debug)]
struct SeenCertificate {
    kind: CertificateKind,
    signers: u16,
    made_here: bool,
    at: NanoMoment,
}

#[derive(Clone, Debug, Default)]
struct SeenView {
    view: View,
    leader: Option<ValidatorIndex>,
    entered: Option<NanoMoment>,
    votes: BTreeMap<Ballot, Vec<(ValidatorIndex, NanoMoment)>>,
    certificates: Vec<SeenCertificate>,
}

/// The last views.
#[derive(Clone, Debug, Default)]
pub struct ViewBook {
    /// Ascending by view.
    views: VecDeque<SeenView>,
}

impl ViewBook {
    /// The record of `view`, made when it is new; `None` for one below all that are kept, when the book is full.
    fn of(&mut self, view: View) -> Option<&mut SeenView> {
        let place = match self.views.binary_search_by_key(&view, |seen| seen.view) {
            Ok(place) => place,
            Err(0) if self.views.len() == VIEWS_KEPT => return None,
            Err(mut place) => {
                if self.views.len() == VIEWS_KEPT {
                    self.views.pop_front();
                    place -= 1;
                }
                self.views.insert(place, SeenView { view, ..SeenView::default() });
                place
            }
        };
        self.views.get_mut(place)
    }

    /// The node entered a view.
    pub(super) fn entered(&mut self, view: View, leader: ValidatorIndex, now: NanoMoment) {
        if let Some(seen) = self.of(view) {
            seen.leader = Some(leader);
            seen.entered.get_or_insert(now);
        }
    }

    /// A vote counts here from now on.
    pub(super) fn voted(&mut self, view: View, ballot: Ballot, signer: ValidatorIndex, now: NanoMoment) {
        let Some(seen) = self.of(view) else { return };
        if seen.votes.len() >= BALLOTS_MAX && !seen.votes.contains_key(&ballot) {
            return;
        }
        let counted = seen.votes.entry(ballot).or_default();
        if counted.iter().all(|(known, _)| *known != signer) {
            counted.push((signer, now));
        }
    }

    /// A certificate was made here of votes, or came and is valid.
    pub(super) fn certified(&mut self, certificate: &Certificate, made_here: bool, now: NanoMoment) {
        let Some(seen) = self.of(certificate.view) else { return };
        let known = seen.certificates.iter().any(|known| known.kind == certificate.kind);
        if known || seen.certificates.len() >= CERTIFICATES_MAX {
            return;
        }
        let signers = (certificate.signers.len() + certificate.fallback_signers.len()) as u16;
        seen.certificates.push(SeenCertificate { kind: certificate.kind, signers, made_here, at: now });
    }

    /// The views at `now`, the newest first.
    #[must_use]
    pub fn read(&self, now: NanoMoment) -> Vec<ViewStatus> {
        self.views.iter().rev().map(|seen| seen.read(now)).collect()
    }
}

impl SeenView {
    fn read(&self, now: NanoMoment) -> ViewStatus {
        let after = |at: NanoMoment| self.entered.map(|entered| signed_nanos(entered, at));
        let ballot = |(ballot, counted): (&Ballot, &Vec<(ValidatorIndex, NanoMoment)>)| BallotStatus {
            ballot: ballot_name(ballot).into(),
            block: ballot.block().map(short),
            counted: counted
                .iter()
                .map(|(signer, at)| CountedVote { signer: signer.0, after_ns: after(*at) })
                .collect(),
        };
        let certificate = |seen: &SeenCertificate| CertificateStatus {
            kind: certificate_name(&seen.kind).into(),
            block: seen.kind.block().map(short),
            signers: seen.signers,
            made_here: seen.made_here,
            after_ns: after(seen.at),
        };
        ViewStatus {
            view: self.view.0,
            leader: self.leader.map(|leader| leader.0),
            entered_ns_ago: self.entered.map(|entered| now.nanos_since(entered)),
            ballots: self.votes.iter().map(ballot).collect(),
            certificates: self.certificates.iter().map(certificate).collect(),
        }
    }
}

/// The first four bytes of a block's id in hexadecimal digits: enough to tell the blocks of one view apart.
fn short(block: BlockId) -> String {
    hex::encode(&block.0[..4])
}

/// A ballot's name in the status, in the style of [`certificate_name`].
const fn ballot_name(ballot: &Ballot) -> &'static str {
    match ballot {
        Ballot::Notarize(_) => "notarize",
        Ballot::Skip => "skip",
        Ballot::SkipFallback => "skip_fallback",
        Ballot::Final(_) => "final",
        Ballot::FinalSkip => "final_skip",
    }
}

/// One view, as a node lived it. Times after its start count from when the node entered it, and are negative for what
/// came before that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ViewStatus {
    /// Its number.
    pub view: u64,
    /// Who proposes in it; `None` when the node did not enter it.
    pub leader: Option<u16>,
    /// Since the node entered it, nanoseconds; `None` when it did not.
    pub entered_ns_ago: Option<u64>,
    /// Verified votes by what they are for.
    pub ballots: Vec<BallotStatus>,
    /// Valid certificates, in the order in which they were known.
    pub certificates: Vec<CertificateStatus>,
}

/// Votes for one thing in one view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BallotStatus {
    /// `notarize`, `skip`, `skip_fallback`, `final` or `final_skip`.
    pub ballot: String,
    /// First four bytes of the block's id, in hexadecimal digits; `None` for the skip ballots.
    pub block: Option<String>,
    /// Who cast it, in the order in which they counted.
    pub counted: Vec<CountedVote>,
}

/// One verified vote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CountedVote {
    /// Who cast it.
    pub signer: u16,
    /// From the view's start until it counted here, nanoseconds: verified, or durable when it is the node's own.
    pub after_ns: Option<i64>,
}

/// One valid certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateStatus {
    /// `fast_block`, `slow_block`, `fast_skip`, `slow_skip`, `commit_fast` or `commit_slow`.
    pub kind: String,
    /// First four bytes of the block's id, in hexadecimal digits; `None` for the skip certificates.
    pub block: Option<String>,
    /// How many validators signed.
    pub signers: u16,
    /// Made here of votes, not received whole.
    pub made_here: bool,
    /// From the view's start until it was known here, nanoseconds.
    pub after_ns: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_wire::vote::Bitmap;

    #[test]
    fn a_view_tells_who_voted_and_when() {
        let (mut book, at) = (ViewBook::default(), |nanos: u128| NanoMoment(1_000 + nanos));
        let block = BlockId([0xab; 32]);
        book.voted(View(7), Ballot::Notarize(block), ValidatorIndex(3), at(0));
        book.entered(View(7), ValidatorIndex(1), at(10));
        book.entered(View(7), ValidatorIndex(1), at(90));
        book.voted(View(7), Ballot::Notarize(block), ValidatorIndex(0), at(30));
        book.voted(View(7), Ballot::Notarize(block), ValidatorIndex(0), at(60));
        let mut signers = Bitmap::default();
        assert!(signers.insert(ValidatorIndex(0)) && signers.insert(ValidatorIndex(3)));
        let certificate = Certificate {
            view: View(7),
            kind: CertificateKind::SlowBlock(block),
            signers,
            fallback_signers: Bitmap::default(),
            signature: [0; 96],
        };
        book.certified(&certificate, true, at(35));
        book.certified(&certificate, false, at(36));
        let views = book.read(at(50));
        let [view] = &views[..] else { panic!("one view: {views:?}") };
        assert_eq!((view.view, view.leader, view.entered_ns_ago), (7, Some(1), Some(40)));
        let [ballot] = &view.ballots[..] else { panic!("one ballot: {view:?}") };
        assert_eq!((ballot.ballot.as_str(), ballot.block.as_deref()), ("notarize", Some("abababab")));
        let counted: Vec<_> = ballot.counted.iter().map(|vote| (vote.signer, vote.after_ns)).collect();
        assert_eq!(counted, [(3, Some(-10)), (0, Some(20))]);
        let [certificate] = &view.certificates[..] else { panic!("one certificate: {view:?}") };
        assert_eq!((certificate.kind.as_str(), certificate.signers), ("slow_block", 2));
        assert_eq!((certificate.made_here, certificate.after_ns), (true, Some(25)));
    }

    #[test]
    fn only_the_newest_views_are_kept() {
        let mut book = ViewBook::default();
        for view in (0..40).rev().chain(100..120) {
            book.entered(View(view), ValidatorIndex(0), NanoMoment(u128::from(view)));
        }
        book.voted(View(3), Ballot::Skip, ValidatorIndex(0), NanoMoment(500));
        let kept: Vec<u64> = book.read(NanoMoment(500)).iter().map(|view| view.view).collect();
        assert_eq!(kept, (120 - VIEWS_KEPT as u64..120).rev().collect::<Vec<_>>());
    }
}
