//! How long after its frame was on the wire a transaction passes each point of a node: the stages of the data plane, and
//! what the control thread sees of its block.

use super::status::NodeStatus;
use roko_pipeline::histogram::Histogram;
use roko_pipeline::metrics::StageMetrics;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Points of the control thread, of transactions that this node stamped. They come after `builder` on a packet's way.
#[derive(Clone, Debug, Default)]
pub struct BlockLatencies {
    /// From the stamp until a block that holds it is whole here and found valid.
    pub in_block: Histogram,
    /// Until this node's own vote for that block is signed and on disk.
    pub voted: Histogram,
    /// Until a commit of that block is known here.
    pub finalised: Histogram,
}

impl BlockLatencies {
    const NAMES: [&'static str; 3] = ["in_block", "voted", "finalised"];

    fn rows(&self) -> impl Iterator<Item = StageLatency> {
        let all = [&self.in_block, &self.voted, &self.finalised];
        Self::NAMES.into_iter().zip(all).map(|(stage, histogram)| StageLatency::of(stage, "wire", histogram))
    }
}

/// One point's histogram, as a node tells it. Every duration lies within 0.8 % of one that came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageLatency {
    /// The stage, or the point of the control thread.
    pub stage: String,
    /// From where it counts: `wire`, the receive time; or `asked`, the control thread's request to send.
    pub since: String,
    /// Pairs of a duration in nanoseconds and how often it came.
    pub samples: Vec<(u64, u64)>,
    /// Sum of all, nanoseconds.
    pub sum_ns: u64,
    /// The longest, nanoseconds.
    pub max_ns: u64,
}

impl StageLatency {
    fn of(stage: &str, since: &str, histogram: &Histogram) -> StageLatency {
        StageLatency {
            stage: stage.to_owned(),
            since: since.to_owned(),
            samples: histogram.pairs().collect(),
            sum_ns: histogram.sum_ns(),
            max_ns: histogram.max_ns(),
        }
    }

    /// As a histogram again.
    #[must_use]
    pub fn histogram(&self) -> Histogram {
        Histogram::of_pairs(&self.samples, self.sum_ns, self.max_ns)
    }
}

/// Bounds of the published buckets, as powers of two of nanoseconds: 1 us to 17 s. A power of two is where a bucket of the
/// histogram begins, so that each count is exact.
const BOUND_BITS: core::ops::RangeInclusive<u32> = 10..=34;

/// A point's histogram as Prometheus takes it.
#[must_use]
pub fn exposed(row: &StageLatency) -> roko_services::metrics::StageLatency {
    let histogram = row.histogram();
    let bound = |bits: u32| ((1u64 << bits) - 1, histogram.count_below(1 << bits));
    roko_services::metrics::StageLatency {
        stage: row.stage.clone().into(),
        since: row.since.clone().into(),
        at_most: BOUND_BITS.map(bound).collect(),
        sum_ns: row.sum_ns,
        count: histogram.count(),
    }
}

/// All points of a node, in packet order. Those where nothing passed yet are left out.
#[must_use]
pub fn rows(stages: &[Arc<StageMetrics>], blocks: &BlockLatencies) -> Vec<StageLatency> {
    let mut rows = Vec::new();
    for stage in stages {
        // What leaves the node comes after what the control thread says of blocks.
        if stage.stage() == "spread" {
            rows.extend(blocks.rows());
        }
        // The lanes of a stage are one point of the way.
        if stage.lane().is_some_and(|lane| lane > 0) {
            continue;
        }
        for (at, told) in stage.latencies().iter().enumerate() {
            let mut all = told.read();
            let others =
                stages.iter().filter(|other| other.stage() == stage.stage() && !Arc::ptr_eq(other, stage));
            others.for_each(|other| all.merge(&other.latencies()[at].read()));
            rows.push(StageLatency::of(stage.stage(), told.since().label(), &all));
        }
    }
    rows.retain(|row| !row.samples.is_empty());
    rows
}

/// One point over several nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The stage or point.
    pub stage: String,
    /// From where it counts.
    pub since: String,
    /// All nodes' durations.
    pub histogram: Histogram,
}

/// The points of all nodes, in the first one's order.
#[must_use]
pub fn merged(nodes: &[NodeStatus]) -> Vec<Merged> {
    let mut all: Vec<Merged> = Vec::new();
    for row in nodes.iter().flat_map(|node| &node.stage_latencies) {
        let histogram = row.histogram();
        match all.iter_mut().find(|known| (&known.stage, &known.since) == (&row.stage, &row.since)) {
            Some(known) => known.histogram.merge(&histogram),
            None => all.push(Merged { stage: row.stage.clone(), since: row.since.clone(), histogram }),
        }
    }
    all
}

/// A point's percentiles, as reports show them, nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LatencyRow {
    /// The stage or point.
    pub stage: String,
    /// From where it counts: `wire` or `asked`.
    pub since: String,
    /// How many.
    pub count: u64,
    /// Median.
    pub p50_ns: u64,
    /// 90th percentile.
    pub p90_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// 99.9th percentile.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl LatencyRow {
    /// The percentiles of a histogram; `None` when it is empty.
    #[must_use]
    pub fn of(stage: &str, since: &str, histogram: &Histogram) -> Option<LatencyRow> {
        Some(LatencyRow {
            stage: stage.to_owned(),
            since: since.to_owned(),
            count: histogram.count(),
            p50_ns: histogram.quantile_ns(0.5)?,
            p90_ns: histogram.quantile_ns(0.9)?,
            p99_ns: histogram.quantile_ns(0.99)?,
            p999_ns: histogram.quantile_ns(0.999)?,
            max_ns: histogram.max_ns(),
        })
    }
}

/// The percentiles of all nodes together.
#[must_use]
pub fn table(nodes: &[NodeStatus]) -> Vec<LatencyRow> {
    merged(nodes).iter().filter_map(|all| LatencyRow::of(&all.stage, &all.since, &all.histogram)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_survives_its_way_and_its_bounds_count_what_they_say() {
        let mut histogram = Histogram::default();
        for nanos in [900, 1_023, 1_024, 5_000_000, 30_000_000_000] {
            histogram.record(nanos);
        }
        let row = StageLatency::of("open", "wire", &histogram);
        let text = serde_json::to_string(&row).expect("numbers and text");
        let back: StageLatency = serde_json::from_str(&text).expect("what was written");
        assert_eq!((&back, back.histogram()), (&row, histogram));
        let exposed = exposed(&back);
        assert_eq!(exposed.at_most.first(), Some(&(1_023, 2)));
        assert_eq!(exposed.at_most.last(), Some(&((1 << 34) - 1, 4)), "30 s are above every bound");
        assert_eq!(exposed.count, 5);
        assert!(exposed.at_most.is_sorted());
    }
}
