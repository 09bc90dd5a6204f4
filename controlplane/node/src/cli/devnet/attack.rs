//! The drill of a hostile validator: the same load with the last validator honest, absent and hostile, and what differs.

use super::watch::measure;
use super::{DevnetArgs, PortKind, Scratch, genesis_of, options};
use crate::cli::profile::placement;
use crate::cli::serve::runtime;
use crate::cli::{CliError, CliResult};
use crate::devnet::attack::{Attack, Hostile};
use crate::devnet::network::InProcess;
use crate::devnet::report::{Report, rss_mb};
use crate::devnet::{Devnet, DevnetPlan, Drill};
use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use roko_peers::ScoreConfig;
use roko_services::NodeApi;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The word for every kind in turn.
const ALL: &str = "all";
/// How long each kind has, and how long bans are meanwhile: half of it, so that each finds open doors.
const TURN: Duration = Duration::from_secs(1);
const BAN_MS: u64 = 500;
/// How often the end is looked for.
const STEP: Duration = Duration::from_millis(20);

/// What may be asked for.
pub(super) fn kinds() -> PossibleValuesParser {
    let names = Attack::ALL.iter().filter_map(|kind| kind.to_possible_value());
    PossibleValuesParser::new(std::iter::once(ALL.into()).chain(names))
}

/// What one run came to.
#[derive(Debug, Serialize)]
struct Figures {
    tx_submitted: u64,
    tx_finalised: u64,
    finality_p50_ms: f64,
    finality_p99_ms: f64,
    finality_max_ms: f64,
    blocks: u64,
    forks: u64,
    balances_conserved: bool,
    same_state: bool,
    rss_mb_before: u64,
    rss_mb_after: u64,
    problems: BTreeMap<String, String>,
}

impl Figures {
    fn of(report: Report, rss_mb_before: u64) -> Figures {
        Figures {
            tx_submitted: report.tx_submitted,
            tx_finalised: report.tx_finalised,
            finality_p50_ms: report.finality_ms.p50,
            finality_p99_ms: report.finality_ms.p99,
            finality_max_ms: report.finality_ms.max,
            blocks: report.blocks,
            forks: report.forks,
            balances_conserved: report.balances_conserved,
            same_state: report.same_state,
            rss_mb_before,
            rss_mb_after: report.rss_mb,
            problems: report.problems,
        }
    }
}

/// What the hostile validator did, and what was made of it, over all honest ones.
#[derive(Debug, Default, Serialize)]
struct Endured {
    frames: u64,
    stream_messages: u64,
    bans: u64,
    offences: BTreeMap<String, u64>,
    dropped: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct AttackReport {
    attack: String,
    validators: u16,
    rate: u64,
    seconds: f64,
    ban_ms: u64,
    port: &'static str,
    honest: Figures,
    silent: Figures,
    hostile: Figures,
    /// Finality of honest transfers under attack, slowest hundredth, by that with all validators honest.
    p99_by_honest: f64,
    /// The same by that with the hostile validator absent: what a crash costs anyway.
    p99_by_silent: f64,
    endured: Endured,
}

/// Carries the drill out.
pub(super) fn run(args: &DevnetArgs, kind: &str) -> CliResult {
    if args.port.is_some_and(|port| port != PortKind::InProcess) {
        // DPDK starts once a process, and there are three networks.
        return Err(CliError(
            "--attack runs on the ports in pure Rust: leave --port out, or give in-process".into(),
        ));
    }
    let attacks: Vec<Attack> =
        Attack::ALL.iter().copied().filter(|one| kind == ALL || name(*one) == kind).collect();
    let scores = if kind == ALL {
        ScoreConfig { ban_ms: BAN_MS, ban_ms_max: BAN_MS, ..ScoreConfig::default() }
    } else {
        ScoreConfig::default()
    };
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = runtime(&stop)?;
    let scratch = Scratch::new(None)?;
    let mut endured = Endured::default();
    let mut figures = Vec::new();
    for (drill, name) in [(Drill::Honest, "honest"), (Drill::Silent, "silent"), (Drill::Hostile, "hostile")] {
        eprintln!("the last of {} validators is {name}", args.validators);
        let dir = scratch.path().join(name);
        figures.push(one(args, (drill, scores), &attacks, &dir, &stop, &mut endured)?);
        if stop.load(Ordering::Relaxed) {
            return Err(CliError("stopped before all three runs were over".into()));
        }
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    let [honest, silent, hostile]: [Figures; 3] =
        figures.try_into().map_err(|_| CliError("a run is missing".into()))?;
    let by =
        |other: &Figures| (hostile.finality_p99_ms / other.finality_p99_ms.max(0.01) * 100.0).round() / 100.0;
    let report = AttackReport {
        attack: kind.to_owned(),
        validators: args.validators,
        rate: args.rate,
        seconds: args.length.unwrap_or_default().as_secs_f64(),
        ban_ms: scores.ban_ms,
        port: "in-process",
        p99_by_honest: by(&honest),
        p99_by_silent: by(&silent),
        honest,
        silent,
        hostile,
        endured,
    };
    tell(&report);
    if args.report.is_some() {
        let text = serde_json::to_string(&report).map_err(|error| CliError::with("the report", error))?;
        println!("{text}");
    }
    Ok(())
}

fn name(attack: Attack) -> String {
    attack.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// One of the three runs.
fn one(
    args: &DevnetArgs,
    (drill, scores): (Drill, ScoreConfig),
    attacks: &[Attack],
    dir: &Path,
    stop: &Arc<AtomicBool>,
    endured: &mut Endured,
) -> Result<Figures, CliError> {
    std::fs::create_dir_all(dir).map_err(|error| CliError::with("the data directory", error))?;
    let plan = DevnetPlan {
        devnet: genesis_of(args, dir)?,
        data_dir: dir.to_owned(),
        placement: placement(&args.profile)?,
        options: crate::validator::NodeOptions { scores, ..options() },
        clock_bound_us: args.clock_bound_us,
        record: None,
        drill: Some(drill),
    };
    let (devnet, mut loader) =
        Devnet::start(plan, InProcess).map_err(|error| CliError::with("devnet", error))?;
    loader.set_nonces(|address| devnet.nodes[0].balance(*address).nonce);
    let (before, over) = (rss_mb(), AtomicBool::new(false));
    let report = std::thread::scope(|scope| {
        scope.spawn(|| take_turns(devnet.hostile.as_ref(), attacks, &over));
        let report = measure(args, &devnet, loader, stop);
        over.store(true, Ordering::Relaxed);
        report
    })?;
    if let Some(hostile) = &devnet.hostile {
        endured.frames = hostile.frames();
        endured.stream_messages = hostile.stream_messages();
        for one in devnet.nodes.iter().flat_map(|node| node.observer.conduct.read()) {
            endured.bans += one.bans;
            for (offence, count) in one.offences {
                *endured.offences.entry(offence).or_default() += count;
            }
        }
        endured.dropped.clone_from(&report.dropped);
    }
    devnet.stop();
    Ok(Figures::of(report, before))
}

/// Lets the hostile validator do one thing after the other.
fn take_turns(hostile: Option<&Hostile>, attacks: &[Attack], over: &AtomicBool) {
    let Some(hostile) = hostile else { return };
    for attack in attacks.iter().cycle() {
        hostile.set(Some(*attack));
        let until = Instant::now() + TURN;
        while Instant::now() < until {
            if over.load(Ordering::Relaxed) {
                hostile.set(None);
                return;
            }
            std::thread::sleep(STEP);
        }
    }
}

fn tell(report: &AttackReport) {
    eprintln!(
        "\nlast validator    finality p50      p99      max ms   transfers final   forks   MiB before, after"
    );
    for (name, figures) in
        [("honest", &report.honest), ("silent", &report.silent), ("hostile", &report.hostile)]
    {
        eprintln!(
            "{name:<16}{:>14.1}{:>9.1}{:>12.1}{:>18}{:>8}{:>13}, {}",
            figures.finality_p50_ms,
            figures.finality_p99_ms,
            figures.finality_max_ms,
            figures.tx_finalised,
            figures.forks,
            figures.rss_mb_before,
            figures.rss_mb_after,
        );
    }
    let endured = &report.endured;
    eprintln!(
        "under attack p99 is {} times that of honest validators, {} times that with one absent; {} frames, {} bans",
        report.p99_by_honest, report.p99_by_silent, endured.frames, endured.bans,
    );
}
