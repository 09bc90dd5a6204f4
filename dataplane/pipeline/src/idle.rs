//! What a poll loop does when no stage found work: an explicit choice per profile, printed at start.

use core::time::Duration;

/// An idle strategy. Only [`Idle::Spin`] makes no system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls on: lowest latency, takes the whole core.
    Spin,
    /// Polls on `spins` times, then yields the core `yields` times, then sleeps, doubling from 1 us to `sleep_us_max`.
    Backoff {
        /// Empty turns before the first yield.
        spins: u32,
        /// Yields before the first sleep.
        yields: u32,
        /// Longest sleep, microseconds.
        sleep_us_max: u32,
    },
    /// Sleeps `sleep_us` after every empty turn: least load, for tests and idle clients.
    Park {
        /// Length of the sleep, microseconds.
        sleep_us: u32,
    },
}

impl Idle {
    /// A back-off for several validators on a small machine: answers within about 100 us when it slept.
    #[must_use]
    pub const fn devnet() -> Idle {
        Idle::Backoff { spins: 64, yields: 16, sleep_us_max: 100 }
    }
}

/// The state of a strategy on one thread.
#[derive(Clone, Debug)]
pub struct Idler {
    strategy: Idle,
    empty_turns: u32,
    sleep_us: u32,
    /// System calls made: yields and sleeps.
    pub(crate) system_calls: u64,
}

impl Idler {
    /// Starts with `strategy`.
    #[must_use]
    pub const fn new(strategy: Idle) -> Idler {
        Idler { strategy, empty_turns: 0, sleep_us: 1, system_calls: 0 }
    }

    /// The last turn did work.
    #[inline]
    pub const fn reset(&mut self) {
        self.empty_turns = 0;
        self.sleep_us = 1;
    }

    /// The last turn found nothing to do.
    #[inline]
    pub fn idle(&mut self) {
        match self.strategy {
            Idle::Spin => core::hint::spin_loop(),
            Idle::Backoff { spins, yields, sleep_us_max } => {
                self.empty_turns = self.empty_turns.saturating_add(1);
                if self.empty_turns <= spins {
                    core::hint::spin_loop();
                } else if self.empty_turns <= spins.saturating_add(yields) {
                    self.system_calls += 1;
                    std::thread::yield_now();
                } else {
                    self.system_calls += 1;
                    std::thread::sleep(Duration::from_micros(u64::from(self.sleep_us)));
                    self.sleep_us = self.sleep_us.saturating_mul(2).min(sleep_us_max.max(1));
                }
            }
            Idle::Park { sleep_us } => {
                self.system_calls += 1;
                std::thread::sleep(Duration::from_micros(u64::from(sleep_us)));
            }
        }
    }
}
