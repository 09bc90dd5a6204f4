//! The kernel's counters of the calling thread and its core, as differences.

use roko_os::OsError;
use roko_os::tsc::tsc;
use roko_os::usage::{KernelFile, ThreadUsage, ThreadUsageReader};
use roko_tuning::fingerprint::under_hypervisor;
use roko_tuning::jitter::{CoreColumn, steal_ticks};

/// Readings of the thread's account until one was not held up.
const TRIES_MAX: usize = 4;

/// What was counted between two readings.
#[derive(Default)]
pub(super) struct Counted {
    /// Ticks of the time-stamp counter, and its value when the thread's account had been read.
    pub(super) ticks: u64,
    pub(super) at: u64,
    pub(super) thread: ThreadUsage,
    pub(super) interrupts: u64,
    /// The row of interrupts that grew most.
    pub(super) interrupt: Option<usize>,
    pub(super) softirqs: u64,
    pub(super) steal_ticks: u64,
}

/// See the module.
pub(super) struct Kernel {
    core: usize,
    usage: ThreadUsageReader,
    interrupts: (KernelFile, CoreColumn),
    softirqs: (KernelFile, CoreColumn),
    stat: KernelFile,
    /// What the counters are compared with.
    thread: ThreadUsage,
    steal: u64,
    /// Ticks that all readings together take when nothing holds them up.
    fastest: u64,
    pub(super) under_hypervisor: bool,
}

fn column(path: &str, core: usize) -> Result<(KernelFile, CoreColumn), OsError> {
    let mut file = KernelFile::open(path)?;
    let column = CoreColumn::of(core, file.read());
    Ok((file, column))
}

impl Kernel {
    /// The counters of the calling thread, which is pinned to `core`. Everything that is needed is allocated here.
    pub(super) fn of_this_thread(core: usize) -> Result<Kernel, OsError> {
        let usage = ThreadUsageReader::of_this_thread();
        let thread = usage.read()?;
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Ok(Kernel {
            core,
            usage,
            interrupts: column("/proc/interrupts", core)?,
            softirqs: column("/proc/softirqs", core)?,
            stat: KernelFile::open("/proc/stat")?,
            thread,
            steal: 0,
            fastest: u64::MAX,
            under_hypervisor: under_hypervisor(&cpuinfo),
        })
    }

    pub(super) fn interrupt_names(&self) -> Vec<String> {
        (0..self.interrupts.1.rows()).map(|row| self.interrupts.1.name(row).to_owned()).collect()
    }

    /// What was counted since [`Kernel::settle`]. The thread's own account is read first: it is what decides most.
    pub(super) fn since_settled(&mut self) -> Result<Counted, OsError> {
        let mut counted = self.thread_since()?;
        (counted.interrupts, counted.interrupt) = self.interrupts.1.advance(self.interrupts.0.read());
        (counted.softirqs, _) = self.softirqs.1.advance(self.softirqs.0.read());
        let steal = steal_ticks(self.core, self.stat.read());
        counted.steal_ticks = steal.saturating_sub(self.steal);
        self.steal = steal;
        Ok(counted)
    }

    /// Has everything that is counted from now on be new, and returns what the thread's own account says of the time since it
    /// was last read. What comes while the counters are read is in none of them: a reading that took twice as long as the
    /// fastest was held up, and is taken again.
    pub(super) fn settle(&mut self) -> Result<Counted, OsError> {
        let first = self.thread;
        for _ in 0..TRIES_MAX {
            let began = tsc();
            self.interrupts.1.advance(self.interrupts.0.read());
            self.softirqs.1.advance(self.softirqs.0.read());
            self.steal = steal_ticks(self.core, self.stat.read());
            self.thread = self.usage.read()?;
            let took = self.thread.tsc.wrapping_sub(began);
            self.fastest = self.fastest.min(took);
            if took <= 2 * self.fastest {
                break;
            }
        }
        Ok(between(&first, &self.thread))
    }

    /// What the thread's own account says of the time since it was last read.
    fn thread_since(&mut self) -> Result<Counted, OsError> {
        let now = self.usage.read()?;
        Ok(between(&core::mem::replace(&mut self.thread, now), &now))
    }
}

fn between(before: &ThreadUsage, after: &ThreadUsage) -> Counted {
    let less = |after: u64, before: u64| after.saturating_sub(before);
    let thread = ThreadUsage {
        tsc: after.tsc.wrapping_sub(before.tsc),
        running_ns: less(after.running_ns, before.running_ns),
        waiting_ns: less(after.waiting_ns, before.waiting_ns),
        voluntary_switches: less(after.voluntary_switches, before.voluntary_switches),
        involuntary_switches: less(after.involuntary_switches, before.involuntary_switches),
        minor_faults: less(after.minor_faults, before.minor_faults),
        major_faults: less(after.major_faults, before.major_faults),
    };
    Counted { ticks: thread.tsc, at: after.tsc, thread, ..Counted::default() }
}
