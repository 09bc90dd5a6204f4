//! `roko repair`: cuts a damaged store where the damage begins, so that the node can fetch the rest from its peers, and
//! puts a damaged vote log aside, so that the validator can vote again when that is safe.

use super::run::load_chain;
use super::{CliError, CliResult};
use crate::abstain::{Abstention, MARGIN_NS};
use crate::chain::Chain;
use crate::config::NodeConfig;
use crate::workers::journal;
use clap::Args;
use roko_state::file::{FileStorage, WritePath};
use roko_state::storage::Storage;
use roko_state::{OpenReport, StateError, StateStore, StoreOptions, VoteLog, VoteLogError, repair, vote_log};
use std::path::{Path, PathBuf};

/// Arguments of `roko repair`.
#[derive(Args, Debug)]
#[command(after_help = "\
A node whose store is damaged does not start, and says where the damage is. This keeps every block before it, puts
the damaged files aside in DATA_DIR/damaged, and cuts the rest. `roko run` then fetches what is missing from peers.
A vote log that is damaged or missing is put aside too, and begun anew.
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
    let data_dir = &config.node.data_dir;
    if !data_dir.is_dir() {
        return Err(CliError(format!("{} is no directory: there is nothing to repair", data_dir.display())));
    }
    let storage = FileStorage::open(data_dir, WritePath::Plain)
        .map_err(|error| CliError::with(data_dir.display(), error))?;
    let files = Files { config: &config, chain: &chain, storage };
    let store = files.look_at_store()?;
    let votes = files.look_at_votes(&store)?;
    for what in [store.as_ref().err(), votes.as_ref().err()].into_iter().flatten() {
        println!("damaged: {what}");
    }
    if let (Ok(report), Ok(votes)) = (&store, &votes) {
        println!("nothing to repair: {} blocks, state root {}, {votes} votes", report.height, report.root);
    }
    if args.dry_run || (store.is_ok() && votes.is_ok()) {
        return Ok(());
    }
    files.abstain()?;
    let aside = files.put_aside()?;
    if store.is_err() {
        files.mend_store()?;
    }
    if votes.is_err() {
        VoteLog::remove(&files.storage).map_err(|error| CliError::with(data_dir.display(), error))?;
        println!("the vote log was removed; a new one begins at the next start");
    }
    println!("the files as they were are in {}", aside.display());
    println!("start the node: it fetches the rest from its peers, and votes when it has caught up");
    Ok(())
}

/// The files that are repaired.
struct Files<'a> {
    config: &'a NodeConfig,
    chain: &'a Chain,
    storage: FileStorage,
}

/// What a look at a part says: how it is, or what is wrong with it.
type Look<T> = Result<T, String>;

impl Files<'_> {
    fn data_dir(&self) -> &Path {
        &self.config.node.data_dir
    }

    fn options(&self) -> StoreOptions {
        let segment_bytes = u64::from(self.config.storage.segment_mb) << 20;
        StoreOptions { segment_bytes, ..StoreOptions::default() }
    }

    fn fail(&self, error: impl std::fmt::Display) -> CliError {
        CliError::with(self.data_dir().display(), error)
    }

    /// Opens the store as the node would.
    fn open_store(&self) -> Result<OpenReport, StateError> {
        let accounts = self.chain.genesis_accounts();
        let opened =
            StateStore::open_with(self.storage.clone(), &accounts, self.chain.genesis_block, self.options());
        opened.map(|(_, report)| report)
    }

    fn look_at_store(&self) -> Result<Look<OpenReport>, CliError> {
        match self.open_store() {
            Ok(report) => Ok(Ok(report)),
            Err(StateError::Corrupt { what }) => Ok(Err(what)),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// How many records the vote log holds. One that is missing is damage where blocks are final, unless this node knows
    /// already that it must not vote yet.
    fn look_at_votes(&self, store: &Look<OpenReport>) -> Result<Look<usize>, CliError> {
        let records = match VoteLog::inspect(&self.storage) {
            Err(VoteLogError::Corrupt { what }) => return Ok(Err(format!("the vote log: {what}"))),
            records => records.map_err(|error| self.fail(error))?,
        };
        let abstains = Abstention::load(self.data_dir()).map_err(|error| self.fail(error))?.is_some();
        let blocks = store.as_ref().map_or(1, |report| report.height.0);
        Ok(match records {
            None if blocks > 0 && !abstains => Err("there is no vote log, but blocks are final".to_owned()),
            None => Ok(0),
            Some(records) => match journal::read(&records) {
                Ok(_) => Ok(records.len()),
                Err(error) => Err(format!("the vote log: {error}")),
            },
        })
    }

    /// Makes durable that nothing is voted on until the chain is past this moment.
    fn abstain(&self) -> CliResult {
        let (clock, driver) = crate::clock::start_configured(self.chain, &self.config.clock, None)
            .map_err(|error| CliError::with("clock", error))?;
        let until = clock.now().now.saturating_add(MARGIN_NS);
        drop(driver);
        Abstention::write(self.data_dir(), until).map_err(|error| self.fail(error))
    }

    /// Copies the files as they are.
    fn put_aside(&self) -> Result<PathBuf, CliError> {
        let aside = self.data_dir().join("damaged");
        let copy = || {
            std::fs::create_dir_all(&aside)?;
            let ours =
                |name: &String| name.starts_with("segment") || name == "superblock" || name == vote_log::NAME;
            for name in self.storage.list()?.into_iter().filter(ours) {
                std::fs::copy(self.data_dir().join(&name), aside.join(&name))?;
            }
            Ok(())
        };
        copy().map_err(|error: std::io::Error| self.fail(error))?;
        Ok(aside)
    }

    fn mend_store(&self) -> CliResult {
        let accounts = self.chain.genesis_accounts();
        let mended = repair(&self.storage, &accounts, self.chain.genesis_block, self.options())
            .map_err(|error| self.fail(error))?;
        let report = self.open_store().map_err(|error| self.fail(error))?;
        println!(
            "kept {} blocks, up to {}, offset {}; {} files behind it removed",
            report.height,
            mended.segment,
            mended.offset,
            mended.removed.len(),
        );
        Ok(())
    }
}
