//! `roko bench report`: criterion's results as one page.

use crate::bench::criterion::read;
use crate::bench::page::{Head, page};
use crate::cli::{CliError, CliResult};
use clap::Args;
use roko_os::affinity::allowed_cores;
use roko_tuning::{Fingerprint, Tree};
use std::path::PathBuf;
use std::time::SystemTime;

/// Arguments of `roko bench report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Criterion's folder.
    #[arg(long, default_value = "target/criterion", value_name = "FOLDER")]
    criterion: PathBuf,
    /// Where the page goes.
    #[arg(long, default_value = "bench.html", value_name = "FILE")]
    out: PathBuf,
    /// The page's title.
    #[arg(long, default_value = "ROKO benches")]
    title: String,
    /// A line below it.
    #[arg(long, default_value = "")]
    note: String,
    /// The port that frames moved through.
    #[arg(long, default_value = "virtual (each bench's name says which)")]
    port: String,
}

/// Carries the command out.
pub(super) fn run(args: &ReportArgs) -> CliResult {
    let groups = read(&args.criterion).map_err(|error| CliError(error.to_string()))?;
    let cores = allowed_cores().map_err(|error| CliError::with("the cores of this host", error))?;
    let machine = Fingerprint::of(&Tree::host(), cores.len());
    let head = Head {
        title: &args.title,
        note: &args.note,
        machine: &machine,
        port: &args.port,
        now: SystemTime::now(),
    };
    let html = page(&head, &groups).map_err(CliError)?;
    std::fs::write(&args.out, html)
        .map_err(|error| CliError::with(format!("{} cannot be written", args.out.display()), error))?;
    let cases: usize = groups.iter().map(|group| group.cases.len()).sum();
    println!("{}: {} operations, {cases} cases", args.out.display(), groups.len());
    Ok(())
}
