//! [`Profile`]: the file's keys, and every check of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    host::HostCores,
    problem::{ProfileError, ProfileProblem},
    stage::Stage,
    topology::Topology,
};

/// Largest burst: what the receive arrays of the stages hold.
pub const BURST_PACKETS_MAX: u32 = 32;
/// Longest time between two rounds of housekeeping, microseconds: metrics and clocks older than a second mislead.
pub const HOUSEKEEPING_INTERVAL_US_MAX: u64 = 1_000_000;
/// Deepest ring: 2^20 items of 64 bytes are 64 MiB.
pub const RING_DEPTH_MAX: u32 = 1 << 20;
/// Lanes, at most: what the data plane has room for.
pub const LANES_MAX: u32 = 16;
/// The key of `[rings]` that holds for every ring without its own.
pub const RING_DEFAULT: &str = "default";

/// A checked profile. What [`Profile::parse`] returns has no host-independent problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// Printed at start and shown in metrics.
    pub name: String,
    /// Most packets a stage takes at once.
    pub burst_packets: u32,
    /// Time between two rounds of housekeeping, microseconds; each thread spreads it at random by half.
    pub housekeeping_interval_us: u64,
    /// How a poll thread waits when no stage on it has work.
    pub idle: Idle,
    /// How often the stages before order are there.
    pub lanes: Lanes,
    /// The poll threads of each stage.
    pub stages: BTreeMap<Stage, StageThreads>,
    /// The poll threads.
    pub threads: BTreeMap<String, Thread>,
    /// Depth by ring name; [`RING_DEFAULT`] for the rest.
    pub rings: BTreeMap<String, u32>,
    /// The control thread: consensus, execution, block assembly.
    pub control: CorePlacement,
    /// The thread that checks and aggregates BLS votes.
    pub bls: CorePlacement,
    /// The thread that makes votes and blocks durable.
    pub storage: CorePlacement,
    /// What the machine must have for it: read by `roko tune`, not by the node.
    pub host: HostWants,
}

/// How a poll thread waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idle {
    /// The strategy.
    pub strategy: IdleStrategy,
    /// Empty polls before the thread yields or sleeps; a spinning thread never does.
    #[serde(default = "spin_iterations_default")]
    pub spin_iterations: u32,
    /// Longest sleep, microseconds; unused by a spinning thread.
    #[serde(default = "sleep_us_max_default")]
    pub sleep_us_max: u64,
}

/// What a poll thread does when no stage on it has work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdleStrategy {
    /// Polls on: lowest latency, all of a core.
    Spin,
    /// Spins, then yields, then sleeps twice as long each time up to `sleep_us_max`.
    Backoff,
    /// Spins, then sleeps `sleep_us_max` at once: least CPU time.
    Park,
}

impl IdleStrategy {
    /// The name in a profile.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            IdleStrategy::Spin => "spin",
            IdleStrategy::Backoff => "backoff",
            IdleStrategy::Park => "park",
        }
    }
}

/// The way inward several times over: receive queues, and the stages from rx to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lanes {
    /// How many.
    pub count: u32,
}

impl Default for Lanes {
    fn default() -> Self {
        Lanes { count: 1 }
    }
}

/// The threads of a stage: one for all of its lanes, or one for each, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StageThreads {
    /// All lanes on one thread.
    One(String),
    /// A thread for each lane; several may share one.
    EachLane(Vec<String>),
}

impl StageThreads {
    /// The names as they stand there.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match self {
            StageThreads::One(name) => core::slice::from_ref(name),
            StageThreads::EachLane(names) => names,
        }
    }

    /// The thread of a lane; empty where a profile that was not checked names none.
    #[must_use]
    pub fn of_lane(&self, lane: usize) -> &str {
        match self {
            StageThreads::One(name) => name,
            StageThreads::EachLane(names) => names.get(lane).map_or("", String::as_str),
        }
    }
}

impl From<&str> for StageThreads {
    fn from(name: &str) -> Self {
        StageThreads::One(name.to_owned())
    }
}

/// A poll thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thread {
    /// The kernel's number of its core; `None` leaves it to the scheduler.
    #[serde(default)]
    pub core: Option<u32>,
}

/// Where a thread outside the data plane runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorePlacement {
    /// The kernel's number of its core; `None` leaves it to the scheduler.
    #[serde(default)]
    pub core: Option<u32>,
}

/// What a profile wants of the machine, beyond cores.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostWants {
    /// Hugepages of 2 MiB to reserve.
    #[serde(default)]
    pub hugepages_2mib: u32,
    /// The NUMA node of cores, memory and network card; `None` where it makes no difference.
    #[serde(default)]
    pub numa_node: Option<u32>,
    /// The kernel's name of the network card's driver; `None` where the ports are virtual.
    #[serde(default)]
    pub nic_driver: Option<String>,
}

/// Whether DPDK drives the card beside this kernel driver, without vfio.
#[must_use]
pub fn is_bifurcated(driver: &str) -> bool {
    matches!(driver, "mlx4_core" | "mlx5_core" | "mana")
}

const fn spin_iterations_default() -> u32 {
    8
}
const fn sleep_us_max_default() -> u64 {
    100
}
const fn burst_packets_default() -> u32 {
    BURST_PACKETS_MAX
}
const fn housekeeping_interval_us_default() -> u64 {
    1_000
}

/// The file as it is written: stages are names still, so that a wrong one is reported beside everything else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default = "burst_packets_default")]
    burst_packets: u32,
    #[serde(default = "housekeeping_interval_us_default")]
    housekeeping_interval_us: u64,
    idle: Idle,
    #[serde(default)]
    lanes: Lanes,
    stages: BTreeMap<String, StageThreads>,
    threads: BTreeMap<String, Thread>,
    rings: BTreeMap<String, u32>,
    #[serde(default)]
    control: CorePlacement,
    #[serde(default)]
    bls: CorePlacement,
    #[serde(default)]
    storage: CorePlacement,
    #[serde(default)]
    host: HostWants,
}

impl Profile {
    /// Reads a profile's text. Everything that is wrong with it, on whatever host, is in the error: text that is no
    /// profile at all is one [`ProfileError::Syntax`], the rest comes together.
    pub fn parse(text: &str) -> Result<Profile, Vec<ProfileError>> {
        let file: File =
            toml::from_str(text).map_err(|error| vec![ProfileError::Syntax(error.to_string())])?;
        let mut errors = Vec::new();
        let mut stages = BTreeMap::new();
        for (name, thread) in file.stages {
            match name.parse() {
                Ok(stage) => _ = stages.insert(stage, thread),
                Err(error) => errors.push(ProfileProblem::from(error).into()),
            }
        }
        let profile = Profile {
            name: file.name,
            burst_packets: file.burst_packets,
            housekeeping_interval_us: file.housekeeping_interval_us,
            idle: file.idle,
            lanes: file.lanes,
            stages,
            threads: file.threads,
            rings: file.rings,
            control: file.control,
            bls: file.bls,
            storage: file.storage,
            host: file.host,
        };
        errors.extend(profile.problems().into_iter().map(ProfileError::from));
        if errors.is_empty() { Ok(profile) } else { Err(errors) }
    }

    /// Everything that is wrong with it on `host`; empty when it runs there.
    #[must_use]
    pub fn validate(&self, host: &HostCores) -> Vec<ProfileProblem> {
        let mut problems = self.problems();
        self.check_cores(host, &mut problems);
        self.check_spinning(host, &mut problems);
        problems
    }

    /// Everything that is wrong with it on a machine whose parts are known: [`Profile::validate`], and NUMA nodes.
    #[must_use]
    pub fn validate_on(&self, host: &HostCores, topology: &Topology) -> Vec<ProfileProblem> {
        let mut problems = self.validate(host);
        if let Some(node) = self.host.numa_node.filter(|node| !topology.nodes.contains_key(node)) {
            let nodes: Vec<String> = topology.nodes.keys().map(ToString::to_string).collect();
            problems.push(ProfileProblem::NoSuchNode { node, nodes: nodes.join(" ") });
        }
        problems
    }

    /// Whether its poll threads spin.
    #[must_use]
    pub fn spins(&self) -> bool {
        self.idle.strategy == IdleStrategy::Spin
    }

    /// Every key of `[rings]` that names none of the topology's rings.
    #[must_use]
    pub fn validate_rings(&self, known: &[&str]) -> Vec<ProfileProblem> {
        let unknown =
            self.rings.keys().filter(|ring| *ring != RING_DEFAULT && !known.contains(&ring.as_str()));
        unknown
            .map(|ring| ProfileProblem::UnknownRing { ring: ring.clone(), known: known.join(" ") })
            .collect()
    }

    /// Depth of a ring: its own key, else the default.
    #[must_use]
    pub fn ring_depth(&self, ring: &str) -> u32 {
        let depth = self.rings.get(ring).or_else(|| self.rings.get(RING_DEFAULT));
        depth.copied().unwrap_or(BURST_PACKETS_MAX)
    }

    /// The stages of a thread in packet order.
    pub fn stages_of<'a>(&'a self, thread: &'a str) -> impl Iterator<Item = Stage> + 'a {
        let runs = move |on: &StageThreads| on.names().iter().any(|name| name == thread);
        self.stages.iter().filter(move |(_, on)| runs(on)).map(|(stage, _)| *stage)
    }

    /// What is wrong with it on whatever host.
    fn problems(&self) -> Vec<ProfileProblem> {
        let mut problems = Vec::new();
        if self.name.trim().is_empty() {
            problems.push(ProfileProblem::EmptyName);
        }
        if !(1..=BURST_PACKETS_MAX).contains(&self.burst_packets) {
            problems.push(ProfileProblem::BadBurst { burst_packets: self.burst_packets });
        }
        if !(1..=HOUSEKEEPING_INTERVAL_US_MAX).contains(&self.housekeeping_interval_us) {
            problems.push(ProfileProblem::BadHousekeeping { interval_us: self.housekeeping_interval_us });
        }
        if self.idle.strategy != IdleStrategy::Spin && self.idle.sleep_us_max == 0 {
            problems.push(ProfileProblem::NoSleep { strategy: self.idle.strategy.name() });
        }
        if !(1..=LANES_MAX).contains(&self.lanes.count) {
            problems.push(ProfileProblem::BadLanes { lanes: self.lanes.count });
        }
        self.check_stages(&mut problems);
        self.check_rings(&mut problems);
        problems
    }

    fn check_stages(&self, problems: &mut Vec<ProfileProblem>) {
        for stage in Stage::ALL {
            let Some(on) = self.stages.get(&stage) else {
                problems.push(ProfileProblem::MissingStage { stage });
                continue;
            };
            if let StageThreads::EachLane(names) = on {
                let (threads, lanes) = (names.len(), self.lanes.count);
                if !stage.is_in_lanes() {
                    problems.push(ProfileProblem::SeveralThreads { stage, threads });
                } else if threads != lanes as usize {
                    problems.push(ProfileProblem::ThreadsForLanes { stage, threads, lanes });
                }
            }
            let unknown: BTreeSet<&String> =
                on.names().iter().filter(|thread| !self.threads.contains_key(*thread)).collect();
            let unknown = unknown.into_iter().cloned();
            problems.extend(unknown.map(|thread| ProfileProblem::UnknownThread { stage, thread }));
        }
        let used: BTreeSet<&String> = self.stages.values().flat_map(StageThreads::names).collect();
        for thread in self.threads.keys().filter(|thread| !used.contains(thread)) {
            problems.push(ProfileProblem::UnusedThread { thread: thread.clone() });
        }
    }

    fn check_rings(&self, problems: &mut Vec<ProfileProblem>) {
        if !self.rings.contains_key(RING_DEFAULT) {
            problems.push(ProfileProblem::MissingRingDefault);
        }
        for (ring, &depth) in &self.rings {
            let ring = || ring.clone();
            if !depth.is_power_of_two() || !(2..=RING_DEPTH_MAX).contains(&depth) {
                let nearest = depth.clamp(2, RING_DEPTH_MAX).next_power_of_two();
                problems.push(ProfileProblem::BadRingDepth { ring: ring(), depth, nearest });
            } else if depth < self.burst_packets.min(BURST_PACKETS_MAX) {
                let burst_packets = self.burst_packets;
                problems.push(ProfileProblem::RingBelowBurst { ring: ring(), depth, burst_packets });
            }
        }
    }

    /// Every thread with the table that places it.
    fn placements(&self) -> Vec<(String, Option<u32>)> {
        let polling = self.threads.iter().map(|(name, thread)| (format!("[threads.{name}]"), thread.core));
        let others = [("[control]", self.control), ("[bls]", self.bls), ("[storage]", self.storage)];
        polling.chain(others.map(|(table, placement)| (table.to_owned(), placement.core))).collect()
    }

    fn check_cores(&self, host: &HostCores, problems: &mut Vec<ProfileProblem>) {
        for (user, core) in self.placements() {
            if let Some(core) = core.filter(|core| !host.contains(*core)) {
                problems.push(ProfileProblem::NoSuchCore { user, core, host: host.to_string() });
            }
        }
    }

    fn check_spinning(&self, host: &HostCores, problems: &mut Vec<ProfileProblem>) {
        if self.idle.strategy != IdleStrategy::Spin {
            return;
        }
        let spinning: BTreeSet<u32> = self.threads.values().filter_map(|thread| thread.core).collect();
        let mut users: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for (user, core) in self.placements() {
            if let Some(core) = core {
                users.entry(core).or_default().push(user);
            }
        }
        for (core, users) in users {
            if spinning.contains(&core) && users.len() > 1 {
                problems.push(ProfileProblem::SpinShared { core, users: users.join(" ") });
            }
        }
        for (name, _) in self.threads.iter().filter(|(_, thread)| thread.core.is_none()) {
            problems.push(ProfileProblem::SpinUnpinned { thread: name.clone() });
        }
        if self.threads.len() >= host.count() {
            let (spinning, cores) = (self.threads.len(), host.count());
            problems.push(ProfileProblem::NoCoreLeft { spinning, cores });
        }
    }
}
