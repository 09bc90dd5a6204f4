//! Whether a machine is fit for a profile: one [`Finding`] a subject, each with what it costs and what mends it.
//!
//! A check reads and compares, nothing else. What cannot be read is [`State::Unknown`] with the reason.

mod cores;
mod devices;
mod memory;
mod process;

use crate::change::Change;
use crate::machine::Machine;
use crate::tree::TreeError;
use core::fmt::Write;
use serde::Serialize;

/// How a subject stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As the profile wants it.
    Ok,
    /// Not as the profile wants it.
    Matters,
    /// It cannot be told, and the profile wants something of it.
    Unknown,
    /// The profile wants nothing of it.
    NotNeeded,
}

impl State {
    /// As it is shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Matters => "matters",
            State::Unknown => "unknown",
            State::NotNeeded => "not needed",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The subject, as scripts name it.
    pub check: &'static str,
    /// How it stands.
    pub state: State,
    /// What is there; one line, but for a profile that does not fit, which has one more for each problem.
    pub seen: String,
    /// What the node loses when it is not as it should be.
    pub why: &'static str,
    /// What mending it takes from the machine.
    pub cost: &'static str,
    /// The command that mends it; `None` where there is nothing to mend, or nothing is known to.
    pub mend: Option<String>,
}

/// A subject: what the finding says whatever is found.
#[derive(Clone, Copy)]
struct Subject {
    check: &'static str,
    why: &'static str,
    cost: &'static str,
}

impl Subject {
    fn finding(self, state: State, seen: impl Into<String>, mend: Option<String>) -> Finding {
        let Subject { check, why, cost } = self;
        Finding { check, state, seen: seen.into(), why, cost, mend }
    }

    fn ok(self, seen: impl Into<String>) -> Finding {
        self.finding(State::Ok, seen, None)
    }

    fn matters(self, seen: impl Into<String>, mend: impl Into<String>) -> Finding {
        self.finding(State::Matters, seen, Some(mend.into()))
    }

    fn not_needed(self, seen: impl Into<String>) -> Finding {
        self.finding(State::NotNeeded, seen, None)
    }

    fn unknown(self, error: &TreeError) -> Finding {
        self.finding(State::Unknown, error.to_string(), None)
    }

    /// What a reading that may fail found.
    fn read<T>(self, read: Result<T, TreeError>, judge: impl FnOnce(T) -> Finding) -> Finding {
        read.map_or_else(|error| self.unknown(&error), judge)
    }
}

/// Every finding, in the order in which they are worth mending.
#[must_use]
pub fn check(machine: &Machine<'_>) -> Vec<Finding> {
    vec![
        cores::profile_fits(machine),
        memory::hugepages(machine),
        cores::isolcpus(machine),
        cores::nohz_full(machine),
        cores::rcu_nocbs(machine),
        cores::irq_affinity(machine),
        cores::governor(machine),
        cores::c_states(machine),
        memory::thp(machine),
        cores::smt(machine),
        devices::numa(machine),
        devices::vfio(machine),
        devices::iommu(machine),
        devices::nic(machine),
        devices::phc(machine),
        process::clock_source(machine),
        process::memlock(machine),
        process::nofile(machine),
        process::rtprio(machine),
    ]
}

/// Whether any finding matters, or, when `strict`, is unknown.
#[must_use]
pub fn needs_mending(findings: &[Finding], strict: bool) -> bool {
    let bad = |state| state == State::Matters || (strict && state == State::Unknown);
    findings.iter().any(|finding| bad(finding.state))
}

/// The findings for a terminal: one line each, and below those that matter why, at what cost, and the command.
#[must_use]
pub fn to_text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let Finding { check, state, seen, why, cost, mend } = finding;
        let seen = seen.replace('\n', "\n              ");
        let _ = writeln!(out, "{:<10}  {check:<13} {seen}", state.name());
        if matches!(state, State::Matters | State::Unknown) {
            let _ = writeln!(out, "              why   {why}");
        }
        if let Some(mend) = mend {
            let _ = writeln!(out, "              cost  {cost}\n              mend  {mend}");
        }
    }
    let count = |wanted| findings.iter().filter(|finding| finding.state == wanted).count();
    let _ = writeln!(
        out,
        "\n{} ok, {} matter, {} unknown, {} not needed",
        count(State::Ok),
        count(State::Matters),
        count(State::Unknown),
        count(State::NotNeeded)
    );
    out
}

/// The command that makes these changes: by hand while they are few, else by `roko tune apply`.
fn command(machine: &Machine<'_>, changes: &[Change]) -> String {
    /// More commands than this on one line are not typed.
    const BY_HAND_MAX: usize = 3;
    let mut by_value: Vec<(&str, Vec<String>)> = Vec::new();
    for change in changes {
        let path = format!("/{}", change.path);
        match by_value.iter_mut().find(|(value, _)| *value == change.after) {
            Some((_, paths)) => paths.push(path),
            None => by_value.push((&change.after, vec![path])),
        }
    }
    if changes.len() > BY_HAND_MAX {
        return format!("roko tune apply --profile {}", machine.profile_arg);
    }
    let commands: Vec<String> = by_value
        .iter()
        .map(|(value, paths)| format!("echo {value} | sudo tee {}", paths.join(" ")))
        .collect();
    commands.join(" && ")
}
