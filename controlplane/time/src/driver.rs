//! The driver: a thread that samples the clocks, and the handle through which everybody reads time.

use crate::map::{Calibrator, Sample, Settings};
use crate::phc::{self, Phc, PhcError};
use crate::port_map::{PortCalibrator, PortSettings};
use roko_os::{clock, tsc};
use roko_ring::seqlock::{Page, PageWriter, page};
use roko_wire::clock::ClockMap;
use roko_wire::nano::ClockReading;
use roko_wire::port_clock::PortMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

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
    /// The PTP clock that the node's time comes from cannot be read.
    #[error("the clock's source: {0}")]
    Source(#[from] PhcError),
    /// The thread could not be started.
    #[error("the clock's thread could not be started: {0}")]
    Thread(std::io::Error),
}

/// Where the node's time comes from.
pub enum Source {
    /// `CLOCK_REALTIME`.
    Host,
    /// A PTP hardware clock that something else disciplines.
    Phc {
        /// The clock.
        clock: Box<dyn Phc>,
        /// What it shows beyond the chain's time, nanoseconds: 37 s when it counts TAI.
        ahead_ns: u64,
    },
}

/// The clocks that are sampled.
pub struct Sources {
    /// Where the node's time comes from.
    pub node: Source,
    /// The clock that the port stamps with, and how it is followed.
    pub port: Option<(Box<dyn Phc>, PortSettings)>,
}

impl Sources {
    /// The host's clock, and a port without one.
    #[must_use]
    pub const fn host() -> Sources {
        Sources { node: Source::Host, port: None }
    }
}

/// The node's clock. Cheap to clone and to read: no lock, no system call.
#[derive(Clone)]
pub struct NodeClock {
    page: Page<ClockMap>,
    port: Option<Page<PortMap>>,
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

    /// The page of the port's clock, if it has one: its stamps to the counter.
    #[must_use]
    pub fn port_page(&self) -> Option<Page<PortMap>> {
        self.port.clone()
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
    losses: AtomicU64,
    offset_ns: AtomicI64,
    port_steps: AtomicU64,
    port_losses: AtomicU64,
    port_offset_ns: AtomicI64,
}

impl ClockStatus {
    /// How often the source was stepped.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// How often the counter or the raw clock had gone back or stood still.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// How often the source could not be read.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    /// The source less this clock at the last update, nanoseconds.
    #[must_use]
    pub fn offset_ns(&self) -> i64 {
        self.offset_ns.load(Ordering::Relaxed)
    }

    /// How often the port's clock was stepped, and how often it could not be read.
    #[must_use]
    pub fn port_faults(&self) -> (u64, u64) {
        (self.port_steps.load(Ordering::Relaxed), self.port_losses.load(Ordering::Relaxed))
    }

    /// How far the last reading of the port's clock was from its map, nanoseconds.
    #[must_use]
    pub fn port_offset_ns(&self) -> i64 {
        self.port_offset_ns.load(Ordering::Relaxed)
    }

    fn record_port(&self, calibrator: &PortCalibrator) {
        self.port_steps.store(calibrator.steps(), Ordering::Relaxed);
        self.port_losses.store(calibrator.losses(), Ordering::Relaxed);
        self.port_offset_ns.store(calibrator.offset_ns(), Ordering::Relaxed);
    }

    fn record(&self, calibrator: &Calibrator) {
        self.steps.store(calibrator.steps(), Ordering::Relaxed);
        self.restarts.store(calibrator.restarts(), Ordering::Relaxed);
        self.losses.store(calibrator.losses(), Ordering::Relaxed);
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
    /// Calibrates first maps, which takes some 20 ms, then starts the thread that goes on every `interval`. Every map of the
    /// node's clock, the first included, is also given to `publish`: pages of other types, metrics.
    ///
    /// # Errors
    /// When the CPU has no clock to build on, or the source cannot be read. A port's clock that cannot be read is no error:
    /// there is no map of it until it can.
    pub fn start(
        sources: Sources,
        settings: Settings,
        interval: Duration,
        allow_varying_tsc: bool,
        mut publish: impl FnMut(&ClockMap) + Send + 'static,
    ) -> Result<(NodeClock, ClockDriver), TimeError> {
        if !allow_varying_tsc && !tsc::tsc_is_invariant() {
            return Err(TimeError::TscVaries);
        }
        let Sources { mut node, port } = sources;
        let mut calibrator = Calibrator::new(settings);
        let mut port = port.map(|(clock, settings)| PortRun::new(clock, settings));
        let _ = calibrator.update(&node.sample()?, tsc::tsc_ordered());
        port.iter_mut().for_each(|port| port.update(None));
        thread::sleep(FIRST_WINDOW);
        let first = calibrator.update(&node.sample()?, tsc::tsc_ordered()).ok_or(TimeError::NoRate)?;
        port.iter_mut().for_each(|port| port.update(Some(&first)));
        let (writer, reader) = page(first);
        publish(&first);
        let status = Arc::new(ClockStatus::default());
        let port_page = port.as_ref().map(|port| port.writer.reader());
        let clock = NodeClock { page: reader, port: port_page, status: Arc::clone(&status) };
        let (stop, stopped) = channel::<()>();
        let mut run = Run { node, calibrator, writer, port, status, map: first };
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

impl Source {
    fn sample(&mut self) -> Result<[Sample; phc::BURST], PhcError> {
        match self {
            Source::Host => Ok(core::array::from_fn(|_| Sample {
                tsc_before: tsc::tsc_ordered(),
                monotonic_raw_ns: clock::monotonic_raw_ns(),
                source_ns: clock::realtime_ns(),
                tsc_after: tsc::tsc_ordered(),
            })),
            Source::Phc { clock, ahead_ns } => phc::sample(&mut **clock, *ahead_ns),
        }
    }
}

struct Run {
    node: Source,
    calibrator: Calibrator,
    writer: PageWriter<ClockMap>,
    port: Option<PortRun>,
    status: Arc<ClockStatus>,
    map: ClockMap,
}

impl Run {
    fn update(&mut self, publish: &mut impl FnMut(&ClockMap)) {
        let map = match self.node.sample() {
            Ok(samples) => self.calibrator.update(&samples, tsc::tsc_ordered()),
            Err(_) => self.calibrator.lost(tsc::tsc_ordered()),
        };
        if let Some(map) = map {
            self.map = map;
            self.writer.write(&map);
            publish(&map);
        }
        self.status.record(&self.calibrator);
        if let Some(port) = &mut self.port {
            port.update(Some(&self.map));
            self.status.record_port(&port.calibrator);
        }
    }
}

/// The port's clock and its map.
struct PortRun {
    clock: Box<dyn Phc>,
    calibrator: PortCalibrator,
    writer: PageWriter<PortMap>,
}

impl PortRun {
    fn new(clock: Box<dyn Phc>, settings: PortSettings) -> PortRun {
        let settings = PortSettings { unit: clock.unit(), ..settings };
        let (writer, _) = page(PortMap::none(settings.unit));
        PortRun { clock, calibrator: PortCalibrator::new(settings), writer }
    }

    /// Without a map of the node's clock yet, the counter's rate is not known, and a first reading needs none.
    fn update(&mut self, node: Option<&ClockMap>) {
        let nanos_per_tick_q32 = node.map_or(1, |map| map.nanos_per_tick_q32);
        let map = match self.clock.read() {
            Ok(burst) => self.calibrator.update(&burst, tsc::tsc_ordered(), nanos_per_tick_q32),
            Err(_) => self.calibrator.lost(),
        };
        if let Some(map) = map {
            self.writer.write(&map);
        }
    }
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
        let (clock, driver) =
            ClockDriver::start(Sources::host(), settings, Duration::from_millis(20), true, publish)
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
