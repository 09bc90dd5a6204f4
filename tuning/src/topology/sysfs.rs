//! The topology by the kernel's files.

use super::{Cpu, Topology, nics};
use crate::tree::{Tree, TreeError};
use std::collections::BTreeMap;

const CPUS: &str = "sys/devices/system/cpu";
const NODES: &str = "sys/devices/system/node";

/// Reads the files. Only the list of CPUs and their packages must be there: a kernel without NUMA has no nodes, and a
/// virtual machine may hide its caches.
pub(super) fn read(tree: &Tree) -> Result<Topology, TreeError> {
    let nodes = nodes(tree)?;
    let mut l3 = BTreeMap::new();
    let mut cpus = Vec::new();
    for cpu in tree.cpus(&format!("{CPUS}/online"))?.iter() {
        let at = format!("{CPUS}/cpu{cpu}/topology");
        let package = tree.number_or_none(&format!("{at}/physical_package_id"))?.unwrap_or(0);
        let siblings = tree.cpus(&format!("{at}/thread_siblings_list"))?;
        let cache = l3_of(tree, cpu);
        if let Some((first, size)) = cache {
            l3.insert(first, size);
        }
        let node = nodes.iter().find(|(_, (cpus, _))| cpus.contains(cpu)).map(|(node, _)| *node);
        let core = siblings.iter().next().unwrap_or(cpu);
        cpus.push(Cpu { cpu, package, core, l3: cache.map(|(first, _)| first), node });
    }
    let nodes = nodes.into_iter().map(|(node, (_, bytes))| (node, bytes)).collect();
    Ok(Topology { source: "/sys", cpus, nodes, l3, nics: nics::read(tree) })
}

type Nodes = BTreeMap<u32, (crate::host::HostCores, Option<u64>)>;

fn nodes(tree: &Tree) -> Result<Nodes, TreeError> {
    let mut nodes = Nodes::new();
    // A kernel that was built without NUMA has no such folder, and one node by nature.
    for node in tree.numbered(NODES, "node").unwrap_or_default() {
        let cpus = tree.cpus(&format!("{NODES}/node{node}/cpulist"))?;
        let meminfo = tree.read(&format!("{NODES}/node{node}/meminfo")).unwrap_or_default();
        let total = meminfo.lines().find_map(|line| line.split_once("MemTotal:"));
        let kib = total.and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<u64>().ok());
        nodes.insert(node, (cpus, kib.map(|kib| kib << 10)));
    }
    Ok(nodes)
}

/// The L3 cache of a CPU: who shares it first, and its size.
fn l3_of(tree: &Tree, cpu: u32) -> Option<(u32, u64)> {
    let caches = format!("{CPUS}/cpu{cpu}/cache");
    let index =
        tree.numbered(&caches, "index").ok()?.into_iter().find(|index| {
            tree.number(&format!("{caches}/index{index}/level")).is_ok_and(|level| level == 3)
        })?;
    let first = tree.cpus(&format!("{caches}/index{index}/shared_cpu_list")).ok()?.iter().next()?;
    let size = tree.read(&format!("{caches}/index{index}/size")).ok()?;
    let kib: u64 = size.strip_suffix('K')?.parse().ok()?;
    Some((first, kib << 10))
}
