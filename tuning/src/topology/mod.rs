//! What the machine is made of: packages, NUMA nodes, L3 caches, cores, hardware threads, network devices.
//!
//! [`Topology::of`] fills it from hwloc where that is built in (the feature `hwloc`) and the tree is the running
//! machine, else from the kernel's files: recorded machines have files only, and the build without system libraries
//! must tell the same. A test compares the two on the machine that runs it.

#[cfg(feature = "hwloc")]
mod hwloc;
mod nics;
mod svg;
mod sysfs;
mod text;

pub use nics::Nic;

use crate::host::HostCores;
use crate::tree::{Tree, TreeError};
use std::collections::{BTreeMap, BTreeSet};

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// What it was read from, as it is shown: `hwloc` or `/sys`.
    pub source: &'static str,
    /// The hardware threads that are online, by number.
    pub cpus: Vec<Cpu>,
    /// NUMA nodes by number, with their memory in bytes where that is told.
    pub nodes: BTreeMap<u32, Option<u64>>,
    /// Sizes of the L3 caches in bytes, by [`Cpu::l3`].
    pub l3: BTreeMap<u32, u64>,
    /// Network devices that sit on a bus.
    pub nics: Vec<Nic>,
}

/// One hardware thread: what a profile calls a core, and what a thread is pinned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// The kernel's number.
    pub cpu: u32,
    /// Its package (socket).
    pub package: u32,
    /// Its physical core, named by the lowest number of the hardware threads on it.
    pub core: u32,
    /// Its L3 cache, named by the lowest number of the hardware threads that share it; `None` where none is told.
    pub l3: Option<u32>,
    /// Its NUMA node; `None` where the kernel has none.
    pub node: Option<u32>,
}

impl Topology {
    /// The machine of this tree.
    pub fn of(tree: &Tree) -> Result<Topology, TreeError> {
        #[cfg(feature = "hwloc")]
        if tree.is_host()
            && let Some(found) = hwloc::read(tree)
        {
            return Ok(found);
        }
        sysfs::read(tree)
    }

    /// The machine by the kernel's files alone.
    pub fn of_files(tree: &Tree) -> Result<Topology, TreeError> {
        sysfs::read(tree)
    }

    /// The hardware thread of this number.
    #[must_use]
    pub fn cpu(&self, cpu: u32) -> Option<&Cpu> {
        self.cpus.iter().find(|known| known.cpu == cpu)
    }

    /// The other hardware threads on the physical core of `cpu`.
    pub fn siblings(&self, cpu: u32) -> impl Iterator<Item = u32> + '_ {
        let core = self.cpu(cpu).map(|cpu| cpu.core);
        let shares = move |other: &&Cpu| Some(other.core) == core && other.cpu != cpu;
        self.cpus.iter().filter(shares).map(|other| other.cpu)
    }

    /// How many physical cores there are.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.cpus.iter().map(|cpu| cpu.core).collect::<BTreeSet<_>>().len()
    }

    /// All hardware threads that are online.
    #[must_use]
    pub fn online(&self) -> HostCores {
        HostCores::new(self.cpus.iter().map(|cpu| cpu.cpu))
    }
}

/// Bytes as people write them: whole GiB, MiB or KiB.
fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64),
    }
}
