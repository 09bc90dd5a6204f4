//! What disturbs the profile's cores: the scheduler, ticks, interrupts, sleep, and siblings.

use super::{Finding, State, Subject, command};
use crate::change;
use crate::host::HostCores;
use crate::machine::{CPUS, IDLE_EXIT_US_MAX, Machine};
use std::collections::BTreeSet;

const UNPINNED: &str = "no poll thread of the profile is pinned";
const YIELDS: &str = "no thread of the profile spins on a core of its own";

pub(super) fn profile_fits(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "profile",
        why: "the node refuses to start with a profile that does not fit the cores it may use",
        cost: "nothing: it makes a profile file for this machine",
    };
    let host = match HostCores::of(machine.tree) {
        Ok(host) => host,
        Err(error) => return subject.finding(State::Unknown, error.to_string(), None),
    };
    let problems = machine.profile.validate_on(&host, machine.topology);
    match problems.as_slice() {
        [] => subject.ok(format!("{} fits, on cores {host}", machine.profile.name)),
        problems => {
            let all: Vec<String> = problems.iter().map(|problem| format!("\n{problem}")).collect();
            let seen = format!("{} does not fit:{}", machine.profile.name, all.concat());
            subject.matters(seen, "roko tune plan --output my.toml, then --profile my.toml")
        }
    }
}

/// A check of a list of cores that boot parameters make, for profiles that spin.
fn boot_list(
    machine: &Machine<'_>,
    subject: Subject,
    what: &str,
    read: impl FnOnce() -> Result<HostCores, crate::TreeError>,
) -> Finding {
    let cores = machine.profile.poll_cores();
    if cores.is_empty() || !machine.profile.spins() {
        return subject.not_needed(YIELDS);
    }
    subject.read(read(), |have| {
        let missing = cores.without(&have);
        match missing.is_empty() {
            true => subject.ok(format!("cores {cores} {what}")),
            false => {
                let mend = Machine::boot_command(&machine.boot_parameters());
                subject.matters(format!("of cores {cores} these are not {what}: {missing}"), mend)
            }
        }
    })
}

pub(super) fn isolcpus(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "isolcpus",
        why: "the scheduler puts other threads on a spinning core: each takes a whole time slice from it",
        cost: "the cores do nothing else; a restart (an isolated cpuset needs none)",
    };
    boot_list(machine, subject, "isolated", || machine.isolated())
}

pub(super) fn nohz_full(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "nohz_full",
        why: "the timer interrupts a busy core at every tick (CONFIG_HZ: 100 to 1000 a second), which shows in p99.9",
        cost: "system calls on these cores are a little slower; a restart",
    };
    boot_list(machine, subject, "without ticks", || {
        let path = format!("{CPUS}/nohz_full");
        match machine.tree.cpus(&path) {
            // A kernel without CONFIG_NO_HZ_FULL has no such file, and ticks on every core.
            Err(error) if error.is_missing() && machine.tree.has(CPUS) => Ok(HostCores::default()),
            other => other,
        }
    })
}

pub(super) fn rcu_nocbs(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "rcu_nocbs",
        why: "the kernel frees its memory in callbacks on the cores themselves, in the midst of a burst",
        cost: "a kernel thread on the other cores does it; a restart",
    };
    boot_list(machine, subject, "without RCU callbacks", || {
        let line = machine.tree.read("proc/cmdline")?;
        let values = |key: &str| -> Vec<HostCores> {
            let lists = line.split_whitespace().filter_map(|word| word.strip_prefix(key));
            let all = || machine.topology.online();
            lists
                .filter_map(|list| if list == "all" { Some(all()) } else { HostCores::parse_list(list) })
                .collect()
        };
        // Cores of nohz_full are off-loaded without being named again (kernel-parameters.txt, nohz_full=).
        let lists = [values("rcu_nocbs="), values("nohz_full=")].concat();
        Ok(HostCores::new(lists.iter().flat_map(HostCores::iter)))
    })
}

pub(super) fn irq_affinity(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "irq-affinity",
        why: "an interrupt on a poll core stops the burst in hand for as long as its handler runs",
        cost: "the other cores take them; irqbalance moves them back unless IRQBALANCE_BANNED_CPULIST names the cores",
    };
    let cores = machine.profile.poll_cores();
    if cores.is_empty() {
        return subject.not_needed(UNPINNED);
    }
    let read = machine.irqs_on(&cores).and_then(|irqs| Ok((irqs, change::irqs(machine)?)));
    subject.read(read, |(irqs, changes)| {
        let numbers: Vec<String> = irqs.iter().map(|irq| irq.irq.to_string()).collect();
        match (irqs.is_empty(), changes.is_empty()) {
            (true, true) => subject.ok(format!("no interrupt may reach cores {cores}")),
            (true, false) => subject.matters(
                format!("interrupts made later may reach cores {cores}"),
                command(machine, &changes),
            ),
            (false, false) => subject.matters(
                format!("{} interrupts may reach cores {cores}: {}", numbers.len(), numbers.join(" ")),
                command(machine, &changes),
            ),
            (false, true) => subject.matters(
                format!("poll threads have every core, so interrupts reach them: {}", numbers.join(" ")),
                "roko tune plan --output my.toml, which leaves a core to the kernel",
            ),
        }
    })
}

/// Whether the kernel has a core, and lacks this part of it.
fn lacks(machine: &Machine<'_>, cpu: u32, part: &str) -> bool {
    let at = format!("{CPUS}/cpu{cpu}");
    machine.tree.has(&at) && !machine.tree.has(&format!("{at}/{part}"))
}

pub(super) fn governor(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "governor",
        why: "a core that clocks down between bursts answers the next one slowly",
        cost: "power, and heat that other cores' boost would have used",
    };
    let cores = machine.profile.pinned_cores();
    if cores.is_empty() {
        return subject.not_needed("no thread of the profile is pinned");
    }
    if let Some(cpu) = cores.iter().find(|cpu| lacks(machine, *cpu, "cpufreq")) {
        let seen = format!("core {cpu} has no cpufreq driver: firmware or a hypervisor sets its clock");
        return subject.finding(State::Unknown, seen, None);
    }
    subject.read(change::governors(machine), |changes| match changes.as_slice() {
        [] => subject.ok(format!("performance on cores {cores}")),
        [first, ..] => subject.matters(
            format!(
                "{} of {} cores are not on performance but on {}",
                changes.len(),
                cores.count(),
                first.before
            ),
            command(machine, &changes),
        ),
    })
}

pub(super) fn c_states(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "c-states",
        why: "a core that sleeps deeply wakes late: the exit time is added to each sleep of its thread",
        cost: "power, and heat that other cores' boost would have used",
    };
    let cores = machine.profile.sleeping_cores();
    if cores.is_empty() {
        return subject.not_needed("no pinned core of the profile ever sleeps, or none is pinned");
    }
    // A kernel without an idle driver says so here, and has no states.
    if machine.tree.read(&format!("{CPUS}/cpuidle/current_driver")).is_ok_and(|driver| driver == "none") {
        return subject.ok("the kernel has no idle driver: cores halt, which firmware may deepen");
    }
    if let Some(cpu) = cores.iter().find(|cpu| lacks(machine, *cpu, "cpuidle")) {
        let seen = format!(
            "core {cpu} has no cpuidle states: firmware or a hypervisor decides how deeply it sleeps"
        );
        return subject.finding(State::Unknown, seen, None);
    }
    subject.read(
        machine.deep_idle(&cores).and_then(|deep| Ok((deep, change::c_states(machine)?))),
        |(deep, changes)| {
            let slow: BTreeSet<String> = deep
                .iter()
                .filter(|state| state.enabled)
                .map(|state| format!("{} ({} us)", state.name, state.exit_us))
                .collect();
            match slow.is_empty() {
                true => subject
                    .ok(format!("no state takes more than {IDLE_EXIT_US_MAX} us to leave on cores {cores}")),
                false => subject.matters(
                    format!("cores {cores} may enter {}", Vec::from_iter(slow).join(", ")),
                    command(machine, &changes),
                ),
            }
        },
    )
}

pub(super) fn smt(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "smt",
        why: "a busy sibling takes a part of the core's units and caches from the poll thread, which shows as slow bursts",
        cost: "the siblings are lost for other work until they are put back with `echo 1`",
    };
    let cores = machine.profile.poll_cores();
    if cores.is_empty() {
        return subject.not_needed(UNPINNED);
    }
    let absent = cores.without(&machine.topology.online());
    if !absent.is_empty() {
        let seen = format!("cores {absent} are not online: what they share cannot be told");
        return subject.finding(State::Unknown, seen, None);
    }
    let pinned = machine.profile.pinned_cores();
    let isolated = machine.isolated().unwrap_or_default();
    let mut seen = Vec::new();
    let mut idle = BTreeSet::new();
    for cpu in cores.iter() {
        for sibling in machine.topology.siblings(cpu) {
            if pinned.contains(sibling) {
                seen.push(format!("cores {cpu} and {sibling} are one, and the profile uses both"));
            } else if !isolated.contains(sibling) {
                seen.push(format!("core {cpu} has the sibling {sibling}, which the scheduler uses"));
                idle.insert(format!("{CPUS}/cpu{sibling}/online"));
            }
        }
    }
    let offline = Vec::from_iter(idle.iter().map(|path| format!("/{path}"))).join(" ");
    match (seen.is_empty(), idle.is_empty()) {
        (true, _) => subject.ok(format!("no poll thread shares a physical core ({cores})")),
        (false, true) => {
            subject.matters(seen.join("; "), "roko tune plan --output my.toml, which uses one a core")
        }
        (false, false) => subject.matters(seen.join("; "), format!("echo 0 | sudo tee {offline}")),
    }
}
