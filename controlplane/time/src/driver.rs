//! The driver: a thread that samples the host's clocks, and the handle through which everybody reads time.

use crate::map::{Calibrator, Sample, Settings};
use roko_os::{clock, tsc};
use roko_ring::seqlock::{Page, PageWriter, page};
use roko_wire::clock::ClockMap;
use roko_wire::nano::ClockReading;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Readings in a burst: enough that one of them is not interrupted.
const BURST: usize = 8;
/// Between the first two bursts: a rate good to some parts per million, and a start that nobody notices.
const FIRST_WINDOW: Duration = Duration::from_millis(20);

/// Why there is no clock.
#[derive(Debug, thiserror::Error)]
pub enum TimeError {
    /// The counter changes its rate with the CPU's.
    #[error(
        "this CPU's time-stamp counter is not invariant: run on one whose CPUID has the invariant TSC bit, or allow it in the configuration"
    )]
    TscVaries,
    /// The first samples gave no rate.
    #[error("the counter or CLOCK_MONOTONIC_RAW stands still: check the host's clock source")]
    NoRate,
    /// The thread could not be started.
    #[error("the clock's thread could not be started: {0}")]
    Thread(std::io::Error),
}

/// The node's clock. Cheap to clone and to read: no lock, no system call.
#[derive(Clone)]
pub struct NodeClock {
    page: Page<ClockMap>,
    status: Arc<ClockStatus>,
}

impl NodeClock {
    /// The time now. Readings never go back, on any thread, as long as the driver publishes within `lead_ns` of sampling.
    #[must_use]
    pub fn now(&self) -> ClockReading {
        loop {
            let version = self.page.version();
            let map = self.page.read();
            let ticks = tsc::tsc_ordered();
            // A thread that lost its core between the two reads would use a map past its time.
            if self.page.version() == version {
                return map.reading(ticks);
            }
        }
    }

    /// The page that the clock is read from, for stages that read it with a counter value of their own.
    #[must_use]
    pub fn page(&self) -> Page<ClockMap> {
        self.page.clone()
    }

    /// The map in force.
    #[must_use]
    pub fn map(&self) -> ClockMap {
        self.page.read()
    }

    /// Counters of the driver.
    #[must_use]
    pub fn status(&self) -> &ClockStatus {
        &self.status
    }
}

/// What the driver has seen, for metrics.
#[derive(Debug, Default)]
pub struct ClockStatus {
    steps: AtomicU64,
    restarts: AtomicU64,
    offset_ns: AtomicI64,
}

impl ClockStatus {
    /// How often the host's clock was stepped.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// How often the counter or the raw clock had gone back or stood still.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// The host's clock less this one at the last update, nanoseconds.
    #[must_use]
    pub fn offset_ns(&self) -> i64 {
        self.offset_ns.load(Ordering::Relaxed)
    }

    fn record(&self, calibrator: &Calibrator) {
        self.steps.store(calibrator.steps(), Ordering::Relaxed);
        self.restarts.store(calibrator.restarts(), Ordering::Relaxed);
        let offset = calibrator.offset_ns();
        let clamped = offset.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        self.offset_ns.store(clamped, Ordering::Relaxed);
    }
}

/// The thread that calibrates. It stops when this is dropped; the clock then runs on with a growing bound.
pub struct ClockDriver {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for ClockDriver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by the thread; the clock fails closed by its growing bound.
            let _ = thread.join();
        }
    }
}

impl ClockDriver {
    /// Calibrates a first map, which takes some 20 ms, then starts the thread that goes on every `interval`. Every map, the
    /// first included, is also given to `publish`: pages of other types, metrics.
    pub fn start(
        settings: Settings,
        interval: Duration,
        allow_varying_tsc: bool,
        mut publish: impl FnMut(&ClockMap) + Send + 'static,
    ) -> Result<(NodeClock, ClockDriver), TimeError> {
        if !allow_varying_tsc && !tsc::tsc_is_invariant() {
            return Err(TimeError::TscVaries);
        }
        let mut calibrator = Calibrator::new(settings);
        let _ = calibrator.update(&burst(), tsc::tsc_ordered());
        thread::sleep(FIRST_WINDOW);
        let first = calibrator.update(&burst(), tsc::tsc_ordered()).ok_or(TimeError::NoRate)?;
        let (writer, reader) = page(first);
        publish(&first);
        let status = Arc::new(ClockStatus::default());
        let clock = NodeClock { page: reader, status: Arc::clone(&status) };
        let (stop, stopped) = channel::<()>();
        let mut run = Run { calibrator, writer, status };
        let thread = thread::Builder::new()
            .name("roko-clock".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    run.update(&mut publish);
                }
            })
            .map_err(TimeError::Thread)?;
        Ok((clock, ClockDriver { stop: Some(stop), thread: Some(thread) }))
    }
}

struct Run {
    calibrator: Calibrator,
    writer: PageWriter<ClockMap>,
    status: Arc<ClockStatus>,
}

impl Run {
    fn update(&mut self, publish: &mut impl FnMut(&ClockMap)) {
        let samples = burst();
        if let Some(map) = self.calibrator.update(&samples, tsc::tsc_ordered()) {
            self.writer.write(&map);
            publish(&map);
        }
        self.status.record(&self.calibrator);
    }
}

fn burst() -> [Sample; BURST] {
    core::array::from_fn(|_| Sample {
        tsc_before: tsc::tsc_ordered(),
        monotonic_raw_ns: clock::monotonic_raw_ns(),
        realtime_ns: clock::realtime_ns(),
        tsc_after: tsc::tsc_ordered(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_wire::NanoMoment;
    use roko_wire::nano::ClockState;

    #[test]
    fn the_clock_follows_the_host_and_never_goes_back() {
        let settings = Settings { window_ns_converged: 200_000_000, ..Settings::default() };
        let (sender, maps) = channel();
        let publish = move |map: &ClockMap| {
            let _ = sender.send(*map);
        };
        let (clock, driver) = ClockDriver::start(settings, Duration::from_millis(20), true, publish)
            .expect("this host has a clock");
        let mut last = clock.now().now;
        let end = std::time::Instant::now() + Duration::from_millis(600);
        while std::time::Instant::now() < end {
            let (low, reading, high) = (clock::realtime_ns(), clock.now(), clock::realtime_ns());
            assert!(reading.now >= last, "{} after {last}", reading.now);
            last = reading.now;
            assert!(reading.earliest() <= NanoMoment(high.into()), "{reading:?} and the host's {high}");
            assert!(reading.latest() >= NanoMoment(low.into()), "{reading:?} and the host's {low}");
        }
        assert_eq!(clock.now().state, ClockState::Converged, "{:?} {:?}", clock.now(), clock.status());
        assert_eq!(maps.try_iter().last(), Some(clock.map()));
        drop(driver);
        let stopped = clock.map();
        thread::sleep(Duration::from_millis(50));
        assert_eq!(clock.map(), stopped, "nothing is published after the driver is dropped");
    }
}
