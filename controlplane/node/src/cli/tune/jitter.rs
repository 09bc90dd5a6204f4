//! `roko tune jitter`: what takes a core away from a thread that wants it all.

mod loaded;

use super::{ProfileArg, say};
use crate::cli::devnet::parse_duration;
use crate::cli::{CliError, CliResult};
use crate::jitter::{Sample, TickRate, Watch, Watched, watch};
use clap::Args;
use roko_os::affinity::{allowed_cores, pin_current_thread};
use roko_ring::spsc::ring;
use roko_tuning::jitter::{Activity, Cause, Ledger, LedgerReport, explained};
use roko_tuning::{Fingerprint, Tree};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Gaps between two looks of this thread, at most: with its readings a gap takes about 0.2 ms, so four times what comes.
const GAPS_PER_LOOK: usize = 1 << 12;
/// Between two looks at the gaps, and between two lines of progress.
const LOOK: Duration = Duration::from_millis(200);
const PROGRESS: Duration = Duration::from_secs(1);

/// Arguments of `roko tune jitter`.
#[derive(Args, Debug)]
pub struct JitterArgs {
    /// How long to spin on each core, for instance 10s.
    #[arg(long = "for", default_value = "10s", value_parser = parse_duration)]
    length: Duration,
    /// Cores to spin on [default: those that the profile pins poll threads to; all allowed ones when it pins none]
    #[arg(long, value_delimiter = ',', value_name = "CORE,...")]
    core: Vec<usize>,
    /// Watch the poll threads of a devnet that is offered this many transfers a second, not an empty loop. They spin, each on
    /// the core that the profile pins it to, or on the last ones.
    #[arg(long, value_name = "RATE", conflicts_with = "core")]
    load: Option<u64>,
    /// Shortest gap that counts, microseconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    above_us: u64,
    #[command(flatten)]
    profile: ProfileArg,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// With --json: every gap too, with the time-stamp counter at both ends and the evidence of its cause.
    #[arg(long, requires = "json")]
    gaps: bool,
}

#[derive(Serialize)]
struct Report {
    machine: Fingerprint,
    cores: Vec<LedgerReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<CoreGaps>,
}

#[derive(Serialize)]
struct CoreGaps {
    core: usize,
    ns_per_tick: f64,
    gaps: Vec<Sample>,
}

/// Carries the command out.
pub(super) fn run(args: &JitterArgs) -> CliResult {
    let allowed = allowed_cores().map_err(|error| CliError::with("the cores of this host", error))?;
    let cores = cores(args, &allowed)?;
    let machine = Fingerprint::of(&Tree::host(), allowed.len());
    let mut seen = Vec::new();
    match args.load {
        Some(load) => seen = loaded::measure(args, load)?,
        None => {
            let rate = TickRate::measure();
            for core in cores {
                seen.push(measure(args, core, &allowed, rate)?);
            }
        }
    }
    let (ledgers, gaps): (Vec<Ledger>, Vec<CoreGaps>) = seen.into_iter().unzip();
    if args.json {
        let gaps = if args.gaps { gaps } else { Vec::new() };
        let report = Report { machine, cores: ledgers.iter().map(Ledger::report).collect(), gaps };
        say(serde_json::to_string(&report).map_err(|error| CliError::with("the report", error))?);
        return Ok(());
    }
    say(format!("{machine}\n"));
    ledgers.iter().for_each(|ledger| say(ledger.to_text()));
    say(explained(&ledgers).trim_end());
    Ok(())
}

fn cores(args: &JitterArgs, allowed: &[usize]) -> Result<Vec<usize>, CliError> {
    let threads = args.profile.read()?.placed_threads();
    let pinned = threads.iter().filter(|thread| thread.polls).filter_map(|thread| thread.core);
    let mut pinned: Vec<usize> = pinned.map(|core| core as usize).collect();
    pinned.sort_unstable();
    pinned.dedup();
    let cores = match (args.core.is_empty(), pinned.is_empty()) {
        (false, _) => args.core.clone(),
        (true, false) => pinned,
        (true, true) => allowed.to_vec(),
    };
    match cores.iter().find(|core| !allowed.contains(core)) {
        Some(core) => Err(CliError(format!(
            "this process may not run on core {core}, only on {allowed:?}: name others with --core, or widen its cpuset"
        ))),
        None => Ok(cores),
    }
}

/// Spins on `core` while this thread stays off it, as far as there is another core.
fn measure(
    args: &JitterArgs,
    core: usize,
    allowed: &[usize],
    rate: TickRate,
) -> Result<(Ledger, CoreGaps), CliError> {
    let failed = |error| CliError::with(format!("spinning on core {core}"), error);
    let above_ns = args.above_us * 1_000;
    let plan = Watch { core, above_ns, length: args.length };
    let (mut out, mut gaps) = ring(GAPS_PER_LOOK);
    // Its memory is there before the thread spins, or the ledger would show its own page faults.
    while out.push(Sample::default()).is_ok() {}
    while gaps.pop().is_some() {}
    if let Some(other) = allowed.iter().find(|other| **other != core) {
        pin_current_thread(*other, allowed).map_err(failed)?;
    }
    let own = allowed.to_vec();
    let stop = AtomicBool::new(false);
    let (mut ledger, mut all) = (Ledger::new(core, above_ns), Vec::new());
    let watched = std::thread::scope(|scope| {
        let spinner = scope.spawn(|| {
            pin_current_thread(core, &own)?;
            watch(&plan, rate, |_| Activity::Idle, &mut out, &stop)
        });
        let (began, mut told) = (Instant::now(), Instant::now());
        loop {
            // Looked at before the gaps are: none that came before its end is left.
            let over = spinner.is_finished();
            while let Some(sample) = gaps.pop() {
                ledger.add(sample.cause, sample.evidence.gap_ns);
                all.push(sample);
            }
            if over {
                break spinner.join().expect("the spinning thread does not panic");
            }
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                progress(args, &ledger, core, began.elapsed());
            }
            std::thread::sleep(LOOK);
        }
    });
    settle(&mut ledger, watched.map_err(failed)?, &all);
    Ok((ledger, CoreGaps { core, ns_per_tick: rate.ns_per_tick, gaps: all }))
}

/// Adds to a ledger how the watch of its core went, and which interrupts came.
fn settle(ledger: &mut Ledger, watched: Watched, gaps: &[Sample]) {
    let Watched { watched_ns, reading_ns, lost, interrupts } = watched;
    (ledger.watched_ns, ledger.reading_ns, ledger.lost) = (watched_ns, reading_ns, lost);
    for sample in gaps.iter().filter(|sample| sample.cause == Cause::Interrupt) {
        let name = sample.interrupt.and_then(|row| interrupts.get(row));
        ledger.interrupted_by(name.map_or("softirq", String::as_str));
    }
}

/// One line on standard error, which a terminal draws over the one before.
fn progress(args: &JitterArgs, ledger: &Ledger, core: usize, after: Duration) {
    let rows = ledger.rows();
    let causes: Vec<String> = rows.iter().map(|row| format!("{} {}", row.cause.name(), row.count)).collect();
    let max_us = rows.iter().map(|row| row.max_ns).max().unwrap_or(0) / 1_000;
    let line = format!(
        "core {core}: {:.0} of {:.0} s   {}   longest {max_us} us",
        after.as_secs_f64(),
        args.length.as_secs_f64(),
        causes.join("  ")
    );
    let mut err = std::io::stderr();
    let _ = match err.is_terminal() {
        true => write!(err, "\r{line}\x1b[K").and_then(|()| err.flush()),
        false => writeln!(err, "{line}"),
    };
}
