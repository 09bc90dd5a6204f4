//! What can be wrong with a profile.

use crate::{
    profile::{BURST_PACKETS_MAX, HOUSEKEEPING_INTERVAL_US_MAX, LANES_MAX, RING_DEPTH_MAX},
    stage::{ParseStageError, Stage},
};

/// A profile that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Not TOML, a key that no profile has, or a value of the wrong type. The message has the line.
    #[error("the profile cannot be read: {0}")]
    Syntax(String),
    /// It can be read and makes no sense.
    #[error(transparent)]
    Problem(#[from] ProfileProblem),
}

/// One thing that is wrong, with the key that mends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileProblem {
    /// A key of `[stages]` names no stage.
    #[error("[stages]: {0}")]
    UnknownStage(#[from] ParseStageError),
    /// A stage runs nowhere.
    #[error("[stages]: {stage} has no thread: add `{stage} = \"<thread>\"`")]
    MissingStage {
        /// The stage.
        stage: Stage,
    },
    /// A stage's thread is not defined.
    #[error(
        "[stages]: {stage} runs on thread \"{thread}\", which is not defined: add a table [threads.{thread}]"
    )]
    UnknownThread {
        /// The stage.
        stage: Stage,
        /// Its thread.
        thread: String,
    },
    /// A thread without a stage would poll nothing.
    #[error("[threads.{thread}]: no stage runs on it: name it in [stages], or take the table out")]
    UnusedThread {
        /// The thread.
        thread: String,
    },
    /// A profile needs a name.
    #[error("name is empty: give the profile a name; it is printed at start and shown in metrics")]
    EmptyName,
    /// A burst of this size is not handled.
    #[error("burst_packets = {burst_packets} is not in 1 to {BURST_PACKETS_MAX}")]
    BadBurst {
        /// The value.
        burst_packets: u32,
    },
    /// A ring's depth has to be a power of two, so that an index is a mask.
    #[error("[rings]: {ring} = {depth} is not a power of two from 2 to {RING_DEPTH_MAX}: use {nearest}")]
    BadRingDepth {
        /// The ring.
        ring: String,
        /// The value.
        depth: u32,
        /// The nearest valid depth that is not smaller.
        nearest: u32,
    },
    /// A ring smaller than a burst is full at every burst.
    #[error("[rings]: {ring} = {depth} holds less than burst_packets = {burst_packets}: make it deeper")]
    RingBelowBurst {
        /// The ring.
        ring: String,
        /// Its depth.
        depth: u32,
        /// The burst.
        burst_packets: u32,
    },
    /// The depth of rings that have no key of their own.
    #[error("[rings]: `default` is missing: it is the depth of every ring without a key of its own")]
    MissingRingDefault,
    /// A key of `[rings]` names no ring of the topology.
    #[error("[rings]: there is no ring \"{ring}\": the rings are {known}")]
    UnknownRing {
        /// The key.
        ring: String,
        /// The topology's rings.
        known: String,
    },
    /// A strategy that sleeps needs a longest sleep.
    #[error("[idle]: sleep_us_max = 0 makes {strategy} spin: set 1 or more, or strategy = \"spin\"")]
    NoSleep {
        /// The strategy.
        strategy: &'static str,
    },
    /// Housekeeping has to run, and not seldom.
    #[error("housekeeping_interval_us = {interval_us} is not in 1 to {HOUSEKEEPING_INTERVAL_US_MAX}")]
    BadHousekeeping {
        /// The value.
        interval_us: u64,
    },
    /// A number of lanes that there cannot be.
    #[error("[lanes]: count = {lanes} is not in 1 to {LANES_MAX}")]
    BadLanes {
        /// The value.
        lanes: u32,
    },
    /// A list of threads that is not one for each lane.
    #[error(
        "[stages]: {stage} names {threads} threads for {lanes} lanes: name one for each lane, or one for all as `{stage} = \"<thread>\"`"
    )]
    ThreadsForLanes {
        /// The stage.
        stage: Stage,
        /// Threads in its list.
        threads: usize,
        /// The lanes.
        lanes: u32,
    },
    /// A list of threads for a stage of which there is one.
    #[error(
        "[stages]: {stage} names a list of {threads}, but all lanes meet in it: name one thread as `{stage} = \"<thread>\"`"
    )]
    SeveralThreads {
        /// The stage.
        stage: Stage,
        /// Threads in its list.
        threads: usize,
    },
    /// A core that this process may not use.
    #[error(
        "{user}: core {core} is not on this host (this process may use {host}): change `core`, or leave it out"
    )]
    NoSuchCore {
        /// The key's table.
        user: String,
        /// The core.
        core: u32,
        /// The host's cores.
        host: String,
    },
    /// A NUMA node that the machine does not have.
    #[error(
        "[host]: numa_node = {node} is not on this host (its nodes are {nodes}): change it, or leave it out"
    )]
    NoSuchNode {
        /// The node.
        node: u32,
        /// The host's nodes.
        nodes: String,
    },
    /// A spinning thread takes all of its core: whatever shares it stops for a whole time slice at a time.
    #[error(
        "core {core} is shared by {users}, and a thread on it spins: give each a core, or set [idle] strategy = \"backoff\""
    )]
    SpinShared {
        /// The core.
        core: u32,
        /// The tables that name it.
        users: String,
    },
    /// A spinning thread that the kernel may move.
    #[error(
        "[threads.{thread}]: it spins without a core of its own: set `core`, or set [idle] strategy = \"backoff\""
    )]
    SpinUnpinned {
        /// The thread.
        thread: String,
    },
    /// Spinning threads leave nothing for the rest of the node.
    #[error(
        "{spinning} spinning threads leave none of this host's {cores} cores for the control plane: set [idle] strategy = \"backoff\", or put more stages on one thread"
    )]
    NoCoreLeft {
        /// Spinning threads.
        spinning: usize,
        /// The host's cores.
        cores: usize,
    },
}
