//! The lock-free structures between real threads.

use arrayvec::ArrayVec;
use roko_ring::words::{Octets, Words};
use roko_ring::{broadcast, seqlock, spsc, words};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Items of each run; `ROKO_STRESS_ITEMS` lengthens it.
fn items() -> u64 {
    std::env::var("ROKO_STRESS_ITEMS").ok().and_then(|items| items.parse().ok()).unwrap_or(300_000)
}

#[test]
fn spsc_single_items_arrive_in_order() {
    let (mut producer, mut consumer) = spsc::ring::<Box<u64>>(64);
    let count = items();
    let sender = thread::spawn(move || {
        for value in 0..count {
            let mut item = Box::new(value);
            while let Err(back) = producer.push(item) {
                item = back;
                thread::yield_now();
            }
        }
    });
    for expected in 0..count {
        let item = loop {
            match consumer.pop() {
                Some(item) => break item,
                None => thread::yield_now(),
            }
        };
        assert_eq!(*item, expected);
    }
    sender.join().expect("the sender ends");
    assert!(consumer.is_abandoned() && consumer.is_empty());
}

#[test]
fn spsc_bursts_arrive_in_order() {
    let (mut producer, mut consumer) = spsc::ring::<String>(32);
    let gauge = producer.depth_gauge();
    let count = items() / 4;
    let sender = thread::spawn(move || {
        let mut burst = ArrayVec::<String, 24>::new();
        let mut next = 0;
        while next < count || !burst.is_empty() {
            while next < count && burst.len() < 1 + (next % 24) as usize {
                burst.push(next.to_string());
                next += 1;
            }
            if producer.push_burst(&mut burst) == 0 {
                thread::yield_now();
            }
        }
    });
    let (mut expected, mut out) = (0_u64, ArrayVec::<String, 20>::new());
    while expected < count {
        assert!(gauge.depth() <= gauge.capacity());
        consumer.pop_burst(&mut out);
        let each = out.drain(..).collect::<Vec<_>>().into_iter();
        each.for_each(|item| {
            assert_eq!(item, expected.to_string());
            expected += 1;
        });
        let visited = consumer.pop_each(3, |item| {
            assert_eq!(item, expected.to_string());
            expected += 1;
        });
        if visited == 0 {
            thread::yield_now();
        }
    }
    sender.join().expect("the sender ends");
}

#[test]
fn spsc_drops_each_item_once_also_when_a_visitor_panics() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let (mut producer, mut consumer) = spsc::ring(8);
    for _ in 0..8 {
        assert!(producer.push(Counted(Arc::clone(&drops))).is_ok());
    }
    assert!(producer.push(Counted(Arc::clone(&drops))).is_err(), "a full ring gives the item back");
    assert_eq!(drops.load(Ordering::Relaxed), 1);
    let mut visits = 0;
    let visitor = std::panic::AssertUnwindSafe(|| {
        consumer.pop_each(5, |_item| {
            visits += 1;
            assert!(visits < 3, "the visitor gives up");
        })
    });
    assert!(std::panic::catch_unwind(visitor).is_err());
    assert_eq!(drops.load(Ordering::Relaxed), 4, "three visited, one given back");
    assert_eq!(producer.free_slots(), 3);
    drop(producer);
    assert_eq!(consumer.len(), 5);
    drop(consumer);
    assert_eq!(drops.load(Ordering::Relaxed), 9);
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Record {
    count: u64,
    wide: u128,
    octets: Octets<27>,
    array: [u64; 12],
}
words!(Record { count: u64, wide: u128, octets: Octets<27>, array: [u64; 12] });

fn record(count: u64) -> Record {
    Record {
        count,
        wide: u128::from(count) << 64 | u128::from(!count),
        octets: Octets([count as u8; 27]),
        array: [count.wrapping_mul(0x9E37_79B9_7F4A_7C15); 12],
    }
}

#[test]
fn broadcast_readers_see_whole_items_and_count_their_losses() {
    let (mut writer, reader) = broadcast::ring::<Record>(16);
    assert_eq!(Record::WORDS, 1 + 2 + 4 + 12);
    let count = items();
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let mut reader = reader.clone();
            thread::spawn(move || {
                let mut next = 0;
                while next < count {
                    match reader.poll() {
                        broadcast::Poll::Item(item) => {
                            assert_eq!(item, record(next));
                            next += 1;
                        }
                        broadcast::Poll::Lost(lost) => next += lost,
                        broadcast::Poll::Empty => thread::yield_now(),
                    }
                }
                assert_eq!((next, reader.lag()), (count, 0));
                reader.lost_total()
            })
        })
        .collect();
    for value in 0..count {
        writer.publish(&record(value));
        if value % 1024 == 0 {
            thread::yield_now();
        }
    }
    readers.into_iter().for_each(|reader| assert!(reader.join().expect("the reader ends") <= count));
}

#[test]
fn a_lapped_reader_learns_how_many_it_lost() {
    let (mut writer, mut reader) = broadcast::ring::<u64>(16);
    (0..100).for_each(|value| writer.publish(&value));
    assert_eq!(reader.lag(), 100);
    assert_eq!(reader.poll(), broadcast::Poll::Lost(86), "an eighth of the ring after the oldest");
    assert_eq!(reader.poll(), broadcast::Poll::Item(86));
    assert_eq!((87..100).map(|_| reader.poll()).last(), Some(broadcast::Poll::Item(99)));
    assert_eq!((reader.poll(), reader.lost_total()), (broadcast::Poll::Empty, 86));
    assert_eq!(writer.subscribe().poll(), broadcast::Poll::Empty);
}

#[test]
fn page_readers_see_whole_values_that_never_go_back() {
    let (mut writer, page) = seqlock::page(record(0));
    let count = items();
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let page = page.clone();
            thread::spawn(move || {
                let mut last = 0;
                while last < count {
                    let value = page.read();
                    assert_eq!(value, record(value.count));
                    assert!(value.count >= last);
                    last = value.count;
                }
            })
        })
        .collect();
    for value in 1..=count {
        writer.write(&record(value));
    }
    assert_eq!(page.version(), count);
    readers.into_iter().for_each(|reader| reader.join().expect("the reader ends"));
}
