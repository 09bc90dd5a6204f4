//! The calibrator: how the counter's ticks become moments, and how sure that is. Pure.
//!
//! The counter's rate is measured against `CLOCK_MONOTONIC_RAW` over a growing window. The host's real time is followed by
//! a proportional-integral loop that only ever bends the map's rate: the map is slewed, never stepped, after its first
//! epoch. A step of the host's clock is counted and followed at the largest slew, with the clock degraded meanwhile.
//!
//! ```text
//! initializing --second sample--> converging --window and bound--> converged
//!                                      ^-------- caught up --- degraded <-- the host's clock steps (from any)
//! ```
//!
//! Monotone across epochs: a slower map joins the one before a little after its publication and a faster one before it,
//! so that where readers of both maps overlap the new one is at or above the old one. The price is a forward jump of at
//! most `lead_ns` times the change of rate.

use roko_wire::NanoMoment;
use roko_wire::clock::ClockMap;
use roko_wire::nano::{ClockSource, ClockState};

/// One joint reading of the counter and the host's clocks, taken in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The counter before.
    pub tsc_before: u64,
    /// `CLOCK_MONOTONIC_RAW`, nanoseconds.
    pub monotonic_raw_ns: u64,
    /// `CLOCK_REALTIME`, nanoseconds since 1970.
    pub realtime_ns: u64,
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
    /// How far the source may drift between two updates, parts per billion.
    pub drift_ppb: u32,
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
            slew_ppm_max: 500,
            step_ns: 1_000_000,
            lead_ns: 2_000_000,
            window_ns_converged: 1_000_000_000,
        }
    }
}

/// The window's start moves on when it is this long, so that the rate follows the oscillator's temperature.
const WINDOW_NS_MAX: u64 = 600_000_000_000;
/// Time constant of the loop: an offset shrinks to 1/e of itself in about this time.
const LOOP_NS: i128 = 1_000_000_000;
const BILLION: i128 = 1_000_000_000;

#[derive(Clone, Copy)]
struct Point {
    tsc: u64,
    raw_ns: u64,
    realtime_ns: u64,
    half_width_ticks: u64,
}

/// Turns samples into maps.
pub struct Calibrator {
    settings: Settings,
    /// Start of the rate's window, and the start that it moves to next.
    window: Option<(Point, Point)>,
    last: Option<Point>,
    map: Option<ClockMap>,
    /// The loop's integral: what the source's rate differs from the raw clock's.
    trim_ppb: i128,
    offset_ns: i128,
    following_step: bool,
    steps: u64,
    restarts: u64,
}

impl Calibrator {
    /// A calibrator without samples.
    #[must_use]
    pub const fn new(settings: Settings) -> Calibrator {
        Calibrator {
            settings,
            window: None,
            last: None,
            map: None,
            trim_ppb: 0,
            offset_ns: 0,
            following_step: false,
            steps: 0,
            restarts: 0,
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
            realtime_ns: best.realtime_ns,
            half_width_ticks: best.width_ticks()?.div_ceil(2),
        };
        let Some(last) = self.last.replace(point) else {
            self.window = Some((point, point));
            return None;
        };
        if point.tsc <= last.tsc || point.raw_ns <= last.raw_ns {
            return self.restart(last, point);
        }
        let (rate, rate_error_ppb) = self.measure_rate(point)?;
        let next = match self.map {
            None => self.first_map(point, rate),
            Some(before) => {
                self.watch_for_steps(last, point);
                self.next_map(&before, last, point, rate, tsc_now)
            }
        };
        let spread_ns = spread_ns(burst, &next, point.half_width_ticks);
        let next = self.with_bound(next, point, spread_ns, rate_error_ppb);
        self.map = Some(next);
        Some(next)
    }

    /// The counter or the raw clock started anew, as after the host was suspended: so does the window. The map goes on from
    /// the source's time, never below where it was, degraded until the next update.
    fn restart(&mut self, last: Point, point: Point) -> Option<ClockMap> {
        self.window = Some((point, point));
        self.restarts += 1;
        let before = self.map?;
        self.following_step = true;
        let base = before.moment(last.tsc).max(NanoMoment(point.realtime_ns.into()));
        let map = self.with_bound(ClockMap { tsc_base: point.tsc, base, ..before }, point, 0, 0);
        self.map = Some(map);
        self.map
    }

    /// Nanoseconds of the raw clock per tick, 32.32 fixed point with 32 further bits, and its error in parts per billion.
    fn measure_rate(&mut self, point: Point) -> Option<(u128, u64)> {
        let (start, later) = self.window.as_mut()?;
        if point.raw_ns - start.raw_ns > WINDOW_NS_MAX {
            // The window then starts at what was its middle, and is long at every time.
            *start = *later;
            *later = point;
        } else if later.raw_ns - start.raw_ns < WINDOW_NS_MAX / 2 {
            *later = point;
        }
        let ticks = point.tsc - start.tsc;
        let nanos = point.raw_ns.checked_sub(start.raw_ns).filter(|nanos| *nanos > 0)?;
        let rate = (u128::from(nanos) << 64) / u128::from(ticks.max(1));
        let error_ticks = u128::from(start.half_width_ticks + point.half_width_ticks);
        let error_ppb = error_ticks * BILLION as u128 / u128::from(ticks.max(1));
        Some((rate, u64::try_from(error_ppb).unwrap_or(u64::MAX)))
    }

    fn first_map(&self, point: Point, rate: u128) -> ClockMap {
        ClockMap {
            tsc_base: point.tsc,
            base: NanoMoment(point.realtime_ns.into()),
            nanos_per_tick_q32: q32(rate, 0),
            bound_ns: 0,
            drift_ppb: 0,
            bound_ns_max: self.settings.bound_ns_max,
            source: self.settings.source,
            state: ClockState::Converging,
        }
    }

    fn watch_for_steps(&mut self, last: Point, point: Point) {
        let ahead = |at: Point| i128::from(at.realtime_ns) - i128::from(at.raw_ns);
        let between = i128::from(point.raw_ns - last.raw_ns);
        let drift_ns = between * i128::from(self.settings.drift_ppb) / BILLION;
        if (ahead(point) - ahead(last)).abs() > i128::from(self.settings.step_ns) + drift_ns {
            self.steps += 1;
            self.following_step = true;
        }
    }

    /// The loop: the rate that takes the map to the source, and where the new map joins the one before.
    fn next_map(
        &mut self,
        before: &ClockMap,
        last: Point,
        point: Point,
        rate: u128,
        tsc_now: u64,
    ) -> ClockMap {
        let slew_max = i128::from(self.settings.slew_ppm_max) * 1_000;
        self.offset_ns = i128::from(point.realtime_ns) - before.moment(point.tsc).0 as i128;
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
        let nanos_per_tick_q32 = q32(rate, slew_ppb);
        let tsc_base = if nanos_per_tick_q32 < before.nanos_per_tick_q32 {
            let lead_ticks = (u128::from(self.settings.lead_ns) << 64) / rate.max(1);
            tsc_now.max(point.tsc).saturating_add(lead_ticks as u64)
        } else {
            point.tsc.max(before.tsc_base)
        };
        ClockMap { tsc_base, base: before.moment(tsc_base), nanos_per_tick_q32, ..*before }
    }

    fn with_bound(&self, map: ClockMap, point: Point, spread_ns: u64, rate_error_ppb: u64) -> ClockMap {
        let settings = &self.settings;
        let slew_max_ppb = u64::from(settings.slew_ppm_max) * 1_000;
        // Until the next update the source drifts, the rate is a little wrong, and the slew may overshoot.
        let drift = u64::from(settings.drift_ppb).saturating_add(rate_error_ppb).saturating_add(slew_max_ppb);
        let drift_ppb = u32::try_from(drift).unwrap_or(u32::MAX);
        let offset_ns = i128::from(point.realtime_ns) - map.moment(point.tsc).0 as i128;
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
        let window_ns = self.window.map_or(0, |(start, _)| point.raw_ns - start.raw_ns);
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
        .map(|sample| i128::from(sample.realtime_ns) - map.moment(sample.tsc_middle()).0 as i128);
    let (least, most) =
        offsets.fold((i128::MAX, i128::MIN), |(least, most), at| (least.min(at), most.max(at)));
    u64::try_from(most.saturating_sub(least)).unwrap_or(0)
}

#[cfg(test)]
#[path = "map_tests.rs"]
mod tests;
