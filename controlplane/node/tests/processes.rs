//! `roko devnet --processes`, the whole program: four processes over each kind of port agree, and nothing of the network is
//! left behind, however it ends. Skipped where this process may not make network namespaces.
#![cfg(feature = "dpdk")]

mod common;

use roko_os::netns::{Namespace, remove_stale};
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Transfers a second: little enough for an unoptimised build on two shared cores.
const RATE: u64 = 100;

/// One network at a time: two of them on two cores starve each other.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether namespaces can be made here; says why not.
fn possible() -> bool {
    match Namespace::create("probe") {
        Ok(_) => true,
        Err(refusal) => {
            eprintln!("skipped: {refusal}");
            false
        }
    }
}

fn devnet(more: &[&str]) -> Command {
    let mut command = common::roko();
    command.args(["devnet", "--processes", "--no-services", "--rate", &RATE.to_string()]).args(more);
    command.stdin(Stdio::null());
    command
}

/// Namespaces of the process `pid`.
fn namespaces_of(pid: u32) -> usize {
    let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let prefix = format!("roko-{pid}-");
    names.filter(|name| name.file_name().to_string_lossy().starts_with(&prefix)).count()
}

/// Processes whose command line says that `pid` started them as its nodes.
fn nodes_of(pid: u32) -> usize {
    let asked = format!("--parent\0{pid}\0");
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(&asked)).count()
}

fn finalises_everything(port: &str) {
    finalises_everything_with(port, &[]);
}

fn finalises_everything_with(port: &str, more: &[&str]) {
    let _alone = alone();
    if !possible() {
        return;
    }
    let out = devnet(&["--port", port, "--for", "3s", "--report", "json"])
        .args(more)
        .output()
        .expect("it was built");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{}: {said}", out.status);
    let report: Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
    let number = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("no {key} in {report}"));
    assert_eq!((number("validators"), number("processes")), (4, 4));
    assert_eq!(report["port"], port);
    assert_eq!(number("forks"), 0, "{report}");
    assert!(number("tx_submitted") >= RATE, "{report}");
    assert_eq!(number("tx_finalised"), number("tx_submitted"), "{report}");
    assert_eq!(report["balances_conserved"], true, "{report}");
    assert_eq!(report["same_state"], true, "{report}");
    assert!(report["finality_ms"]["p50"].as_f64() > Some(0.0), "{report}");
}

#[test]
fn four_processes_that_find_each_other_by_arp_finalise_all_that_is_offered() {
    finalises_everything_with("af_packet", &["--resolve"]);
}

#[test]
fn four_processes_over_af_packet_finalise_all_that_is_offered() {
    finalises_everything("af_packet");
}

#[test]
fn four_processes_over_af_xdp_finalise_all_that_is_offered() {
    finalises_everything("af_xdp");
}

#[test]
fn four_processes_over_io_uring_finalise_all_that_is_offered() {
    finalises_everything("io_uring");
}

/// Two packet sockets a validator, between which the kernel spreads its peers' frames.
#[test]
fn four_processes_with_two_lanes_over_af_packet_finalise_all_that_is_offered() {
    let folder = tempfile::tempdir().expect("a folder");
    let profile = common::two_lanes(folder.path());
    finalises_everything_with("af_packet", &["--profile", profile.to_str().expect("its name is text")]);
}

/// The device of one validator's port is deleted. It says so, follows the chain over TLS, and the others go on.
#[test]
fn a_validator_whose_device_is_taken_away_follows() {
    let _alone = alone();
    if !possible() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().to_str().expect("its name is text");
    let child = devnet(&["--for", "8s", "--report", "json", "--data-dir", data_dir])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program was built");
    let log = || std::fs::read_to_string(folder.path().join("validator-2/node.log")).unwrap_or_default();
    wait_until("it starts", || log().contains("JSON-RPC on "));
    let prefix = format!("roko-{}-", child.id());
    let names = std::fs::read_dir("/run/netns").expect("it is there").flatten();
    let mut names = names.map(|name| name.file_name().to_string_lossy().into_owned());
    let name = names.find(|name| name.starts_with(&prefix) && name.ends_with("-v2")).expect("its namespace");
    let deleted = Command::new("ip").args(["-n", &name, "link", "delete", "data0"]).status();
    assert!(deleted.expect("ip runs").success());
    wait_until("the loss is seen", || log().contains("the port's link is DOWN"));
    let out = child.wait_with_output().expect("ours");
    let report: Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
    assert_eq!((report["forks"].as_u64(), report["same_state"].as_bool()), (Some(0), Some(true)), "{report}");
    assert!(report["finalised_height"].as_u64() > Some(10), "{report}");
}

/// A devnet that runs until the test ends it.
fn start() -> Child {
    let mut child =
        devnet(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program was built");
    let until = Instant::now() + common::PATIENCE;
    while nodes_of(child.id()) < 4 {
        assert!(Instant::now() < until && child.try_wait().expect("ours").is_none(), "it does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    child
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + common::PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn ctrl_c_takes_processes_and_namespaces_away_and_another_devnet_stays() {
    let _alone = alone();
    if !possible() {
        return;
    }
    let (mut one, mut other) = (start(), start());
    assert!(namespaces_of(one.id()) == 5 && namespaces_of(other.id()) == 5);
    let pid = rustix::process::Pid::from_child(&one);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert!(one.wait().expect("ours").success());
    assert_eq!((namespaces_of(one.id()), nodes_of(one.id())), (0, 0));
    assert_eq!((namespaces_of(other.id()), nodes_of(other.id())), (5, 4));

    // Killed, it can tidy nothing: its nodes end by themselves, and the next one removes its namespaces.
    other.kill().expect("it runs");
    other.wait().expect("ours");
    wait_until("the nodes of a killed devnet end", || nodes_of(other.id()) == 0);
    assert_eq!(namespaces_of(other.id()), 5);
    remove_stale();
    assert_eq!(namespaces_of(other.id()), 0);
}
