//! A thread that spins on one core, and says why it was late each time it was: the measuring half of the jitter ledger.
//! What the figures mean is [`roko_tuning::jitter`]'s.
//!
//! The thread reads the time-stamp counter and nothing else, so two readings that lie apart are a moment at which it did
//! not run. Only then does it ask the kernel what was counted since it last asked: everything that was counted in between
//! made a gap of its own, or was this one. A thread is often taken off its core on the way back from the kernel, so a
//! reading that was held up is a gap too: as long as the thread was on no core. The counters are then read again, so that
//! nothing of it is blamed on the next gap.

mod kernel;
mod tap;

pub use tap::{Tap, TappedThread};

use kernel::{Counted, Kernel};
use roko_os::OsError;
use roko_os::clock::monotonic_raw_ns;
use roko_os::tsc::tsc;
use roko_ring::spsc::Producer;
use roko_tuning::jitter::{Activity, Cause, Evidence, attribute};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long the time-stamp counter is compared with the kernel's clock: an error of 1 us in it is 0.005 %.
const CALIBRATION: Duration = Duration::from_millis(20);
/// Turns between two looks at whether to stop.
const TURNS_PER_LOOK: u32 = 1_024;

/// How fast the time-stamp counter runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TickRate {
    /// Nanoseconds of one tick.
    pub ns_per_tick: f64,
}

impl TickRate {
    /// Measures it, in 20 ms.
    #[must_use]
    pub fn measure() -> TickRate {
        let (ns, ticks) = (monotonic_raw_ns(), tsc());
        std::thread::sleep(CALIBRATION);
        let (ns, ticks) = (monotonic_raw_ns() - ns, tsc().wrapping_sub(ticks));
        TickRate { ns_per_tick: ns as f64 / ticks.max(1) as f64 }
    }

    /// Ticks as nanoseconds.
    #[must_use]
    pub fn nanos(&self, ticks: u64) -> u64 {
        (ticks as f64 * self.ns_per_tick) as u64
    }

    /// Nanoseconds as ticks.
    #[must_use]
    pub fn ticks(&self, nanos: u64) -> u64 {
        (nanos as f64 / self.ns_per_tick) as u64
    }
}

/// A gap, with what explains it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Sample {
    /// The time-stamp counter before it.
    pub start_tsc: u64,
    /// The time-stamp counter after it.
    pub end_tsc: u64,
    /// Its cause.
    pub cause: Cause,
    /// What the cause follows from.
    pub evidence: Evidence,
    /// The row of `/proc/interrupts` that grew most.
    #[serde(skip)]
    pub interrupt: Option<usize>,
}

/// What to watch.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// The core that the calling thread is pinned to.
    pub core: usize,
    /// Shortest gap that is told, nanoseconds.
    pub above_ns: u64,
    /// How long to watch.
    pub length: Duration,
}

/// How a watch went.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// From the first reading to the last, nanoseconds.
    pub watched_ns: u64,
    /// Of that, while the kernel's counters were read, nanoseconds.
    pub reading_ns: u64,
    /// Gaps that found the ring full.
    pub lost: u64,
    /// Names of the rows that [`Sample::interrupt`] numbers.
    pub interrupts: Vec<String>,
}

/// Spins on the calling thread until `watch.length` is over or `stop` is set. Each turn calls `work` with the counter and is
/// told what that was; each gap goes into `out`.
///
/// # Errors
/// When the kernel does not show the counters.
pub fn watch(
    watch: &Watch,
    rate: TickRate,
    mut work: impl FnMut(u64) -> Activity,
    out: &mut Producer<Sample>,
    stop: &AtomicBool,
) -> Result<Watched, OsError> {
    let mut kernel = Kernel::of_this_thread(watch.core)?;
    let above = rate.ticks(watch.above_ns).max(1);
    let length = u64::try_from(watch.length.as_nanos()).unwrap_or(u64::MAX);
    let mut watched = Watched { interrupts: kernel.interrupt_names(), ..Watched::default() };
    let start = kernel.settle()?.at;
    let over = start.saturating_add(rate.ticks(length));
    let (mut last, mut reading, mut turns) = (start, 0u64, 0u32);
    while last < over {
        let activity = work(last);
        let now = tsc();
        if now.wrapping_sub(last) >= above {
            let counted = kernel.since_settled()?;
            // What was read of the thread is as of its own time: a gap that went on until then is one.
            let end = if counted.at.wrapping_sub(now) >= above { counted.at } else { now };
            let gap_ns = rate.nanos(end.wrapping_sub(last));
            let gap = sample((last, end), gap_ns, activity, &counted, &kernel, rate);
            watched.lost += u64::from(out.push(gap).is_err());
            let held_up = kernel.settle()?;
            // From where the thread's account ends: it may have lost its core on the way back from that.
            last = held_up.at;
            reading += last.wrapping_sub(end);
            let off_core_ns = rate.nanos(held_up.ticks).saturating_sub(held_up.thread.running_ns);
            if off_core_ns >= watch.above_ns {
                let gap = sample((end, last), off_core_ns, Activity::Idle, &held_up, &kernel, rate);
                watched.lost += u64::from(out.push(gap).is_err());
                reading = reading.saturating_sub(rate.ticks(off_core_ns));
            }
        } else {
            last = now;
        }
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(TURNS_PER_LOOK) && stop.load(Ordering::Relaxed) {
            break;
        }
    }
    watched.watched_ns = rate.nanos(last.wrapping_sub(start));
    watched.reading_ns = rate.nanos(reading);
    Ok(watched)
}

fn sample(
    (start_tsc, end_tsc): (u64, u64),
    gap_ns: u64,
    activity: Activity,
    counted: &Counted,
    kernel: &Kernel,
    rate: TickRate,
) -> Sample {
    let evidence = Evidence {
        gap_ns,
        activity,
        window_ns: rate.nanos(counted.ticks),
        running_ns: counted.thread.running_ns,
        waiting_ns: counted.thread.waiting_ns,
        voluntary_switches: counted.thread.voluntary_switches,
        involuntary_switches: counted.thread.involuntary_switches,
        minor_faults: counted.thread.minor_faults,
        major_faults: counted.thread.major_faults,
        interrupts: counted.interrupts,
        softirqs: counted.softirqs,
        steal_ticks: counted.steal_ticks,
        under_hypervisor: kernel.under_hypervisor,
    };
    Sample { start_tsc, end_tsc, cause: attribute(&evidence), evidence, interrupt: counted.interrupt }
}
