//! Counters by peer: what authentic frames were refused for, so that whoever sent them can be held to it.
//!
//! They are kept like a stage's own ([`crate::metrics`]): counted in plain memory, copied by housekeeping to where others
//! read them. Only what an opened frame proves is counted here: a forged header accuses nobody.

use crate::metrics::Counter;
use crate::peer::PeerIndex;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// A stage's published counters by peer.
#[derive(Debug)]
pub struct PeerMetrics {
    labels: &'static [&'static str],
    counts: Box<[AtomicU64]>,
}

impl PeerMetrics {
    /// The names of the counters.
    #[must_use]
    pub fn labels(&self) -> &'static [&'static str] {
        self.labels
    }

    /// The counter of a peer whose name stands at `label` in [`PeerMetrics::labels`]; 0 for a peer or a name that is not there.
    #[must_use]
    pub fn value(&self, peer: usize, label: usize) -> u64 {
        let at = peer.checked_mul(self.labels.len()).and_then(|first| first.checked_add(label));
        let count = at.filter(|_| label < self.labels.len()).and_then(|at| self.counts.get(at));
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// A stage's own counters by peer.
pub struct PeerCounters<C: Counter> {
    local: Box<[u64]>,
    changed: bool,
    shared: Arc<PeerMetrics>,
    counter: PhantomData<C>,
}

impl<C: Counter> PeerCounters<C> {
    /// Counters of at most `peers_max` peers, all zero.
    #[must_use]
    pub fn new(peers_max: usize) -> PeerCounters<C> {
        let count = peers_max * C::LABELS.len();
        let counts = (0..count).map(|_| AtomicU64::new(0)).collect();
        let shared = Arc::new(PeerMetrics { labels: C::LABELS, counts });
        PeerCounters {
            local: vec![0; count].into_boxed_slice(),
            changed: false,
            shared,
            counter: PhantomData,
        }
    }

    /// Counts one for a peer; nothing for one that is not in the table, as the node's own users are not.
    #[inline]
    pub fn count(&mut self, peer: PeerIndex, counter: C) {
        let at = peer.as_usize() * C::LABELS.len() + counter.index();
        if let Some(count) = self.local.get_mut(at) {
            *count += 1;
            self.changed = true;
        }
    }

    /// Copies the counts to where others read them, when there is anything new.
    pub fn publish(&mut self) {
        if std::mem::take(&mut self.changed) {
            for (shared, local) in self.shared.counts.iter().zip(&self.local) {
                shared.store(*local, Ordering::Relaxed);
            }
        }
    }

    /// The published side.
    #[must_use]
    pub fn shared(&self) -> Arc<PeerMetrics> {
        Arc::clone(&self.shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::OpenRefusal::{self, OverRate, UnknownKind};

    #[test]
    fn each_peer_has_its_own_and_nobody_elses() {
        let mut counters = PeerCounters::<OpenRefusal>::new(2);
        let shared = counters.shared();
        for (peer, counter) in
            [(0, OverRate), (1, UnknownKind), (1, UnknownKind), (2, UnknownKind), (u16::MAX, OverRate)]
        {
            counters.count(PeerIndex(peer), counter);
        }
        let (first, last) = (UnknownKind.index(), OverRate.index());
        assert_eq!(shared.value(1, first), 0, "not published yet");
        counters.publish();
        let all: Vec<u64> =
            (0..3).flat_map(|peer| [shared.value(peer, first), shared.value(peer, last)]).collect();
        assert_eq!(all, [0, 1, 2, 0, 0, 0]);
        assert_eq!((shared.value(0, last + 1), shared.value(usize::MAX, first)), (0, 0));
        assert_eq!(shared.labels()[first], "unknown_kind");
    }
}
