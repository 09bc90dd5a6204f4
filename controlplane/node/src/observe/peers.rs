//! What this node knows of its peers by what they send: when it heard them last, how much, and how old it was.
//!
//! Written by the control thread alone, read by whoever asks for the status. An *age on arrival* is this node's clock at
//! a frame's receipt less the moment that its sender wrote into it. It holds the way here, what the sender did between
//! reading its clock and sending (signing a stamp batch, journaling a proposal), and the difference of the two clocks:
//! it bounds the one-way latency from above as far as the clocks agree, and is no round trip.

use roko_wire::message::MessageKind;
use roko_wire::stamp::Stamp;
use roko_wire::{NanoMoment, ValidatorIndex, limits::VALIDATORS_MAX};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The smallest age is taken over this much time at least, and at most twice as much.
pub const AGE_WINDOW_NS: u64 = 5_000_000_000;
/// No age was seen in a window.
const NO_AGE: i64 = i64::MAX;

/// The smallest age of the current window and of the one before.
#[derive(Debug)]
struct AgeFloor {
    began_ns: AtomicU64,
    current_ns: AtomicI64,
    previous_ns: AtomicI64,
}

impl Default for AgeFloor {
    fn default() -> Self {
        let none = || AtomicI64::new(NO_AGE);
        AgeFloor { began_ns: AtomicU64::new(0), current_ns: none(), previous_ns: none() }
    }
}

impl AgeFloor {
    fn record(&self, written: NanoMoment, received: NanoMoment) {
        let at = nanos(received);
        let open_for = at.saturating_sub(self.began_ns.load(Ordering::Relaxed));
        if open_for >= AGE_WINDOW_NS {
            let last = self.current_ns.swap(NO_AGE, Ordering::Relaxed);
            let last = if open_for < 2 * AGE_WINDOW_NS { last } else { NO_AGE };
            self.previous_ns.store(last, Ordering::Relaxed);
            self.began_ns.store(at, Ordering::Relaxed);
        }
        self.current_ns.fetch_min(signed_nanos(written, received), Ordering::Relaxed);
    }

    /// The smallest age of the last seconds; `None` when nothing came in them.
    fn read(&self, now: NanoMoment) -> Option<i64> {
        let open_for = nanos(now).saturating_sub(self.began_ns.load(Ordering::Relaxed));
        let current = self.current_ns.load(Ordering::Relaxed);
        let least = current.min(self.previous_ns.load(Ordering::Relaxed));
        (open_for < 2 * AGE_WINDOW_NS && least != NO_AGE).then_some(least)
    }
}

/// Nanoseconds since 1970 in 64 bits, which last until 2554.
fn nanos(moment: NanoMoment) -> u64 {
    u64::try_from(moment.0).unwrap_or(u64::MAX)
}

/// From `earlier` to `later`, negative when it is the other way round; 292 years at most.
pub(super) fn signed_nanos(earlier: NanoMoment, later: NanoMoment) -> i64 {
    let magnitude = |nanos: u64| i64::try_from(nanos).unwrap_or(i64::MAX - 1);
    if later >= earlier {
        magnitude(later.nanos_since(earlier))
    } else {
        -magnitude(earlier.nanos_since(later))
    }
}

#[derive(Debug, Default)]
struct PeerSlot {
    heard_ns: AtomicU64,
    messages: AtomicU64,
    proposals: AtomicU64,
    votes: AtomicU64,
    certificates: AtomicU64,
    chunks: AtomicU64,
    requests: AtomicU64,
    stamped_transactions: AtomicU64,
    clock_bound_ns: AtomicU64,
    stamp_age: AgeFloor,
    proposal_age: AgeFloor,
}

/// All validators by index.
#[derive(Debug)]
pub struct PeerTable {
    slots: Box<[PeerSlot]>,
}

impl Default for PeerTable {
    fn default() -> Self {
        PeerTable { slots: (0..VALIDATORS_MAX).map(|_| PeerSlot::default()).collect() }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl PeerTable {
    fn slot(&self, index: ValidatorIndex) -> Option<&PeerSlot> {
        self.slots.get(index.as_usize())
    }

    /// An authentic message of the validator `from` reached the control thread; its frame was received then.
    pub fn heard(&self, from: ValidatorIndex, kind: MessageKind, received: NanoMoment) {
        let Some(slot) = self.slot(from) else { return };
        slot.heard_ns.fetch_max(nanos(received), Ordering::Relaxed);
        count(&slot.messages);
        match kind {
            MessageKind::Propose => count(&slot.proposals),
            MessageKind::Vote => count(&slot.votes),
            MessageKind::Certificate => count(&slot.certificates),
            MessageKind::Chunk => count(&slot.chunks),
            MessageKind::PullBlock | MessageKind::PullCertificate => count(&slot.requests),
            MessageKind::Submit | MessageKind::Batch => {}
        }
    }

    /// A transaction came from the validator that stamped it, and is in the pool.
    pub fn stamped(&self, stamp: &Stamp, received: NanoMoment) {
        let Some(slot) = self.slot(stamp.ingress) else { return };
        slot.clock_bound_ns.store(stamp.bound_ns, Ordering::Relaxed);
        slot.heard_ns.fetch_max(nanos(received), Ordering::Relaxed);
        count(&slot.stamped_transactions);
        slot.stamp_age.record(stamp.time, received);
    }

    /// A lawful proposal of block time `time` came from its proposer.
    pub fn proposed(&self, proposer: ValidatorIndex, time: NanoMoment, received: NanoMoment) {
        if let Some(slot) = self.slot(proposer) {
            slot.proposal_age.record(time, received);
        }
    }

    /// What is known at `now` of the validators below `validators`, without `own`.
    #[must_use]
    pub fn read(&self, validators: usize, own: Option<ValidatorIndex>, now: NanoMoment) -> Vec<PeerStatus> {
        let all = self.slots.iter().take(validators).enumerate();
        let others = all.filter(|(index, _)| own.is_none_or(|own| own.as_usize() != *index));
        others.map(|(index, slot)| slot.read(index as u16, now)).collect()
    }
}

impl PeerSlot {
    fn read(&self, index: u16, now: NanoMoment) -> PeerStatus {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let heard_ns = get(&self.heard_ns);
        PeerStatus {
            index,
            heard_ns_ago: (heard_ns > 0).then(|| nanos(now).saturating_sub(heard_ns)),
            messages: get(&self.messages),
            proposals: get(&self.proposals),
            votes: get(&self.votes),
            certificates: get(&self.certificates),
            chunks: get(&self.chunks),
            requests: get(&self.requests),
            stamped_transactions: get(&self.stamped_transactions),
            clock_error_bound_ns: Some(get(&self.clock_bound_ns)).filter(|bound| *bound > 0),
            stamp_age_ns_min: self.stamp_age.read(now),
            proposal_age_ns_min: self.proposal_age.read(now),
            round_trip_ns: None,
        }
    }
}

/// One validator, as another one knows it. Counts are since the start of the node that tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerStatus {
    /// Its place in the validator set.
    pub index: u16,
    /// Since its last authentic frame was received, nanoseconds; `None` when there was none.
    pub heard_ns_ago: Option<u64>,
    /// Consensus messages of it that the control thread took: one frame each. Stamp batches are not among them.
    pub messages: u64,
    /// Of those, proposals.
    pub proposals: u64,
    /// Of those, votes.
    pub votes: u64,
    /// Of those, certificates.
    pub certificates: u64,
    /// Of those, chunks of blocks.
    pub chunks: u64,
    /// Of those, requests for blocks and certificates.
    pub requests: u64,
    /// Transactions that it stamped and that came into the pool here.
    pub stamped_transactions: u64,
    /// Error bound of its clock, as its last stamp says, nanoseconds; `None` before one came.
    pub clock_error_bound_ns: Option<u64>,
    /// Smallest age on arrival of its stamps in the last 5 to 10 s, nanoseconds; negative when its clock is ahead.
    pub stamp_age_ns_min: Option<i64>,
    /// The same of its proposals' block times.
    pub proposal_age_ns_min: Option<i64>,
    /// Median of the last round trips over the session's connection, nanoseconds; `None` where there is no session.
    pub round_trip_ns: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_wire::nano::ClockSource;

    const START: u64 = 1_700_000_000_000_000_000;

    fn at(nanos: u64) -> NanoMoment {
        NanoMoment(u128::from(START + nanos))
    }

    #[test]
    fn the_smallest_age_is_kept_and_forgotten_in_time() {
        let table = PeerTable::default();
        let stamped = |time, received| {
            let (ingress, source) = (ValidatorIndex(2), ClockSource::System.into());
            table.stamped(&Stamp { time, bound_ns: 77, source, ingress }, received);
        };
        let age = |now| table.read(4, Some(ValidatorIndex(0)), at(now))[1].stamp_age_ns_min;
        assert_eq!(age(0), None);
        stamped(at(1_000), at(4_000));
        stamped(at(5_000), at(6_000));
        stamped(at(7_000), at(9_000));
        assert_eq!(age(9_000), Some(1_000));
        let known = &table.read(4, None, at(9_000))[2];
        assert_eq!((known.clock_error_bound_ns, known.stamped_transactions), (Some(77), 3));
        let later = AGE_WINDOW_NS + 6_000;
        stamped(at(later), at(later + 2_500));
        assert_eq!(age(later + 3_000), Some(1_000), "the window before still counts");
        let last = later + AGE_WINDOW_NS + 3_000;
        stamped(at(last + 700), at(last));
        assert_eq!(age(last), Some(-700), "a clock ahead of this one shows as such");
        assert_eq!(age(last + 2 * AGE_WINDOW_NS), None, "nothing came for long");
        stamped(at(last), at(last + 3 * AGE_WINDOW_NS));
        assert_eq!(age(last + 3 * AGE_WINDOW_NS), Some(3 * AGE_WINDOW_NS as i64));
    }

    #[test]
    fn messages_are_counted_by_sender_and_kind() {
        let table = PeerTable::default();
        for kind in [MessageKind::Vote, MessageKind::Vote, MessageKind::Chunk, MessageKind::PullBlock] {
            table.heard(ValidatorIndex(3), kind, at(5));
        }
        table.heard(ValidatorIndex(u16::MAX), MessageKind::Vote, at(5));
        let peers = table.read(4, Some(ValidatorIndex(1)), at(25));
        assert_eq!(peers.iter().map(|peer| peer.index).collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!((peers[0].messages, peers[0].heard_ns_ago), (0, None));
        let peer = &peers[2];
        assert_eq!((peer.messages, peer.votes, peer.chunks, peer.requests), (4, 2, 1, 1));
        assert_eq!(peer.heard_ns_ago, Some(20));
        assert_eq!(table.read(4, None, at(25)).len(), 4, "a full node has every validator as a peer");
    }
}
