//! What a devnet has done, as one JSON object.

use super::Devnet;
use super::load::LoadCounts;
use crate::observe::FinalityTimes;
use crate::observe::durations::Durations;
use roko_services::NodeApi;
use roko_state::storage::Storage;
use ruint::aliases::U256;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Percentiles, milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Millis {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Longest.
    pub max: f64,
}

impl Millis {
    fn of(durations: &Durations) -> Millis {
        let at = |nanos: u64| (nanos as f64 / 1e4).round() / 1e2;
        Millis {
            p50: at(durations.quantile_ns(0.5)),
            p99: at(durations.quantile_ns(0.99)),
            max: at(durations.max_ns()),
        }
    }
}

/// Finality, from the ingress stamp to a commit held by the ingress node, and its parts.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FinalityMillis {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Longest.
    pub max: f64,
    /// Until the watermark has passed the stamp.
    pub watermark_wait: Millis,
    /// From there until a leader's block drains it.
    pub pacing: Millis,
    /// From the block's time until the ingress node finds it valid.
    pub propose: Millis,
    /// From there until its own vote is signed and on disk.
    pub sync: Millis,
    /// From there until the commit.
    pub votes: Millis,
}

/// Percentiles, nanoseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Nanos {
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
}

/// The clock of all nodes.
#[derive(Clone, Debug, Serialize)]
pub struct ClockReport {
    /// Where its time comes from.
    pub source: String,
    /// Its error bound, nanoseconds.
    pub error_bound_ns: u64,
}

/// What a devnet has done.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Validators.
    pub validators: usize,
    /// Seconds from the start of the load to this report.
    pub seconds: f64,
    /// From the start of the process' devnet to the first final block, milliseconds; `null` when there is none.
    pub first_final_ms: Option<f64>,
    /// Blocks made final since the start, by the node that made the most.
    pub blocks: u64,
    /// Height that every node has made final and durable.
    pub finalised_height: u64,
    /// Heights at which two nodes' final blocks differ. Anything but 0 is a broken chain.
    pub forks: u64,
    /// Blocks that were certified and abandoned.
    pub abandoned_blocks: u64,
    /// Transfers offered by the load client.
    pub tx_submitted: u64,
    /// Transfers in final blocks.
    pub tx_finalised: u64,
    /// Final transfers a second of load.
    pub tps: f64,
    /// Whether all balances and what was burned add up to genesis' supply, to the last unit.
    pub balances_conserved: bool,
    /// Whether all nodes have the same state root at the last common height.
    pub same_state: bool,
    /// Finality and its parts.
    pub finality_ms: FinalityMillis,
    /// Time between final blocks.
    pub block_time_ms: Millis,
    /// From a commit to the block on disk.
    pub commit_to_disk_ms: Millis,
    /// From the port to the mempool, on the ingress node.
    pub wire_to_mempool_ns: Nanos,
    /// The port's driver; all of a devnet's are virtual.
    pub port: &'static str,
    /// The clock.
    pub clock: ClockReport,
    /// Resident memory of the process, MiB.
    pub rss_mb: u64,
    /// What was dropped or refused, by stage and reason, over all nodes.
    pub dropped: BTreeMap<String, u64>,
    /// What keeps a node from voting, by node.
    pub problems: BTreeMap<String, String>,
}

impl<S: Storage> Devnet<S> {
    /// What has been done in `load` since the load began.
    #[must_use]
    pub fn report(&self, counts: &LoadCounts, load: Duration, first_final: Option<Duration>) -> Report {
        let mut finality = FinalityTimes::default();
        let (mut block_time, mut wire, mut disk) =
            (Durations::default(), Durations::default(), Durations::default());
        let (mut blocks, mut finalised) = (0, u64::MAX);
        for node in &self.nodes {
            node.observer.progress(|progress| {
                finality.merge(&progress.finality);
                block_time.merge(&progress.block_time);
                wire.merge(&progress.wire_to_mempool);
                disk.merge(&progress.commit_sync);
                blocks = blocks.max(progress.blocks_final);
                finalised = finalised.min(progress.transactions_final);
            });
        }
        let total = Millis::of(&finality.total);
        let reading = self.clock.now();
        Report {
            validators: self.nodes.len(),
            seconds: load.as_secs_f64(),
            first_final_ms: first_final.map(|after| after.as_secs_f64() * 1e3),
            blocks,
            finalised_height: self.durable_height(),
            forks: self.forks(),
            abandoned_blocks: self.nodes.iter().map(|node| node.observer.forks()).max().unwrap_or(0),
            tx_submitted: counts.submitted.load(Ordering::Relaxed),
            tx_finalised: finalised,
            tps: (finalised as f64 / load.as_secs_f64().max(1e-9)).round(),
            balances_conserved: self.balances_conserved(),
            same_state: self.same_state(),
            finality_ms: FinalityMillis {
                p50: total.p50,
                p99: total.p99,
                max: total.max,
                watermark_wait: Millis::of(&finality.watermark_wait),
                pacing: Millis::of(&finality.pacing),
                propose: Millis::of(&finality.propose),
                sync: Millis::of(&finality.sync),
                votes: Millis::of(&finality.votes),
            },
            block_time_ms: Millis::of(&block_time),
            commit_to_disk_ms: Millis::of(&disk),
            wire_to_mempool_ns: Nanos { p50: wire.quantile_ns(0.5), p99: wire.quantile_ns(0.99) },
            port: self.port_kind,
            clock: ClockReport { source: "host, untraceable".into(), error_bound_ns: reading.error_bound_ns },
            rss_mb: rss_mb(),
            dropped: self.dropped(),
            problems: self
                .nodes
                .iter()
                .filter_map(|node| Some((node.observer.name.clone(), node.observer.problem()?)))
                .collect(),
        }
    }

    /// The height that every node has made final and durable.
    #[must_use]
    pub fn durable_height(&self) -> u64 {
        self.nodes.iter().map(|node| node.observer.durable_height().0).min().unwrap_or(0)
    }

    /// Heights at which two nodes' final blocks differ.
    #[must_use]
    pub fn forks(&self) -> u64 {
        let mut by_height: BTreeMap<u64, roko_wire::BlockId> = BTreeMap::new();
        let mut forks = 0;
        for node in &self.nodes {
            node.observer.progress(|progress| {
                for (height, id) in (progress.final_ids_from..).zip(&progress.final_ids) {
                    forks += u64::from(*by_height.entry(height).or_insert(*id) != *id);
                }
            });
        }
        forks
    }

    /// Drops and refusals of all nodes by stage and reason.
    #[must_use]
    pub fn dropped(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for node in &self.nodes {
            for drop in node.metrics().drops {
                *all.entry(format!("{}.{}", drop.stage, drop.reason)).or_insert(0) += drop.count;
            }
        }
        all
    }

    /// Each node's balances and what it has burned add up to genesis' supply. `burned` counts since the node's start, so
    /// this holds for a chain that began in this run.
    fn balances_conserved(&self) -> bool {
        self.nodes.iter().all(|node| {
            let Some(state) = node.observer.state() else { return false };
            let sum = state.tree.iter().fold(U256::ZERO, |sum, (_, account)| sum + account.balance);
            let burned = node.observer.burned_at(state.height);
            burned.is_some_and(|burned| sum + burned == node.observer.supply_at_start())
        })
    }

    fn same_state(&self) -> bool {
        let roots: Vec<_> = self
            .nodes
            .iter()
            .filter_map(|node| node.observer.state())
            .map(|state| (state.height, state.tree.root()))
            .collect();
        let highest = roots.iter().map(|(height, _)| *height).max();
        let mut at_highest =
            roots.iter().filter(|(height, _)| Some(*height) == highest).map(|(_, root)| root);
        let first = at_highest.next();
        at_highest.all(|root| Some(root) == first)
    }
}

/// Resident memory of this process, MiB; 0 where the kernel does not tell.
#[must_use]
pub fn rss_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<u64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0) / 1024
}
