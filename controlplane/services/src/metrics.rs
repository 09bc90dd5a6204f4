//! What a node measures, as a plain struct that it fills, and the Prometheus names of its parts.
//!
//! | the specification's name | here |
//! |---|---|
//! | peer_count | `roko_peer_count` |
//! | message_rate | `rate(roko_messages_total)` |
//! | bandwidth_usage | `rate(roko_bytes_total)` by direction |
//! | latency_p50, latency_p99 | `roko_latency_seconds{quantile="0.5"}`, `{quantile="0.99"}` |
//! | block_time | `roko_block_time_seconds` |
//! | finality_time | `roko_finality_time_seconds` |
//! | validator_participation | `roko_validator_participation_ratio` |
//! | fork_count | `roko_forks_total` |
//! | time_drift | `roko_time_drift_seconds` |
//! | sync_accuracy | `roko_sync_accuracy_seconds` |
//! | attestation_rate | `rate(roko_attestations_total)` |
//!
//! Counters count since the node started. What a node has not measured is `None` and is left out of the page, so
//! that an alert on missing data can fire; it is never shown as zero.

mod exposition;

use std::borrow::Cow;

use crate::api::QueueStats;

pub use exposition::{CONTENT_TYPE, render};

/// Percentiles of a duration over a recent window, and its sum and count since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DurationSummary {
    /// Median over the window, nanoseconds; `None` when the window is empty.
    pub p50_ns: Option<u64>,
    /// 99th percentile over the window, nanoseconds; `None` when the window is empty.
    pub p99_ns: Option<u64>,
    /// Sum of all samples, nanoseconds.
    pub sum_ns: u128,
    /// Number of all samples.
    pub count: u64,
}

/// Messages of one kind in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageCount {
    /// Received or sent.
    pub direction: Direction,
    /// The message's name on the wire.
    pub kind: Cow<'static, str>,
    /// How many.
    pub count: u64,
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To this node.
    Received,
    /// From this node.
    Sent,
}

impl Direction {
    /// The label's value.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Direction::Received => "received",
            Direction::Sent => "sent",
        }
    }
}

/// Packets or items that one stage dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropCount {
    /// The stage's name.
    pub stage: Cow<'static, str>,
    /// Why.
    pub reason: Cow<'static, str>,
    /// How many.
    pub count: u64,
}

/// Time that one core spent in one regime. The regimes of a core are exhaustive: they add up to its running time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegimeTime {
    /// The core, or the number of the poll thread where threads are not pinned.
    pub core: u32,
    /// What the core was doing: `caught_up`, `processing`, `backpressured`, `housekeeping` and so on.
    pub regime: Cow<'static, str>,
    /// How long, nanoseconds.
    pub time_ns: u64,
}

/// How long after the wire, or after it was asked for, what passes a stage does so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageLatency {
    /// The stage's name.
    pub stage: Cow<'static, str>,
    /// From where it counts: `wire` or `asked`.
    pub since: Cow<'static, str>,
    /// Bounds in nanoseconds, ascending, and how many durations do not exceed each.
    pub at_most: Vec<(u64, u64)>,
    /// Sum of all, nanoseconds.
    pub sum_ns: u64,
    /// How many.
    pub count: u64,
}

/// What one peer was refused for, and what follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerFigures {
    /// Its index on the wire.
    pub peer: u16,
    /// Its score; at 1 it is banned.
    pub score_ratio: f64,
    /// Whether it is banned.
    pub banned: bool,
    /// Bans since the start.
    pub bans: u64,
    /// Bans that the quorum did not allow.
    pub bans_withheld: u64,
    /// How often it was refused, by reason.
    pub offences: Vec<(String, u64)>,
}

/// Everything one node measures. Fill what there is and leave the rest at its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsSnapshot {
    /// Value of the label `node` on every sample: tells the validators of one process apart.
    pub node: String,
    /// The program's version.
    pub version: Cow<'static, str>,
    /// Peers with an open session.
    pub peer_count: Option<u64>,
    /// Whether the port's link is up; `None` when the port does not tell.
    pub link_up: Option<bool>,
    /// Messages by direction and kind.
    pub messages: Vec<MessageCount>,
    /// Bytes received, headers included.
    pub bytes_received: u64,
    /// Bytes sent, headers included.
    pub bytes_sent: u64,
    /// Round-trip time to peers.
    pub latency: DurationSummary,
    /// Time between consecutive final blocks.
    pub block_time: DurationSummary,
    /// From the ingress stamp to finality, of transactions that this node stamped.
    pub finality_time: DurationSummary,
    /// Share of the stake that voted in recent final views, 0 to 1.
    pub validator_participation: Option<f64>,
    /// Blocks that were notarised and never became final.
    pub fork_count: u64,
    /// Offset of the node's clock from its source, nanoseconds; positive when it is ahead.
    pub time_drift_ns: Option<i64>,
    /// Received frames by what stamped them: `hardware`, `kernel`, `poll`, and stamps of the port that were `refused`.
    pub receive_stamps: Vec<(&'static str, u64)>,
    /// Error bound of the last received frame's time, nanoseconds.
    pub receive_stamp_bound_ns: Option<u64>,
    /// Offset of the port's clock from its map, nanoseconds; `None` when it has no clock.
    pub port_clock_offset_ns: Option<i64>,
    /// Faults of clocks, by clock (`source`, `port`) and kind (`stepped`, `unreadable`).
    pub clock_faults: Vec<(&'static str, &'static str, u64)>,
    /// Error bound of the node's clock, nanoseconds.
    pub sync_accuracy_ns: Option<u64>,
    /// Times that this node attested (its signed ingress stamps).
    pub attestations: u64,
    /// Height of the highest final block.
    pub final_height: Option<u64>,
    /// The view the node is in.
    pub view: Option<u64>,
    /// Transactions in final blocks.
    pub transactions_final: u64,
    /// Drops by stage and reason.
    pub drops: Vec<DropCount>,
    /// Peers that were refused for anything.
    pub peers: Vec<PeerFigures>,
    /// Time by core and regime.
    pub regimes: Vec<RegimeTime>,
    /// Latency by stage.
    pub stage_latencies: Vec<StageLatency>,
    /// Mempool, rings and refusals.
    pub queues: QueueStats,
}
