//! `roko devnet`: a network of validators on this machine.

use super::serve::{Services, runtime};
use super::{CliError, CliResult};
use crate::accounts::{DEVNET_CHAIN_ID, DEVNET_SEED, DevnetGenesis, devnet_genesis};
use crate::devnet::live::Live;
use crate::devnet::load::{LoadCounts, Loader};
use crate::devnet::network::{InProcess, Network};
use crate::devnet::{Devnet, DevnetPlan};
use crate::topology::{Placement, RINGS};
use crate::validator::NodeOptions;
use clap::{Args, ValueEnum};
use roko_pipeline::port::Port;
use roko_services::NodeApi;
use roko_services::http::MetricsConfig;
use roko_services::rpc::RpcConfig;
use roko_tuning::{HostCores, Profile, builtin};
use roko_wire::NanoMoment;
use roko_wire::genesis::{Genesis, Preset};
use roko_wire::rules::TRANSFER_GAS;
use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Accounts that send: enough that no sender waits for its own nonce.
const ACCOUNTS: u32 = 1_000;
/// Limits of a devnet's block: a thousand transfers, whose chunks a port's queue takes three times.
const BLOCK_TXS_MAX: u32 = 1_024;
const BLOCK_BYTES_MAX: u32 = 640 * 1024;
/// Stamps are batched for 3 ms on a devnet, so that four nodes on two cores share a signature among more of them; the
/// watermark waits for that and for their way.
const WATERMARK_LAG_US: u32 = 3_500;
/// How late a stamp or a proposal may be on a devnet.
const MESSAGE_DELAY_MS: u32 = 10_000;
/// How long a finished load may take to become final.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Arguments of `roko devnet`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  roko devnet                                       four validators, 1,000 transfers a second, live view
  roko devnet --validators 7 --rate 3000            seven validators
  roko devnet --for 20s --rate 5000 --report json   unattended: progress on stderr, one JSON object on stdout
  roko devnet --data-dir ./net                      keeps the chain; run it again and it goes on")]
pub struct DevnetArgs {
    /// How many validators (4 to 16).
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(4..=16))]
    validators: u16,
    /// Transfers offered a second; 0 offers none.
    #[arg(long, default_value_t = 1_000)]
    rate: u64,
    /// How long to offer transfers, for instance 20s or 2m; without it until Ctrl-C.
    #[arg(long = "for", value_parser = parse_duration)]
    length: Option<Duration>,
    /// What to print at the end.
    #[arg(long, value_enum)]
    report: Option<ReportFormat>,
    /// The network between the validators.
    #[arg(long, value_enum, default_value_t = PortKind::standard())]
    port: PortKind,
    #[arg(long, default_value = "devnet-2core", help = profile_help())]
    profile: String,
    /// Where the chain is kept; without it in a temporary folder that is removed at the end.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// First port of the JSON-RPC servers on 127.0.0.1, one a validator; 0 takes any free ports.
    #[arg(long, default_value_t = 9_944)]
    rpc_port: u16,
    /// Port of the Prometheus metrics on 127.0.0.1; 0 takes any free port.
    #[arg(long, default_value_t = 9_615)]
    metrics_port: u16,
    /// Run without JSON-RPC and metrics.
    #[arg(long)]
    no_services: bool,
    /// Least time between two blocks, milliseconds. Shorter means less waiting and more votes to sign and check.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    block_interval_ms: u32,
    /// Declared error bound of this host's clock, microseconds: it follows no reference that could be checked.
    #[arg(long, default_value_t = 10_000)]
    clock_bound_us: u32,
}

/// Formats of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// One JSON object on stdout.
    Json,
}

/// Networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PortKind {
    /// DPDK net_ring ports, without hugepages or privileges.
    #[cfg(feature = "dpdk")]
    NetRing,
    /// Rings in pure Rust, without DPDK.
    InProcess,
}

impl PortKind {
    const fn standard() -> PortKind {
        #[cfg(feature = "dpdk")]
        return PortKind::NetRing;
        #[cfg(not(feature = "dpdk"))]
        PortKind::InProcess
    }
}

impl std::fmt::Display for PortKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => Ok(()),
        }
    }
}

/// Reads a duration such as `20s`, `1500ms` or `2m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("\"{text}\" has no unit: write for instance 20s, 1500ms or 2m")),
    };
    let number: u64 = number.parse().map_err(|_| format!("\"{text}\" does not begin with a whole number"))?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| format!("\"{text}\" is too long"))
}

/// Help of `--profile`, with the built-in names.
pub(super) fn profile_help() -> String {
    format!("Core-pinning profile: a file, or a built-in one ({})", roko_tuning::builtin_names())
}

pub(super) fn profile_problems(profile: &str, problems: &[String]) -> CliError {
    CliError(format!("profile \"{profile}\":\n  {}", problems.join("\n  ")))
}

/// The profile of this name or file. It makes sense by itself; whether it fits a host is not looked at.
pub(super) fn read_profile(profile: &str) -> Result<Profile, CliError> {
    let text = match builtin(profile) {
        Some(text) => text.to_owned(),
        None => std::fs::read_to_string(profile).map_err(|error| {
            let built_in = roko_tuning::builtin_names();
            CliError::with(
                format!("profile \"{profile}\" is neither built in ({built_in}) nor a file"),
                error,
            )
        })?,
    };
    let parsed = Profile::parse(&text).map_err(|e| e.iter().map(ToString::to_string).collect::<Vec<_>>());
    let parsed = parsed.map_err(|problems| profile_problems(profile, &problems))?;
    let problems: Vec<String> = parsed.validate_rings(&ring_keys()).iter().map(ToString::to_string).collect();
    if problems.is_empty() { Ok(parsed) } else { Err(profile_problems(profile, &problems)) }
}

/// The keys of `[rings]` that this node has rings for.
fn ring_keys() -> Vec<&'static str> {
    let mut keys: Vec<&str> = RINGS.iter().map(|ring| ring.depth_key).filter(|key| !key.is_empty()).collect();
    keys.dedup();
    keys
}

/// The profile of this name or file, checked against this host.
pub fn placement(profile: &str) -> Result<Placement, CliError> {
    let parsed = read_profile(profile)?;
    let host = HostCores::detect().map_err(|error| CliError::with("the cores of this host", error))?;
    let problems: Vec<String> = parsed.validate(&host).iter().map(ToString::to_string).collect();
    if !problems.is_empty() {
        return Err(profile_problems(profile, &problems));
    }
    let allowed = roko_os::affinity::allowed_cores().map_err(|error| CliError::with("affinity", error))?;
    Ok(Placement::new(parsed, allowed))
}

/// Carries the command out.
pub fn run(args: &DevnetArgs) -> CliResult {
    let placement = placement(&args.profile)?;
    let scratch = Scratch::new(args.data_dir.as_deref())?;
    let plan = DevnetPlan {
        devnet: genesis_of(args, scratch.path())?,
        data_dir: scratch.path().to_owned(),
        placement,
        options: NodeOptions {
            journal_bytes: 16 << 20,
            segment_bytes: 16 << 20,
            mempool_transactions_max: 32_768,
            stamp_flush_us: 2_000,
            ..NodeOptions::default()
        },
        clock_bound_us: args.clock_bound_us,
    };
    match args.port {
        #[cfg(feature = "dpdk")]
        PortKind::NetRing => run_on(args, plan, crate::devnet::network::Dpdk),
        PortKind::InProcess => run_on(args, plan, InProcess),
    }
}

/// The genesis of the data directory, or a new one written there.
fn genesis_of(args: &DevnetArgs, dir: &Path) -> Result<DevnetGenesis, CliError> {
    let path = dir.join("genesis.json");
    let existing = match std::fs::read_to_string(&path) {
        Ok(text) => Some(Genesis::parse(&text).map_err(|problems| {
            let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
            CliError(format!("{}:\n  {}", path.display(), all.join("\n  ")))
        })?),
        Err(_) => None,
    };
    let time = match &existing {
        Some(genesis) => genesis.time,
        None => NanoMoment(u128::from(roko_os::clock::realtime_ns())),
    };
    let mut made = devnet_genesis(
        args.validators,
        ACCOUNTS,
        Preset::Balanced,
        DEVNET_CHAIN_ID,
        DEVNET_SEED.as_bytes(),
        time,
    )
    .map_err(|error| CliError::with("genesis", error))?;
    // A whole block must fit the queues of sixteen virtual ports on two cores, or its own chunks crowd the votes out.
    made.genesis.limits.block_txs_max = BLOCK_TXS_MAX;
    made.genesis.limits.block_bytes_max = BLOCK_BYTES_MAX;
    made.genesis.limits.block_gas_limit = u64::from(BLOCK_TXS_MAX) * 2 * TRANSFER_GAS;
    // Sixteen nodes that share two busy cores see each other's stamps late, which says nothing about clocks.
    made.genesis.limits.min_block_interval_ms = args.block_interval_ms;
    made.genesis.limits.message_delay_ms = MESSAGE_DELAY_MS;
    made.genesis.limits.watermark_lag_us = WATERMARK_LAG_US;
    match existing {
        Some(genesis) if genesis != made.genesis => Err(CliError(format!(
            "{} was made with other settings ({} validators): use them again, or another --data-dir",
            path.display(),
            genesis.validators.len(),
        ))),
        Some(_) => Ok(made),
        None => {
            std::fs::write(&path, made.genesis.to_json())
                .map_err(|error| CliError::with(format!("writing {}", path.display()), error))?;
            Ok(made)
        }
    }
}

fn run_on<N: Network>(args: &DevnetArgs, plan: DevnetPlan, network: N) -> CliResult
where
    <N::Port as Port>::Pool: Sync + 'static,
{
    let profile = plan.placement.profile().name.clone();
    let idle = plan.placement.profile().idle.strategy.name();
    eprintln!("starting {} validators; profile {profile}, idle strategy {idle}", args.validators);
    let (devnet, mut loader) =
        Devnet::start(plan, network).map_err(|error| CliError::with("devnet", error))?;
    loader.set_nonces(|address| devnet.nodes[0].balance(*address).nonce);
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = runtime(&stop)?;
    let services = if args.no_services { None } else { Some(runtime.block_on(serve(args, &devnet))?) };
    let outcome = watch(args, &devnet, loader, &stop);
    if let Some(services) = services {
        runtime.block_on(services.stop());
    }
    devnet.stop();
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(args: &DevnetArgs, devnet: &Devnet) -> Result<Services, CliError> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let rpc_of = |index: usize| match args.rpc_port {
        0 => RpcConfig { listen: local(0), ..RpcConfig::default() },
        first => RpcConfig { listen: local(first.saturating_add(index as u16)), ..RpcConfig::default() },
    };
    let nodes: Vec<(RpcConfig, Arc<dyn NodeApi>)> = devnet
        .nodes
        .iter()
        .enumerate()
        .map(|(index, node)| (rpc_of(index), Arc::clone(node) as Arc<dyn NodeApi>))
        .collect();
    let metrics = MetricsConfig { listen: local(args.metrics_port), ..MetricsConfig::default() };
    Services::start(nodes, &metrics).await
}

/// Runs the load and shows what happens until it is over.
fn watch(args: &DevnetArgs, devnet: &Devnet, loader: Loader, stop: &Arc<AtomicBool>) -> CliResult {
    let first_final = wait_for_first(devnet, stop);
    if let Some(after) = first_final {
        let handshakes = devnet
            .handshakes_took
            .map_or("some came later".to_owned(), |took| format!("took {:.0} ms", took.as_secs_f64() * 1e3));
        eprintln!("first final block after {:.0} ms; handshakes {handshakes}", after.as_secs_f64() * 1e3);
    }
    let counts = loader.counts();
    let (rate, length, load_stop) = (args.rate, args.length, Arc::clone(stop));
    let began = Instant::now();
    let load = std::thread::Builder::new()
        .name("load".into())
        .spawn(move || {
            let _ = roko_os::affinity::sharpen_timers();
            loader.run(rate, length, &load_stop);
        })
        .map_err(|error| CliError::with("the load thread", error))?;
    show(args, devnet, &counts, &load, stop);
    let loaded = began.elapsed();
    let _ = load.join();
    drain(devnet, &counts);
    if args.report.is_some() {
        let report = devnet.report(&counts, loaded, first_final);
        let text = serde_json::to_string(&report).map_err(|error| CliError::with("the report", error))?;
        println!("{text}");
    }
    Ok(())
}

fn wait_for_first(devnet: &Devnet, stop: &AtomicBool) -> Option<Duration> {
    let before = devnet.durable_height();
    while !stop.load(Ordering::Relaxed) && devnet.started.elapsed() < DRAIN_MAX {
        if devnet.durable_height() > before {
            return Some(devnet.started.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

/// Draws the live view, or prints a line a second where there is no terminal.
fn show(
    args: &DevnetArgs,
    devnet: &Devnet,
    counts: &LoadCounts,
    load: &std::thread::JoinHandle<()>,
    stop: &AtomicBool,
) {
    let terminal = std::io::stdout().is_terminal() && args.report.is_none();
    let mut live = Live::default();
    let interval = Duration::from_millis(if terminal { 250 } else { 1_000 });
    let began = Instant::now();
    while !stop.load(Ordering::Relaxed)
        && !(load.is_finished() && (args.length.is_some() || args.report.is_some()))
    {
        if terminal {
            let page = live.page(devnet, counts, args.rate);
            // Home, each line cleared to its end, then everything below: no flicker.
            let drawn = page.replace('\n', "\x1b[K\r\n");
            let mut out = std::io::stdout().lock();
            let _ = write!(out, "\x1b[H{drawn}\x1b[J\nCtrl-C stops the network.");
            let _ = out.flush();
        } else {
            let final_txs = devnet.nodes[0].observer.progress(|progress| progress.transactions_final);
            let views: Vec<String> =
                devnet.nodes.iter().map(|node| node.observer.view().to_string()).collect();
            eprintln!(
                "{:>5.0} s   height {:>7}   views {}   {:>9} offered   {final_txs:>9} final",
                began.elapsed().as_secs_f64(),
                devnet.durable_height(),
                views.join(" "),
                counts.submitted.load(Ordering::Relaxed),
            );
        }
        std::thread::sleep(interval);
    }
    if terminal {
        println!();
    }
}

/// Waits until everything offered is final on every node, as long as that makes progress.
fn drain(devnet: &Devnet, counts: &LoadCounts) {
    let submitted = counts.submitted.load(Ordering::Relaxed);
    let finals =
        || devnet.nodes.iter().map(|n| n.observer.progress(|p| p.transactions_final)).min().unwrap_or(0);
    let settled = || {
        let heights: Vec<u64> = devnet.nodes.iter().map(|node| node.observer.durable_height().0).collect();
        heights.iter().all(|height| *height == heights[0])
    };
    let began = Instant::now();
    while began.elapsed() < DRAIN_MAX && !(finals() >= submitted && settled()) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A data directory: the given one, or a temporary one that is removed.
struct Scratch {
    path: PathBuf,
    temporary: bool,
}

impl Scratch {
    fn new(given: Option<&Path>) -> Result<Scratch, CliError> {
        let path = match given {
            Some(path) => path.to_owned(),
            None => std::env::temp_dir().join(format!("roko-devnet-{}", std::process::id())),
        };
        std::fs::create_dir_all(&path).map_err(|error| {
            CliError::with(format!("making the data directory {}", path.display()), error)
        })?;
        Ok(Scratch { path, temporary: given.is_none() })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.temporary {
            // What cannot be removed stays in the system's temporary folder.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        assert_eq!(parse_duration("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(parse_duration("1500ms"), Ok(Duration::from_millis(1_500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["20", "s", "2d", "-1s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
