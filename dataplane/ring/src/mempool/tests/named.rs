//! The cases worth a name.

use crate::mempool::*;
use roko_wire::{Address, NanoMoment, TxId};

const START: u128 = 1_800_000_000_000_000_000;

fn tx(number: u64, sender: u8, nonce: u64, time: u128) -> NewTx<'static, ()> {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_be_bytes());
    NewTx {
        id: TxId(id),
        sender: Address([sender; 20]),
        nonce,
        time: NanoMoment(time),
        tie_break: 0,
        fee: 1_000,
        gas: 21_000,
        valid_until: NanoMoment::MAX,
        meta: (),
        bytes: &[1; 100],
    }
}

fn pool(txs: &[NewTx<'_, ()>]) -> Mempool<()> {
    let mut pool = Mempool::new(&Config::for_txs(1 << 12, 1)).expect("the sizes fit");
    txs.iter().for_each(|tx| assert!(pool.insert(tx, NanoMoment(START)).is_ok()));
    pool
}

const ALL: Limits = Limits { txs: usize::MAX, bytes: usize::MAX, gas: u64::MAX };

fn drain(pool: &mut Mempool<()>, from: u128, watermark: u128) -> (Vec<(u64, u128)>, DrainReport) {
    let span = Span { from: NanoMoment(from), watermark: NanoMoment(watermark), after: NanoMoment(from - 1) };
    let mut out = Vec::new();
    let report = pool.drain(1, span, ALL, |tx| {
        let number = u64::from_be_bytes(core::array::from_fn(|at| tx.id.0[at]));
        out.push((number, tx.moment.0 - START));
        Verdict::Take
    });
    (out, report)
}

#[test]
fn a_chain_that_arrived_backwards_follows_its_first_nonce() {
    // Sender 1's nonces 2, 1, 0 are stamped in that order, sender 2 between and after.
    let mut pool = pool(&[
        tx(12, 1, 2, START + 10),
        tx(11, 1, 1, START + 20),
        tx(20, 2, 0, START + 25),
        tx(10, 1, 0, START + 30),
        tx(21, 2, 1, START + 31),
    ]);
    let (order, report) = drain(&mut pool, START, START + 1_000);
    assert_eq!(order, [(20, 25), (10, 30), (11, 31), (12, 32), (21, 33)]);
    assert_eq!((report.displaced, report.held, report.moved), (2, 0, 3));
}

#[test]
fn a_collision_at_the_watermark_drops_nothing() {
    let mut pool = pool(&[tx(1, 1, 0, START + 8), tx(2, 2, 0, START + 8), tx(3, 3, 0, START + 8)]);
    let (order, report) = drain(&mut pool, START, START + 10);
    assert_eq!(order, [(1, 8), (2, 9)]);
    assert_eq!((report.ended, report.reached.0), (Ended::MomentsUsed, START + 8));
    assert_eq!(pool.stats().pending, 1);
    // It is below the next block's start now: stamped anew, it gets in.
    let mut late = Vec::new();
    pool.take_late(NanoMoment(START + 10), 8, |tx| late.push(tx.id));
    assert_eq!(late, [tx(3, 3, 0, 0).id]);
    assert!(pool.restamp(&late[0], NanoMoment(START + 11), 0, ()));
    assert_eq!(drain(&mut pool, START + 10, START + 20).0, [(3, 11)]);
}

#[test]
fn a_gap_in_the_nonces_holds_what_is_behind_it() {
    let mut pool = pool(&[tx(1, 1, 0, START + 1), tx(3, 1, 2, START + 2)]);
    let (order, report) = drain(&mut pool, START, START + 100);
    assert_eq!((order, report.held), (vec![(1, 1)], 1));
}

#[test]
fn one_transaction_above_the_limits_does_not_block_the_line() {
    let mut pool = pool(&[NewTx { gas: u64::MAX, ..tx(1, 1, 0, START + 1) }, tx(2, 2, 0, START + 2)]);
    let span = Span { from: NanoMoment(START), watermark: NanoMoment(START + 9), after: NanoMoment(START) };
    let limits = Limits { gas: 30_000_000, ..ALL };
    let report = pool.drain(1, span, limits, |_| Verdict::Take);
    assert_eq!((report.txs, report.unfit, report.ended), (1, 1, Ended::Watermark));
}

#[test]
fn competing_blocks_hold_a_transaction_until_the_last_lets_go() {
    let mut pool = pool(&[tx(1, 1, 0, START + 1)]);
    let id = tx(1, 1, 0, 0).id;
    assert!((0..4).all(|tag| pool.mark_in_flight(&id, tag)));
    assert!(!pool.mark_in_flight(&id, 4), "a fifth tag is refused");
    assert_eq!((0..3).map(|tag| pool.put_back(tag)).sum::<usize>(), 0);
    assert_eq!(pool.put_back(3), 1);
    assert!(pool.mark_in_flight(&id, 9) && pool.mark_in_flight(&id, 10));
    assert_eq!(pool.finalize(9, NanoMoment(START)), 1);
    assert_eq!((pool.put_back(10), pool.stats().tags_open, pool.is_remembered(&id)), (0, 0, true));
    assert_eq!(pool.insert(&tx(1, 1, 0, START + 1), NanoMoment(START)), Err(Refused::RecentlyFinal));
}

/// A validator that stamps everything alike, and forged times, cost as much as honest ones: the run would
/// take minutes if a crowded tick cost O(n) a transaction.
#[test]
fn a_crowded_tick_and_forged_times_stay_cheap() {
    let count = 60_000_u64;
    let mut pool = Mempool::new(&Config::for_txs(1 << 18, 1)).expect("the sizes fit");
    for number in 0..count {
        let time = match number % 4 {
            0 => 0,
            1 => u128::MAX - 1,
            _ => START + 5,
        };
        let mut one = tx(number, 0, 0, time);
        one.sender.0[..8].copy_from_slice(&number.to_be_bytes());
        one.tie_break = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        pool.insert(&one, NanoMoment(START)).expect("there is room");
    }
    let mut total = 0;
    for block in 0..300 {
        let span = Span {
            from: NanoMoment(START),
            watermark: NanoMoment(START + 1_000_000),
            after: NanoMoment(START),
        };
        total += pool.drain(block, span, Limits { txs: 100, ..ALL }, |_| Verdict::Take).txs;
        pool.finalize(block, NanoMoment(START));
    }
    assert_eq!(total as u64, count / 2);
    assert_eq!(pool.stats().pending as u64, count / 2);
}

#[test]
fn a_transaction_is_copied_into_its_slot_and_read_there_until_it_is_final() {
    let bytes = [7; 200];
    let one = NewTx { bytes: &bytes, ..tx(1, 1, 0, START + 1) };
    let mut pool = pool(&[one]);
    let place = |pool: &Mempool<()>| pool.get(&one.id).map(|view| view.bytes.as_ptr());
    let slot = place(&pool).expect("it is pooled");
    assert!(!bytes.as_ptr_range().contains(&slot), "the frame may go");
    let span = Span { from: NanoMoment(START), watermark: NanoMoment::MAX, after: NanoMoment(START) };
    let mut shown = None;
    pool.drain(1, span, ALL, |drained| {
        shown = Some((drained.bytes.as_ptr(), drained.bytes.to_vec()));
        Verdict::Take
    });
    assert_eq!(shown, Some((slot, bytes.to_vec())), "a drain shows the slot itself");
    pool.put_back(1);
    assert!(pool.restamp(&one.id, NanoMoment(START + 9), 0, ()));
    assert_eq!(place(&pool), Some(slot), "neither flight nor a new stamp moves it");
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let good = Config::for_txs(100, 1);
    assert_eq!(good.txs_max(), 100);
    assert_eq!(good.check(), Ok(()));
    assert_eq!(Config { ticks: 100, ..good.clone() }.check(), Err(ConfigError::Ticks(100)));
    assert_eq!(Config { tick_ns_log2: 70, ..good.clone() }.check(), Err(ConfigError::Tick(70)));
    assert_eq!(Config { tags_max: 0, ..good.clone() }.check(), Err(ConfigError::Tags(0)));
    assert_eq!(Config { remembered_max: 0, ..good.clone() }.check(), Err(ConfigError::Zero));
    let classes = [good.classes[1], good.classes[0], good.classes[2]];
    assert_eq!(Config { classes, ..good }.check(), Err(ConfigError::Classes));
}
