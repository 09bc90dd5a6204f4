//! Simulated oscillators: a counter and a port's clock that is off, bent, stepped and read between interrupts.

use super::*;
use proptest::prelude::*;
use roko_wire::port_clock::PortTime;

/// `now_ps` is simulated time. The counter runs at 3 GHz exactly, so its rate by the node clock is known.
struct Machine {
    now_ps: u128,
    /// Counts of the port's clock per second, and what it has counted until `since_ps`.
    per_second: u64,
    bent_ppb: i64,
    counted: u128,
    since_ps: u128,
    random: u64,
}

const PS: u128 = 1_000_000_000_000;
/// A third of a nanosecond.
const NANOS_PER_TICK_Q32: u64 = (1 << 32) / 3;

impl Machine {
    fn new(per_second: u64, count: u64, seed: u64) -> Machine {
        let now_ps = 5 * PS;
        Machine { now_ps, per_second, bent_ppb: 0, counted: count.into(), since_ps: now_ps, random: seed | 1 }
    }

    /// xorshift64: a number below `limit`.
    fn random(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    fn pass_ns(&mut self, ns: u64) {
        self.now_ps += u128::from(ns) * 1_000;
    }

    fn tsc(&self) -> u64 {
        (self.now_ps * 3 / 1_000) as u64
    }

    fn count(&self) -> u64 {
        let elapsed = (self.now_ps - self.since_ps) as i128 * i128::from(self.per_second);
        let bent = elapsed + elapsed / 1_000_000_000 * i128::from(self.bent_ppb);
        (self.counted as i128 + bent / PS as i128) as u64
    }

    /// From now on it runs this much faster than it should, having moved by `step`.
    fn change(&mut self, bent_ppb: i64, step: i64) {
        self.counted = u128::from(self.count().saturating_add_signed(step));
        (self.since_ps, self.bent_ppb) = (self.now_ps, bent_ppb);
    }

    fn joint(&mut self) -> JointReading {
        let tsc_before = self.tsc();
        // A register is read over the bus; at times an interrupt comes between.
        let pause = |machine: &mut Machine| {
            if machine.random(8) == 0 { 20_000 } else { 100 + machine.random(400) }
        };
        let (before, after) = (pause(self), pause(self));
        self.pass_ns(before);
        let count = self.count();
        self.pass_ns(after);
        JointReading { tsc_before, count, tsc_after: self.tsc() }
    }

    fn update(&mut self, calibrator: &mut PortCalibrator) -> Option<PortMap> {
        let burst: [JointReading; 8] = core::array::from_fn(|_| self.joint());
        self.pass_ns(300);
        let tsc_now = self.tsc();
        // The thread loses its core before it publishes, for less than the lead.
        let late = self.random(1_500_000);
        let map = calibrator.update(&burst, tsc_now, NANOS_PER_TICK_Q32);
        self.pass_ns(late);
        map
    }
}

const CARD: PortSettings = PortSettings::card(PortUnit::Nanoseconds);

fn settled(machine: &mut Machine, settings: PortSettings, updates: usize) -> (PortCalibrator, PortMap) {
    let mut calibrator = PortCalibrator::new(settings);
    assert_eq!(machine.update(&mut calibrator), None, "one burst gives no rate");
    let mut map = None;
    for _ in 0..updates {
        machine.pass_ns(100_000_000);
        map = machine.update(&mut calibrator);
    }
    (calibrator, map.expect("two bursts give a rate"))
}

/// What the map says of a stamp taken now, and by how many ticks it misses the truth.
fn miss(machine: &Machine, map: &PortMap) -> Option<(u64, u64)> {
    let reading = map.reading(PortTime::Nanoseconds(machine.count()))?;
    Some((reading.tsc.abs_diff(machine.tsc()), reading.bound_ticks))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever the clock's rate, and while a servo bends it within what is allowed: the truth is within the bound, readings
    /// are in the order of stamps from map to map, and the bound stays small.
    #[test]
    fn the_counter_is_within_the_bound_and_never_goes_back(
        crystal_ppb in -80_000i64..80_000,
        seed: u64,
        intervals_ms in prop::collection::vec(3u64..300, 60),
        bends in prop::collection::vec(-400i64..400, 60),
    ) {
        let mut machine = Machine::new(1_000_000_000, 1_790_000_000_000_000_000, seed);
        machine.change(crystal_ppb, 0);
        let (mut calibrator, mut map) = settled(&mut machine, CARD, 2);
        let mut last = 0;
        for (index, (interval_ms, bend)) in intervals_ms.into_iter().zip(bends).enumerate() {
            for _ in 0..4 {
                let reading = map.reading(PortTime::Nanoseconds(machine.count()));
                let reading = reading.ok_or_else(|| TestCaseError::fail(format!("no reading at {index}: {map:?}")))?;
                prop_assert!(reading.tsc >= last, "{} after {last} at {index}", reading.tsc);
                last = reading.tsc;
                let off = reading.tsc.abs_diff(machine.tsc());
                prop_assert!(off <= reading.bound_ticks, "{off} ticks off, bound {} at {index}", reading.bound_ticks);
                machine.pass_ns(interval_ms * 250_000);
            }
            machine.change(crystal_ppb + bend, 0);
            map = machine.update(&mut calibrator).expect("the clocks run");
        }
        prop_assert_eq!((calibrator.steps(), calibrator.losses()), (0, 0));
        let (_, bound) = miss(&machine, &map).expect("a reading");
        prop_assert!(bound < 3 * 2_500, "{bound} ticks");
    }

    /// Readers of the map before and of the one after agree on every stamp between.
    #[test]
    fn readers_of_two_epochs_order_stamps_alike(crystal_ppb in -80_000i64..80_000, seed: u64, ages_us in prop::collection::vec(0u64..90_000, 32)) {
        let mut machine = Machine::new(1_000_000_000, 5_000_000_000, seed);
        machine.change(crystal_ppb, 0);
        let (mut calibrator, before) = settled(&mut machine, CARD, 30);
        machine.pass_ns(100_000_000);
        let after = machine.update(&mut calibrator).expect("the clocks run");
        let now = machine.count();
        for age_us in ages_us {
            let stamp = now - age_us * 1_000;
            let (old, new) = (before.tsc_at(stamp), after.tsc_at(stamp));
            prop_assert!(old.zip(new).is_some_and(|(old, new)| old.abs_diff(new) <= 1), "{stamp}: {old:?} {new:?}");
        }
    }

    /// No readings, whatever they hold, make it panic, and none makes a map that says less than nothing.
    #[test]
    fn nonsense_is_survived(
        bursts in prop::collection::vec(prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 0..4), 0..12),
        nanos_per_tick_q32: u64,
        ticks: bool,
    ) {
        let unit = if ticks { PortUnit::Ticks } else { PortUnit::Nanoseconds };
        let mut calibrator = PortCalibrator::new(PortSettings::card(unit));
        for burst in bursts {
            let burst: Vec<JointReading> = burst
                .into_iter()
                .map(|(tsc_before, count, tsc_after)| JointReading { tsc_before, count, tsc_after })
                .collect();
            let now = burst.last().map_or(0, |reading| reading.tsc_after);
            if let Some(map) = calibrator.update(&burst, now, nanos_per_tick_q32) {
                for reading in &burst {
                    core::hint::black_box(map.reading(PortTime::new(unit, reading.count)));
                }
            }
            let _ = calibrator.lost();
        }
    }
}

#[test]
fn a_free_running_clock_is_followed_by_its_ticks() {
    let mut machine = Machine::new(78_125_000, 77, 3);
    let settings = PortSettings::card(PortUnit::Ticks);
    let (_, map) = settled(&mut machine, settings, 30);
    assert_eq!((map.unit, map.state), (PortUnit::Ticks, ClockState::Converged));
    machine.pass_ns(50_000_000);
    let reading = map.reading(PortTime::Ticks(machine.count())).expect("a reading");
    assert!(reading.tsc.abs_diff(machine.tsc()) <= reading.bound_ticks, "{reading:?} {}", machine.tsc());
    assert!(reading.bound_ticks < 3 * 2_000, "{reading:?}");
    assert_eq!(map.reading(PortTime::Nanoseconds(machine.count())), None, "it counts no nanoseconds");
}

#[test]
fn a_step_ends_the_map_until_the_clock_was_measured_again() {
    for step in [-3_000_000_000i64, -60_000, 60_000, 3_000_000_000] {
        let mut machine = Machine::new(1_000_000_000, 10_000_000_000, 5);
        let (mut calibrator, _) = settled(&mut machine, CARD, 60);
        machine.change(0, step);
        machine.pass_ns(100_000_000);
        let none = machine.update(&mut calibrator).expect("the step is published");
        assert_eq!((none.state, calibrator.steps()), (ClockState::Initializing, 1), "{step}");
        assert_eq!(miss(&machine, &none), None);
        machine.pass_ns(100_000_000);
        let map = machine.update(&mut calibrator).expect("two bursts after the step");
        let (off, bound) = miss(&machine, &map).expect("a reading");
        assert!(off <= bound && calibrator.steps() == 1, "{step}: {off} ticks off, bound {bound}");
    }
}

#[test]
fn a_rate_that_jumps_is_measured_anew_and_no_step() {
    let mut machine = Machine::new(1_000_000_000, 10_000_000_000, 7);
    let (mut calibrator, _) = settled(&mut machine, CARD, 200);
    // What a servo does that has just found its reference: 100 ppm are 10 us in 100 ms.
    machine.change(100_000, 0);
    machine.pass_ns(100_000_000);
    let map = machine.update(&mut calibrator).expect("a map");
    assert_eq!(calibrator.steps(), 0);
    let (off, bound) = miss(&machine, &map).expect("a reading");
    assert!(off <= bound && calibrator.offset_ns().abs() > 5_000, "{off} ticks off, bound {bound}");
    for _ in 0..50 {
        machine.pass_ns(100_000_000);
        let map = machine.update(&mut calibrator).expect("a map");
        let (off, bound) = miss(&machine, &map).expect("a reading");
        assert!(off <= bound, "{off} ticks off, bound {bound}");
    }
    assert!(calibrator.offset_ns().abs() < 500, "{} ns off after 5 s", calibrator.offset_ns());
}

#[test]
fn a_clock_that_cannot_be_read_is_held_over_with_a_growing_bound_and_fails_closed() {
    let mut machine = Machine::new(1_000_000_000, 10_000_000_000, 9);
    let (mut calibrator, before) = settled(&mut machine, CARD, 60);
    let held = calibrator.lost().expect("it is news");
    assert_eq!((held.state, calibrator.lost(), calibrator.losses()), (ClockState::Holdover, None, 2));
    let mut last = 0;
    let mut seconds = 0;
    while let Some((off, bound)) = miss(&machine, &held) {
        assert!(off <= bound && bound > last, "{off} ticks off, bound {bound} after {last}");
        last = bound;
        machine.pass_ns(1_000_000_000);
        seconds += 1;
        assert!(seconds < 30, "the bound never reaches its limit");
    }
    assert!(seconds >= 2 && held.bound_ticks == before.bound_ticks);
    // It is back: the map goes on from where it is.
    let map = machine.update(&mut calibrator).expect("a map");
    let (off, bound) = miss(&machine, &map).expect("a reading");
    assert!(
        off <= bound && map.state == ClockState::Converged && calibrator.steps() == 0,
        "{off} {bound} {map:?}"
    );
}

#[test]
fn a_clock_that_stands_still_or_a_burst_without_a_reading_gives_no_map() {
    let mut machine = Machine::new(1_000_000_000, 10_000_000_000, 11);
    let (mut calibrator, _) = settled(&mut machine, CARD, 10);
    assert_eq!(calibrator.update(&[], machine.tsc(), NANOS_PER_TICK_Q32), None);
    let stuck = machine.count();
    for expected in 1..4 {
        machine.pass_ns(100_000_000);
        let tsc = machine.tsc();
        let reading = JointReading { tsc_before: tsc, count: stuck, tsc_after: tsc + 600 };
        let map = calibrator.update(&[reading], tsc + 600, NANOS_PER_TICK_Q32);
        assert!(map.is_none_or(|map| map.state == ClockState::Initializing), "{map:?}");
        assert_eq!(calibrator.steps(), expected);
    }
}
