//! `roko bench latency`: how long after the wire, and after it was due, a transaction passes each point.

mod measure;

use crate::bench::curves::curves;
use crate::bench::{Named, duration};
use crate::cli::devnet::{DevnetArgs, parse_duration};
use crate::cli::profile::{profile_help, read_profile};
use crate::cli::{CliError, CliResult};
use crate::observe::latency::LatencyRow;
use clap::Args;
use core::fmt::Write;
use measure::Measured;
use roko_os::affinity::allowed_cores;
use roko_tuning::{Fingerprint, Tree};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `roko bench latency`.
#[derive(Args, Debug)]
pub struct LatencyArgs {
    /// How long to measure.
    #[arg(long = "for", default_value = "20s", value_parser = parse_duration)]
    length: Duration,
    /// How long to offer transfers before that.
    #[arg(long, default_value = "3s", value_parser = parse_duration, conflicts_with = "attach")]
    warm_up: Duration,
    /// Transfers offered a second.
    #[arg(long, default_value_t = 1_000, conflicts_with = "attach", value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// Validators of the devnet (4 to 16).
    #[arg(long, default_value_t = 4, conflicts_with = "attach", value_parser = clap::value_parser!(u16).range(4..=16))]
    validators: u16,
    /// Use rings in pure Rust and not DPDK's between the validators.
    #[arg(long, conflicts_with = "attach")]
    in_process: bool,
    #[arg(long, default_value = "devnet-2core", conflicts_with = "attach", help = profile_help())]
    profile: String,
    /// Metrics address of a process whose nodes run already; can be given several times. Nothing is sent to them: offer a
    /// load with `roko load`, or have the devnet's own.
    #[arg(long, value_name = "ADDRESS")]
    attach: Vec<String>,
    /// Where a drawing of all curves goes.
    #[arg(long, visible_alias = "out", value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Title of the drawing and the table.
    #[arg(long, default_value = "latency by stage")]
    title: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    title: &'a str,
    machine: &'a Fingerprint,
    port: &'a str,
    clock: &'a str,
    load: &'a str,
    seconds: f64,
    /// Transfers that were due while it was measured, and of them those that never became final.
    due: u64,
    not_final: u64,
    rows: Vec<LatencyRow>,
}

/// Carries the command out.
pub(super) fn run(args: &LatencyArgs) -> CliResult {
    let cores = allowed_cores().map_err(|error| CliError::with("the cores of this host", error))?;
    let machine = Fingerprint::of(&Tree::host(), cores.len());
    let profile = if args.attach.is_empty() { read_profile(&args.profile)?.name } else { String::new() };
    for claim in [&args.title, &profile] {
        machine.allows(claim).map_err(CliError)?;
    }
    let measured = match args.attach.is_empty() {
        true => measure::own(args, &DevnetArgs::plain(args.validators, &args.profile, args.in_process)?)?,
        false => measure::attached(args)?,
    };
    let rows = measured
        .points
        .iter()
        .filter_map(|named| LatencyRow::of(&named.name, &named.since, &named.histogram));
    let rows: Vec<LatencyRow> = rows.collect();
    if rows.is_empty() {
        return Err(CliError(
            "nothing passed any stage: offer a load meanwhile, for instance with `roko load`".into(),
        ));
    }
    if let Some(path) = &args.svg {
        let svg = drawing(args, &machine, &measured);
        std::fs::write(path, svg)
            .map_err(|error| CliError::with(format!("{} cannot be written", path.display()), error))?;
    }
    let Measured { port, clock, load, seconds, due, not_final, .. } = &measured;
    let (seconds, due, not_final) = (*seconds, *due, *not_final);
    match args.json {
        true => {
            let title = args.title.as_str();
            let report =
                Report { title, machine: &machine, port, clock, load, seconds, due, not_final, rows };
            let text = serde_json::to_string(&report).map_err(|error| CliError::with("the report", error))?;
            println!("{text}");
        }
        false => print!("{}", table(&args.title, &machine, &measured, &rows)),
    }
    if let Some(path) = &args.svg {
        eprintln!("curves: {}", path.display());
    }
    Ok(())
}

fn drawing(args: &LatencyArgs, machine: &Fingerprint, measured: &Measured) -> String {
    let mut lines = vec![
        format!("port {}; clock {}; {:.0} s", measured.port, measured.clock, measured.seconds),
        measured.load.clone(),
    ];
    lines.extend(machine.to_string().lines().map(str::to_owned));
    let shown: Vec<Named> =
        measured.points.iter().filter(|named| named.histogram.count() > 0).cloned().collect();
    curves(&args.title, &lines, &shown)
}

fn table(title: &str, machine: &Fingerprint, measured: &Measured, rows: &[LatencyRow]) -> String {
    let mut out = format!(
        "{title}\n{machine}\nport   {}\nclock  {}\nload   {}\n\n{:<11}{:<7}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}\n",
        measured.port,
        measured.clock,
        measured.load,
        "stage",
        "since",
        "count",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max"
    );
    for row in rows {
        let _ = write!(out, "{:<11}{:<7}{:>10}", row.stage, row.since, row.count);
        for nanos in [row.p50_ns, row.p90_ns, row.p99_ns, row.p999_ns, row.max_ns] {
            let _ = write!(out, "{:>10}", duration(nanos as f64));
        }
        out.push('\n');
    }
    if measured.due > 0 {
        let _ = writeln!(
            out,
            "\n{} transfers were due; {} are not final and count as long as they were waited for",
            measured.due, measured.not_final
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_pipeline::histogram::Histogram;

    #[test]
    fn a_table_names_the_port_the_clock_and_what_was_lost() {
        let folder = tempfile::tempdir().expect("a folder");
        let machine = Fingerprint::of(&Tree::at(folder.path()), 2);
        let mut histogram = Histogram::default();
        (0..1_000).for_each(|nanos| {
            histogram.record(nanos * 1_000);
        });
        let named = Named { name: "open".into(), since: "wire".into(), histogram };
        let rows = vec![LatencyRow::of("open", "wire", &named.histogram).expect("not empty")];
        let measured = Measured {
            port: "net_ring (virtual)".into(),
            clock: "host, untraceable".into(),
            load: "open".into(),
            seconds: 1.0,
            due: 1_001,
            not_final: 1,
            points: vec![named],
        };
        let text = table("a title", &machine, &measured, &rows);
        for part in [
            "a title",
            "net_ring (virtual)",
            "untraceable",
            "no isolcpus",
            "1001 transfers were due; 1 are not final",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let row = text.lines().find(|line| line.starts_with("open")).expect("a row");
        let figures: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(figures[1..3], ["wire", "1000"]);
        assert_eq!(figures[11..], ["999", "us"], "the longest is exact: {row}");
    }
}
