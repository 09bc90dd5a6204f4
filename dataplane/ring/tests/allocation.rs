//! A million transactions through the pool, the rings and the page allocate nothing after construction.

use arrayvec::ArrayVec;
use roko_ring::mempool::{Config, Limits, Mempool, NewTx, Span, Verdict};
use roko_ring::{broadcast, seqlock, spsc};
use roko_wire::{Address, NanoMoment, TxId};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts every allocation of the process; this file therefore has one test only.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: each call goes to the system's allocator unchanged; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `GlobalAlloc::dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const START: u128 = 1_800_000_000_000_000_000;
const BLOCK: u64 = 5_000;

/// A transaction by its number; every sender's nonces ascend, stamps are 1 us apart and some collide.
fn tx(number: u64, bytes: &[u8]) -> NewTx<'_, [u64; 30]> {
    let (mut id, mut sender) = ([0; 32], [0; 20]);
    id[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    sender[..8].copy_from_slice(&(number % 997).to_le_bytes());
    let time = START + u128::from(number - number % 3) * 1_000;
    NewTx {
        id: TxId(id),
        sender: Address(sender),
        nonce: number / 997,
        time: NanoMoment(time),
        tie_break: number.reverse_bits(),
        fee: 1_000 + u128::from(number % 100),
        gas: 21_000,
        valid_until: NanoMoment(time + 2_000_000_000),
        meta: [number; 30],
        bytes,
    }
}

#[test]
fn a_million_transactions_allocate_nothing() {
    let mut config = Config::for_txs(1 << 14, 3);
    config.remembered_max = 30_000;
    let mut pool = Mempool::new(&config).expect("the sizes fit");
    let (mut producer, mut consumer) = spsc::ring::<u64>(64);
    let (mut writer, mut reader) = broadcast::ring::<u64>(64);
    let (mut page_writer, page) = seqlock::page(0_u64);
    let bytes = [7; 1232];
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let (mut total, mut after, mut from) = (0, NanoMoment(START - 1), NanoMoment(START));
    for block in 0..200 {
        for number in block * BLOCK..(block + 1) * BLOCK {
            let tx = tx(number, &bytes[..100 + (number % 80) as usize]);
            pool.insert(&tx, tx.time).expect("the pool has room");
        }
        let watermark = NanoMoment(START + u128::from((block + 1) * BLOCK) * 1_000);
        // The first of a block share their time with the last of the one before, and are stamped anew.
        let mut late = ArrayVec::<TxId, 8>::new();
        pool.take_late(from, 8, |tx| late.push(tx.id));
        late.iter().for_each(|id| assert!(pool.restamp(id, watermark.saturating_sub(500), 0, [0; 30])));
        let mut burst = ArrayVec::<u64, 32>::new();
        let report = pool.drain(
            block,
            Span { from, watermark, after },
            Limits { txs: 10_000, bytes: 4 << 20, gas: u64::MAX },
            |tx| {
                burst.push(tx.nonce);
                if burst.is_full() {
                    producer.push_burst(&mut burst);
                    consumer.pop_each(32, |nonce| writer.publish(&nonce));
                    burst.clear();
                }
                Verdict::Take
            },
        );
        page_writer.write(&report.last_moment.nanos_since(from));
        while reader.poll() != broadcast::Poll::Empty {}
        if block % 7 == 0 {
            // The block is abandoned: another with the same transactions takes its place.
            pool.put_back(block);
            let again = Span { from, watermark, after };
            let limits = Limits { txs: 10_000, bytes: 4 << 20, gas: u64::MAX };
            assert_eq!(pool.drain(block, again, limits, |_| Verdict::Take).txs, report.txs);
        }
        total += report.txs;
        (after, from) = (report.last_moment, watermark);
        assert_eq!(pool.finalize(block, watermark), report.txs);
        pool.expire(watermark, 10_000, |_| ());
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "allocations after construction");
    assert_eq!((total, page.version()), (1_000_000, 200));
    let counters = pool.stats().counters;
    assert!(counters.moments_moved > 600_000 && counters.displaced > 300 && counters.restamped > 100);
}
