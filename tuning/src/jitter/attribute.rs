//! From counters to a cause.

use serde::Serialize;

/// What the loop itself was doing during a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// Nothing: it polled.
    #[default]
    Idle,
    /// Work of its own.
    Work,
    /// Publishing its figures.
    Housekeeping,
}

/// Why a loop did not come round in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// An interrupt, or a softirq behind it, ran on the core.
    Interrupt,
    /// The hypervisor ran something else on the core.
    Steal,
    /// The kernel ran another thread on the core, or a quota was used up.
    Preemption,
    /// A signal or a debugger stopped the thread, a freezer did, or a system call of its own waited.
    Stop,
    /// Memory was touched that the kernel had to provide first.
    PageFault,
    /// The loop did too much of its own work in one turn.
    Overrun,
    /// The loop published its figures.
    Housekeeping,
    /// Nothing that was read explains it.
    #[default]
    Unknown,
}

impl Cause {
    /// Every cause, in the order of tables.
    pub const ALL: [Cause; 8] = [
        Cause::Interrupt,
        Cause::Steal,
        Cause::Preemption,
        Cause::Stop,
        Cause::PageFault,
        Cause::Overrun,
        Cause::Housekeeping,
        Cause::Unknown,
    ];

    /// As tables show it; the JSON's name with spaces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Interrupt => "interrupt",
            Cause::Steal => "steal",
            Cause::Preemption => "preemption",
            Cause::Stop => "stop",
            Cause::PageFault => "page fault",
            Cause::Overrun => "overrun",
            Cause::Housekeeping => "housekeeping",
            Cause::Unknown => "unknown",
        }
    }

    /// What it is, and what mends it; lines of `roko tune check` are named as that prints them.
    #[must_use]
    pub const fn mend(self) -> &'static str {
        match self {
            Cause::Interrupt => {
                "a device, the timer tick or another core interrupted this one: lines irq-affinity, nohz_full and rcu_nocbs"
            }
            Cause::Steal => {
                "the hypervisor had the core: nothing inside this machine mends it; dedicated cores, or a machine of its own"
            }
            Cause::Preemption => {
                "another thread had the core: line isolcpus, one busy thread a core, no CPU quota (cpu.max) on the service"
            }
            Cause::Stop => {
                "a signal, debugger or freezer stopped the thread, or a system call waited: look for who sends SIGSTOP"
            }
            Cause::PageFault => {
                "memory was not there yet: lines hugepages, memlock and thp; touch and lock memory before the loop begins"
            }
            Cause::Overrun => {
                "the loop's own work took too long: a smaller burst or messages_per_poll, or move a stage to another thread"
            }
            Cause::Housekeeping => {
                "the loop published its figures: fewer stages a thread, or a longer interval"
            }
            Cause::Unknown => {
                "the kernel counted nothing: firmware (SMI) or power management; lines governor and c-states, then the BIOS"
            }
        }
    }
}

/// A gap, and what was counted from the reading of the counters before it to the one after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// How long the loop did not come round, nanoseconds.
    pub gap_ns: u64,
    /// What the loop was doing.
    pub activity: Activity,
    /// Between the two readings of the counters, nanoseconds.
    pub window_ns: u64,
    /// Of the window, how long the thread was on a core by the kernel's account.
    pub running_ns: u64,
    /// Of the window, how long it was runnable and something else had the core.
    pub waiting_ns: u64,
    /// Times it gave up the core by itself.
    pub voluntary_switches: u64,
    /// Times the core was taken from it.
    pub involuntary_switches: u64,
    /// Page faults without a disk.
    pub minor_faults: u64,
    /// Page faults with one.
    pub major_faults: u64,
    /// Interrupts on the core.
    pub interrupts: u64,
    /// Softirqs on the core.
    pub softirqs: u64,
    /// Stolen time of the core, in the kernel's ticks of 10 ms.
    pub steal_ticks: u64,
    /// The machine is a guest.
    pub under_hypervisor: bool,
}

/// The longest that one of each plausibly takes, nanoseconds. A minor fault can clear a page of 2 MiB; an interrupt takes
/// microseconds, but a guest pays for it with exits to the hypervisor.
const MINOR_FAULT_NS_MAX: u64 = 250_000;
const MAJOR_FAULT_NS_MAX: u64 = 50_000_000;
const INTERRUPT_NS_MAX: u64 = 100_000;
const SOFTIRQ_NS_MAX: u64 = 200_000;
/// While the loop has work of its own, an interrupt must explain the gap by what it usually takes.
const INTERRUPT_NS_USUAL: u64 = 10_000;

/// The cause of a gap: what explains at least half of it.
///
/// Time is measured where the kernel measures it: a thread that was not on its core either waited for it (preemption),
/// had given it up (stop), or neither, and then the hypervisor had it. What the kernel only counts (faults, interrupts)
/// explains a gap when so many of them can take that long. What is left is the loop's own work, if it had any.
#[must_use]
pub fn attribute(evidence: &Evidence) -> Cause {
    let half = evidence.gap_ns / 2;
    let off_core = evidence.window_ns.saturating_sub(evidence.running_ns);
    let waited = evidence.waiting_ns.min(off_core);
    let away = off_core - waited;
    if waited >= half {
        return Cause::Preemption;
    }
    if away >= half {
        return match (evidence.voluntary_switches, evidence.involuntary_switches, evidence.steal_ticks) {
            (0, 0, _) => Cause::Steal,
            // Taken off the core and not put back into the queue: a quota.
            (0, _, 0) => Cause::Preemption,
            (0, _, _) => Cause::Steal,
            _ if evidence.major_faults > 0 => Cause::PageFault,
            _ => Cause::Stop,
        };
    }
    // Waiting and being away explain it together, neither alone: the greater one says it.
    if waited + away >= half {
        return if waited >= away { Cause::Preemption } else { Cause::Steal };
    }
    let minor = evidence.minor_faults.saturating_mul(MINOR_FAULT_NS_MAX);
    let major = evidence.major_faults.saturating_mul(MAJOR_FAULT_NS_MAX);
    if evidence.minor_faults + evidence.major_faults > 0 && minor.saturating_add(major) >= half {
        return Cause::PageFault;
    }
    let interrupts = evidence.interrupts.saturating_mul(INTERRUPT_NS_MAX);
    let softirqs = evidence.softirqs.saturating_mul(SOFTIRQ_NS_MAX);
    let by_kernel = interrupts.saturating_add(softirqs);
    let usual = evidence.interrupts.saturating_mul(INTERRUPT_NS_USUAL);
    match evidence.activity {
        Activity::Idle if by_kernel > 0 && by_kernel >= half => Cause::Interrupt,
        Activity::Idle if evidence.under_hypervisor || evidence.steal_ticks > 0 => Cause::Steal,
        Activity::Idle => Cause::Unknown,
        _ if usual > 0 && usual >= half => Cause::Interrupt,
        Activity::Work => Cause::Overrun,
        Activity::Housekeeping => Cause::Housekeeping,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gap of a millisecond in a loop that did nothing, of which the kernel noticed nothing.
    const QUIET: Evidence = Evidence {
        gap_ns: 1_000_000,
        activity: Activity::Idle,
        window_ns: 5_000_000,
        running_ns: 5_000_000,
        waiting_ns: 0,
        voluntary_switches: 0,
        involuntary_switches: 0,
        minor_faults: 0,
        major_faults: 0,
        interrupts: 0,
        softirqs: 0,
        steal_ticks: 0,
        under_hypervisor: false,
    };

    #[test]
    fn what_was_not_on_its_core_waited_was_stopped_or_was_stolen_from() {
        let off = Evidence { running_ns: 4_000_000, ..QUIET };
        let preempted = Evidence { waiting_ns: 990_000, involuntary_switches: 1, ..off };
        assert_eq!(attribute(&preempted), Cause::Preemption);
        assert_eq!(attribute(&Evidence { interrupts: 3, ..preempted }), Cause::Preemption, "by the tick");
        assert_eq!(attribute(&off), Cause::Steal);
        assert_eq!(attribute(&Evidence { interrupts: 1, ..off }), Cause::Steal, "the timer that fell due");
        assert_eq!(attribute(&Evidence { involuntary_switches: 1, ..off }), Cause::Preemption, "a quota");
        let stopped = Evidence { voluntary_switches: 1, waiting_ns: 30_000, ..off };
        assert_eq!(attribute(&stopped), Cause::Stop);
        assert_eq!(
            attribute(&Evidence { major_faults: 1, ..stopped }),
            Cause::PageFault,
            "it waited for the disk"
        );
    }

    #[test]
    fn what_was_on_its_core_is_explained_by_what_can_take_that_long() {
        let working = Evidence { activity: Activity::Work, ..QUIET };
        let fault = |minor_faults, of| attribute(&Evidence { minor_faults, ..of });
        assert_eq!(fault(64, QUIET), Cause::PageFault);
        assert_eq!(fault(64, working), Cause::PageFault);
        assert_eq!(fault(1, working), Cause::Overrun, "one fault takes no millisecond");
        let short = Evidence { gap_ns: 6_000, ..QUIET };
        let interrupt = |interrupts, of| attribute(&Evidence { interrupts, ..of });
        assert_eq!(interrupt(1, short), Cause::Interrupt);
        assert_eq!(interrupt(1, Evidence { under_hypervisor: true, ..QUIET }), Cause::Steal);
        assert_eq!(interrupt(1, Evidence { activity: Activity::Work, ..short }), Cause::Interrupt);
        assert_eq!(interrupt(1, working), Cause::Overrun);
        assert_eq!(attribute(&working), Cause::Overrun);
        assert_eq!(attribute(&Evidence { activity: Activity::Housekeeping, ..QUIET }), Cause::Housekeeping);
        assert_eq!(attribute(&QUIET), Cause::Unknown);
        assert_eq!(attribute(&Evidence { under_hypervisor: true, ..QUIET }), Cause::Steal);
    }

    #[test]
    fn the_longest_part_decides_and_no_numbers_panic() {
        let mixed = Evidence { running_ns: 4_000_000, waiting_ns: 450_000, gap_ns: 1_000_000, ..QUIET };
        assert_eq!(attribute(&mixed), Cause::Steal, "550 us away, 450 us waiting");
        let max = u64::MAX;
        let all = Evidence {
            gap_ns: max,
            window_ns: max,
            running_ns: 0,
            waiting_ns: max,
            minor_faults: max / 2,
            major_faults: max / 2,
            interrupts: max,
            softirqs: max,
            steal_ticks: max,
            ..QUIET
        };
        assert_eq!(attribute(&all), Cause::Preemption);
        let none = Evidence { gap_ns: 0, window_ns: 0, running_ns: max, ..QUIET };
        assert_eq!(attribute(&none), Cause::Preemption, "half of nothing");
    }

    #[test]
    fn every_cause_has_a_name_and_says_what_mends_it() {
        for cause in Cause::ALL {
            let json = serde_json::to_value(cause).expect("a name");
            assert_eq!(json.as_str().map(|name| name.replace('_', " ")).as_deref(), Some(cause.name()));
            assert!(cause.mend().len() > 40);
        }
    }
}
