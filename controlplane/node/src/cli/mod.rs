//! The command line. Each command is a file; this one says what there is.

pub mod bench;
pub mod config;
pub mod devnet;
mod follow;
pub mod genesis;
pub mod keys;
pub mod load;
pub mod profile;
pub mod repair;
pub mod replay;
pub mod run;
pub mod send;
pub mod serve;
mod snapshot;
pub mod top;
pub mod tune;

use clap::{Parser, Subcommand};

/// What a command that failed prints: a message that says what is wrong and what mends it.
pub type CliResult = Result<(), CliError>;

/// A command's failure, already in words for the person at the terminal.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CliError(pub String);

impl CliError {
    /// A failure with its cause: `what: why`.
    pub fn with(what: impl core::fmt::Display, why: impl core::fmt::Display) -> CliError {
        CliError(format!("{what}: {why}"))
    }
}

/// The ROKO node: a proof-of-stake chain with nanosecond time, on a kernel-bypass data plane.
#[derive(Debug, Parser)]
#[command(
    name = "roko",
    version,
    propagate_version = true,
    after_help = "\
New here? `roko devnet` runs four validators in this process and shows them finalise transactions.
While it runs, `roko top` in another terminal shows what each thread, ring, peer and view is doing.
Then: `roko keys new`, `roko genesis new`, `roko run --config node.toml`, `roko send`, `roko load`.
Is this machine fit for it? `roko tune check`, and `roko help tune`. How long what takes: `roko help bench`."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a network of validators on this machine, offer it transactions, and show it live.
    Devnet(devnet::DevnetArgs),
    /// Run one node from a configuration file.
    Run(run::RunArgs),
    /// Cut a damaged store where the damage begins; the node then fetches the rest from its peers.
    Repair(repair::RepairArgs),
    /// Watch running nodes: threads, rings, peers, votes and certificates.
    Top(top::TopArgs),
    /// Play a capture back through a validator's data plane, under the capture's own time.
    Replay(replay::ReplayArgs),
    /// Make or show the keys of a node or an account.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Make or read a chain's genesis file.
    #[command(subcommand)]
    Genesis(genesis::GenesisCommand),
    /// Sign one transfer, send it to a node, and wait until it is final.
    Send(send::SendArgs),
    /// Send transfers at a fixed rate and report how long they took to be final.
    Load(load::LoadArgs),
    /// Check a node's configuration file, or print one with every key explained.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Measure latency by stage; show criterion's results as a page.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Draw, check and tune this machine for a profile; make a profile for it; compare two.
    #[command(subcommand)]
    Tune(tune::TuneCommand),
}

impl Command {
    /// Carries the command out.
    pub fn run(self) -> CliResult {
        roko_peers::tls::install_provider();
        match self {
            Command::Devnet(args) => devnet::run(&args),
            Command::Run(args) => run::run(&args),
            Command::Repair(args) => repair::run(&args),
            Command::Top(args) => top::run(&args),
            Command::Replay(args) => replay::run(&args),
            Command::Keys(command) => keys::run(&command),
            Command::Genesis(command) => genesis::run(&command),
            Command::Send(args) => send::run(&args),
            Command::Load(args) => load::run(&args),
            Command::Config(command) => config::run(&command),
            Command::Bench(command) => bench::run(&command),
            Command::Tune(command) => tune::run(&command),
        }
    }
}
