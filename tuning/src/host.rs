//! The cores that this process may run on.

use crate::tree::{Tree, TreeError};
use std::collections::BTreeSet;

/// Kernel numbers of the cores that threads may be pinned to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostCores {
    cores: BTreeSet<u32>,
}

/// Why the host's cores are unknown.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel's file cannot be read.
    #[error("{0}: mount /proc, or leave every core out of the profile")]
    Unreadable(#[from] TreeError),
    /// The file has no list of cores that can be read.
    #[error(
        "/proc/thread-self/status has no readable Cpus_allowed_list: leave every core out of the profile"
    )]
    NoList,
}

impl HostCores {
    /// These cores.
    #[must_use]
    pub fn new(cores: impl IntoIterator<Item = u32>) -> HostCores {
        HostCores { cores: cores.into_iter().collect() }
    }

    /// The cores of the calling thread's affinity mask: call it before any pinning, because pinning narrows the mask.
    pub fn detect() -> Result<HostCores, HostError> {
        HostCores::of(&Tree::host())
    }

    /// The same of a machine's tree.
    pub fn of(tree: &Tree) -> Result<HostCores, HostError> {
        let status = tree.read("proc/thread-self/status")?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        list.and_then(|list| HostCores::parse_list(list.trim())).ok_or(HostError::NoList)
    }

    /// Reads the kernel's list format, `0-3,8`. `None` when it is not in that format.
    #[must_use]
    pub fn parse_list(list: &str) -> Option<HostCores> {
        /// Above the kernel's own limit of 8,192 CPUs.
        const CORES_MAX: u32 = 1 << 16;
        let mut cores = BTreeSet::new();
        for item in list.split(',') {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            if first > last || last >= CORES_MAX {
                return None;
            }
            cores.extend(first..=last);
        }
        Some(HostCores { cores })
    }

    /// Whether a thread may be pinned to `core`.
    #[must_use]
    pub fn contains(&self, core: u32) -> bool {
        self.cores.contains(&core)
    }

    /// They, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.cores.iter().copied()
    }

    /// Those that are not in `others`.
    #[must_use]
    pub fn without(&self, others: &HostCores) -> HostCores {
        HostCores { cores: &self.cores - &others.cores }
    }

    /// Those that are in `others` too.
    #[must_use]
    pub fn shared_with(&self, others: &HostCores) -> HostCores {
        HostCores { cores: &self.cores & &others.cores }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cores.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.cores.len()
    }
}

impl core::fmt::Display for HostCores {
    /// The kernel's list format.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut separator = "";
        let mut cores = self.cores.iter().copied().peekable();
        while let Some(first) = cores.next() {
            let mut last = first;
            while let Some(next) = cores.next_if(|next| *next == last + 1) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lists_read_back() {
        for list in ["0", "0-1", "0-3,8", "0,2,4-7,64-127"] {
            assert_eq!(HostCores::parse_list(list).unwrap().to_string(), list);
        }
        assert_eq!(HostCores::parse_list("0-3,8").unwrap().count(), 5);
        for list in ["", "a", "3-1", "0-", "0,,1", "0-4294967295"] {
            assert_eq!(HostCores::parse_list(list), None, "{list:?}");
        }
    }

    #[test]
    fn this_host_has_a_core() {
        let host = HostCores::detect().unwrap();
        // The standard library also counts a cgroup's quota, so its figure may be the smaller one.
        assert!(host.count() >= std::thread::available_parallelism().unwrap().get());
    }
}
