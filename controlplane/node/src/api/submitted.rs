//! Transactions that were submitted here and are not known to be final: what is told of them meanwhile.

use roko_services::api::TransactionInfo;
use roko_wire::{Address, NanoMoment, TxId};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Most transactions remembered; the oldest is forgotten first.
const SUBMITTED_MAX: usize = 65_536;
/// Most wire bytes of remembered Ethereum transactions: a transfer takes about 120, so that few are forgotten for it.
const WIRE_BYTES_MAX: usize = 16 << 20;

/// A transaction that waits.
pub(super) struct Waiting {
    /// What is told of it.
    pub(super) info: TransactionInfo,
    /// After this it gets into no block.
    pub(super) valid_until: NanoMoment,
    /// An Ethereum transaction's wire bytes, for clients that ask for it before it is in a block.
    pub(super) wire: Option<Box<[u8]>>,
}

impl Waiting {
    fn wire_bytes(&self) -> usize {
        self.wire.as_ref().map_or(0, |wire| wire.len())
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Submitted {
    by_id: HashMap<TxId, Waiting>,
    /// In the order of submission; ids that were removed since are still in it.
    order: VecDeque<TxId>,
    /// Per sender: the last transaction of each nonce.
    by_sender: HashMap<Address, BTreeMap<u64, TxId>>,
    wire_bytes: usize,
}

impl Submitted {
    pub(super) fn insert(&mut self, waiting: Waiting) {
        let (id, sender, nonce) = (waiting.info.id, waiting.info.sender, waiting.info.nonce);
        self.order.push_back(id);
        self.by_sender.entry(sender).or_default().insert(nonce, id);
        self.wire_bytes += waiting.wire_bytes();
        // Two calls may submit one transaction at once.
        if let Some(before) = self.by_id.insert(id, waiting) {
            self.wire_bytes -= before.wire_bytes();
        }
        while self.order.len() > SUBMITTED_MAX || self.wire_bytes > WIRE_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove(&oldest);
        }
    }

    pub(super) fn remove(&mut self, id: &TxId) {
        let Some(waiting) = self.by_id.remove(id) else { return };
        self.wire_bytes -= waiting.wire_bytes();
        let info = waiting.info;
        let Some(nonces) = self.by_sender.get_mut(&info.sender) else { return };
        if nonces.get(&info.nonce) == Some(id) {
            nonces.remove(&info.nonce);
        }
        if nonces.is_empty() {
            self.by_sender.remove(&info.sender);
        }
    }

    pub(super) fn contains(&self, id: &TxId) -> bool {
        self.by_id.contains_key(id)
    }

    pub(super) fn get(&self, id: &TxId) -> Option<&Waiting> {
        self.by_id.get(id)
    }

    /// The sender's next nonce after `next` and what waits from there on without a gap.
    pub(super) fn next_nonce(&self, sender: &Address, next: u64, now: NanoMoment) -> u64 {
        let Some(nonces) = self.by_sender.get(sender) else { return next };
        let waits = |id: &TxId| self.by_id.get(id).is_some_and(|waiting| waiting.valid_until >= now);
        let follow =
            (next..).zip(nonces.range(next..)).take_while(|(want, (have, id))| want == *have && waits(id));
        next.saturating_add(follow.count() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_services::api::Status;
    use ruint::aliases::U256;

    fn waiting(n: u8, nonce: u64, valid_until: u128) -> Waiting {
        let info = TransactionInfo {
            id: TxId([n; 32]),
            status: Status::Pending,
            stamp: None,
            placement: None,
            outcome: None,
            sender: Address([1; 20]),
            to: None,
            value: U256::ZERO,
            nonce,
        };
        Waiting { info, valid_until: NanoMoment(valid_until), wire: None }
    }

    #[test]
    fn the_pending_nonce_stops_at_a_gap_at_what_expired_and_at_what_is_final() {
        let mut submitted = Submitted::default();
        for (n, nonce) in [(1, 4), (2, 5), (3, 6), (4, 8)] {
            submitted.insert(waiting(n, nonce, 100));
        }
        let next =
            |submitted: &Submitted, from, now| submitted.next_nonce(&Address([1; 20]), from, NanoMoment(now));
        assert_eq!([3, 4, 5, 7, 8].map(|from| next(&submitted, from, 100)), [3, 7, 7, 7, 9]);
        assert_eq!(next(&submitted, 4, 101), 4, "they are over");
        assert_eq!(submitted.next_nonce(&Address([2; 20]), 4, NanoMoment(0)), 4);
        // One that was replaced leaves the nonce to its successor.
        submitted.insert(waiting(5, 5, 100));
        submitted.remove(&TxId([2; 32]));
        assert_eq!(next(&submitted, 4, 100), 7);
        submitted.remove(&TxId([5; 32]));
        assert_eq!(next(&submitted, 4, 100), 5);
    }

    #[test]
    fn the_oldest_is_forgotten_when_it_is_full() {
        let mut submitted = Submitted::default();
        let id = |n: u32| {
            let mut id = TxId([0; 32]);
            id.0[..4].copy_from_slice(&n.to_le_bytes());
            id
        };
        for n in 0..=SUBMITTED_MAX as u32 {
            let mut one = waiting(0, n.into(), 100);
            one.info.id = id(n);
            submitted.insert(one);
        }
        assert!(!submitted.contains(&id(0)) && submitted.contains(&id(1)));
        assert_eq!((submitted.by_id.len(), submitted.order.len()), (SUBMITTED_MAX, SUBMITTED_MAX));
        (1..=SUBMITTED_MAX as u32).for_each(|n| submitted.remove(&id(n)));
        assert!(submitted.by_sender.is_empty(), "nothing is left of a sender without transactions");
        let large = |n: u32| {
            let mut one = waiting(0, n.into(), 100);
            one.info.id = id(n);
            one.wire = Some(vec![0; WIRE_BYTES_MAX / 2].into());
            one
        };
        (0..3).for_each(|n| submitted.insert(large(n)));
        assert_eq!([0, 1, 2].map(|n| submitted.contains(&id(n))), [false, true, true]);
        submitted.remove(&id(1));
        assert_eq!(submitted.wire_bytes, WIRE_BYTES_MAX / 2);
    }
}
