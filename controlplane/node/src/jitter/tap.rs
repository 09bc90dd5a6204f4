//! Poll threads that carry the node's stages, watched like an empty loop: for measurements only, since a watched thread
//! spins and asks the kernel after each gap.

use super::{Sample, TickRate, Watch, Watched, watch};
use roko_pipeline::poll::{PollLoop, Turn};
use roko_ring::spsc::{Consumer, ring};
use roko_tuning::jitter::Activity;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Gaps of a thread between two calls of [`Tap::drain`], at most.
const GAPS: usize = 1 << 14;

/// A thread, and what was seen of it.
struct Tapped {
    name: String,
    core: usize,
    gaps: Consumer<Sample>,
    seen: Vec<Sample>,
    watched: Option<Result<Watched, String>>,
}

/// What was seen of a thread once it has ended.
pub struct TappedThread {
    /// Its name in the profile.
    pub name: String,
    /// Its core.
    pub core: usize,
    /// Its gaps.
    pub gaps: Vec<Sample>,
    /// How the watch went; why there was none otherwise.
    pub watched: Result<Watched, String>,
}

/// Watches the poll threads that are started with it.
pub struct Tap {
    above_ns: u64,
    rate: TickRate,
    threads: Mutex<Vec<Tapped>>,
}

impl core::fmt::Debug for Tap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tap").field("above_ns", &self.above_ns).finish_non_exhaustive()
    }
}

impl Tap {
    /// A tap that tells of gaps from `above_ns` nanoseconds on.
    #[must_use]
    pub fn new(above_ns: u64) -> Tap {
        Tap { above_ns, rate: TickRate::measure(), threads: Mutex::default() }
    }

    /// How fast the counter of the samples runs.
    #[must_use]
    pub const fn rate(&self) -> TickRate {
        self.rate
    }

    /// Runs the loop on the calling thread, which is pinned to `core`, until `stop` is set.
    pub(crate) fn run(&self, name: &str, core: usize, mut poll: PollLoop, stop: &AtomicBool) {
        let (mut out, gaps) = ring(GAPS);
        let place = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            threads.push(Tapped { name: name.to_owned(), core, gaps, seen: Vec::new(), watched: None });
            threads.len() - 1
        };
        let plan = Watch { core, above_ns: self.above_ns, length: Duration::MAX };
        let turn = |_| match poll.turn() {
            Turn::Idle => Activity::Idle,
            Turn::Worked => Activity::Work,
            Turn::KeptHouse => Activity::Housekeeping,
        };
        let watched = watch(&plan, self.rate, turn, &mut out, stop).map_err(|error| error.to_string());
        let unwatched = watched.is_err();
        if let Some(thread) = self.threads.lock().unwrap_or_else(PoisonError::into_inner).get_mut(place) {
            thread.watched = Some(watched);
        }
        if unwatched {
            poll.run();
        } else {
            poll.keep_house();
        }
    }

    /// Takes the gaps that have come over; returns how many each thread has had so far. To be called a few times a second.
    pub fn drain(&self) -> Vec<(String, usize)> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = threads.iter_mut().map(|thread| {
            thread.seen.extend(std::iter::from_fn(|| thread.gaps.pop()));
            (thread.name.clone(), thread.seen.len())
        });
        counts.collect()
    }

    /// What was seen of every thread, once all have ended.
    #[must_use]
    pub fn take(&self) -> Vec<TappedThread> {
        self.drain();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = |thread: Tapped| TappedThread {
            name: thread.name,
            core: thread.core,
            gaps: thread.seen,
            watched: thread.watched.unwrap_or_else(|| Err("the thread still runs".to_owned())),
        };
        threads.into_iter().map(ended).collect()
    }
}
