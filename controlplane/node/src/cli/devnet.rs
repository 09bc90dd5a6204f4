//! `roko devnet`: a network of validators on this machine.

#[cfg(feature = "dpdk")]
mod processes;
mod watch;

mod attack;

use super::profile::{placement, profile_help};
use super::serve::{Services, runtime};
use super::{CliError, CliResult};
use crate::accounts::{DEVNET_CHAIN_ID, DEVNET_SEED, DevnetGenesis, devnet_genesis};
use crate::devnet::load::Loader;
use crate::devnet::network::{InProcess, Network};
use crate::devnet::{Devnet, DevnetPlan};
use crate::jitter::Tap;
use crate::validator::NodeOptions;
use clap::{Args, ValueEnum};
use roko_pipeline::port::Port;
use roko_services::NodeApi;
use roko_services::http::MetricsConfig;
use roko_services::rpc::RpcConfig;
use roko_wire::NanoMoment;
use roko_wire::genesis::{Genesis, Preset};
use roko_wire::rules::TRANSFER_GAS;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

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
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Arguments of `roko devnet`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  roko devnet                                       four validators, 1,000 transfers a second, live view
  roko devnet --validators 7 --rate 3000            seven validators
  roko devnet --for 20s --rate 5000 --report json   unattended: progress on stderr, one JSON object on stdout
  roko devnet --data-dir ./net                      keeps the chain; run it again and it goes on
  roko devnet --attack all --for 20s --report json  one validator lies in every way there is
  sudo roko devnet --processes                      a process and a network namespace for each validator
  sudo roko devnet --processes --port af_xdp --validators 7")]
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
    /// Run each validator in a process and a network namespace of its own, over the kernel's bridge. Needs root.
    #[arg(long)]
    processes: bool,
    /// Kill a validator this often with SIGKILL, one after the other, and start it again half as long after: for instance
    /// 10s. What is sent to a validator that is away is lost.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "processes")]
    kill_every: Option<Duration>,
    /// Cut the network in two this often, and join it again half as long after: with four validators neither half can go on
    /// alone.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "processes")]
    cut_every: Option<Duration>,
    /// Kill and cut at random moments around those times, for random lengths; the same seed gives the same faults.
    #[arg(long, value_name = "NUMBER", requires = "processes")]
    fault_seed: Option<u64>,
    /// Turn the last validator against the others and measure what they make of it: the same load runs three times, with
    /// that validator honest, absent, and hostile. "all" goes through every kind, a second each, with bans of half a second.
    #[arg(long, value_name = "KIND", value_parser = attack::kinds(), requires = "length", conflicts_with_all = ["processes", "record", "data_dir"])]
    attack: Option<String>,
    /// The network between the validators [default: net-ring; with --processes af_packet]
    #[arg(long, value_enum)]
    port: Option<PortKind>,
    /// With --processes over DPDK: nodes find each other's Ethernet addresses by ARP, as on a network that nobody made for them.
    #[arg(long, requires = "processes")]
    resolve: bool,
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
    /// Write what the load client sends to this capture, and the keys that open it beside it, for `roko replay`.
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    record: Option<PathBuf>,
    /// Watches the poll threads.
    #[arg(skip)]
    pub(super) tap: Option<Arc<Tap>>,
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
    /// With --processes: DPDK over packet sockets.
    #[cfg(feature = "dpdk")]
    #[value(name = "af_packet", alias = "af-packet")]
    AfPacket,
    /// With --processes: DPDK over XDP sockets.
    #[cfg(feature = "dpdk")]
    #[value(name = "af_xdp", alias = "af-xdp")]
    AfXdp,
    /// With --processes: UDP sockets of the kernel, by io_uring.
    #[cfg(feature = "dpdk")]
    #[value(name = "io_uring", alias = "io-uring")]
    IoUring,
}

impl PortKind {
    const fn standard() -> PortKind {
        #[cfg(feature = "dpdk")]
        return PortKind::NetRing;
        #[cfg(not(feature = "dpdk"))]
        PortKind::InProcess
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

impl DevnetArgs {
    /// What `roko devnet` takes for granted, without services, of so many validators with this profile.
    pub(super) fn plain(validators: u16, profile: &str, in_process: bool) -> Result<DevnetArgs, CliError> {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            args: DevnetArgs,
        }
        let validators = validators.to_string();
        let mut line = vec!["devnet", "--no-services", "--validators", &validators, "--profile", profile];
        line.extend(in_process.then_some(["--port", "in-process"]).into_iter().flatten());
        <Alone as clap::Parser>::try_parse_from(line)
            .map(|alone| alone.args)
            .map_err(|error| CliError(error.to_string()))
    }
}

/// Carries the command out.
pub fn run(args: &DevnetArgs) -> CliResult {
    if args.processes {
        return in_processes(args);
    }
    if let Some(kind) = &args.attack {
        return attack::run(args, kind);
    }
    beside(args, |devnet, loader, stop| watch::watch(args, devnet, loader, stop))
}

/// Runs a devnet in this process for as long as `during` does.
pub(super) fn beside(
    args: &DevnetArgs,
    during: impl FnOnce(&Devnet, Loader, &Arc<AtomicBool>) -> CliResult,
) -> CliResult {
    let placement = placement(&args.profile)?.tapped(args.tap.clone());
    let scratch = Scratch::new(args.data_dir.as_deref())?;
    let plan = DevnetPlan {
        devnet: genesis_of(args, scratch.path())?,
        data_dir: scratch.path().to_owned(),
        placement,
        options: options(),
        clock_bound_us: args.clock_bound_us,
        record: args.record.clone(),
        drill: None,
    };
    #[cfg(feature = "dpdk")]
    if args.record.is_some() {
        use crate::devnet::processes::files::write_all;
        write_all(&plan.data_dir, &plan.devnet, &plan.options, plan.clock_bound_us)
            .map_err(|error| CliError::with("the validators' files", error))?;
    }
    match args.port.unwrap_or(PortKind::standard()) {
        #[cfg(feature = "dpdk")]
        PortKind::NetRing => run_on(args, plan, crate::devnet::network::Dpdk, during),
        PortKind::InProcess => run_on(args, plan, InProcess, during),
        #[cfg(feature = "dpdk")]
        PortKind::AfPacket | PortKind::AfXdp | PortKind::IoUring => {
            Err(CliError("that port joins processes: give --processes too".into()))
        }
    }
}

#[cfg(feature = "dpdk")]
fn in_processes(args: &DevnetArgs) -> CliResult {
    processes::run(args)
}

#[cfg(not(feature = "dpdk"))]
fn in_processes(_: &DevnetArgs) -> CliResult {
    Err(CliError("--processes needs DPDK's ports: build with default features".into()))
}

/// Settings of a devnet's nodes.
fn options() -> NodeOptions {
    NodeOptions {
        journal_bytes: 16 << 20,
        segment_bytes: 16 << 20,
        mempool_transactions_max: 32_768,
        stamp_flush_us: 2_000,
        ..NodeOptions::default()
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

fn run_on<N: Network>(
    args: &DevnetArgs,
    plan: DevnetPlan,
    network: N,
    during: impl FnOnce(&Devnet, Loader, &Arc<AtomicBool>) -> CliResult,
) -> CliResult
where
    <N::Port as Port>::Pool: Sync + 'static,
{
    let profile = plan.placement.profile().name.clone();
    let idle = match plan.placement.is_tapped() {
        true => "spin, watched",
        false => plan.placement.profile().idle.strategy.name(),
    };
    eprintln!("starting {} validators; profile {profile}, idle strategy {idle}", args.validators);
    let (devnet, mut loader) =
        Devnet::start(plan, network).map_err(|error| CliError::with("devnet", error))?;
    loader.set_nonces(|address| devnet.nodes[0].balance(*address).nonce);
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = runtime(&stop)?;
    let services = if args.no_services { None } else { Some(runtime.block_on(serve(args, &devnet))?) };
    let outcome = during(&devnet, loader, &stop);
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
