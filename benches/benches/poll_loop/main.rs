//! The poll loop in Rust against the same loop in C (`c/poll_loop.c`) and against testpmd, DPDK's own forwarder: receive a burst
//! of up to 32, swap the MAC addresses or leave them, send it, free what was refused. On DPDK's null device, between two net_ring
//! ports back to back, and on a net_ring port that leads back to itself.
//!
//! All loops run as processes of their own that wait for orders, pinned to the same core, so that they take turns
//! within milliseconds. Floor: 0.95 of the other's rate. Beside testpmd's `csum`, which parses headers and computes checksums, what the
//! first stages cost is in the bench `rx_path`.

mod own;
mod process;

use own::{BURST, LOOP_OVER};
use process::runs;
use roko_benches::testpmd::Testpmd;
use roko_benches::two_threads::cores;
use roko_benches::{Comparison, Report};
use std::process::Command;

fn own(over: &str, engine: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a bench is a file"));
    command.env(LOOP_OVER, format!("{over} {engine}"));
    command
}

fn beside_c(over: &str, ports: u64, criterion: &mut criterion::Criterion, report: &mut Report) {
    let core = cores().last().copied().unwrap_or(0).to_string();
    let mut c = Command::new(env!("ROKO_POLL_LOOP_C"));
    c.args([over, &core]);
    let packets = BURST as u64 * ports;
    Comparison::new(format!("poll_loop/port=net_{over}"), packets)
        .case("roko_dpdk", runs(own(over, "macswap"), packets))
        .case("c", runs(c, packets))
        .floor_ratio(1.0 / 0.95)
        .run(criterion, report);
}

fn beside_testpmd(engine: &str, over: &str, criterion: &mut criterion::Criterion, report: &mut Report) {
    let device = if over == "loop" { "net_ring0" } else { "net_null0" };
    let name = format!("poll_loop/engine={engine},port={}", device.trim_end_matches('0'));
    let peer = match Testpmd::new(device, engine) {
        Ok(peer) => peer,
        Err(why) => return report.note(format!("{name}: left out: {why}")),
    };
    let packets = BURST as u64;
    Comparison::new(name, packets)
        .case("roko_dpdk", runs(own(over, engine), packets))
        .case("testpmd", peer.case(packets))
        .floor_ratio(1.0 / 0.95)
        .run(criterion, report);
}

fn main() {
    if let Ok(over) = std::env::var(LOOP_OVER) {
        let allowed = cores();
        if let Some(core) = allowed.last() {
            roko_os::affinity::pin_current_thread(*core, allowed).expect("the core is allowed");
        }
        return own::obey(&over);
    }
    let mut report =
        Report::new("poll_loop", "net_null and net_ring, virtual devices without hugepages: no NIC");
    let mut criterion = Report::criterion();
    beside_c("null", 1, &mut criterion, &mut report);
    beside_c("ring", 2, &mut criterion, &mut report);
    for engine in ["io", "macswap"] {
        for over in ["null", "loop"] {
            beside_testpmd(engine, over, &mut criterion, &mut report);
        }
    }
    report.finish(criterion);
}
