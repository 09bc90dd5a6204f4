//! The open batch of transactions that reached the network at this node.

use crate::clock::{ClockPage, Received};
use arrayvec::ArrayVec;
use ed25519_zebra::SigningKey;
use roko_wire::codec::Sink;
use roko_wire::limits::{MESSAGE_BYTES_MAX, TXS_PER_MESSAGE_MAX};
use roko_wire::message::MessageKind;
use roko_wire::stamp::{BATCH_HEADER_BYTES, BATCH_TX_BYTES, Stamp, write_signed_batch};
use roko_wire::{Address, ChainId, NanoMoment, TxId, ValidatorIndex};

/// What the check of a transaction found.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Its id.
    pub id: TxId,
    /// Its sender.
    pub sender: Address,
    /// The sender's nonce.
    pub nonce: u64,
    /// Most gas it uses.
    pub gas_limit: u64,
    /// Most it pays per gas.
    pub max_fee: u128,
    /// Last moment it may have.
    pub valid_until: NanoMoment,
}

/// Times of one batch lie this close together, far inside the wire's 4 s.
const BATCH_SPAN_NS: u64 = 1_000_000_000;

/// Rounds a bound up to four significant bits. All stamps of a batch share one bound, which grows with the age of
/// the clock's map; rounded, it seldom differs between two bursts, and a wider bound is still true.
#[must_use]
pub const fn coarse_bound(bound_ns: u64) -> u64 {
    let bits = 64 - bound_ns.leading_zeros();
    if bits <= 4 {
        return bound_ns;
    }
    let shift = bits - 4;
    bound_ns.saturating_add((1 << shift) - 1) >> shift << shift
}

/// Transactions that wait to be stamped together.
#[derive(Default)]
pub struct OpenBatch {
    /// Check, time, and place in `bytes`; in the order of their times once the batch is signed.
    pub(super) checked: ArrayVec<(Checked, NanoMoment, (u16, u16)), TXS_PER_MESSAGE_MAX>,
    bytes: ArrayVec<u8, MESSAGE_BYTES_MAX>,
    first: Option<Stamp>,
    opened_tsc: u64,
}

impl OpenBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.checked.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.checked.is_full()
    }

    /// Whether one more transaction shares this batch's stamp settings and its message's room.
    pub(super) fn fits(&self, stamp: &Stamp, wire: &[u8]) -> bool {
        let Some(first) = &self.first else { return true };
        let message = 1 + BATCH_HEADER_BYTES + (self.checked.len() + 1) * BATCH_TX_BYTES;
        !self.checked.is_full()
            && (first.bound_ns, first.source) == (stamp.bound_ns, stamp.source)
            && first.time.0.abs_diff(stamp.time.0) < u128::from(BATCH_SPAN_NS)
            && message + self.bytes.len() + wire.len() <= MESSAGE_BYTES_MAX
    }

    /// Adds a transaction that [`OpenBatch::fits`].
    pub(super) fn push(&mut self, checked: Checked, stamp: Stamp, wire: &[u8], tsc: u64) {
        if self.first.is_none() {
            self.first = Some(stamp);
            self.opened_tsc = tsc;
        }
        let place = (self.bytes.len() as u16, wire.len() as u16);
        self.bytes.put(wire);
        self.checked.push((checked, stamp.time, place));
    }

    pub(super) fn clear(&mut self) {
        self.checked.clear();
        self.bytes.clear();
        self.first = None;
    }
}

/// Stamps what arrives at this node first.
pub struct Ingress {
    index: ValidatorIndex,
    key: SigningKey,
    chain: ChainId,
    flush_ns: u64,
    flush_ticks: u64,
    clock: ClockPage,
    pub(super) batch: OpenBatch,
}

impl Ingress {
    pub(super) fn new(
        index: ValidatorIndex,
        key: SigningKey,
        chain: ChainId,
        flush_us: u32,
        clock: ClockPage,
    ) -> Ingress {
        let flush_ns = u64::from(flush_us) * 1_000;
        let mut ingress =
            Ingress { index, key, chain, flush_ns, flush_ticks: 0, clock, batch: OpenBatch::default() };
        ingress.refresh();
        ingress
    }

    /// Takes the counter's rate from the clock page again.
    pub(super) fn refresh(&mut self) {
        self.flush_ticks = crate::order::nanos_to_ticks(&self.clock, self.flush_ns);
    }

    /// The stamp of what came at `received`.
    pub(super) fn stamp(&self, received: &Received) -> Stamp {
        super::stamp_of(received, self.index)
    }

    /// Whether the open batch has waited long enough, or is full and could not be sent before.
    pub(super) fn is_due(&self, tsc: u64) -> bool {
        !self.batch.is_empty()
            && (self.batch.is_full() || tsc.wrapping_sub(self.batch.opened_tsc) >= self.flush_ticks)
    }

    /// Signs the open batch, which holds something: the whole message.
    pub(super) fn sign(&mut self) -> ArrayVec<u8, MESSAGE_BYTES_MAX> {
        let batch = &mut self.batch;
        batch.checked.sort_unstable_by_key(|(_, time, (at, _))| (*time, *at));
        let first = batch.first.expect("the batch is not empty");
        let first = Stamp { time: batch.checked[0].1, ..first };
        let txs: ArrayVec<(NanoMoment, &[u8]), TXS_PER_MESSAGE_MAX> = batch
            .checked
            .iter()
            .map(|(_, time, (at, len))| (*time, &batch.bytes[usize::from(*at)..][..usize::from(*len)]))
            .collect();
        let mut message = ArrayVec::new();
        message.put_u8(MessageKind::Batch as u8);
        write_signed_batch(&self.key, self.chain, &first, &txs, &mut message);
        message
    }
}

#[cfg(test)]
mod tests {
    use super::coarse_bound;

    #[test]
    fn a_coarse_bound_is_never_narrower_and_at_most_an_eighth_wider() {
        for bound in (0..2_000u64).chain([50_123_456, u64::MAX / 3]) {
            let coarse = coarse_bound(bound);
            assert!(coarse >= bound && coarse - bound <= bound / 8, "{bound} {coarse}");
        }
        assert_eq!(coarse_bound(1_000_001), coarse_bound(1_010_000));
    }
}
