//! The topology by hwloc, which knows of firmware tables, containers and quirks that the kernel's files do not show.

use super::{Cpu, Topology, nics};
use crate::tree::Tree;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::types::ObjectType;
use std::collections::BTreeMap;

/// Asks hwloc; `None` when it fails or does not number what a profile needs, and the files are read then.
pub(super) fn read(tree: &Tree) -> Option<Topology> {
    let hwloc = hwlocality::Topology::new().ok()?;
    let mut nodes = BTreeMap::new();
    for node in hwloc.objects_with_type(ObjectType::NUMANode) {
        let bytes = match node.attributes() {
            Some(ObjectAttributes::NUMANode(attributes)) => {
                attributes.local_memory().map(|bytes| bytes.get())
            }
            _ => None,
        };
        nodes.insert(number(node)?, bytes);
    }
    let mut l3 = BTreeMap::new();
    let mut cpus = Vec::new();
    for unit in hwloc.objects_with_type(ObjectType::PU) {
        let above = |kind: ObjectType| unit.ancestors().find(move |object| object.object_type() == kind);
        let core = above(ObjectType::Core).map_or_else(|| number(unit), first);
        let cache = above(ObjectType::L3Cache).and_then(first);
        if let (Some(first), Some(ObjectAttributes::Cache(cache))) =
            (cache, above(ObjectType::L3Cache).and_then(TopologyObject::attributes))
        {
            l3.insert(first, cache.size()?.get());
        }
        let node = unit.nodeset().and_then(|nodes| nodes.iter_set().next());
        cpus.push(Cpu {
            cpu: number(unit)?,
            package: above(ObjectType::Package).and_then(number).unwrap_or(0),
            core: core?,
            l3: cache,
            node: node.and_then(|node| u32::try_from(usize::from(node)).ok()),
        });
    }
    cpus.sort_by_key(|cpu| cpu.cpu);
    Some(Topology { source: "hwloc", cpus, nodes, l3, nics: nics::read(tree) })
}

fn number(object: &TopologyObject) -> Option<u32> {
    u32::try_from(object.os_index()?).ok()
}

/// The lowest CPU below an object.
fn first(object: &TopologyObject) -> Option<u32> {
    let cpu = object.cpuset()?.iter_set().next()?;
    u32::try_from(usize::from(cpu)).ok()
}
