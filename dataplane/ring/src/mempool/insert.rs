//! Who gets in. Everything is checked before anything changes, so a refusal leaves the pool as it was.

use super::Mempool;
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
        let result = self.try_insert(tx, now);
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

    fn try_insert(&mut self, tx: &NewTx<'_, M>, now: NanoMoment) -> Result<Inserted, Refused> {
        let byte_class = self.slots.class_for(tx.bytes.len()).ok_or(Refused::TooLarge)?;
        if tx.valid_until < now || tx.valid_until < tx.time {
            return Err(Refused::Expired);
        }
        match self.lookup(&tx.id) {
            Some(index) if index < self.entries_max => return Err(Refused::Duplicate),
            Some(_) => return Err(Refused::RecentlyFinal),
            None => {}
        }
        let replaced = self.replaceable(tx, byte_class)?;
        let fee_class = fee_class(tx.fee);
        let evicted = self.evictable(tx, byte_class, replaced)?;
        let inserted = Inserted { evicted: self.drop_for(evicted), replaced: self.drop_for(replaced) };

        self.wheel.anchor(&mut self.slots, now);
        self.expiry.anchor(now);
        let hot = Hot::new(tx.time.0, tx.tie_break, fee_class);
        let cold = Cold {
            id: tx.id,
            sender: tx.sender,
            sender_slot: NIL,
            expiry_slot: NIL,
            byte_slot: NIL,
            bytes_len: 0,
            byte_class: 0,
            nonce: tx.nonce,
            gas: tx.gas,
            fee: tx.fee,
            valid_until: tx.valid_until,
            drain: 0,
            meta: tx.meta,
        };
        let class = self.slots.free_class(byte_class).expect("room was made above");
        let entry = self.slots.allocate(class, hot, cold, tx.bytes);
        self.ids.insert(self.hasher.id(&tx.id), entry);
        self.senders.link(&self.hasher, &mut self.slots, entry);
        self.expiry.link(&mut self.slots, entry, 0);
        self.fees.link(&mut self.slots, entry);
        self.place(entry);
        Ok(inserted)
    }

    /// The entry of the same sender and nonce that `tx` may replace.
    fn replaceable(&self, tx: &NewTx<'_, M>, byte_class: usize) -> Result<Option<u32>, Refused> {
        match self.senders.spot(&self.hasher, &self.slots, &tx.sender, tx.nonce) {
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
    fn evictable(
        &self,
        tx: &NewTx<'_, M>,
        byte_class: usize,
        replaced: Option<u32>,
    ) -> Result<Option<u32>, Refused> {
        let fee_class = fee_class(tx.fee);
        let fits = |entry: u32| usize::from(self.slots.cold[entry as usize].byte_class) >= byte_class;
        if self.slots.free_class(byte_class).is_some() || replaced.is_some_and(fits) {
            return Ok(None);
        }
        let lowest = self
            .fees
            .lowest(byte_class)
            .filter(|lowest| self.slots.hot[*lowest as usize].fee_class < fee_class);
        if let Some(lowest) = lowest {
            return Ok(Some(self.senders.last_evictable(&self.slots, lowest, byte_class)));
        }
        self.own_last(tx, byte_class).map(Some).ok_or(Refused::FeeTooLow)
    }

    /// The last pending transaction of the same sender that comes after `tx`, pays no more, and leaves a byte slot of
    /// `byte_class` or larger.
    fn own_last(&self, tx: &NewTx<'_, M>, byte_class: usize) -> Option<u32> {
        let fee_class = fee_class(tx.fee);
        self.senders
            .last_behind(&self.hasher, &self.slots, &tx.sender, tx.nonce, byte_class)
            .filter(|last| self.slots.hot[*last as usize].fee_class <= fee_class)
    }

    fn drop_for(&mut self, entry: Option<u32>) -> Option<roko_wire::TxId> {
        let entry = entry?;
        let id = self.slots.cold[entry as usize].id;
        self.discard(entry);
        Some(id)
    }
}
