//! `roko bench` as a person types it: what it measures of a devnet of its own and of one that runs, and what it refuses.

mod common;

use common::{DevnetProcess, roko};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

fn bench(arguments: &[&str]) -> Output {
    roko().arg("bench").args(arguments).output().expect("the program was built for this test")
}

fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// Percentiles by stage and origin; they rise, and something was counted.
fn rows(report: &Value) -> BTreeMap<(String, String), u64> {
    let row = |row: &Value| {
        let number = |key: &str| row[key].as_u64().unwrap_or_else(|| panic!("no {key} in {row}"));
        let percentiles = ["p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"].map(number);
        assert!(percentiles.is_sorted() && number("count") > 0, "{row}");
        let text = |key: &str| row[key].as_str().expect("text").to_owned();
        ((text("stage"), text("since")), number("p50_ns"))
    };
    report["rows"].as_array().expect("a list").iter().map(row).collect()
}

const POINTS: [(&str, &str); 13] = [
    ("filter", "wire"),
    ("decode", "wire"),
    ("open", "wire"),
    ("verify", "wire"),
    ("order", "wire"),
    ("builder", "wire"),
    ("in_block", "wire"),
    ("voted", "wire"),
    ("finalised", "wire"),
    ("spread", "wire"),
    ("spread", "asked"),
    ("tx", "wire"),
    ("tx", "asked"),
];

fn assert_has(rows: &BTreeMap<(String, String), u64>, points: &[(&str, &str)]) {
    for (stage, since) in points {
        assert!(
            rows.contains_key(&((*stage).to_owned(), (*since).to_owned())),
            "{stage} since {since}: {rows:?}"
        );
    }
}

#[test]
fn latency_of_a_devnet_goes_from_due_to_final_and_is_drawn() {
    let folder = tempfile::tempdir().expect("a folder");
    let svg = folder.path().join("latency.svg");
    let path = svg.display().to_string();
    let output = bench(&[
        "latency",
        "--in-process",
        "--warm-up",
        "1s",
        "--for",
        "3s",
        "--rate",
        "60",
        "--json",
        "--svg",
        &path,
    ]);
    let report = report(&output);
    let rows = rows(&report);
    assert_has(&rows, &POINTS);
    assert_has(&rows, &[("sent", "due"), ("final", "due")]);
    let p50 = |stage: &str| rows.iter().find(|((name, _), _)| name == stage).expect("it is there").1;
    let way = ["filter", "open", "verify", "in_block", "voted", "finalised"];
    assert!(way.map(p50).is_sorted(), "later stages come later: {rows:?}");
    assert_eq!(report["due"], 180, "3 s of 60 a second, whatever the machine does");
    let (port, load) = (report["port"].as_str().expect("text"), report["load"].as_str().expect("text"));
    assert!(port.contains("virtual") && load.contains("when each was due"), "{report}");
    let svg = std::fs::read_to_string(&svg).expect("the drawing is written");
    assert_eq!(svg.matches("<polyline").count(), rows.len());
}

#[test]
fn latency_of_running_nodes_is_what_they_recorded_meanwhile() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut devnet = DevnetProcess::start(folder.path(), 60, &[]);
    devnet.line("first final block");
    let attach = devnet.metrics.clone();
    let report = report(&bench(&["latency", "--attach", &attach, "--for", "4s", "--json"]));
    assert_has(&rows(&report), &POINTS);
    assert_eq!(report["due"], 0, "somebody else sends");
    devnet.kill();
    let gone = bench(&["latency", "--attach", &attach, "--for", "1s"]);
    assert!(!gone.status.success() && String::from_utf8_lossy(&gone.stderr).contains(&attach));
}

/// Whether the kernel isolates a core here.
fn isolates() -> bool {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/isolated").unwrap_or_default();
    !list.trim().is_empty()
}

fn write_result(root: &Path) {
    let folder = root.join("hop/ours/new");
    std::fs::create_dir_all(&folder).expect("made");
    let estimate = r#"{"point_estimate":5.0,"confidence_interval":{"lower_bound":4.0,"upper_bound":6.0}}"#;
    std::fs::write(folder.join("estimates.json"), format!("{{\"median\":{estimate}}}")).expect("written");
    let benchmark =
        r#"{"group_id":"hop","function_id":"ours","value_str":null,"throughput":{"BytesDecimal":9}}"#;
    std::fs::write(folder.join("benchmark.json"), benchmark).expect("written");
}

#[test]
fn a_report_is_made_of_results_and_claims_no_isolation_that_is_not_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, out) = (folder.path().display().to_string(), folder.path().join("page.html"));
    let page = out.display().to_string();
    let nothing = bench(&["report", "--criterion", &root, "--out", &page]);
    assert!(!nothing.status.success() && String::from_utf8_lossy(&nothing.stderr).contains("cargo bench"));
    write_result(folder.path());
    let made = bench(&["report", "--criterion", &root, "--out", &page]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(std::fs::read_to_string(&out).expect("the page is written").contains("<h2>hop</h2>"));
    for command in [vec!["report", "--criterion", &root, "--out", &page], vec!["latency", "--in-process"]] {
        if !isolates() {
            let claim = bench(&[command, vec!["--title", "on isolated cores"]].concat());
            let said = String::from_utf8_lossy(&claim.stderr).into_owned();
            assert!(!claim.status.success() && said.contains("isolcpus"), "{said}");
        }
    }
}
