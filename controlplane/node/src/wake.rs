//! Waking the control thread: it parks when nothing is due, and whoever has something for it unparks it.
//!
//! Workers wake it after each report. The data plane wakes it through [`WakeStage`], the last stage of a thread: it makes
//! a system call only when something waits and the control thread is parked, and counts each. A node whose control
//! thread has a core of its own and spins never parks, so the stage then does nothing.

use roko_pipeline::assembly::RingGauge;
use roko_pipeline::metrics::{Counters, StageMetrics};
use roko_pipeline::poll::{PollContext, Progress, Stage};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

/// Wakes one control thread.
#[derive(Debug, Default)]
pub struct Waker {
    thread: OnceLock<Thread>,
    parked: AtomicBool,
}

impl Waker {
    /// The calling thread is the one to wake from now on.
    pub fn adopt_current(&self) {
        // A second call would be by the same thread.
        let _ = self.thread.set(std::thread::current());
    }

    /// Wakes the thread if it is parked; returns whether it was.
    pub fn wake(&self) -> bool {
        let parked = self.parked.swap(false, Ordering::SeqCst);
        if parked && let Some(thread) = self.thread.get() {
            thread.unpark();
        }
        parked
    }

    /// Parks the calling thread for `longest` unless `has_work` says that something came since it last looked.
    pub fn park(&self, longest: Duration, has_work: impl Fn() -> bool) {
        self.parked.store(true, Ordering::SeqCst);
        // Whoever puts something in after this look sees `parked` and wakes.
        if !has_work() {
            std::thread::park_timeout(longest);
        }
        self.parked.store(false, Ordering::SeqCst);
    }
}

roko_pipeline::counters!(
    /// Counters of [`WakeStage`].
    WakeCounter {
        /// System calls that woke the control thread.
        Wakes = "wakes",
    }
);

/// See the module.
pub struct WakeStage {
    waker: Arc<Waker>,
    rings: Vec<RingGauge>,
    counters: Counters<WakeCounter>,
}

impl WakeStage {
    /// Wakes when any of `rings` holds something.
    #[must_use]
    pub fn new(waker: Arc<Waker>, rings: Vec<RingGauge>) -> WakeStage {
        WakeStage { waker, rings, counters: Counters::new("wake") }
    }
}

impl Stage for WakeStage {
    fn name(&self) -> &'static str {
        "wake"
    }

    fn poll(&mut self, _cx: &mut PollContext) -> Progress {
        if self.waker.parked.load(Ordering::Relaxed)
            && self.rings.iter().any(|ring| ring.depth() > 0)
            && self.waker.wake()
        {
            self.counters.count(WakeCounter::Wakes);
        }
        Progress::default()
    }

    fn housekeeping(&mut self, _cx: &mut PollContext) {
        self.counters.publish();
    }

    fn metrics(&self) -> Arc<StageMetrics> {
        self.counters.shared()
    }
}

/// Adds the stage that wakes the control thread when the data plane has something for it.
pub fn add_wake_stage(stages: &mut Vec<(&'static str, Box<dyn Stage>)>, gauges: &[RingGauge]) -> Arc<Waker> {
    let waker = Arc::new(Waker::default());
    let to_control = |ring: &&RingGauge| matches!(ring.name, "open_control" | "builder_control");
    let woken_by = gauges.iter().filter(to_control).cloned().collect();
    stages.push(("wake", Box::new(WakeStage::new(Arc::clone(&waker), woken_by))));
    waker
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::time::Instant;

    #[test]
    fn no_wake_is_lost_between_the_look_and_the_park() {
        let waker = Arc::new(Waker::default());
        let work = Arc::new(AtomicU32::new(0));
        let (own, of_worker) = (Arc::clone(&waker), Arc::clone(&work));
        let rounds = 2_000;
        let sleeper = std::thread::spawn(move || {
            own.adopt_current();
            let mut seen = 0;
            let began = Instant::now();
            while seen < rounds {
                own.park(Duration::from_secs(5), || of_worker.load(Ordering::SeqCst) > seen);
                seen = of_worker.load(Ordering::SeqCst);
            }
            began.elapsed()
        });
        for _ in 0..rounds {
            work.fetch_add(1, Ordering::SeqCst);
            waker.wake();
        }
        // One lost wake would cost five seconds.
        assert!(sleeper.join().unwrap() < Duration::from_secs(5));
    }
}
