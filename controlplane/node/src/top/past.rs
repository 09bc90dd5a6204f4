//! What was known a moment ago: rates are differences to it.

use crate::observe::status::NodeStatus;
use std::collections::VecDeque;

/// Rates are taken over about this much time, nanoseconds.
const SPAN_NS: u64 = 2_000_000_000;

/// The counts of one node at one time.
#[derive(Clone, Debug)]
struct Counts {
    clock_ns: u64,
    durable_height: u64,
    transactions_final: u64,
    frames_received: u64,
    frames_sent: u64,
    stages: Vec<[u64; 4]>,
    overruns: Vec<u64>,
    peers: Vec<(u16, u64, u64)>,
}

impl Counts {
    fn of(node: &NodeStatus) -> Counts {
        let detail = &node.detail;
        Counts {
            clock_ns: detail.clock_ns,
            durable_height: node.durable_height,
            transactions_final: node.transactions_final,
            frames_received: detail.traffic.frames_received,
            frames_sent: detail.traffic.frames_sent,
            stages: node.stages.iter().map(|stage| stage.regime_ns).collect(),
            overruns: detail.rings.iter().map(|ring| ring.overruns.unwrap_or(0)).collect(),
            peers: detail
                .peers
                .iter()
                .map(|peer| (peer.index, peer.messages, peer.stamped_transactions))
                .collect(),
        }
    }
}

/// The last seconds of one node.
#[derive(Debug, Default)]
pub(super) struct Past {
    counts: VecDeque<Counts>,
    /// The deepest that each ring was seen, in the order of the status.
    pub(super) deepest: Vec<u64>,
}

/// What happened a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// What they were taken over, nanoseconds; 0 when there is only one answer yet.
    pub(super) span_ns: u64,
    pub(super) blocks: f64,
    pub(super) transactions: f64,
    pub(super) frames_received: f64,
    pub(super) frames_sent: f64,
    /// Nanoseconds in each regime over the span, by stage.
    pub(super) stages: Vec<[u64; 4]>,
    /// Overruns a second, by ring.
    pub(super) overruns: Vec<f64>,
    /// Messages and stamped transactions a second, by peer.
    pub(super) peers: Vec<(f64, f64)>,
}

impl Past {
    /// Takes in what the node says now, and tells the rates since about two seconds ago. A node that was started again in
    /// between counts from zero: its rates begin anew.
    pub(super) fn add(&mut self, node: &NodeStatus) -> Rates {
        let now = Counts::of(node);
        let restarted = |then: &Counts| {
            then.clock_ns >= now.clock_ns
                || then.frames_received > now.frames_received
                || then.transactions_final > now.transactions_final
        };
        if self.counts.back().is_some_and(restarted) {
            self.counts.clear();
        }
        let old = |then: &Counts| now.clock_ns.saturating_sub(then.clock_ns) >= SPAN_NS;
        while self.counts.get(1).is_some_and(old) {
            self.counts.pop_front();
        }
        self.deepest.resize(node.detail.rings.len(), 0);
        for (deepest, ring) in self.deepest.iter_mut().zip(&node.detail.rings) {
            *deepest = (*deepest).max(ring.depth);
        }
        let rates = self.counts.front().map(|then| rates(then, &now)).unwrap_or_default();
        self.counts.push_back(now);
        rates
    }
}

fn rates(then: &Counts, now: &Counts) -> Rates {
    let span_ns = now.clock_ns.saturating_sub(then.clock_ns);
    let per_second = |then: u64, now: u64| now.saturating_sub(then) as f64 * 1e9 / (span_ns.max(1) as f64);
    let spent = |(then, now): (&[u64; 4], &[u64; 4])| {
        core::array::from_fn(|regime| now[regime].saturating_sub(then[regime]))
    };
    let of_peer = |now: &(u16, u64, u64)| {
        let then = then.peers.iter().find(|then| then.0 == now.0).unwrap_or(now);
        (per_second(then.1, now.1), per_second(then.2, now.2))
    };
    Rates {
        span_ns,
        blocks: per_second(then.durable_height, now.durable_height),
        transactions: per_second(then.transactions_final, now.transactions_final),
        frames_received: per_second(then.frames_received, now.frames_received),
        frames_sent: per_second(then.frames_sent, now.frames_sent),
        stages: then.stages.iter().zip(&now.stages).map(spent).collect(),
        overruns: then.overruns.iter().zip(&now.overruns).map(|(t, n)| per_second(*t, *n)).collect(),
        peers: now.peers.iter().map(of_peer).collect(),
    }
}
