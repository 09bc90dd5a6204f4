//! The control thread of one node: rings in, replica, rings out.

use crate::observe::Observer;
use crate::replica::Replica;
use crate::replica::seen::SeenTx;
use crate::ring_plane::RingPlane;
use crate::wake::Waker;
use roko_pipeline::block_buffer::BlockBuffer;
use roko_pipeline::link::{ControlFrame, Seen};
use roko_pipeline::metrics::StageMetrics;
use roko_pipeline::peer::Role;
use roko_pipeline::port::FrameBuf;
use roko_ring::spsc::Consumer;
use roko_time::NodeClock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Messages, and reports of pooled transactions, taken in one turn: bounds how long a timer waits.
const FRAMES_PER_TURN: usize = 64;
const SEEN_PER_TURN: usize = 256;

/// What the control thread takes from.
pub struct ControlInput<B> {
    /// Messages of validators.
    pub frames: Consumer<ControlFrame<B>>,
    /// Transactions that are now in the pool.
    pub seen: Consumer<Seen>,
    /// Built blocks.
    pub built: Consumer<Box<BlockBuffer>>,
    /// The order stage's figures: how much waits in the pool.
    pub order_metrics: Arc<StageMetrics>,
}

/// The control thread's loop.
pub struct ControlLoop<B> {
    /// What it decides with.
    pub replica: Replica<RingPlane>,
    /// What it takes from.
    pub input: ControlInput<B>,
    /// The node's clock.
    pub clock: NodeClock,
    /// What it shows.
    pub observer: Arc<Observer>,
    /// Wakes it.
    pub waker: Arc<Waker>,
}

/// Longest park: bounds how late a change of the pool's level and the stop flag are seen.
const PARK_MAX: Duration = Duration::from_millis(2);

impl<B: FrameBuf> ControlLoop<B> {
    /// Runs until `stop` is set. A replica that has stopped for good stays, so that its state can be read.
    pub fn run(mut self, stop: &AtomicBool) {
        self.waker.adopt_current();
        while !stop.load(Ordering::Relaxed) {
            if !self.turn() {
                let longest = self.replica.idle_ns().map_or(PARK_MAX, Duration::from_nanos).min(PARK_MAX);
                let input = &self.input;
                self.waker.park(longest, || !input.frames.is_empty() || !input.built.is_empty());
            }
        }
    }

    fn turn(&mut self) -> bool {
        let reading = self.clock.now();
        self.replica.set_clock(reading);
        let mut work = 0;
        for _ in 0..SEEN_PER_TURN {
            let Some(seen) = self.input.seen.pop() else { break };
            self.note_seen(&seen);
            work += 1;
        }
        for _ in 0..FRAMES_PER_TURN {
            let Some(frame) = self.input.frames.pop() else { break };
            if let Role::Validator(from) = frame.role {
                self.replica.on_message(from, frame.received.moment, frame.message());
            }
            work += 1;
        }
        while let Some(buffer) = self.input.built.pop() {
            self.replica.on_built(buffer);
            work += 1;
        }
        let waiting = self.input.order_metrics.value("pending") > 0;
        work += self.replica.poll(waiting);
        work > 0
    }

    fn note_seen(&mut self, seen: &Seen) {
        if seen.own {
            self.observer.note_pooled(seen.pooled.nanos_since(seen.received));
        }
        let tx = SeenTx { sender: seen.sender, stamp: seen.stamp, root: seen.root, received: seen.received };
        self.replica.on_seen(seen.id, tx);
    }
}
