//! Random operations on the pool and on the oracle.
//!
//! After each step the answers must be equal, the contents must be equal, and the pool's indices must agree with
//! one another.

use super::oracle::{Model, Outcome, Tx, config};
use crate::mempool::*;
use proptest::prelude::*;
use roko_wire::{Address, NanoMoment, TxId};

const IDS: u8 = 60;
const TAGS: u64 = 8;
/// An expiry second is 2^30 ns.
const SECOND_LOG2: u32 = 30;
const START: u128 = 1_800_000_000_000_000_000;

#[derive(Clone, Debug)]
enum Step {
    Insert {
        id: u8,
        sender: u8,
        nonce: u64,
        ahead: i64,
        fee: u128,
        window: u64,
        bytes: usize,
        gas: u64,
        odd: u8,
    },
    /// Insertions as one burst.
    Burst(Vec<Step>),
    Drain {
        tag: u64,
        back: u64,
        width: u64,
        limits: Limits,
        refuse: u8,
        after: bool,
    },
    Mark {
        id: u8,
        tag: u64,
    },
    PutBack(u64),
    Finalize(u64),
    FinalizeId {
        id: u8,
        window: u64,
    },
    TakeLate {
        back: u64,
        max: usize,
    },
    Restamp {
        id: u8,
        ahead: i64,
    },
    Remove(u8),
    DropBelow {
        sender: u8,
        nonce: u64,
    },
    Expire,
    ExpireSome(usize),
    Pass(u64),
}

fn window() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0_u64..60_000, 2 => 0_u64..5_000_000_000, 1 => 0_u64..(1 << 49)]
}

fn ahead() -> impl Strategy<Value = i64> {
    prop_oneof![-2000_i64..2000, Just(0), -3_i64..3, -20_000_i64..40_000]
}

fn insertion() -> impl Strategy<Value = Step> {
    let fee = prop_oneof![0_u128..12, 1_000_u128..1_300, any::<u128>()];
    (0..IDS, 0_u8..5, 0_u64..6, ahead(), fee, window(), 0_usize..70, 0_u64..15, any::<u8>()).prop_map(
        |(id, sender, nonce, ahead, fee, window, bytes, gas, odd)| Step::Insert {
            id,
            sender,
            nonce,
            ahead,
            fee,
            window,
            bytes,
            gas,
            odd,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let tag = || 0..TAGS;
    let limits =
        (0_usize..12, prop_oneof![Just(usize::MAX), 0_usize..200], prop_oneof![Just(u64::MAX), 0_u64..40])
            .prop_map(|(txs, bytes, gas)| Limits { txs, bytes, gas });
    prop_oneof![
        12 => insertion(),
        1 => prop::collection::vec(insertion(), 0..2 * BURST_MAX).prop_map(Step::Burst),
        4 => (tag(), 0_u64..30_000, 0_u64..40_000, limits, any::<u8>(), any::<bool>())
            .prop_map(|(tag, back, width, limits, refuse, after)| Step::Drain { tag, back, width, limits, refuse, after }),
        3 => (0..IDS, tag()).prop_map(|(id, tag)| Step::Mark { id, tag }),
        2 => tag().prop_map(Step::PutBack),
        1 => tag().prop_map(Step::Finalize),
        1 => (0..IDS, window()).prop_map(|(id, window)| Step::FinalizeId { id, window }),
        1 => (0_u64..20_000, 0_usize..6).prop_map(|(back, max)| Step::TakeLate { back, max }),
        1 => (0..IDS, ahead()).prop_map(|(id, ahead)| Step::Restamp { id, ahead }),
        1 => (0..IDS).prop_map(Step::Remove),
        1 => (0_u8..5, 0_u64..7).prop_map(|(sender, nonce)| Step::DropBelow { sender, nonce }),
        1 => Just(Step::Expire),
        1 => (0_usize..4).prop_map(Step::ExpireSome),
        2 => prop_oneof![8 => 0_u64..3_000, 1 => 0_u64..2_000_000_000, 1 => 0_u64..(1 << 48)].prop_map(Step::Pass),
    ]
}

/// A [`NewTx`] that owns its bytes.
struct Offer {
    id: TxId,
    sender: Address,
    nonce: u64,
    time: NanoMoment,
    tie_break: u64,
    fee: u128,
    gas: u64,
    valid_until: NanoMoment,
    meta: u64,
    bytes: Vec<u8>,
}

impl Offer {
    fn key(&self) -> Key<'_> {
        Key { id: &self.id, sender: &self.sender, bytes: &self.bytes }
    }

    fn new_tx(&self) -> NewTx<'_, u64> {
        NewTx {
            id: self.id,
            sender: self.sender,
            nonce: self.nonce,
            time: self.time,
            tie_break: self.tie_break,
            fee: self.fee,
            gas: self.gas,
            valid_until: self.valid_until,
            meta: self.meta,
            bytes: &self.bytes,
        }
    }
}

struct Both {
    pool: Mempool<u64>,
    model: Model,
    now: u128,
    last_moment: u128,
}

fn id_of(number: u8) -> TxId {
    TxId([number; 32])
}

fn sender_of(number: u8) -> Address {
    Address([number; 20])
}

fn shift(now: u128, ahead: i64) -> u128 {
    now.saturating_add_signed(ahead.into())
}

impl Both {
    fn run(&mut self, step: &Step) {
        let now = NanoMoment(self.now);
        match *step {
            Step::Insert { .. } => self.insert(step),
            Step::Burst(ref steps) => self.insert_burst(steps),
            Step::Drain { tag, back, width, limits, refuse, after } => {
                let from = self.now - u128::from(back);
                let after = if after { self.last_moment } else { from };
                let span = Span {
                    from: NanoMoment(from),
                    watermark: NanoMoment(from + u128::from(width)),
                    after: NanoMoment(after),
                };
                self.drain(tag, span, limits, refuse);
            }
            Step::Mark { id, tag } => {
                let id = id_of(id);
                assert_eq!(self.pool.mark_in_flight(&id, tag), self.model.mark(&id, tag));
            }
            Step::PutBack(tag) => assert_eq!(self.pool.put_back(tag), self.model.put_back(tag)),
            Step::Finalize(tag) => {
                let ids = self.model.tags.get(&tag).cloned().unwrap_or_default();
                assert_eq!(self.pool.finalize(tag, now), ids.len());
                for id in ids {
                    let valid_until = self.model.txs[&id].valid_until;
                    self.model.finalize_id(&id, valid_until, self.now);
                }
            }
            Step::FinalizeId { id, window } => {
                let valid_until = self.now + u128::from(window);
                self.pool.finalize_id(&id_of(id), NanoMoment(valid_until), now);
                self.model.finalize_id(&id_of(id), valid_until, self.now);
            }
            Step::TakeLate { back, max } => self.take_late(self.now - u128::from(back), max),
            Step::Restamp { id, ahead } => {
                let (id, time) = (id_of(id), shift(self.now, ahead));
                let model = self.model.txs.get_mut(&id).map(|tx| {
                    (tx.time, tx.tie_break, tx.meta, tx.awaiting) = (time, 77, 78, false);
                });
                assert_eq!(self.pool.restamp(&id, NanoMoment(time), 77, 78), model.is_some());
            }
            Step::Remove(id) => {
                assert_eq!(self.pool.remove(&id_of(id)), self.model.remove(&id_of(id)).is_some());
            }
            Step::DropBelow { sender, nonce } => {
                let sender = sender_of(sender);
                let mut dropped = Vec::new();
                let count = self.pool.drop_below(&sender, nonce, |id| dropped.push(id));
                let below = |tx: &&Tx| tx.sender == sender && tx.nonce < nonce && tx.tags.is_empty();
                let mut expected: Vec<_> =
                    self.model.txs.values().filter(below).map(|tx| (tx.nonce, tx.id)).collect();
                expected.sort_unstable();
                assert_eq!(dropped, expected.iter().map(|&(_, id)| id).collect::<Vec<_>>());
                assert_eq!(count, dropped.len());
                dropped.iter().for_each(|id| drop(self.model.remove(id)));
            }
            Step::Expire => self.expire(usize::MAX),
            Step::ExpireSome(budget) => self.expire(budget),
            Step::Pass(nanos) => self.now += u128::from(nanos),
        }
        self.compare();
    }

    fn insert(&mut self, step: &Step) {
        let Some(tx) = self.offer(step) else { return };
        let result = self.pool.insert(&tx.new_tx(), NanoMoment(self.now));
        assert_eq!(result, self.model.insert(&tx.new_tx(), self.now));
        for gone in result.into_iter().flat_map(|inserted| [inserted.evicted, inserted.replaced]).flatten() {
            assert!(!self.pool.contains(&gone));
        }
    }

    fn insert_burst(&mut self, steps: &[Step]) {
        let offers: Vec<Offer> = steps.iter().filter_map(|step| self.offer(step)).collect();
        let mut results = Vec::new();
        let now = NanoMoment(self.now);
        self.pool.insert_burst(&offers, now, Offer::key, Offer::new_tx, |offer, result| {
            results.push((offer.id, result));
        });
        let expected: Vec<_> =
            offers.iter().map(|offer| (offer.id, self.model.insert(&offer.new_tx(), self.now))).collect();
        assert_eq!(results, expected);
    }

    /// What an insertion step offers.
    fn offer(&self, step: &Step) -> Option<Offer> {
        let &Step::Insert { id, sender, nonce, ahead, fee, window, bytes, gas, odd } = step else {
            return None;
        };
        let time = match odd {
            0 => 0,
            1 => u128::MAX - 3,
            2 => u64::MAX.into(),
            3 => self.now + (1 << 40),
            _ => shift(self.now, ahead),
        };
        let valid_until = if odd < 6 { u128::MAX } else { self.now + u128::from(window) };
        Some(Offer {
            id: id_of(id),
            sender: sender_of(sender),
            nonce: if odd == 5 { u64::MAX - nonce } else { nonce },
            time: NanoMoment(time),
            tie_break: u64::from(odd % 3),
            fee,
            gas,
            valid_until: NanoMoment(valid_until),
            meta: u64::from(id) * 3,
            bytes: (0..bytes).map(|at| at as u8 ^ id).collect(),
        })
    }

    fn drain(&mut self, tag: u64, span: Span, limits: Limits, refuse: u8) {
        let verdict = |id: &TxId| match id.0[0].wrapping_mul(31) ^ refuse {
            0..=7 => Verdict::Skip,
            8..=11 => Verdict::Stop,
            _ => Verdict::Take,
        };
        let (mut taken, mut keys) = (Vec::new(), Vec::new());
        let report = self.pool.drain(tag, span, limits, |tx| {
            let verdict = verdict(&tx.id);
            if verdict == Verdict::Take {
                taken.push((tx.id, tx.moment.0, tx.displaced));
                keys.push(((tx.time, tx.tie_break, tx.id), tx.moment, tx.sender, tx.nonce, tx.valid_until));
            }
            verdict
        });
        let Outcome { taken: expected, ended, reached } = self.model.drain(tag, span, limits, verdict);
        assert_eq!(taken, expected);
        assert_eq!((report.ended, report.reached.0), (ended, reached));
        let of = |value: fn(&Tx) -> u64| taken.iter().map(|(id, ..)| value(&self.model.txs[id])).sum::<u64>();
        assert_eq!((report.txs, report.gas), (taken.len(), of(|tx| tx.gas)));
        assert_eq!(report.bytes as u64, of(|tx| tx.bytes.len() as u64));
        assert_eq!(report.last_moment.0, taken.last().map_or(span.after.0, |&(_, moment, _)| moment));
        assert_eq!(report.displaced, taken.iter().filter(|&&(.., displaced)| displaced).count());
        recheck(&keys, span);
        if let Some(&(_, moment, _)) = taken.last() {
            self.last_moment = moment;
        }
    }

    fn take_late(&mut self, watermark: u128, max: usize) {
        let mut taken = Vec::new();
        self.pool.take_late(NanoMoment(watermark), max, |tx| taken.push(tx.id));
        self.model.advance(watermark);
        let mut late: Vec<_> =
            self.model.txs.values().filter(|tx| tx.placed() && tx.time < watermark).collect();
        late.sort_by_key(|tx| tx.key());
        let late: Vec<TxId> = late.iter().take(max).map(|tx| tx.id).collect();
        assert_eq!(taken, late);
        late.iter().for_each(|id| self.model.txs.get_mut(id).expect("listed above").awaiting = true);
    }

    fn expire(&mut self, budget: usize) {
        let (now, mut gone) = (NanoMoment(self.now), Vec::new());
        self.pool.expire(now, budget, |id| gone.push(id));
        let over = |tx: &Tx| Mempool::<u64>::second_is_over(NanoMoment(tx.valid_until), now);
        let due = |tx: &&Tx| tx.tags.is_empty() && over(tx);
        assert!(gone.iter().all(|id| due(&&self.model.txs[id])) && gone.len() <= budget);
        if budget == usize::MAX {
            // One that was in flight at an earlier call in this second is looked at again in the next.
            let left = self.model.txs.values().filter(due).filter(|tx| !gone.contains(&tx.id));
            left.for_each(|tx| assert_eq!(tx.postponed >> SECOND_LOG2, self.now >> SECOND_LOG2));
        }
        let in_flight = self.model.txs.values_mut().filter(|tx| !tx.tags.is_empty());
        in_flight.for_each(|tx| tx.postponed = self.now);
        gone.iter().for_each(|id| drop(self.model.remove(id)));
        for _ in 0..budget {
            if self.model.remembered.front().is_none_or(|&(_, valid_until)| valid_until >= self.now) {
                break;
            }
            self.model.remembered.pop_front();
        }
    }

    fn compare(&self) {
        let (pool, model) = (&self.pool, &self.model);
        for id in (0..IDS).map(id_of) {
            let expected = model.txs.get(&id);
            let found = pool.get(&id).map(|view| Tx {
                id: view.id,
                sender: view.sender,
                nonce: view.nonce,
                time: view.time.0,
                tie_break: view.tie_break,
                fee: view.fee,
                gas: view.gas,
                valid_until: view.valid_until.0,
                meta: *view.meta,
                bytes: view.bytes.to_vec(),
                ..expected.expect("the pool has what the model has not").clone()
            });
            assert_eq!(found.as_ref(), expected);
            assert_eq!(
                pool.get(&id).map_or(0, |view| view.tags.into()),
                expected.map_or(0, |tx| tx.tags.len())
            );
            assert_eq!(pool.is_remembered(&id), model.remembered.iter().any(|(there, _)| *there == id));
        }
        let stats = pool.stats();
        let in_flight = model.txs.values().filter(|tx| !tx.tags.is_empty()).count();
        assert_eq!((stats.pending, stats.in_flight), (model.txs.len() - in_flight, in_flight));
        assert_eq!(stats.bytes_used, model.txs.values().map(|tx| tx.bytes.len()).sum::<usize>());
        assert_eq!((stats.remembered, stats.tags_open), (model.remembered.len(), model.tags.len()));
        assert_eq!(stats.counters.remembered_forced_out, model.forced_out);
        let oldest = model.txs.values().filter(|tx| tx.placed()).map(|tx| tx.time).min();
        assert_eq!(pool.oldest_pending().map(|time| time.0), oldest);
        assert_eq!(pool.window_start(), model.window_start.unwrap_or(0));
        pool.check_invariants(&(0..TAGS).collect::<Vec<_>>());
    }
}

type OrderKey = (NanoMoment, u64, TxId);

/// The rule of the drain's documentation, as a validator rechecks it from the block alone.
fn recheck(block: &[(OrderKey, NanoMoment, Address, u64, NanoMoment)], span: Span) {
    let (mut highest, mut previous): (Option<OrderKey>, _) = (None, span.after);
    for (at, &(key, moment, sender, nonce, valid_until)) in block.iter().enumerate() {
        assert_eq!(moment, previous.saturating_add(1).max(key.0));
        assert!(moment < span.watermark && moment <= valid_until && key.0 >= span.from);
        if highest.is_none_or(|highest| key > highest) {
            highest = Some(key);
        } else {
            let (.., before, lower, _) = block[at - 1];
            assert_eq!((before, lower + 1), (sender, nonce), "a displaced one follows its predecessor");
        }
        for &(.., other, later, _) in &block[at + 1..] {
            assert!(other != sender || later > nonce, "a sender's nonces ascend");
        }
        previous = moment;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_oracle(seed in any::<u64>(), steps in prop::collection::vec(step(), 1..120)) {
        let pool = Mempool::new(&config(seed)).expect("the sizes fit");
        let mut both = Both { pool, model: Model::default(), now: START, last_moment: START };
        let memory_bytes = both.pool.memory_bytes();
        steps.iter().for_each(|step| both.run(step));
        prop_assert_eq!(both.pool.memory_bytes(), memory_bytes);
    }
}

/// `ROKO_PROPTEST_CASES` lengthens the run.
fn cases() -> u32 {
    std::env::var("ROKO_PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
}
