//! Figures for the metrics page and the queue statistics: drops, messages, and how the stages' time was spent.

use super::NodeHandle;
use crate::conduct::PeerConduct;
use roko_peers::{Refusal, RoundTripSummary};
use roko_pipeline::assembly::RingGauge;
use roko_pipeline::metrics::{REGIME_LABELS, Regime, StageMetrics};
use roko_services::RefusalReason;
use roko_services::metrics::{Direction, DropCount, DurationSummary, MessageCount, PeerFigures, RegimeTime};
use roko_state::storage::Storage;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

impl<S: Storage> NodeHandle<S> {
    pub(super) fn drops(&self) -> Vec<DropCount> {
        // What became of a frame is one figure, whatever lane it was on.
        let mut all: Vec<DropCount> = Vec::new();
        for stage in self.data_plane.stages.iter().chain(&self.data_plane.slow_path) {
            let name = stage.stage();
            for (label, count) in stage.counters().filter(|(label, count)| *count > 0 && is_drop(name, label))
            {
                match all.iter_mut().find(|row| (&*row.stage, &*row.reason) == (name, label)) {
                    Some(row) => row.count += count,
                    None => all.push(DropCount { stage: name.into(), reason: label.into(), count }),
                }
            }
        }
        for (stage, reason, count) in
            self.observer.counters.all().into_iter().filter(|(.., count)| *count > 0)
        {
            all.push(DropCount { stage: stage.into(), reason: reason.into(), count });
        }
        let handshakes = &self.data_plane.handshakes;
        for refusal in Refusal::ALL {
            let here = ("handshake", handshakes.refused(*refusal));
            let there = ("handshake_of_peer", handshakes.refusals_by_peers(*refusal));
            for (stage, count) in [here, there].into_iter().filter(|(_, count)| *count > 0) {
                all.push(DropCount { stage: stage.into(), reason: refusal.label().into(), count });
            }
        }
        all
    }

    pub(super) fn peer_figures(&self) -> Vec<PeerFigures> {
        let of = |conduct: PeerConduct| PeerFigures {
            peer: conduct.index,
            score_ratio: conduct.score_permille as f64 / 1e3,
            banned: conduct.banned_for_ms.is_some(),
            bans: conduct.bans,
            bans_withheld: conduct.withheld,
            offences: conduct.offences.into_iter().collect(),
        };
        self.observer.conduct.read().into_iter().map(of).collect()
    }

    pub(super) fn round_trips(&self) -> DurationSummary {
        let RoundTripSummary { p50_ns, p99_ns, sum_ns, count } =
            self.data_plane.handshakes.round_trips.summary();
        DurationSummary { p50_ns, p99_ns, sum_ns, count }
    }

    pub(super) fn regimes(&self) -> Vec<RegimeTime> {
        let per_tick = self.clock.map().nanos_per_tick_q32;
        let regimes = [Regime::CaughtUp, Regime::Processing, Regime::Backpressured, Regime::Housekeeping];
        let mut out = Vec::new();
        for (place, stage) in self.data_plane.stages.iter().enumerate() {
            for regime in regimes {
                let ticks = u128::from(stage.regime_ticks(regime));
                let time_ns = ((ticks * u128::from(per_tick)) >> 32) as u64;
                let name = format!("{}:{}", stage.label(), REGIME_LABELS[regime as usize]);
                let core = self.data_plane.cores.get(place).and_then(|place| place.core).unwrap_or(0);
                out.push(RegimeTime { core, regime: name.into(), time_ns });
            }
        }
        out
    }

    /// Items dropped or refused because a ring was full: counted by who could not push. `None` for a ring of which nothing
    /// is dropped, for `decode_open`, whose drops are counted by the lane that the frames came by, and for `open_decode` and `control_verify`: an item lost there costs a repetition of work, no more.
    pub(crate) fn ring_overruns(&self, ring: &RingGauge) -> Option<u64> {
        let of = |stage: &str, labels: &[&str]| {
            let of_lane = |of: &&Arc<StageMetrics>| {
                of.stage() == stage && (of.lane() == ring.lane || of.lane().is_none())
            };
            let stages = self.data_plane.stages.iter().filter(of_lane);
            stages.map(|of| labels.iter().map(|label| of.value(label)).sum::<u64>()).sum()
        };
        Some(match ring.name {
            "rx_filter" => of("rx", &["dropped_ring_full"]),
            "filter_slow_path" => of("filter", &["slow_path_full"]),
            "slow_path_tx" => self.slow_path_counter("dropped_full"),
            "open_verify" => of("open", &["dropped_submit", "dropped_batch"]),
            "open_control" => of(
                "open",
                &["dropped_propose", "dropped_vote", "dropped_certificate", "dropped_chunk", "dropped_pull"],
            ),
            "inject_verify" if ring.lane.is_some_and(|lane| lane > 0) => 0,
            "inject_verify" => self.refused[RefusalReason::NodeBusy.index()].load(Ordering::Relaxed),
            "order_control" => self.stage_counter("order", "seen_dropped"),
            "verify_spread" => of("verify", &["dropped_spread"]),
            "spread_tx_relay" => self.stage_counter("spread", "dropped_relay"),
            "tx_control" => self.stage_counter("tx", "departures_unread"),
            _ => return None,
        })
    }

    pub(super) fn messages(&self) -> Vec<MessageCount> {
        let received = |label: &'static str, stage: &str, counter: &str| MessageCount {
            direction: Direction::Received,
            kind: label.into(),
            count: self.stage_counter(stage, counter),
        };
        let sent = |label: &'static str, counter: &str| MessageCount {
            direction: Direction::Sent,
            kind: label.into(),
            count: self.stage_counter("spread", counter),
        };
        let handshakes = |direction, label: &'static str, count: &AtomicU64| MessageCount {
            direction,
            kind: label.into(),
            count: count.load(Ordering::Relaxed),
        };
        vec![
            received("datagram", "filter", "passed"),
            received("transaction", "verify", "passed"),
            sent("consensus", "frames_consensus"),
            sent("block", "frames_block"),
            sent("relay", "frames_relay"),
            handshakes(Direction::Received, "connection", &self.data_plane.handshakes.connections),
            handshakes(Direction::Received, "handshake", &self.data_plane.handshakes.completed),
            handshakes(Direction::Sent, "rekey", &self.data_plane.handshakes.rekeyed),
        ]
    }
}

/// Whether a counter says that something was dropped or refused; the others say what went on.
fn is_drop(stage: &str, label: &str) -> bool {
    let went_on: &[&str] = match stage {
        "rx" => &[
            "received",
            "bytes",
            "hardware_stamped",
            "kernel_stamped",
            "poll_stamped",
            "stamp_refused",
            "stamp_bound_ns",
            "passed",
            "port_system_calls",
        ],
        "filter" => &["passed", "slow_path"],
        "decode" => &["passed", "admitted", "established", "crossed"],
        "open" => &["opened", "passed_submit", "passed_batch", "passed_control"],
        "verify" => &["passed", "batches_stamped"],
        "order" => &[
            "inserted",
            "replaced",
            "drained",
            "commands",
            "stamped_late",
            "pending",
            "in_flight",
            "pool_bytes",
            "pool_memory_bytes",
        ],
        "builder" => &["built", "rebuilt", "txs", "body_bytes", "released"],
        "spread" => &[
            "frames_consensus",
            "frames_block",
            "frames_relay",
            "frames_client",
            "stalled",
            "blocks_done",
            "linked",
            "worn",
        ],
        "tx" => &["sent", "bytes", "retained", "port_system_calls", "events_sent", "departures_stamped"],
        "slow_path" => &["heard", "answered", "echoed", "asked", "known", "unknown", "learned"],
        _ => &[],
    };
    !went_on.contains(&label)
}
