//! A node's status: one snapshot for whoever watches several nodes, in this process or over HTTP (`/status`).

pub mod detail;

use super::FinalityTimes;
use super::durations::Durations;
use super::latency::{self, StageLatency};
use crate::api::NodeHandle;
use crate::devnet::report::rss_mb;
use detail::Detail;
use roko_pipeline::metrics::Regime;
use roko_services::NodeApi;
use roko_state::storage::Storage;
use roko_wire::nano::ClockState;
use roko_wire::{BlockId, Hash32};
use ruint::aliases::U256;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often an audit looks for a moment between two blocks.
const AUDIT_TRIES: usize = 20;
/// Ids of final blocks in one answer, at most: a watcher that asks four times a second misses none.
const IDS_MAX: usize = 8_192;

/// What costs a walk over the whole state, and is only told when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Height of the last block on disk.
    pub height: u64,
    /// The state's root after it.
    pub state_root: Hash32,
    /// Whether all balances and what was burned since the start add up to what there was at the start.
    pub balances_conserved: bool,
    /// Transactions executed since genesis: the sum of all nonces.
    #[serde(default)]
    pub transactions: u64,
}

/// How one stage's time was spent since the start, nanoseconds, by [`Regime`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTime {
    /// The stage's name.
    pub stage: String,
    /// Its poll thread, by the name in the profile; empty when the node does not tell.
    #[serde(default)]
    pub thread: String,
    /// The core that the profile pins the thread to; `None` where the scheduler chooses.
    #[serde(default)]
    pub core: Option<u32>,
    /// Nanoseconds in each regime.
    pub regime_ns: [u64; 4],
}

/// One node, as a watcher sees it. Counts are since the node's start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node's name.
    pub name: String,
    /// Its port's driver.
    pub port: String,
    /// The view it is in.
    pub view: u64,
    /// Height of the last block on disk.
    pub durable_height: u64,
    /// Transactions in final blocks.
    pub transactions_final: u64,
    /// Blocks made final.
    pub blocks_final: u64,
    /// Blocks that were certified and abandoned.
    pub abandoned_blocks: u64,
    /// Height of the first of `final_ids`.
    pub final_ids_from: u64,
    /// Ids of final blocks.
    pub final_ids: Vec<BlockId>,
    /// Transactions that wait in the pool.
    pub pool_pending: u32,
    /// Transactions drained into a block that is not final.
    pub pool_in_flight: u32,
    /// Finality and its parts, of transactions that this node stamped.
    pub finality: FinalityTimes,
    /// Time between final blocks.
    pub block_time: Durations,
    /// From a commit to the block on disk.
    pub commit_sync: Durations,
    /// From the wire to the mempool, of transactions that this node stamped.
    pub wire_to_mempool: Durations,
    /// What was dropped or refused, by stage and reason.
    pub drops: BTreeMap<String, u64>,
    /// What keeps the node from voting.
    pub problem: Option<String>,
    /// How its stages' time was spent.
    pub stages: Vec<StageTime>,
    /// How long after the wire a transaction passes each stage; empty when the node does not tell.
    #[serde(default)]
    pub stage_latencies: Vec<StageLatency>,
    /// Error bound of its clock, nanoseconds.
    pub clock_error_bound_ns: u64,
    /// State of its clock.
    pub clock_state: ClockState,
    /// Resident memory of its process, MiB.
    pub rss_mb: u64,
    /// Only when it was asked for, and there is a state.
    pub audit: Option<Audit>,
    /// Traffic, rings, peers and views: keys of the same object.
    #[serde(flatten)]
    pub detail: Detail,
}

impl<S: Storage> NodeHandle<S> {
    /// This node's status, with the ids of final blocks from height `blocks_from` on.
    #[must_use]
    pub fn status_now(&self, blocks_from: u64, audit: bool) -> NodeStatus {
        let observer = &self.observer;
        let (reading, pool) = (self.clock.now(), self.queue_stats().mempool);
        let drops = self.metrics().drops.into_iter().map(|d| (format!("{}.{}", d.stage, d.reason), d.count));
        let drops = drops.collect();
        let detail = self.detail(reading.now);
        let stage_latencies = self.stage_latencies();
        observer
            .progress(|progress| {
                let skip = blocks_from.saturating_sub(progress.final_ids_from) as usize;
                NodeStatus {
                    name: observer.name.clone(),
                    port: self.data_plane.port_kind.to_owned(),
                    view: observer.view().0,
                    durable_height: observer.durable_height().0,
                    transactions_final: progress.transactions_final,
                    blocks_final: progress.blocks_final,
                    abandoned_blocks: observer.forks(),
                    final_ids_from: progress.final_ids_from + skip as u64,
                    final_ids: progress.final_ids.iter().skip(skip).take(IDS_MAX).copied().collect(),
                    pool_pending: pool.pending,
                    pool_in_flight: pool.in_flight,
                    finality: progress.finality.clone(),
                    block_time: progress.block_time.clone(),
                    commit_sync: progress.commit_sync.clone(),
                    wire_to_mempool: progress.wire_to_mempool.clone(),
                    drops,
                    problem: observer.problem(),
                    stages: self.stage_times(),
                    stage_latencies,
                    clock_error_bound_ns: reading.error_bound_ns,
                    clock_state: reading.state,
                    rss_mb: rss_mb(),
                    audit: None,
                    detail,
                }
            })
            .with_audit(audit.then(|| self.audit()).flatten())
    }

    pub(crate) fn stage_latencies(&self) -> Vec<StageLatency> {
        // Copied under the lock, written out after it: the control thread waits for the copy only.
        let blocks = self.observer.progress(|progress| progress.latencies.clone());
        latency::rows(&self.data_plane.stages, &blocks)
    }

    fn stage_times(&self) -> Vec<StageTime> {
        let per_tick = u128::from(self.clock.map().nanos_per_tick_q32);
        let regimes = [Regime::CaughtUp, Regime::Processing, Regime::Backpressured, Regime::Housekeeping];
        let places = &self.data_plane.cores;
        let of = |(at, stage): (usize, &std::sync::Arc<roko_pipeline::metrics::StageMetrics>)| {
            let mut regime_ns = [0; 4];
            for regime in regimes {
                let ticks = u128::from(stage.regime_ticks(regime));
                regime_ns[regime as usize] = ((ticks * per_tick) >> 32) as u64;
            }
            let place = places.get(at);
            StageTime {
                stage: stage.label().into(),
                thread: place.map(|place| place.thread.clone()).unwrap_or_default(),
                core: place.and_then(|place| place.core),
                regime_ns,
            }
        };
        self.data_plane.stages.iter().enumerate().map(of).collect()
    }

    /// Adds every balance up. `burned` counts since the node's start, so the sum holds for a chain that began in this run.
    fn audit(&self) -> Option<Audit> {
        let mut state = self.observer.state()?;
        let mut burned = self.observer.burned_at(state.height);
        // A block is published in two steps; between them the two heights differ.
        for _ in 0..AUDIT_TRIES {
            if burned.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
            state = self.observer.state()?;
            burned = self.observer.burned_at(state.height);
        }
        // Adding up takes a while, and the chain goes on: only the state that was taken counts.
        let sum = state.tree.iter().fold(U256::ZERO, |sum, (_, account)| sum.saturating_add(account.balance));
        let supply = self.observer.supply_at_start();
        let transactions =
            state.tree.iter().fold(0u64, |sum, (_, account)| sum.saturating_add(account.nonce));
        Some(Audit {
            transactions,
            height: state.height.0,
            state_root: state.tree.root(),
            balances_conserved: burned.is_some_and(|burned| sum.saturating_add(burned) == supply),
        })
    }
}

impl NodeStatus {
    fn with_audit(self, audit: Option<Audit>) -> NodeStatus {
        NodeStatus { audit, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_node_tells_is_still_read() {
        let none = r#"{"all":[],"recent":[],"sum_ns":0}"#;
        let text = format!(
            r#"{{"name":"old","port":"net_ring","view":7,"durable_height":6,"transactions_final":0,"blocks_final":6,
            "abandoned_blocks":0,"final_ids_from":1,"final_ids":[],"pool_pending":0,"pool_in_flight":0,
            "finality":{{"total":{none},"watermark_wait":{none},"pacing":{none},"propose":{none},"sync":{none},
            "votes":{none}}},"block_time":{none},"commit_sync":{none},"wire_to_mempool":{none},"drops":{{}},
            "problem":null,"stages":[{{"stage":"rx","regime_ns":[1,2,3,4]}}],"clock_error_bound_ns":9,
            "clock_state":"converged","rss_mb":5,"audit":null}}"#
        );
        let status: NodeStatus = serde_json::from_str(&text).expect("an older node's status");
        assert_eq!((status.view, status.stages[0].thread.as_str(), status.stages[0].core), (7, "", None));
        assert_eq!((status.stage_latencies.len(), &status.detail), (0, &Detail::default()));
        let again = serde_json::to_string(&status).expect("numbers and text");
        assert!(again.contains(r#""rings":[]"#) && !again.contains("detail"), "keys of one object: {again}");
    }

    #[test]
    fn durations_survive_their_way_as_text() {
        let mut durations = Durations::default();
        for nanos in [1, 999, 1_000_000, 17_300_000, 17_300_000, 600_000_000_000] {
            durations.record(nanos);
        }
        let text = serde_json::to_string(&durations).expect("numbers only");
        let back: Durations = serde_json::from_str(&text).expect("what was written");
        assert_eq!(back.len(), durations.len());
        assert_eq!(back.max_ns(), durations.max_ns());
        for quantile in [0.0, 0.1, 0.5, 0.9, 0.99, 1.0] {
            assert_eq!(back.quantile_ns(quantile), durations.quantile_ns(quantile), "{quantile}");
        }
        assert_eq!(back.summary(), durations.summary());
        let far = r#"{"all":[[18446744073709551615,18446744073709551615]],"recent":[],"sum_ns":0}"#;
        assert!(serde_json::from_str::<Durations>(far).is_ok(), "out of range is clamped, not a panic");
    }
}
