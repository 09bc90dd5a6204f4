//! The Prometheus text format, version 0.0.4: one block of lines for each metric, all nodes of the process in it.

use core::fmt::Write as _;

use super::{Direction, DurationSummary, MetricsSnapshot, PeerFigures, StageLatency};

/// The content type that names the format's version.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Nanoseconds in the base unit.
const NANOS_PER_SECOND: f64 = 1e9;

/// The page of the snapshots of all nodes in the process. Their `node` labels must differ.
#[must_use]
pub fn render(snapshots: &[MetricsSnapshot]) -> String {
    let mut page = Page { text: String::with_capacity(8 * 1024 * snapshots.len()), snapshots };
    chain(&mut page);
    network(&mut page);
    clock(&mut page);
    queues(&mut page);
    stages(&mut page);
    page.text
}

/// The page so far.
struct Page<'a> {
    text: String,
    snapshots: &'a [MetricsSnapshot],
}

impl Page<'_> {
    /// Writes one metric: its help and type once, then `samples` for each node. A metric without any sample is left
    /// out whole.
    fn metric(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl Fn(&MetricsSnapshot, &mut Samples<'_>),
    ) {
        let start = self.text.len();
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        let header_end = self.text.len();
        for snapshot in self.snapshots {
            samples(snapshot, &mut Samples { text: &mut self.text, name, node: &snapshot.node });
        }
        if self.text.len() == header_end {
            self.text.truncate(start);
        }
    }

    /// A counter without labels of its own.
    fn counter(&mut self, name: &str, help: &str, value: impl Fn(&MetricsSnapshot) -> u64) {
        self.metric(name, "counter", help, |snapshot, samples| samples.integer(&[], value(snapshot)));
    }

    /// A gauge without labels of its own; `None` leaves it out.
    fn gauge(&mut self, name: &str, help: &str, value: impl Fn(&MetricsSnapshot) -> Option<f64>) {
        self.metric(name, "gauge", help, |snapshot, samples| {
            if let Some(value) = value(snapshot) {
                samples.float(&[], value);
            }
        });
    }

    /// Percentiles, sum and count of a duration.
    fn summary(&mut self, name: &str, help: &str, value: impl Fn(&MetricsSnapshot) -> DurationSummary) {
        self.metric(name, "summary", help, |snapshot, samples| samples.summary(value(snapshot)));
    }
}

/// Writes samples of one metric of one node.
struct Samples<'a> {
    text: &'a mut String,
    name: &'a str,
    node: &'a str,
}

impl Samples<'_> {
    /// `name<suffix>{node="...",label="..."} ` with the values escaped.
    fn key(&mut self, suffix: &str, labels: &[(&str, &str)]) {
        let _ = write!(self.text, "{}{suffix}{{node=\"", self.name);
        escape(self.text, self.node);
        for (label, value) in labels {
            let _ = write!(self.text, "\",{label}=\"");
            escape(self.text, value);
        }
        self.text.push_str("\"} ");
    }

    fn integer(&mut self, labels: &[(&str, &str)], value: u64) {
        self.key("", labels);
        let _ = writeln!(self.text, "{value}");
    }

    fn float(&mut self, labels: &[(&str, &str)], value: f64) {
        self.key("", labels);
        let _ = writeln!(self.text, "{value}");
    }

    fn histogram(&mut self, labels: [(&str, &str); 2], latency: &StageLatency) {
        for (bound_ns, count) in &latency.at_most {
            let bound = (*bound_ns as f64 / NANOS_PER_SECOND).to_string();
            self.key("_bucket", &[labels[0], labels[1], ("le", &bound)]);
            let _ = writeln!(self.text, "{count}");
        }
        self.key("_bucket", &[labels[0], labels[1], ("le", "+Inf")]);
        let _ = writeln!(self.text, "{}", latency.count);
        self.key("_sum", &labels);
        let _ = writeln!(self.text, "{}", latency.sum_ns as f64 / NANOS_PER_SECOND);
        self.key("_count", &labels);
        let _ = writeln!(self.text, "{}", latency.count);
    }

    fn summary(&mut self, summary: DurationSummary) {
        for (quantile, value_ns) in [("0.5", summary.p50_ns), ("0.99", summary.p99_ns)] {
            if let Some(value_ns) = value_ns {
                self.float(&[("quantile", quantile)], value_ns as f64 / NANOS_PER_SECOND);
            }
        }
        self.key("_sum", &[]);
        let _ = writeln!(self.text, "{}", summary.sum_ns as f64 / NANOS_PER_SECOND);
        self.key("_count", &[]);
        let _ = writeln!(self.text, "{}", summary.count);
    }
}

/// Appends a label's value with backslash, quote and line feed escaped, as the format asks.
fn escape(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

fn chain(page: &mut Page<'_>) {
    page.metric(
        "roko_build_info",
        "gauge",
        "The program's version; the value is always 1.",
        |node, samples| {
            samples.integer(&[("version", &node.version)], 1);
        },
    );
    page.gauge("roko_final_height", "Height of the highest final block.", |node| {
        node.final_height.map(|height| height as f64)
    });
    page.gauge("roko_view", "The consensus view the node is in.", |node| node.view.map(|view| view as f64));
    page.counter("roko_transactions_final_total", "Transactions in final blocks.", |node| {
        node.transactions_final
    });
    page.summary("roko_block_time_seconds", "Time between consecutive final blocks.", |node| node.block_time);
    page.summary(
        "roko_finality_time_seconds",
        "From the ingress stamp to finality, of transactions stamped by this node.",
        |node| node.finality_time,
    );
    page.gauge(
        "roko_validator_participation_ratio",
        "Share of the stake that voted in recent final views.",
        |node| node.validator_participation,
    );
    page.counter("roko_forks_total", "Blocks that were notarised and never became final.", |node| {
        node.fork_count
    });
}

fn network(page: &mut Page<'_>) {
    page.gauge("roko_peer_count", "Peers with an open session.", |node| {
        node.peer_count.map(|count| count as f64)
    });
    page.gauge("roko_link_up", "1 while the port's link is up.", |node| {
        node.link_up.map(|up| f64::from(u8::from(up)))
    });
    page.metric("roko_messages_total", "counter", "Messages by direction and kind.", |node, samples| {
        for row in &node.messages {
            samples.integer(&[("direction", row.direction.label()), ("kind", &row.kind)], row.count);
        }
    });
    page.metric("roko_bytes_total", "counter", "Bytes by direction, headers included.", |node, samples| {
        samples.integer(&[("direction", Direction::Received.label())], node.bytes_received);
        samples.integer(&[("direction", Direction::Sent.label())], node.bytes_sent);
    });
    page.metric(
        "roko_peer_offences_total",
        "counter",
        "What a peer was refused for, by peer and reason.",
        |node, samples| {
            for row in &node.peers {
                let peer = row.peer.to_string();
                for (reason, count) in &row.offences {
                    samples.integer(&[("peer", &peer), ("reason", reason)], *count);
                }
            }
        },
    );
    per_peer(page, "roko_peer_score_ratio", "gauge", "A peer's score; at 1 it is banned.", |row| {
        row.score_ratio
    });
    per_peer(page, "roko_peer_banned", "gauge", "1 while a peer is banned.", |row| {
        f64::from(u8::from(row.banned))
    });
    per_peer(page, "roko_peer_bans_total", "counter", "Bans of a peer.", |row| row.bans as f64);
    per_peer(
        page,
        "roko_peer_bans_withheld_total",
        "counter",
        "Bans of a peer that were withheld: bans are off, or the rest would be no quorum.",
        |row| row.bans_withheld as f64,
    );
    page.summary("roko_latency_seconds", "Round-trip time to peers.", |node| node.latency);
}

/// A number of each peer that was refused for anything.
fn per_peer(page: &mut Page<'_>, name: &str, kind: &str, help: &str, value: impl Fn(&PeerFigures) -> f64) {
    page.metric(name, kind, help, |node, samples| {
        for row in &node.peers {
            samples.float(&[("peer", &row.peer.to_string())], value(row));
        }
    });
}

fn clock(page: &mut Page<'_>) {
    page.gauge(
        "roko_time_drift_seconds",
        "Offset of the clock from its source; positive when ahead.",
        |node| node.time_drift_ns.map(|drift_ns| drift_ns as f64 / NANOS_PER_SECOND),
    );
    page.gauge("roko_sync_accuracy_seconds", "Error bound of the clock.", |node| {
        node.sync_accuracy_ns.map(|bound_ns| bound_ns as f64 / NANOS_PER_SECOND)
    });
    page.metric(
        "roko_receive_stamps_total",
        "counter",
        "Received frames by what stamped them; refused counts stamps of the port that were not used.",
        |node, samples| {
            for (by, count) in &node.receive_stamps {
                samples.integer(&[("by", by)], *count);
            }
        },
    );
    page.gauge(
        "roko_receive_stamp_bound_seconds",
        "Error bound of the last received frame's time.",
        |node| node.receive_stamp_bound_ns.map(|bound_ns| bound_ns as f64 / NANOS_PER_SECOND),
    );
    page.gauge(
        "roko_port_clock_offset_seconds",
        "Offset of the port's clock from its map to the CPU's counter.",
        |node| node.port_clock_offset_ns.map(|offset_ns| offset_ns as f64 / NANOS_PER_SECOND),
    );
    page.metric(
        "roko_clock_faults_total",
        "counter",
        "Steps of clocks, and readings that failed, by clock.",
        |node, samples| {
            for (clock, kind, count) in &node.clock_faults {
                samples.integer(&[("clock", clock), ("kind", kind)], *count);
            }
        },
    );
    page.counter("roko_attestations_total", "Times that this node attested.", |node| node.attestations);
}

fn queues(page: &mut Page<'_>) {
    page.gauge("roko_mempool_pending", "Transactions that wait for a block.", |node| {
        Some(f64::from(node.queues.mempool.pending))
    });
    page.gauge("roko_mempool_in_flight", "Transactions drained into a block that is not final.", |node| {
        Some(f64::from(node.queues.mempool.in_flight))
    });
    page.gauge("roko_mempool_capacity", "Most transactions the mempool holds.", |node| {
        Some(f64::from(node.queues.mempool.capacity))
    });
    page.gauge("roko_mempool_bytes", "Bytes of the transactions in the mempool.", |node| {
        Some(node.queues.mempool.bytes as f64)
    });
    page.gauge(
        "roko_mempool_memory_bytes",
        "Memory of the mempool, indices and free space included.",
        |node| Some(node.queues.mempool.memory_bytes as f64),
    );
    page.gauge(
        "roko_watermark_lag_seconds",
        "How far the last block's watermark lies behind the clock.",
        |node| Some(node.queues.watermark_lag_ns as f64 / NANOS_PER_SECOND),
    );
    page.metric(
        "roko_transactions_refused_total",
        "counter",
        "Transactions refused, by reason.",
        |node, samples| {
            for row in &node.queues.refused {
                samples.integer(&[("reason", row.reason.label())], row.count);
            }
        },
    );
    page.metric("roko_ring_depth", "gauge", "Items in a ring.", |node, samples| {
        for ring in &node.queues.rings {
            samples.integer(&[("ring", &ring.name)], u64::from(ring.depth));
        }
    });
    page.metric("roko_ring_capacity", "gauge", "Most items a ring holds.", |node, samples| {
        for ring in &node.queues.rings {
            samples.integer(&[("ring", &ring.name)], u64::from(ring.capacity));
        }
    });
    page.metric(
        "roko_ring_drops_total",
        "counter",
        "Items dropped because a ring was full.",
        |node, samples| {
            for ring in &node.queues.rings {
                samples.integer(&[("ring", &ring.name)], ring.drops);
            }
        },
    );
}

fn stages(page: &mut Page<'_>) {
    page.metric("roko_drops_total", "counter", "Drops by stage and reason.", |node, samples| {
        for row in &node.drops {
            samples.integer(&[("stage", &row.stage), ("reason", &row.reason)], row.count);
        }
    });
    page.metric(
        "roko_stage_regime_seconds_total",
        "counter",
        "Time by core and regime; the regimes of a core add up to its running time.",
        |node, samples| {
            for row in &node.regimes {
                let core = row.core.to_string();
                samples.float(
                    &[("core", &core), ("regime", &row.regime)],
                    row.time_ns as f64 / NANOS_PER_SECOND,
                );
            }
        },
    );
    page.metric(
        "roko_stage_latency_seconds",
        "histogram",
        "From the wire's receive time, or from the request to send, until the stage was passed.",
        |node, samples| {
            for row in &node.stage_latencies {
                samples.histogram([("stage", &row.stage), ("since", &row.since)], row);
            }
        },
    );
}
