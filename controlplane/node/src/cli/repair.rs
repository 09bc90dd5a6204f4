//! `roko repair`: cuts a damaged store where the damage begins, so that the node can fetch the rest from its peers.

use super::run::load_chain;
use super::{CliError, CliResult};
use crate::abstain::{Abstention, MARGIN_NS};
use crate::config::NodeConfig;
use clap::Args;
use roko_state::file::{FileStorage, WritePath};
use roko_state::storage::Storage;
use roko_state::{StateError, StateStore, StoreOptions, repair};
use std::path::{Path, PathBuf};

/// Arguments of `roko repair`.
#[derive(Args, Debug)]
#[command(after_help = "\
A node whose store is damaged does not start, and says where the damage is. This keeps every block before it, puts
the damaged files aside in DATA_DIR/damaged, and cuts the rest. `roko run` then fetches what is missing from peers.
A validator votes again once the chain is past the moment of the repair: it can no longer know what it voted for.

Examples:
  roko repair --config node.toml --dry-run       says what is wrong
  roko repair --config node.toml && roko run --config node.toml")]
pub struct RepairArgs {
    /// The node's configuration file.
    #[arg(long)]
    config: PathBuf,
    /// Say what is wrong and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Carries the command out.
pub fn run(args: &RepairArgs) -> CliResult {
    let config = NodeConfig::load(&args.config).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        CliError(format!("{}:\n  {}", args.config.display(), all.join("\n  ")))
    })?;
    let chain = load_chain(&config)?;
    let fail = |error: StateError| CliError::with(config.node.data_dir.display(), error);
    let data_dir = &config.node.data_dir;
    if !data_dir.is_dir() {
        return Err(CliError(format!("{} is no directory: there is nothing to repair", data_dir.display())));
    }
    let storage = FileStorage::open(data_dir, WritePath::Plain)
        .map_err(|error| CliError::with(data_dir.display(), error))?;
    let accounts = chain.genesis_accounts();
    let options =
        StoreOptions { segment_bytes: u64::from(config.storage.segment_mb) << 20, ..StoreOptions::default() };
    match StateStore::open_with(storage.clone(), &accounts, chain.genesis_block, options) {
        Ok((_, report)) => {
            println!("nothing to repair: {} blocks, state root {}", report.height, report.root);
            return Ok(());
        }
        Err(StateError::Corrupt { what }) => println!("damaged: {what}"),
        Err(error) => return Err(fail(error)),
    }
    if args.dry_run {
        return Ok(());
    }
    let (clock, driver) = crate::clock::start_configured(&chain, &config.clock, None)
        .map_err(|error| CliError::with("clock", error))?;
    let until = clock.now().now.saturating_add(MARGIN_NS);
    drop(driver);
    let io = |error: std::io::Error| CliError::with(data_dir.display(), error);
    Abstention::write(data_dir, until).map_err(io)?;
    let aside = put_aside(data_dir, &storage).map_err(io)?;
    let mended = repair(&storage, &accounts, chain.genesis_block, options).map_err(fail)?;
    let (store, report) =
        StateStore::open_with(storage, &accounts, chain.genesis_block, options).map_err(fail)?;
    drop(store);
    println!(
        "kept {} blocks, up to {}, offset {}; {} files behind it removed; the files as they were are in {}",
        report.height,
        mended.segment,
        mended.offset,
        mended.removed.len(),
        aside.display(),
    );
    println!("start the node: it fetches the rest from its peers, and votes when it has caught up");
    Ok(())
}

/// Copies the store's files as they are.
fn put_aside(data_dir: &Path, storage: &FileStorage) -> std::io::Result<PathBuf> {
    let aside = data_dir.join("damaged");
    std::fs::create_dir_all(&aside)?;
    for name in storage.list()?.into_iter().filter(|name| name.starts_with("segment") || name == "superblock")
    {
        std::fs::copy(data_dir.join(&name), aside.join(&name))?;
    }
    Ok(aside)
}
