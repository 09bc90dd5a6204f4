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

#[test]
fn each_validator_is_killed_in_turn_and_comes_back() {
    if let Err(refusal) = Namespace::create("probe-faults") {
        eprintln!("skipped: {refusal}");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = common::roko()
        .args(["devnet", "--processes", "--no-services", "--rate", "100", "--report", "json"])
        .args(["--kill-every", "8s", "--for", "42s", "--data-dir"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("it was built");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{}: {said}", out.status);
    let report: Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
    let number = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("no {key} in {report}"));
    assert!(number("restarts") >= 4, "each was killed: {report}");
    assert_eq!(number("forks"), 0, "{report}\n{said}");
    assert_eq!(report["same_state"], true, "{report}\n{said}");
    assert!(number("finalised_height") > 200, "the chain went on: {report}\n{said}");
    assert!(report["dropped"]["control.block_fetched"].as_u64() > Some(0), "someone caught up: {report}");
    assert_eq!(evidence(dir.path()), 0, "nobody voted against himself: {said}");
}
