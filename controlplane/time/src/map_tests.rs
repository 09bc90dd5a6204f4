//! Simulated hosts: oscillators that are off, interrupted readings, servos that bend the clock, and steps.

use super::*;
use proptest::prelude::*;

/// A host: a counter, a raw clock and a real time with its own rate; `now_ns` is simulated time.
struct Host {
    now_ns: u64,
    /// Counter ticks per microsecond of simulated time.
    ticks_per_us: u64,
    /// What real time runs fast against the raw clock, parts per billion.
    realtime_ppb: i64,
    realtime_steps_ns: i64,
    random: u64,
}

impl Host {
    fn new(ticks_per_us: u64, realtime_ppb: i64, seed: u64) -> Host {
        Host { now_ns: 1_000_000, ticks_per_us, realtime_ppb, realtime_steps_ns: 0, random: seed | 1 }
    }

    /// xorshift64: a number below `limit`.
    fn random(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    fn tsc(&self) -> u64 {
        (u128::from(self.now_ns) * u128::from(self.ticks_per_us) / 1_000) as u64
    }

    fn realtime_ns(&self) -> u64 {
        let bent = i128::from(self.now_ns) * i128::from(self.realtime_ppb) / BILLION;
        let unix = 1_790_000_000_000_000_000 + i128::from(self.now_ns) + bent;
        (unix + i128::from(self.realtime_steps_ns)) as u64
    }

    fn sample(&mut self) -> Sample {
        let tsc_before = self.tsc();
        // Mostly some tens of nanoseconds a reading, at times an interrupt.
        let pause = |host: &mut Host| if host.random(8) == 0 { 20_000 } else { 20 + host.random(40) };
        self.now_ns += pause(self);
        let (monotonic_raw_ns, realtime_ns) = (self.now_ns, self.realtime_ns());
        self.now_ns += pause(self);
        Sample { tsc_before, monotonic_raw_ns, source_ns: realtime_ns, tsc_after: self.tsc() }
    }

    fn update(&mut self, calibrator: &mut Calibrator) -> Option<ClockMap> {
        let burst: [Sample; 8] = core::array::from_fn(|_| self.sample());
        self.now_ns += 200;
        let tsc_now = self.tsc();
        self.now_ns += self.random(500_000);
        calibrator.update(&burst, tsc_now)
    }
}

const SETTINGS: Settings = Settings {
    source: ClockSource::System,
    bound_ns_floor: 1_000,
    bound_ns_max: 50_000_000,
    drift_ppb: 100_000,
    trim_ppb_max: 100_000,
    holdover_ppb: 100_000,
    slew_ppm_max: 500,
    step_ns: 1_000_000,
    lead_ns: 2_000_000,
    window_ns_converged: 1_000_000_000,
};

fn settled(host: &mut Host, updates: usize) -> (Calibrator, ClockMap) {
    let mut calibrator = Calibrator::new(SETTINGS);
    assert_eq!(host.update(&mut calibrator), None, "one burst gives no rate");
    let mut map = None;
    for _ in 0..updates {
        host.now_ns += 100_000_000;
        map = host.update(&mut calibrator);
    }
    (calibrator, map.expect("two bursts give a rate"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// On a host whose clock drifts and is stepped, readings never go back, from map to map and within; without a step
    /// the host's time is inside every reading's interval.
    #[test]
    fn readings_are_monotone_and_contain_the_hosts_time(
        ticks_per_us in 1_000u64..5_000,
        realtime_ppb in -80_000i64..80_000,
        seed: u64,
        intervals_ms in prop::collection::vec(1u64..400, 100),
        step in proptest::option::of((5usize..95, -30_000_000i64..30_000_000)),
    ) {
        let mut host = Host::new(ticks_per_us, realtime_ppb, seed);
        let (mut calibrator, mut map) = settled(&mut host, 2);
        let mut last = map.moment(host.tsc());
        for (index, interval_ms) in intervals_ms.into_iter().enumerate() {
            if let Some((at, by)) = step && at == index {
                host.realtime_steps_ns += by;
                map = host.update(&mut calibrator).unwrap_or(map);
            }
            for _ in 0..4 {
                let reading = map.reading(host.tsc());
                prop_assert!(reading.now >= last, "{} after {last} at {index}", reading.now);
                last = reading.now;
                let truth = NanoMoment(host.realtime_ns().into());
                prop_assert!(reading.earliest() <= truth && truth <= reading.latest(), "{reading:?} {truth} at {index}");
                host.now_ns += interval_ms * 250_000;
            }
            map = host.update(&mut calibrator).expect("the clocks run");
        }
    }
}

#[test]
fn the_clock_converges_to_the_hosts_rate_and_time() {
    let mut host = Host::new(2_345, 40_000, 7);
    let (calibrator, map) = settled(&mut host, 5);
    assert_eq!(map.state, ClockState::Converging);
    assert_eq!(calibrator.steps(), 0);
    let (calibrator, map) = settled(&mut host, 300);
    assert_eq!(map.state, ClockState::Converged);
    assert!(calibrator.offset_ns().abs() < 200, "{} ns off", calibrator.offset_ns());
    assert!(map.bound_ns < SETTINGS.bound_ns_floor + 2_000, "bound {}", map.bound_ns);
    let nanos = map.ticks_to_nanos(2_345_000_000) as i64;
    assert!((nanos - 1_000_040_000).abs() < 500, "a second and 40 us is {nanos} ns");
}

#[test]
fn a_step_is_counted_and_followed_by_slewing_with_the_clock_degraded() {
    let mut host = Host::new(3_000, 0, 9);
    let (mut calibrator, before) = settled(&mut host, 50);
    host.realtime_steps_ns = 10_000_000;
    host.now_ns += 100_000_000;
    let expected = before.moment(host.tsc());
    let map = host.update(&mut calibrator).unwrap();
    assert_eq!((calibrator.steps(), map.state), (1, ClockState::Degraded));
    let jump = map.moment(host.tsc()).nanos_since(expected);
    assert!(jump < 1_500_000, "the map moved {jump} ns at once, time itself included");
    assert!(map.bound_ns >= 9_900_000, "the bound says how far the host has gone: {}", map.bound_ns);
    // 10 ms at 500 ppm take 20 s.
    let mut updates = 0;
    let mut map = map;
    while map.state == ClockState::Degraded {
        host.now_ns += 100_000_000;
        map = host.update(&mut calibrator).unwrap();
        updates += 1;
        assert!(updates < 250, "still {} ns off", calibrator.offset_ns());
    }
    assert!(updates > 150, "caught up in {updates} updates, which no slew of 500 ppm does");
    assert_eq!((calibrator.steps(), map.state), (1, ClockState::Converged));
}

#[test]
fn a_counter_that_starts_anew_does_not_take_the_clock_back() {
    let mut host = Host::new(3_000, 0, 11);
    host.now_ns = 900_000_000_000;
    let (mut calibrator, before) = settled(&mut host, 20);
    let last = before.moment(host.tsc());
    // A suspended machine: the counter and the raw clock are back at their start, real time went on for an hour.
    host.realtime_steps_ns = host.now_ns as i64 + 3_600_000_000_000;
    host.now_ns = 5_000_000;
    let map = host.update(&mut calibrator).expect("a map that fits the new counter");
    assert_eq!((calibrator.restarts(), map.state), (1, ClockState::Degraded));
    let reading = map.reading(host.tsc());
    let truth = NanoMoment(host.realtime_ns().into());
    assert!(reading.now >= last && reading.earliest() <= truth && truth <= reading.latest(), "{reading:?}");
    host.now_ns += 100_000_000;
    assert_eq!(host.update(&mut calibrator).unwrap().state, ClockState::Converging);
}

#[test]
fn bursts_that_say_nothing_change_nothing() {
    let mut host = Host::new(3_000, 0, 11);
    let (mut calibrator, before) = settled(&mut host, 20);
    let nonsense = Sample { tsc_before: 40, monotonic_raw_ns: 20, source_ns: 30, tsc_after: 10 };
    assert_eq!(calibrator.update(&[nonsense], 50), None);
    assert_eq!(calibrator.update(&[], 50), None);
    assert_eq!((calibrator.map, calibrator.restarts()), (Some(before), 0));
}

#[test]
fn the_window_moves_on_and_the_rate_follows() {
    let mut host = Host::new(3_000, 0, 13);
    let mut calibrator = Calibrator::new(SETTINGS);
    for _ in 0..300 {
        host.now_ns += 10_000_000_000;
        let _ = host.update(&mut calibrator);
        let start = calibrator.window.unwrap().start;
        assert!(host.now_ns - start.raw_ns <= WINDOW_NS_MAX + 11_000_000_000);
    }
    let start = calibrator.window.unwrap().start;
    assert!(host.now_ns - start.raw_ns >= WINDOW_NS_MAX / 2 - 11_000_000_000);
}

/// A PTP hardware clock that runs up to 80 ppm off the CPU's crystal, is bent by a servo, and is lost at times.
const PHC: Settings = Settings::phc(ClockSource::Ptp, 100, 50_000, 5_000);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The source is within every reading's interval, also while it is held over, and no reading goes back.
    #[test]
    fn a_ptp_clock_is_followed_and_held_over(
        realtime_ppb in -80_000i64..80_000,
        seed: u64,
        present in prop::collection::vec(prop::bool::weighted(0.8), 80),
    ) {
        let mut host = Host::new(2_400, realtime_ppb, seed);
        let mut calibrator = Calibrator::new(PHC);
        let mut map = None;
        for _ in 0..3 {
            host.now_ns += 100_000_000;
            map = host.update(&mut calibrator).or(map);
        }
        let mut map = map.expect("three bursts give a rate");
        let mut last = map.moment(host.tsc());
        for (index, present) in present.into_iter().enumerate() {
            for _ in 0..4 {
                let reading = map.reading(host.tsc());
                prop_assert!(reading.now >= last, "{} after {last} at {index}", reading.now);
                last = reading.now;
                let truth = NanoMoment(host.realtime_ns().into());
                prop_assert!(reading.earliest() <= truth && truth <= reading.latest(), "{reading:?} {truth} at {index} {map:?}");
                host.now_ns += 25_000_000;
            }
            if present {
                map = host.update(&mut calibrator).expect("the clocks run");
                prop_assert_eq!(map.source, ClockSource::Ptp);
            } else {
                map = calibrator.lost(host.tsc()).unwrap_or(map);
                prop_assert_eq!(map.source, ClockSource::Holdover);
            }
        }
        prop_assert_eq!(calibrator.steps(), 0);
    }
}

#[test]
fn a_ptp_clocks_bound_is_a_microsecond_and_grows_in_holdover_until_readings_fail_closed() {
    let mut host = Host::new(2_400, 60_000, 17);
    let mut calibrator = Calibrator::new(PHC);
    let mut map = None;
    for _ in 0..300 {
        host.now_ns += 100_000_000;
        map = host.update(&mut calibrator).or(map);
    }
    let map = map.expect("a map");
    let reading = map.reading(host.tsc());
    assert_eq!((reading.state, reading.source), (ClockState::Converged, ClockSource::Ptp));
    assert!(reading.error_bound_ns < 1_000, "{reading:?}");
    let held = calibrator.lost(host.tsc()).expect("it is news");
    assert_eq!(
        (held.state, held.source, calibrator.lost(host.tsc())),
        (ClockState::Holdover, ClockSource::Holdover, None)
    );
    let mut seconds = 0;
    while held.reading(host.tsc()).state == ClockState::Holdover {
        let (reading, truth) = (held.reading(host.tsc()), NanoMoment(host.realtime_ns().into()));
        assert!(reading.earliest() <= truth && truth <= reading.latest(), "{reading:?} {truth}");
        host.now_ns += 1_000_000_000;
        seconds += 1;
        assert!(seconds < 60, "the bound does not reach its limit: {reading:?}");
    }
    assert_eq!(held.reading(host.tsc()).state, ClockState::Degraded);
    assert!(seconds >= 5, "50 us at 5 ppm and what the rates may be off take some seconds, not {seconds}");
    // The source is back: it is followed again, by slewing.
    let last = held.moment(host.tsc());
    let map = host.update(&mut calibrator).expect("a map");
    assert!(map.moment(host.tsc()) >= last && calibrator.steps() == 0);
    assert_eq!((map.source, calibrator.losses()), (ClockSource::Ptp, 2));
}
