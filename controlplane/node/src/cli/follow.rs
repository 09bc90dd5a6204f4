//! `roko run` of a full node: it follows the chain over authenticated streams, and has no port.

use super::profile::placement;
use super::run::{give_up_root, load_chain, options, serve, wait};
use super::{CliError, CliResult};
use crate::catchup::{self, CatchupParts, Settings};
use crate::config::NodeConfig;
use crate::follower::{self, FollowerParts, ReadyFollower};
use crate::handshake;
use crate::validator;
use indicatif::{ProgressBar, ProgressStyle};
use roko_peers::{Membership, NodeIdentity};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often the progress of catching up is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(200);

/// Runs until it is asked to stop.
pub(super) fn follow(config: &NodeConfig) -> CliResult {
    let fail = |what: &'static str| move |error: &dyn std::fmt::Display| CliError::with(what, error);
    let chain = load_chain(config)?;
    let identity = NodeIdentity::load(&config.node.node_key).map_err(|error| fail("node key")(&error))?;
    let members = Membership::new(&chain.genesis, &config.client_entries(), |at| config.mac_of(&at.ip))
        .map_err(|error| fail("peers")(&error))?;
    let (clock, _driver) =
        crate::clock::start_configured(&chain, &config.clock, None).map_err(|error| fail("clock")(&error))?;
    let placement = placement(&config.tuning.profile)?;
    give_up_root(config)?;
    let data_dir = &config.node.data_dir;
    let storage = validator::open_files(data_dir).map_err(|error| fail("start")(&error))?;
    super::snapshot::begin(config, &chain, &members, &storage, &clock)?;
    let addresses = config.handshake_addresses(&members);
    let member = (Arc::new(identity), Arc::new(members));
    let (log, limits) = (Arc::new(|line: &str| eprintln!("{line}")), config.handshake_options().limits);
    let tls = handshake::endpoint(member, &chain, &data_dir.join("boot"), log, limits).map_err(|error| {
        CliError(format!(
            "{error}: a full node is a member like a client: give it a [[client]] entry with its own node key, here \
             and in the configuration of the validators that it follows"
        ))
    })?;
    let tls = Arc::new(tls);
    let parts = FollowerParts {
        chain: Arc::clone(&chain),
        storage,
        data_dir,
        clock,
        placement: &placement,
        options: options(config),
        handshakes: Arc::clone(tls.counters()),
    };
    let ReadyFollower { control, handle, open_report, catchup: ends } =
        follower::start(parts).map_err(|error| fail("start")(&error))?;
    eprintln!(
        "{}: a full node, blocks {} to {} on disk, {} accounts, {}; fetches from {} validators",
        config.node.name,
        open_report.first,
        open_report.height,
        open_report.accounts,
        open_report.storage_kind,
        addresses.iter().flatten().count(),
    );
    let (reader, observer) = (handle.reader().clone(), Arc::clone(&handle.observer));
    let runtime = roko_peers::link::runtime().map_err(|error| fail("handshakes")(&error))?;
    let parts = CatchupParts { tls, addresses, chain, reader, ends, observer, settings: Settings::FOLLOWER };
    let fetching = catchup::link::start(parts, runtime.handle());
    let stop = Arc::new(AtomicBool::new(false));
    let (services_runtime, services) = serve(config, &handle, &stop)?;
    let control_stop = Arc::clone(&stop);
    let control =
        std::thread::Builder::new().name("control".into()).spawn(move || control.run(&control_stop));
    let control = control.map_err(|error| fail("the control thread")(&error))?;
    show_catching_up(&handle.observer, &stop);
    wait(&handle, &stop, &mut || None);
    services_runtime.block_on(services.stop());
    drop(fetching);
    // A thread that panicked has reported it.
    let _ = control.join();
    Ok(())
}

/// A progress bar until the node has first caught up.
fn show_catching_up(observer: &crate::observe::Observer, stop: &AtomicBool) {
    let bar = ProgressBar::no_length();
    let style = "catching up {wide_bar} {pos} of {len} blocks  {per_sec}  {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    let mut began = false;
    while !stop.load(Ordering::Relaxed) {
        match observer.catchup() {
            Some((height, target)) => {
                began = true;
                bar.set_length(target);
                bar.set_position(height);
            }
            None if began => break,
            None => {}
        }
        std::thread::sleep(DRAW_INTERVAL);
    }
    bar.finish_and_clear();
}
