//! The control thread of one node: rings in, replica, rings out.

use crate::catchup::ToControl;
use crate::observe::Observer;
use crate::replica::Replica;
use crate::replica::seen::SeenTx;
use crate::ring_plane::RingPlane;
use crate::wake::Waker;
use crossbeam::channel::Receiver;
use roko_pipeline::block_buffer::BlockBuffer;
use roko_pipeline::lanes::FanIn;
use roko_pipeline::link::{ControlFrame, Seen};
use roko_pipeline::metrics::StageMetrics;
use roko_pipeline::peer::Role;
use roko_pipeline::port::FrameBuf;
use roko_ring::spsc::Consumer;
use roko_time::NodeClock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Messages, and reports of pooled transactions, taken in one turn: bounds how long a timer waits.
const FRAMES_PER_TURN: usize = 64;
const SEEN_PER_TURN: usize = 256;

/// What the control thread takes from.
pub struct ControlInput<B> {
    /// Messages of validators.
    pub frames: FanIn<ControlFrame<B>>,
    /// Transactions that are now in the pool.
    pub seen: Consumer<Seen>,
    /// Built blocks.
    pub built: Consumer<Box<BlockBuffer>>,
    /// The order stage's figures: how much waits in the pool.
    pub order_metrics: Arc<StageMetrics>,
    /// Questions and blocks of the catch-up.
    pub catchup: Receiver<ToControl>,
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
    /// Runs on a thread of its own, which `pin` pins, until `stop` is set.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn spawn(
        self,
        name: &str,
        pin: impl FnOnce() + Send + 'static,
        stop: &Arc<AtomicBool>,
    ) -> std::io::Result<JoinHandle<()>> {
        let stop = Arc::clone(stop);
        std::thread::Builder::new().name(name.into()).spawn(move || {
            pin();
            self.run(&stop);
        })
    }

    /// Runs until `stop` is set. A replica that has stopped for good stays, so that its state can be read.
    pub fn run(mut self, stop: &AtomicBool) {
        self.waker.adopt_current();
        while !stop.load(Ordering::Relaxed) {
            if !self.turn() {
                let longest = self.replica.idle_ns().map_or(PARK_MAX, Duration::from_nanos).min(PARK_MAX);
                let input = &self.input;
                let waits =
                    || !input.frames.is_empty() || !input.built.is_empty() || !input.catchup.is_empty();
                self.waker.park(longest, waits);
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
                self.observer.peers.heard(from, frame.kind, frame.received.moment);
                self.replica.on_message(from, frame.received.moment, frame.message());
            }
            work += 1;
        }
        while let Some(buffer) = self.input.built.pop() {
            self.replica.on_built(buffer);
            work += 1;
        }
        while self.replica.takes_blocks()
            && let Ok(asked) = self.input.catchup.try_recv()
        {
            self.replica.on_catchup(asked);
            work += 1;
        }
        let waiting = self.input.order_metrics.value("pending") > 0;
        work += self.replica.poll(waiting);
        work > 0
    }

    fn note_seen(&mut self, seen: &Seen) {
        let tx = seen_tx(seen);
        if seen.own {
            self.observer.note_pooled(seen.pooled.nanos_since(tx.received));
        } else {
            self.observer.peers.stamped(&seen.stamp, seen.received);
        }
        self.replica.on_seen(seen.id, tx, &seen.root);
    }
}

/// What is remembered of a pooled transaction. A batch of this node's own stamps carries its first transaction's receive
/// time; later ones came later, each when its own stamp says.
fn seen_tx(seen: &Seen) -> SeenTx {
    let received = if seen.own { seen.stamp.time } else { seen.received };
    SeenTx { sender: seen.sender, stamp: seen.stamp, received }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::seen::{PlausibleWindow, StampPlausibility};
    use roko_wire::nano::ClockSource;
    use roko_wire::stamp::{SignedRoot, Stamp};
    use roko_wire::{Address, Hash32, NanoMoment, TxId, ValidatorIndex};

    #[test]
    fn a_node_that_was_held_up_within_a_batch_finds_its_own_stamps_plausible() {
        let ingress = ValidatorIndex(0);
        let (first, later) = (NanoMoment(1_000_000_000), NanoMoment(1_900_000_000));
        let mut seen = Seen {
            id: TxId([1; 32]),
            sender: Address([2; 20]),
            stamp: Stamp { time: later, bound_ns: 10, source: ClockSource::System.into(), ingress },
            root: SignedRoot { ingress, leaves: 2, root: Hash32([3; 32]), signature: [4; 64] },
            pooled: later,
            received: first,
            valid_until: NanoMoment::MAX,
            own: true,
        };
        let implausible = |seen: &Seen| {
            let window = PlausibleWindow { delay_ns: 500_000_000, precision_ns: 50_000_000 };
            let mut stamps = StampPlausibility::default();
            stamps.judge(&seen.stamp, seen_tx(seen).received, window);
            stamps.implausible
        };
        assert_eq!(implausible(&seen), 0);
        seen.own = false;
        assert_eq!(implausible(&seen), 1, "another node's stamp of a time that has not come yet");
    }
}
