//! What a devnet has done, as one JSON object.

use super::Watched;
use super::load::LoadCounts;
use crate::observe::FinalityTimes;
use crate::observe::durations::Durations;
use crate::observe::latency::{self, LatencyRow};
use crate::observe::status::NodeStatus;
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
    /// What receive times the ports give.
    pub rx_stamps: String,
    /// The widest error bound of a node's last frame, nanoseconds.
    pub stamp_bound_ns: u64,
}

/// What has gone wrong so far, and what it cost.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct FaultCounts {
    /// Validators killed and started again.
    pub restarts: u64,
    /// Times at which the network was cut in two and joined again.
    pub cuts: u64,
    /// Longest time from a kill until the others had made four more blocks final, milliseconds.
    pub others_on_ms_max: u64,
    /// Longest time from the network's joining until four more blocks were final, milliseconds.
    pub joined_on_ms_max: u64,
}

/// What a devnet has done.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Validators.
    pub validators: usize,
    /// Processes that the validators run in.
    pub processes: usize,
    /// What went wrong on purpose, where something was to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faults: Option<FaultCounts>,
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
    /// Transfers in final blocks; with faults since genesis, for a validator that was killed counts anew.
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
    /// How long after the wire a transaction passes each stage, over all nodes.
    pub stage_latency: Vec<LatencyRow>,
    /// The port's driver; all of a devnet's are virtual.
    pub port: &'static str,
    /// The clock.
    pub clock: ClockReport,
    /// Resident memory of all processes together, MiB; a page that two of them share counts twice.
    pub rss_mb: u64,
    /// What was dropped or refused, by stage and reason, over all nodes.
    pub dropped: BTreeMap<String, u64>,
    /// What keeps a node from voting, by node.
    pub problems: BTreeMap<String, String>,
}

/// What a report needs beside the nodes' own status.
pub struct Run<'a> {
    /// What the load client has done.
    pub counts: &'a LoadCounts,
    /// How long the load ran.
    pub load: Duration,
    /// From the start to the first final block.
    pub first_final: Option<Duration>,
}

/// The report of what `network` has done since the load began.
#[must_use]
pub fn report(network: &impl Watched, run: &Run<'_>) -> Report {
    let nodes = network.statuses(true);
    let mut finality = FinalityTimes::default();
    let (mut block_time, mut wire, mut disk) =
        (Durations::default(), Durations::default(), Durations::default());
    for node in &nodes {
        finality.merge(&node.finality);
        block_time.merge(&node.block_time);
        wire.merge(&node.wire_to_mempool);
        disk.merge(&node.commit_sync);
    }
    let faults = network.faults();
    let of_node = |node: &NodeStatus| match faults {
        None => node.transactions_final,
        Some(_) => node.audit.map_or(0, |audit| audit.transactions),
    };
    let finalised = nodes.iter().map(of_node).min().unwrap_or(0);
    let total = Millis::of(&finality.total);
    let bound = nodes.iter().map(|node| node.clock_error_bound_ns).max().unwrap_or(0);
    let seconds = run.load.as_secs_f64();
    Report {
        validators: nodes.len(),
        processes: network.processes(),
        faults,
        seconds,
        first_final_ms: run.first_final.map(|after| after.as_secs_f64() * 1e3),
        blocks: nodes.iter().map(|node| node.blocks_final).max().unwrap_or(0),
        finalised_height: nodes.iter().map(|node| node.durable_height).min().unwrap_or(0),
        forks: network.forks(),
        abandoned_blocks: nodes.iter().map(|node| node.abandoned_blocks).max().unwrap_or(0),
        tx_submitted: run.counts.submitted.load(Ordering::Relaxed),
        tx_finalised: finalised,
        tps: (finalised as f64 / seconds.max(1e-9)).round(),
        balances_conserved: nodes.iter().all(|node| node.audit.is_some_and(|audit| audit.balances_conserved)),
        same_state: same_state(&nodes),
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
        stage_latency: latency::table(&nodes),
        port: network.port_kind(),
        clock: ClockReport {
            source: nodes.first().map(|node| node.detail.time.source.clone()).unwrap_or_default(),
            error_bound_ns: bound,
            rx_stamps: nodes.first().map(|node| node.detail.time.rx_stamps.clone()).unwrap_or_default(),
            stamp_bound_ns: nodes.iter().map(|node| node.detail.time.stamp_bound_ns).max().unwrap_or(0),
        },
        rss_mb: network.rss_mb(),
        dropped: dropped(&nodes),
        problems: nodes.iter().filter_map(|node| Some((node.name.clone(), node.problem.clone()?))).collect(),
    }
}

/// Drops and refusals of all nodes by stage and reason.
#[must_use]
pub fn dropped(nodes: &[NodeStatus]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (reason, count) in nodes.iter().flat_map(|node| &node.drops) {
        *all.entry(reason.clone()).or_insert(0) += count;
    }
    all
}

/// Whether all nodes that are at the highest height have the same state there.
fn same_state(nodes: &[NodeStatus]) -> bool {
    let audits: Vec<_> = nodes.iter().filter_map(|node| node.audit).collect();
    let highest = audits.iter().map(|audit| audit.height).max();
    let mut roots = audits.iter().filter(|audit| Some(audit.height) == highest).map(|audit| audit.state_root);
    let first = roots.next();
    roots.all(|root| Some(root) == first)
}

/// Resident memory of this process, MiB; 0 where the kernel does not tell.
#[must_use]
pub fn rss_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<u64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0) / 1024
}
