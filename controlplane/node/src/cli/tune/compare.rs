//! `roko tune compare`: two profiles in turn on this machine, and the ratio of what they reach.

use super::say;
use crate::cli::devnet::parse_duration;
use crate::cli::profile::{placement, profile_help};
use crate::cli::{CliError, CliResult};
use clap::Args;
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Arguments of `roko tune compare`.
#[derive(Args, Debug)]
pub struct CompareArgs {
    #[arg(help = profile_help())]
    a: String,
    #[arg(help = profile_help())]
    b: String,
    /// How long each run offers transfers, for instance 5s.
    #[arg(long = "for", default_value = "5s", value_parser = parse_duration)]
    length: Duration,
    /// Transfers offered a second.
    #[arg(long, default_value_t = 1_000)]
    rate: u64,
    /// Rounds: in each, both profiles run once, and the one that begins takes turns.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
}

/// What one run reached.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    p50_ms: f64,
    p99_ms: f64,
    tps: f64,
}

/// A figure's name, and how to take it from a run.
type Figure = (&'static str, fn(&Run) -> f64);

const FIGURES: [Figure; 3] =
    [("finality p50, ms", |run| run.p50_ms), ("finality p99, ms", |run| run.p99_ms), ("tps", |run| run.tps)];

/// Carries the command out.
pub(super) fn run(args: &CompareArgs) -> CliResult {
    // Both are checked before either runs, so that a mistake in the second does not cost the first one's time.
    placement(&args.a)?;
    placement(&args.b)?;
    let mut rounds = Vec::new();
    for round in 1..=args.rounds {
        let b_first = round % 2 == 0;
        let run = |profile: &str| {
            eprintln!("round {round} of {}: {profile}", args.rounds);
            devnet(profile, args)
        };
        let (a, b) = match b_first {
            false => (run(&args.a)?, run(&args.b)?),
            true => {
                let b = run(&args.b)?;
                (run(&args.a)?, b)
            }
        };
        rounds.push((a, b));
    }
    say(table(args, &rounds).trim_end());
    Ok(())
}

/// One run of this program's devnet, whose report must be a sound chain's.
fn devnet(profile: &str, args: &CompareArgs) -> Result<Run, CliError> {
    let program = std::env::current_exe().map_err(|error| CliError::with("this program's path", error))?;
    let (length, rate) = (format!("{}ms", args.length.as_millis()), args.rate.to_string());
    let output = Command::new(program)
        .args(["devnet", "--no-services", "--report", "json", "--profile", profile])
        .args(["--for", &length, "--rate", &rate])
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| CliError::with("the devnet cannot be started", error))?;
    let failed = |why: &str| {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("it said nothing").to_owned();
        CliError(format!(
            "the devnet with profile {profile} {why} ({}; its last words: {last})",
            output.status
        ))
    };
    if !output.status.success() {
        return Err(failed("failed"));
    }
    let report: Value = serde_json::from_slice(&output.stdout).map_err(|_| failed("printed no report"))?;
    read(&report).map_err(|why| failed(&why))
}

/// The figures of a report. A chain that forked, or lost what was offered, measures nothing.
fn read(report: &Value) -> Result<Run, String> {
    let number = |value: &Value, name: &str| value.as_f64().ok_or_else(|| format!("reported no {name}"));
    let forks = number(&report["forks"], "forks")?;
    if forks != 0.0 || report["same_state"] != true {
        return Err("did not agree with itself (forks or different states): run it alone with --report json"
            .to_owned());
    }
    let finality = &report["finality_ms"];
    Ok(Run {
        p50_ms: number(&finality["p50"], "finality: nothing became final, so offer a rate above 0")?,
        p99_ms: number(&finality["p99"], "finality")?,
        tps: number(&report["tps"], "tps")?,
    })
}

/// Median, least and greatest of some figures.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median = match values.len() % 2 {
        1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    };
    (median, values[0], values[values.len() - 1])
}

fn table(args: &CompareArgs, rounds: &[(Run, Run)]) -> String {
    let (a, b) = (&args.a, &args.b);
    let mut out = format!(
        "A = {a}, B = {b}; {} rounds of {:?} at {} transfers a second, in turns\n\n{:<18}{:>10}{:>10}{:>10}   {}\n",
        rounds.len(),
        args.length,
        args.rate,
        "",
        "A",
        "B",
        "B / A",
        "least to greatest B / A of a round"
    );
    for (name, of) in FIGURES {
        let median =
            |side: fn(&(Run, Run)) -> &Run| spread(rounds.iter().map(|round| of(side(round))).collect()).0;
        let (ratio, least, most) = spread(rounds.iter().map(|(a, b)| of(b) / of(a)).collect());
        out.push_str(&format!(
            "{name:<18}{:>10.2}{:>10.2}{ratio:>10.3}   {least:.3} to {most:.3}{}\n",
            median(|round| &round.0),
            median(|round| &round.1),
            if least <= 1.0 && most >= 1.0 { ", no difference that every round shows" } else { "" }
        ));
    }
    out.push_str(
        "\nA, B and B / A are medians. The devnet's ports are virtual (rings in one process): this compares threads and\n\
         waiting on this machine, not network cards. Ratios of one round hold; absolute figures move with the machine.\n\
         tps follows --rate while the machine keeps up: raise it until it does not.\n",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(p50_ms: f64, p99_ms: f64, tps: f64) -> Run {
        Run { p50_ms, p99_ms, tps }
    }

    #[test]
    fn a_report_is_read_and_an_unsound_one_refused() {
        let good = json!({ "forks": 0, "same_state": true, "tps": 999.5, "finality_ms": { "p50": 20.0, "p99": 50.0 } });
        assert_eq!(read(&good), Ok(run(20.0, 50.0, 999.5)));
        for (key, value) in [("forks", json!(1)), ("same_state", json!(false)), ("finality_ms", json!(null))]
        {
            let mut bad = good.clone();
            bad[key] = value;
            assert!(read(&bad).is_err(), "{key}");
        }
    }

    #[test]
    fn ratios_are_of_pairs_and_their_spread_is_shown() {
        let length = Duration::from_secs(5);
        let args = CompareArgs { a: "x".into(), b: "y".into(), length, rate: 100, rounds: 3 };
        let base = run(10.0, 40.0, 100.0);
        let rounds =
            [(base, run(5.0, 20.0, 100.0)), (base, run(6.0, 80.0, 100.0)), (base, run(4.0, 40.0, 100.0))];
        let text = table(&args, &rounds);
        assert!(text.contains("0.500   0.400 to 0.600\n"), "{text}");
        assert!(text.contains("1.000   0.500 to 2.000, no difference"), "{text}");
        assert!(text.contains("ports are virtual"), "{text}");
        assert_eq!(spread(vec![3.0, 1.0]), (2.0, 1.0, 3.0));
    }
}
