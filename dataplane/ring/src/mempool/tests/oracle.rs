//! The oracle: the pool's semantics in plain ordered maps that are walked from end to end.

use crate::mempool::{Config, SlotClass};
use crate::mempool::{Ended, Inserted, Limits, NewTx, Refused, Span, TAGS_PER_TX_MAX, Verdict, fee_class};
use roko_wire::{Address, TxId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) const REMEMBERED_MAX: usize = 12;
pub(super) const TAGS_MAX: usize = 5;
pub(super) const SENDER_TXS_MAX: u16 = 5;
pub(super) const TICK_LOG2: u32 = 10;
pub(super) const TICKS: usize = 16;
pub(super) const SLOTS_OF: [(usize, usize); 3] = [(16, 6), (32, 5), (64, 4)];

pub(super) fn config(seed: u64) -> Config {
    Config {
        classes: SLOTS_OF.map(|(slot_bytes, slots)| SlotClass { slot_bytes, slots }),
        tick_ns_log2: TICK_LOG2,
        ticks: TICKS,
        remembered_max: REMEMBERED_MAX,
        sender_txs_max: SENDER_TXS_MAX,
        tags_max: TAGS_MAX,
        seed,
        prefault: seed.is_multiple_of(2),
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tx {
    pub(super) id: TxId,
    pub(super) sender: Address,
    pub(super) nonce: u64,
    pub(super) time: u128,
    pub(super) tie_break: u64,
    pub(super) fee: u128,
    pub(super) gas: u64,
    pub(super) valid_until: u128,
    pub(super) meta: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) class: usize,
    pub(super) tags: BTreeSet<u64>,
    pub(super) awaiting: bool,
    /// The last expiry that found it in flight.
    pub(super) postponed: u128,
    /// Grows with each entry into the eviction order: the newest goes first.
    pub(super) fee_turn: u64,
}

impl Tx {
    pub(super) fn key(&self) -> (u128, u64, TxId) {
        (self.time, self.tie_break, self.id)
    }
    pub(super) fn placed(&self) -> bool {
        self.tags.is_empty() && !self.awaiting
    }
}

/// What a drain of the reference did.
pub(super) struct Outcome {
    /// Id, moment, displaced.
    pub(super) taken: Vec<(TxId, u128, bool)>,
    pub(super) ended: Ended,
    pub(super) reached: u128,
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) txs: BTreeMap<TxId, Tx>,
    pub(super) tags: BTreeMap<u64, Vec<TxId>>,
    pub(super) remembered: VecDeque<(TxId, u128)>,
    pub(super) forced_out: u64,
    pub(super) window_start: Option<u64>,
    turn: u64,
}

impl Model {
    pub(super) fn advance(&mut self, time: u128) {
        let max = u64::MAX / 2;
        let tick = u64::try_from(time >> TICK_LOG2).unwrap_or(max).min(max);
        let start = tick.saturating_sub(TICKS as u64 / 4).min(max - TICKS as u64);
        self.window_start = Some(self.window_start.unwrap_or(0).max(start));
    }

    pub(super) fn in_window(&self, time: u128) -> bool {
        time >> TICK_LOG2 >= u128::from(self.window_start.unwrap_or(0))
    }

    pub(super) fn free(&self, class: usize) -> bool {
        self.txs.values().filter(|tx| tx.class == class).count() < SLOTS_OF[class].1
    }

    /// What a transaction takes the place of within its sender's chain.
    fn replaced(&self, tx: &NewTx<'_, u64>, class: usize) -> Result<Option<&Tx>, Refused> {
        let same = self.txs.values().find(|there| there.sender == tx.sender && there.nonce == tx.nonce);
        if let Some(there) = same {
            let enough = there.fee.checked_add(there.fee.div_ceil(10).max(1));
            if !there.tags.is_empty() || enough.is_none_or(|enough| tx.fee < enough) {
                return Err(Refused::NonceOccupied);
            }
        } else if self.txs.values().filter(|there| there.sender == tx.sender).count()
            >= usize::from(SENDER_TXS_MAX)
        {
            // What comes before others of its sender takes the place of the last of them, if that pays no more.
            let later = |there: &&Tx| there.sender == tx.sender && there.nonce > tx.nonce;
            let usable = |there: &&Tx| there.tags.is_empty() && there.class >= class;
            let last = self.txs.values().filter(later).filter(usable).max_by_key(|there| there.nonce);
            let cheap = |last: &&Tx| fee_class(last.fee) <= fee_class(tx.fee);
            return Ok(Some(last.filter(cheap).ok_or(Refused::SenderLimit)?));
        }
        Ok(same)
    }

    pub(super) fn insert(&mut self, tx: &NewTx<'_, u64>, now: u128) -> Result<Inserted, Refused> {
        let class = SLOTS_OF.iter().position(|slot| slot.0 >= tx.bytes.len()).ok_or(Refused::TooLarge)?;
        if tx.valid_until.0 < now || tx.valid_until < tx.time {
            return Err(Refused::Expired);
        }
        if self.txs.contains_key(&tx.id) {
            return Err(Refused::Duplicate);
        }
        if self.remembered.iter().any(|(id, _)| *id == tx.id) {
            return Err(Refused::RecentlyFinal);
        }
        let replaced = self.replaced(tx, class)?;
        let room = replaced.is_none_or(|there| there.class < class);
        let replaced = replaced.map(|there| there.id);
        let mut evicted = None;
        if !(class..3).any(|class| self.free(class)) && room {
            let usable = |there: &&Tx| there.tags.is_empty() && there.class >= class;
            let order = |there: &&Tx| (fee_class(there.fee), there.class, u64::MAX - there.fee_turn);
            let lowest = self.txs.values().filter(usable).min_by_key(order);
            let lowest = lowest.filter(|lowest| fee_class(lowest.fee) < fee_class(tx.fee));
            // By its fee it pushes anyone out; else its own sender's last, if that comes later and pays no more.
            let from = lowest.map_or(tx.sender, |lowest| lowest.sender);
            let of_sender = self.txs.values().filter(usable).filter(|there| there.sender == from);
            let last = of_sender.max_by_key(|there| there.nonce);
            let fits = |last: &&Tx| {
                lowest.is_some() || last.nonce > tx.nonce && fee_class(last.fee) <= fee_class(tx.fee)
            };
            evicted = Some(last.filter(fits).ok_or(Refused::FeeTooLow)?.id);
        }
        for gone in [evicted, replaced].into_iter().flatten() {
            self.txs.remove(&gone);
        }
        if self.window_start.is_none() {
            self.advance(now);
        }
        self.turn += 1;
        let class = (class..3).find(|&class| self.free(class)).expect("room was made");
        let entry = Tx {
            id: tx.id,
            sender: tx.sender,
            nonce: tx.nonce,
            time: tx.time.0,
            tie_break: tx.tie_break,
            fee: tx.fee,
            gas: tx.gas,
            valid_until: tx.valid_until.0,
            meta: tx.meta,
            bytes: tx.bytes.to_vec(),
            class,
            tags: BTreeSet::new(),
            awaiting: false,
            postponed: 0,
            fee_turn: self.turn,
        };
        self.txs.insert(tx.id, entry);
        Ok(Inserted { evicted, replaced })
    }

    /// Whether nothing that comes before it in its sender's chain is missing or waits.
    fn is_next(&self, own: &Tx) -> bool {
        let lower = self.txs.values().filter(|tx| tx.sender == own.sender && tx.nonce < own.nonce);
        let mut lower: Vec<&Tx> = lower.collect();
        lower.sort_by_key(|tx| tx.nonce);
        let gap = lower.last().is_some_and(|prev| prev.nonce + 1 != own.nonce);
        !gap && lower.iter().all(|tx| !tx.tags.is_empty())
    }

    /// The canonical order by its definition: over and over the earliest key that is not passed yet.
    pub(super) fn drain(
        &mut self,
        tag: u64,
        span: Span,
        limits: Limits,
        verdict: impl Fn(&TxId) -> Verdict,
    ) -> Outcome {
        self.advance(span.from.0);
        if !self.tags.contains_key(&tag) && self.tags.len() >= TAGS_MAX {
            return Outcome { taken: Vec::new(), ended: Ended::TagsExhausted, reached: span.from.0 };
        }
        let in_span = |tx: &&Tx| tx.time >= span.from.0 && tx.time < span.watermark.0;
        let placed = self.txs.values().filter(|tx| tx.placed() && self.in_window(tx.time));
        let mut line: Vec<Tx> = placed.filter(in_span).cloned().collect();
        line.sort_by_key(Tx::key);
        let (mut out, mut last, mut bytes, mut gas) = (Vec::new(), span.after.0, 0, 0_u64);
        let (mut ended, mut reached) = (Ended::Watermark, span.from.0);
        'line: for (place, own) in line.iter().enumerate() {
            reached = own.time;
            if !self.is_next(own) {
                continue;
            }
            let mut next = Some(own.clone());
            let mut displaced = false;
            while let Some(tx) = next.take() {
                if out.len() >= limits.txs {
                    ended = Ended::Full;
                    break 'line;
                }
                if tx.bytes.len() > limits.bytes || tx.gas > limits.gas {
                    break;
                }
                if bytes + tx.bytes.len() > limits.bytes || gas + tx.gas > limits.gas {
                    ended = Ended::Full;
                    break 'line;
                }
                let Some(moment) = last.checked_add(1).map(|least| least.max(tx.time)) else {
                    ended = Ended::MomentsUsed;
                    break 'line;
                };
                if moment >= span.watermark.0 {
                    ended = Ended::MomentsUsed;
                    break 'line;
                }
                if moment > tx.valid_until {
                    break;
                }
                match verdict(&tx.id) {
                    Verdict::Take => {}
                    Verdict::Skip => break,
                    Verdict::Stop => {
                        ended = Ended::Stopped;
                        break 'line;
                    }
                }
                out.push((tx.id, moment, displaced));
                (last, bytes, gas) = (moment, bytes + tx.bytes.len(), gas + tx.gas);
                self.attach(tag, tx.id);
                let follows =
                    |there: &&Tx| there.sender == tx.sender && Some(there.nonce) == tx.nonce.checked_add(1);
                next = line[..place].iter().find(follows).cloned();
                displaced = true;
            }
        }
        if ended == Ended::Watermark {
            reached = span.watermark.0.max(span.from.0);
        }
        Outcome { taken: out, ended, reached }
    }

    pub(super) fn attach(&mut self, tag: u64, id: TxId) {
        let tx = self.txs.get_mut(&id).expect("it is here");
        if tx.tags.insert(tag) {
            self.tags.entry(tag).or_default().push(id);
        }
    }

    pub(super) fn mark(&mut self, id: &TxId, tag: u64) -> bool {
        let Some(tx) = self.txs.get(id) else { return false };
        if !self.tags.contains_key(&tag) && self.tags.len() >= TAGS_MAX {
            return false;
        }
        if !tx.tags.contains(&tag) && tx.tags.len() >= TAGS_PER_TX_MAX {
            return false;
        }
        self.attach(tag, *id);
        true
    }

    pub(super) fn put_back(&mut self, tag: u64) -> usize {
        let mut pending = 0;
        for id in self.tags.remove(&tag).unwrap_or_default() {
            let tx = self.txs.get_mut(&id).expect("a tag holds what is here");
            tx.tags.remove(&tag);
            if tx.tags.is_empty() {
                self.turn += 1;
                (tx.fee_turn, tx.awaiting) = (self.turn, false);
                pending += 1;
            }
        }
        pending
    }

    pub(super) fn remove(&mut self, id: &TxId) -> Option<Tx> {
        let tx = self.txs.remove(id)?;
        self.tags.values_mut().for_each(|ids| ids.retain(|there| there != id));
        self.tags.retain(|_, ids| !ids.is_empty());
        Some(tx)
    }

    pub(super) fn finalize_id(&mut self, id: &TxId, valid_until: u128, now: u128) {
        if self.remembered.iter().any(|(there, _)| there == id) {
            return;
        }
        self.remove(id);
        if self.remembered.len() == REMEMBERED_MAX {
            let (_, until) = self.remembered.pop_front().expect("it is full");
            self.forced_out += u64::from(until >= now);
        }
        self.remembered.push_back((*id, valid_until));
    }
}
