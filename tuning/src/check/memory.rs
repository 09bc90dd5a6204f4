//! Hugepages, and transparent ones.

use super::{Finding, Subject, command};
use crate::change;
use crate::machine::{Machine, THP};

pub(super) fn hugepages(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "hugepages",
        why: "DPDK's frames live in them: a card's DMA needs them, and small pages take 512 times the TLB entries",
        cost: "the memory is the node's alone, used or not",
    };
    let want = u64::from(machine.profile.host.hugepages_2mib);
    if want == 0 {
        return subject.not_needed("the profile reserves none");
    }
    let place =
        machine.profile.host.numa_node.map_or_else(String::new, |node| format!(" on NUMA node {node}"));
    let counts = || {
        let number = |file| machine.tree.number(&machine.hugepages_path(file));
        Ok((number("nr_hugepages")?, number("free_hugepages")?, change::hugepages(machine)?))
    };
    subject.read(counts(), |(have, free, changes)| {
        let seen = format!("{have} of {want} pages of 2 MiB{place}, {free} free");
        match changes.is_empty() {
            true => subject.ok(seen),
            false => subject.matters(seen, command(machine, &changes)),
        }
    })
}

pub(super) fn thp(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "thp",
        why: "with \"always\" the kernel stops threads to gather and copy memory into large pages",
        cost: "programs that do not ask for large pages lose them",
    };
    let read = machine.tree.setting(THP).and_then(|now| Ok((now, change::thp(machine)?)));
    subject.read(read, |(now, changes)| match changes.is_empty() {
        true => subject.ok(format!("transparent hugepages: {now}")),
        false => subject.matters(format!("transparent hugepages: {now}"), command(machine, &changes)),
    })
}
