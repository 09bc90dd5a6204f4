//! `roko run` of a node whose data folder is empty and that begins from a snapshot: it fetches that first.

use super::{CliError, CliResult};
use crate::abstain::{Abstention, MARGIN_NS};
use crate::catchup::link::validators;
use crate::catchup::snapshot::{Ending, FetchParts, Progress, fetch};
use crate::chain::Chain;
use crate::config::{NodeConfig, NodeKind, StartFrom};
use crate::disk::store_options;
use crate::handshake;
use indicatif::{ProgressBar, ProgressStyle};
use roko_peers::{Membership, NodeIdentity};
use roko_state::file::FileStorage;
use roko_state::recovery;
use roko_time::NodeClock;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often the progress is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(200);
/// How long peers may say that they have no snapshot: a chain that keeps one shows it at once.
const NONE_PATIENCE: Duration = Duration::from_secs(5);
/// How long nobody may be reached: validators of a new chain that all begin like this wait for each other.
const SILENCE_PATIENCE: Duration = Duration::from_secs(30);

/// Fetches a snapshot when the configuration says so and there is no store yet. Without anything to fetch the node begins
/// from genesis, which is said.
pub(super) fn begin(
    config: &NodeConfig,
    chain: &Arc<Chain>,
    members: &Membership,
    storage: &FileStorage,
    clock: &NodeClock,
) -> CliResult {
    let failed = |error: &dyn std::fmt::Display| CliError::with("snapshot", error);
    if config.catchup.start != StartFrom::Snapshot
        || recovery::exists(storage).map_err(|error| failed(&error))?
    {
        return Ok(());
    }
    let data_dir = &config.node.data_dir;
    let (votes, folder, clock) = (config.node.kind == NodeKind::Validator, data_dir.clone(), clock.clone());
    let before_install = move || match votes {
        // What this validator voted for before its folder was emptied is not known: it waits until that cannot matter.
        true => Abstention::write(&folder, clock.now().now.saturating_add(MARGIN_NS)),
        false => Ok(()),
    };
    let identity = NodeIdentity::load(&config.node.node_key).map_err(|error| failed(&error))?;
    let member = (Arc::new(identity), Arc::new(members.clone()));
    let log = Arc::new(|line: &str| eprintln!("{line}"));
    let limits = config.handshake_options().limits;
    let tls = handshake::endpoint(member, chain, &data_dir.join("boot"), log, limits)
        .map_err(|error| failed(&error))?;
    let parts = FetchParts {
        chain: Arc::clone(chain),
        dial: validators(Arc::new(tls), config.handshake_addresses(members)),
        storage: storage.clone(),
        options: store_options(&super::run::options(config)),
        none_patience: NONE_PATIENCE,
        silence_patience: SILENCE_PATIENCE,
        before_install: Box::new(before_install),
    };
    let runtime = roko_peers::link::runtime().map_err(|error| failed(&error))?;
    let (progress, began) = (Arc::new(Progress::default()), Instant::now());
    let fetching = runtime.spawn(fetch(parts, Arc::clone(&progress)));
    show(&progress, || fetching.is_finished());
    let ending =
        runtime.block_on(fetching).map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    match ending {
        Ending::Installed(height) => eprintln!(
            "{}: begins from the state after block {height}: {} KiB proven and on disk in {:.1} s",
            config.node.name,
            progress.bytes.load(Ordering::Relaxed) >> 10,
            began.elapsed().as_secs_f64(),
        ),
        Ending::NoSnapshot(why) => {
            eprintln!("{}: begins from genesis: {why}", config.node.name);
        }
    }
    Ok(())
}

/// A progress bar until it is done. Ctrl-C ends the process: what is proven is on disk, and the next start goes on.
fn show(progress: &Progress, done: impl Fn() -> bool) {
    let bar = ProgressBar::new(1_000_000);
    let style = "state after block {prefix} {wide_bar} {percent} %  {msg}  {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    while !done() {
        let height = progress.height.load(Ordering::Relaxed);
        if height > 0 {
            bar.set_prefix(height.to_string());
            let (accounts, bytes) =
                (progress.accounts.load(Ordering::Relaxed), progress.bytes.load(Ordering::Relaxed));
            bar.set_message(format!("{accounts} accounts, {} MiB", bytes >> 20));
            bar.set_position(progress.done_ppm.load(Ordering::Relaxed));
        }
        std::thread::sleep(DRAW_INTERVAL);
    }
    bar.finish_and_clear();
}
