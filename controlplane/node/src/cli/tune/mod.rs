//! `roko tune`: is this machine fit for a profile, what would make it fit, and does it pay.

mod apply;
mod check;
mod compare;
mod jitter;
mod plan;
mod show;

use super::profile::{profile_problems, read_profile};
use super::{CliError, CliResult};
use clap::{Args, Subcommand};
use roko_tuning::{HostCores, Machine, Profile, Topology, Tree};
use std::path::PathBuf;

/// What to do about the machine's tuning.
#[derive(Debug, Subcommand)]
pub enum TuneCommand {
    /// Draw this machine (packages, NUMA nodes, caches, cores, network cards) with a profile's threads on it.
    #[command(after_help = "\
Examples:
  roko tune show                                        what this machine is made of
  roko tune show --profile one-core-per-stage           where that profile's threads would run
  roko tune show --profile my.toml --svg machine.svg    the same as a drawing
Threads that hand frames to each other want cores that share an L3 cache, on the network card's NUMA node.")]
    Show(show::ShowArgs),
    /// Check this machine for a profile: one line a subject, and what mends each that matters.
    #[command(after_help = "\
Examples:
  roko tune check                                       is this machine fit for the devnet's profile
  roko tune check --profile my.toml --strict            in a script: exit code 1 when something matters or is unknown
  roko tune check --profile epyc-32core-ice --json      one JSON object with every finding and its command
States: ok, matters, unknown (the kernel does not tell; nothing is guessed), not needed (by this profile).
Exit code 0 when nothing matters. It reads only, and needs no special rights.")]
    Check(check::CheckArgs),
    /// Change what can be changed while the machine runs: hugepages, THP, governor, C-states, interrupts.
    #[command(after_help = "\
Examples:
  roko tune apply --profile my.toml --dry-run           what it would write, and where
  roko tune apply --profile my.toml                     writes it; asks for sudo only when something must change
What was there is recorded before each change, and `roko tune revert` puts it back. A restart does too.
Applying twice changes nothing more. Boot parameters are printed, never set.")]
    Apply(apply::ApplyArgs),
    /// Put back what `roko tune apply` changed.
    #[command(after_help = "\
Examples:
  roko tune revert --dry-run      what it would write
  roko tune revert                puts everything back and removes the record
It works after an `apply` that was killed, too.")]
    Revert(apply::RevertArgs),
    /// Make a profile for this machine: by its cores, caches, NUMA nodes and network cards.
    #[command(after_help = "\
Examples:
  roko tune plan                                        prints it, each key explained
  roko tune plan --name mine --output my.toml           then `roko tune check --profile my.toml`
The machine's first core is left to the kernel. From thirteen cores on, each stage has its own and spins.")]
    Plan(plan::PlanArgs),
    /// Run a devnet with two profiles in turn, and print the ratio of finality and throughput with its spread.
    #[command(after_help = "\
Examples:
  roko tune compare devnet-2core my.toml                             three rounds of five seconds each
  roko tune compare devnet-2core my.toml --for 20s --rate 3000 --rounds 7
The machine should do nothing else. The devnet's ports are virtual: network cards are not part of it.")]
    Compare(compare::CompareArgs),
    /// Spin on each core for a while, and say for each moment at which it was away what took it.
    #[command(after_help = "\
Examples:
  roko tune jitter --for 10s                            each core that the profile's poll threads have, or all of them
  roko tune jitter --core 3 --above-us 2 --for 1m       one core, and shorter gaps too
  roko tune jitter --for 5s --json --gaps               for a program, with every gap and its evidence
A thread on the core reads the time-stamp counter and does nothing else. Where two readings lie apart it was away, and
what the kernel counted meanwhile says why: time spent waiting (preemption), a stop, stolen time, page faults,
interrupts. What each cause is, and which line of `roko tune check` mends it, stands below the table.
Run it on an idle machine to judge the machine, and beside a running node to see what the node's cores suffer.
It is one core after the other, and each is busy meanwhile.")]
    Jitter(jitter::JitterArgs),
}

/// The profile that a command is about.
#[derive(Args, Debug)]
struct ProfileArg {
    #[arg(long, default_value = "devnet-2core", help = super::profile::profile_help())]
    profile: String,
}

impl ProfileArg {
    /// The profile; what only this machine makes wrong about it is not looked at here.
    fn read(&self) -> Result<Profile, CliError> {
        read_profile(&self.profile)
    }
}

/// This machine and a profile for it.
struct Here {
    tree: Tree,
    topology: Topology,
    profile: Profile,
    profile_arg: String,
}

impl Here {
    fn new(profile: &ProfileArg) -> Result<Here, CliError> {
        let tree = Tree::host();
        let (topology, profile_arg) = (topology(&tree)?, profile.profile.clone());
        Ok(Here { tree, topology, profile: profile.read()?, profile_arg })
    }

    /// Refuses a profile that the node would refuse here: tuning half of it helps nobody.
    fn must_fit(&self) -> CliResult {
        let host = HostCores::detect().map_err(|error| CliError::with("the cores of this host", error))?;
        let problems = self.profile.validate_on(&host, &self.topology);
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        match problems.is_empty() {
            true => Ok(()),
            false => Err(profile_problems(&self.profile_arg, &problems)),
        }
    }

    fn machine(&self) -> Machine<'_> {
        let Here { tree, topology, profile, profile_arg } = self;
        Machine { tree, topology, profile, profile_arg }
    }
}

fn topology(tree: &Tree) -> Result<Topology, CliError> {
    Topology::of(tree).map_err(|error| CliError::with("this machine's cores", error))
}

/// Carries the command out.
pub fn run(command: &TuneCommand) -> CliResult {
    match command {
        TuneCommand::Show(args) => show::run(args),
        TuneCommand::Check(args) => check::run(args),
        TuneCommand::Apply(args) => apply::run(args),
        TuneCommand::Revert(args) => apply::run_revert(args),
        TuneCommand::Plan(args) => plan::run(args),
        TuneCommand::Compare(args) => compare::run(args),
        TuneCommand::Jitter(args) => jitter::run(args),
    }
}

/// Prints to standard output. A reader that has gone away, as `head` does, must not stop a machine half changed.
fn say(text: impl core::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Writes a file, over one that is there.
fn write(path: &PathBuf, text: &str) -> CliResult {
    std::fs::write(path, text)
        .map_err(|error| CliError::with(format!("{} cannot be written", path.display()), error))
}
