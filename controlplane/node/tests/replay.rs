//! `roko replay`: what a devnet's load client sent, played back twice, gives the same order and the same state; another
//! time or another frame gives another.
#![cfg(feature = "dpdk")]

mod common;

use roko_pipeline::pcap::{PcapReader, PcapWriter, Record};
use serde_json::Value;
use std::path::Path;

/// Transfers a second.
const RATE: u64 = 200;

fn replay(capture: &Path, validator: usize, dir: &Path) -> Value {
    let config = dir.join(format!("validator-{validator}/node.toml"));
    let out = common::roko().arg("replay").arg(capture).arg("--config").arg(config).arg("--json").output();
    let out = out.expect("the program was built for this test");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("the report is JSON")
}

/// Writes another capture beside the first, with its keys.
fn rewritten(capture: &Path, name: &str, change: impl Fn(&mut Vec<Record>)) -> std::path::PathBuf {
    let mut reader =
        PcapReader::new(std::fs::File::open(capture).expect("it was recorded")).expect("a capture");
    let mut records: Vec<Record> =
        std::iter::from_fn(|| reader.next_record().expect("a whole capture")).collect();
    change(&mut records);
    let path = capture.with_file_name(name);
    let mut writer = PcapWriter::new(std::fs::File::create(&path).expect("a file")).expect("written");
    records.iter().for_each(|record| writer.write(record.time_ns, &record.frame).expect("written"));
    let keys = |path: &Path| roko_node::replay::keys::keys_path(path);
    std::fs::copy(keys(capture), keys(&path)).expect("the keys");
    path
}

#[test]
fn the_same_capture_gives_the_same_order_and_state() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let capture = dir.path().join("load.pcap");
    let rate = RATE.to_string();
    let out = common::roko()
        .args([
            "devnet",
            "--port",
            "in-process",
            "--for",
            "3s",
            "--rate",
            &rate,
            "--report",
            "json",
            "--no-services",
        ])
        .arg("--data-dir")
        .arg(dir.path())
        .arg("--record")
        .arg(&capture)
        .output()
        .expect("the program was built for this test");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let report: Value = serde_json::from_slice(&out.stdout).expect("the report is JSON");
    let submitted = report["tx_submitted"].as_u64().expect("a count");

    let all: Vec<Value> = (0..4).map(|validator| replay(&capture, validator, dir.path())).collect();
    let replayed: u64 = all.iter().map(|one| one["transactions"].as_u64().expect("a count")).sum();
    assert_eq!(replayed, submitted, "each transfer went to one validator: {all:?}");
    assert!(all.iter().all(|one| one["counters"]["verify.passed"].as_u64() > Some(0)));
    assert_ne!(all[0]["order_hash"], all[1]["order_hash"]);

    assert_eq!(replay(&capture, 0, dir.path()), all[0], "to the last counter");
    // A forged frame changes nothing but the counters; a frame at another time changes the order's moments.
    let forged = rewritten(&capture, "forged.pcap", |records| {
        let mut copy = records[0].clone();
        *copy.frame.last_mut().expect("a frame") ^= 1;
        records.insert(1, copy);
    });
    let forged = replay(&forged, 0, dir.path());
    assert_eq!(
        (&forged["order_hash"], &forged["state_hash"]),
        (&all[0]["order_hash"], &all[0]["state_hash"])
    );
    assert_ne!(forged["counters"], all[0]["counters"]);
    let later = rewritten(&capture, "later.pcap", |records| records.iter_mut().for_each(|r| r.time_ns += 1));
    let later = replay(&later, 0, dir.path());
    assert_eq!(later["transactions"], all[0]["transactions"]);
    assert_ne!(later["order_hash"], all[0]["order_hash"]);
    assert_eq!(later["state_hash"], all[0]["state_hash"], "the same transfers in the same order");
}
