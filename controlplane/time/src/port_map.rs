//! The calibrator of a port's clock: how a card's stamps become values of the CPU's time-stamp counter. Pure.
//!
//! Each update is a burst of joint readings, the port's clock between two readings of the counter, of which the narrowest
//! counts. Two oscillators are compared, so the rate is measured directly, over a window of some seconds. The map is slewed,
//! never stepped: a new epoch begins a little ahead of its publication, where the one before ends, so all readers agree
//! on every stamp that exists.
//!
//! ```text
//! none --two bursts--> converging --window--> converged <--reading-- holdover
//!   ^                                             |                     ^ |
//!   |                                             +---- no reading -----+ |
//!   +---- the clock was stepped, from any ----     past the limit: no reading
//! ```
//!
//! A clock that is stepped has no map any more until two bursts were taken after the step; its stamps are not used
//! meanwhile. Between the step and the next burst only whoever polls the port can tell that stamps are wrong: rx compares
//! each with when its queue was last empty.

use roko_wire::nano::ClockState;
use roko_wire::port_clock::{PortMap, PortUnit};

/// The port's clock, read between two readings of the time-stamp counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JointReading {
    /// The counter before.
    pub tsc_before: u64,
    /// The port's clock.
    pub count: u64,
    /// The counter after.
    pub tsc_after: u64,
}

impl JointReading {
    /// How long the reading took; `None` when the counter went back.
    #[must_use]
    pub const fn width_ticks(&self) -> Option<u64> {
        self.tsc_after.checked_sub(self.tsc_before)
    }

    /// The counter in the middle.
    #[must_use]
    pub const fn tsc_middle(&self) -> u64 {
        self.tsc_before + self.tsc_after.saturating_sub(self.tsc_before) / 2
    }
}

/// How a port's clock is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSettings {
    /// What it counts.
    pub unit: PortUnit,
    /// A map that is further off than this is not used, nanoseconds.
    pub bound_ns_max: u64,
    /// How far the rate of the clock against the counter may wander from one update to the next, parts per billion.
    pub drift_ppb: u32,
    /// The same while the clock cannot be read.
    pub holdover_ppb: u32,
    /// Beyond the bound and this, the clock was stepped, nanoseconds.
    pub step_ns: u64,
    /// Largest slew, parts per million.
    pub slew_ppm_max: u32,
    /// How far ahead of its publication an epoch begins, nanoseconds: longer than publishing takes.
    pub lead_ns: u64,
    /// Window of the rate's measurement after which the map is converged, nanoseconds.
    pub window_ns_converged: u64,
}

impl PortSettings {
    /// For a card's clock beside the CPU's: crystals differ by tens of parts per million, which is measured, and wander by
    /// less than one from second to second; a servo that disciplines the card bends it by about as much once it is locked.
    #[must_use]
    pub const fn card(unit: PortUnit) -> PortSettings {
        PortSettings {
            unit,
            bound_ns_max: 20_000,
            drift_ppb: 1_000,
            holdover_ppb: 5_000,
            step_ns: 20_000,
            slew_ppm_max: 100,
            lead_ns: 2_000_000,
            window_ns_converged: 1_000_000_000,
        }
    }

    /// For `CLOCK_REALTIME`, which the kernel stamps with and which its servo may bend by 500 parts per million.
    #[must_use]
    pub const fn kernel() -> PortSettings {
        PortSettings {
            bound_ns_max: 1_000_000,
            drift_ppb: 500_000,
            holdover_ppb: 1_000_000,
            step_ns: 200_000,
            slew_ppm_max: 1_000,
            ..PortSettings::card(PortUnit::Nanoseconds)
        }
    }
}

/// The rate's window is at least half of this, once so much time has passed: a reading's error over 8 s is below its drift,
/// and a rate that a servo has bent is followed within seconds.
const WINDOW_NS_MAX: u64 = 16_000_000_000;
/// Over less than this a rate says nothing.
const WINDOW_NS_MIN: u64 = 1_000_000;
/// An offset shrinks to 1/e of itself in about this time.
const LOOP_NS: i128 = 1_000_000_000;
/// A clock of nanoseconds whose rate is further off than this, parts per million, was stepped between two readings.
const RATE_PPM_MAX: u128 = 2_000;
const BILLION: i128 = 1_000_000_000;

#[derive(Clone, Copy)]
struct Point {
    count: u64,
    tsc: u64,
    half_width_ticks: u64,
}

/// A measured rate.
#[derive(Clone, Copy)]
struct Rate {
    /// Ticks of the counter per count, 64.64 fixed point.
    q64: u128,
    error_ppb: u64,
    window_ns: u64,
}

/// Turns joint readings into maps.
pub struct PortCalibrator {
    settings: PortSettings,
    /// Start of the rate's window, and the start that it moves to next.
    window: Option<(Point, Point)>,
    last: Option<Point>,
    map: Option<PortMap>,
    /// The last map's own bend, parts per billion: what its rate differs from the measured one.
    slew_ppb: i128,
    offset_ns: i64,
    steps: u64,
    losses: u64,
}

impl PortCalibrator {
    /// A calibrator without readings.
    #[must_use]
    pub const fn new(settings: PortSettings) -> PortCalibrator {
        PortCalibrator {
            settings,
            window: None,
            last: None,
            map: None,
            slew_ppb: 0,
            offset_ns: 0,
            steps: 0,
            losses: 0,
        }
    }

    /// How often the port's clock was stepped, went back or stood still.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// How often it could not be read.
    #[must_use]
    pub const fn losses(&self) -> u64 {
        self.losses
    }

    /// How far the last reading was from the map before it, nanoseconds.
    #[must_use]
    pub const fn offset_ns(&self) -> i64 {
        self.offset_ns
    }

    /// Takes a burst; `tsc_now` is the counter after it, `nanos_per_tick_q32` the counter's rate by the node clock. Returns
    /// the map to publish at once; `None` as long as there is no rate, or when the burst is of no use.
    pub fn update(
        &mut self,
        burst: &[JointReading],
        tsc_now: u64,
        nanos_per_tick_q32: u64,
    ) -> Option<PortMap> {
        let best = burst
            .iter()
            .filter(|reading| reading.width_ticks().is_some())
            .min_by_key(|reading| reading.width_ticks())?;
        let half_width_ticks = best.width_ticks()?.div_ceil(2);
        let point = Point { count: best.count, tsc: best.tsc_middle(), half_width_ticks };
        let scale = Scale { nanos_per_tick_q32 };
        let Some(last) = self.last.replace(point) else {
            self.window = Some((point, point));
            return None;
        };
        if point.tsc <= last.tsc || point.count <= last.count {
            return self.stepped(point);
        }
        if let Some(map) = self.map
            && self.is_stepped(&map, last, point, scale)
        {
            return self.stepped(point);
        }
        let (start, _) = self.window?;
        if scale.nanos(point.tsc - start.tsc) < WINDOW_NS_MIN {
            return None;
        }
        let Some(rate) = self.measure_rate(point, scale) else { return self.stepped(point) };
        let map = match self.map {
            None => self.first_map(point, rate, scale),
            Some(before) => self.next_map(&before, point, rate, (tsc_now, scale)),
        };
        let map = self.with_bound(map, point, rate, spread_ticks(burst, &map, half_width_ticks));
        self.map = Some(map);
        Some(map)
    }

    /// The clock could not be read. Returns the map to publish when that is news.
    pub fn lost(&mut self) -> Option<PortMap> {
        self.losses += 1;
        let before = self.map.filter(|map| map.state != ClockState::Holdover)?;
        let drift_ppb = before.drift_ppb.max(self.settings.holdover_ppb);
        let map = PortMap { drift_ppb, state: ClockState::Holdover, ..before };
        self.map = Some(map);
        self.map
    }

    /// Everything begins anew: there is no map until two bursts were taken. Returns what to publish when there was one.
    fn stepped(&mut self, point: Point) -> Option<PortMap> {
        self.steps += 1;
        self.window = Some((point, point));
        self.slew_ppb = 0;
        self.map.take().map(|_| PortMap::none(self.settings.unit))
    }

    /// Holds a reading against the map before it: whether the clock was stepped.
    fn is_stepped(&mut self, map: &PortMap, last: Point, point: Point, scale: Scale) -> bool {
        let Some(expected) = map.tsc_at(point.count) else { return true };
        let offset_ticks = i128::from(point.tsc) - i128::from(expected);
        let offset_ns = scale.signed_nanos(offset_ticks);
        self.offset_ns = offset_ns.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        let bound_ticks = map.bound_ticks_at(point.count).saturating_add(point.half_width_ticks);
        let beyond_ticks = offset_ticks.unsigned_abs().saturating_sub(u128::from(bound_ticks));
        if beyond_ticks > 0 {
            // Its rate has changed by more than it may wander: what was measured before says nothing any more.
            self.window = Some((last, last));
        }
        scale.nanos(u64::try_from(beyond_ticks).unwrap_or(u64::MAX)) > self.settings.step_ns
    }

    /// Ticks of the counter per count over the window; `None` when no clock of this unit runs like that.
    fn measure_rate(&mut self, point: Point, scale: Scale) -> Option<Rate> {
        let (start, later) = self.window.as_mut()?;
        if scale.nanos(point.tsc - start.tsc) > WINDOW_NS_MAX {
            // The window then starts at what was its middle, and is long at every time.
            *start = *later;
            *later = point;
        } else if scale.nanos(later.tsc - start.tsc) < WINDOW_NS_MAX / 2 {
            *later = point;
        }
        let (ticks, counts) = (point.tsc - start.tsc, point.count - start.count);
        let q64 = (u128::from(ticks) << 64) / u128::from(counts.max(1));
        let error_ticks = u128::from(start.half_width_ticks.saturating_add(point.half_width_ticks));
        let error_ppb = error_ticks * BILLION as u128 / u128::from(ticks.max(1));
        let window_ns = scale.nanos(ticks);
        let is_strange = match self.settings.unit {
            PortUnit::Nanoseconds => {
                u128::from(window_ns.abs_diff(counts)) * 1_000_000 > u128::from(window_ns) * RATE_PPM_MAX
            }
            // From 4 MHz to a thousand times the counter's rate, about.
            PortUnit::Ticks => q64 >> 64 > 1_000 || q64 < 1 << 54,
        };
        (!is_strange).then(|| Rate {
            q64,
            error_ppb: u64::try_from(error_ppb).unwrap_or(u64::MAX),
            window_ns,
        })
    }

    fn first_map(&mut self, point: Point, rate: Rate, scale: Scale) -> PortMap {
        self.slew_ppb = 0;
        let per_count = bent(rate.q64, 0);
        PortMap {
            unit: self.settings.unit,
            base: point.count,
            tsc_base: point.tsc,
            tsc_per_count_q32: per_count,
            tsc_per_count_q32_before: per_count,
            bound_ticks: 0,
            drift_ppb: 0,
            bound_ticks_max: scale.ticks(self.settings.bound_ns_max),
            state: ClockState::Converging,
        }
    }

    /// The epoch that follows `before`: it begins a lead ahead of now, where the one before is then, and its rate takes the
    /// offset away.
    fn next_map(
        &mut self,
        before: &PortMap,
        point: Point,
        rate: Rate,
        (tsc_now, scale): (u64, Scale),
    ) -> PortMap {
        let ahead_ticks =
            tsc_now.saturating_sub(point.tsc).saturating_add(scale.ticks(self.settings.lead_ns));
        let ahead = (u128::from(ahead_ticks) << 64) / rate.q64.max(1);
        let base = point.count.saturating_add(u64::try_from(ahead).unwrap_or(u64::MAX));
        let slew_max = i128::from(self.settings.slew_ppm_max) * 1_000;
        // An offset in nanoseconds, to be gone in one second, is a slew in parts per billion.
        self.slew_ppb = (i128::from(self.offset_ns) * BILLION / LOOP_NS).clamp(-slew_max, slew_max);
        let per_count = bent(rate.q64, self.slew_ppb);
        // Updates that come sooner than a lead after one another join where the epoch before begins.
        if base <= before.base {
            return PortMap { tsc_per_count_q32: per_count, ..*before };
        }
        let Some(tsc_base) = before.tsc_at(base) else { return PortMap::none(self.settings.unit) };
        PortMap {
            base,
            tsc_base,
            tsc_per_count_q32: per_count,
            tsc_per_count_q32_before: before.tsc_per_count_q32,
            bound_ticks_max: scale.ticks(self.settings.bound_ns_max),
            ..*before
        }
    }

    fn with_bound(&self, map: PortMap, point: Point, rate: Rate, spread_ticks: u64) -> PortMap {
        // Away from the reading the clock wanders, the rate is a little wrong, and the map bends, before its base as the
        // one before did.
        let bend = |per_count_q32: u64| {
            let measured = i128::try_from(rate.q64 >> 32).unwrap_or(i128::MAX).max(1);
            let bend = (i128::from(per_count_q32) - measured) * BILLION / measured;
            u64::try_from(bend.unsigned_abs()).unwrap_or(u64::MAX)
        };
        let bend_ppb = bend(map.tsc_per_count_q32).max(bend(map.tsc_per_count_q32_before));
        let drift =
            u64::from(self.settings.drift_ppb).saturating_add(rate.error_ppb).saturating_add(bend_ppb);
        let drift_ppb = u32::try_from(drift).unwrap_or(u32::MAX);
        let state = if rate.window_ns < self.settings.window_ns_converged {
            ClockState::Converging
        } else {
            ClockState::Converged
        };
        let map = PortMap { bound_ticks: 0, drift_ppb, state, ..map };
        let offset_ticks = map.tsc_at(point.count).map_or(u64::MAX, |tsc| tsc.abs_diff(point.tsc));
        let parts = [
            offset_ticks,
            point.half_width_ticks,
            spread_ticks,
            // From the reading to the base, at which the bound is stated.
            map.bound_ticks_at(point.count),
            // Rounding of the fixed-point rate and of the two readings.
            4,
        ];
        PortMap { bound_ticks: parts.into_iter().fold(0, u64::saturating_add), ..map }
    }
}

/// The counter's rate, by the node clock.
#[derive(Clone, Copy)]
struct Scale {
    nanos_per_tick_q32: u64,
}

impl Scale {
    fn nanos(self, ticks: u64) -> u64 {
        u64::try_from((u128::from(ticks) * u128::from(self.nanos_per_tick_q32)) >> 32).unwrap_or(u64::MAX)
    }

    fn signed_nanos(self, ticks: i128) -> i128 {
        let nanos = i128::from(self.nanos(u64::try_from(ticks.unsigned_abs()).unwrap_or(u64::MAX)));
        if ticks < 0 { -nanos } else { nanos }
    }

    fn ticks(self, nanos: u64) -> u64 {
        let ticks = (u128::from(nanos) << 32) / u128::from(self.nanos_per_tick_q32.max(1));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

/// `rate` bent by `slew_ppb`, 32.32 fixed point.
fn bent(rate_q64: u128, slew_ppb: i128) -> u64 {
    let rate = i128::try_from(rate_q64).unwrap_or(i128::MAX);
    let bent = rate.saturating_add((rate / BILLION).saturating_mul(slew_ppb)) >> 32;
    u64::try_from(bent.max(1)).unwrap_or(u64::MAX)
}

/// How far apart the burst's readings put the counter, those that took over four times as long as the best left out.
fn spread_ticks(burst: &[JointReading], map: &PortMap, half_width_ticks_best: u64) -> u64 {
    let usable = half_width_ticks_best.saturating_mul(8);
    let offsets =
        burst.iter().filter(|reading| reading.width_ticks().is_some_and(|width| width <= usable)).filter_map(
            |reading| Some(i128::from(reading.tsc_middle()) - i128::from(map.tsc_at(reading.count)?)),
        );
    let (least, most) =
        offsets.fold((i128::MAX, i128::MIN), |(least, most), at| (least.min(at), most.max(at)));
    u64::try_from(most.saturating_sub(least)).unwrap_or(0)
}

#[cfg(test)]
#[path = "port_map_tests.rs"]
mod tests;
