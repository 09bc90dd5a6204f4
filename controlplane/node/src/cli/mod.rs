//! The command line. Each command is a file; this one says what there is.

pub mod devnet;

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
#[command(name = "roko", version, propagate_version = true, after_help = "\
New here? `roko devnet` runs four validators in this process and shows them finalise transactions.
Then: `roko keys new`, `roko genesis new`, `roko run --config node.toml`, `roko send`, `roko load`.")]
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
}

impl Command {
    /// Carries the command out.
    pub fn run(self) -> CliResult {
        match self {
            Command::Devnet(args) => devnet::run(&args),
        }
    }
}
