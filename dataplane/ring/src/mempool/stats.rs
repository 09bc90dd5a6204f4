//! Counters and gauges of the mempool.

use super::types::Refused;

/// What has happened since construction. Each field only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Transactions pooled.
    pub inserted: u64,
    /// Refused as already here.
    pub refused_duplicate: u64,
    /// Refused as already final.
    pub refused_recently_final: u64,
    /// Refused as past their window.
    pub refused_expired: u64,
    /// Refused as too large.
    pub refused_too_large: u64,
    /// Refused because the pool was full of better fees.
    pub refused_fee_too_low: u64,
    /// Refused because the nonce was taken.
    pub refused_nonce_occupied: u64,
    /// Refused because the sender had too many.
    pub refused_sender_limit: u64,
    /// Evicted for a better fee.
    pub evicted: u64,
    /// Replaced by their sender.
    pub replaced: u64,
    /// Drained into blocks of our own.
    pub drained: u64,
    /// Marked as in another leader's block.
    pub marked: u64,
    /// Marks that failed because four tags hold the transaction or every tag is open.
    pub marks_refused: u64,
    /// Drains that failed because every tag is open.
    pub drains_refused: u64,
    /// Put back from abandoned blocks and pending again.
    pub put_back: u64,
    /// Finalised.
    pub finalised: u64,
    /// Expired.
    pub expired: u64,
    /// Removed by the owner (`remove`, `drop_below`).
    pub removed: u64,
    /// Taken to be stamped anew.
    pub taken_late: u64,
    /// Stamped anew.
    pub restamped: u64,
    /// Hashes forgotten before their `valid_until` because the table was full.
    pub remembered_forced_out: u64,
    /// Moments that moved off their attested time.
    pub moments_moved: u64,
    /// Transactions that left their own place to follow their predecessor.
    pub displaced: u64,
}

impl Counters {
    pub(super) fn refused(&mut self, why: Refused) {
        *match why {
            Refused::Duplicate => &mut self.refused_duplicate,
            Refused::RecentlyFinal => &mut self.refused_recently_final,
            Refused::Expired => &mut self.refused_expired,
            Refused::TooLarge => &mut self.refused_too_large,
            Refused::FeeTooLow => &mut self.refused_fee_too_low,
            Refused::NonceOccupied => &mut self.refused_nonce_occupied,
            Refused::SenderLimit => &mut self.refused_sender_limit,
        } += 1;
    }
}

/// The pool now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions pending, those waiting for a new stamp included.
    pub pending: usize,
    /// Transactions in flight.
    pub in_flight: usize,
    /// Bytes of all of them.
    pub bytes_used: usize,
    /// Hashes remembered.
    pub remembered: usize,
    /// Tags open.
    pub tags_open: usize,
    /// What has happened.
    pub counters: Counters,
}
