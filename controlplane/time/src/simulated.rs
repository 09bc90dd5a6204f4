//! A simulated clock of a card, for tests: it runs beside the CPU's counter at a rate of its own, and is told to drift, to
//! step and to fail. What it says follows from the counter exactly, so a test knows the truth.

use crate::phc::{Phc, PhcError, Readings, joint};
use roko_os::tsc;
use roko_ring::seqlock::{Page, PageWriter, page};
use roko_wire::port_clock::PortUnit;

/// Where the clock is: the counter and the count at a base, ticks of the counter per count (32.32), whether it fails.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Course {
    tsc_base: u64,
    base: u64,
    per_tick_q32: u64,
    fails: bool,
}
roko_ring::words!(Course { tsc_base: u64, base: u64, per_tick_q32: u64, fails: bool });

impl Course {
    fn count_at(&self, tsc: u64) -> u64 {
        let ahead = u128::from(tsc.saturating_sub(self.tsc_base)) * u128::from(self.per_tick_q32);
        self.base.saturating_add((ahead >> 32) as u64)
    }
}

/// What tells a [`SimulatedPhc`] to go wrong.
pub struct SimulatedControl {
    course: Course,
    writer: PageWriter<Course>,
}

/// See the module. Clones are one clock.
#[derive(Clone)]
pub struct SimulatedPhc {
    unit: PortUnit,
    course: Page<Course>,
}

impl SimulatedPhc {
    /// A clock that shows `count` now and advances by `per_tick_q32` (32.32 fixed point) a tick of the counter.
    #[must_use]
    pub fn new(unit: PortUnit, count: u64, per_tick_q32: u64) -> (SimulatedPhc, SimulatedControl) {
        let course = Course { tsc_base: tsc::tsc_ordered(), base: count, per_tick_q32, fails: false };
        let (writer, reader) = page(course);
        (SimulatedPhc { unit, course: reader }, SimulatedControl { course, writer })
    }

    /// What it shows at counter value `tsc`, also while it fails: its stamps go on.
    #[must_use]
    pub fn count_at(&self, tsc: u64) -> u64 {
        self.course.read().count_at(tsc)
    }
}

impl SimulatedControl {
    fn change(&mut self, change: impl FnOnce(&mut Course)) {
        let now = tsc::tsc_ordered();
        (self.course.base, self.course.tsc_base) = (self.course.count_at(now), now);
        change(&mut self.course);
        self.writer.write(&self.course);
    }

    /// Makes it run faster by this many parts per billion than it does, or slower.
    pub fn drift(&mut self, ppb: i64) {
        self.change(|course| {
            let by = i128::from(course.per_tick_q32) * i128::from(ppb) / 1_000_000_000;
            course.per_tick_q32 = (i128::from(course.per_tick_q32) + by).clamp(1, u64::MAX.into()) as u64;
        });
    }

    /// Sets it forward by this many counts, or back.
    pub fn step(&mut self, counts: i64) {
        self.change(|course| course.base = course.base.saturating_add_signed(counts));
    }

    /// Whether it can be read.
    pub fn fail(&mut self, fails: bool) {
        self.change(|course| course.fails = fails);
    }
}

impl Phc for SimulatedPhc {
    fn unit(&self) -> PortUnit {
        self.unit
    }
    fn name(&self) -> String {
        "simulated".to_owned()
    }
    fn read(&mut self) -> Result<Readings, PhcError> {
        if self.course.read().fails {
            return Err(PhcError::Simulated);
        }
        joint(|| Ok(self.count_at(tsc::tsc_ordered())))
    }
}
