//! Validators killed with SIGKILL and started again while transactions run: the chain goes on, whoever was away catches
//! up, and nobody contradicts himself. Skipped where this process may not make network namespaces.
#![cfg(feature = "dpdk")]

mod common;

use roko_os::netns::Namespace;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;

/// Evidence of broken voting rules that nodes kept.
fn evidence(data_dir: &Path) -> usize {
    let files = |index: usize| std::fs::read_dir(data_dir.join(format!("validator-{index}/evidence")));
    (0..4).filter_map(|index| files(index).ok()).map(Iterator::count).sum()
}

/// Runs a devnet of processes with these faults for `length`; its report must name no fork and one state.
fn drill(faults: &[&str], length: &str) -> Option<Value> {
    if let Err(refusal) = Namespace::create("probe-faults") {
        eprintln!("skipped: {refusal}");
        return None;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = common::roko()
        .args(["devnet", "--processes", "--no-services", "--rate", "100", "--report", "json"])
        .args(faults)
        .args(["--for", length, "--data-dir"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("it was built");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{}: {said}", out.status);
    let report: Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
    assert_eq!(report["forks"], 0, "{report}\n{said}");
    assert_eq!(report["same_state"], true, "{report}\n{said}");
    assert_eq!(report["balances_conserved"], true, "{report}\n{said}");
    assert_eq!(evidence(dir.path()), 0, "nobody voted against himself: {said}");
    Some(report)
}

#[test]
fn each_validator_is_killed_in_turn_and_comes_back() {
    let Some(report) = drill(&["--kill-every", "8s"], "42s") else { return };
    assert!(report["faults"]["restarts"].as_u64() >= Some(4), "each was killed: {report}");
    assert!(report["finalised_height"].as_u64() > Some(200), "the chain went on: {report}");
    assert!(report["dropped"]["control.block_fetched"].as_u64() > Some(0), "someone caught up: {report}");
}

#[test]
fn a_network_cut_in_half_stands_still_and_goes_on_when_it_is_whole() {
    let Some(report) = drill(&["--cut-every", "6s", "--fault-seed", "5"], "25s") else { return };
    assert!(report["faults"]["cuts"].as_u64() >= Some(2), "{report}");
    assert!(report["finalised_height"].as_u64() > Some(200), "the chain went on: {report}");
    // What was sent to the half beyond the cut is lost, the rest is not.
    assert!(report["tx_finalised"].as_u64() > Some(500), "{report}");
}
