//! Where a profile's threads run: names, stages and cores in one list.

use crate::host::HostCores;
use crate::profile::{IdleStrategy, Profile};
use crate::stage::Stage;

/// A thread of the node, as a profile places it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedThread {
    /// As the kernel shows it: `poll-<name>`, `control`, `bls`, `storage`.
    pub name: String,
    /// Its stages in packet order; none outside the data plane.
    pub stages: Vec<Stage>,
    /// The kernel's number of its core; `None` leaves it to the scheduler.
    pub core: Option<u32>,
    /// Whether it polls: such a thread is never woken by the kernel.
    pub polls: bool,
}

impl PlacedThread {
    /// The name, and the stages after it.
    #[must_use]
    pub fn label(&self) -> String {
        let stages: Vec<&str> = self.stages.iter().map(|stage| stage.name()).collect();
        match stages.as_slice() {
            [] => self.name.clone(),
            [stage] if self.name == format!("poll-{stage}") => self.name.clone(),
            _ => format!("{} ({})", self.name, stages.join(" ")),
        }
    }
}

impl Profile {
    /// Every thread: poll threads in the order of their first stage, then control, BLS and storage.
    #[must_use]
    pub fn placed_threads(&self) -> Vec<PlacedThread> {
        let poll = |(name, thread): (&String, &crate::profile::Thread)| PlacedThread {
            name: format!("poll-{name}"),
            stages: self.stages_of(name).collect(),
            core: thread.core,
            polls: true,
        };
        let mut threads: Vec<PlacedThread> = self.threads.iter().map(poll).collect();
        threads.sort_by_key(|thread| thread.stages.first().copied());
        for (name, placement) in [("control", self.control), ("bls", self.bls), ("storage", self.storage)] {
            let core = placement.core;
            threads.push(PlacedThread { name: name.to_owned(), stages: Vec::new(), core, polls: false });
        }
        threads
    }

    /// The cores of poll threads: what disturbs them delays packets.
    #[must_use]
    pub fn poll_cores(&self) -> HostCores {
        HostCores::new(self.threads.values().filter_map(|thread| thread.core))
    }

    /// The cores of all threads that are pinned.
    #[must_use]
    pub fn pinned_cores(&self) -> HostCores {
        HostCores::new(self.placed_threads().iter().filter_map(|thread| thread.core))
    }

    /// The pinned cores that go to sleep when there is nothing to do: all but those of spinning threads.
    #[must_use]
    pub fn sleeping_cores(&self) -> HostCores {
        match self.idle.strategy {
            IdleStrategy::Spin => self.pinned_cores().without(&self.poll_cores()),
            IdleStrategy::Backoff | IdleStrategy::Park => self.pinned_cores(),
        }
    }
}
