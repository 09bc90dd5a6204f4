//! Peers, votes and certificates as one node knows them.

use super::page::Seen;
use crate::conduct::PeerConduct;
use crate::observe::peers::PeerStatus;
use crate::observe::views::{BallotStatus, CertificateStatus, ViewStatus};
use std::fmt::Write as _;

/// Views on a page that is drawn again and again.
const VIEWS_LIVE: usize = 4;
/// Votes for one thing that are told one by one; of more, only who is missing.
const VOTES_TOLD_MAX: usize = 8;

/// Nanoseconds as milliseconds.
fn ms(nanos: i64) -> String {
    format!("{:.1}", nanos as f64 / 1e6)
}

fn or_dash(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".into())
}

/// A line a peer.
pub(super) fn peers(out: &mut String, seen: &Seen<'_>, more: &str) -> std::fmt::Result {
    let node = seen.node;
    if node.detail.peers.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{:<24}{:>12}{:>10}{:>9}{:>9}{:>8}{:>9}{:>7}{:>7}{:>9}{:>11}{:>11}{:>11}{:>14}",
        format!("peers of {}", node.name),
        "heard ms ago",
        "rtt ms",
        "frames/s",
        "propose",
        "vote",
        "certif.",
        "chunk",
        "pull",
        "tx/s",
        "stamp ms",
        "propose ms",
        "+- ms",
        "score",
    )?;
    for (place, peer) in node.detail.peers.iter().enumerate() {
        let (frames, transactions) = seen.rates.peers.get(place).copied().unwrap_or_default();
        let conduct = node.detail.conduct.iter().find(|one| one.index == peer.index);
        peer_row(out, peer, (frames, transactions), node.clock_error_bound_ns, &standing(conduct))?;
    }
    for (one, members) in node.detail.conduct.iter().map(|one| (one, &node.detail.peers)) {
        if members.iter().all(|peer| peer.index != one.index) {
            writeln!(out, "  {:<22}{:>14}", format!("client {:#06x}", one.index), standing(Some(one)))?;
        }
    }
    writeln!(
        out,
        "  frames/s: consensus frames; tx/s: what the peer stamped. stamp, propose: its youngest stamp and block time on\n  \
         arrival within 5 to 10 s, by this clock: the way here, and what the peer did between reading its clock and\n  \
         sending, within the two clocks' bounds (+-). rtt: a question over the session's TLS connection and its answer,\n  \
         the median of the last eight{more}"
    )
}

/// What a peer's score says: a dash when it was never refused for anything.
fn standing(conduct: Option<&PeerConduct>) -> String {
    match conduct {
        None => "-".into(),
        Some(PeerConduct { banned_for_ms: Some(left), .. }) => format!("banned {:.0} s", *left as f64 / 1e3),
        Some(conduct) => format!("{:.1} %", conduct.score_permille as f64 / 10.0),
    }
}

fn peer_row(
    out: &mut String,
    peer: &PeerStatus,
    rates: (f64, f64),
    own_bound_ns: u64,
    standing: &str,
) -> std::fmt::Result {
    let bound = peer.clock_error_bound_ns.map(|bound| bound.saturating_add(own_bound_ns));
    writeln!(
        out,
        "  {:<22}{:>12}{:>10}{:>9.1}{:>9}{:>8}{:>9}{:>7}{:>7}{:>9.1}{:>11}{:>11}{:>11}{:>14}",
        format!("validator {}", peer.index),
        or_dash(peer.heard_ns_ago.map(|ago| ms(i64::try_from(ago).unwrap_or(i64::MAX)))),
        or_dash(peer.round_trip_ns.map(|trip| format!("{:.3}", trip as f64 / 1e6))),
        rates.0,
        peer.proposals,
        peer.votes,
        peer.certificates,
        peer.chunks,
        peer.requests,
        rates.1,
        or_dash(peer.stamp_age_ns_min.map(ms)),
        or_dash(peer.proposal_age_ns_min.map(ms)),
        or_dash(bound.map(|bound| ms(i64::try_from(bound).unwrap_or(i64::MAX)))),
        standing,
    )
}

/// The last views: who voted, which certificates there were, and when.
pub(super) fn views(out: &mut String, seen: &Seen<'_>, whole: bool) -> std::fmt::Result {
    let node = seen.node;
    if node.detail.views.is_empty() {
        return Ok(());
    }
    let own = usize::from(node.detail.index.is_some());
    let validators = node.detail.peers.len() + own;
    writeln!(
        out,
        "\nviews of {}: validator +ms since this node entered the view, when its vote counted here; certificates sent, or\n\
         received (<)",
        node.name
    )?;
    let shown = if whole { node.detail.views.len() } else { VIEWS_LIVE };
    for view in node.detail.views.iter().take(shown) {
        view_lines(out, view, validators)?;
    }
    Ok(())
}

fn view_lines(out: &mut String, view: &ViewStatus, validators: usize) -> std::fmt::Result {
    write!(out, "{:>10}", view.view)?;
    match view.leader {
        Some(leader) => write!(out, "  leader {leader:<4}")?,
        None => write!(out, "  not entered")?,
    }
    if view.ballots.is_empty() && view.certificates.is_empty() {
        return writeln!(out, " nothing yet");
    }
    // The first part follows the number, the others begin below it.
    let mut indent = " ";
    for ballot in &view.ballots {
        writeln!(out, "{indent}{}", ballot_line(ballot, validators))?;
        indent = "                        ";
    }
    if !view.certificates.is_empty() {
        let all: Vec<String> = view.certificates.iter().map(certificate_text).collect();
        writeln!(out, "{indent}{:<14}{}", "certificates", all.join("   "))?;
    }
    Ok(())
}

fn after(after_ns: Option<i64>) -> String {
    after_ns.map_or_else(String::new, |after| format!("{:+.1}", after as f64 / 1e6))
}

fn ballot_line(ballot: &BallotStatus, validators: usize) -> String {
    let mut line = format!("{:<14}", ballot.ballot);
    let counted = &ballot.counted;
    // Writing to a String cannot fail.
    if counted.len() <= VOTES_TOLD_MAX {
        for vote in counted {
            let _ = write!(line, "{} {:<8}", vote.signer, after(vote.after_ns));
        }
    } else {
        let (first, last) =
            (counted.first().and_then(|v| v.after_ns), counted.last().and_then(|v| v.after_ns));
        let _ = write!(line, "{} of {validators} {} to {}", counted.len(), after(first), after(last));
        let missing: Vec<String> = (0..validators as u16)
            .filter(|index| counted.iter().all(|vote| vote.signer != *index))
            .map(|index| index.to_string())
            .collect();
        if !missing.is_empty() {
            let _ = write!(line, ", without {}", missing.join(" "));
        }
    }
    if let Some(block) = &ballot.block {
        let _ = write!(line, " block {block}");
    }
    line
}

fn certificate_text(certificate: &CertificateStatus) -> String {
    let received = if certificate.made_here { "" } else { "<" };
    format!("{received}{} of {} {}", certificate.kind, certificate.signers, after(certificate.after_ns))
}
