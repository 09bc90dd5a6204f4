//! Tuning: which stage runs on which thread and core, and whether the host is fit for it.
//!
//! - A [`Profile`] is a TOML file. [`Profile::parse`] reads one and reports everything that is wrong with it at once;
//!   [`Profile::validate`] adds what is wrong with it on a host. The same binary runs a laptop's devnet and a large
//!   validator: only the profile differs. `profiles/` holds the built-in ones, each key with its unit, its default and
//!   the symptom that should make one change it. [`plan`] makes one for the machine at hand.
//! - A [`Topology`] says what the machine is made of, and draws a profile on it.
//! - [`check`] compares the machine with what a profile needs; [`change`] mends what can be mended while it runs, and
//!   takes that back.
//!
//! All of it reads the machine through a [`Tree`], so that a recorded machine is as good as this one.
#![forbid(unsafe_code)]

pub mod change;
pub mod check;
pub mod fingerprint;
mod host;
pub mod jitter;
mod machine;
mod placement;
pub mod plan;
mod problem;
mod profile;
mod stage;
mod topology;
mod tree;

pub use fingerprint::Fingerprint;
pub use host::{HostCores, HostError};
pub use machine::{DeepIdle, IDLE_EXIT_US_MAX, Irq, Machine};
pub use placement::PlacedThread;
pub use problem::{ProfileError, ProfileProblem};
pub use profile::{
    BURST_PACKETS_MAX, CorePlacement, HOUSEKEEPING_INTERVAL_US_MAX, HostWants, Idle, IdleStrategy, LANES_MAX,
    Lanes, Profile, RING_DEFAULT, RING_DEPTH_MAX, StageThreads, Thread, is_bifurcated,
};
pub use stage::{ParseStageError, Stage};
pub use topology::{Cpu, Nic, Topology};
pub use tree::{Tree, TreeError};

/// The built-in profiles: name and text.
pub const BUILTIN: [(&str, &str); 6] = [
    ("devnet-2core", include_str!("../profiles/devnet-2core.toml")),
    ("one-core-per-stage", include_str!("../profiles/one-core-per-stage.toml")),
    ("workstation-8core", include_str!("../profiles/workstation-8core.toml")),
    ("epyc-32core-ice", include_str!("../profiles/epyc-32core-ice.toml")),
    ("xeon-2socket-mlx5", include_str!("../profiles/xeon-2socket-mlx5.toml")),
    ("bench-isolated", include_str!("../profiles/bench-isolated.toml")),
];

/// The text of a built-in profile; `None` for a name that is not in [`BUILTIN`].
#[must_use]
pub fn builtin(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|(builtin, _)| *builtin == name).map(|(_, text)| *text)
}

/// The names of the built-in profiles, as help texts and messages list them.
#[must_use]
pub fn builtin_names() -> String {
    BUILTIN.map(|(name, _)| name).join(", ")
}
