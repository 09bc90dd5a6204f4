//! Network cards, what they are bound to, where they sit, and their clocks.

use super::{Finding, Subject};
use crate::machine::Machine;
use crate::topology::Nic;
use std::collections::BTreeSet;

const VIRTUAL: &str = "the profile names no card (host.nic_driver): its ports are virtual";

/// The cards that the profile may mean: those of its driver, else those that vfio holds, whose driver nobody knows.
fn cards<'a>(machine: &Machine<'a>) -> Vec<&'a Nic> {
    let topology = machine.topology;
    let driven = |driver: &str| {
        topology.nics.iter().filter(|nic| nic.driver.as_deref() == Some(driver)).collect::<Vec<_>>()
    };
    let Some(wanted) = machine.profile.host.nic_driver.as_deref() else { return Vec::new() };
    let own = driven(wanted);
    if own.is_empty() && machine.needs_vfio() { driven("vfio-pci") } else { own }
}

pub(super) fn numa(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "numa",
        why: "what crosses from one NUMA node to another takes longer and shares the link between them",
        cost: "nothing but a changed profile",
    };
    let pinned = machine.profile.pinned_cores();
    if pinned.is_empty() {
        return subject.not_needed("no thread of the profile is pinned");
    }
    if machine.topology.nodes.len() < 2 {
        return subject.ok("this machine has one NUMA node");
    }
    let node_of = |cpu| machine.topology.cpu(cpu).and_then(|cpu| cpu.node);
    let nodes: BTreeSet<u32> = pinned.iter().filter_map(node_of).collect();
    let mut seen = Vec::new();
    if nodes.len() > 1 {
        seen.push(format!("the profile's cores {pinned} are on nodes {nodes:?}"));
    }
    if let Some(node) = machine.profile.host.numa_node
        && nodes.iter().any(|used| *used != node)
    {
        seen.push(format!("host.numa_node is {node}, and the cores are on {nodes:?}"));
    }
    for nic in cards(machine) {
        if let Some(node) = nic.node.filter(|node| !nodes.contains(node)) {
            seen.push(format!("{} is on node {node}, and the cores are on {nodes:?}", nic.label()));
        }
    }
    match seen.is_empty() {
        true => subject.ok(format!("cores {pinned} are on node {nodes:?}")),
        false => subject.matters(seen.join("; "), "roko tune plan --output my.toml"),
    }
}

pub(super) fn vfio(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "vfio",
        why: "DPDK drives the card from the node's own process, and the kernel hands cards out through vfio-pci",
        cost: "the kernel's network loses the card that is bound to it",
    };
    match &machine.profile.host.nic_driver {
        None => return subject.not_needed(VIRTUAL),
        Some(driver) if !machine.needs_vfio() => {
            return subject.not_needed(format!("DPDK shares the card with {driver}"));
        }
        Some(_) => {}
    }
    if !machine.tree.has("sys/bus/pci") {
        return subject.finding(super::State::Unknown, "/sys/bus/pci is not there: is /sys mounted?", None);
    }
    match machine.tree.has("sys/bus/pci/drivers/vfio-pci") {
        true => subject.ok("vfio-pci is loaded"),
        false => subject.matters("vfio-pci is not loaded", "sudo modprobe vfio-pci"),
    }
}

pub(super) fn iommu(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "iommu",
        why: "vfio lets a card at nothing but the node's memory only where there is an IOMMU",
        cost: "a restart; in pass-through mode (iommu=pt) next to nothing later",
    };
    if !machine.needs_vfio() {
        return subject.not_needed("no card of the profile goes through vfio");
    }
    subject.read(machine.tree.names("sys/kernel/iommu_groups"), |groups| match groups.len() {
        0 => subject.matters(
            "the kernel runs without an IOMMU",
            format!(
                "switch it on in the firmware (VT-d, AMD-Vi), and {}",
                Machine::boot_command(&machine.boot_parameters())
            ),
        ),
        count => subject.ok(format!("{count} IOMMU groups")),
    })
}

pub(super) fn nic(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "nic",
        why: "the node's port is a card that DPDK can open",
        cost: "the kernel's network loses the card that is bound to vfio-pci",
    };
    let Some(wanted) = &machine.profile.host.nic_driver else { return subject.not_needed(VIRTUAL) };
    let cards = cards(machine);
    let describe = |nic: &&Nic| {
        let driver = nic.driver.as_deref().unwrap_or("no driver");
        let firmware = match (&nic.firmware, &nic.interface) {
            (Some(version), _) => format!("firmware {version}"),
            (None, Some(interface)) => {
                format!("firmware not in /sys, see `ethtool -i {interface}`")
            }
            (None, None) => "firmware cannot be read while no kernel driver holds it".to_owned(),
        };
        format!("{}: {driver}, {firmware}", nic.label())
    };
    let seen: Vec<String> = cards.iter().map(describe).collect();
    if cards.is_empty() {
        let all: Vec<String> = machine.topology.nics.iter().map(|nic| describe(&nic)).collect();
        let all = if all.is_empty() { "none".to_owned() } else { all.join("; ") };
        let mend =
            "set host.nic_driver in the profile to the driver of the card, or take it out for virtual ports";
        return subject.matters(format!("no card with the driver {wanted}; there is: {all}"), mend);
    }
    if cards.iter().any(|nic| nic.is_for_dpdk()) {
        return subject.ok(seen.join("; "));
    }
    let address = cards[0].address.as_deref().unwrap_or("<PCI address>");
    let down = cards[0].interface.as_ref().map(|name| format!("sudo ip link set {name} down && "));
    let mend = format!("{}sudo dpdk-devbind.py --bind=vfio-pci {address}", down.unwrap_or_default());
    subject.matters(format!("the kernel holds {}", seen.join("; ")), mend)
}

pub(super) fn phc(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "phc",
        why: "a card's own clock stamps frames as they pass and carries PTP; without one the host's clock has a wider bound",
        cost: "a card with IEEE 1588 support",
    };
    if machine.profile.host.nic_driver.is_none() {
        return subject.not_needed(VIRTUAL);
    }
    let names = match machine.tree.names("sys/class/ptp") {
        Ok(names) => names,
        Err(error) if error.is_missing() && machine.tree.has("sys/class/net") => Vec::new(),
        Err(error) => return subject.unknown(&error),
    };
    let name = |ptp: &String| {
        let clock = machine.tree.read(&format!("sys/class/ptp/{ptp}/clock_name"));
        format!("{ptp} ({})", clock.unwrap_or_else(|_| "name not told".to_owned()))
    };
    if !names.is_empty() {
        return subject.ok(names.iter().map(name).collect::<Vec<_>>().join(", "));
    }
    if cards(machine).iter().any(|nic| nic.driver.as_deref() == Some("vfio-pci")) {
        let seen = "vfio holds the card, and its clock with it: the kernel cannot tell whether it has one";
        return subject.finding(super::State::Unknown, seen, None);
    }
    subject.matters(
        "no hardware clock",
        "use a card with one: `ethtool -T <interface>` shows \"PTP Hardware Clock\"",
    )
}
