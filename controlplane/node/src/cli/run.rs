//! `roko run`: one validator from its configuration file.

#[cfg(feature = "dpdk")]
mod dpdk;

use super::follow::follow;
use super::profile::placement;
use super::serve::{Services, runtime};
use super::{CliError, CliResult};
use crate::accounts::load_bls;
use crate::api::NodeHandle;
use crate::chain::Chain;
use crate::clock::{PortClock, source_name};
use crate::config::{NodeConfig, NodeKind, PortKind, PortStamps, StartFrom};
use crate::devnet::network::Plain;
use crate::handshake::HandshakeParts;
use crate::sandbox::{self, Confined};
use crate::topology::Placement;
use crate::validator::{self, NodeOptions, Ready, ValidatorParts};
use clap::Args;
use roko_peers::{Membership, NodeIdentity, ScoreConfig};
use roko_pipeline::port::inprocess::InProcessPool;
use roko_pipeline::port::udp::UdpPort;
use roko_pipeline::port::{Port, RxStamps};
use roko_services::NodeApi;
use roko_services::http::MetricsConfig;
use roko_services::rpc::RpcConfig;
use roko_state::OpenReport;
use roko_state::file::FileStorage;
use roko_time::NodeClock;
use roko_time::phc::{HostRealtime, Phc};
use roko_time::port_map::PortSettings;
use roko_wire::genesis::Genesis;
use seccompiler::BpfProgram;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How often a running node says where it is.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// How often it looks whether it is to stop.
const STOP_INTERVAL: Duration = Duration::from_millis(50);

/// Arguments of `roko run`.
#[derive(Args, Debug)]
#[command(after_help = "\
The file is checked whole before any device is touched; `roko config example` prints one with every key explained.

Examples:
  roko config check node.toml && roko run --config node.toml
  roko run --config /etc/roko/node.toml     stop it with Ctrl-C or a termination request: the last block is on disk then
  roko run --config node.toml --start snapshot     a new node begins from the state after a recent block, not from genesis")]
pub struct RunArgs {
    /// The node's configuration file.
    #[arg(long)]
    config: PathBuf,
    /// What to begin from when the data folder is empty, whatever catchup.start says.
    #[arg(long, value_enum, value_name = "FROM")]
    start: Option<StartFrom>,
    /// End with this process: given by a devnet to its nodes.
    #[arg(long, hide = true, value_name = "PID")]
    parent: Option<u32>,
}

/// Carries the command out.
pub fn run(args: &RunArgs) -> CliResult {
    if let Some(parent) = args.parent {
        end_with(parent)?;
    }
    let mut config = NodeConfig::load(&args.config).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        CliError(format!("{}:\n  {}", args.config.display(), all.join("\n  ")))
    })?;
    if let Some(start) = args.start {
        config.catchup.start = start;
    }
    if config.node.kind != NodeKind::Validator {
        return follow(&config);
    }
    on_port(&config)
}

/// Has the kernel ask this process to end when the one that started it is gone.
fn end_with(parent: u32) -> CliResult {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| CliError::with("following the parent process", error))?;
    // It may be gone already; then nobody would tell.
    match getppid().map(|pid| pid.as_raw_nonzero().get()) {
        Some(pid) if u32::try_from(pid) == Ok(parent) => Ok(()),
        _ => Err(CliError("the process that started this node has ended".into())),
    }
}

/// Opens the configured port and runs the node on it.
fn on_port(config: &NodeConfig) -> CliResult {
    match (config.port.kind, &config.port.device) {
        (PortKind::IoUring, _) => on_udp(config),
        (PortKind::Dpdk, Some(device)) => on_dpdk(config, device),
        (PortKind::Dpdk, None) => Err(CliError("port.device is missing".into())),
    }
}

/// Datagrams in the kernel's hands, each way: what a socket's queue of the usual size holds.
const UDP_SLOTS: u16 = 1_024;

fn on_udp(config: &NodeConfig) -> CliResult {
    let network = &config.network;
    let mac = network.mac.unwrap_or_else(|| roko_peers::membership::derived_mac(&network.ip));
    let pool = InProcessPool::new(config.port.frames as usize);
    let port = UdpPort::open(SocketAddr::new(network.ip, network.port), mac, pool, UDP_SLOTS)
        .map_err(|error| CliError::with("the port", error))?;
    let port = if config.port.stamps == PortStamps::Poll { port.unstamped() } else { port };
    let clock = (port.rx_stamps() == RxStamps::Kernel)
        .then(|| (Box::new(HostRealtime) as Box<dyn Phc>, PortSettings::kernel()));
    run_node(config, port, clock, &Plain, &mut || None)
}

#[cfg(feature = "dpdk")]
use dpdk::on_dpdk;

#[cfg(not(feature = "dpdk"))]
fn on_dpdk(_: &NodeConfig, _: &crate::config::PciOrVirtual) -> CliResult {
    Err(CliError(
        "this binary was built without DPDK: set port.kind = \"io_uring\", or install libdpdk-dev and build with default \
         features"
            .into(),
    ))
}

/// Starts a thread that is no poll thread.
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, CliError> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(run);
    thread.map_err(|error| CliError::with(format!("the thread {name}"), error))
}

fn run_node<P: Port>(
    config: &NodeConfig,
    port: P,
    port_clock: Option<PortClock>,
    enter: &impl crate::devnet::network::EnterThread,
    link_is_up: &mut dyn FnMut() -> Option<bool>,
) -> CliResult
where
    P::Pool: Sync + 'static,
{
    let fail = |what: &'static str| move |error: &dyn std::fmt::Display| CliError::with(what, error);
    let chain = load_chain(config)?;
    let identity = NodeIdentity::load(&config.node.node_key).map_err(|error| fail("node key")(&error))?;
    let bls_path = config.node.bls_key.as_ref().ok_or_else(|| CliError("node.bls_key is missing".into()))?;
    let bls_key = load_bls(bls_path).map_err(|error| fail("BLS key")(&error))?;
    let members = Membership::new(&chain.genesis, &config.client_entries(), |at| config.mac_of(&at.ip))
        .map_err(|error| fail("peers")(&error))?;
    let clock_name = port_clock.as_ref().map(|(clock, _)| clock.name());
    let (clock, _driver) = crate::clock::start_configured(&chain, &config.clock, port_clock)
        .map_err(|error| fail("clock")(&error))?;
    let time = time_in_words(&clock, port.rx_stamps(), clock_name);
    let placement = placement(&config.tuning.profile)?;
    let runtime_of_handshakes = roko_peers::link::runtime().map_err(|error| fail("handshakes")(&error))?;
    let handshake = handshake_parts(config, &members, runtime_of_handshakes.handle())?;
    let (kind, filter) = (port.kind(), confinement(config, port.kind())?);
    let port_says = port_in_words(placement.lanes(), port.rx_queues(), &port.offloads());
    give_up_root(config)?;
    let storage = validator::open_files(&config.node.data_dir).map_err(|error| fail("start")(&error))?;
    super::snapshot::begin(config, &chain, &members, &storage, &clock)?;
    let parts = ValidatorParts {
        chain,
        identity,
        bls_key,
        members: &members,
        port,
        storage,
        data_dir: &config.node.data_dir,
        clock,
        placement: &placement,
        options: options(config),
        handshake,
    };
    let Ready { stages, control, slow_path, handle, open_report, sessions, catchup, keeper } =
        validator::start(parts).map_err(|error| fail("start")(&error))?;
    say_hello(config, &open_report, &placement, &time);
    eprint!("{port_says}");
    let stop = Arc::new(AtomicBool::new(false));
    let (runtime, services) = serve(config, &handle, &stop)?;
    if filter.is_some() {
        eprintln!("poll threads may only wait and use their port ({kind}): other system calls fail");
    }
    let enter = Confined::new(enter.clone(), filter);
    let mut threads =
        placement.start_polling(stages, &stop, &enter).map_err(|error| fail("poll threads")(&error))?;
    let control = control.spawn("control", placement.pin_control(), &stop);
    threads.push(control.map_err(|error| fail("the control thread")(&error))?);
    if let Some(slow_path) = slow_path {
        let stop = Arc::clone(&stop);
        threads.push(spawn("slow-path", move || slow_path.run(&stop))?);
    }
    wait(&handle, &stop, link_is_up);
    runtime.block_on(services.stop());
    drop((keeper, sessions, catchup));
    for thread in threads {
        // A thread that panicked has reported it.
        let _ = thread.join();
    }
    Ok(())
}

/// Starts JSON-RPC and metrics, on a runtime on which a request to end sets `stop`.
pub(super) fn serve(
    config: &NodeConfig,
    handle: &Arc<NodeHandle<FileStorage>>,
    stop: &Arc<AtomicBool>,
) -> Result<(Runtime, Services), CliError> {
    let runtime = runtime(stop)?;
    let api = Arc::clone(handle) as Arc<dyn NodeApi>;
    let rpc = RpcConfig {
        listen: config.rpc.listen,
        connections_max: config.rpc.connections_max,
        ..RpcConfig::default()
    };
    let metrics = MetricsConfig { listen: config.metrics.listen, ..MetricsConfig::default() };
    let services = runtime.block_on(Services::start(vec![(rpc, api)], &metrics))?;
    Ok((runtime, services))
}

fn confinement(config: &NodeConfig, port: &str) -> Result<Option<BpfProgram>, CliError> {
    if !config.sandbox.seccomp {
        eprintln!("sandbox.seccomp is false: poll threads are not confined");
        return Ok(None);
    }
    sandbox::filter(port).map(Some).map_err(CliError)
}

/// Becomes the configured user, if one is configured, and says what was given up.
pub(super) fn give_up_root(config: &NodeConfig) -> CliResult {
    let Some(user) = &config.node.user else {
        if nix::unistd::geteuid().is_root() {
            eprintln!("running as root: set node.user, and the node becomes that user once it has started");
        }
        return Ok(());
    };
    std::fs::create_dir_all(&config.node.data_dir)
        .map_err(|error| CliError::with(config.node.data_dir.display(), error))?;
    let dropped = sandbox::become_user(user, &config.node.data_dir).map_err(CliError)?;
    eprintln!(
        "gave up root and all capabilities: now {} (user {}, group {})",
        dropped.user, dropped.uid, dropped.gid
    );
    Ok(())
}

/// Where the node's time and that of its frames come from.
fn time_in_words(clock: &NodeClock, stamps: RxStamps, port_clock: Option<String>) -> String {
    let reading = clock.now();
    let (source, bound_us) = (source_name(reading.source), reading.error_bound_ns as f64 / 1e3);
    let by = port_clock.map_or(String::new(), |name| format!(", by {name}"));
    format!("clock: {source}, +-{bound_us:.1} us; receive stamps: {}{by}", stamps.name())
}

/// What was found on disk and how the node runs.
fn say_hello(config: &NodeConfig, found: &OpenReport, placement: &Placement, time: &str) {
    eprintln!(
        "{}: height {} on disk, {} accounts, {}{}; profile {}, idle strategy {}; {time}; handshakes on {}",
        config.node.name,
        found.height,
        found.accounts,
        found.storage_kind,
        found.cut.as_ref().map_or(String::new(), |cut| format!(", {} torn bytes cut", cut.bytes)),
        placement.profile().name,
        placement.profile().idle.strategy.name(),
        config.handshake.listen,
    );
}

/// How the port's queues and the lanes go together, where there is more than one, and what its device does by itself: a line
/// for each.
fn port_in_words(lanes: usize, queues: usize, offloads: &[&str]) -> String {
    let fewer = if queues < lanes { ": the port has no more, and feeds all lanes through them" } else { "" };
    let plural = if queues == 1 { "" } else { "s" };
    let mut lines = String::new();
    if lanes > 1 {
        lines = format!("{lanes} lanes, {queues} receive queue{plural}{fewer}\n");
    }
    if !offloads.is_empty() {
        lines += &format!("the port's device {}\n", offloads.join(", "));
    }
    lines
}

/// The socket for handshakes and where peers listen. Refusals are told on standard error.
fn handshake_parts(
    config: &NodeConfig,
    members: &Membership,
    runtime: &tokio::runtime::Handle,
) -> Result<HandshakeParts, CliError> {
    let listen = config.handshake.listen;
    let socket = std::net::TcpListener::bind(listen)
        .map_err(|error| CliError::with(format!("handshake.listen = \"{listen}\""), error))?;
    let macs = config.clone();
    Ok(HandshakeParts {
        socket: Some(socket),
        addresses: config.handshake_addresses(members),
        runtime: runtime.clone(),
        mac_of: Arc::new(move |endpoint| macs.mac_of(&endpoint.ip)),
        log: Arc::new(|line| eprintln!("{line}")),
    })
}

pub(super) fn load_chain(config: &NodeConfig) -> Result<Arc<Chain>, CliError> {
    let text = std::fs::read_to_string(&config.node.genesis)
        .map_err(|error| CliError::with(config.node.genesis.display(), error))?;
    let genesis = Genesis::parse(&text).map_err(|problems| {
        CliError(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    Ok(Arc::new(Chain::new(genesis).map_err(|error| CliError::with("genesis", error))?))
}

pub(super) fn options(config: &NodeConfig) -> NodeOptions {
    NodeOptions {
        name: config.node.name.clone(),
        mempool_transactions_max: config.mempool.transactions_max as usize,
        sender_transactions_max: config.mempool.sender_transactions_max,
        stamp_flush_us: config.mempool.stamp_flush_us,
        segment_bytes: u64::from(config.storage.segment_mb) << 20,
        journal_bytes: u64::from(config.storage.journal_mb) << 20,
        stranger_frames_per_second: config.filter.stranger_frames_per_second,
        known_frames_per_second: config.filter.known_frames_per_second,
        handshake: config.handshake_options(),
        scores: ScoreConfig {
            bans: config.score.bans,
            half_life_ms: u64::from(config.score.half_life_s) * 1_000,
            ban_ms: u64::from(config.score.ban_s) * 1_000,
            ..ScoreConfig::default()
        },
        slow_path: config.slow_path_options(),
        ..NodeOptions::default()
    }
}

/// Says every now and then where the node is, and at once when its link goes or comes back, until it is to stop.
pub(super) fn wait(
    handle: &NodeHandle<FileStorage>,
    stop: &AtomicBool,
    link_is_up: &mut dyn FnMut() -> Option<bool>,
) {
    let mut said = std::time::Instant::now();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(STOP_INTERVAL);
        if let Some(up) = link_is_up()
            // One that is down from the start is news as well.
            && handle.data_plane.link.note(up).unwrap_or(true) != up
        {
            eprintln!(
                "{}: the port's link is {}",
                handle.observer.name,
                if up { "up again" } else { "DOWN" }
            );
        }
        if said.elapsed() >= STATUS_INTERVAL {
            said = std::time::Instant::now();
            let pool = handle.queue_stats().mempool;
            eprintln!(
                "height {}   view {}   sessions {}   pool {} waiting, {} in flight   {}",
                handle.observer.durable_height(),
                handle.observer.view(),
                handle.data_plane.handshakes.sessions.load(Ordering::Relaxed),
                pool.pending,
                pool.in_flight,
                handle.observer.problem().unwrap_or_default(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_and_offloads_are_told_where_there_are_any() {
        assert_eq!(port_in_words(1, 1, &[]), "");
        assert_eq!(port_in_words(4, 4, &[]), "4 lanes, 4 receive queues\n");
        let told = port_in_words(4, 1, &["takes VLAN tags off", "puts VLAN tags on"]);
        assert!(told.starts_with("4 lanes, 1 receive queue: the port has no more"), "{told}");
        assert!(told.ends_with("\nthe port's device takes VLAN tags off, puts VLAN tags on\n"), "{told}");
    }
}
