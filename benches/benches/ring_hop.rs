//! The SPSC ring between two stages: latency of a hop between two cores, and items a second.
//!
//! Peers: rtrb, and crossbeam's ArrayQueue and channel, which allow many producers. Floor: a hop takes at most 1.1
//! times rtrb's. All rings hold 1,024 items of 8 bytes, as the rings between stages hold pointers.

use arrayvec::ArrayVec;
use core::hint::spin_loop;
use crossbeam::channel;
use crossbeam::queue::ArrayQueue;
use roko_benches::two_threads::run_pinned;
use roko_benches::{Comparison, Report};
use std::sync::Arc;
use std::time::{Duration, Instant};

const DEPTH: usize = 1024;
const BURST: usize = 32;

/// The sending end of a ring, as all of them have it.
trait Push: Send {
    fn push(&mut self, item: u64) -> bool;
    /// Sends items numbered from `from`, at most `count` and at most a burst; returns how many.
    fn push_burst(&mut self, from: u64, count: usize) -> usize;
}

/// The receiving end.
trait Pop: Send {
    fn pop(&mut self) -> Option<u64>;
    /// Receives up to a burst and returns how many; adds them up in `sum`.
    fn pop_burst(&mut self, sum: &mut u64) -> usize;
}

impl Push for roko_ring::spsc::Producer<u64> {
    fn push(&mut self, item: u64) -> bool {
        roko_ring::spsc::Producer::push(self, item).is_ok()
    }
    fn push_burst(&mut self, from: u64, count: usize) -> usize {
        let mut burst: ArrayVec<u64, BURST> = (from..from + count as u64).collect();
        roko_ring::spsc::Producer::push_burst(self, &mut burst)
    }
}

impl Pop for roko_ring::spsc::Consumer<u64> {
    fn pop(&mut self) -> Option<u64> {
        roko_ring::spsc::Consumer::pop(self)
    }
    fn pop_burst(&mut self, sum: &mut u64) -> usize {
        self.pop_each(BURST, |item| *sum = sum.wrapping_add(item))
    }
}

impl Push for rtrb::Producer<u64> {
    fn push(&mut self, item: u64) -> bool {
        rtrb::Producer::push(self, item).is_ok()
    }
    fn push_burst(&mut self, from: u64, count: usize) -> usize {
        let room = if self.cached_slots() >= count { count } else { self.slots().min(count) };
        let Ok(chunk) = self.write_chunk_uninit(room) else { return 0 };
        chunk.fill_from_iter(from..from + room as u64)
    }
}

impl Pop for rtrb::Consumer<u64> {
    fn pop(&mut self) -> Option<u64> {
        rtrb::Consumer::pop(self).ok()
    }
    fn pop_burst(&mut self, sum: &mut u64) -> usize {
        let ready = if self.cached_slots() >= BURST { BURST } else { self.slots().min(BURST) };
        let Ok(chunk) = self.read_chunk(ready) else { return 0 };
        *sum = chunk.into_iter().fold(*sum, u64::wrapping_add);
        ready
    }
}

impl Push for Arc<ArrayQueue<u64>> {
    fn push(&mut self, item: u64) -> bool {
        ArrayQueue::push(self, item).is_ok()
    }
    fn push_burst(&mut self, from: u64, count: usize) -> usize {
        (from..from + count as u64).take_while(|item| ArrayQueue::push(self, *item).is_ok()).count()
    }
}

impl Pop for Arc<ArrayQueue<u64>> {
    fn pop(&mut self) -> Option<u64> {
        ArrayQueue::pop(self)
    }
    fn pop_burst(&mut self, sum: &mut u64) -> usize {
        let items = (0..BURST).map_while(|_| ArrayQueue::pop(self));
        items.inspect(|item| *sum = sum.wrapping_add(*item)).count()
    }
}

impl Push for channel::Sender<u64> {
    fn push(&mut self, item: u64) -> bool {
        self.try_send(item).is_ok()
    }
    fn push_burst(&mut self, from: u64, count: usize) -> usize {
        (from..from + count as u64).take_while(|item| self.try_send(*item).is_ok()).count()
    }
}

impl Pop for channel::Receiver<u64> {
    fn pop(&mut self) -> Option<u64> {
        self.try_recv().ok()
    }
    fn pop_burst(&mut self, sum: &mut u64) -> usize {
        self.try_iter().take(BURST).inspect(|item| *sum = sum.wrapping_add(*item)).count()
    }
}

// Each end is moved to the thread that uses it: two ends beside each other on one stack would share a cache line.

/// One round trip an iteration: an item there by one ring and back by another. Half of it is a hop.
fn ping_pong<S: Push, R: Pop>(make: impl Fn() -> (S, R)) -> impl FnMut(u64) -> Duration {
    fn wait(ring: &mut impl Pop) -> u64 {
        loop {
            match ring.pop() {
                Some(item) => return item,
                None => spin_loop(),
            }
        }
    }
    move |iterations| {
        let ((mut there, mut echo_in), (mut echo_out, mut back)) = (make(), make());
        let near = move || {
            let began = Instant::now();
            for number in 0..iterations {
                assert!(there.push(number), "one item is under way");
                assert_eq!(wait(&mut back), number);
            }
            began.elapsed()
        };
        let far = move || {
            for _ in 0..iterations {
                let item = wait(&mut echo_in);
                assert!(echo_out.push(item), "one item is under way");
            }
        };
        run_pinned(near, far).map_or(Duration::ZERO, |(took, ())| took)
    }
}

/// 1,024 items an iteration from one thread to another, one by one.
fn singly<S: Push, R: Pop>(make: impl Fn() -> (S, R)) -> impl FnMut(u64) -> Duration {
    move |iterations| {
        let ((mut push, mut pop), items) = (make(), iterations * DEPTH as u64);
        let near = move || {
            let began = Instant::now();
            for item in 0..items {
                while !push.push(item) {
                    spin_loop();
                }
            }
            began.elapsed()
        };
        let far = move || {
            let (mut received, mut sum) = (0, 0_u64);
            while received < items {
                match pop.pop() {
                    Some(item) => (received, sum) = (received + 1, sum.wrapping_add(item)),
                    None => spin_loop(),
                }
            }
            sum
        };
        check(items, run_pinned(near, far))
    }
}

/// 1,024 items an iteration, in bursts of 32.
fn in_bursts<S: Push, R: Pop>(make: impl Fn() -> (S, R)) -> impl FnMut(u64) -> Duration {
    move |iterations| {
        let ((mut push, mut pop), items) = (make(), iterations * DEPTH as u64);
        let near = move || {
            let (mut sent, began) = (0, Instant::now());
            while sent < items {
                let count = push.push_burst(sent, BURST.min((items - sent) as usize));
                sent += count as u64;
                if count == 0 {
                    spin_loop();
                }
            }
            began.elapsed()
        };
        let far = move || {
            let (mut received, mut sum) = (0, 0);
            while received < items {
                let count = pop.pop_burst(&mut sum);
                received += count as u64;
                if count == 0 {
                    spin_loop();
                }
            }
            sum
        };
        check(items, run_pinned(near, far))
    }
}

fn check(items: u64, result: Option<(Duration, u64)>) -> Duration {
    let Some((took, sum)) = result else { return Duration::ZERO };
    assert_eq!(sum, (0..items).fold(0, u64::wrapping_add), "every item arrives once");
    took
}

fn array_queue() -> (Arc<ArrayQueue<u64>>, Arc<ArrayQueue<u64>>) {
    let queue = Arc::new(ArrayQueue::new(DEPTH));
    (Arc::clone(&queue), queue)
}

fn main() {
    let mut report = Report::new("ring_hop", "none; memory between two threads");
    let mut criterion = Report::criterion();
    if roko_benches::two_threads::cores().len() < 2 {
        println!("ring_hop needs two cores: two threads on one measure the scheduler");
        return;
    }
    let own = || roko_ring::spsc::ring::<u64>(DEPTH);
    let rtrb = || rtrb::RingBuffer::<u64>::new(DEPTH);
    let channel = || channel::bounded::<u64>(DEPTH);
    Comparison::new("ring_hop/ping_pong=2_hops", 2)
        .case("roko_spsc", ping_pong(own))
        .case("rtrb", ping_pong(rtrb))
        .floor_ratio(1.1)
        .case("crossbeam_array_queue", ping_pong(array_queue))
        .case("crossbeam_channel", ping_pong(channel))
        .run(&mut criterion, &mut report);
    Comparison::new("ring_throughput/burst=1", DEPTH as u64)
        .case("roko_spsc", singly(own))
        .case("rtrb", singly(rtrb))
        .case("crossbeam_array_queue", singly(array_queue))
        .case("crossbeam_channel", singly(channel))
        .run(&mut criterion, &mut report);
    Comparison::new("ring_throughput/burst=32", DEPTH as u64)
        .case("roko_spsc", in_bursts(own))
        .case("rtrb", in_bursts(rtrb))
        .case("crossbeam_array_queue", in_bursts(array_queue))
        .case("crossbeam_channel", in_bursts(channel))
        .run(&mut criterion, &mut report);
    report.finish(criterion);
}
