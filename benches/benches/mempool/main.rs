//! The temporal mempool ring: transactions offered, drained in time order in blocks of 1,000, and finalised.
//!
//! Every pool does the same work on the same input: refuse duplicates and what is final, keep each sender's nonces
//! in order, evict the lowest fee when full, hand out what is below the watermark in (time, tie break, id) order,
//! release a block's transactions when it is final and remember them. Of each round's offers one in sixteen is a
//! duplicate, and one in eight comes when the pool is full already. Pools are made once and stay warm. Offers come 32 at a time, as
//! the stage that owns the pool takes them: the ring inserts them as one burst, the peers under one lock.
//!
//! Peer: the obvious shape, a BTreeMap by time, a BinaryHeap by fee and a HashMap of owned transactions, behind one
//! mutex ([`peers`]); and the same over crossbeam's skip lists. Floor: ten times as fast as the obvious shape,
//! on one thread and between two.
//!
//! `mempool` runs all of it on one thread, `mempool_two_cores` between two, and `mempool_verifying_core` shows what the
//! core pays that offers a transaction every 4 us, as one that checks signatures does ([`handover`]). `mempool_depth` is cost
//! against size ([`depth`]).

mod depth;
mod handover;
mod peers;
mod workload;

use arrayvec::ArrayVec;
use handover::Pace;
use peers::{Heap, Peer, Skip};
use roko_benches::{Comparison, Report};
use roko_ring::mempool::{BURST_MAX, Config, Key, Limits, Mempool, NewTx, Span, Verdict};
use roko_wire::NanoMoment;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use workload::{BLOCK_TXS, Offer, Workload};

/// What a pool does here.
trait Pool {
    /// Offers transactions, [`BURST_MAX`] at most; returns how many are pooled now.
    fn insert(&mut self, offers: &[&Offer], now: NanoMoment) -> usize;
    /// Takes a block's worth below `until` out under `tag`, in order, and shows moment and bytes of each.
    fn drain(
        &mut self,
        tag: u64,
        from: NanoMoment,
        until: NanoMoment,
        sink: &mut dyn FnMut(NanoMoment, &[u8]),
    ) -> usize;
    /// The block of `tag` is final.
    fn finalize(&mut self, tag: u64, now: NanoMoment) -> usize;
}

/// Offers transactions to the ring's pool, as the stage that owns it does. Returns how many are pooled now.
fn insert(pool: &mut Mempool<u64>, offers: &[&Offer], now: NanoMoment) -> usize {
    let mut pooled = 0;
    pool.insert_burst(offers, now, key, new_tx, |_, result| pooled += usize::from(result.is_ok()));
    pooled
}

fn key<'a>(offer: &'a &Offer) -> Key<'a> {
    Key { id: &offer.id, sender: &offer.sender, bytes: &offer.bytes }
}

fn new_tx<'a>(offer: &'a &Offer) -> NewTx<'a, u64> {
    NewTx {
        id: offer.id,
        sender: offer.sender,
        nonce: offer.nonce,
        time: offer.time,
        tie_break: offer.tie_break,
        fee: offer.fee,
        gas: 21_000,
        valid_until: offer.valid_until,
        meta: offer.tie_break,
        bytes: &offer.bytes,
    }
}

impl Pool for Mempool<u64> {
    fn insert(&mut self, offers: &[&Offer], now: NanoMoment) -> usize {
        insert(self, offers, now)
    }

    fn drain(
        &mut self,
        tag: u64,
        from: NanoMoment,
        until: NanoMoment,
        sink: &mut dyn FnMut(NanoMoment, &[u8]),
    ) -> usize {
        let span = Span { from, watermark: until, after: from };
        let limits = Limits { txs: BLOCK_TXS, bytes: usize::MAX, gas: u64::MAX };
        let report = Mempool::drain(self, tag, span, limits, |tx| {
            sink(tx.time, tx.bytes);
            Verdict::Take
        });
        report.txs
    }

    fn finalize(&mut self, tag: u64, now: NanoMoment) -> usize {
        Mempool::finalize(self, tag, now)
    }
}

/// Where the time of a case goes, summed over all its rounds.
#[derive(Default)]
struct Phases {
    insert: Duration,
    drain: Duration,
    finalize: Duration,
    rounds: u32,
}

/// One iteration: a round of the workload through the pool.
fn rounds(txs: usize, mut pool: impl Pool, phases: Rc<RefCell<Phases>>) -> impl FnMut(u64) -> Duration {
    let mut work = Workload::new(txs);
    move |iterations| {
        let mut total = Duration::ZERO;
        for _ in 0..iterations {
            work.next_round();
            let phases = &mut *phases.borrow_mut();
            total += round(txs, &mut pool, &work, phases);
        }
        total
    }
}

fn round(txs: usize, pool: &mut impl Pool, work: &Workload, phases: &mut Phases) -> Duration {
    let began = Instant::now();
    let mut pooled = 0;
    let mut burst = ArrayVec::<&Offer, BURST_MAX>::new();
    let mut offers = work.offers();
    loop {
        burst.extend(offers.by_ref().take(BURST_MAX));
        if burst.is_empty() {
            break;
        }
        pooled += pool.insert(&burst, work.now());
        burst.clear();
    }
    let inserted = Instant::now();
    let (mut last, mut bytes, mut drained, mut blocks) = (NanoMoment::ZERO, 0, 0, 0);
    loop {
        let count = pool.drain(work.tag(blocks), work.from(), work.until(), &mut |time, wire| {
            last = time;
            bytes += wire.len();
        });
        if count == 0 {
            break;
        }
        (drained, blocks) = (drained + count, blocks + 1);
    }
    let taken = Instant::now();
    let finalised: usize = (0..blocks).map(|block| pool.finalize(work.tag(block), work.now())).sum();
    let ended = Instant::now();
    assert!(pooled >= txs && bytes > 0 && last > NanoMoment::ZERO, "the pool filled");
    assert_eq!((drained, finalised), (txs, txs), "what the pool held came out and became final");
    phases.insert += inserted - began;
    phases.drain += taken - inserted;
    phases.finalize += ended - taken;
    phases.rounds += 1;
    ended - began
}

fn compare(txs: usize, criterion: &mut criterion::Criterion, report: &mut Report) {
    let phases: [Rc<RefCell<Phases>>; 3] = Default::default();
    let [own, sample, skip] = phases.clone();
    let config = Config { prefault: true, ..Config::for_txs(txs, 7) };
    let pool = Mempool::<u64>::new(&config).expect("the sizes fit");
    Comparison::new(format!("mempool/txs={txs}"), txs as u64)
        .case("roko_mempool", rounds(txs, pool, own))
        .case("btree_heap_hash_mutex", rounds(txs, &Peer::<Heap>::new(txs), sample))
        .floor_ratio(0.1)
        .case("skip_lists_hash_mutex", rounds(txs, &Peer::<Skip>::new(txs), skip))
        .run(criterion, report);
    for (phases, name) in
        phases.iter().zip(["roko_mempool", "btree_heap_hash_mutex", "skip_lists_hash_mutex"])
    {
        let phases = phases.borrow();
        if phases.rounds == 0 {
            continue;
        }
        let ns = |time: Duration| time.as_nanos() as f64 / f64::from(phases.rounds) / txs as f64;
        report.note(format!(
            "mempool/txs={txs} {name}: mean ns a pooled transaction: insert {:.0}, drain {:.0}, finalise {:.0}",
            ns(phases.insert),
            ns(phases.drain),
            ns(phases.finalize)
        ));
    }
}

fn compare_between_cores(txs: usize, pace: Pace, criterion: &mut criterion::Criterion, report: &mut Report) {
    let config = Config { prefault: true, ..Config::for_txs(4 * txs, 7) };
    let pool = Mempool::<u64>::new(&config).expect("the sizes fit");
    let name = if pace == Pace::Full { "two_cores" } else { "verifying_core" };
    let comparison = Comparison::new(format!("mempool_{name}/txs={txs}"), txs as u64)
        .case("roko_mempool", handover::rounds(txs, pool, pace))
        .case("btree_heap_hash_mutex", handover::rounds(txs, Peer::<Heap>::new(4 * txs), pace));
    comparison
        .floor_ratio(0.1)
        .case("skip_lists_hash_mutex", handover::rounds(txs, Peer::<Skip>::new(4 * txs), pace))
        .run(criterion, report);
}

fn main() {
    let mut report = Report::new("mempool", "none; memory");
    let mut criterion = Report::criterion();
    for txs in [1_024, 16_384, 65_536] {
        compare(txs, &mut criterion, &mut report);
        compare_between_cores(txs, Pace::Full, &mut criterion, &mut report);
    }
    for txs in [1_024, 16_384] {
        compare_between_cores(txs, Pace::Checked, &mut criterion, &mut report);
    }
    depth::run(&mut criterion, &mut report);
    report.finish(criterion);
}
