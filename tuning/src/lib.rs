//! Tuning profiles: which stage runs on which thread and core, how threads wait, how deep the rings are.
//!
//! A profile is a TOML file. [`Profile::parse`] reads one and reports everything that is wrong with it at once;
//! [`Profile::validate`] adds what is wrong with it on a host. The same binary runs a laptop's devnet and a large
//! validator: only the profile differs. `profiles/` holds the built-in ones, each key with its unit, its default and
//! the symptom that should make one change it.
#![forbid(unsafe_code)]

mod host;
mod problem;
mod profile;
mod stage;

pub use host::{HostCores, HostError};
pub use problem::{ProfileError, ProfileProblem};
pub use profile::{
    BURST_PACKETS_MAX, CorePlacement, HOUSEKEEPING_INTERVAL_US_MAX, Idle, IdleStrategy, Profile,
    RING_DEFAULT, RING_DEPTH_MAX, Thread, VerifyWorkers,
};
pub use stage::{ParseStageError, Stage};

/// The built-in profiles: name and text.
pub const BUILTIN: [(&str, &str); 2] = [
    ("devnet-2core", include_str!("../profiles/devnet-2core.toml")),
    ("one-core-per-stage", include_str!("../profiles/one-core-per-stage.toml")),
];

/// The text of a built-in profile; `None` for a name that is not in [`BUILTIN`].
#[must_use]
pub fn builtin(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|(builtin, _)| *builtin == name).map(|(_, text)| *text)
}
