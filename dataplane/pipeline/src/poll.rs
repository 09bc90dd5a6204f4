//! The one poll loop: every stage of the data plane runs in it, one or many to a thread.
//!
//! A turn polls each stage once, in the order given. The time-stamp counter is read after each poll, and the ticks
//! since the reading before go to exactly one regime of that stage, so that "this stage is slow", "the next stage is
//! slow" and "there was nothing to do" are told apart.

use crate::idle::{Idle, Idler};
use crate::metrics::{Regime, StageMetrics};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use roko_os::tsc::tsc;
use std::sync::Arc;

/// What a stage is told when it is polled.
#[derive(Clone, Copy, Debug)]
pub struct PollContext {
    /// The time-stamp counter, read just before this poll.
    pub tsc: u64,
}

/// What a poll did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Items handled; 0 lets the thread idle.
    pub work: usize,
    /// The stage holds work that the next ring has no room for.
    pub backpressured: bool,
}

impl Progress {
    /// `work` items were handled and nothing is held back.
    #[must_use]
    pub const fn worked(work: usize) -> Progress {
        Progress { work, backpressured: false }
    }
}

/// A stage: it takes from its rings, works, and puts into others. After start it neither allocates, locks, logs nor
/// makes a system call.
pub trait Stage: Send {
    /// Its name, as the metrics and the topology show it.
    fn name(&self) -> &'static str;
    /// Does a bounded amount of work.
    fn poll(&mut self, cx: &mut PollContext) -> Progress;
    /// Publishes its counters; called at randomised intervals.
    fn housekeeping(&mut self, cx: &mut PollContext);
    /// Where its figures are published.
    fn metrics(&self) -> Arc<StageMetrics>;
}

/// A thread's published figures.
#[derive(Debug, Default)]
pub struct LoopMetrics {
    /// Turns over all stages.
    pub turns: AtomicU64,
    /// Ticks spent in the idle strategy.
    pub idle_ticks: AtomicU64,
    /// System calls of the idle strategy.
    pub idle_system_calls: AtomicU64,
}

/// What a turn over all stages came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// No stage had work.
    Idle,
    /// Some had.
    Worked,
    /// They published their figures, whatever else they did.
    KeptHouse,
}

/// Ticks between two housekeepings, on average: about 1 ms on a CPU whose counter runs at 2 to 4 GHz. Randomised by
/// half to both sides so that threads do not publish in step.
const HOUSEKEEPING_TICKS: u64 = 3_000_000;

/// The loop of one thread.
pub struct PollLoop {
    stages: Vec<Box<dyn Stage>>,
    metrics: Vec<Arc<StageMetrics>>,
    regime_ticks: Vec<[u64; 4]>,
    idler: Idler,
    stop: Arc<AtomicBool>,
    shared: Arc<LoopMetrics>,
    turns: u64,
    idle_ticks: u64,
    housekeeping_at: u64,
    random: u64,
}

impl PollLoop {
    /// A loop over `stages`, polled in this order, that ends when `stop` is set.
    #[must_use]
    pub fn new(stages: Vec<Box<dyn Stage>>, idle: Idle, stop: Arc<AtomicBool>) -> PollLoop {
        let metrics = stages.iter().map(|stage| stage.metrics()).collect();
        let regime_ticks = vec![[0; 4]; stages.len()];
        PollLoop {
            stages,
            metrics,
            regime_ticks,
            idler: Idler::new(idle),
            stop,
            shared: Arc::default(),
            turns: 0,
            idle_ticks: 0,
            housekeeping_at: 0,
            random: tsc() | 1,
        }
    }

    /// Where the thread's own figures are published.
    #[must_use]
    pub fn metrics(&self) -> Arc<LoopMetrics> {
        Arc::clone(&self.shared)
    }

    /// Runs until `stop` is set, then publishes once more and returns the stages.
    pub fn run(mut self) -> Vec<Box<dyn Stage>> {
        while !self.stop.load(Ordering::Relaxed) {
            self.turn();
        }
        self.keep_house();
        self.stages
    }

    /// Polls every stage once; idles when none had work.
    pub fn turn(&mut self) -> Turn {
        let mut now = tsc();
        let mut busy = false;
        for (stage, ticks) in self.stages.iter_mut().zip(&mut self.regime_ticks) {
            let progress = stage.poll(&mut PollContext { tsc: now });
            let after = tsc();
            let regime = match (progress.backpressured, progress.work) {
                (true, _) => Regime::Backpressured,
                (false, 0) => Regime::CaughtUp,
                (false, _) => Regime::Processing,
            };
            ticks[regime as usize] += after.wrapping_sub(now);
            now = after;
            busy |= progress.work > 0;
        }
        self.turns += 1;
        let keep_house = now >= self.housekeeping_at;
        if keep_house {
            self.keep_house_from(now);
        }
        if busy {
            self.idler.reset();
        } else {
            self.idler.idle();
            self.idle_ticks += tsc().wrapping_sub(now);
        }
        match (keep_house, busy) {
            (true, _) => Turn::KeptHouse,
            (false, true) => Turn::Worked,
            (false, false) => Turn::Idle,
        }
    }

    /// Publishes every stage's figures now.
    pub fn keep_house(&mut self) {
        self.keep_house_from(tsc());
    }

    fn keep_house_from(&mut self, mut now: u64) {
        for ((stage, ticks), shared) in self.stages.iter_mut().zip(&mut self.regime_ticks).zip(&self.metrics)
        {
            stage.housekeeping(&mut PollContext { tsc: now });
            let after = tsc();
            ticks[Regime::Housekeeping as usize] += after.wrapping_sub(now);
            shared.publish_regimes(ticks);
            now = after;
        }
        self.shared.turns.store(self.turns, Ordering::Relaxed);
        self.shared.idle_ticks.store(self.idle_ticks, Ordering::Relaxed);
        self.shared.idle_system_calls.store(self.idler.system_calls, Ordering::Relaxed);
        // Marsaglia's xorshift64: enough to keep threads out of step, and it costs three shifts.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.housekeeping_at = now + HOUSEKEEPING_TICKS / 2 + self.random % HOUSEKEEPING_TICKS;
    }
}
