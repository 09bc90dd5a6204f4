//! `roko tune check`: is this machine fit for a profile.

use super::{Here, ProfileArg, say};
use crate::cli::{CliError, CliResult};
use clap::Args;
use roko_tuning::check::{Finding, check, needs_mending, to_text};
use serde::Serialize;

/// Arguments of `roko tune check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    profile: ProfileArg,
    /// Print one JSON object: the profile, whether all is well, and every finding.
    #[arg(long)]
    json: bool,
    /// Fail on what cannot be told too, not only on what is known to be wrong.
    #[arg(long)]
    strict: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    profile: &'a str,
    well: bool,
    boot_parameters: Vec<String>,
    findings: &'a [Finding],
}

/// Carries the command out.
pub(super) fn run(args: &CheckArgs) -> CliResult {
    let here = Here::new(&args.profile)?;
    let machine = here.machine();
    let findings = check(&machine);
    let well = !needs_mending(&findings, args.strict);
    if args.json {
        let profile = here.profile.name.as_str();
        let boot_parameters = machine.boot_parameters();
        let report = Report { profile, well, boot_parameters, findings: &findings };
        let text = serde_json::to_string(&report).map_err(|error| CliError::with("the report", error))?;
        say(text);
    } else {
        say(to_text(&findings).trim_end());
    }
    match well {
        true => Ok(()),
        false => Err(CliError(format!(
            "this machine is not fit for profile {}: mend what is marked, or `roko tune apply --profile {}`",
            here.profile.name, args.profile.profile
        ))),
    }
}
