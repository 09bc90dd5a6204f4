//! One validator of a devnet turned against the others: it has its own keys, opens real sessions with everybody, and sends
//! what no honest program sends. It takes no part in consensus beside that.
//!
//! [`Attack`] says what it sends, `craft` makes it, `sender` seals it over sessions that come from the same handshakes as
//! a node's, `streams` does its lying over TLS. The honest validators are the ones of `roko run`, with nothing added.

mod craft;
mod sender;
mod streams;

pub use sender::{Hostile, HostileParts};

use clap::ValueEnum;

/// What a hostile validator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Attack {
    /// Random bytes in authentic frames.
    Garbage,
    /// More consensus messages than a peer may send.
    Flood,
    /// Its own frames again and again.
    Replay,
    /// Votes, certificates and questions of views that no chain of this age has.
    AbsurdViews,
    /// Votes of views that may come, far too early.
    FarViews,
    /// Votes whose signatures do not hold, in everybody's name and in nobody's.
    BadVotes,
    /// Certificates of too little stake, of validators that do not exist, and with signatures that do not hold.
    BadCertificates,
    /// Well-signed votes for blocks that do not exist.
    UnknownBlocks,
    /// Two well-signed votes that exclude each other.
    DoubleVotes,
    /// Proposals in others' views, of other chains, too large, or not signed.
    BadProposals,
    /// Two well-justified proposals in each view of its own.
    DoubleProposals,
    /// Well-justified proposals whose payload is garbage.
    InvalidBlocks,
    /// Chunks with wrong paths, places or data, and of blocks that nobody proposed.
    BadChunks,
    /// Stamp batches with wrong roots, wrong transactions and others' names.
    BadBatches,
    /// Stamps of next year, or with a bound of centuries.
    AbsurdStamps,
    /// More questions for blocks and certificates than a peer may ask.
    Pulls,
    /// Senseless messages on the session's own connection.
    LinkGarbage,
    /// Senseless questions on catch-up streams.
    SyncGarbage,
    /// A chain's end that does not exist, and blocks of it that do not hold.
    SyncLies,
}

impl Attack {
    /// All of them.
    pub const ALL: &[Attack] = &[
        Attack::Garbage,
        Attack::Flood,
        Attack::Replay,
        Attack::AbsurdViews,
        Attack::FarViews,
        Attack::BadVotes,
        Attack::BadCertificates,
        Attack::UnknownBlocks,
        Attack::DoubleVotes,
        Attack::BadProposals,
        Attack::DoubleProposals,
        Attack::InvalidBlocks,
        Attack::BadChunks,
        Attack::BadBatches,
        Attack::AbsurdStamps,
        Attack::Pulls,
        Attack::LinkGarbage,
        Attack::SyncGarbage,
        Attack::SyncLies,
    ];

    /// The counters, as stage and reason, in which honest validators show it.
    #[must_use]
    pub const fn counted_as(self) -> &'static [&'static str] {
        match self {
            Attack::Garbage => &["open.unknown_kind", "control.bad_message", "verify.malformed_message"],
            Attack::Flood => &["open.over_rate"],
            Attack::Replay => &["open.replayed"],
            Attack::AbsurdViews => &["control.absurd_view"],
            Attack::FarViews => &["control.far_ahead"],
            Attack::BadVotes => &["control.bad_vote"],
            Attack::BadCertificates => &["control.bad_certificate", "control.bad_bls_signature"],
            Attack::UnknownBlocks => &[],
            Attack::DoubleVotes | Attack::DoubleProposals => &["control.evidence"],
            Attack::BadProposals => &["control.bad_proposal"],
            Attack::InvalidBlocks => &["control.invalid_block"],
            Attack::BadChunks => &["control.bad_chunk"],
            Attack::BadBatches => &["verify.bad_root", "verify.malformed", "open.wrong_ingress"],
            Attack::AbsurdStamps => &["verify.absurd_stamp"],
            Attack::Pulls => &["control.pull_over_budget"],
            Attack::LinkGarbage => &["handshake.bad_message"],
            Attack::SyncGarbage => &[],
            Attack::SyncLies => &["control.catchup_peer_refused"],
        }
    }

    /// Whether it gets a validator banned. The others are what lag, a restart or a third party can look like, or cost
    /// nothing: they are counted, and bounded by rates.
    #[must_use]
    pub const fn is_banned(self) -> bool {
        // Who answers catch-up wrongly is not asked again for a minute, so one alone does not add up.
        !matches!(self, Attack::Replay | Attack::FarViews | Attack::UnknownBlocks | Attack::SyncLies)
    }
}
