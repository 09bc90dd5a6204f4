//! The pool between two cores, as a node has it: one core verifies and offers, the other makes blocks and finalises them.
//!
//! A full round's transactions stand in the pool all the time: while those of a round are offered, those of the round
//! before are drained, a block for each block's worth of offers. The ring's core owns the pool and gets transactions
//! through an SPSC ring, by reference, as it gets frames; the peers' cores share theirs through its mutex.

use crate::peers::{Orders, Peer};
use crate::workload::{BLOCK_TXS, Offer, Workload};
use crate::{Pool, insert};
use arrayvec::ArrayVec;
use roko_benches::two_threads::run_pinned;
use roko_ring::mempool::{BURST_MAX, Mempool};
use roko_ring::prefetch;
use roko_ring::spsc::ring;
use roko_wire::NanoMoment;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Transactions on their way between the cores, at most.
const RING_DEPTH: usize = 1024;
/// What a core takes to check a transaction before it offers it.
const CHECK: Duration = Duration::from_micros(4);

/// How the verifying core offers, and what is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As fast as the pool takes it; the time from the first offer until the last block of the round is final.
    Full,
    /// As often as signatures are checked; the time that the core spends in offering.
    Checked,
}

/// A pool that two cores can use.
pub(crate) trait Shared: Send {
    /// Offers `work`'s transactions on one core and drains and finalises those of the round before on the other.
    fn round(&mut self, work: &Workload, pace: Pace) -> Option<Duration>;
}

/// Offers every transaction of the round; the time spent in `offer`.
fn offer_all<'a>(work: &'a Workload, pace: Pace, mut offer: impl FnMut(&'a Offer)) -> Duration {
    let mut spent = Duration::ZERO;
    for tx in work.offers() {
        if pace == Pace::Full {
            offer(tx);
            continue;
        }
        let began = Instant::now();
        offer(tx);
        let took = began.elapsed();
        spent += took;
        while began.elapsed() < took + CHECK {
            spin_loop();
        }
    }
    spent
}

/// Blocks of the round before, drained as the offers go on.
struct Blocks<'a> {
    work: &'a Workload,
    made: usize,
    drained: usize,
}

impl Blocks<'_> {
    /// Makes the blocks that are due after `offered` offers; all that remain when `last`.
    fn make(&mut self, pool: &mut impl Pool, offered: usize, last: bool) {
        while last || (self.made + 1) * BLOCK_TXS <= offered {
            let (tag, now) = (self.work.tag(self.made as u64), self.work.now());
            let mut bytes = 0;
            let count =
                pool.drain(tag, self.work.before(), self.work.from(), &mut |_, wire| bytes += wire.len());
            black_box(bytes);
            self.made += 1;
            self.drained += pool.finalize(tag, now);
            if count == 0 {
                break;
            }
        }
    }
}

impl Shared for Mempool<u64> {
    fn round(&mut self, work: &Workload, pace: Pace) -> Option<Duration> {
        let (mut verified, mut input) = ring::<&Offer>(RING_DEPTH);
        let total = work.offers().count();
        let near = || {
            offer_all(work, pace, |mut offer| {
                while let Err(full) = verified.push(offer) {
                    offer = full;
                    spin_loop();
                }
            })
        };
        let far = || {
            let (began, mut offered) = (Instant::now(), 0);
            let mut blocks = Blocks { work, made: 0, drained: 0 };
            let mut burst = ArrayVec::<&Offer, BURST_MAX>::new();
            while offered < total {
                offered += input.pop_burst(&mut burst);
                // A node's ring holds what stands here behind a reference.
                burst.iter().for_each(|offer| prefetch::value(*offer));
                insert(self, &burst, work.now());
                burst.clear();
                blocks.make(self, offered, false);
            }
            blocks.make(self, offered, true);
            (began.elapsed(), blocks.drained)
        };
        finish(work, pace, run_pinned(near, far))
    }
}

impl<O: Orders + Send> Shared for Peer<O> {
    fn round(&mut self, work: &Workload, pace: Pace) -> Option<Duration> {
        let (pool, offered) = (&*self, AtomicUsize::new(0));
        let total = work.offers().count();
        let near = || {
            offer_all(work, pace, |offer| {
                pool.offer(&[offer], work.now());
                offered.fetch_add(1, Ordering::Release);
            })
        };
        let far = || {
            let began = Instant::now();
            let (mut blocks, mut pool) = (Blocks { work, made: 0, drained: 0 }, pool);
            loop {
                let so_far = offered.load(Ordering::Acquire);
                blocks.make(&mut pool, so_far, so_far == total);
                if so_far == total {
                    break;
                }
                spin_loop();
            }
            (began.elapsed(), blocks.drained)
        };
        finish(work, pace, run_pinned(near, far))
    }
}

fn finish(work: &Workload, pace: Pace, round: Option<(Duration, (Duration, usize))>) -> Option<Duration> {
    let (offering, (all, drained)) = round?;
    assert_eq!(drained, work.standing(), "the round before is final");
    Some(if pace == Pace::Full { all } else { offering })
}

impl<O: Orders> Pool for &Peer<O> {
    fn insert(&mut self, offers: &[&Offer], now: NanoMoment) -> usize {
        self.offer(offers, now)
    }

    fn drain(
        &mut self,
        tag: u64,
        _from: NanoMoment,
        until: NanoMoment,
        sink: &mut dyn FnMut(NanoMoment, &[u8]),
    ) -> usize {
        self.take_block(tag, until, sink)
    }

    fn finalize(&mut self, tag: u64, _now: NanoMoment) -> usize {
        self.release(tag)
    }
}

/// One iteration: a round.
pub(crate) fn rounds(txs: usize, mut pool: impl Shared, pace: Pace) -> impl FnMut(u64) -> Duration {
    let mut work = Workload::standing_of(txs);
    move |iterations| {
        let mut total = Duration::ZERO;
        for _ in 0..iterations {
            work.next_round();
            total += pool.round(&work, pace).unwrap_or_default();
        }
        total
    }
}
