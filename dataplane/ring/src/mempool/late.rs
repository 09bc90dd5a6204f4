//! Stamping anew: what came in below the watermark, or was left below it, gets a new time and is not lost.

use super::Mempool;
use super::slots::Place;
use super::types::View;
use roko_wire::{NanoMoment, TxId};

impl<M: Copy> Mempool<M> {
    /// Takes up to `max` pending transactions with `time < watermark`, earliest first, out of the line. They stay
    /// in the pool and wait for [`Mempool::restamp`]; until then no drain offers them. Returns how many.
    pub fn take_late(
        &mut self,
        watermark: NanoMoment,
        max: usize,
        mut sink: impl FnMut(View<'_, M>),
    ) -> usize {
        self.wheel.advance(&mut self.slots, watermark);
        let mut taken = 0;
        while taken < max {
            let Some(entry) = self.wheel.first() else { break };
            if self.slots.hot[entry as usize].time >= watermark.0 {
                break;
            }
            self.wheel.remove(&mut self.slots, entry);
            self.slots.hot[entry as usize].place = Place::Awaiting;
            sink(self.view(entry));
            taken += 1;
        }
        self.counters.taken_late += taken as u64;
        taken
    }

    /// Gives a transaction a new stamp and its place by it. One in flight keeps its block and gets the new place
    /// if it is put back. False if it is not here.
    pub fn restamp(&mut self, id: &TxId, time: NanoMoment, tie_break: u64, meta: M) -> bool {
        let Some(entry) = self.entry(id) else { return false };
        let place = self.slots.hot[entry as usize].place;
        if place == Place::Placed {
            self.wheel.remove(&mut self.slots, entry);
        }
        let hot = &mut self.slots.hot[entry as usize];
        (hot.time, hot.tie_break) = (time.0, tie_break);
        self.slots.meta[entry as usize] = meta;
        if place != Place::InFlight {
            self.place(entry);
        }
        self.counters.restamped += 1;
        true
    }
}
