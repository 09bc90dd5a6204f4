//! What a node finds on its disk: its store and its vote log.

use crate::abstain::Abstention;
use crate::chain::Chain;
use crate::replica::Started;
use crate::validator::{NodeOptions, StartError};
use crate::workers::journal;
use roko_state::vote_log::{VoteLog, VoteLogOptions};
use roko_state::{OpenReport, StateStore, Storage, StoreOptions};
use roko_wire::View;
use std::collections::VecDeque;
use std::path::Path;

/// The settings of a node's store.
pub(crate) fn store_options(options: &NodeOptions) -> StoreOptions {
    StoreOptions {
        segment_bytes: options.segment_bytes,
        indexed_transactions_max: options.indexed_transactions_max,
        ..StoreOptions::default()
    }
}

/// What a node finds on its disk.
pub(crate) struct Disk<S: Storage> {
    pub(crate) store: StateStore<S>,
    pub(crate) report: OpenReport,
    pub(crate) log: VoteLog<S>,
    pub(crate) recovered: VecDeque<(u64, View)>,
    pub(crate) started: Started,
    /// Until when no vote is cast.
    pub(crate) abstains: Option<Abstention>,
}

impl<S: Storage> Disk<S> {
    /// What a validator finds. It must know what it has voted for, or until when it casts no vote.
    pub(crate) fn open_to_vote(
        chain: &Chain,
        storage: &S,
        options: &NodeOptions,
        data_dir: &Path,
    ) -> Result<Disk<S>, StartError> {
        let abstains = Abstention::load(data_dir)?;
        let (store, report) = open_store(chain, storage, options)?;
        let height = store.last().height.0;
        // Looked at before there is a new log.
        if height > 0 && abstains.is_none() && VoteLog::inspect(storage)?.is_none() {
            return Err(StartError::VotesMissing { height });
        }
        Disk::of(chain, storage, options, (store, report, abstains))
    }

    /// What a node finds that casts no votes.
    pub(crate) fn open(chain: &Chain, storage: &S, options: &NodeOptions) -> Result<Disk<S>, StartError> {
        let (store, report) = open_store(chain, storage, options)?;
        Disk::of(chain, storage, options, (store, report, None))
    }

    fn of(
        chain: &Chain,
        storage: &S,
        options: &NodeOptions,
        (store, report, abstains): (StateStore<S>, OpenReport, Option<Abstention>),
    ) -> Result<Disk<S>, StartError> {
        let (log, log_report) = VoteLog::open(storage, VoteLogOptions { bytes: options.journal_bytes })?;
        let journaled = journal::read(&log.recover()?)?;
        let recovered = journaled
            .views
            .iter()
            .enumerate()
            .map(|(at, view)| (log_report.first + at as u64, *view))
            .collect();
        let last = store.last();
        let record = match store.anchor().filter(|anchor| anchor.height == last.height) {
            Some(anchor) => Some(anchor.clone()),
            None => store.block(last.height)?,
        };
        let started = Started::read(chain, store.snapshot(), record.as_ref(), journaled)?;
        Ok(Disk { store, report, log, recovered, started, abstains })
    }
}

fn open_store<S: Storage>(
    chain: &Chain,
    storage: &S,
    options: &NodeOptions,
) -> Result<(StateStore<S>, OpenReport), StartError> {
    let accounts = chain.genesis_accounts();
    Ok(StateStore::open_with(storage.clone(), &accounts, chain.genesis_block, store_options(options))?)
}
