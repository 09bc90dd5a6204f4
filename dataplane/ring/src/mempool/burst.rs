//! Many insertions at once.
//!
//! Who is inserted alone waits for memory again and again: its id's cell, its sender's, the sender's chain, the line of the
//! transaction before it, the lines that it fills. A burst asks for each of these for everyone, one kind after the other,
//! before the first is inserted.

use super::Mempool;
use super::types::{Inserted, NewTx, Refused};
use crate::index::NIL;
use crate::prefetch;
use roko_wire::{Address, NanoMoment, TxId};

/// Insertions of a burst, at most. What they touch, a dozen lines each, fits a first-level cache of 48 KiB.
pub const BURST_MAX: usize = 32;

/// The hashes that an insertion needs.
#[derive(Clone, Copy, Default)]
pub(super) struct Hashes {
    pub(super) id: u32,
    pub(super) sender: u32,
}

/// By what a burst is looked up ahead.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The transaction's id.
    pub id: &'a TxId,
    /// Its sender.
    pub sender: &'a Address,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl<M: Copy> Mempool<M> {
    /// Pools transactions one after the other, as [`Mempool::insert`] does each, and tells `done` what became of it.
    ///
    /// `key` and `new` say of each of `txs` what it is; `new` is called when its turn comes.
    pub fn insert_burst<'a, T>(
        &mut self,
        txs: &'a [T],
        now: NanoMoment,
        key: impl Fn(&'a T) -> Key<'a>,
        mut new: impl FnMut(&'a T) -> NewTx<'a, M>,
        mut done: impl FnMut(&'a T, Result<Inserted, Refused>),
    ) {
        for burst in txs.chunks(BURST_MAX) {
            let hashes = self.ask_for_burst(burst, &key);
            for (tx, hashes) in burst.iter().zip(hashes) {
                done(tx, self.insert_hashed(&new(tx), hashes, now));
            }
        }
    }

    /// Asks for all that the insertions of a burst will touch.
    #[inline]
    fn ask_for_burst<'a, T>(&self, burst: &'a [T], key: &impl Fn(&'a T) -> Key<'a>) -> [Hashes; BURST_MAX] {
        let mut hashes = [Hashes::default(); BURST_MAX];
        let mut filled = [NIL; BURST_MAX];
        for (nth, tx) in burst.iter().enumerate() {
            let key = key(tx);
            hashes[nth] = self.hashes(key.id, key.sender);
            self.ids.prefetch(hashes[nth].id);
            self.senders.prefetch(hashes[nth].sender);
            if let Some(entry) = self.slots.next_free(key.bytes.len(), nth) {
                self.slots.prefetch(entry);
                self.slots.prefetch_meta(entry);
                filled[nth] = entry;
            }
        }
        let mut chains = [NIL; BURST_MAX];
        for (nth, tx) in burst.iter().enumerate() {
            chains[nth] = self.senders.prefetch_chain(hashes[nth].sender).unwrap_or(NIL);
            if let Some(index) = self.ids.guess(hashes[nth].id) {
                self.ask_for_copy(index);
            }
            let bytes = key(tx).bytes;
            prefetch::bytes(bytes);
            if filled[nth] != NIL {
                self.slots.prefetch_bytes(filled[nth], bytes.len());
            }
        }
        for chain in chains.into_iter().filter(|chain| *chain != NIL) {
            self.slots.prefetch_hot(self.senders.tail(chain));
        }
        hashes
    }

    /// Asks for the id of what has the same hash: a copy, most likely.
    fn ask_for_copy(&self, index: u32) {
        match index < self.entries_max {
            true => prefetch::value(&self.slots.cold[index as usize].id),
            false => prefetch::value(self.remembered.id(index)),
        }
    }

    #[inline]
    pub(super) fn hashes(&self, id: &TxId, sender: &Address) -> Hashes {
        Hashes { id: self.hasher.id(id), sender: self.hasher.sender(sender) }
    }
}
