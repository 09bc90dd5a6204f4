//! `roko devnet --processes`: each validator a process of its own.

use super::{DevnetArgs, PortKind, Scratch, genesis_of, options, watch};
use crate::cli::profile::placement;
use crate::cli::serve::runtime;
use crate::cli::{CliError, CliResult};
use crate::devnet::Watched;
use crate::devnet::processes::faults::schedule::Faults;
use crate::devnet::processes::files::{METRICS_PORT, RPC_PORT};
use crate::devnet::processes::relay::Relay;
use crate::devnet::processes::wire::WireKind;
use crate::devnet::processes::{ProcessDevnet, ProcessPlan};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Carries the command out.
pub(super) fn run(args: &DevnetArgs) -> CliResult {
    let wire = match args.port {
        None | Some(PortKind::AfPacket) => WireKind::AfPacket,
        Some(PortKind::AfXdp) => WireKind::AfXdp,
        Some(PortKind::IoUring) => WireKind::IoUring,
        Some(PortKind::NetRing | PortKind::InProcess) => {
            return Err(CliError("that port joins validators of one process: leave --processes out".into()));
        }
    };
    // Refused here, once, and not by every node.
    let placement = placement(&args.profile)?;
    let scratch = Scratch::new(args.data_dir.as_deref())?;
    let failed = |error: &dyn std::fmt::Display| CliError::with("devnet", error);
    let data_dir = scratch.path().canonicalize().map_err(|error| failed(&error))?;
    let plan = ProcessPlan {
        devnet: genesis_of(args, &data_dir)?,
        data_dir,
        wire,
        resolve: args.resolve,
        profile: profile_for_nodes(&args.profile)?,
        options: options(),
        clock_bound_us: args.clock_bound_us,
        record: args.record.clone(),
        faults: faults(args),
    };
    let (name, idle) = (&placement.profile().name, placement.profile().idle.strategy.name());
    let count = args.validators;
    eprintln!(
        "starting {count} validators in {count} processes over {}; profile {name}, idle strategy {idle}",
        wire.name()
    );
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = runtime(&stop)?;
    let (network, mut loader) = match ProcessDevnet::start(plan, &stop) {
        Ok(started) => started,
        // Ctrl-C came while the nodes were starting: they are gone, and nothing was wrong.
        Err(_) if stop.load(Ordering::Relaxed) => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    if network.statuses(false).iter().any(|node| node.durable_height > 0) {
        let accounts = loader.accounts();
        let nonces = network.nonces(&accounts).map_err(|error| failed(&error))?;
        let nonces: HashMap<_, _> = accounts.into_iter().zip(nonces).collect();
        loader.set_nonces(|address| nonces.get(address).copied().unwrap_or_default());
    }
    let relay = if args.no_services { None } else { Some(services(args, &network)?) };
    let outcome = watch::watch(args, &network, loader, &stop);
    drop(relay);
    network.stop();
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// What is to go wrong.
fn faults(args: &DevnetArgs) -> Option<Faults> {
    let DevnetArgs { kill_every, cut_every, fault_seed, length, .. } = *args;
    let faults = Faults { kill_every, cut_every, seed: fault_seed, until: length };
    (kill_every.is_some() || cut_every.is_some()).then_some(faults)
}

/// A built-in profile by its name, a file by its whole path: the nodes have other folders.
fn profile_for_nodes(profile: &str) -> Result<String, CliError> {
    if roko_tuning::builtin(profile).is_some() {
        return Ok(profile.to_owned());
    }
    let path = std::path::Path::new(profile).canonicalize();
    Ok(path.map_err(|error| CliError::with(profile, error))?.display().to_string())
}

/// JSON-RPC and metrics of every node, reached from outside the namespaces.
fn services(args: &DevnetArgs, network: &ProcessDevnet) -> Result<Relay, CliError> {
    let failed = |error: std::io::Error| CliError::with("JSON-RPC and metrics", error);
    let relay = Relay::new(network.wires()).map_err(failed)?;
    let (mut rpc, mut metrics) = (Vec::new(), Vec::new());
    for node in network.nodes() {
        let own = |first: u16| if first == 0 { 0 } else { first.saturating_add(node.index as u16) };
        let at = relay.add(own(args.rpc_port), node.ip, RPC_PORT).map_err(failed)?;
        rpc.push(format!("http://{at}"));
        let at = relay.add(own(args.metrics_port), node.ip, METRICS_PORT).map_err(failed)?;
        metrics.push(format!("http://{at}/metrics"));
    }
    eprintln!("JSON-RPC on {}; metrics on {}", rpc.join(", "), metrics.join(", "));
    eprintln!("look inside with: ip netns exec {} ip address", network.wires().of_node(0).name());
    Ok(relay)
}
