//! Makes a profile for a machine: which stage on which core, by the caches, NUMA nodes and cards that are there.
//!
//! The machine's first core is left to the kernel. Poll threads take one hardware thread of each physical core, on the
//! card's NUMA node, neighbours in packet order beside each other in one L3 cache as far as it reaches.

mod layout;
mod render;

use crate::host::HostCores;
use crate::profile::{CorePlacement, HostWants, Profile, Thread};
use crate::topology::{Nic, Topology};
use layout::Layout;
use std::collections::BTreeMap;

/// Server cards whose drivers DPDK has: others are left to the kernel, whose only network they may be.
const SERVER_CARDS: [&str; 5] = ["ice", "i40e", "mlx5_core", "bnxt_en", "vfio-pci"];
/// Hugepages for a card: 2 GiB hold eight times the node's default of `port.memory_mb`.
const HUGEPAGES: u32 = 1_024;
/// At most this part of a node's memory becomes hugepages.
const MEMORY_PART: u64 = 4;

/// A profile for a machine, and why it is as it is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The profile: it fits the machine that it was made for.
    pub profile: Profile,
    notes: Vec<String>,
    base: &'static str,
}

/// Makes a profile of this name for a machine. `allowed` are the cores that the node may use.
#[must_use]
pub fn plan(topology: &Topology, allowed: &HostCores, name: &str) -> Plan {
    let card = topology
        .nics
        .iter()
        .find(|nic| nic.driver.as_deref().is_some_and(|driver| SERVER_CARDS.contains(&driver)));
    let node = card.and_then(|nic| nic.node).or_else(|| largest_node(topology, allowed));
    let cores = hot_cores(topology, allowed, node);
    let layout = Layout::of(cores.len());
    let mut next = cores.into_iter();
    let mut pin = |pinned: bool| if pinned { next.next() } else { None };
    let placed = layout.threads.iter().map(|name| (name.clone(), Thread { core: pin(layout.pinned) }));
    let threads: BTreeMap<String, Thread> = placed.collect();
    let [control, bls, storage] =
        [0, 1, 2].map(|index| CorePlacement { core: pin(index < layout.own_cores) });
    let profile = Profile {
        name: name.to_owned(),
        lanes: layout.lanes,
        stages: layout.stages.clone(),
        threads,
        control,
        bls,
        storage,
        host: host_wants(topology, node, card, layout.pinned),
        ..layout.rest()
    };
    let notes = notes(topology, allowed, &profile, card);
    Plan { profile, notes, base: layout.base }
}

impl Plan {
    /// The profile's file: every key with the comment that the built-in profiles have for it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        render::toml(&self.profile, &self.notes, self.base)
    }
}

/// The node with the most cores that may be used.
fn largest_node(topology: &Topology, allowed: &HostCores) -> Option<u32> {
    let count = |node: u32| {
        topology.cpus.iter().filter(|cpu| cpu.node == Some(node) && allowed.contains(cpu.cpu)).count()
    };
    // The first of equals: that is where the kernel puts most of a machine's memory and devices.
    topology.nodes.keys().rev().copied().max_by_key(|node| count(*node))
}

/// The cores for the node's threads, best first: those that share an L3 cache together, largest group first.
fn hot_cores(topology: &Topology, allowed: &HostCores, node: Option<u32>) -> Vec<u32> {
    let kernel = topology.cpus.iter().map(|cpu| cpu.core).min();
    let mut groups: BTreeMap<Option<u32>, BTreeMap<u32, u32>> = BTreeMap::new();
    let usable = topology.cpus.iter().filter(|cpu| {
        (node.is_none() || cpu.node == node) && allowed.contains(cpu.cpu) && Some(cpu.core) != kernel
    });
    for cpu in usable {
        groups.entry(cpu.l3).or_default().entry(cpu.core).or_insert(cpu.cpu);
    }
    let mut groups: Vec<Vec<u32>> = groups.into_values().map(|cores| cores.into_values().collect()).collect();
    groups.sort_by_key(|group| (core::cmp::Reverse(group.len()), group.first().copied()));
    groups.concat()
}

fn host_wants(topology: &Topology, node: Option<u32>, card: Option<&Nic>, pinned: bool) -> HostWants {
    let memory = node.and_then(|node| topology.nodes.get(&node).copied().flatten());
    let most =
        memory.map_or(HUGEPAGES, |bytes| u32::try_from((bytes / MEMORY_PART) >> 21).unwrap_or(u32::MAX));
    HostWants {
        hugepages_2mib: if card.is_some() { HUGEPAGES.min(most) } else { 0 },
        numa_node: node.filter(|_| pinned),
        // The driver behind vfio is not known, and the check takes any card that vfio holds for one of this driver.
        nic_driver: card.and_then(|nic| nic.driver.clone()),
    }
}

fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn notes(topology: &Topology, allowed: &HostCores, profile: &Profile, card: Option<&Nic>) -> Vec<String> {
    let mut notes = vec![format!(
        "{}: made for a machine with {}, {} and {}, of which the node may use {allowed}.",
        profile.name,
        count(topology.cores(), "core"),
        count(topology.cpus.len(), "hardware thread"),
        count(topology.nodes.len().max(1), "NUMA node"),
    )];
    let pinned = profile.pinned_cores();
    notes.push(match (pinned.is_empty(), profile.spins()) {
        (true, _) => "Too few cores to give any away: the scheduler places all threads.".to_owned(),
        (false, false) => {
            format!("Threads have cores {pinned} and give them up when there is nothing to do.")
        }
        (false, true) => format!(
            "Poll threads spin on cores {}: keep the kernel off them (`roko tune check` prints how).",
            profile.poll_cores()
        ),
    });
    notes.push(match card {
        Some(nic) => format!("The card is {}.", nic.label()),
        None => "No server network card was found: the ports are virtual, or set host.nic_driver.".to_owned(),
    });
    notes
}
