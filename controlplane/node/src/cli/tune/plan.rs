//! `roko tune plan`: a profile for this machine.

use super::{say, topology};
use crate::cli::config::write_new;
use crate::cli::{CliError, CliResult};
use clap::Args;
use roko_tuning::{HostCores, Tree, plan::plan};
use std::path::PathBuf;

/// Arguments of `roko tune plan`.
#[derive(Args, Debug)]
pub struct PlanArgs {
    /// The profile's name: it is printed at start and shown in metrics.
    #[arg(long, default_value = "planned")]
    name: String,
    /// Write the profile here instead of to standard output; an existing file is not overwritten.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Carries the command out.
pub(super) fn run(args: &PlanArgs) -> CliResult {
    let host = HostCores::detect().map_err(|error| CliError::with("the cores of this host", error))?;
    let text = plan(&topology(&Tree::host())?, &host, &args.name).to_toml();
    match &args.output {
        Some(path) => write_new(path, &text),
        None => {
            say(text.trim_end());
            Ok(())
        }
    }
}
