//! What a load run yields.

use core::fmt;
use serde::Serialize;
use std::collections::BTreeMap;

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Transfers sent.
    pub sent: u64,
    /// Transfers final.
    pub finalized: u64,
    /// Transfers sent and not final.
    pub in_flight: u64,
    /// Transfers that a node did not take.
    pub refused: u64,
}

/// Time from when a transfer was due until its block was known to be final, milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LatencyMs {
    /// Half were faster.
    pub p50: f64,
    /// Nine in ten were faster.
    pub p90: f64,
    /// 99 in a hundred were faster.
    pub p99: f64,
    /// 999 in a thousand were faster.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

/// What a load run yields. `due = sent + not_sent`, and `sent = finalized + lost` and all of `refused`, but for a
/// transfer that was refused or unanswered and final all the same, which counts in both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadReport {
    /// The rate offered.
    pub rate_per_second: u32,
    /// Transfers that the rate and the duration make.
    pub due: u64,
    /// Of these, how many were sent.
    pub sent: u64,
    /// How many were still held back when the time was over.
    pub not_sent: u64,
    /// How many a node took.
    pub accepted: u64,
    /// How many a node did not take, by reason; `no_answer` when it did not say.
    pub refused: BTreeMap<String, u64>,
    /// How many were sent late, as no account was free or too many were in flight.
    pub held_back: u64,
    /// The longest time between due and sent, milliseconds.
    pub held_back_ms_max: f64,
    /// How many became final.
    #[serde(rename = "final")]
    pub finalized: u64,
    /// How many were neither refused nor final when the wait was over.
    pub lost: u64,
    /// Final blocks seen, empty ones too.
    pub blocks: u64,
    /// Final transfers a second, from the start to the last one.
    pub final_per_second: f64,
    /// How long they took; none when none is final.
    pub latency_ms: Option<LatencyMs>,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "offered    {} a second, {} transfers", self.rate_per_second, self.due)?;
        writeln!(
            f,
            "sent       {}, of which {} late by up to {:.1} ms",
            self.sent, self.held_back, self.held_back_ms_max
        )?;
        if self.not_sent > 0 {
            writeln!(
                f,
                "not sent   {}: no account was free in time; give more accounts, or a lower rate",
                self.not_sent
            )?;
        }
        for (reason, count) in &self.refused {
            writeln!(f, "refused    {count} {reason}")?;
        }
        writeln!(
            f,
            "final      {} in {} blocks, {:.1} a second",
            self.finalized, self.blocks, self.final_per_second
        )?;
        writeln!(f, "lost       {}", self.lost)?;
        match &self.latency_ms {
            Some(ms) => write!(
                f,
                "finality   p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, max {:.1} ms, from when each was due",
                ms.p50, ms.p90, ms.p99, ms.p999, ms.max
            ),
            None => write!(f, "finality   none is final"),
        }
    }
}
