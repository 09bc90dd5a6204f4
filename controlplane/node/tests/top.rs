//! `roko top` beside a devnet that runs: what it prints is what the nodes do, and what it says when there is none.

mod common;

use common::{DevnetProcess, PATIENCE, roko};
use serde_json::Value;
use std::process::Output;
use std::time::Instant;

const VALIDATORS: usize = 4;
const STAGES: [&str; 9] = ["rx", "filter", "decode", "open", "verify", "order", "builder", "spread", "tx"];

fn top(metrics: &str, more: &[&str]) -> Output {
    roko()
        .args(["top", "--metrics", metrics])
        .args(more)
        .output()
        .expect("the program was built for this test")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("the page is UTF-8")
}

fn statuses(metrics: &str) -> Vec<Value> {
    let text = said(&top(metrics, &["--json"]));
    assert_eq!(text.lines().count(), 1, "one line a process: {text}");
    serde_json::from_str::<Vec<Value>>(&text).expect("an array of objects")
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key].as_array().unwrap_or_else(|| panic!("no list {key} in {value}"))
}

/// Waits until every node has final blocks with transactions.
fn wait_for_finality(metrics: &str) -> Vec<Value> {
    let began = Instant::now();
    loop {
        let nodes = statuses(metrics);
        if nodes.iter().all(|node| number(node, "transactions_final") > 20) {
            return nodes;
        }
        assert!(began.elapsed() < PATIENCE, "nothing became final: {nodes:?}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn check_load(node: &Value) {
    let stages: Vec<&str> = list(node, "stages").iter().filter_map(|stage| stage["stage"].as_str()).collect();
    assert_eq!(stages, STAGES);
    for stage in list(node, "stages") {
        assert_eq!(stage["thread"], "data", "the profile's only thread: {stage}");
        let spent: u64 = list(stage, "regime_ns").iter().filter_map(Value::as_u64).sum();
        assert!(spent > 0, "every stage is polled: {stage}");
    }
    let rings = list(node, "rings");
    let of = |name: &str| {
        rings.iter().find(|ring| ring["name"] == name).unwrap_or_else(|| panic!("no ring {name}"))
    };
    for ring in rings {
        assert!(number(ring, "depth") <= number(ring, "capacity"), "{ring}");
        assert_ne!(ring["way"], "", "every ring stands in the topology: {ring}");
    }
    assert_eq!(of("rx_filter")["when_full"], "drop");
    assert!(of("rx_filter")["overruns"].is_u64() && of("verify_order")["overruns"].is_null());
    let traffic = &node["traffic"];
    assert!(number(traffic, "frames_received") > 0 && number(traffic, "bytes_sent") > 0, "{traffic}");
}

fn check_peers(node: &Value, index: usize) {
    assert_eq!((number(node, "index"), node["kind"].as_str()), (index as u64, Some("validator")));
    let peers = list(node, "peers");
    let indices: Vec<u64> = peers.iter().map(|peer| number(peer, "index")).collect();
    let others: Vec<u64> = (0..VALIDATORS as u64).filter(|other| *other != index as u64).collect();
    assert_eq!(indices, others);
    for peer in peers {
        assert!(number(peer, "votes") > 0 && number(peer, "messages") >= number(peer, "votes"), "{peer}");
        assert!(peer["heard_ns_ago"].as_u64().is_some_and(|ago| ago < PATIENCE.as_nanos() as u64), "{peer}");
        // All validators of a process have one clock, so nothing arrives before it was sent.
        let ages = ["stamp_age_ns_min", "proposal_age_ns_min"].map(|key| peer[key].as_i64());
        assert!(ages.iter().flatten().all(|age| (0..PATIENCE.as_nanos() as i64).contains(age)), "{peer}");
    }
    let stamping = peers.iter().filter(|peer| number(peer, "stamped_transactions") > 0);
    assert!(stamping.count() > 0, "the load enters by other validators too: {peers:?}");
}

fn check_views(node: &Value) {
    let views = list(node, "views");
    assert!(views.is_sorted_by(|a, b| number(a, "view") > number(b, "view")), "the newest first: {views:?}");
    // The node may have entered a view between the two readings.
    assert!(views.len() > 1 && number(&views[0], "view") + 3 >= number(node, "view"), "{views:?}");
    let mut commits = 0;
    for view in views {
        for ballot in list(view, "ballots") {
            let signers: Vec<u64> =
                list(ballot, "counted").iter().map(|vote| number(vote, "signer")).collect();
            let mut once = signers.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), signers.len(), "a vote counts once: {ballot}");
            assert!(signers.iter().all(|signer| *signer < VALIDATORS as u64), "{ballot}");
        }
        for certificate in list(view, "certificates") {
            let signers = number(certificate, "signers");
            assert!((2..=VALIDATORS as u64).contains(&signers), "{certificate}");
            commits +=
                usize::from(certificate["kind"].as_str().is_some_and(|kind| kind.starts_with("commit_")));
        }
    }
    assert!(commits > 0, "blocks became final in these views: {views:?}");
}

#[test]
fn it_shows_what_the_nodes_of_a_devnet_do() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let devnet = DevnetProcess::start(dir.path(), 200, &[]);
    let nodes = wait_for_finality(&devnet.metrics);
    assert_eq!(nodes.len(), VALIDATORS);
    for (index, node) in nodes.iter().enumerate() {
        check_load(node);
        check_peers(node, index);
        check_views(node);
    }
    let before = nodes.iter().map(|node| number(node, "durable_height")).min().unwrap_or(0);

    let page = said(&top(&devnet.metrics, &["--once"]));
    assert!(!page.contains('\x1b'), "a page that is printed clears no screen: {page}");
    for index in 0..VALIDATORS {
        let name = format!("validator-{index} ");
        let row =
            page.lines().find(|line| line.starts_with(&name)).unwrap_or_else(|| panic!("{name}: {page}"));
        let fields: Vec<&str> = row.split_whitespace().collect();
        let height: u64 = fields[2].parse().unwrap_or_else(|_| panic!("no height: {row}"));
        assert!(height > before, "{height} is not above {before}: {row}");
        assert!(fields[3].parse::<f64>().is_ok_and(|rate| rate > 0.0), "blocks a second: {row}");
    }
    assert!(page.contains("poll-data"), "{page}");
    for stage in STAGES {
        assert!(
            page.lines().any(|line| line.starts_with(&format!("  {stage} ")) && line.contains('[')),
            "{page}"
        );
    }
    for ring in ["rx_filter", "open_control", "spread_tx_relay"] {
        assert!(page.lines().any(|line| line.starts_with(&format!("{ring} "))), "{ring}: {page}");
    }
    assert!(page.contains("peers of validator-0") && page.contains("  validator 3"), "{page}");
    assert!(
        page.contains("views of validator-0") && page.contains("notarize") && page.contains("commit_"),
        "{page}"
    );

    let one = said(&top(&devnet.metrics, &["--node", "validator-2"]));
    assert!(one.contains("peers of validator-2") && !one.contains("validator-1 "), "{one}");
    let nobody = top(&devnet.metrics, &["--node", "validator-9"]);
    let error = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(
        !nobody.status.success() && error.contains("validator-9") && error.contains("validator-3"),
        "{error}"
    );
    let address = devnet.metrics.clone();
    devnet.kill();
    let gone = top(&address, &["--once"]);
    let error = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(!gone.status.success() && error.contains(&address) && error.contains("roko devnet"), "{error}");
}

#[test]
fn an_address_that_is_no_nodes_is_named() {
    let wrong = top("127.0.0.1", &["--once"]);
    let error = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        !wrong.status.success() && error.contains("--metrics 127.0.0.1") && error.contains(":9615"),
        "{error}"
    );
}
