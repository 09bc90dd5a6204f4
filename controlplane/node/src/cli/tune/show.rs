//! `roko tune show`: the machine with a profile's threads on its cores.

use super::{ProfileArg, say, topology, write};
use crate::cli::CliResult;
use clap::Args;
use roko_tuning::Tree;
use std::path::PathBuf;

/// Arguments of `roko tune show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    #[command(flatten)]
    profile: ProfileArg,
    /// Write the drawing here as SVG too.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Carries the command out.
pub(super) fn run(args: &ShowArgs) -> CliResult {
    let profile = args.profile.read()?;
    let topology = topology(&Tree::host())?;
    say(topology.to_text(&profile).trim_end());
    match &args.svg {
        Some(path) => write(path, &topology.to_svg(&profile)),
        None => Ok(()),
    }
}
