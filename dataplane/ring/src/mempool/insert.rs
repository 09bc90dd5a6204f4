//! Who gets in. Everything is checked before anything changes, so a refusal leaves the pool as it was.

use super::Mempool;
use super::burst::Hashes;
use super::fees::fee_class;
use super::senders::Spot;
use super::slots::{Cold, Hot, Place};
use super::types::{Inserted, NewTx, Refused};
use crate::index::NIL;
use roko_wire::NanoMoment;

impl<M: Copy> Mempool<M> {
    /// Pools a transaction. `now` is the owner's clock; `time` may be any value, however wrong.
    ///
    /// A full pool makes room by evicting from its lowest fee class: the newest there, or in its stead the same
    /// sender's last nonce, which could not be executed without it. The newcomer's class must be higher. One that is
    /// not, but comes before its sender's last nonce, takes the last one's place if that pays no more: otherwise a pool
    /// full of transactions that wait for a missing one would refuse the missing one.
    ///
    /// # Errors
    /// Says why the transaction is not pooled; nothing has changed then.
    pub fn insert(&mut self, tx: &NewTx<'_, M>, now: NanoMoment) -> Result<Inserted, Refused> {
        let hashes = self.hashes(&tx.id, &tx.sender);
        self.insert_hashed(tx, hashes, now)
    }

    /// The same, with the hashes of its id and sender.
    #[inline]
    pub(super) fn insert_hashed(
        &mut self,
        tx: &NewTx<'_, M>,
        hashes: Hashes,
        now: NanoMoment,
    ) -> Result<Inserted, Refused> {
        let result = self.try_insert(tx, hashes, now);
        match &result {
            Ok(inserted) => {
                self.counters.inserted += 1;
                self.counters.evicted += u64::from(inserted.evicted.is_some());
                self.counters.replaced += u64::from(inserted.replaced.is_some());
            }
            Err(why) => self.counters.refused(*why),
        }
        result
    }

    #[inline]
    fn try_insert(
        &mut self,
        tx: &NewTx<'_, M>,
        hashes: Hashes,
        now: NanoMoment,
    ) -> Result<Inserted, Refused> {
        let byte_class = self.slots.class_for(tx.bytes.len()).ok_or(Refused::TooLarge)?;
        if tx.valid_until < now || tx.valid_until < tx.time {
            return Err(Refused::Expired);
        }
        self.fees.ask_for_end(byte_class, tx.fee);
        match self.lookup_hashed(hashes.id, &tx.id) {
            Some(index) if index < self.entries_max => return Err(Refused::Duplicate),
            Some(_) => return Err(Refused::RecentlyFinal),
            None => {}
        }
        let mut spot = self.senders.spot(&self.slots, hashes.sender, &tx.sender, tx.nonce);
        let replaced = self.replaceable(tx, spot, byte_class)?;
        let evicted = self.evictable(tx, byte_class, replaced)?;
        let mut inserted = Inserted::default();
        if evicted.is_some() || replaced.is_some() {
            self.ask_for_next_to_leave(evicted);
            inserted = Inserted { evicted: self.drop_for(evicted), replaced: self.drop_for(replaced) };
            // Who left may have been of this chain.
            spot = self.senders.spot(&self.slots, hashes.sender, &tx.sender, tx.nonce);
        }
        self.admit(tx, hashes, spot, byte_class, now);
        Ok(inserted)
    }

    /// Stores a transaction for which there is room, in every index.
    #[inline]
    fn admit(&mut self, tx: &NewTx<'_, M>, hashes: Hashes, spot: Spot, byte_class: usize, now: NanoMoment) {
        self.wheel.anchor(&mut self.slots, now);
        self.expiry.anchor(now);
        let hot = Hot::new(tx.time.0, tx.tie_break, tx.nonce);
        let (id, hash) = (tx.id, hashes.id);
        let cold = Cold { fee: tx.fee, valid_until: tx.valid_until, id, gas: tx.gas, hash, ..Cold::EMPTY };
        let class = self.slots.free_class(byte_class).expect("room was made");
        let entry = self.slots.allocate(class, hot, cold, tx.meta, tx.bytes);
        self.ids.insert(hashes.id, entry);
        self.senders.link(hashes.sender, &mut self.slots, spot, &tx.sender, entry);
        self.expiry.link(&mut self.slots, entry, 0);
        self.fees.link(&mut self.slots, entry);
        self.place(entry);
    }

    /// The entry of the same sender and nonce that `tx` may replace.
    #[inline]
    fn replaceable(&self, tx: &NewTx<'_, M>, spot: Spot, byte_class: usize) -> Result<Option<u32>, Refused> {
        match spot {
            Spot::NewSender => Ok(None),
            // One that comes before others is what those wait for: the last of them gives way.
            Spot::Free { chain, .. } if self.senders.txs(chain) >= self.sender_txs_max => {
                self.own_last(tx, byte_class).map(Some).ok_or(Refused::SenderLimit)
            }
            Spot::Free { .. } => Ok(None),
            Spot::Taken(entry) => {
                let standing = self.slots.cold[entry as usize].fee;
                let enough = standing.checked_add(standing.div_ceil(10).max(1));
                let outbid = enough.is_some_and(|enough| tx.fee >= enough);
                let in_flight = self.slots.hot[entry as usize].place == Place::InFlight;
                if in_flight || !outbid { Err(Refused::NonceOccupied) } else { Ok(Some(entry)) }
            }
        }
    }

    /// The entry to evict for a transaction that needs a byte slot of `byte_class` or larger; `None` when there
    /// is room, or when the entry to be replaced leaves a slot that fits.
    #[inline]
    fn evictable(
        &self,
        tx: &NewTx<'_, M>,
        byte_class: usize,
        replaced: Option<u32>,
    ) -> Result<Option<u32>, Refused> {
        let fits = |entry: u32| usize::from(self.slots.cold[entry as usize].byte_class) >= byte_class;
        if self.slots.free_class(byte_class).is_some() || replaced.is_some_and(fits) {
            return Ok(None);
        }
        let lower = |lowest: &u32| fee_class(self.slots.cold[*lowest as usize].fee) < fee_class(tx.fee);
        let lowest = self.fees.lowest(byte_class).filter(lower);
        if let Some(lowest) = lowest {
            return Ok(Some(self.senders.last_evictable(&self.slots, lowest, byte_class)));
        }
        self.own_last(tx, byte_class).map(Some).ok_or(Refused::FeeTooLow)
    }

    /// The last pending transaction of the same sender that comes after `tx`, pays no more, and leaves a byte slot of
    /// `byte_class` or larger.
    fn own_last(&self, tx: &NewTx<'_, M>, byte_class: usize) -> Option<u32> {
        self.senders
            .last_behind(&self.hasher, &self.slots, &tx.sender, tx.nonce, byte_class)
            .filter(|last| fee_class(self.slots.cold[*last as usize].fee) <= fee_class(tx.fee))
    }

    /// A full pool evicts a sender's transactions from the last one back: asks for the two that go next.
    fn ask_for_next_to_leave(&self, evicted: Option<u32>) {
        let Some(evicted) = evicted else { return };
        let next = self.slots.hot[evicted as usize].sender.prev;
        let Some(hot) = self.slots.hot.get(next as usize) else { return };
        let cold = &self.slots.cold[next as usize];
        self.ids.prefetch(cold.hash);
        self.fees.prefetch(hot.fee_at);
        self.slots.prefetch_hot(hot.prev);
        self.slots.prefetch_expiry(cold.expiry.prev);
        self.slots.prefetch_expiry(cold.expiry.next);
        self.slots.prefetch_bytes(next, cold.bytes_len.into());
        if hot.sender.prev != NIL {
            self.slots.prefetch(hot.sender.prev);
        }
    }

    fn drop_for(&mut self, entry: Option<u32>) -> Option<roko_wire::TxId> {
        let entry = entry?;
        let id = self.slots.cold[entry as usize].id;
        self.discard(entry);
        Some(id)
    }
}
