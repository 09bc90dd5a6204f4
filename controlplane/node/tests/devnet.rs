//! `roko devnet --report json`, the whole program over each kind of port: everything offered becomes final, once, on one
//! chain, and no unit of ROKO appears or is lost.

mod common;

use serde_json::Value;

/// Transfers a second: little enough for an unoptimised build on two shared cores.
const RATE: u64 = 200;

fn report_of(port: &str) -> Value {
    report_with(port, "devnet-2core")
}

fn report_with(port: &str, profile: &str) -> Value {
    let rate = RATE.to_string();
    let arguments = ["devnet", "--port", port, "--profile", profile, "--for", "3s", "--rate", &rate];
    let out = common::roko()
        .args(arguments)
        .args(["--report", "json", "--no-services"])
        .output()
        .expect("the program was built for this test");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{}: {said}", out.status);
    let stdout = String::from_utf8(out.stdout).expect("JSON is UTF-8");
    assert_eq!(stdout.trim_end().lines().count(), 1, "one line, for whoever reads it: {stdout}");
    serde_json::from_str(&stdout).expect("the report is JSON")
}

fn assert_good(report: &Value, port: &str) {
    let number = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("no {key} in {report}"));
    assert_eq!(report["port"], port);
    assert_eq!(number("validators"), 4);
    assert_eq!(number("forks"), 0, "{report}");
    assert!(number("tx_submitted") >= RATE, "{report}");
    assert_eq!(number("tx_finalised"), number("tx_submitted"), "{report}");
    assert!(number("finalised_height") > 10, "{report}");
    assert_eq!(report["balances_conserved"], true, "{report}");
    assert_eq!(report["same_state"], true, "{report}");
    assert_eq!(report["problems"], serde_json::json!({}), "{report}");
    // A transfer cannot be final before it waited out the watermark's lag, and both are measured.
    let finality = &report["finality_ms"];
    let median = finality["p50"].as_f64().unwrap_or(0.0);
    assert!(median > finality["watermark_wait"]["p50"].as_f64().unwrap_or(f64::MAX), "{report}");
}

/// A devnet whose validators have two lanes.
fn assert_good_in_lanes(port: &str, shown: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = common::two_lanes(folder.path());
    let report = report_with(port, path.to_str().expect("its name is text"));
    assert_good(&report, shown);
    let latencies = report["stage_latency"].as_array().expect("rows");
    for stage in ["filter", "decode", "open", "verify", "order"] {
        let rows = latencies.iter().filter(|row| row["stage"] == stage).count();
        assert_eq!(rows, 1, "the lanes of {stage} are one row: {report}");
    }
}

#[test]
fn a_devnet_of_two_lanes_over_in_process_ports_finalises_all_that_is_offered() {
    assert_good_in_lanes("in-process", "in-process");
}

#[cfg(feature = "dpdk")]
#[test]
fn a_devnet_of_two_lanes_over_net_ring_ports_finalises_all_that_is_offered() {
    assert_good_in_lanes("net-ring", "net_ring");
}

#[test]
fn a_devnet_over_in_process_ports_finalises_all_that_is_offered() {
    assert_good(&report_of("in-process"), "in-process");
}

#[cfg(feature = "dpdk")]
#[test]
fn a_devnet_over_net_ring_ports_finalises_all_that_is_offered() {
    assert_good(&report_of("net-ring"), "net_ring");
}
