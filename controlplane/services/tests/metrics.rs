//! The metrics port: every line of the page parses, health follows the node, and every limit holds.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use common::{LedgerOfOne, http};
use roko_services::{
    MetricsSnapshot, NodeApi,
    http::{MetricsConfig, MetricsServer},
    metrics::{CONTENT_TYPE, render},
};
use roko_wire::nano::ClockState;
use serde_json::Value;
use tokio::net::TcpStream;

async fn served(change: impl FnOnce(&mut MetricsConfig)) -> (Arc<LedgerOfOne>, MetricsServer) {
    let ledger = LedgerOfOne::new(&[]);
    let mut config = MetricsConfig { listen: ([127, 0, 0, 1], 0).into(), ..MetricsConfig::default() };
    change(&mut config);
    let nodes: Vec<Arc<dyn NodeApi>> = vec![ledger.clone()];
    let server = MetricsServer::start(&config, nodes).await.unwrap();
    (ledger, server)
}

async fn get(server: &MetricsServer, path: &str) -> (u16, String, String) {
    http(server.address(), &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
}

/// A sample's name, some of its labels, and its value.
type Expected = (&'static str, &'static [(&'static str, &'static str)], f64);

/// Reads `{a="b",c="d"}` with the format's escapes; returns the labels and what follows.
fn labels(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    let mut rest = text.strip_prefix('{').unwrap();
    loop {
        let (name, after) = rest.split_once("=\"").unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().unwrap() {
                (_, '\\') => value.push(match characters.next().unwrap().1 {
                    'n' => '\n',
                    character @ ('\\' | '"') => character,
                    other => panic!("escape {other}"),
                }),
                (at, '"') => break at,
                (_, character) => value.push(character),
            }
        };
        assert_eq!(labels.insert(name.to_owned(), value), None, "{name} is there twice");
        match after[end + 1..].strip_prefix(',') {
            Some(more) => rest = more,
            None => return (labels, after[end + 1..].strip_prefix('}').unwrap()),
        }
    }
}

/// Metric name, labels and value of every sample, once the page was checked line by line.
fn parse(page: &str) -> Vec<(String, BTreeMap<String, String>, f64)> {
    let (mut family, mut kind) = (String::new(), String::new());
    let (mut families, mut series, mut samples) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            assert!(name.starts_with("roko_") && !text.is_empty());
            name.clone_into(&mut family);
        } else if let Some(of) = line.strip_prefix("# TYPE ") {
            let (name, is) = of.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert_eq!(is == "counter", name.ends_with("_total"), "{name} is a {is}");
            is.clone_into(&mut kind);
        } else {
            let (name, rest) = line.split_at(line.find('{').unwrap());
            let suffix = name.strip_prefix(family.as_str()).unwrap();
            assert!(
                (suffix.is_empty() && kind != "histogram")
                    || (kind == "summary" && ["_sum", "_count"].contains(&suffix))
                    || (kind == "histogram" && ["_bucket", "_sum", "_count"].contains(&suffix)),
                "{line}"
            );
            let (labels, value) = labels(rest);
            assert!(series.insert((name.to_owned(), labels.clone())), "{line} comes twice");
            let value = value.strip_prefix(' ').unwrap().parse().unwrap();
            assert!(labels.contains_key("node"));
            samples.push((name.to_owned(), labels, value));
        }
    }
    samples
}

/// The one sample with this name and these labels.
fn value(samples: &[(String, BTreeMap<String, String>, f64)], name: &str, with: &[(&str, &str)]) -> f64 {
    let matches = |labels: &BTreeMap<String, String>| {
        with.iter().all(|(label, value)| labels.get(*label).map(String::as_str) == Some(*value))
    };
    let found: Vec<_> = samples.iter().filter(|(of, labels, _)| of == name && matches(labels)).collect();
    assert_eq!(found.len(), 1, "{name} {with:?}");
    found[0].2
}

#[tokio::test]
async fn the_page_has_every_metric_in_base_units() {
    let (ledger, server) = served(|_| ()).await;
    ledger.submit(vec![0]).unwrap_err();
    let (status, head, page) = get(&server, "/metrics?x=1").await;
    assert_eq!(status, 200);
    assert!(head.contains(&format!("Content-Type: {CONTENT_TYPE}\r\n")), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", page.len())), "{head}");
    let samples = parse(&page);
    let expected: [Expected; 32] = [
        ("roko_build_info", &[("version", "0.1.0")], 1.0),
        ("roko_peer_count", &[], 0.0),
        ("roko_messages_total", &[("direction", "sent"), ("kind", "say \"hi\"\n\\")], 3.0),
        ("roko_bytes_total", &[("direction", "received")], 10.0),
        ("roko_bytes_total", &[("direction", "sent")], 20.0),
        ("roko_latency_seconds_count", &[], 0.0),
        ("roko_block_time_seconds", &[("quantile", "0.5")], 0.25),
        ("roko_block_time_seconds", &[("quantile", "0.99")], 1.5),
        ("roko_block_time_seconds_sum", &[], 4.0),
        ("roko_block_time_seconds_count", &[], 8.0),
        ("roko_finality_time_seconds_count", &[], 0.0),
        ("roko_validator_participation_ratio", &[], 1.0),
        ("roko_forks_total", &[], 0.0),
        ("roko_time_drift_seconds", &[], -1.5e-6),
        ("roko_sync_accuracy_seconds", &[], 5e-7),
        ("roko_receive_stamps_total", &[("by", "hardware")], 7.0),
        ("roko_receive_stamps_total", &[("by", "refused")], 2.0),
        ("roko_receive_stamp_bound_seconds", &[], 2.5e-6),
        ("roko_port_clock_offset_seconds", &[], -4e-8),
        ("roko_clock_faults_total", &[("clock", "port"), ("kind", "stepped")], 3.0),
        ("roko_attestations_total", &[], 0.0),
        ("roko_drops_total", &[("stage", "filter"), ("reason", "rate")], 5.0),
        ("roko_stage_regime_seconds_total", &[("core", "1"), ("regime", "caught_up")], 1.5),
        ("roko_stage_latency_seconds_bucket", &[("stage", "verify"), ("le", "0.000001023")], 2.0),
        ("roko_stage_latency_seconds_bucket", &[("stage", "verify"), ("le", "0.5")], 6.0),
        ("roko_stage_latency_seconds_bucket", &[("stage", "verify"), ("le", "+Inf")], 7.0),
        ("roko_stage_latency_seconds_sum", &[("stage", "verify"), ("since", "wire")], 3.5),
        ("roko_stage_latency_seconds_count", &[("stage", "verify")], 7.0),
        ("roko_ring_depth", &[("ring", "submit")], 0.0),
        ("roko_ring_capacity", &[("ring", "submit")], common::INBOX_CAPACITY as f64),
        ("roko_mempool_capacity", &[], common::POOL_CAPACITY as f64),
        ("roko_transactions_refused_total", &[("reason", "malformed")], 1.0),
    ];
    for (name, with, expected) in expected {
        assert_eq!(value(&samples, name, with), expected, "{name}");
    }
}

#[test]
fn what_is_not_measured_is_left_out_and_nodes_share_a_metric() {
    let node = |name: &str| MetricsSnapshot { node: name.to_owned(), ..MetricsSnapshot::default() };
    let page = render(&[node("a"), MetricsSnapshot { peer_count: Some(3), ..node("b") }]);
    let samples = parse(&page);
    assert_eq!(value(&samples, "roko_peer_count", &[]), 3.0);
    assert_eq!(value(&samples, "roko_forks_total", &[("node", "a")]), 0.0);
    assert_eq!(value(&samples, "roko_forks_total", &[("node", "b")]), 0.0);
    for unmeasured in ["roko_time_drift_seconds", "roko_validator_participation_ratio", "quantile"] {
        assert!(!page.contains(unmeasured), "{unmeasured}");
    }
}

#[tokio::test]
async fn health_follows_the_node() {
    let (ledger, server) = served(|config| config.final_age_ms_max = 1_000).await;
    let (status, _, body) = get(&server, "/health").await;
    let health: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &health["healthy"], &health["nodes"][0]["node"]),
        (200, &true.into(), &"only".into())
    );

    ledger.advance(1_001_000_000);
    let (status, _, body) = get(&server, "/health").await;
    assert_eq!(status, 503);
    assert!(body.contains("no final block for 1001 ms"), "{body}");
    ledger.make_block();
    assert_eq!(get(&server, "/health").await.0, 200);

    ledger.set_clock_state(ClockState::Degraded);
    let (status, _, body) = get(&server, "/health").await;
    assert_eq!(status, 503);
    assert!(body.contains("check its source"), "{body}");
}

#[tokio::test]
async fn other_requests_are_refused() {
    let (_ledger, server) = served(|_| ()).await;
    let address = server.address();
    assert_eq!(get(&server, "/").await.0, 404);
    let (status, head, _) = http(address, "POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(status, 405);
    assert!(head.contains("Allow: GET, HEAD"), "{head}");
    let (status, head, body) = http(address, "HEAD /metrics HTTP/1.1\r\n\r\n").await;
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(!head.contains("Content-Length: 0"), "{head}");
    assert_eq!(http(address, "nonsense\r\n\r\n").await.0, 400);
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(9_000));
    assert_eq!(http(address, &long).await.0, 431);
}

#[tokio::test]
async fn slow_and_many_connections_are_cut() {
    let (_ledger, server) = served(|config| (config.connections_max, config.request_ms_max) = (1, 300)).await;
    let idle = TcpStream::connect(server.address()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(get(&server, "/health").await.0, 503);
    // The idle connection runs out of time and gives its place back.
    idle.readable().await.unwrap();
    let mut answer = [0; 64];
    let count = idle.try_read(&mut answer).unwrap();
    assert!(answer[..count].starts_with(b"HTTP/1.1 408 "));
    drop(idle);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(get(&server, "/health").await.0, 200);
    tokio::time::timeout(Duration::from_secs(5), server.stop()).await.unwrap();
}
