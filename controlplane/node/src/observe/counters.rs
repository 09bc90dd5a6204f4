//! Counters of the control plane: what was refused, and why.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only goes up; read by any thread.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Defines the counters with the label that metrics and reports show for each.
macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident: $stage:literal / $label:literal,)*) => {
        /// What the control plane has refused, postponed or asked for.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$meta])* pub $name: Counter,)*
        }

        impl Counters {
            /// Each counter with its stage and label.
            #[must_use]
            pub fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$(($stage, $label, self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Messages that do not parse or that no validator sends to the control plane.
    bad_messages: "control" / "bad_message",
    /// Proposals of the wrong leader, chain, signature or justification.
    bad_proposals: "control" / "bad_proposal",
    /// Votes and certificates whose signatures do not verify.
    bad_signatures: "control" / "bad_bls_signature",
    /// Messages of views that no chain of this age can have reached.
    absurd_views: "control" / "absurd_view",
    /// Votes of nobody in the set.
    bad_votes: "control" / "bad_vote",
    /// Certificates of too little stake, or of nobody in the set.
    bad_certificates: "control" / "bad_certificate",
    /// Votes, certificates and proposals of views beyond those that are kept.
    far_ahead: "control" / "far_ahead",
    /// Certificates that wait here already, or beyond their sender's room.
    certificates_dropped: "control" / "certificate_not_needed",
    /// Proposals that found no room: their proposer has as many open as it may.
    proposals_dropped: "control" / "proposal_over_share",
    /// Votes that were late, far ahead, or here already.
    votes_dropped: "control" / "vote_not_needed",
    /// Chunks of blocks that are final or far ahead.
    chunks_dropped: "control" / "chunk_not_needed",
    /// Chunks that do not belong to their block.
    bad_chunks: "control" / "bad_chunk",
    /// Blocks whose payload breaks a rule.
    invalid_blocks: "control" / "invalid_block",
    /// Blocks whose time lies outside this node's window.
    untimely_blocks: "control" / "untimely_block",
    /// Blocks with more implausible stamps than genesis allows: they get no vote here.
    implausible_blocks: "control" / "implausible_block",
    /// Stamps that this node's own receive time contradicts.
    stamps_implausible: "control" / "implausible_stamp",
    /// Own proposals not made because the clock or the disk was not fit.
    abstained: "control" / "proposal_abstained",
    /// Own blocks that failed their own check.
    own_invalid: "control" / "own_block_invalid",
    /// Questions for blocks beyond a peer's budget.
    pulls_refused: "control" / "pull_over_budget",
    /// Final blocks fetched because this node was behind.
    blocks_fetched: "control" / "block_fetched",
    /// Peers left alone because what they sent as final blocks does not hold.
    catchup_refused: "control" / "catchup_peer_refused",
    /// Ranges of a snapshot sent to new nodes.
    ranges_served: "snapshot" / "range_served",
    /// Questions for a snapshot's height that is not kept.
    snapshots_gone: "snapshot" / "height_not_kept",
    /// Blocks asked for.
    block_pulls: "control" / "block_pulled",
    /// Commits that met a full disk.
    disk_full: "store" / "disk_full",
    /// Broken voting rules, proven.
    evidence: "control" / "evidence",
    /// Candidates with an implausible stamp beyond what a proposer puts up with; they are stamped anew.
    stamps_put_off: "builder" / "implausible_stamp",
    /// Candidates whose nonce was used already.
    stale_nonce: "builder" / "stale_nonce",
    /// Candidates whose predecessor by nonce is missing; they wait.
    nonce_gap: "builder" / "nonce_gap_waits",
    /// Candidates that their sender cannot pay.
    over_balance: "builder" / "over_balance",
    /// Candidates that were in the drain already.
    duplicate: "builder" / "duplicate",
    /// Candidates below the base fee; they wait.
    fee_below_base: "builder" / "fee_below_base_waits",
    /// Candidates whose window is over.
    expired: "builder" / "expired",
    /// Candidates for a later block.
    postponed: "builder" / "postponed",
}
