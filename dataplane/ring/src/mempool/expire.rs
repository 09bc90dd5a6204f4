//! Housekeeping: transactions and remembered hashes whose window is over leave.

use super::Mempool;
use super::expiry::second;
use super::slots::Place;
use roko_wire::{NanoMoment, TxId};

impl<M: Copy> Mempool<M> {
    /// Removes pending transactions whose `valid_until` lies in a second (2^30 ns) before that of `now`, and
    /// forgets remembered hashes whose window is over. Looks at `budget` transactions at most, then returns how
    /// many it removed; call it again for the rest.
    pub fn expire(&mut self, now: NanoMoment, budget: usize, mut sink: impl FnMut(TxId)) -> usize {
        let mut removed = 0;
        for _ in 0..budget {
            let Some(entry) = self.expiry.next_due(now) else { break };
            let cold = &self.slots.cold[entry as usize];
            let over = second(cold.valid_until) < second(now);
            if over && self.slots.hot[entry as usize].place != Place::InFlight {
                sink(cold.id);
                self.discard(entry);
                removed += 1;
            } else {
                self.expiry.unlink(&mut self.slots, entry);
                self.expiry.link(&mut self.slots, entry, second(now));
            }
        }
        self.remembered.sweep(&mut self.ids, now, budget);
        self.counters.expired += removed as u64;
        removed
    }
}
