//! The lock-free structures under loom: every interleaving, and every value a relaxed load may return.
//!
//! The sources are compiled once more here, beneath a `sync` module of loom's types.
#![allow(dead_code, unreachable_pub, missing_docs)]

mod sync {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
}
#[path = "../src/broadcast.rs"]
mod broadcast;
#[path = "../src/seqlock.rs"]
mod seqlock;
#[path = "../src/spsc.rs"]
mod spsc;
#[path = "../src/stamped.rs"]
mod stamped;
#[path = "../src/words.rs"]
mod words;

use arrayvec::ArrayVec;
use loom::thread;

/// Explores every schedule with at most `preemptions` forced switches, which bounds the run to seconds.
fn explore(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

/// Items that own memory: a lost, doubled or torn one is a leak or a double free, which loom's Arc reports.
type Item = loom::sync::Arc<u32>;

fn item(value: u32) -> Item {
    loom::sync::Arc::new(value)
}

#[test]
fn spsc_moves_each_item_once_in_order() {
    explore(3, || {
        let (mut producer, mut consumer) = spsc::ring(2);
        let sender = thread::spawn(move || {
            for value in 0..3 {
                let mut pending = item(value);
                while let Err(back) = producer.push(pending) {
                    pending = back;
                    thread::yield_now();
                }
            }
        });
        let mut next = 0;
        while next < 3 {
            match consumer.pop() {
                Some(item) => {
                    assert_eq!(*item, next);
                    next += 1;
                }
                None => thread::yield_now(),
            }
        }
        sender.join().expect("the sender ends");
        assert!(consumer.pop().is_none() && consumer.is_abandoned());
    });
}

#[test]
fn spsc_bursts_wrap_and_leave_the_rest() {
    explore(2, || {
        let (mut producer, mut consumer) = spsc::ring(2);
        let sender = thread::spawn(move || {
            let mut burst: ArrayVec<Item, 3> = (0..3).map(item).collect();
            while !burst.is_empty() {
                if producer.push_burst(&mut burst) == 0 {
                    thread::yield_now();
                }
            }
        });
        let mut got = ArrayVec::<Item, 3>::new();
        while !got.is_full() {
            if consumer.pop_burst(&mut got) == 0 {
                thread::yield_now();
            }
        }
        assert!(got.iter().enumerate().all(|(at, item)| at as u32 == **item));
        sender.join().expect("the sender ends");
    });
}

/// Either end may go last; the items left are dropped by it, and by it alone.
#[test]
fn spsc_drops_what_is_left() {
    explore(3, || {
        let (mut producer, mut consumer) = spsc::ring(4);
        let gauge = producer.depth_gauge();
        let sender = thread::spawn(move || (0..3).for_each(|value| drop(producer.push(item(value)))));
        let first = consumer.pop();
        assert!(first.is_none_or(|item| *item == 0));
        assert!(gauge.depth() <= 3);
        drop(consumer);
        sender.join().expect("the sender ends");
    });
}

/// Once the producer is seen gone, everything it pushed is visible.
#[test]
fn spsc_abandoned_and_empty_means_the_end() {
    explore(3, || {
        let (mut producer, mut consumer) = spsc::ring(2);
        let sender = thread::spawn(move || producer.push(item(7)).is_ok());
        if consumer.is_abandoned() {
            assert_eq!(consumer.pop().map(|item| *item), Some(7));
        }
        assert!(sender.join().expect("the sender ends"));
    });
}

/// Two words that must match: a torn read shows as a difference.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pair {
    a: u64,
    b: u64,
}
words!(Pair { a: u64, b: u64 });

fn pair(value: u64) -> Pair {
    Pair { a: value, b: !value }
}

#[test]
fn broadcast_items_are_whole_and_losses_add_up() {
    explore(3, || {
        let (mut writer, mut reader) = broadcast::ring(2);
        let sender = thread::spawn(move || (0..4).for_each(|value| writer.publish(&pair(value))));
        let mut seen = 0;
        let mut poll = |reader: &mut broadcast::Reader<Pair>| match reader.poll() {
            broadcast::Poll::Item(item) => {
                assert_eq!(item, pair(seen));
                seen += 1;
                true
            }
            broadcast::Poll::Lost(lost) => {
                assert!(lost > 0);
                seen += lost;
                true
            }
            broadcast::Poll::Empty => false,
        };
        poll(&mut reader);
        poll(&mut reader);
        sender.join().expect("the sender ends");
        while poll(&mut reader) {}
        assert_eq!(seen, 4, "each item is either seen or counted as lost");
    });
}

#[test]
fn page_reads_are_whole_and_never_go_back() {
    explore(3, || {
        let (mut writer, page) = seqlock::page(pair(0));
        let sender = thread::spawn(move || (1..=5).for_each(|value| writer.write(&pair(value))));
        let mut last = 0;
        for _ in 0..2 {
            if let Some(value) = page.try_read() {
                assert_eq!(value, pair(value.a));
                assert!(value.a >= last);
                last = value.a;
            }
        }
        sender.join().expect("the sender ends");
        assert_eq!(page.read(), pair(5));
    });
}
