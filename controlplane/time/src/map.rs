//! The calibrator: how the counter's ticks become moments, and how sure that is. Pure.
//!
//! The counter's rate is measured against `CLOCK_MONOTONIC_RAW` over a growing window. The source (the host's real time, or a
//! PTP hardware clock) is followed by a proportional-integral loop that only ever bends the map's rate: the map is slewed,
//! never stepped, after its first epoch. A step of the source is counted and followed at the largest slew, with the clock
//! degraded meanwhile. A source that cannot be read is held over: the map goes on at the last known rate, and its bound grows.
//!
//! ```text
//! initializing --second sample--> converging --window and bound--> converged <--sample-- holdover
//!                                      ^-------- caught up --- degraded <-- the source steps (from any)
//! ```
//!
//! Monotone across epochs: a slower map joins the one before a little after its publication and a faster one before it,
//! so that where readers of both maps overlap the new one is at or above the old one. The price is a forward jump of at
//! most `lead_ns` times the change of rate.

use roko_wire::NanoMoment;
use roko_wire::clock::ClockMap;
use roko_wire::nano::{ClockSource, ClockState};

/// One joint reading of the counter, the host's raw clock and the source, between two readings of the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The counter before.
    pub tsc_before: u64,
    /// `CLOCK_MONOTONIC_RAW`, nanoseconds.
    pub monotonic_raw_ns: u64,
    /// The source, nanoseconds since 1970 on the chain's timescale.
    pub source_ns: u64,
    /// The counter after.
    pub tsc_after: u64,
}

impl Sample {
    /// How long the reading took; `None` when the counter went back.
    const fn width_ticks(&self) -> Option<u64> {
        self.tsc_after.checked_sub(self.tsc_before)
    }

    const fn tsc_middle(&self) -> u64 {
        self.tsc_before + (self.tsc_after.saturating_sub(self.tsc_before)) / 2
    }
}

/// How the clock behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What readings say of where their time comes from.
    pub source: ClockSource,
    /// What the source itself may be off, nanoseconds: part of every bound.
    pub bound_ns_floor: u64,
    /// Above this bound the clock is degraded, nanoseconds.
    pub bound_ns_max: u64,
    /// How far the source's rate may wander from one update to the next, parts per billion.
    pub drift_ppb: u32,
    /// How far the source's rate may be from the raw clock's before it was measured, parts per billion.
    pub trim_ppb_max: u32,
    /// How fast the bound grows while the source cannot be read, parts per billion, beside the error of the measured rates.
    pub holdover_ppb: u32,
    /// Largest slew, parts per million.
    pub slew_ppm_max: u32,
    /// A change of the source against the raw clock, from one update to the next, above which it was stepped, nanoseconds.
    pub step_ns: u64,
    /// How far after its publication a slower map joins the one before, nanoseconds.
    pub lead_ns: u64,
    /// Window of the rate's measurement after which the clock may be converged, nanoseconds.
    pub window_ns_converged: u64,
}

impl Default for Settings {
    /// For a host whose time is disciplined by NTP: its own error is assumed below 10 ms, its rate within the 500 ppm
    /// that the kernel's servo may bend it.
    fn default() -> Settings {
        Settings {
            source: ClockSource::System,
            bound_ns_floor: 10_000_000,
            bound_ns_max: 100_000_000,
            drift_ppb: 500_000,
            trim_ppb_max: 500_000,
            holdover_ppb: 500_000,
            slew_ppm_max: 500,
            step_ns: 1_000_000,
            lead_ns: 2_000_000,
            window_ns_converged: 1_000_000_000,
        }
    }
}

impl Settings {
    /// For a PTP hardware clock that something else disciplines: its rate differs from the CPU's by that of two crystals, and a
    /// servo in lock bends it by less than a part per million from one update to the next. `bound_ns` is what the clock may be
    /// off its reference, `bound_ns_max` where readings fail closed, `holdover_ppb` how the CPU's crystal wanders.
    #[must_use]
    pub const fn phc(source: ClockSource, bound_ns: u64, bound_ns_max: u64, holdover_ppb: u32) -> Settings {
        Settings {
            source,
            bound_ns_floor: bound_ns,
            bound_ns_max,
            drift_ppb: 1_000,
            trim_ppb_max: 200_000,
            holdover_ppb,
            slew_ppm_max: 500,
            step_ns: 100_000,
            lead_ns: 2_000_000,
            window_ns_converged: 2_000_000_000,
        }
    }
}

/// The window's start moves on when it is this long, so that the rate follows the oscillator's temperature.
const WINDOW_NS_MAX: u64 = 600_000_000_000;
/// The same for the source's rate, which a servo may bend: a reading's error over 8 s is below the drift allowed for.
const SOURCE_WINDOW_NS_MAX: u64 = 16_000_000_000;
/// Over this the source's rate is known well enough to begin the loop with.
const SEED_WINDOW_NS: u64 = 200_000_000;
/// Time constant of the loop: an offset shrinks to 1/e of itself in about this time.
const LOOP_NS: i128 = 1_000_000_000;
const BILLION: i128 = 1_000_000_000;

#[derive(Clone, Copy)]
struct Point {
    tsc: u64,
    raw_ns: u64,
    source_ns: u64,
    half_width_ticks: u64,
}

/// Start of a window, and the start that it moves to next: so it is long at every time.
#[derive(Clone, Copy)]
struct Window {
    start: Point,
    later: Point,
}

impl Window {
    const fn from(start: Point) -> Window {
        Window { start, later: start }
    }

    /// Takes `point` in, and moves on when the window is longer than `ns_max`.
    fn take(&mut self, point: Point, ns_max: u64) {
        if point.raw_ns.saturating_sub(self.start.raw_ns) > ns_max {
            (self.start, self.later) = (self.later, point);
        } else if self.later.raw_ns.saturating_sub(self.start.raw_ns) < ns_max / 2 {
            self.later = point;
        }
    }
}

/// Turns samples into maps.
pub struct Calibrator {
    settings: Settings,
    /// The window of the counter's rate.
    window: Option<Window>,
    /// The window of the source's rate.
    source_window: Option<Window>,
    /// The counter's rate, as last measured, and its error in parts per billion.
    rate: (u128, u64),
    last: Option<Point>,
    map: Option<ClockMap>,
    /// The loop's integral: what the source's rate differs from the raw clock's.
    trim_ppb: i128,
    /// How far that may be off, parts per billion.
    trim_error_ppb: u64,
    is_seeded: bool,
    /// What the map in force bends beyond the trim, parts per billion.
    bend_ppb: i128,
    offset_ns: i128,
    following_step: bool,
    is_lost: bool,
    steps: u64,
    restarts: u64,
    losses: u64,
}

impl Calibrator {
    /// A calibrator without samples.
    #[must_use]
    pub const fn new(settings: Settings) -> Calibrator {
        Calibrator {
            settings,
            window: None,
            source_window: None,
            rate: (0, 0),
            last: None,
            map: None,
            trim_ppb: 0,
            trim_error_ppb: settings.trim_ppb_max as u64,
            is_seeded: false,
            bend_ppb: 0,
            offset_ns: 0,
            following_step: false,
            is_lost: false,
            steps: 0,
            restarts: 0,
            losses: 0,
        }
    }

    /// How often the source was stepped.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// How often the counter or the raw clock had gone back or stood still.
    #[must_use]
    pub const fn restarts(&self) -> u64 {
        self.restarts
    }

    /// How often the source could not be read.
    #[must_use]
    pub const fn losses(&self) -> u64 {
        self.losses
    }

    /// The source less the map, at the last update, nanoseconds.
    #[must_use]
    pub const fn offset_ns(&self) -> i128 {
        self.offset_ns
    }

    /// Takes a burst of samples, of which the narrowest counts; `tsc_now` is the counter after them. Returns the map to
    /// publish at once; `None` as long as there is no estimate, or when the burst is of no use.
    pub fn update(&mut self, burst: &[Sample], tsc_now: u64) -> Option<ClockMap> {
        let best = burst
            .iter()
            .filter(|sample| sample.width_ticks().is_some())
            .min_by_key(|sample| sample.width_ticks())?;
        let point = Point {
            tsc: best.tsc_middle(),
            raw_ns: best.monotonic_raw_ns,
            source_ns: best.source_ns,
            half_width_ticks: best.width_ticks()?.div_ceil(2),
        };
        let Some(last) = self.last.replace(point) else {
            self.window = Some(Window::from(point));
            self.source_window = self.window;
            return None;
        };
        self.is_lost = false;
        if point.tsc <= last.tsc || point.raw_ns <= last.raw_ns {
            return self.restart(last, point);
        }
        self.rate = self.measure_rate(point)?;
        let next = match self.map {
            None => self.first_map(point),
            Some(before) => {
                self.watch_for_steps(last, point);
                self.measure_source(&before, point);
                self.next_map(&before, last, point, tsc_now)
            }
        };
        let spread_ns = spread_ns(burst, &next, point.half_width_ticks);
        let next = self.with_bound(next, point, spread_ns);
        self.map = Some(next);
        Some(next)
    }

    /// The source could not be read; `tsc_now` is the counter. Returns the map to publish when that is news: it goes on at the
    /// last known rate, with a bound that grows until readings fail closed.
    pub fn lost(&mut self, tsc_now: u64) -> Option<ClockMap> {
        self.losses += 1;
        let before = self.map.filter(|_| !self.is_lost)?;
        self.is_lost = true;
        self.bend_ppb = 0;
        let map = self.joined(&before, q32(self.rate.0, self.trim_ppb), before.tsc_base, tsc_now);
        let growth = u64::from(self.settings.holdover_ppb)
            .saturating_add(self.trim_error_ppb)
            .saturating_add(self.rate.1);
        let state = if self.following_step { ClockState::Degraded } else { ClockState::Holdover };
        let map = ClockMap {
            bound_ns: before.reading(map.tsc_base).error_bound_ns,
            drift_ppb: u32::try_from(growth).unwrap_or(u32::MAX),
            source: ClockSource::Holdover,
            state,
            ..map
        };
        self.map = Some(map);
        self.map
    }

    /// The counter or the raw clock started anew, as after the host was suspended: so does the window. The map goes on from
    /// the source's time, never below where it was, degraded until the next update.
    fn restart(&mut self, last: Point, point: Point) -> Option<ClockMap> {
        self.window = Some(Window::from(point));
        self.source_window = self.window;
        self.restarts += 1;
        let before = self.map?;
        self.following_step = true;
        let base = before.moment(last.tsc).max(NanoMoment(point.source_ns.into()));
        let map = self.with_bound(
            ClockMap { tsc_base: point.tsc, base, source: self.settings.source, ..before },
            point,
            0,
        );
        self.map = Some(map);
        self.map
    }

    /// Nanoseconds of the raw clock per tick, 32.32 fixed point with 32 further bits, and its error in parts per billion.
    fn measure_rate(&mut self, point: Point) -> Option<(u128, u64)> {
        let window = self.window.as_mut()?;
        window.take(point, WINDOW_NS_MAX);
        let start = window.start;
        let ticks = point.tsc - start.tsc;
        let nanos = point.raw_ns.checked_sub(start.raw_ns).filter(|nanos| *nanos > 0)?;
        let rate = (u128::from(nanos) << 64) / u128::from(ticks.max(1));
        let error_ticks = u128::from(start.half_width_ticks + point.half_width_ticks);
        let error_ppb = error_ticks * BILLION as u128 / u128::from(ticks.max(1));
        Some((rate, u64::try_from(error_ppb).unwrap_or(u64::MAX)))
    }

    /// What the source's rate differs from the raw clock's over its window says how wrong the loop's integral is, and is
    /// what the loop begins with.
    fn measure_source(&mut self, map: &ClockMap, point: Point) {
        let window = self.source_window.get_or_insert(Window::from(point));
        window.take(point, SOURCE_WINDOW_NS_MAX);
        let start = window.start;
        let raw_ns = i128::from(point.raw_ns) - i128::from(start.raw_ns);
        if raw_ns <= 0 {
            return;
        }
        let source_ns = i128::from(point.source_ns) - i128::from(start.source_ns);
        let measured_ppb = (source_ns - raw_ns) * BILLION / raw_ns;
        if !self.is_seeded && raw_ns >= i128::from(SEED_WINDOW_NS) {
            self.is_seeded = true;
            let slew_max = i128::from(self.settings.slew_ppm_max) * 1_000;
            self.trim_ppb = measured_ppb.clamp(-slew_max, slew_max);
        }
        let error_ns = i128::from(map.ticks_to_nanos(start.half_width_ticks + point.half_width_ticks));
        let error_ppb = (measured_ppb - self.trim_ppb).abs() + error_ns * BILLION / raw_ns;
        let error_ppb = u64::try_from(error_ppb).unwrap_or(u64::MAX);
        self.trim_error_ppb = if self.is_seeded {
            error_ppb
        } else {
            u64::from(self.settings.trim_ppb_max).saturating_add(self.trim_ppb.unsigned_abs() as u64)
        };
    }

    fn first_map(&self, point: Point) -> ClockMap {
        ClockMap {
            tsc_base: point.tsc,
            base: NanoMoment(point.source_ns.into()),
            nanos_per_tick_q32: q32(self.rate.0, 0),
            bound_ns: 0,
            drift_ppb: 0,
            bound_ns_max: self.settings.bound_ns_max,
            source: self.settings.source,
            state: ClockState::Converging,
        }
    }

    fn watch_for_steps(&mut self, last: Point, point: Point) {
        let ahead = |at: Point| i128::from(at.source_ns) - i128::from(at.raw_ns);
        let between = i128::from(point.raw_ns - last.raw_ns);
        let moved = ahead(point) - ahead(last) - between * self.trim_ppb / BILLION;
        let wander_ppb = i128::from(self.settings.drift_ppb) + i128::from(self.trim_error_ppb);
        if moved.abs() > i128::from(self.settings.step_ns) + between * wander_ppb / BILLION {
            self.steps += 1;
            self.following_step = true;
            self.source_window = Some(Window::from(point));
        }
    }

    /// The loop: the rate that takes the map to the source, and where the new map joins the one before.
    fn next_map(&mut self, before: &ClockMap, last: Point, point: Point, tsc_now: u64) -> ClockMap {
        let slew_max = i128::from(self.settings.slew_ppm_max) * 1_000;
        self.offset_ns = i128::from(point.source_ns) - before.moment(point.tsc).0 as i128;
        if self.following_step && self.offset_ns.abs() <= i128::from(self.settings.step_ns) {
            self.following_step = false;
        }
        // An offset in nanoseconds, to be gone in one second, is a slew in parts per billion.
        let wanted = self.offset_ns * BILLION / LOOP_NS + self.trim_ppb;
        let slew_ppb = wanted.clamp(-slew_max, slew_max);
        if slew_ppb == wanted {
            // A quarter of the square of the proportional gain: critically damped. Not while saturated (anti-windup).
            let elapsed_ns = i128::from(point.raw_ns - last.raw_ns).min(LOOP_NS);
            self.trim_ppb += self.offset_ns * elapsed_ns / LOOP_NS / 4;
            self.trim_ppb = self.trim_ppb.clamp(-slew_max, slew_max);
        }
        self.bend_ppb = slew_ppb - self.trim_ppb;
        self.joined(before, q32(self.rate.0, slew_ppb), point.tsc, tsc_now)
    }

    /// A map at this rate that joins `before`: a slower one after its publication, a faster one at `sampled_at`.
    fn joined(&self, before: &ClockMap, nanos_per_tick_q32: u64, sampled_at: u64, tsc_now: u64) -> ClockMap {
        let tsc_base = if nanos_per_tick_q32 < before.nanos_per_tick_q32 {
            let lead_ticks = (u128::from(self.settings.lead_ns) << 64) / self.rate.0.max(1);
            tsc_now.max(sampled_at).saturating_add(lead_ticks as u64)
        } else {
            sampled_at.max(before.tsc_base)
        };
        let source = self.settings.source;
        ClockMap { tsc_base, base: before.moment(tsc_base), nanos_per_tick_q32, source, ..*before }
    }

    fn with_bound(&self, map: ClockMap, point: Point, spread_ns: u64) -> ClockMap {
        let settings = &self.settings;
        // Until the next update the source wanders, both rates are a little wrong, and the map bends towards the source.
        let drift = u64::from(settings.drift_ppb)
            .saturating_add(self.rate.1)
            .saturating_add(self.trim_error_ppb)
            .saturating_add(u64::try_from(self.bend_ppb.unsigned_abs()).unwrap_or(u64::MAX));
        let drift_ppb = u32::try_from(drift).unwrap_or(u32::MAX);
        let offset_ns = i128::from(point.source_ns) - map.moment(point.tsc).0 as i128;
        let offset_ns = u64::try_from(offset_ns.unsigned_abs()).unwrap_or(u64::MAX);
        let to_base_ns = map.ticks_to_nanos(map.tsc_base.abs_diff(point.tsc));
        let since_sample = (u128::from(to_base_ns) * u128::from(drift_ppb) / BILLION as u128) as u64;
        let bound_ns = [
            settings.bound_ns_floor,
            offset_ns,
            map.ticks_to_nanos(point.half_width_ticks),
            spread_ns,
            since_sample,
            // Rounding of the fixed-point rate and of the clocks' nanoseconds.
            4,
        ]
        .into_iter()
        .fold(0, u64::saturating_add);
        let window_ns = self.window.map_or(0, |window| point.raw_ns - window.start.raw_ns);
        let state = if self.following_step || bound_ns > settings.bound_ns_max {
            ClockState::Degraded
        } else if window_ns < settings.window_ns_converged {
            ClockState::Converging
        } else {
            ClockState::Converged
        };
        ClockMap { bound_ns, drift_ppb, state, ..map }
    }
}

/// `rate` (32.32 with 32 further bits) bent by `slew_ppb`, as a map has it.
fn q32(rate: u128, slew_ppb: i128) -> u64 {
    // Below 2^97 as long as a tick is under two seconds; larger ones saturate.
    let rate = i128::try_from(rate).unwrap_or(i128::MAX);
    let bent = rate.saturating_add((rate / BILLION).saturating_mul(slew_ppb)) >> 32;
    u64::try_from(bent.max(1)).unwrap_or(u64::MAX)
}

/// How far apart the burst's samples put the source, those that took over four times as long as the best left out:
/// an interrupt in the middle of a reading says nothing about the clocks.
fn spread_ns(burst: &[Sample], map: &ClockMap, half_width_ticks_best: u64) -> u64 {
    let usable = half_width_ticks_best.saturating_mul(8);
    let offsets = burst
        .iter()
        .filter(|sample| sample.width_ticks().is_some_and(|width| width <= usable))
        .map(|sample| i128::from(sample.source_ns) - map.moment(sample.tsc_middle()).0 as i128);
    let (least, most) =
        offsets.fold((i128::MAX, i128::MIN), |(least, most), at| (least.min(at), most.max(at)));
    u64::try_from(most.saturating_sub(least)).unwrap_or(0)
}

#[cfg(test)]
#[path = "map_tests.rs"]
mod tests;
