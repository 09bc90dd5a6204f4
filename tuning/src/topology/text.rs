//! The topology for a terminal, with a profile's threads on their cores.

use super::{Cpu, Topology, bytes};
use crate::placement::PlacedThread;
use crate::profile::Profile;
use core::fmt::Write;
use std::collections::BTreeSet;

/// The threads that are pinned to this CPU, as they are shown.
pub(super) fn users(threads: &[PlacedThread], cpu: u32) -> Vec<String> {
    threads.iter().filter(|thread| thread.core == Some(cpu)).map(PlacedThread::label).collect()
}

/// What a group of CPUs is called: `package 0, node 0 (12.0 GiB), L3 cache of 32 MiB`.
pub(super) fn group(topology: &Topology, cpu: &Cpu) -> String {
    let node = match cpu.node {
        Some(node) => match topology.nodes.get(&node).copied().flatten() {
            Some(memory) => format!("NUMA node {node} ({})", bytes(memory)),
            None => format!("NUMA node {node}"),
        },
        None => "no NUMA node".to_owned(),
    };
    let cache = match cpu.l3.and_then(|l3| topology.l3.get(&l3)) {
        Some(size) => format!("L3 cache of {}", bytes(*size)),
        None => "L3 cache unknown".to_owned(),
    };
    format!("package {}, {node}, {cache}", cpu.package)
}

/// What belongs together: one group each of package, node and L3 cache, in that order.
pub(super) fn groups(topology: &Topology) -> Vec<Vec<Cpu>> {
    let key = |cpu: &Cpu| (cpu.package, cpu.node, cpu.l3);
    let keys: BTreeSet<_> = topology.cpus.iter().map(key).collect();
    let of = |wanted| topology.cpus.iter().copied().filter(|cpu| key(cpu) == wanted).collect();
    keys.into_iter().map(of).collect()
}

/// The physical cores of a group, each with its hardware threads.
pub(super) fn cores(group: &[Cpu]) -> Vec<Vec<Cpu>> {
    let cores: BTreeSet<u32> = group.iter().map(|cpu| cpu.core).collect();
    let of = |core| group.iter().copied().filter(|cpu| cpu.core == core).collect();
    cores.into_iter().map(of).collect()
}

/// The threads that the drawing of cores cannot show, each with the reason.
pub(super) fn unplaced(topology: &Topology, profile: &Profile) -> Vec<String> {
    let threads = profile.placed_threads();
    let why = |thread: &PlacedThread| match thread.core {
        None => Some(format!("{}: not pinned, the scheduler chooses", thread.label())),
        Some(core) if topology.cpu(core).is_none() => {
            Some(format!("{}: core {core} is not online here", thread.label()))
        }
        Some(_) => None,
    };
    threads.iter().filter_map(why).collect()
}

/// One line a network device.
pub(super) fn nics(topology: &Topology) -> Vec<String> {
    let line = |nic: &super::Nic| {
        let node =
            nic.node.map_or_else(|| "NUMA node not told".to_owned(), |node| format!("NUMA node {node}"));
        let driver = nic.driver.as_deref().unwrap_or("no driver");
        let clocks =
            if nic.clocks.is_empty() { String::new() } else { format!(", {}", nic.clocks.join(" ")) };
        format!("{}: {driver}, {node}{clocks}", nic.label())
    };
    topology.nics.iter().map(line).collect()
}

impl Topology {
    /// The machine as text, with the threads of `profile` on their cores.
    #[must_use]
    pub fn to_text(&self, profile: &Profile) -> String {
        let threads = profile.placed_threads();
        let mut out = format!(
            "profile {}, idle strategy {}\n{} cores, {} hardware threads (by {})\n",
            profile.name,
            profile.idle.strategy.name(),
            self.cores(),
            self.cpus.len(),
            self.source
        );
        for cpus in groups(self) {
            let _ = writeln!(out, "\n{}", group(self, &cpus[0]));
            for core in cores(&cpus) {
                for (index, cpu) in core.iter().enumerate() {
                    let branch = if index == 0 { "core" } else { "  + SMT" };
                    let users = users(&threads, cpu.cpu).join(", ");
                    let line = format!("  {branch:<8}{:>4}  {users}", cpu.cpu);
                    let _ = writeln!(out, "{}", line.trim_end());
                }
            }
        }
        let mut section = |title: &str, lines: Vec<String>, none: &str| {
            let lines = if lines.is_empty() { vec![none.to_owned()] } else { lines };
            let _ = writeln!(out, "\n{title}");
            lines.iter().filter(|line| !line.is_empty()).for_each(|line| _ = writeln!(out, "  {line}"));
        };
        section("network devices", nics(self), "none on a bus");
        let unplaced = unplaced(self, profile);
        if !unplaced.is_empty() {
            section("threads on no core above", unplaced, "");
        }
        out
    }
}
